//! The verifier as a reverse proxy, before a backend that nobody may change. Not written yet.

//! A reverse proxy that puts the verifier before any backend. Nothing is here yet.

//! The native half for Rust programs. Nothing is here yet.

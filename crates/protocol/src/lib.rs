//! The formats and rules of Bulla.
#![forbid(unsafe_code)]
pub mod base64;
pub mod jwk;

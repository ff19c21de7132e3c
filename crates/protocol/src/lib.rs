//! The formats and rules of Bulla: sealed sessions for the web.
//!
//! Pure code: no I/O, no clock, no randomness, no keys. Both halves run the same rules, so that a rule
//! is written once.
//!
//! A request's way in, and where its rules are:
//!
//! | step | module |
//! | --- | --- |
//! | open a session | [`opening`] |
//! | bytes to envelope to records | [`seal`] |
//! | records to an inner message | [`message`] |
//! | what it is meant for | [`target`] |
//! | which fields may travel | [`mod@field`] |
//! | what the proof must cover | [`proof`], on [`signature`] |
//! | what the body must be | [`digest`] |
//! | what a refusal says | [`error`] |
//! | how a client makes the request | [`request`] |
//! | how it reads the reply | [`reply`] |
//! | what it does about it | [`retry`] |
//! | what clients of OAuth send instead | [`dpop`], on [`jws`] and [`uri`] |
#![forbid(unsafe_code)]
// The browser's module is built without what writes such values (xtask/bindgen).
#![cfg_attr(not(test), deny(clippy::use_debug))]

pub mod base64;
pub mod digest;
pub mod dpop;
pub mod error;
pub mod field;
mod json;
pub mod jwk;
pub mod jws;
pub mod limits;
pub mod message;
mod opaque;
pub mod opening;
pub mod padding;
pub mod proof;
pub mod reply;
pub mod request;
pub mod retry;
pub mod seal;
pub mod signature;
pub mod structured;
pub mod target;
pub mod uri;
pub mod work;

//! The verifier from outside, over the plain `tower` service and over axum.
#![allow(clippy::unwrap_used)] // in tests a surprise may panic

#[cfg(feature = "axum")]
mod axum;
mod clock;
mod config;
mod cookies;
mod events;
mod failures;
mod flood;
mod guards;
mod hooked;
mod live;
mod lost;
mod pace;
mod policy;
mod rates;
mod receive;
mod registry;
mod renewal;
mod requests;
mod rotation;
mod rotation_attacks;
mod rules;
mod streams;
mod support;
mod tokens;

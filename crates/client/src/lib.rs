//! Sealed, signed Bulla sessions from native programs: what the browser's half does, with keys in
//! software.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use bulla_client::Client;
//!
//! let client = Client::builder("https://bank.example")
//!     .identity("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I".parse()?)
//!     .build()?;
//! let session = client.open().await?;
//! let request = http::Request::post("/api/transfer").body(r#"{"to":"bob","amount":1}"#)?;
//! let receipt = session.fetch(request).await?.into_body().bytes().await?;
//! session.end().await?;
//! # Ok(()) }
//! ```
//!
//! Each step can also be held in one's own hands, as attack tests must: [`Client::prepare_opening`],
//! [`Session::prepare`], [`Client::send_unverified`] and [`Prepared::open_reply`]. What weakens the
//! session is called `dangerous`, and is there with the feature of that name.
//!
//! # What it does not do
//!
//! The device key lives in this process's memory: whoever reads that has it. Redirects are not
//! followed, and cookies are not kept.
#![forbid(unsafe_code)]

mod body;
mod client;
mod clock;
#[cfg(any(test, feature = "dangerous"))]
mod dangerous;
mod error;
mod live;
mod opening;
mod reply;
mod request;
mod session;
mod transport;

#[cfg(test)]
mod tests;

pub use crate::body::Body;
pub use crate::client::{Builder, Client};
pub use crate::clock::{Clock, SystemClock};
#[cfg(any(test, feature = "dangerous"))]
pub use crate::dangerous::Loot;
pub use crate::error::{BoxError, Error};
pub use crate::opening::PreparedOpening;
pub use crate::request::{Mode, Prepared};
pub use crate::session::Session;
pub use bulla_keys::{Random, SigningKey, SystemRandom};
pub use bulla_protocol::error::Code;
pub use bulla_protocol::jwk::Thumbprint;
pub use bulla_protocol::opening::{SessionId, Ticket};
pub use bulla_protocol::proof::{ProofKind, ProofNonce};

//! Sealed sessions for the web: the server half.
//!
//! [`Bulla`] verifies every request before a handler runs: that it comes from the device which opened
//! the session, that nothing of it was changed, that it is fresh and used for the first time, and that
//! the session has not ended. Replies to sealed requests are sealed.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! # #[cfg(all(feature = "axum", feature = "embedded"))] {
//! use axum::{Router, routing::get};
//! use bulla_server::{Bulla, EmbeddedStore, Identity, Ring, Session};
//!
//! let bulla = Bulla::builder()
//!     .origin("https://bank.example")
//!     .identity(Identity::load_or_create("bulla/identity.pem")?)
//!     .ring(Ring::in_file("bulla/ring.json")?)
//!     .store(EmbeddedStore::open("bulla/store.redb")?)
//!     .build()?;
//! let app: Router = bulla.protect(Router::new().route("/api/me", get(me)));
//!
//! async fn me(session: Session) -> String {
//!     format!("hello {}", session.subject().unwrap_or("stranger"))
//! }
//! # }
//! # Ok(()) }
//! ```
//!
//! For whoever reads the code: a request's way, and where its rules are.
//!
//! | step | file |
//! | --- | --- |
//! | everything in its order, and what becomes of a refusal | `layer` |
//! | a session is opened, carried over, or goes to another device key | `open`, behind `flood` |
//! | the envelope, the ticket, the seal, the proof, the store | `verify`, by `ticket`, `nonce`, `headers` |
//! | how slowly it may come, and how often | `pace`, `rates` |
//! | what its path asks for | `policy`, [`Require`] |
//! | which cookies it has | `cookies` |
//! | which bearer tokens, before an application that takes its own | `bearer` |
//! | what the handler does with its session | [`Session`], `registry::own` |
//! | the reply: what it hands out, its seal, the end of its stream | `reply`, `live` |
//! | what is remembered, by all nodes | [`store`], [`registry`], `ring` |
//! | what is told, and what is done about it | `event`, `rules`, `codes` |
//! | requests by DPoP | [`dpop`] |
#![forbid(unsafe_code)]

mod alarm;
mod assurance;
#[cfg(feature = "axum")]
mod axum;
mod bearer;
mod body;
mod bound;
mod builder;
mod bulla;
mod clock;
mod codes;
mod confirmation;
mod cookies;
mod cors;
mod detached;
mod device;
pub mod dpop;
mod elsewhere;
mod error;
mod event;
mod file;
mod flood;
mod headers;
mod identity;
mod layer;
mod lifetimes;
mod live;
mod network;
mod nonce;
mod open;
mod pace;
mod policy;
mod rates;
mod refused;
pub mod registry;
mod reply;
mod require;
mod ring;
mod rules;
mod session;
pub mod store;
mod subject;
mod ticket;
mod vault;
mod verify;

pub use crate::assurance::Assurance;
pub use crate::bearer::is_bound_token;
pub use crate::body::{Body, BodyError, BoxError};
pub use crate::builder::Builder;
pub use crate::bulla::Bulla;
pub use crate::clock::{Clock, SystemClock};
pub use crate::confirmation::Confirmation;
pub use crate::cookies::Cookies;
pub use crate::detached::is_signed_by;
pub use crate::elsewhere::Elsewhere;
pub use crate::error::ConfigError;
pub use crate::event::{EventKind, Events, Missed, Pseudonym, Pseudonyms, SecurityEvent};
pub use crate::flood::Openings;
pub use crate::identity::Identity;
pub use crate::layer::{BullaLayer, BullaService};
pub use crate::lifetimes::Lifetimes;
pub use crate::network::Network;
pub use crate::pace::Pace;
pub use crate::policy::Paths;
pub use crate::rates::{Rate, Rates};
pub use crate::refused::Refused;
#[cfg(feature = "embedded")]
pub use crate::registry::EmbeddedRegistry;
pub use crate::registry::{
    Concurrency, DeviceName, ListedDevice, ListedSession, MemoryRegistry, Registry,
};
pub use crate::require::{Require, Required};
pub use crate::ring::Ring;
pub use crate::rules::{Action, Rule, Rules, Threshold};
pub use crate::session::Session;
#[cfg(feature = "embedded")]
pub use crate::store::EmbeddedStore;
pub use crate::store::{MemoryStore, Revocation, Store};
#[cfg(feature = "redis")]
pub use crate::store::{RedisBuilder, RedisRegistry, RedisStore, Survive, WrappingKey};
pub use crate::subject::Subject;
pub use crate::ticket::RevocationId;
pub use bulla_keys::{Random, SystemRandom};
pub use bulla_protocol::error::{Code, Error};
pub use bulla_protocol::jwk::Thumbprint;
pub use bulla_protocol::limits::Limits;
pub use bulla_protocol::opening::SessionId;
pub use bulla_protocol::proof::ProofKind;

//! The Bulla verifier as a reverse proxy: protection for a backend that nobody may change.
//!
//! A [`Gateway`] stands before an application, whatever it is written in. Pages get a small script as the first of theirs,
//! which sets a service worker before them; from then on every request of theirs is signed and sealed. The gateway
//! verifies and unseals it, and the application sees a plain one, with who it is from in fields that nobody else can set.
//!
//! For whoever reads the code: a request's way, and where its rules are.
//!
//! | step | file |
//! | --- | --- |
//! | connections, TLS, the end without loss | [`serve`] |
//! | the gateway's own files, the first visit, what does not exist for others | `edge` |
//! | the verifier | `bulla-server` |
//! | what is asked for at which paths | `access` |
//! | to the application and back: which one, what it is told, what is taken off | `upstream` |
//! | what other proxies ask | `decision` |
//! | what comes compressed all the same | `packed` |
//! | which bearer tokens leave and come, and whose they are | `tokens` |
//! | which cookies it learns to bind | `learnt` |
//! | what pages report of themselves | `runtime`, `page/watch.js`, `page/scripts.js` |
//! | which scripts they run | [`inventory`] |
//! | which fields they have | [`fields`], `page/fields.js` |
//! | what is put into pages | `html` |
//! | what is added to their policies (CSP) | `policy` |
//! | what the application's code is held to | [`delivery`], `gateway::learning`, `html::held`, `page/delivery.js` |
//! | what the operator says | [`config`] |
//! | what the operator sees and switches | [`operator`] |
#![forbid(unsafe_code)]

mod access;
pub mod config;
mod decision;
pub mod delivery;
mod edge;
pub mod fields;
mod gateway;
mod html;
pub mod inventory;
mod learnt;
mod listed;
mod media;
pub mod operator;
mod packed;
mod policy;
mod replaced;
mod rewritten;
mod runtime;
pub mod serve;
mod site;
mod tokens;
mod upstream;
mod within;

pub use crate::access::RuleError;
pub use crate::delivery::DeliveryError;
pub use crate::fields::FieldsError;
pub use crate::gateway::{Gateway, StartError};
pub use crate::inventory::InventoryError;
pub use crate::learnt::LearntError;
pub use crate::upstream::UpstreamError;

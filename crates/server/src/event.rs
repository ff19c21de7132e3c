//! Security events: what was refused, for `tracing` and for whoever listens.

use std::fmt;
use std::sync::Arc;

use bulla_protocol::error::Error;

/// Something that a security team wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecurityEvent {
    /// When, in seconds since 1970.
    pub time: u64,
    /// What was refused, and why.
    pub refusal: Error,
    /// The session's name, where a ticket has told it.
    pub session: Option<String>,
    /// The path that the request was for, as far as it could be read.
    pub path: Option<String>,
}

/// Is told of every event. Must be quick: it runs on the request's way.
#[derive(Clone)]
pub(crate) struct Listener(pub(crate) Arc<dyn Fn(&SecurityEvent) + Send + Sync>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl SecurityEvent {
    pub(crate) fn report(&self, listener: Option<&Listener>) {
        tracing::warn!(
            target: "bulla::refused",
            code = self.refusal.code.as_str(),
            detail = self.refusal.detail,
            session = self.session.as_deref(),
            path = self.path.as_deref(),
            "request refused"
        );
        if let Some(listener) = listener {
            (listener.0)(self);
        }
    }
}

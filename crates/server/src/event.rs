//! Security events: what was refused, for `tracing` and for whoever listens.

use std::sync::Arc;

use bulla_protocol::error::Error;
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::opening::SessionId;
use http::Uri;

use crate::bulla::Bulla;

/// Something that a security team wants to know.
///
/// There is one for every refusal: by the verifier, by [`Require`](crate::Require), by the `Session`
/// extractor, or by a handler that answers with [`Refused`](crate::Refused). What was dropped on the
/// way although the request passed (a cookie that is not this device's, an upload that broke) makes one
/// too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecurityEvent {
    /// When, in seconds since 1970.
    pub time: u64,
    /// What was refused, and why.
    pub refusal: Error,
    /// The session's name, where a ticket has told it.
    pub session: Option<SessionId>,
    /// The RFC 7638 thumbprint of the device key, where a ticket has told it.
    pub device: Option<Thumbprint>,
    /// The path that the request was for, as far as it could be read.
    pub path: Option<String>,
}

/// Is told of every event. Must be quick: it runs on the request's way.
#[derive(Clone)]
pub(crate) struct Listener(pub(crate) Arc<dyn Fn(&SecurityEvent) + Send + Sync>);

/// What is known of a request so far, should there be something to report.
#[derive(Clone)]
pub(crate) struct About {
    pub(crate) uri: Uri,
    pub(crate) session: Option<SessionId>,
    pub(crate) device: Option<Thumbprint>,
}

impl About {
    /// Nothing but where it was sent to.
    pub(crate) fn new(uri: Uri) -> Self {
        Self {
            uri,
            session: None,
            device: None,
        }
    }
}

impl Bulla {
    /// Tells the log and the listener.
    pub(crate) fn report(&self, refusal: Error, about: &About) {
        let is_logged = tracing::enabled!(target: "bulla::refused", tracing::Level::WARN);
        if !is_logged && self.0.listener.is_none() {
            return;
        }
        let event = SecurityEvent {
            time: u64::from(self.now()),
            refusal,
            session: about.session,
            device: about.device,
            path: Some(about.uri.path().to_owned()),
        };
        tracing::warn!(
            target: "bulla::refused",
            code = refusal.code.as_str(),
            detail = refusal.detail,
            session = event.session.map(tracing::field::display),
            device = event.device.map(tracing::field::display),
            path = event.path.as_deref(),
            "request refused"
        );
        if let Some(Listener(listener)) = &self.0.listener {
            listener(&event);
        }
    }
}

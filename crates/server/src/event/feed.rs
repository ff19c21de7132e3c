//! Events for tasks of their own.

use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::SecurityEvent;

/// As many events wait for a task that is slow.
pub(crate) const BACKLOG: usize = 1024;

/// Security events as they happen: got from [`Bulla::events`](crate::Bulla::events). No request waits for
/// whoever reads them; so whoever is too slow misses some, and is told how many.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<Arc<SecurityEvent>>);

/// As many events were lost, since they were read too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} security events were missed")]
pub struct Missed(pub u64);

impl Events {
    pub(crate) fn new(receiver: broadcast::Receiver<Arc<SecurityEvent>>) -> Self {
        Self(receiver)
    }

    /// The next one; `None` once the verifier is gone. May be given up and asked again: nothing is lost.
    ///
    /// # Errors
    ///
    /// [`Missed`]; those after them come next.
    pub async fn next(&mut self) -> Option<Result<Arc<SecurityEvent>, Missed>> {
        match self.0.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(RecvError::Lagged(missed)) => Some(Err(Missed(missed))),
            Err(RecvError::Closed) => None,
        }
    }
}

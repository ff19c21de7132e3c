//! What the server refused, as it happens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use bulla_server::SecurityEvent;
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
use tokio::sync::broadcast;

/// How many events are kept for pages that come later.
const KEPT: usize = 50;

/// The events of one server. Clones are the same feed.
#[derive(Clone)]
pub(crate) struct Feed {
    recent: Arc<Mutex<VecDeque<Refusal>>>,
    live: broadcast::Sender<Refusal>,
}

/// A security event as the page gets it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Refusal {
    /// Counts up from 1.
    number: u64,
    /// In seconds since 1970, by the server's clock.
    time: u64,
    pub(crate) code: &'static str,
    pub(crate) detail: &'static str,
    session: Option<String>,
    path: Option<String>,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self {
            recent: Arc::default(),
            live: broadcast::Sender::new(KEPT),
        }
    }

    /// Takes an event of the verifier.
    pub(crate) fn push(&self, event: &SecurityEvent) {
        let mut recent = self.recent();
        let refusal = Refusal {
            number: recent.back().map_or(1, |last| last.number + 1),
            time: event.time,
            code: event.refusal.code.as_str(),
            detail: event.refusal.detail,
            session: event.session.map(|session| session.to_string()),
            path: event.path.clone(),
        };
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(refusal.clone());
        // Nobody may be listening.
        let _ = self.live.send(refusal);
    }

    /// The number of the newest event.
    pub(crate) fn newest(&self) -> u64 {
        self.recent().back().map_or(0, |last| last.number)
    }

    /// The first refusal in a session after the event with this number.
    pub(crate) fn refusal_after(&self, number: u64, session: &str) -> Option<Refusal> {
        let recent = self.recent();
        let mut after = recent.iter().filter(|event| event.number > number);
        after
            .find(|event| event.session.as_deref() == Some(session))
            .cloned()
    }

    /// Server-sent events: those that are kept, then every new one.
    pub(crate) fn stream(&self) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let recent = self.recent();
        // Under the lock, so that none is lost or told twice.
        let live = self.live.subscribe();
        let past: Vec<_> = recent.iter().cloned().collect();
        drop(recent);
        let live = stream::unfold(live, |mut live| async move {
            loop {
                match live.recv().await {
                    Ok(refusal) => return Some((refusal, live)),
                    // A page that is too slow goes on with what is left.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        let events = stream::iter(past).chain(live).map(|refusal| {
            let data = serde_json::to_string(&refusal).unwrap_or_default();
            Ok(Event::default().id(refusal.number.to_string()).data(data))
        });
        Sse::new(events).keep_alive(KeepAlive::default())
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Refusal>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

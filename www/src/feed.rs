//! The server's security events, as they happen.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use bulla_server::{Rule, SecurityEvent};
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
use tokio::sync::broadcast;

use crate::rules;

/// How many events are kept for pages that come later.
const KEPT: usize = 50;

/// The events of one server. Clones are the same feed.
#[derive(Clone)]
pub(crate) struct Feed {
    recent: Arc<Mutex<VecDeque<Shown>>>,
    live: broadcast::Sender<Shown>,
}

/// A security event as the page gets it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Shown {
    /// Counts up from 1.
    number: u64,
    /// In seconds since 1970, by the server's clock.
    time: u64,
    kind: &'static str,
    pub(crate) code: Option<&'static str>,
    pub(crate) detail: Option<&'static str>,
    /// Which rule has fired, and what it did.
    rule: Option<&'static str>,
    done: Option<&'static str>,
    /// A pseudonym.
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
        let error = event.kind.error();
        let shown = Shown {
            number: recent.back().map_or(1, |last| last.number + 1),
            time: event.time,
            kind: event.kind.name(),
            code: error.map(|error| error.code.as_str()),
            detail: error.map(|error| error.detail),
            rule: event.kind.rule().map(Rule::name),
            done: rules::done(event),
            session: event.session.map(|session| session.to_string()),
            path: event.path.clone(),
        };
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(shown.clone());
        // Nobody may be listening.
        let _ = self.live.send(shown);
    }

    /// The number of the newest event.
    pub(crate) fn newest(&self) -> u64 {
        self.recent().back().map_or(0, |last| last.number)
    }

    /// The first refusal in a session, by its pseudonym, after the event with this number.
    pub(crate) fn refusal_after(&self, number: u64, session: &str) -> Option<Shown> {
        let recent = self.recent();
        let mut after = recent.iter().filter(|event| event.number > number);
        after
            .find(|event| event.code.is_some() && event.session.as_deref() == Some(session))
            .cloned()
    }

    /// Whether this rule has fired in a session, by its pseudonym, after the event with this number.
    pub(crate) fn has_fired_after(&self, number: u64, session: &str, rule: Rule) -> bool {
        let recent = self.recent();
        let mut after = recent.iter().filter(|event| event.number > number);
        after.any(|event| {
            event.rule == Some(rule.name()) && event.session.as_deref() == Some(session)
        })
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
                    Ok(shown) => return Some((shown, live)),
                    // A page that is too slow goes on with what is left.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        let events = stream::iter(past).chain(live).map(|shown| {
            let data = serde_json::to_string(&shown).unwrap_or_default();
            Ok(Event::default().id(shown.number.to_string()).data(data))
        });
        Sse::new(events).keep_alive(KeepAlive::default())
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Shown>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

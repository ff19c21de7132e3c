//! Who has been here lately.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bulla_server::{ProofKind, Pseudonym, Pseudonyms, Session, SessionId, Thumbprint};
use serde::Serialize;

/// As many sessions are remembered: when there are more, the one that was seen longest ago is forgotten.
const MOST: usize = 500;

/// Sessions of verified requests. What they are called elsewhere than in this process are pseudonyms; the names by which
/// they are ended stay here.
#[derive(Default)]
pub(crate) struct Visitors(Mutex<HashMap<SessionId, Entry>>);

struct Entry {
    session: Pseudonym,
    device: Thumbprint,
    device_name: Pseudonym,
    subject: Option<Pseudonym>,
    first: u64,
    last: u64,
    requests: u64,
    /// What the last one was.
    by_device: bool,
    is_sealed: bool,
}

/// A session, as the operator sees it. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Visitor {
    session: String,
    device: String,
    subject: Option<String>,
    first: u64,
    last: u64,
    requests: u64,
    proof: &'static str,
    sealed: bool,
}

impl Visitors {
    /// A request of this session was verified.
    pub(crate) fn note(&self, session: &Session, names: &Pseudonyms, now: u64) {
        let mut all = self.lock();
        if !all.contains_key(&session.id()) && all.len() >= MOST {
            let oldest = all.iter().min_by_key(|(_, entry)| entry.last);
            let oldest = oldest.map(|(id, _)| *id);
            oldest.and_then(|id| all.remove(&id));
        }
        let entry = all.entry(session.id()).or_insert_with(|| Entry {
            session: names.session(session.id()),
            device: session.device(),
            device_name: names.device(session.device()),
            subject: session.subject().map(|subject| names.subject(subject)),
            first: now,
            last: now,
            requests: 0,
            by_device: false,
            is_sealed: false,
        });
        entry.last = now;
        entry.requests = entry.requests.saturating_add(1);
        entry.by_device = session.proof() == ProofKind::Device;
        entry.is_sealed = session.is_sealed();
    }

    /// All of them, the last seen first.
    pub(super) fn list(&self) -> Vec<Visitor> {
        let all = self.lock();
        let mut listed: Vec<_> = all.values().map(Entry::listed).collect();
        drop(all);
        listed.sort_by(|one, other| (other.last, &one.session).cmp(&(one.last, &other.session)));
        listed
    }

    /// The session that is called so.
    pub(super) fn session(&self, name: &str) -> Option<SessionId> {
        let all = self.lock();
        let mut all = all.iter();
        let found = all.find(|(_, entry)| entry.session.to_string() == name);
        found.map(|(id, _)| *id)
    }

    /// The device that is called so.
    pub(super) fn device(&self, name: &str) -> Option<Thumbprint> {
        let all = self.lock();
        let mut all = all.values();
        let found = all.find(|entry| entry.device_name.to_string() == name);
        found.map(|entry| entry.device)
    }

    /// A session, a device or everybody has ended: they are gone from the list.
    pub(super) fn ended(&self, session: Option<Pseudonym>, device: Option<Pseudonym>) {
        self.lock()
            .retain(|_, entry| session != Some(entry.session) && device != Some(entry.device_name));
    }

    /// All sessions have ended, or all of a user.
    pub(super) fn all_ended(&self, of: Option<Pseudonym>) {
        self.lock()
            .retain(|_, entry| of.is_some() && entry.subject != of);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Entry>> {
        // Nothing is left half done by whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn listed(&self) -> Visitor {
        Visitor {
            session: self.session.to_string(),
            device: self.device_name.to_string(),
            subject: self.subject.map(|subject| subject.to_string()),
            first: self.first,
            last: self.last,
            requests: self.requests,
            proof: if self.by_device { "device" } else { "session" },
            sealed: self.is_sealed,
        }
    }
}

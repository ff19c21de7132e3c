//! The verifier's part of it.

use bulla_protocol::error::{Code, Error};
use bulla_protocol::jwk::Thumbprint;

use super::card::{Card, Full};
use super::{
    Concurrency, Entry, ListedDevice, ListedSession, MAX_DEVICE_NAME_LEN, Record, Registry, Swap,
};
use crate::bulla::Bulla;
use crate::event::{About, EventKind};
use crate::store::{Party, Revocation};
use crate::subject::Subject;
use crate::ticket::{RevocationId, SessionState};

/// How long a record is kept after it was last changed, in seconds: 400 days.
const KEEP: u64 = 400 * 24 * 3600;

/// How often a change is tried while others change the same record.
const TRIES: usize = 16;

const UNKNOWN: Error = Code::StoreUnavailable.because("the list of sessions could not be had");
const NONE: Error = Code::Internal.because("the builder was given no registry");
const LIMIT: Error = Code::SessionLimit.because("this user has as many sessions as there may be");

impl Bulla {
    /// The live sessions of a user, those that were seen last at the end.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`]; [`Code::Internal`] without a [registry](crate::Builder::registry).
    pub async fn sessions_of(&self, subject: Subject) -> Result<Vec<ListedSession>, Error> {
        let (_, card) = self.load(subject).await?;
        let alive = self.alive(subject, &card).await?;
        let listed = alive.into_iter().map(|entry| ListedSession {
            id: RevocationId(entry.session),
            device: entry.device,
            login: entry.login.into(),
            seen: entry.seen.into(),
            is_current: false,
        });
        Ok(listed.collect())
    }

    /// The devices that a user has logged in with.
    ///
    /// # Errors
    ///
    /// As [`Self::sessions_of`].
    pub async fn devices_of(&self, subject: Subject) -> Result<Vec<ListedDevice>, Error> {
        let (_, card) = self.load(subject).await?;
        let listed = card.devices.into_iter().map(|device| ListedDevice {
            device: device.key,
            name: device.name,
            first_seen: device.first.into(),
            last_seen: device.seen.into(),
        });
        Ok(listed.collect())
    }

    /// Before a login: whether there may be one more session, beside this one, which ends by it.
    ///
    /// # Errors
    ///
    /// [`Code::SessionLimit`], [`Code::StoreUnavailable`].
    pub(crate) async fn has_room(&self, subject: Subject, own: RevocationId) -> Result<(), Error> {
        let Concurrency::AtMost(most) = self.0.concurrency else {
            return Ok(());
        };
        let (_, card) = self.load(subject).await?;
        let alive = self.alive(subject, &card).await?;
        let others = alive.iter().filter(|entry| entry.session != own.0);
        if others.count() < usize::from(most.get()) {
            return Ok(());
        }
        Err(LIMIT)
    }

    /// Enters a session that a login has opened. If there may be no more, others end for it, or it does not begin.
    ///
    /// # Errors
    ///
    /// [`Code::SessionLimit`], [`Code::StoreUnavailable`].
    pub(crate) async fn enter(&self, state: &SessionState, entry: Entry) -> Result<(), Error> {
        let Some(subject) = state.subject.filter(|_| self.0.registry.is_some()) else {
            return Ok(());
        };
        if self.0.concurrency == Concurrency::Unlimited {
            // A list is no reason to keep anybody out.
            self.see(state, entry).await;
            return Ok(());
        }
        for _ in 0..TRIES {
            let (known, mut card) = self.load(subject).await?;
            card.sessions = self.alive(subject, &card).await?;
            let ended = match card.enter(entry, self.0.concurrency) {
                Ok(ended) => ended,
                Err(Full) => return Err(LIMIT),
            };
            // First: if that fails, there is not one too many.
            for entry in ended {
                self.end_listed(subject, RevocationId(entry.session), Party::Application)
                    .await?;
            }
            if self.swap(subject, known, &card).await? {
                return Ok(());
            }
        }
        Err(UNKNOWN)
    }

    /// A session goes on under a new ticket. What cannot be written down now is with the next one.
    pub(crate) async fn see(&self, state: &SessionState, entry: Entry) {
        let Some(subject) = state.subject.filter(|_| self.0.registry.is_some()) else {
            return;
        };
        let seen = self.edit(subject, |card| {
            card.forget(entry.seen, &[]);
            card.see(entry, state.replaces);
        });
        if seen.await.is_err() {
            tracing::warn!(target: "bulla::registry", "a session could not be listed");
        }
    }

    /// A session has ended. It is not shown any more, whether or not that can be written down.
    pub(crate) async fn unlist(&self, subject: Subject, session: RevocationId) {
        if self.0.registry.is_some() {
            let now = self.now();
            let _ = self
                .edit(subject, |card| card.forget(now, &[session]))
                .await;
        }
    }

    /// # Errors
    ///
    /// [`Code::Malformed`] for a name that is none, [`Code::StoreUnavailable`].
    pub(crate) async fn name_device(
        &self,
        subject: Subject,
        device: &Thumbprint,
        name: Option<&str>,
    ) -> Result<bool, Error> {
        let name = name.map(str::trim).filter(|name| !name.is_empty());
        let is_name =
            |name: &str| name.len() <= MAX_DEVICE_NAME_LEN && !name.contains(char::is_control);
        if !name.is_none_or(is_name) {
            return Err(Code::Malformed
                .because("a device's name has 64 bytes at most, and no control characters"));
        }
        self.edit(subject, |card| match card.device(device) {
            Some(known) => {
                known.name = name.map(str::to_owned);
                true
            }
            None => false,
        })
        .await
    }

    /// # Errors
    ///
    /// [`Code::StoreUnavailable`].
    pub(crate) async fn forget_device(
        &self,
        subject: Subject,
        device: &Thumbprint,
    ) -> Result<bool, Error> {
        self.edit(subject, |card| {
            let before = card.devices.len();
            card.devices.retain(|known| known.key != *device);
            card.devices.len() < before
        })
        .await
    }

    /// Ends sessions of one user, which this user has asked for: those that `is_meant` by.
    ///
    /// # Errors
    ///
    /// As [`Bulla::revoke`], and [`Code::RateLimited`].
    pub(crate) async fn end_some(
        &self,
        subject: Subject,
        is_meant: impl Fn(&ListedSession) -> bool,
    ) -> Result<usize, Error> {
        let listed = self.sessions_of(subject).await?;
        let meant: Vec<_> = listed.iter().filter(|session| is_meant(session)).collect();
        for session in &meant {
            self.end_listed(subject, session.id, Party::User(subject))
                .await?;
        }
        Ok(meant.len())
    }

    async fn end_listed(
        &self,
        subject: Subject,
        session: RevocationId,
        by: Party,
    ) -> Result<(), Error> {
        self.end(Revocation::Session(session), by).await?;
        let about = About {
            session: Some(session),
            subject: Some(subject),
            ..About::default()
        };
        self.report(EventKind::SessionEnded, &about);
        Ok(())
    }

    /// Those that have not ended.
    async fn alive(&self, subject: Subject, card: &Card) -> Result<Vec<Entry>, Error> {
        let now = self.now();
        let mut alive = Vec::with_capacity(card.sessions.len());
        for entry in card.sessions.iter().filter(|entry| now < entry.until) {
            let revoked = self.0.store.is_revoked(entry.of(subject)).await;
            if !revoked.map_err(|_| UNKNOWN)? {
                alive.push(*entry);
            }
        }
        Ok(alive)
    }

    async fn edit<T>(
        &self,
        subject: Subject,
        mut change: impl FnMut(&mut Card) -> T,
    ) -> Result<T, Error> {
        for _ in 0..TRIES {
            let (known, before) = self.load(subject).await?;
            let mut card = before.clone();
            let changed = change(&mut card);
            if card == before || self.swap(subject, known, &card).await? {
                return Ok(changed);
            }
        }
        Err(UNKNOWN)
    }

    async fn load(&self, subject: Subject) -> Result<(Option<u64>, Card), Error> {
        let registry = self.registry()?;
        let Some(record) = registry.load(subject).await.map_err(|_| UNKNOWN)? else {
            return Ok((None, Card::default()));
        };
        // One that nobody can read is as good as none, and goes with the next change.
        let card = serde_json::from_slice(&record.content).unwrap_or_default();
        Ok((Some(record.version), card))
    }

    async fn swap(&self, subject: Subject, known: Option<u64>, card: &Card) -> Result<bool, Error> {
        let now = u64::from(self.now());
        let swap = Swap {
            subject,
            known,
            next: Record {
                version: u64::from_be_bytes(self.random()?),
                content: serde_json::to_vec(card).map_err(|_| UNKNOWN)?,
            },
            until: now.saturating_add(KEEP),
            now,
        };
        self.registry()?.swap(swap).await.map_err(|_| UNKNOWN)
    }

    fn registry(&self) -> Result<&dyn Registry, Error> {
        self.0.registry.as_deref().ok_or(NONE)
    }
}

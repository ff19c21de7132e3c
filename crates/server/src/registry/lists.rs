//! Users' sessions and devices, as the verifier knows them.

use std::cmp::Reverse;

use bulla_protocol::error::{Code, Error};
use bulla_protocol::jwk::Thumbprint;
use serde::Serialize;

use super::name::DeviceName;
use super::record::{Device, Entry, Record};
use super::{Concurrency, Registry, Swap, Swapped};
use crate::bulla::Bulla;
use crate::event::{About, EventKind};
use crate::lifetimes::seconds;
use crate::store::{Party, Revocation, StoreError, of_device};
use crate::subject::Subject;
use crate::ticket::{RevocationId, SessionState};

/// How often a change is tried when others are faster.
const ATTEMPTS: usize = 64;

const UNAVAILABLE: Error = Code::StoreUnavailable.because("the list of sessions cannot be had");
const FULL: Error = Code::SessionLimit.because("the user is logged in as often as he may be");
const NO_REGISTRY: Error = Code::Internal.because("the builder was given no registry");

/// A session that a user is logged in to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ListedSession {
    /// Names it: [`Revocation::Session`] of it ends it, and so does [`Session::end_session`](crate::Session::end_session).
    /// It stays the same when the session gets fresh keys, and with them another [id](crate::Session::id).
    pub id: RevocationId,
    /// The device's thumbprint (RFC 7638).
    pub device: Thumbprint,
    /// What the user calls the device.
    pub device_name: Option<DeviceName>,
    /// When the user logged in, in seconds since 1970.
    pub login_time: u64,
    /// When it last renewed its ticket, in seconds since 1970: half of a ticket's life is left out at most.
    pub last_seen: u64,
    /// Whether it is the one that asks.
    pub is_this: bool,
}

/// A device on which a user has logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ListedDevice {
    /// Its thumbprint (RFC 7638).
    pub device: Thumbprint,
    /// What the user calls it.
    pub name: Option<DeviceName>,
    /// When the user first logged in on it, as far as is known, in seconds since 1970.
    pub first_seen: u64,
    /// When a session of the user's on it last renewed its ticket, in seconds since 1970.
    pub last_seen: u64,
    /// Since when it has its present key, in seconds since 1970: later than `first_seen` if that has been
    /// [rotated](crate::Session::rotate_device_key).
    pub key_since: u64,
    /// Whether it is the one that asks.
    pub is_this: bool,
}

/// Who asks for a list, to be marked in it.
#[derive(Clone, Copy)]
pub(super) struct Asking {
    pub(super) session: RevocationId,
    pub(super) device: Thumbprint,
}

impl Bulla {
    /// The sessions that a user is logged in to, the latest login first. Each is ended by [`Self::revoke`], by its id.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`]; [`Code::Internal`] without a [registry](crate::Builder::registry).
    pub async fn sessions_of(&self, subject: Subject) -> Result<Vec<ListedSession>, Error> {
        self.list_sessions(subject, None).await
    }

    /// The devices on which a user has logged in within a year, a hundred at most, the one last seen first. One is locked
    /// out by [`Self::revoke`], for all users that there are on it.
    ///
    /// # Errors
    ///
    /// As [`Self::sessions_of`].
    pub async fn devices_of(&self, subject: Subject) -> Result<Vec<ListedDevice>, Error> {
        self.list_devices(subject, None).await
    }

    /// Ends all sessions of a user up to now and forgets his devices with their names: for an account that is deleted.
    ///
    /// # Errors
    ///
    /// As [`Self::sessions_of`].
    pub async fn end_and_forget(&self, subject: Subject) -> Result<(), Error> {
        self.end_all_of(subject).await?;
        self.change(subject, |record, _| *record = Record::default())
            .await
    }

    pub(super) async fn list_sessions(
        &self,
        subject: Subject,
        asking: Option<Asking>,
    ) -> Result<Vec<ListedSession>, Error> {
        let record = self.record_of(subject).await?;
        let now = self.now();
        let mut listed = Vec::new();
        for session in record.sessions.iter().filter(|entry| entry.is_active(now)) {
            if self.has_ended(subject, session).await? {
                continue;
            }
            let mut devices = record.devices.iter();
            let device = devices.find(|device| device.key == session.device);
            listed.push(ListedSession {
                id: session.id,
                device: session.device,
                device_name: device.and_then(|device| device.name.clone()),
                login_time: session.login.into(),
                last_seen: session.seen.into(),
                is_this: asking.is_some_and(|asking| asking.session == session.current),
            });
        }
        listed.sort_by_key(|session| Reverse(session.login_time));
        Ok(listed)
    }

    pub(super) async fn list_devices(
        &self,
        subject: Subject,
        asking: Option<Asking>,
    ) -> Result<Vec<ListedDevice>, Error> {
        let record = self.record_of(subject).await?;
        let list = |device: Device| ListedDevice {
            is_this: asking.is_some_and(|asking| asking.device == device.key),
            device: device.key,
            name: device.name,
            first_seen: device.first.into(),
            last_seen: device.seen.into(),
            key_since: device.since.into(),
        };
        let mut listed: Vec<_> = record.devices.into_iter().map(list).collect();
        listed.sort_by_key(|device| Reverse(device.last_seen));
        Ok(listed)
    }

    /// Gives a device's place on its user's list to the key that it has signed in.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`].
    pub(crate) async fn move_listed(
        &self,
        subject: Subject,
        old: Thumbprint,
        new: Thumbprint,
    ) -> Result<(), Error> {
        if self.0.registry.is_none() {
            return Ok(());
        }
        self.change(subject, |record, now| record.rotate(old, new, now))
            .await
    }

    /// Gives a session of a user that has just logged in a place among his others. It is held for as long as
    /// a carry-over ticket lives; with the first proof it becomes the session's own, or there is one more place for others.
    ///
    /// # Errors
    ///
    /// [`Code::SessionLimit`] if there is none; [`Code::StoreUnavailable`].
    pub(crate) async fn reserve(
        &self,
        state: &SessionState,
        device: Thumbprint,
    ) -> Result<(), Error> {
        let held = self
            .now()
            .saturating_add(seconds(self.0.lifetimes.carry_over));
        let Some((subject, entry)) = self.entry(state, device, held) else {
            return Ok(());
        };
        let reserve = |record: &mut Record, room, now| record.reserve(entry, room, now);
        self.enter(subject, entry.current, reserve).await
    }

    /// Sees to it that a session that shows its first proof has a place.
    ///
    /// # Errors
    ///
    /// As [`Self::reserve`].
    pub(crate) async fn settle(
        &self,
        state: &SessionState,
        device: Thumbprint,
    ) -> Result<(), Error> {
        let Some((subject, entry)) = self.entry(state, device, state.expires) else {
            return Ok(());
        };
        // It has the place of the one whose fresh keys it has, if that one has any.
        let goes_on = match state.replaces {
            Some(replaced) => {
                let goes_on = |record: &mut Record, _| record.goes_on(entry, replaced);
                self.change(subject, goes_on).await?
            }
            None => false,
        };
        if !goes_on {
            let enter = |record: &mut Record, room, now| record.enter(entry, room, now);
            self.enter(subject, entry.current, enter).await?;
        }
        self.unlist_if_ended(subject, entry).await
    }

    /// Notes that a session lives until its next ticket ends.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`].
    pub(crate) async fn note(
        &self,
        state: &SessionState,
        device: Thumbprint,
        expires: u32,
    ) -> Result<(), Error> {
        let Some((subject, entry)) = self.entry(state, device, expires) else {
            return Ok(());
        };
        let go_on = |record: &mut Record, _| record.go_on(entry, state.replaces);
        self.change(subject, go_on).await?;
        self.unlist_if_ended(subject, entry).await
    }

    /// A session may have ended while it was noted, and its device key have been locked out, for one that it has signed in.
    /// Nobody else would take off the list what was put there after that.
    async fn unlist_if_ended(&self, subject: Subject, entry: Entry) -> Result<(), Error> {
        // In another memory all have ended, and of devices nothing is told by it.
        let is_of_this = entry.memory == self.0.store.memory().revocations;
        if !is_of_this || !self.has_ended(subject, &entry).await? {
            return Ok(());
        }
        let device = of_device(entry.device, entry.memory);
        let is_locked_out = self.0.store.is_revoked(device).await;
        let is_locked_out = is_locked_out.map_err(|StoreError| UNAVAILABLE)?;
        let unlist = |record: &mut Record, _| {
            if is_locked_out {
                record.forget_device(entry.device);
            } else {
                record.unlist(&entry);
            }
        };
        self.change(subject, unlist).await
    }

    async fn enter(
        &self,
        subject: Subject,
        session: RevocationId,
        enter: impl Fn(&mut Record, usize, u32) -> bool + Send + Sync,
    ) -> Result<(), Error> {
        let room = self.0.concurrency.room();
        for _ in 0..ATTEMPTS {
            let enter = |record: &mut Record, now| enter(record, room, now);
            if self.change(subject, enter).await? {
                return Ok(());
            }
            self.make_room(subject, session).await?;
        }
        Err(UNAVAILABLE)
    }

    /// What is kept of a session, if anything is.
    fn entry(
        &self,
        state: &SessionState,
        device: Thumbprint,
        expires: u32,
    ) -> Option<(Subject, Entry)> {
        let (id, ends) = (state.id.into(), self.ends(state));
        let entry = Entry {
            id,
            current: id,
            device,
            memory: state.memory,
            login: state.login,
            seen: self.now(),
            expires: expires.min(ends),
            ends,
        };
        self.0.registry.as_ref()?;
        Some((state.subject?, entry))
    }

    /// Sees to it that the list has room for one more, whoever else takes it then.
    async fn make_room(&self, subject: Subject, but: RevocationId) -> Result<(), Error> {
        let record = self.record_of(subject).await?;
        let (now, room) = (self.now(), self.0.concurrency.room());
        let (mut active, mut left, mut dead) = (Vec::new(), Vec::new(), Vec::new());
        for other in record.sessions.iter().filter(|other| other.current != but) {
            if self.has_ended(subject, other).await? {
                dead.push(other.current);
            } else if other.is_active(now) {
                active.push(other);
            } else {
                left.push(other);
            }
        }
        if !dead.is_empty() {
            // One that has got fresh keys meanwhile comes back by itself.
            let is_dead = |entry: &Entry| dead.contains(&entry.current);
            return self
                .change(subject, |record, _| {
                    record.sessions.retain(|entry| !is_dead(entry));
                })
                .await;
        }
        let goes = if active.len() < room {
            left.iter().min_by_key(|entry| entry.expires)
        } else if matches!(self.0.concurrency, Concurrency::AtMost(_)) {
            return Err(FULL);
        } else {
            active.iter().min_by_key(|entry| (entry.login, entry.seen))
        };
        match goes {
            Some(goes) => self.end_listed(subject, goes).await,
            // Somebody has left.
            None => Ok(()),
        }
    }

    /// Whether a further session of a user would have a place. What is said here to the login is not what counts: others
    /// may be faster.
    ///
    /// # Errors
    ///
    /// [`Code::SessionLimit`] if not; [`Code::StoreUnavailable`].
    pub(crate) async fn expect_room(
        &self,
        subject: Subject,
        instead_of: RevocationId,
    ) -> Result<(), Error> {
        if self.0.registry.is_none() {
            return Ok(());
        }
        // Also where there is no limit: without the list its session could not be opened.
        let record = self.record_of(subject).await?;
        if !matches!(self.0.concurrency, Concurrency::AtMost(_)) {
            return Ok(());
        }
        let now = self.now();
        let others = record.sessions.iter().filter(|other| {
            let is_this = other.current == instead_of;
            !is_this && other.is_active(now)
        });
        let mut room = self.0.concurrency.room();
        for other in others {
            if !self.has_ended(subject, other).await? {
                room = room.saturating_sub(1);
            }
        }
        if room == 0 { Err(FULL) } else { Ok(()) }
    }

    /// Ends a session that is on the list. The application has it ended, whoever asks: its user has paid for its place
    /// among what has ended when he logged in, and nobody can keep him from ending it by using up his part.
    pub(super) async fn end_listed(&self, subject: Subject, entry: &Entry) -> Result<(), Error> {
        let id = Revocation::Session(entry.id);
        self.end(id, Party::Application).await?;
        let about = About {
            session: Some(entry.current),
            device: Some(entry.device),
            subject: Some(subject),
            ..About::default()
        };
        self.report(EventKind::SessionEnded, &about);
        self.change(subject, |record, _| {
            record.sessions.retain(|other| other.id != entry.id);
        })
        .await
    }

    /// Takes those off a user's list that have ended. If that fails they stay, and the store knows it.
    pub(crate) async fn take_off(
        &self,
        subject: Subject,
        has_ended: impl Fn(RevocationId, u32) -> bool + Send + Sync,
    ) {
        if self.0.registry.is_none() {
            return;
        }
        let take_off = |record: &mut Record, _| {
            let stays = |entry: &Entry| !has_ended(entry.current, entry.login);
            record.sessions.retain(stays);
        };
        // It is logged where it fails.
        let _ = self.change(subject, take_off).await;
    }

    async fn has_ended(&self, subject: Subject, entry: &Entry) -> Result<bool, Error> {
        let session = entry.session_ref(subject);
        let revoked = self.0.store.is_revoked(session).await;
        revoked.map_err(|StoreError| UNAVAILABLE)
    }

    pub(super) async fn record_of(&self, subject: Subject) -> Result<Record, Error> {
        let registry = self.registry()?;
        let bytes = registry.get(subject).await;
        let mut record = read(bytes.map_err(|StoreError| UNAVAILABLE)?.as_deref())?;
        record.tidy(self.now());
        Ok(record)
    }

    /// Changes a user's record in one atomic step, whoever else changes it.
    pub(super) async fn change<T>(
        &self,
        subject: Subject,
        change: impl Fn(&mut Record, u32) -> T + Send + Sync,
    ) -> Result<T, Error> {
        let registry = self.registry()?;
        let failed = |StoreError| UNAVAILABLE;
        let mut old = registry.get(subject).await.map_err(failed)?;
        for _ in 0..ATTEMPTS {
            let now = self.now();
            let mut record = read(old.as_deref())?;
            record.tidy(now);
            let outcome = change(&mut record, now);
            let new = record.write();
            if new == old {
                return Ok(outcome);
            }
            let swap = Swap {
                subject,
                old,
                new,
                until: record.until(),
                now: now.into(),
            };
            match registry.swap(swap).await.map_err(failed)? {
                Swapped::Done => return Ok(outcome),
                Swapped::Other(there) => old = there,
            }
        }
        tracing::warn!(target: "bulla::registry", "a user's list changes all the time");
        Err(UNAVAILABLE)
    }

    fn registry(&self) -> Result<&dyn Registry, Error> {
        self.0.registry.as_deref().ok_or(NO_REGISTRY)
    }
}

fn read(bytes: Option<&[u8]>) -> Result<Record, Error> {
    let Some(bytes) = bytes else {
        return Ok(Record::default());
    };
    Record::read(bytes).ok_or_else(|| {
        // A later version has written it, perhaps: what is lost here its nodes would miss.
        tracing::error!(target: "bulla::registry", "what is kept of a user is no record");
        UNAVAILABLE
    })
}

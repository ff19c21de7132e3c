//! The verifier: what it knows, what has ended, and what time it is.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bulla_keys::Random;
use bulla_protocol::error::{Code, Error};
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::limits::Limits;
use bulla_protocol::opening::Ticket;
use bulla_protocol::proof::ProofKind;
use bulla_protocol::target::Origin;
use http::HeaderName;
use tokio::sync::broadcast;

use crate::alarm::Alarms;
use crate::builder::Builder;
use crate::clock::{self, Clock, MAX_STEP_BACK};
use crate::cookies::Cookies;
use crate::device::Devices;
use crate::event::{About, EventKind, Watch};
use crate::flood::Gate;
use crate::identity::Identity;
use crate::layer::BullaLayer;
use crate::lifetimes::Lifetimes;
use crate::live::News;
use crate::network::Finder;
use crate::nonce::{Nonce, Nonces};
use crate::pace::Pace;
use crate::policy::Paths;
use crate::rates::Meters;
use crate::registry::{Concurrency, Registry};
use crate::ring::{Ring, RingKey};
use crate::rules::Guard;
use crate::store::{Ended, Ending, Memory, Party, Replacement, Revocation, Store, StoreError};
use crate::subject::Subject;
use crate::ticket::RevocationId;
use crate::vault;

/// Verifies sealed, signed sessions. Cheap to clone.
#[derive(Clone)]
pub struct Bulla(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) origins: Vec<Origin>,
    pub(crate) session_path: String,
    pub(crate) sealed_path: String,
    pub(crate) identity: Arc<Identity>,
    pub(crate) ring: Ring,
    pub(crate) store: Box<dyn Store>,
    pub(crate) registry: Option<Box<dyn Registry>>,
    pub(crate) concurrency: Concurrency,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) random: Box<dyn Random>,
    pub(crate) nonces: Nonces,
    pub(crate) devices: Devices,
    pub(crate) limits: Limits,
    /// `None` if bodies may come as slowly as they like.
    pub(crate) pace: Option<Pace>,
    pub(crate) lifetimes: Lifetimes,
    /// How long anything that a key of the ring sealed can be valid.
    pub(crate) keep: Duration,
    pub(crate) proof: ProofKind,
    pub(crate) paths: RwLock<Arc<Paths>>,
    pub(crate) upstream: Vec<HeaderName>,
    pub(crate) cors: Vec<Origin>,
    pub(crate) cookies: RwLock<Arc<Cookies>>,
    pub(crate) finder: Finder,
    pub(crate) guard: Guard,
    pub(crate) meters: Meters,
    pub(crate) gate: Gate,
    pub(crate) watch: Watch,
    /// Wakes up open streams at the end of their sessions, and whoever waits for a slow body.
    pub(crate) alarms: Alarms,
    /// Tells open streams what has ended.
    pub(crate) revoked: broadcast::Sender<News>,
    /// The latest time that was acted upon, in seconds since 1970.
    pub(crate) latest: AtomicU32,
}

impl Bulla {
    /// Begins to configure a verifier. An origin, an identity and a store are needed.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// What clients pin: the identity's RFC 7638 thumbprint.
    pub fn identity(&self) -> Thumbprint {
        self.0.identity.thumbprint()
    }

    /// The layer that verifies every request before the inner service sees it.
    pub fn layer(&self) -> BullaLayer {
        BullaLayer::new(self.clone())
    }

    /// Ends sessions: one, all of a user, or all of a device. Their open streams are cut.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`] if that could not be remembered.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), Error> {
        let (kind, about) = About::ended(&revocation);
        self.end(revocation, Party::Application).await?;
        self.report(kind, &about);
        Ok(())
    }

    /// Ends all sessions that a user has logged in to up to now; [access tokens](crate::dpop) that were issued up to now,
    /// too. Now is by the verifier's clock, which is what logins are dated by: it may be ahead of the system's, where
    /// that was put back a little.
    ///
    /// # Errors
    ///
    /// As [`Self::revoke`].
    pub async fn end_all_of(&self, subject: Subject) -> Result<(), Error> {
        self.revoke(Revocation::Subject(subject, self.now())).await
    }

    /// Has a user log in again, in each of his sessions, where a [recent login](crate::Require::recent_login) or an
    /// [assurance](crate::Require::assurance) is asked for. The sessions go on.
    ///
    /// # Errors
    ///
    /// As [`Self::revoke`].
    pub async fn demand_login_of(&self, subject: Subject) -> Result<(), Error> {
        let again = Revocation::RecentLogin(subject, self.now());
        self.revoke(again).await
    }

    /// Ends all sessions at once, whoever's they are and whichever node they are at: for the day on which nobody knows
    /// what was stolen. Their open streams are cut; clients open new sessions, and users log in again. Bound
    /// cookies end, too. The ring and locked devices are left as they are: whoever may have the ring is locked out by
    /// deleting it.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`] if it is not sure that all of them have ended for good. Try again.
    pub async fn end_all(&self) -> Result<(), Error> {
        let next = Memory::begin(&*self.0.random)
            .map_err(|_| Code::Internal.because("the system gave no random bytes"))?;
        // Each stream looks for itself then, also if whoever has asked goes away.
        let _telling = Telling::of_anything(&self.0.revoked);
        let begun = self.0.store.begin_anew(next).await;
        let failed = Code::StoreUnavailable.because("the end of all sessions could not be stored");
        begun.map_err(|StoreError| failed)?;
        self.report(EventKind::AllEnded, &About::default());
        Ok(())
    }

    /// # Errors
    ///
    /// [`Code::RateLimited`] if the user who asks has had too many ended, [`Code::StoreUnavailable`] if it
    /// could not be remembered.
    pub(crate) async fn end(&self, revocation: Revocation, by: Party) -> Result<(), Error> {
        let (now, until) = self.remembered();
        let telling = Telling::of(&self.0.revoked, revocation.clone());
        let ended = Ended {
            revocation,
            until,
            now,
            by,
        };
        let stored = telling.once(self.0.store.revoke(ended).await);
        if let Some(place) = ending(stored)? {
            // Fresh keys came in between.
            let _ = self.0.revoked.send(News::Ended(Revocation::Session(place)));
        }
        Ok(())
    }

    /// Ends a session for another one that takes its place. Returns which one has the place, if any has.
    ///
    /// # Errors
    ///
    /// As [`Self::end`].
    pub(crate) async fn replace(
        &self,
        old: RevocationId,
        new: RevocationId,
        by: Party,
    ) -> Result<Option<RevocationId>, Error> {
        let (now, until) = self.remembered();
        let replacement = Replacement {
            old,
            new,
            until,
            now,
            by,
        };
        let telling = Telling::of(&self.0.revoked, Revocation::Session(old));
        ending(telling.once(self.0.store.replace(replacement).await))
    }

    /// Now, and until when what ends now must be remembered: as long as anything of it could be valid.
    fn remembered(&self) -> (u64, u64) {
        let now = u64::from(self.now());
        (now, now.saturating_add(self.remembers_for()))
    }

    /// For how long what has ended is remembered, in seconds.
    pub(crate) fn remembers_for(&self) -> u64 {
        let Lifetimes {
            session,
            carry_over,
            ..
        } = self.0.lifetimes;
        session.as_secs().saturating_add(carry_over.as_secs())
    }

    /// Seconds since 1970. Tickets have room for 32 bits, enough until 2106.
    ///
    /// Time stands still while the clock catches up with a small step back. After a larger one nothing that
    /// was sealed before can be judged: what it says of its times may be wrong, and the store may have
    /// forgotten that it was revoked. So the ring is dropped, and with it every session ends. Whoever opens
    /// what the ring sealed asks for the time first.
    pub(crate) fn now(&self) -> u32 {
        let now = whole(self.0.clock.now());
        let latest = self.0.latest.fetch_max(now, Ordering::AcqRel);
        if now.saturating_add(MAX_STEP_BACK) >= latest {
            return now.max(latest);
        }
        self.0.ring.drop_all(|| {
            let latest = &self.0.latest;
            let is_first = latest.swap(now, Ordering::AcqRel) > now.saturating_add(MAX_STEP_BACK);
            if is_first {
                self.0.nonces.restart();
            }
            is_first
        });
        clock::report_step_back(latest, now);
        // Nobody may be listening.
        let _ = self.0.revoked.send(News::SetBack);
        now
    }

    /// Sees to it that the ring has a key that seals now. To be done before any is asked for.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`]: nothing has been done yet.
    pub(crate) async fn keep_ring(&self) -> Result<(), Error> {
        let (now, random) = (self.now().into(), &*self.0.random);
        let kept = self.0.ring.keep_up(now, self.0.keep, random).await;
        kept.map_err(|_| Code::StoreUnavailable.because("the ring could not be kept"))
    }

    /// Sees to it that the key of a ticket is known, if it is one of this ring's.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`] if that cannot be known.
    pub(crate) async fn know_key(&self, ticket: &Ticket) -> Result<(), Error> {
        match vault::key_of(ticket.as_bytes()) {
            Some(id) => self.know_key_named(id).await,
            None => Ok(()),
        }
    }

    /// Sees to it that a key is known by its name, if it is one of this ring's.
    ///
    /// # Errors
    ///
    /// As [`Self::know_key`].
    pub(crate) async fn know_key_named(&self, id: u8) -> Result<(), Error> {
        let (now, random) = (self.now().into(), &*self.0.random);
        let known = self.0.ring.catch_up(id, now, self.0.keep, random);
        let unknown = Code::StoreUnavailable.because("the ring could not be looked at");
        known.await.map_err(|_| unknown)
    }

    pub(crate) fn ring_key(&self, now: u32) -> Result<Arc<RingKey>, Error> {
        let key = self.0.ring.current(now.into());
        key.map_err(|_| Code::Internal.because("the ring has no key"))
    }

    pub(crate) fn nonce(&self, now: u32) -> Result<Nonce, Error> {
        let (key, memory) = (self.ring_key(now)?, self.0.store.memory().proofs);
        self.0.nonces.issue(u64::from(now), &key, memory)
    }

    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.0
            .random
            .fill(&mut bytes)
            .map_err(|_| Code::Internal.because("the system gave no random bytes"))?;
        Ok(bytes)
    }
}

impl fmt::Debug for Bulla {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins: Vec<_> = self.0.origins.iter().map(Origin::as_str).collect();
        f.debug_struct("Bulla")
            .field("origins", &origins)
            .field("identity", &self.identity())
            .finish_non_exhaustive()
    }
}

/// Tells open streams what has ended, when it is dropped: whatever becomes of it in the store, and also if
/// whoever waits for that goes away.
struct Telling<'a> {
    streams: &'a broadcast::Sender<News>,
    ended: Option<Revocation>,
    is_known: bool,
}

impl<'a> Telling<'a> {
    fn of(streams: &'a broadcast::Sender<News>, ended: Revocation) -> Self {
        Self {
            streams,
            ended: Some(ended),
            is_known: false,
        }
    }

    fn of_anything(streams: &'a broadcast::Sender<News>) -> Self {
        Self {
            streams,
            ended: None,
            is_known: false,
        }
    }

    /// Tells them now that the store has answered, if it has.
    fn once(mut self, stored: Result<Ending, StoreError>) -> Result<Ending, StoreError> {
        self.is_known = stored.is_ok();
        stored
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        // Nobody may be listening.
        if let Some(ended) = self.ended.take() {
            let _ = self.streams.send(News::Ended(ended));
        }
        if !self.is_known {
            let _ = self.streams.send(News::Unknown);
        }
    }
}

/// Seconds, as tickets have room for them.
pub(crate) fn whole(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// Who has the place of what has ended, by the store's word.
fn ending(stored: Result<Ending, StoreError>) -> Result<Option<RevocationId>, Error> {
    match stored {
        Ok(Ending::Done) => Ok(None),
        Ok(Ending::Replaced(place)) => Ok(Some(place)),
        Ok(Ending::OverQuota) => {
            Err(Code::RateLimited.because("too many sessions of this user have ended"))
        }
        Err(StoreError) => {
            Err(Code::StoreUnavailable.because("the revocation could not be stored"))
        }
    }
}

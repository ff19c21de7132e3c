//! The verifier and its builder.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bulla_keys::{Random, SystemRandom};
use bulla_protocol::error::{Code, Error};
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::limits::{DEFAULT_PREFIX, Limits};
use bulla_protocol::opening::{check_prefix, sealed_path, session_path};
use bulla_protocol::proof::ProofKind;
use bulla_protocol::target::Origin;
use http::HeaderName;
use tokio::sync::broadcast;

use crate::alarm::Alarms;
use crate::clock::{Clock, MAX_STEP_BACK, SystemClock};
use crate::cookies::Cookies;
use crate::device::Devices;
use crate::error::ConfigError;
use crate::event::{Listener, SecurityEvent};
use crate::identity::Identity;
use crate::layer::BullaLayer;
use crate::live::{self, News};
use crate::nonce::{Nonce, Nonces};
use crate::ring::{Ring, RingKey};
use crate::store::{Ended, Ending, Party, Replacement, Revocation, Store, StoreError};
use crate::ticket::RevocationId;

/// Verifies sealed, signed sessions. Cheap to clone.
#[derive(Clone)]
pub struct Bulla(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) origins: Vec<Origin>,
    pub(crate) session_path: String,
    pub(crate) sealed_path: String,
    pub(crate) identity: Identity,
    pub(crate) ring: Ring,
    pub(crate) store: Box<dyn Store>,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) random: Box<dyn Random>,
    pub(crate) nonces: Nonces,
    pub(crate) devices: Devices,
    pub(crate) limits: Limits,
    pub(crate) lifetimes: Lifetimes,
    /// How long anything that a key of the ring sealed can be valid.
    keep: Duration,
    pub(crate) proof: ProofKind,
    pub(crate) unsigned: Vec<String>,
    pub(crate) upstream: Vec<HeaderName>,
    pub(crate) cors: Vec<Origin>,
    pub(crate) cookies: Cookies,
    pub(crate) listener: Option<Listener>,
    /// Wakes up open streams at the end of their sessions.
    pub(crate) alarms: Alarms,
    /// Tells open streams what has ended.
    pub(crate) revoked: broadcast::Sender<News>,
    /// The latest time that was acted upon, in seconds since 1970.
    latest: AtomicU32,
}

/// How long things live, in whole seconds: fractions are cut off. Shorter is safer and costs more openings
/// and retries. [`Builder::build`] refuses what is not among [`Self::RANGE`], and what the ring's period is
/// too short for ([`Ring::with_period`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// A server nonce: taken for this long at least, twice as long at most. One second at least; default
    /// one minute.
    pub nonce: Duration,
    /// A ticket, and so the idle timeout: a session that is not used ends after half of this at the
    /// earliest and all of it at the latest. Default 15 minutes.
    pub ticket: Duration,
    /// A session at most, from its opening or login on. Default 12 hours.
    pub session: Duration,
    /// A carry-over ticket. Default one minute.
    pub carry_over: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            nonce: Duration::from_mins(1),
            ticket: Duration::from_mins(15),
            session: Duration::from_hours(12),
            carry_over: Duration::from_mins(1),
        }
    }
}

impl Lifetimes {
    /// What each of them may be. What lives for less than a second is over before it is used; what lives
    /// for more than ten years is a mistake, and its end would be beyond what a ticket can say.
    pub const RANGE: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_hours(10 * 366 * 24);

    fn are_allowed(&self) -> bool {
        let Self {
            nonce,
            ticket,
            session,
            carry_over,
        } = self;
        [nonce, ticket, session, carry_over]
            .into_iter()
            .all(|life| Self::RANGE.contains(life))
    }

    /// How long anything that the ring seals can be valid.
    fn sealed(&self, cookies: &Cookies) -> Duration {
        let nonce = self.nonce.saturating_mul(2);
        let keep = self.ticket.max(self.carry_over).max(nonce);
        if cookies.are_on() {
            return keep.max(self.session);
        }
        keep
    }
}

impl Bulla {
    /// Begins to configure a verifier. An origin, an identity and a store are needed.
    pub fn builder() -> Builder {
        Builder {
            origins: Vec::new(),
            prefix: DEFAULT_PREFIX.to_owned(),
            identity: None,
            ring: None,
            store: None,
            clock: Box::new(SystemClock),
            random: Box::new(SystemRandom),
            limits: Limits::default(),
            lifetimes: Lifetimes::default(),
            proof: ProofKind::Device,
            unsigned: Vec::new(),
            upstream: Vec::new(),
            cors: Vec::new(),
            cookies: Cookies::Off,
            listener: None,
        }
    }

    /// What clients pin: the identity's RFC 7638 thumbprint.
    pub fn identity(&self) -> Thumbprint {
        self.0.identity.thumbprint()
    }

    /// The layer that verifies every request before the inner service sees it.
    pub fn layer(&self) -> BullaLayer {
        BullaLayer::new(self.clone())
    }

    /// Ends sessions: one, all of a user up to now, or all of a device. Their open streams are cut.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`] if that could not be remembered.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), Error> {
        self.end(revocation, Party::Application).await
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
        let Lifetimes {
            session,
            carry_over,
            ..
        } = self.0.lifetimes;
        let until = now
            .saturating_add(session.as_secs())
            .saturating_add(carry_over.as_secs());
        (now, until)
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
        tracing::error!(
            target: "bulla::clock",
            latest,
            now,
            "the clock was set back, and all sessions have ended"
        );
        // Nobody may be listening.
        let _ = self.0.revoked.send(News::SetBack);
        now
    }

    pub(crate) fn ring_key(&self, now: u32) -> Result<Arc<RingKey>, Error> {
        self.0
            .ring
            .current(u64::from(now), self.0.keep, &*self.0.random)
            .map_err(|_| Code::Internal.because("the ring could not be rotated"))
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

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("origins", &self.origins)
            .finish_non_exhaustive()
    }
}

/// Tells open streams what has ended, when it is dropped: whatever becomes of it in the store, and also if
/// whoever waits for that goes away.
struct Telling<'a> {
    streams: &'a broadcast::Sender<News>,
    ended: Revocation,
    is_known: bool,
}

impl<'a> Telling<'a> {
    fn of(streams: &'a broadcast::Sender<News>, ended: Revocation) -> Self {
        Self {
            streams,
            ended,
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
        let _ = self.streams.send(News::Ended(self.ended.clone()));
        if !self.is_known {
            let _ = self.streams.send(News::Unknown);
        }
    }
}

/// Seconds, as tickets have room for them.
fn whole(seconds: u64) -> u32 {
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

/// `None` if any is not an origin.
fn origins(texts: &[String]) -> Option<Vec<Origin>> {
    let parsed = texts.iter().map(|text| Origin::parse(text));
    parsed.collect::<Result<_, _>>().ok()
}

/// Configures a [`Bulla`].
#[must_use]
pub struct Builder {
    origins: Vec<String>,
    prefix: String,
    identity: Option<Identity>,
    ring: Option<Ring>,
    store: Option<Box<dyn Store>>,
    clock: Box<dyn Clock>,
    random: Box<dyn Random>,
    limits: Limits,
    lifetimes: Lifetimes,
    proof: ProofKind,
    unsigned: Vec<String>,
    upstream: Vec<HeaderName>,
    cors: Vec<String>,
    cookies: Cookies,
    listener: Option<Listener>,
}

impl Builder {
    /// Adds a public origin under which clients reach this server, such as `https://bank.example`.
    /// Authority comes from here, never from forwarding fields.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Sets the identity that clients pin.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Sets where proofs and revocations are remembered.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Box::new(store));
        self
    }

    /// Sets the ring. Default: one that lives as long as the process.
    pub fn ring(mut self, ring: Ring) -> Self {
        self.ring = Some(ring);
        self
    }

    /// Sets the path under which the protocol lives. Default `/.well-known/bulla`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how long things live.
    pub fn lifetimes(mut self, lifetimes: Lifetimes) -> Self {
        self.lifetimes = lifetimes;
        self
    }

    /// Sets how large things may be.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the weakest proof that is taken where a route asks for nothing more. Default: the device
    /// proof, on every request.
    pub fn proof(mut self, proof: ProofKind) -> Self {
        self.proof = proof;
        self
    }

    /// Lets requests without any proof through to paths that begin so, without a session. Text is
    /// compared: begin with `/`, and end a folder with it. A request with a wrong proof is refused all the
    /// same.
    pub fn unsigned(mut self, path_prefix: impl Into<String>) -> Self {
        self.unsigned.push(path_prefix.into());
        self
    }

    /// Names a field that a proxy before this server states and the application trusts, such as
    /// `cf-connecting-ip` or `x-client-cert`; once or more. A proxy cannot strip it from inside a seal.
    /// So a sealed request that has it is refused, and of a signed one no handler sees it. The common
    /// fields that speak of forwarding are treated so without being named.
    pub fn upstream_field(mut self, name: HeaderName) -> Self {
        self.upstream.push(name);
        self
    }

    /// Lets pages of another origin, such as `https://app.example`, use this server (CORS). There is no
    /// wildcard.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.cors.push(origin.into());
        self
    }

    /// Binds the application's cookies to the device. Default: [`Cookies::Off`].
    pub fn cookies(mut self, cookies: Cookies) -> Self {
        self.cookies = cookies;
        self
    }

    /// Sets the clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Sets where random bytes come from.
    pub fn random(mut self, random: impl Random + 'static) -> Self {
        self.random = Box::new(random);
        self
    }

    /// Sets who is told of every refusal, besides `tracing`. Must be quick.
    pub fn on_event(mut self, listener: impl Fn(&SecurityEvent) + Send + Sync + 'static) -> Self {
        self.listener = Some(Listener(Arc::new(listener)));
        self
    }

    /// Builds the verifier.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Origin`] without an origin, or if any is not one; [`ConfigError::AllowedOrigin`];
    /// [`ConfigError::Prefix`]; [`ConfigError::Unsigned`]; [`ConfigError::NoIdentity`];
    /// [`ConfigError::NoStore`];
    /// [`ConfigError::Lifetime`] for one that is not among [`Lifetimes::RANGE`];
    /// [`ConfigError::RingPeriod`] for a period that [`Ring::with_period`] does not allow;
    /// [`ConfigError::File`] if a key whose time is over could not be erased.
    pub fn build(self) -> Result<Bulla, ConfigError> {
        let public = origins(&self.origins).ok_or(ConfigError::Origin)?;
        let cors = origins(&self.cors).ok_or(ConfigError::AllowedOrigin)?;
        // A request says which authority it is for, and not by which scheme.
        let mut authorities: Vec<_> = public.iter().map(Origin::authority).collect();
        authorities.sort_unstable();
        authorities.dedup();
        if public.is_empty() || authorities.len() < self.origins.len() {
            return Err(ConfigError::Origin);
        }
        check_prefix(&self.prefix).map_err(|_| ConfigError::Prefix)?;
        if !self.unsigned.iter().all(|path| path.starts_with('/')) {
            return Err(ConfigError::Unsigned);
        }
        let identity = self.identity.ok_or(ConfigError::NoIdentity)?;
        let store = self.store.ok_or(ConfigError::NoStore)?;
        let ring = self.ring.unwrap_or_else(Ring::ephemeral);
        if !self.lifetimes.are_allowed() {
            return Err(ConfigError::Lifetime);
        }
        let keep = self.lifetimes.sealed(&self.cookies);
        if !ring.has_names_for(keep) {
            return Err(ConfigError::RingPeriod);
        }
        let now = whole(self.clock.now());
        // Earlier processes had a clock, too.
        let known = whole(store.written().max(ring.newest()));
        let was_ahead = known > now.saturating_add(MAX_STEP_BACK);
        ring.drop_all(|| was_ahead);
        ring.erase_past(now.into(), keep)?;
        let revoked = broadcast::Sender::new(live::BACKLOG);
        let streams = revoked.clone();
        store.on_ended(Box::new(move |ended| {
            // Nobody may be listening.
            let _ = streams.send(ended.map_or(News::Unknown, News::Ended));
        }));
        Ok(Bulla(Arc::new(Inner {
            origins: public,
            session_path: session_path(&self.prefix),
            sealed_path: sealed_path(&self.prefix),
            identity,
            ring,
            store,
            clock: self.clock,
            random: self.random,
            nonces: Nonces::new(self.lifetimes.nonce),
            devices: Devices::new(),
            limits: self.limits,
            lifetimes: self.lifetimes,
            keep,
            proof: self.proof,
            unsigned: self.unsigned,
            upstream: self.upstream,
            cors,
            cookies: self.cookies,
            listener: self.listener,
            alarms: Alarms::default(),
            revoked,
            latest: AtomicU32::new(if was_ahead { now } else { now.max(known) }),
        })))
    }
}

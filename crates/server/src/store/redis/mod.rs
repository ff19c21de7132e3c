//! The store that several nodes share, in Redis or Valkey.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant};
use std::{fmt, io};

use bulla_keys::{Random, SystemRandom};
use redis::RedisError;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::keys::Keys;
use self::link::{Address, Link};
pub use self::registry::RedisRegistry;
pub use self::ring::WrappingKey;
use self::shared::{Current, Settings, Shared, wrong};
use super::{
    Ended, Ending, Memory, Replacement, SessionRef, Store, StoreFuture, Tell, UsedProof, Verdict,
};
use crate::clock::MAX_SKEW;
use crate::error::ConfigError;

mod keys;
mod link;
mod registry;
mod ring;
mod shared;
mod steps;

/// How far the clocks of two nodes may be apart then.
const APART: u64 = 2 * MAX_SKEW;

/// How often it is asked what others have ended.
const NEWS_EVERY: Duration = Duration::from_millis(400);

/// What becomes of revocations when the Redis server ends or another one takes its place.
///
/// Redis confirms a write before it is on any disk and on any replica. A revocation that was confirmed and then
/// lost would let a thief go on; so either it is known not to be lost, or all sessions end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Survive {
    /// They may be lost: all sessions end with the process of the server, whether it is restarted or a replica
    /// is promoted.
    #[default]
    Nothing,
    /// They count as done once so many replicas have them (`WAIT`), so a promoted one has them, and sessions go
    /// on. Name as many as there may be replicas that lag behind and are promoted all the same. Where fewer are
    /// there, logins and logouts are refused with `store_unavailable`.
    ///
    /// A primary that is cut off from its replicas must notice: set its `min-replicas-to-write` to the same number,
    /// or the nodes that are cut off with it go on by what it knows.
    Replicas(NonZeroU32),
}

/// The store that several nodes share: a Redis server from 7.0 on, or Valkey. Of a cluster it uses one slot,
/// and so one primary: what is looked up and remembered of a request is one atomic step and one round trip.
///
/// Its memory of proofs lives as long as the process of the server. Where that is restarted, emptied or
/// replaced by another one, all nonces are stale, and clients fetch new ones by themselves; what becomes of
/// sessions, [`Survive`] says. Each node finds out in the round trip of its next request.
///
/// The server must evict nothing (`maxmemory-policy noeviction`): a full one refuses. Its clock and those of
/// the nodes may be half a minute apart. Every 400 ms a node asks what the others have ended, to cut streams.
///
/// To drop the store ends its task.
pub struct RedisStore {
    shared: Arc<Shared>,
    news: JoinHandle<()>,
}

/// Configures a [`RedisStore`].
#[must_use]
pub struct RedisBuilder {
    url: String,
    name: String,
    root: Option<Vec<u8>>,
    settings: Settings,
}

impl RedisStore {
    /// Proofs of one session that are remembered in some two minutes, by default. As long as it is unconfirmed,
    /// [`MemoryStore::UNCONFIRMED_QUOTA`](super::MemoryStore::UNCONFIRMED_QUOTA).
    pub const DEFAULT_QUOTA: usize = 14_000;
    /// Proofs of all unconfirmed sessions that are remembered in some two minutes.
    pub const UNCONFIRMED: usize = 400_000;
    /// Ended sessions that nobody had logged in to, which are remembered at once. Of one user,
    /// [`MemoryStore::REVOCATIONS_QUOTA`](super::MemoryStore::REVOCATIONS_QUOTA).
    pub const STRANGERS_QUOTA: usize = 1_000_000;

    /// Connects to the server at this URL. [`Self::builder`] says what it may be.
    ///
    /// # Errors
    ///
    /// As [`RedisBuilder::connect`].
    pub async fn connect(url: impl Into<String>) -> Result<Self, ConfigError> {
        Self::builder(url).connect().await
    }

    /// Begins to configure one.
    ///
    /// The URL is `redis://USER:PASSWORD@HOST:PORT/DB`, `redis+sentinel://HOST:PORT,HOST:PORT/SERVICE` or
    /// `redis+cluster://HOST:PORT,HOST:PORT`; with `rediss` in the place of `redis` for TLS.
    pub fn builder(url: impl Into<String>) -> RedisBuilder {
        RedisBuilder {
            url: url.into(),
            name: "bulla".to_owned(),
            root: None,
            settings: Settings {
                survive: Survive::default(),
                timeout: Duration::from_secs(1),
                quota: Self::DEFAULT_QUOTA,
                random: Box::new(SystemRandom),
            },
        }
    }
}

impl RedisBuilder {
    /// Sets what all keys begin with, as their hash tag. Nodes that share a store share it; others on the same
    /// server have another one. Default: `bulla`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets what becomes of revocations when the server ends. The same on every node.
    pub fn survive(mut self, survive: Survive) -> Self {
        self.settings.survive = survive;
        self
    }

    /// Sets how long a request waits for the server before it is refused with `store_unavailable`. Default: one second.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Sets how many proofs of one session are remembered in some two minutes. Beyond, its requests are refused
    /// with `rate_limited`. Default: [`RedisStore::DEFAULT_QUOTA`], 14000.
    pub fn quota(mut self, quota: usize) -> Self {
        self.settings.quota = quota;
        self
    }

    /// Sets the certificate, in PEM, that vouches for the server's. Default: those that the system trusts.
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root = Some(pem.into());
        self
    }

    /// Sets where the names of memories are drawn from. For tests. Default: the system.
    pub fn random(mut self, random: impl Random + 'static) -> Self {
        self.settings.random = Box::new(random);
        self
    }

    /// Connects, and begins to ask for news in a task of the tokio runtime that this is called in.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Redis`] if there is no such server, if it is older than 7.0, a replica, or if it evicts;
    /// [`ConfigError::Random`] if there are no random bytes.
    pub async fn connect(self) -> Result<RedisStore, ConfigError> {
        let Self {
            url,
            name,
            root,
            settings,
        } = self;
        let address = Address::parse(&url)
            .ok_or_else(|| failed(wrong("this is no URL of a Redis server")))?;
        if !name.is_ascii() || name.is_empty() || name.contains(['{', '}']) {
            return Err(failed(wrong("the name is not one for a hash tag")));
        }
        let link = || Link::new(&address, root.as_deref(), settings.timeout).map_err(failed);
        let unknown = Memory::begin(&*settings.random)?;
        let shared = Shared {
            checks: link()?,
            ends: link()?,
            keys: Keys::new(&name),
            current: RwLock::new(Arc::new(Current::new(unknown, 0))),
            begins: Mutex::new(()),
            evicts: AtomicBool::new(false),
            tell: OnceLock::new(),
            settings,
        };
        let shared = Arc::new(shared);
        let begun = timeout(shared.settings.timeout, shared.begin(None)).await;
        let late = |_| failed(RedisError::from(io::Error::from(io::ErrorKind::TimedOut)));
        begun.map_err(late)?.map_err(failed)?;
        // With it the script is there for the first request. If not, that one brings it.
        let _ = shared.hear().await;
        let news = tokio::spawn(listen(Arc::clone(&shared)));
        Ok(RedisStore { shared, news })
    }
}

fn failed(error: RedisError) -> ConfigError {
    ConfigError::Redis(Box::new(error))
}

/// What the server has said its time is, at some moment between these two: this process may have been stopped in
/// between.
#[derive(Clone, Copy)]
struct Told {
    asked: Instant,
    answered: Instant,
    /// In seconds since 1970.
    time: u64,
}

impl Told {
    fn has_jumped_since(&self, before: &Self) -> bool {
        let least = self.asked.saturating_duration_since(before.answered);
        let most = self.answered.saturating_duration_since(before.asked);
        let earliest = before.time.saturating_add(least.as_secs());
        let latest = before.time.saturating_add(most.as_secs());
        self.time.saturating_add(MAX_SKEW) < earliest || self.time > latest.saturating_add(MAX_SKEW)
    }
}

/// Asks for news for as long as the store is there.
async fn listen(shared: Arc<Shared>) {
    let mut ticks = interval(NEWS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failures = 0_u32;
    let mut clock: Option<Told> = None;
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        let Ok(health) = shared.hear().await else {
            failures = failures.saturating_add(1);
            // Nobody here knows what the others have ended.
            if failures >= 2 {
                shared.tell(None);
            }
            continue;
        };
        failures = 0;
        let has_evicted = shared.evicts.fetch_or(health.evicts, Ordering::AcqRel);
        if health.evicts {
            tracing::error!(target: "bulla::store", "Redis evicts: set maxmemory-policy noeviction");
            continue;
        }
        let told = Told {
            asked,
            answered: Instant::now(),
            time: health.time,
        };
        let has_jumped = clock.is_some_and(|before| told.has_jumped_since(&before));
        if has_jumped {
            tracing::error!(target: "bulla::store", "the clock of Redis has jumped");
        }
        // What it was to remember it may have forgotten.
        if has_evicted || has_jumped {
            let before = shared.memory();
            // Once it has another name it need not get a third, whatever the replicas say.
            if shared.lose().await.is_err() && shared.memory() == before {
                continue;
            }
        }
        shared.evicts.store(false, Ordering::Release);
        clock = Some(told);
    }
}

impl Store for RedisStore {
    fn memory(&self) -> Memory {
        self.shared.memory()
    }

    fn written(&self) -> u64 {
        // Its clock counts, and is compared with that of each node.
        0
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn on_ended(&self, tell: Tell) {
        // A second verifier at one store hears nothing at once, and asks in time.
        let _ = self.shared.tell.set(tell);
    }

    fn check_and_insert(&self, used: UsedProof) -> StoreFuture<'_, Verdict> {
        Box::pin(async move { self.shared.check(&used).await })
    }

    fn is_revoked(&self, session: SessionRef) -> StoreFuture<'_, bool> {
        Box::pin(async move { self.shared.look(&session).await })
    }

    fn revoke(&self, ended: Ended) -> StoreFuture<'_, Ending> {
        Box::pin(async move { self.shared.end(&ended).await })
    }

    fn replace(&self, replacement: Replacement) -> StoreFuture<'_, Ending> {
        Box::pin(async move { self.shared.replace(&replacement).await })
    }

    fn begin_anew(&self, next: Memory) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.shared.begin_anew(next).await })
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.news.abort();
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may hold a password.
        f.debug_struct("RedisBuilder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_jumps_by_more_than_this_process_can_have_been_stopped_for() {
        let start = Instant::now();
        let told = |asked, answered, time| Told {
            asked: start + Duration::from_secs(asked),
            answered: start + Duration::from_secs(answered),
            time,
        };
        let skew = MAX_SKEW;
        for (before, now, has_jumped) in [
            (told(0, 0, 1000), told(10, 10, 1010), false),
            (told(0, 0, 1000), told(10, 10, 1010 + skew), false),
            (told(0, 0, 1000), told(10, 10, 1011 + skew), true),
            (told(0, 0, 1000), told(10, 10, 1010 - skew), false),
            (told(0, 0, 1000), told(10, 10, 1009 - skew), true),
            // Stopped before it had read the answer, or before it had asked.
            (told(0, 400, 1000), told(400, 400, 1400), false),
            (told(0, 400, 1400), told(400, 400, 1400), false),
            (told(0, 0, 1000), told(0, 400, 1000), false),
            (told(0, 0, 1000), told(0, 400, 1401 + skew), true),
            (told(0, 400, 1000), told(400, 400, 999 - skew), true),
        ] {
            assert_eq!(now.has_jumped_since(&before), has_jumped);
        }
    }
}

//! The ring: the secrets that seal tickets and make nonces.
//!
//! It rotates on its own: every period a new key is added. A past key is erased, from memory and from
//! the file, as soon as nothing that it sealed can be valid any more: when the verifier is built, or on
//! the way of the next request, whichever it is. Whoever has the ring can make a session for anyone, so
//! recorded traffic stays secret only once every ring key that sealed one of its tickets is erased.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::{fs, io};

use bulla_keys::{Prk, Random};
use bulla_protocol::base64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock::MAX_STEP_BACK;
use crate::error::{ConfigError, not_a};
use crate::file;

/// What a key of the ring seals.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Ticket,
    Nonce,
    Cookie,
}

/// The keys that seal tickets and make nonces, current and past.
pub struct Ring {
    keys: RwLock<Vec<Arc<RingKey>>>,
    /// What the next key is called. Not the name of one that was dropped.
    next: AtomicU8,
    path: Option<PathBuf>,
    period: Duration,
}

impl Ring {
    /// How long a key seals before the next one takes over.
    pub const DEFAULT_PERIOD: Duration = Duration::from_hours(24);
    /// What a period may be.
    pub const PERIODS: RangeInclusive<Duration> =
        Duration::from_mins(1)..=Duration::from_hours(366 * 24);
    /// How many periods may pass while anything that a key sealed is valid: there are 256 names for
    /// keys, and no two that are in use may share one.
    pub const MAX_PERIODS_KEPT: u32 = 100;

    /// A ring that lives as long as the process: after a restart every session is opened anew.
    pub fn ephemeral() -> Self {
        Self {
            keys: RwLock::default(),
            next: AtomicU8::new(0),
            path: None,
            period: Self::DEFAULT_PERIOD,
        }
    }

    /// A ring kept in a file that only its owner may read. The file is made when the first key is.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if the file is there and cannot be read.
    pub fn load_or_create(path: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        let path = path.into();
        let keys = match fs::read(&path) {
            Ok(bytes) => parse(&Zeroizing::new(bytes)).ok_or_else(|| not_a("a ring")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let keys = keys.map_err(ConfigError::of_file(&path))?;
        Ok(Self {
            next: AtomicU8::new(keys.last().map_or(0, |key| key.id.wrapping_add(1))),
            keys: RwLock::new(keys),
            path: Some(path),
            period: Self::DEFAULT_PERIOD,
        })
    }

    /// Sets how long a key seals before the next one takes over, in whole seconds. A day, by default.
    ///
    /// [`Builder::build`](crate::Builder::build) refuses one that is not among [`Self::PERIODS`], or that
    /// is too short for what is sealed: a hundredth of the longest of a ticket's life, a carry-over
    /// ticket's, twice a nonce's and, where cookies are bound, a session's.
    #[must_use]
    pub fn with_period(self, period: Duration) -> Self {
        Self { period, ..self }
    }

    /// Whether no two keys can have one name while anything that they sealed is valid.
    ///
    /// `keep` is how long that is.
    pub(crate) fn has_names_for(&self, keep: Duration) -> bool {
        Self::PERIODS.contains(&self.period)
            && keep <= self.period.saturating_mul(Self::MAX_PERIODS_KEPT)
    }

    /// The key that seals now. Rotates if it is time, and erases what has had its time.
    ///
    /// `keep` is how long anything that a key sealed can be valid.
    pub(crate) fn current(
        &self,
        now: u64,
        keep: Duration,
        random: &dyn Random,
    ) -> Result<Arc<RingKey>, RingError> {
        if let Some(key) = self.settled(now, keep)? {
            return Ok(key);
        }
        let mut keys = self.keys.write().map_err(|_| RingError)?;
        // Somebody else may have rotated while this one waited.
        if let Some(key) = keys.last().filter(|key| self.is_fresh(key, now)).cloned() {
            self.replace(&mut keys, now, keep, None)?;
            return Ok(key);
        }
        let mut secret = Zeroizing::new([0; 32]);
        random.fill(secret.as_mut()).map_err(|_| RingError)?;
        let id = self.next.load(Ordering::Relaxed);
        let key = Arc::new(RingKey::new(id, now, secret));
        self.replace(&mut keys, now, keep, Some(Arc::clone(&key)))?;
        self.next.store(id.wrapping_add(1), Ordering::Relaxed);
        Ok(key)
    }

    /// Erases the keys whose time was over before this process began.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if they stay in the ring's file.
    pub(crate) fn erase_past(&self, now: u64, keep: Duration) -> Result<(), ConfigError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        self.replace(&mut keys, now, keep, None)
    }

    /// Drops all keys, if `is_due` still says so once nobody else looks at them. From the file they go with
    /// the next key, before anything is sealed again.
    pub(crate) fn drop_all(&self, is_due: impl FnOnce() -> bool) {
        // Whoever panicked has left what there was before, and now nothing is left.
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if is_due() {
            keys.clear();
        }
    }

    /// When the newest key was made, in seconds since 1970; 0 if there is none.
    pub(crate) fn newest(&self) -> u64 {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().map(|key| key.created).max().unwrap_or_default()
    }

    pub(crate) fn by_id(&self, id: u8) -> Option<Arc<RingKey>> {
        let keys = self.keys.read().ok()?;
        keys.iter().rev().find(|key| key.id == id).cloned()
    }

    /// The key that seals now, if there is nothing to do.
    fn settled(&self, now: u64, keep: Duration) -> Result<Option<Arc<RingKey>>, RingError> {
        let keys = self.keys.read().map_err(|_| RingError)?;
        if keys.iter().any(|key| self.is_past(key, now, keep)) {
            return Ok(None);
        }
        Ok(keys.last().filter(|key| self.is_fresh(key, now)).cloned())
    }

    /// Takes out what is past and puts `key` in, in the file first: nothing is sealed with a key that a
    /// restart would lose.
    fn replace(
        &self,
        keys: &mut Vec<Arc<RingKey>>,
        now: u64,
        keep: Duration,
        key: Option<Arc<RingKey>>,
    ) -> Result<(), ConfigError> {
        let is_kept = |known: &&Arc<RingKey>| !self.is_past(known, now, keep);
        let mut next: Vec<_> = keys.iter().filter(is_kept).cloned().collect();
        if key.is_none() && next.len() == keys.len() {
            return Ok(());
        }
        next.extend(key);
        if let Some(path) = &self.path {
            persist(path, &next).map_err(ConfigError::of_file(path))?;
        }
        *keys = next;
        Ok(())
    }

    /// Whether nothing that the key sealed can be valid.
    fn is_past(&self, key: &RingKey, now: u64, keep: Duration) -> bool {
        let horizon = self.period.saturating_add(keep).as_secs();
        key.created.saturating_add(horizon) <= now
    }

    fn is_fresh(&self, key: &RingKey, now: u64) -> bool {
        // One that is still to come was made while the clock was ahead, and would seal for too long.
        key.created <= now.saturating_add(MAX_STEP_BACK.into())
            && now < key.created.saturating_add(self.period.as_secs())
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("path", &self.path)
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

/// One secret of the ring.
pub(crate) struct RingKey {
    pub(crate) id: u8,
    created: u64,
    /// What is kept.
    secret: Zeroizing<[u8; 32]>,
    /// What is used.
    prk: Prk,
}

impl RingKey {
    fn new(id: u8, created: u64, secret: Zeroizing<[u8; 32]>) -> Self {
        Self {
            id,
            created,
            prk: Prk::from_uniform(&secret),
            secret,
        }
    }

    /// The labelled subkey for a purpose, expanded with `context`.
    pub(crate) fn derive(&self, purpose: Purpose, context: &[u8], out: &mut [u8]) {
        let label: &[u8] = match purpose {
            Purpose::Ticket => b"bulla ring v1 ticket\0",
            Purpose::Nonce => b"bulla ring v1 nonce\0",
            Purpose::Cookie => b"bulla ring v1 cookie\0",
        };
        self.prk.expand(&[label, context], out);
    }
}

/// No new key could be made or kept. Nothing is sealed with a key that a restart would lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingError;

/// Why it was is for whoever runs the server, and for nobody who asks it.
impl From<ConfigError> for RingError {
    fn from(error: ConfigError) -> Self {
        tracing::error!(
            target: "bulla::ring",
            error = &error as &dyn std::error::Error,
            "the ring could not be written"
        );
        Self
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    id: u8,
    created: u64,
    secret: Zeroizing<String>,
}

fn parse(bytes: &[u8]) -> Option<Vec<Arc<RingKey>>> {
    let stored: Stored = serde_json::from_slice(bytes).ok()?;
    let key = |key: StoredKey| {
        let bytes = Zeroizing::new(base64::decode(key.secret.as_bytes())?);
        let secret = Zeroizing::new(bytes.as_slice().try_into().ok()?);
        Some(Arc::new(RingKey::new(key.id, key.created, secret)))
    };
    stored.keys.into_iter().map(key).collect()
}

fn persist(path: &Path, keys: &[Arc<RingKey>]) -> io::Result<()> {
    let keys = keys
        .iter()
        .map(|key| StoredKey {
            id: key.id,
            created: key.created,
            secret: Zeroizing::new(base64::encode(key.secret.as_slice())),
        })
        .collect();
    let bytes = Zeroizing::new(serde_json::to_vec(&Stored { keys })?);
    file::write_private(path, &bytes)
}

#[cfg(test)]
mod tests {
    use bulla_keys::SystemRandom;

    use super::*;

    const KEEP: Duration = Duration::from_mins(15);

    fn kept(path: &Path) -> Vec<u8> {
        let keys = parse(&fs::read(path).unwrap()).unwrap();
        keys.iter().map(|key| key.id).collect()
    }

    #[test]
    fn a_past_key_is_erased_as_soon_as_nothing_that_it_sealed_is_valid() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring.json");
        let ring = Ring::load_or_create(&path).unwrap();
        let current = |now| ring.current(now, KEEP, &SystemRandom).unwrap().id;
        let day = Ring::DEFAULT_PERIOD.as_secs();
        assert_eq!((current(0), current(day - 1)), (0, 0));
        // What the first one sealed a second ago is still valid.
        assert_eq!((current(day), kept(&path)), (1, vec![0, 1]));
        assert_eq!((current(day + 899), kept(&path)), (1, vec![0, 1]));
        assert_eq!((current(day + 900), kept(&path)), (1, vec![1]));
        assert!(ring.by_id(0).is_none() && ring.by_id(1).is_some());
    }

    #[test]
    fn keys_whose_time_was_over_before_a_restart_are_erased_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring.json");
        let ring = Ring::load_or_create(&path).unwrap();
        ring.current(0, KEEP, &SystemRandom).unwrap();
        let ring = Ring::load_or_create(&path).unwrap();
        let over = Ring::DEFAULT_PERIOD.as_secs() + 900;
        ring.erase_past(over - 1, KEEP).unwrap();
        assert_eq!(kept(&path), [0]);
        ring.erase_past(over, KEEP).unwrap();
        assert!(kept(&path).is_empty());
    }

    #[test]
    fn keys_in_use_have_names_of_their_own() {
        let keep = Ring::MAX_PERIODS_KEPT * Duration::from_mins(1);
        let ring = Ring::ephemeral().with_period(Duration::from_mins(1));
        assert!(ring.has_names_for(keep) && !ring.has_names_for(keep + Duration::from_secs(1)));
        let names: std::collections::HashSet<_> = (0..=Ring::MAX_PERIODS_KEPT)
            .map(|turn| {
                let now = u64::from(turn) * 60;
                ring.current(now, keep, &SystemRandom).unwrap().id
            })
            .collect();
        assert_eq!(names.len(), ring.keys.read().unwrap().len());
        for period in [Duration::ZERO, Duration::from_secs(59), Duration::MAX] {
            let ring = Ring::ephemeral().with_period(period);
            assert!(!ring.has_names_for(Duration::ZERO), "{period:?}");
        }
    }
}

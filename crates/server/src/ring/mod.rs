//! The ring: the secrets that seal tickets and make nonces.
//!
//! It rotates on its own: every period a new key is added. A past key is erased, from memory and from
//! where the ring is kept, as soon as nothing that it sealed can be valid any more: when the verifier is
//! built, or on the way of the next request, whichever it is. Whoever has the ring can make a session for
//! anyone, so recorded traffic stays secret only once every ring key that sealed one of its tickets is
//! erased.

use std::future::Future;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, fs, io};

use bulla_keys::Random;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use self::folder::Folder;
use self::key::{parse, persist};
use crate::clock::{MAX_SKEW, MAX_STEP_BACK};
use crate::error::{ConfigError, not_a};

mod folder;
mod key;

pub(crate) use self::key::{Purpose, RingKey};

/// How long before it seals a key is there for those who share a ring. Whoever serves a request in this time
/// fetches it first.
const AHEAD: Duration = Duration::from_mins(5);

/// The keys that seal tickets and make nonces, current and past.
pub struct Ring {
    /// In the order in which they were added. Of those that are shared, a copy.
    keys: RwLock<Vec<Arc<RingKey>>>,
    place: Place,
    period: Duration,
}

/// Where a ring is kept.
enum Place {
    /// One node has it: in memory, and in this file, if there is one.
    Own(Option<PathBuf>),
    Shared(Shared),
}

struct Shared {
    place: Box<dyn SharedPlace>,
    /// Held while somebody looks or changes something there, so that the others wait and look here.
    turn: Mutex<Look>,
    /// How often somebody has begun to look.
    looks: AtomicU64,
    /// When it last failed, in seconds since 1970.
    failed: AtomicU64,
    /// What the place was called when it was last looked at.
    name: RwLock<[u8; 16]>,
    /// There are keys whose time is over, which nobody here has any more.
    has_past: AtomicBool,
}

/// What came of the last look.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Look {
    /// Nothing: whoever wanted it has gone.
    #[default]
    GivenUp,
    Failed,
    Done,
}

/// A place where several nodes keep one ring.
pub(crate) trait SharedPlace: Send + Sync {
    /// Another one than before where what was kept there may be lost, and all that was sealed with it has ended: whoever
    /// goes on with what he knows would go on alone, and end his sessions once more as soon as he looks.
    fn name(&self) -> [u8; 16];

    /// The keys that are there, in the order in which they were added.
    fn load(&self) -> Loading<'_>;

    /// Makes a change, and returns the keys that are there then. If others have added a key that the change
    /// does not know of, nothing is added. It fails if the place's clock and the node's are further apart than
    /// [`MAX_SKEW`].
    fn change(&self, change: Change) -> Loading<'_>;
}

pub(crate) type Loading<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<Arc<RingKey>>, ConfigError>> + Send + 'a>>;

/// What becomes of a ring.
pub(crate) struct Change {
    /// The last of the keys that it was decided by.
    pub(crate) after: Option<u8>,
    /// A further one.
    pub(crate) next: Option<Arc<RingKey>>,
    /// Those whose time is over.
    pub(crate) past: Vec<u8>,
    /// Now, in seconds since 1970.
    pub(crate) now: u64,
    /// Random bytes, for whatever must be unlike what others make.
    pub(crate) random: [u8; 16],
}

/// What has to be done before anything is sealed or opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    /// It can wait, for it can fail.
    Soon,
    Now,
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
        Self::new(Vec::new(), Place::Own(None))
    }

    /// A ring kept in a file that only its owner may read, for one node. The file is made when the verifier
    /// is built.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if the file is there and cannot be read.
    pub fn in_file(path: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        let path = path.into();
        let keys = match fs::read(&path) {
            Ok(bytes) => parse(&Zeroizing::new(bytes)).ok_or_else(|| not_a("a ring")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let keys = keys.map_err(ConfigError::of_file(&path))?;
        Ok(Self::new(keys, Place::Own(Some(path))))
    }

    /// A ring kept in a folder that several nodes share, one file a key. Its file system must have hard links,
    /// and the clocks of the nodes and of the file system may be half a minute apart. Only the owner may read
    /// the files: all nodes run under one user.
    ///
    /// Whichever node comes first makes the next key, five minutes before it seals. The nodes must share their
    /// store, too: see [`RedisStore`](crate::store).
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if the folder cannot be made, or holds what is no key.
    pub fn in_folder(path: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        let folder = Folder::open(path.into())?;
        let (name, keys) = (folder.name(), folder.read()?);
        Ok(Self::shared(Box::new(folder), name, keys))
    }

    /// One with these keys, which were there when the place was called so.
    pub(crate) fn shared(
        place: Box<dyn SharedPlace>,
        name: [u8; 16],
        keys: Vec<Arc<RingKey>>,
    ) -> Self {
        let shared = Shared {
            place,
            turn: Mutex::default(),
            looks: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            name: RwLock::new(name),
            has_past: AtomicBool::new(false),
        };
        Self::new(keys, Place::Shared(shared))
    }

    fn new(keys: Vec<Arc<RingKey>>, place: Place) -> Self {
        Self {
            keys: RwLock::new(keys),
            place,
            period: Self::DEFAULT_PERIOD,
        }
    }

    /// Sets how long a key seals before the next one takes over, in whole seconds. A day, by default.
    /// Nodes that share a ring have the same.
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

    /// Begins to keep a ring of one's own: erases what had its time before this process began, and sees to it
    /// that there is a key. One that is shared was looked at when it was made.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if that cannot be written.
    pub(crate) fn begin(
        &self,
        now: u64,
        keep: Duration,
        random: &dyn Random,
    ) -> Result<(), ConfigError> {
        match &self.place {
            Place::Own(path) => self.change_own(path.as_deref(), now, keep, random),
            Place::Shared(_) => Ok(()),
        }
    }

    /// Sees to it that there is a key that seals now, and that what has had its time is erased.
    ///
    /// `keep` is how long anything that a key sealed can be valid.
    pub(crate) async fn keep_up(
        &self,
        now: u64,
        keep: Duration,
        random: &dyn Random,
    ) -> Result<(), RingError> {
        let due = self.due(now, keep)?;
        if due == Due::Nothing {
            return Ok(());
        }
        let shared = match &self.place {
            Place::Own(path) => {
                return Ok(self.change_own(path.as_deref(), now, keep, random)?);
            }
            Place::Shared(shared) => shared,
        };
        if due == Due::Soon {
            // Others need not wait for it, nor fail by it.
            let Ok(mut turn) = shared.turn.try_lock() else {
                return Ok(());
            };
            if now != shared.failed.load(Ordering::Relaxed) {
                let change = self.change_shared(shared, now, keep, random);
                let _ = shared.look(&mut turn, change).await;
            }
            return Ok(());
        }
        let before = shared.looks.load(Ordering::Acquire);
        let mut turn = shared.turn.lock().await;
        if self.due(now, keep)? != Due::Now {
            return Ok(());
        }
        shared.check(before, *turn)?;
        let change = self.change_shared(shared, now, keep, random);
        shared.look(&mut turn, change).await
    }

    /// Looks for a key that is not known here, where others may have added it.
    pub(crate) async fn catch_up(
        &self,
        id: u8,
        now: u64,
        keep: Duration,
        random: &dyn Random,
    ) -> Result<(), RingError> {
        let Place::Shared(shared) = &self.place else {
            return Ok(());
        };
        if self.by_id(id).is_some() {
            return Ok(());
        }
        let before = shared.looks.load(Ordering::Acquire);
        let mut turn = shared.turn.lock().await;
        if shared.check(before, *turn)? {
            return Ok(());
        }
        // And does what is due: others may look all the time.
        let change = self.change_shared(shared, now, keep, random);
        shared.look(&mut turn, change).await
    }

    /// The key that seals now.
    pub(crate) fn current(&self, now: u64) -> Result<Arc<RingKey>, RingError> {
        let keys = self.keys.read().map_err(|_| RingError)?;
        self.sealing(&keys, now).cloned().ok_or(RingError)
    }

    /// Drops all keys, if `is_due` still says so once nobody else looks at them. From one's own file they go
    /// with the next key, before anything is sealed again. Where they are shared they stay: it was this node's
    /// clock that was wrong.
    pub(crate) fn drop_all(&self, is_due: impl FnOnce() -> bool) {
        // Whoever panicked has left what there was before, and now nothing is left.
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if is_due() {
            keys.clear();
        }
    }

    /// From when on the newest key seals, in seconds since 1970; 0 if there is none, or if others may have
    /// made it.
    pub(crate) fn newest(&self) -> u64 {
        if matches!(self.place, Place::Shared(_)) {
            return 0;
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().map(|key| key.begins).max().unwrap_or_default()
    }

    pub(crate) fn by_id(&self, id: u8) -> Option<Arc<RingKey>> {
        let keys = self.keys.read().ok()?;
        keys.iter().rev().find(|key| key.id == id).cloned()
    }

    /// Whether others have it too.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.place, Place::Shared(_))
    }

    fn due(&self, now: u64, keep: Duration) -> Result<Due, RingError> {
        let keys = self.keys.read().map_err(|_| RingError)?;
        let has_past = keys.iter().any(|key| self.is_past(key, now, keep))
            || matches!(&self.place, Place::Shared(shared) if shared.has_past.load(Ordering::Relaxed));
        // Of what is shared, others may have erased it already; while the place is away, nobody can.
        let is_own = matches!(self.place, Place::Own(_));
        let is_other = match &self.place {
            Place::Own(_) => false,
            Place::Shared(shared) => shared.is_other()?,
        };
        Ok(
            if self.sealing(&keys, now).is_none() || (has_past && is_own) || is_other {
                Due::Now
            } else if has_past || self.wants_next(&keys, now) {
                Due::Soon
            } else {
                Due::Nothing
            },
        )
    }

    /// Takes out what is past and puts the next key in, in the file first: nothing is sealed with a key that a
    /// restart would lose.
    fn change_own(
        &self,
        path: Option<&Path>,
        now: u64,
        keep: Duration,
        random: &dyn Random,
    ) -> Result<(), ConfigError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have done it while this one waited.
        let Some(Change { next, past, .. }) = self.change(&keys, now, keep, random)? else {
            return Ok(());
        };
        let is_kept = |key: &&Arc<RingKey>| !past.contains(&key.id);
        let kept: Vec<_> = keys.iter().filter(is_kept).cloned().chain(next).collect();
        if let Some(path) = path {
            persist(path, &kept).map_err(ConfigError::of_file(path))?;
        }
        *keys = kept;
        Ok(())
    }

    /// The same where others do it, too. The caller has the turn.
    async fn change_shared(
        &self,
        shared: &Shared,
        now: u64,
        keep: Duration,
        random: &dyn Random,
    ) -> Result<(), RingError> {
        let name = shared.place.name();
        let changed = async {
            let found = shared.place.load().await?;
            match self.change(&found, now, keep, random)? {
                Some(change) => shared.place.change(change).await,
                None => Ok(found),
            }
        };
        match changed.await {
            Ok(found) => {
                self.adopt(found, now, keep)?;
                *shared.name.write().map_err(|_| RingError)? = name;
                Ok(())
            }
            Err(error) => {
                shared.failed.store(now, Ordering::Relaxed);
                Err(error.into())
            }
        }
    }

    /// Takes what is shared for what there is.
    fn adopt(&self, found: Vec<Arc<RingKey>>, now: u64, keep: Duration) -> Result<(), RingError> {
        let mut keys = self.keys.write().map_err(|_| RingError)?;
        let count = found.len();
        let found: Vec<_> = found
            .into_iter()
            .filter(|key| !self.is_past(key, now, keep))
            .collect();
        if let Place::Shared(shared) = &self.place {
            shared
                .has_past
                .store(found.len() < count, Ordering::Relaxed);
        }
        // The same object where it is the same key: by that it is known what has been made with it.
        *keys = found
            .into_iter()
            .map(|key| {
                keys.iter()
                    .find(|known| **known == key)
                    .cloned()
                    .unwrap_or(key)
            })
            .collect();
        Ok(())
    }

    /// What has to be changed, if anything has.
    fn change(
        &self,
        keys: &[Arc<RingKey>],
        now: u64,
        keep: Duration,
        random: &dyn Random,
    ) -> Result<Option<Change>, ConfigError> {
        let is_past = |key: &&Arc<RingKey>| self.is_past(key, now, keep);
        let past: Vec<_> = keys.iter().filter(is_past).map(|key| key.id).collect();
        let next = if self.sealing(keys, now).is_none() || self.wants_next(keys, now) {
            // Where one follows another there is no time between them.
            let begins = match keys.last() {
                Some(last) if self.is_fresh(last, now) => self.end(last),
                _ => now,
            };
            Some(Arc::new(RingKey::generate(keys, begins, random)?))
        } else {
            None
        };
        if next.is_none() && past.is_empty() {
            return Ok(None);
        }
        let mut bytes = [0; 16];
        random.fill(&mut bytes).map_err(|_| ConfigError::Random)?;
        Ok(Some(Change {
            after: keys.last().map(|key| key.id),
            next,
            past,
            now,
            random: bytes,
        }))
    }

    /// The key that seals now: the last of those that have begun.
    fn sealing<'a>(&self, keys: &'a [Arc<RingKey>], now: u64) -> Option<&'a Arc<RingKey>> {
        let has_begun = |key: &&Arc<RingKey>| key.begins <= now;
        let last = keys.iter().rev().find(has_begun).or(keys.last());
        last.filter(|key| self.is_fresh(key, now))
    }

    /// Whether the next key should be there already, for others to fetch it.
    fn wants_next(&self, keys: &[Arc<RingKey>], now: u64) -> bool {
        let ahead = match self.place {
            Place::Own(_) => Duration::ZERO,
            Place::Shared(_) => AHEAD.min(self.period / 2),
        };
        let is_due = |last: &Arc<RingKey>| self.end(last) <= now.saturating_add(ahead.as_secs());
        keys.last().is_none_or(is_due)
    }

    /// Whether nothing that the key sealed can be valid.
    fn is_past(&self, key: &RingKey, now: u64, keep: Duration) -> bool {
        let apart = match self.place {
            Place::Own(_) => 0,
            // The last ticket may have been sealed by one whose clock is behind, and this one's is ahead.
            Place::Shared(_) => 2 * MAX_SKEW,
        };
        let last = self.end(key).saturating_add(keep.as_secs());
        last.saturating_add(apart) <= now
    }

    fn is_fresh(&self, key: &RingKey, now: u64) -> bool {
        // One that is still to come was made while the clock was ahead, and would seal for too long.
        key.begins <= now.saturating_add(MAX_STEP_BACK.into()) && now < self.end(key)
    }

    /// When the key seals no longer.
    fn end(&self, key: &RingKey) -> u64 {
        key.begins.saturating_add(self.period.as_secs())
    }
}

impl Shared {
    /// Whether the place has another name than when it was last looked at.
    fn is_other(&self) -> Result<bool, RingError> {
        Ok(*self.name.read().map_err(|_| RingError)? != self.place.name())
    }

    /// Whether somebody has begun to look since `before`, and seen what there is: so any number of requests that
    /// want to know costs little. The caller has the turn.
    ///
    /// # Errors
    ///
    /// If he could not: nobody waits for each of the others to find that out.
    fn check(&self, before: u64, last: Look) -> Result<bool, RingError> {
        let has_begun = self.looks.load(Ordering::Acquire) != before;
        match last {
            Look::Failed if has_begun => Err(RingError),
            Look::Done => Ok(has_begun),
            _ => Ok(false),
        }
    }

    /// Looks, and notes what came of it for those who wait for their turn.
    async fn look(
        &self,
        last: &mut Look,
        look: impl Future<Output = Result<(), RingError>>,
    ) -> Result<(), RingError> {
        self.looks.fetch_add(1, Ordering::AcqRel);
        // Until it is done.
        *last = Look::GivenUp;
        let outcome = look.await;
        *last = if outcome.is_ok() {
            Look::Done
        } else {
            Look::Failed
        };
        outcome
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

/// No new key could be made or kept, or what others have made cannot be read. Nothing is sealed with a key
/// that a restart would lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingError;

/// Why it was is for whoever runs the server, and for nobody who asks it.
impl From<ConfigError> for RingError {
    fn from(error: ConfigError) -> Self {
        tracing::error!(
            target: "bulla::ring",
            error = &error as &dyn std::error::Error,
            "the ring could not be read or written"
        );
        Self
    }
}

#[cfg(test)]
mod tests {
    use bulla_keys::SystemRandom;

    use super::*;

    const KEEP: Duration = Duration::from_mins(15);
    const DAY: u64 = Ring::DEFAULT_PERIOD.as_secs();

    fn kept(path: &Path) -> Vec<u8> {
        let keys = parse(&fs::read(path).unwrap()).unwrap();
        keys.iter().map(|key| key.id).collect()
    }

    async fn current(ring: &Ring, now: u64) -> u8 {
        ring.keep_up(now, KEEP, &SystemRandom).await.unwrap();
        ring.current(now).unwrap().id
    }

    #[tokio::test]
    async fn a_past_key_is_erased_as_soon_as_nothing_that_it_sealed_is_valid() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring.json");
        let ring = Ring::in_file(&path).unwrap();
        let first = current(&ring, 0).await;
        assert_eq!(current(&ring, DAY - 1).await, first);
        // What the first one sealed a second ago is still valid.
        let second = current(&ring, DAY).await;
        assert_ne!(second, first);
        assert_eq!(kept(&path), [first, second]);
        assert_eq!(current(&ring, DAY + 899).await, second);
        assert_eq!(kept(&path), [first, second]);
        assert_eq!(current(&ring, DAY + 900).await, second);
        assert_eq!(kept(&path), [second]);
        assert!(ring.by_id(first).is_none() && ring.by_id(second).is_some());
    }

    #[test]
    fn keys_whose_time_was_over_before_a_restart_are_erased_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring.json");
        let begin = |now| {
            let ring = Ring::in_file(&path).unwrap();
            ring.begin(now, KEEP, &SystemRandom).unwrap();
            kept(&path)
        };
        let first = begin(0);
        let both = begin(DAY + 899);
        assert_eq!((both.len(), both[0]), (2, first[0]));
        assert_eq!(begin(DAY + 900), both[1..]);
    }

    #[tokio::test]
    async fn keys_in_use_have_names_of_their_own() {
        let keep = Ring::MAX_PERIODS_KEPT * Duration::from_mins(1);
        let ring = Ring::ephemeral().with_period(Duration::from_mins(1));
        assert!(ring.has_names_for(keep) && !ring.has_names_for(keep + Duration::from_secs(1)));
        let mut names = std::collections::HashSet::new();
        for turn in 0..=Ring::MAX_PERIODS_KEPT {
            let now = u64::from(turn) * 60;
            ring.keep_up(now, keep, &SystemRandom).await.unwrap();
            names.insert(ring.current(now).unwrap().id);
        }
        assert_eq!(names.len(), ring.keys.read().unwrap().len());
        for period in [Duration::ZERO, Duration::from_secs(59), Duration::MAX] {
            let ring = Ring::ephemeral().with_period(period);
            assert!(!ring.has_names_for(Duration::ZERO), "{period:?}");
        }
    }
}

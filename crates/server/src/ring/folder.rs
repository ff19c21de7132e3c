//! A ring in a folder that several nodes share: one file a key, called by the order in which they came.

use std::fs::{self, DirBuilder};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, thread};

use bulla_protocol::base64;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::key::StoredKey;
use super::{Change, Loading, RingKey, SharedPlace};
use crate::clock::MAX_SKEW;
use crate::error::{ConfigError, not_a};
use crate::file;

const KEY: &str = "key";
/// What is not whole, or not in its place yet.
const PARTIAL: &str = "partial";
/// How old one must be for whoever wrote it to have given up.
const LEFT_BEHIND: Duration = Duration::from_mins(1);

#[derive(Clone)]
pub(super) struct Folder {
    path: PathBuf,
    /// Somebody is at it, who may have to wait for the file system for ever.
    is_busy: Arc<AtomicBool>,
    /// There was a key in it.
    had_keys: Arc<AtomicBool>,
}

/// A key, and where it stands.
struct Found {
    number: u64,
    path: PathBuf,
    key: Arc<RingKey>,
}

impl Folder {
    pub(super) fn open(path: PathBuf) -> Result<Self, ConfigError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).map_err(ConfigError::of_file(&path))?;
        Ok(Self {
            path,
            is_busy: Arc::default(),
            had_keys: Arc::default(),
        })
    }

    pub(super) fn read(&self) -> Result<Vec<Arc<RingKey>>, ConfigError> {
        Ok(self.find()?.into_iter().map(|found| found.key).collect())
    }

    fn find(&self) -> Result<Vec<Found>, ConfigError> {
        let mut found = Vec::new();
        for (number, path) in self.list().map_err(ConfigError::of_file(&self.path))? {
            let bytes = match fs::read(&path) {
                // Somebody has erased it since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read.map(Zeroizing::new),
            };
            let key = bytes.and_then(|bytes| {
                let stored: Option<StoredKey> = serde_json::from_slice(&bytes).ok();
                stored
                    .and_then(StoredKey::load)
                    .ok_or_else(|| not_a("a key of a ring"))
            });
            let key = key.map_err(ConfigError::of_file(&path))?;
            found.push(Found { number, path, key });
        }
        if found.is_empty() && self.had_keys.load(Ordering::Acquire) {
            // Most likely it is not mounted any more.
            return Err(ConfigError::of_file(&self.path)(not_a(
                "a folder of a ring, but empty",
            )));
        }
        self.had_keys.fetch_or(!found.is_empty(), Ordering::AcqRel);
        found.sort_unstable_by_key(|found| found.number);
        Ok(found)
    }

    /// The files of keys, and their numbers.
    fn list(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut list = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == KEY) {
                let number = path
                    .file_stem()
                    .and_then(|stem| stem.to_str()?.parse().ok());
                list.push((number.ok_or_else(|| not_a("a folder of a ring"))?, path));
            }
        }
        Ok(list)
    }

    fn make(&self, change: &Change) -> Result<Vec<Arc<RingKey>>, ConfigError> {
        let of_folder = ConfigError::of_file(&self.path);
        let found = self.find()?;
        let is_last = found.last().map(|found| found.key.id) == change.after;
        let next = change.next.as_ref().filter(|_| is_last);
        let number = match found.last() {
            Some(last) => last.number.checked_add(1),
            None => Some(0),
        };
        let number = number.ok_or_else(|| of_folder(not_a("a folder of a ring")))?;
        let name = base64::encode(change.random);
        self.add(number, next.map(|key| &**key), &name, change.now)
            .map_err(&of_folder)?;
        let past = found
            .iter()
            .filter(|found| change.past.contains(&found.key.id));
        for past in past {
            match fs::remove_file(&past.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ConfigError::of_file(&past.path)(error));
                }
                _ => {}
            }
        }
        file::sync(&self.path).map_err(&of_folder)?;
        self.read()
    }

    /// Puts a key in, unless another one has this number already. Without a key it only compares the clocks.
    /// Until then it is in a file of this name.
    fn add(&self, number: u64, key: Option<&RingKey>, name: &str, now: u64) -> io::Result<()> {
        let bytes = match key {
            Some(key) => Zeroizing::new(serde_json::to_vec(&StoredKey::from(key))?),
            None => Zeroizing::default(),
        };
        let partial = self.path.join(format!("{name}.{PARTIAL}"));
        let written = file::create_private(&partial, &bytes);
        let added = written.and_then(|file| {
            let time = file.metadata()?.modified()?;
            self.clean(time)?;
            let time = time
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs());
            if time.abs_diff(now) > MAX_SKEW {
                let apart = "the clock of its file system and this node's are apart";
                return Err(io::Error::other(apart));
            }
            if key.is_none() {
                return Ok(());
            }
            // Unlike a renaming, this replaces nothing.
            match fs::hard_link(&partial, self.path.join(format!("{number:010}.{KEY}"))) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                linked => linked,
            }
        });
        added.and(fs::remove_file(&partial))
    }

    /// Removes what others have left behind: it may hold a key whose time is over.
    fn clean(&self, now: SystemTime) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let is_old = || {
                let modified = fs::metadata(&path).ok()?.modified().ok()?;
                Some(now.duration_since(modified).ok()? > LEFT_BEHIND)
            };
            if path
                .extension()
                .is_some_and(|extension| extension == PARTIAL)
                && is_old() == Some(true)
            {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

/// While it is there, somebody is at the folder.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl SharedPlace for Folder {
    /// Always the same: it lasts, whatever becomes of the store.
    fn name(&self) -> [u8; 16] {
        [0; 16]
    }

    fn load(&self) -> Loading<'_> {
        self.elsewhere(Self::read)
    }

    fn change(&self, change: Change) -> Loading<'_> {
        self.elsewhere(move |folder| folder.make(&change))
    }
}

impl Folder {
    /// Does it in a thread, since a file system of others may let one wait.
    fn elsewhere(
        &self,
        work: impl FnOnce(&Self) -> Result<Vec<Arc<RingKey>>, ConfigError> + Send + 'static,
    ) -> Loading<'_> {
        let (done, wait) = oneshot::channel();
        let folder = self.clone();
        let begun = if self.is_busy.swap(true, Ordering::AcqRel) {
            // Whoever has asked before has gone, and his thread has not.
            Err(io::Error::other("its file system does not answer"))
        } else {
            let busy = Busy(Arc::clone(&self.is_busy));
            thread::Builder::new().spawn(move || {
                let found = work(&folder);
                drop(busy);
                // Whoever asked may have gone.
                let _ = done.send(found);
            })
        };
        Box::pin(async move {
            begun.map_err(ConfigError::of_file(&self.path))?;
            let gone = |_| io::Error::other("its thread has ended");
            wait.await
                .map_err(gone)
                .map_err(ConfigError::of_file(&self.path))?
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::atomic::AtomicUsize;

    use bulla_keys::SystemRandom;
    use futures_util::future::join_all;
    use tempfile::TempDir;

    use super::super::{AHEAD, Ring, RingError};
    use super::*;

    const KEEP: Duration = Duration::from_mins(15);
    const MINUTE: Duration = Duration::from_mins(1);

    fn now() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap().as_secs()
    }

    fn node(folder: &TempDir) -> Ring {
        Ring::in_folder(folder.path().join("ring")).unwrap()
    }

    async fn keep_up(ring: &Ring, now: u64) -> Result<u8, RingError> {
        ring.keep_up(now, KEEP, &SystemRandom).await?;
        Ok(ring.current(now)?.id)
    }

    fn files(folder: &TempDir) -> Vec<String> {
        let files = fs::read_dir(folder.path().join("ring")).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = files
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Puts a key there that began so long ago.
    fn add(folder: &TempDir, number: u64, id: u8, ago: Duration) {
        let key = RingKey::new(id, now() - ago.as_secs(), Zeroizing::new([id; 32]));
        let there = Folder::open(folder.path().join("ring")).unwrap();
        there.add(number, Some(&key), "test", now()).unwrap();
    }

    #[tokio::test]
    async fn nodes_that_begin_at_once_have_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = (0..8).map(|_| {
            let ring = node(&folder);
            tokio::spawn(async move {
                // Those who lose the race have what the winner has made.
                let id = keep_up(&ring, now()).await.unwrap();
                (id, ring)
            })
        });
        let mut ids = Vec::new();
        for node in nodes.collect::<Vec<_>>() {
            ids.push(node.await.unwrap().0);
        }
        assert_eq!(ids, [ids[0]; 8]);
        assert_eq!(files(&folder), ["0000000000.key"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let key = folder.path().join("ring/0000000000.key");
            let mode = fs::metadata(key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn the_next_key_is_there_before_it_seals() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (node(&folder), node(&folder));
        // It has a second less than those five minutes left.
        let ago = Ring::DEFAULT_PERIOD.saturating_sub(AHEAD) + Duration::from_secs(1);
        add(&folder, 0, 7, ago);
        assert_eq!(keep_up(&one, now()).await, Ok(7));
        let both = ["0000000000.key", "0000000001.key"];
        assert_eq!(files(&folder), both);
        let next = one.keys.read().unwrap()[1].clone();
        assert_eq!(next.begins, one.end(&one.by_id(7).unwrap()));
        // The other one has it before anybody uses it, and nobody needs the folder when it is time.
        assert_eq!(keep_up(&other, now()).await, Ok(7));
        assert!(*other.by_id(next.id).unwrap() == *next);
        fs::remove_dir_all(folder.path().join("ring")).unwrap();
        for ring in [&one, &other] {
            assert_eq!(keep_up(ring, next.begins).await, Ok(next.id));
        }
    }

    #[tokio::test]
    async fn a_key_that_is_not_known_is_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let ring = node(&folder);
        add(&folder, 0, 7, MINUTE);
        assert_eq!(keep_up(&ring, now()).await, Ok(7));
        add(&folder, 1, 8, Duration::ZERO);
        assert!(ring.by_id(8).is_none());
        ring.catch_up(8, now(), KEEP, &SystemRandom).await.unwrap();
        assert!(ring.by_id(8).is_some());
        // What is not there either is not there.
        ring.catch_up(9, now(), KEEP, &SystemRandom).await.unwrap();
        assert!(ring.by_id(9).is_none());
        fs::remove_dir_all(folder.path().join("ring")).unwrap();
        assert_eq!(ring.catch_up(7, now(), KEEP, &SystemRandom).await, Ok(()));
        assert_eq!(
            ring.catch_up(9, now(), KEEP, &SystemRandom).await,
            Err(RingError)
        );
    }

    /// A folder that is counted how often somebody looks into it.
    struct Counted(Folder, Arc<AtomicUsize>);

    impl SharedPlace for Counted {
        fn name(&self) -> [u8; 16] {
            [0; 16]
        }

        fn load(&self) -> Loading<'_> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Box::pin(async {
                // However fast the folder is, all have come by then.
                tokio::task::yield_now().await;
                self.0.load().await
            })
        }

        fn change(&self, change: Change) -> Loading<'_> {
            self.0.change(change)
        }
    }

    /// Whoever makes up tickets, and whoever comes while the folder is away.
    #[tokio::test]
    async fn many_who_look_at_once_look_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (there, looks) = (folder.path().join("ring"), Arc::<AtomicUsize>::default());
        let place = Counted(Folder::open(there.clone()).unwrap(), Arc::clone(&looks));
        let ring = Ring::shared(Box::new(place), [0; 16], Vec::new());
        let begin = join_all((0..100).map(|_| keep_up(&ring, now()))).await;
        assert!(begin.iter().all(Result::is_ok));
        assert_eq!(looks.swap(0, Ordering::Relaxed), 1);
        let known = begin[0].unwrap();
        let unknown = (0..100)
            .map(|id| ring.catch_up(known.wrapping_add(1 + id), now(), KEEP, &SystemRandom));
        assert!(join_all(unknown).await.iter().all(Result::is_ok));
        // The first, and one for all who came after it had begun.
        assert_eq!(looks.swap(0, Ordering::Relaxed), 2);
        let away = folder.path().join("away");
        fs::rename(&there, &away).unwrap();
        let unknown = (0..100)
            .map(|id| ring.catch_up(known.wrapping_add(1 + id), now(), KEEP, &SystemRandom));
        assert!(join_all(unknown).await.iter().all(Result::is_err));
        assert_eq!(looks.swap(0, Ordering::Relaxed), 2);
        let late = now() + 2 * Ring::DEFAULT_PERIOD.as_secs();
        let refused = join_all((0..100).map(|_| keep_up(&ring, late))).await;
        assert!(refused.iter().all(Result::is_err));
        assert_eq!(looks.swap(0, Ordering::Relaxed), 2);
        // What is empty is not the ring: its file system is not mounted, say.
        fs::create_dir(&there).unwrap();
        let unmounted = ring.catch_up(known.wrapping_add(1), now(), KEEP, &SystemRandom);
        assert_eq!(unmounted.await, Err(RingError));
        assert!(ring.by_id(known).is_some());
        fs::remove_dir(&there).unwrap();
        assert_eq!(looks.swap(0, Ordering::Relaxed), 1);
        // The next one tries anew.
        fs::rename(&away, &there).unwrap();
        ring.catch_up(known.wrapping_add(1), now(), KEEP, &SystemRandom)
            .await
            .unwrap();
        assert_eq!(looks.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_past_key_is_erased_for_all_and_opens_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let ring = node(&folder);
        let over = Ring::DEFAULT_PERIOD + KEEP + Duration::from_secs(2 * MAX_SKEW);
        add(&folder, 0, 6, over);
        add(&folder, 1, 7, over.saturating_sub(MINUTE));
        add(&folder, 2, 8, MINUTE);
        ring.catch_up(8, now(), KEEP, &SystemRandom).await.unwrap();
        assert!(ring.by_id(6).is_none() && ring.by_id(7).is_some());
        // Who knows it erases it.
        let other = node(&folder);
        assert_eq!(keep_up(&other, now()).await, Ok(8));
        assert_eq!(files(&folder), ["0000000001.key", "0000000002.key"]);
        assert!(other.by_id(6).is_none() && other.by_id(7).is_some());
    }

    #[tokio::test]
    async fn whose_clock_is_wrong_makes_no_key() {
        let folder = tempfile::tempdir().unwrap();
        for wrong in [now() + 2 * MAX_SKEW, now() - 2 * MAX_SKEW] {
            assert_eq!(keep_up(&node(&folder), wrong).await, Err(RingError));
            assert!(files(&folder).is_empty());
        }
        // Nor does he take one from the others, whatever he thinks of theirs.
        let right = keep_up(&node(&folder), now()).await.unwrap();
        let wrong = node(&folder);
        for days in [2, 400] {
            let ahead = now() + days * 24 * 3600;
            assert_eq!(keep_up(&wrong, ahead).await, Err(RingError));
            let behind = now() - days * 24 * 3600;
            assert_eq!(keep_up(&wrong, behind).await, Err(RingError));
        }
        assert_eq!(keep_up(&node(&folder), now()).await, Ok(right));
        // His sessions end, and those of the others go on.
        wrong.drop_all(|| true);
        assert!(wrong.by_id(right).is_none());
        assert_eq!(keep_up(&wrong, now()).await, Ok(right));
    }

    #[tokio::test]
    async fn whose_clock_is_wrong_erases_no_key() {
        let folder = tempfile::tempdir().unwrap();
        add(&folder, 0, 6, Ring::DEFAULT_PERIOD + KEEP);
        add(&folder, 1, 8, MINUTE);
        let ahead = now() + 3 * MAX_SKEW;
        // It can wait, and so it fails unheard.
        assert_eq!(keep_up(&node(&folder), ahead).await, Ok(8));
        let right = node(&folder);
        assert_eq!(keep_up(&right, now()).await, Ok(8));
        assert!(right.by_id(6).is_some());
        assert_eq!(files(&folder), ["0000000000.key", "0000000001.key"]);
    }

    /// Between a look and the change that it leads to.
    #[test]
    fn nothing_is_added_where_others_were_faster() {
        let folder = tempfile::tempdir().unwrap();
        let there = Folder::open(folder.path().join("ring")).unwrap();
        add(&folder, 0, 7, MINUTE);
        let change = |after| {
            let next = RingKey::new(8, now(), Zeroizing::new([8; 32]));
            let change = Change {
                after,
                next: Some(Arc::new(next)),
                past: Vec::new(),
                now: now(),
                random: [1; 16],
            };
            let kept = there.make(&change).unwrap();
            kept.iter().map(|key| key.id).collect::<Vec<_>>()
        };
        assert_eq!(change(None), [7]);
        assert_eq!(change(Some(6)), [7]);
        assert_eq!(change(Some(7)), [7, 8]);
    }

    #[tokio::test]
    async fn what_a_crash_has_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let ring = node(&folder);
        let place = |name: &str| folder.path().join("ring").join(name);
        let old = SystemTime::now() - 2 * LEFT_BEHIND;
        let left = File::create(place("left.partial")).unwrap();
        left.set_modified(old).unwrap();
        File::create(place("young.partial")).unwrap();
        // What is young may still be written.
        keep_up(&ring, now()).await.unwrap();
        assert_eq!(files(&folder), ["0000000000.key", "young.partial"]);
    }

    #[test]
    fn what_is_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        drop(node(&folder));
        for name in ["0000000000.key", "first.key"] {
            let path = folder.path().join("ring").join(name);
            fs::write(&path, "{}").unwrap();
            let refused = Ring::in_folder(folder.path().join("ring")).unwrap_err();
            assert!(matches!(refused, ConfigError::File { .. }), "{refused}");
            fs::remove_file(path).unwrap();
        }
        let refused = Ring::in_folder("/dev/null/ring").unwrap_err();
        assert!(refused.to_string().contains("/dev/null/ring"), "{refused}");
    }
}

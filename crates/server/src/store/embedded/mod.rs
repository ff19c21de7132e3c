//! The store of one node: revocations durable on disk, proofs in memory.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

use bulla_keys::{Random, SystemRandom};
use bulla_protocol::base64;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadableTable as _};

use self::disk::{Disk, NAME, REVOCATIONS, Stored, WRITTEN, Writing};
use super::{
    Ended, Ending, Memory, MemoryStore, Replacement, Revocation, SessionRef, Store, StoreError,
    StoreFuture, UsedProof, Verdict,
};
use crate::error::{ConfigError, not_a};
use crate::file;
use crate::registry::embedded::EmbeddedRegistry;

pub(crate) mod disk;

/// As much of the file is in memory at most, in bytes: what ends is read once, and lists are small.
const CACHE: usize = 64 << 20;

/// The store of one node. A restart revives nothing: revocations are on disk before they count as
/// done, and nonces of an earlier process are stale. If its file is lost, all sessions have ended; an old copy
/// of it that is put in its place revives those that ended since.
///
/// The disk has a thread of its own, so that no async runtime waits for it; what comes while it writes is
/// written together afterwards. To drop the store waits for what has begun.
pub struct EmbeddedStore {
    memory: MemoryStore,
    /// Held while memory and disk are told of something: in one order.
    order: Mutex<()>,
    disk: Arc<Disk>,
    /// When an earlier process last wrote to it.
    written: u64,
}

impl EmbeddedStore {
    /// Opens the store in this file, or makes it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if the file cannot be opened or read, for example because another process
    /// has it open.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::open_with(path, &SystemRandom)
    }

    /// As [`Self::open`]; what its memories are called is drawn from `random`.
    ///
    /// # Errors
    ///
    /// Besides, [`ConfigError::Random`] if it gives no random bytes.
    pub fn open_with(path: impl AsRef<Path>, random: &dyn Random) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let memory = MemoryStore::new_with(random)?;
        let database = || {
            file::make_folder(path)?;
            let file = file::open_private(path)?;
            let database = FileBackend::new(file)
                .and_then(|file| {
                    let mut database = Database::builder();
                    database.set_cache_size(CACHE).create_with_backend(file)
                })
                .map_err(|error| match error {
                    DatabaseError::DatabaseAlreadyOpen => {
                        io::Error::new(io::ErrorKind::WouldBlock, "another process has it open")
                    }
                    error => io::Error::other(error),
                })?;
            file::sync_folder(path)?;
            Ok(database)
        };
        database()
            .and_then(|database| Self::over(database, memory))
            .map_err(ConfigError::of_file(path))
    }

    fn over(database: Database, memory: MemoryStore) -> io::Result<Self> {
        let Found { written, name } = load(&database, &memory)
            .map_err(io::Error::other)?
            .ok_or_else(|| not_a("a store, or one of more than memory has room for"))?;
        Ok(Self {
            memory: memory.with_name(name),
            order: Mutex::default(),
            disk: Arc::new(Disk::new(database)?),
            written,
        })
    }

    /// The registry in the same file, for [`Builder::registry`](crate::Builder::registry). The file stays open for as long
    /// as either of them is there.
    pub fn registry(&self) -> EmbeddedRegistry {
        EmbeddedRegistry::new(Arc::clone(&self.disk))
    }

    /// As [`MemoryStore::with_capacity`].
    #[must_use]
    pub fn with_capacity(self, capacity: usize) -> Self {
        Self {
            memory: self.memory.with_capacity(capacity),
            ..self
        }
    }

    /// As [`MemoryStore::with_quota`].
    #[must_use]
    pub fn with_quota(self, quota: usize) -> Self {
        Self {
            memory: self.memory.with_quota(quota),
            ..self
        }
    }

    /// As [`MemoryStore::with_revocations`].
    #[must_use]
    pub fn with_revocations(self, capacity: usize) -> Self {
        Self {
            memory: self.memory.with_revocations(capacity),
            ..self
        }
    }
}

/// What a file has to say beside what has ended.
struct Found {
    /// When it was last written to.
    written: u64,
    /// What it is called.
    name: [u8; 16],
}

/// Fills the memory from the file. A new file gets the memory's own name. Nothing if it is not ours, or more
/// than fits.
fn load(database: &Database, memory: &MemoryStore) -> Result<Option<Found>, redb::Error> {
    let transaction = database.begin_write()?;
    let found = {
        let table = transaction.open_table(REVOCATIONS)?;
        for entry in table.iter()? {
            let (stored, until) = entry?;
            let stored: Option<Stored> = serde_json::from_str(stored.value()).ok();
            if stored
                .and_then(|stored| stored.load(until.value(), memory))
                .is_none()
            {
                return Ok(None);
            }
        }
        let written = transaction.open_table(WRITTEN)?;
        let written = written.get(())?.map_or(0, |written| written.value());
        let mut table = transaction.open_table(NAME)?;
        let known = table.get(())?.map(|name| name.value());
        let name = known.unwrap_or(memory.memory().revocations);
        table.insert((), name)?;
        Found { written, name }
    };
    transaction.commit()?;
    Ok(Some(found))
}

impl Store for EmbeddedStore {
    fn memory(&self) -> Memory {
        self.memory.memory()
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn check_and_insert(&self, used: UsedProof) -> StoreFuture<'_, Verdict> {
        self.memory.check_and_insert(used)
    }

    fn is_revoked(&self, session: SessionRef) -> StoreFuture<'_, bool> {
        self.memory.is_revoked(session)
    }

    fn revoke(&self, ended: Ended) -> StoreFuture<'_, Ending> {
        Box::pin(async move {
            let (ending, writing) = self.begin_revoking(&ended)?;
            for writing in writing {
                writing.done().await?;
            }
            Ok(ending)
        })
    }

    fn replace(&self, replacement: Replacement) -> StoreFuture<'_, Ending> {
        Box::pin(async move {
            let (ending, writing) = self.begin_replacing(&replacement)?;
            if let Some(writing) = writing {
                writing.done().await?;
            }
            Ok(ending)
        })
    }

    fn begin_anew(&self, next: Memory) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let writing = {
                let _order = self.order();
                self.memory.begin_anew_now(next)?;
                self.disk.begin_anew(next.revocations)?
            };
            writing.done().await
        })
    }
}

impl EmbeddedStore {
    fn order(&self) -> MutexGuard<'_, ()> {
        // Whoever panicked has told both of them, or neither.
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In memory first: should the disk fail, this process at least knows. All is on its way before anybody waits:
    /// whoever has asked may go.
    fn begin_revoking(&self, ended: &Ended) -> Result<(Ending, Vec<Writing>), StoreError> {
        let _order = self.order();
        let ending = self.memory.revoke_now(ended)?;
        let mut writing = Vec::new();
        if ending == Ending::OverQuota {
            return Ok((ending, writing));
        }
        let write = |revocation: &Revocation| {
            let stored = Stored::from(revocation);
            self.disk.write(&stored, ended.until, ended.now)
        };
        if let Ending::Replaced(place) = ending {
            writing.push(write(&Revocation::Session(place))?);
        }
        writing.push(write(&ended.revocation)?);
        Ok((ending, writing))
    }

    fn begin_replacing(
        &self,
        replacement: &Replacement,
    ) -> Result<(Ending, Option<Writing>), StoreError> {
        let _order = self.order();
        let ending = self.memory.replace_now(replacement)?;
        let Replacement {
            old,
            new,
            until,
            now,
            ..
        } = *replacement;
        // Also if it is not for the first time, for then the disk may have failed. What others have
        // written is left alone.
        if ending != Ending::Replaced(new) {
            return Ok((ending, None));
        }
        let stored = Stored::Replaced(base64::encode(old.0), base64::encode(new.0));
        Ok((ending, Some(self.disk.write(&stored, until, now)?)))
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use bulla_protocol::jwk::Thumbprint;
    use redb::backends::InMemoryBackend;
    use redb::{ReadableDatabase as _, ReadableTableMetadata as _, StorageBackend};

    use super::super::Party;
    use super::*;
    use crate::ticket::RevocationId;

    /// A disk, and what would be found on it after a power cut: all that was written before the last
    /// time that somebody waited for it.
    #[derive(Clone, Debug, Default)]
    struct PowerCut {
        written: Arc<InMemoryBackend>,
        kept: Arc<Mutex<Vec<u8>>>,
    }

    impl PowerCut {
        fn store(&self) -> EmbeddedStore {
            let database = Database::builder().create_with_backend(self.clone());
            EmbeddedStore::over(database.unwrap(), MemoryStore::new().unwrap()).unwrap()
        }

        /// The disk as it is found when the power is back.
        fn after(&self) -> Self {
            let kept = self.kept.lock().unwrap().clone();
            let after = Self::default();
            after.written.set_len(kept.len() as u64).unwrap();
            after.written.write(0, &kept).unwrap();
            after
        }
    }

    impl StorageBackend for PowerCut {
        fn len(&self) -> Result<u64, io::Error> {
            self.written.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
            self.written.read(offset, out)
        }

        fn set_len(&self, len: u64) -> Result<(), io::Error> {
            self.written.set_len(len)
        }

        fn sync_data(&self) -> Result<(), io::Error> {
            let mut all = vec![0; usize::try_from(self.written.len()?).unwrap()];
            self.written.read(0, &mut all)?;
            *self.kept.lock().unwrap() = all;
            Ok(())
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
            self.written.write(offset, data)
        }
    }

    fn ended(id: u8, now: u64) -> Ended {
        Ended {
            revocation: Revocation::Session(RevocationId([id; RevocationId::LEN])),
            until: now + 5000,
            now,
            by: Party::Stranger,
        }
    }

    fn session(id: u8, memory: Memory) -> SessionRef {
        SessionRef {
            session: RevocationId([id; RevocationId::LEN]),
            device: Thumbprint([0; 32]),
            subject: None,
            memory: memory.revocations,
        }
    }

    async fn has(store: &EmbeddedStore, id: u8) -> bool {
        let session = session(id, store.memory());
        store.is_revoked(session).await.unwrap()
    }

    fn on_disk(store: &EmbeddedStore) -> u64 {
        let transaction = store.disk.database.begin_read().unwrap();
        transaction.open_table(REVOCATIONS).unwrap().len().unwrap()
    }

    #[tokio::test]
    async fn what_is_over_leaves_the_disk_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let store = EmbeddedStore::open(&path).unwrap();
        for (id, now) in [(1, 1000), (2, 4000)] {
            assert_eq!(store.revoke(ended(id, now)).await, Ok(Ending::Done));
        }
        drop(store);
        let store = EmbeddedStore::open(&path).unwrap();
        assert_eq!((on_disk(&store), has(&store, 1).await), (2, true));
        // The first one's time is over.
        assert_eq!(store.revoke(ended(3, 6001)).await, Ok(Ending::Done));
        assert_eq!((on_disk(&store), has(&store, 1).await), (2, false));
        assert!(has(&store, 2).await && has(&store, 3).await);
        // Nor does what is refused get there.
        let store = store.with_revocations(0);
        assert_eq!(store.revoke(ended(4, 6001)).await, Err(StoreError));
        assert_eq!(on_disk(&store), 2);
    }

    #[tokio::test]
    async fn what_counts_as_done_outlives_a_power_cut() {
        let disk = PowerCut::default();
        let store = disk.store();
        let (old, new) = (RevocationId([2; 12]), RevocationId([3; 12]));
        let replacement = Replacement {
            old,
            new,
            until: 6000,
            now: 1000,
            by: Party::Stranger,
        };
        assert_eq!(store.revoke(ended(1, 1000)).await, Ok(Ending::Done));
        let after_one = disk.after().store();
        let replaced = store.replace(replacement).await;
        assert_eq!(replaced, Ok(Ending::Replaced(new)));
        // While the first one is still at work: nothing is written as it closes.
        let after_two = disk.after().store();
        assert!(has(&after_one, 1).await && !has(&after_one, 2).await);
        assert!(has(&after_two, 1).await && has(&after_two, 2).await);
        // Tickets know it by the same name; proofs do not.
        let (before, after) = (store.memory(), after_two.memory());
        assert_eq!(before.revocations, after.revocations);
        assert_ne!(before.proofs, after.proofs);
        assert_ne!(
            before.revocations,
            PowerCut::default().store().memory().revocations
        );
    }

    #[tokio::test]
    async fn so_does_a_login_that_is_recent_no_more() {
        let disk = PowerCut::default();
        let store = disk.store();
        let subject = "ann".parse().unwrap();
        let again = Ended {
            revocation: Revocation::RecentLogin(subject, 50),
            ..ended(1, 1000)
        };
        assert_eq!(store.revoke(again).await, Ok(Ending::Done));
        let after = disk.after().store();
        for (login, expected) in [(50, Verdict::StepUp), (51, Verdict::Fresh)] {
            let used = UsedProof {
                proof: [u8::try_from(login).unwrap(); 16],
                memory: after.memory().proofs,
                until: 1100,
                now: 1000,
                confirmed: true,
                session: SessionRef {
                    subject: Some((subject, login)),
                    ..session(1, after.memory())
                },
            };
            assert_eq!(after.check_and_insert(used).await, Ok(expected));
        }
    }

    #[tokio::test]
    async fn so_does_the_end_of_all() {
        let disk = PowerCut::default();
        let store = disk.store();
        let before = store.memory();
        assert_eq!(store.revoke(ended(1, 1000)).await, Ok(Ending::Done));
        let next = Memory::begin(&SystemRandom).unwrap();
        assert_eq!(store.begin_anew(next).await, Ok(()));
        let after = disk.after().store();
        for store in [&store, &after] {
            assert_eq!(store.memory().revocations, next.revocations);
            assert_eq!((on_disk(store), has(store, 1).await), (0, false));
            let old = store.is_revoked(session(2, before)).await;
            assert_eq!(old, Ok(true));
        }
        // What ends after it is written beside its name.
        assert_eq!(store.revoke(ended(3, 2000)).await, Ok(Ending::Done));
        assert!(has(&disk.after().store(), 3).await);
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let open = || EmbeddedStore::open(&path).err();
        let kept = EmbeddedStore::open(&path).unwrap();
        let mut refusals = vec![open()];
        drop(kept);
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(REVOCATIONS).unwrap();
        table.insert("something else", 1).unwrap();
        drop(table);
        transaction.commit().unwrap();
        drop(database);
        refusals.push(open());
        std::fs::write(&path, "no database").unwrap();
        refusals.push(open());
        let whys = ["another process has it open", "it is not a store", ""];
        for (refused, why) in refusals.into_iter().zip(whys) {
            let said = format!("{:?}", refused.as_ref().unwrap());
            assert!(said.contains(why), "{said}");
            assert!(matches!(refused, Some(ConfigError::File { path: of, .. }) if of == path));
        }
    }

    /// It tells who is logged in.
    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        drop(EmbeddedStore::open(&path).unwrap());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// Of what has been asked for twice.
    #[tokio::test]
    async fn the_later_of_two_ends_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        for now in [4000, 1000] {
            let store = EmbeddedStore::open(&path).unwrap();
            assert_eq!(store.revoke(ended(1, now)).await, Ok(Ending::Done));
        }
        let store = EmbeddedStore::open(&path).unwrap();
        let transaction = store.disk.database.begin_read().unwrap();
        let table = transaction.open_table(REVOCATIONS).unwrap();
        let (_, until) = table.first().unwrap().unwrap();
        assert_eq!(until.value(), 9000);
    }

    #[tokio::test]
    async fn a_place_that_was_taken_stays_taken_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let id = |id| RevocationId([id; RevocationId::LEN]);
        let replacement = |old, new| Replacement {
            old: id(old),
            new: id(new),
            until: 6000,
            now: 1000,
            by: Party::Stranger,
        };
        let store = EmbeddedStore::open(&path).unwrap();
        // In this order the second is read back first.
        for (old, new) in [(9, 1), (1, 5)] {
            let taken = store.replace(replacement(old, new)).await;
            assert_eq!(taken, Ok(Ending::Replaced(id(new))));
        }
        drop(store);
        let store = EmbeddedStore::open(&path).unwrap();
        assert!(has(&store, 9).await && has(&store, 1).await && !has(&store, 5).await);
        let late = store.replace(replacement(9, 7)).await;
        assert_eq!(late, Ok(Ending::Replaced(id(5))));
        let ending = store.revoke(ended(9, 1000)).await;
        assert_eq!(ending, Ok(Ending::Replaced(id(5))));
        drop(store);
        let store = EmbeddedStore::open(&path).unwrap();
        assert!(has(&store, 5).await);
    }

    #[tokio::test]
    async fn nobody_else_waits_while_the_disk_is_busy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let store = EmbeddedStore::open(&path).unwrap();
        let busy = store.disk.database.begin_write().unwrap();
        let mut first = store.revoke(ended(1, 1000));
        let mut second = store.revoke(ended(2, 1000));
        // On this thread, which is the runtime's only one.
        poll_fn(|cx| {
            assert!(first.as_mut().poll(cx).is_pending());
            assert!(second.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        busy.abort().unwrap();
        assert_eq!(
            (first.await, second.await),
            (Ok(Ending::Done), Ok(Ending::Done))
        );

        // Nobody waits for this one, but it has been asked for.
        let mut third = store.revoke(ended(3, 1000));
        poll_fn(|cx| Poll::Ready(third.as_mut().poll(cx).is_pending())).await;
        drop(third);
        drop(store);
        // The file is free at once, and all is in it.
        let store = EmbeddedStore::open(&path).unwrap();
        for id in 1..=3 {
            assert!(has(&store, id).await, "{id}");
        }
    }
}

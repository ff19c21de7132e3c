//! The store of one node: revocations durable on disk, proofs in memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::{io, iter};

use bulla_protocol::base64;
use redb::{Database, Durability, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    MemoryStore, Revocation, SessionRef, Store, StoreError, StoreFuture, UsedProof, Verdict,
};
use crate::error::ConfigError;
use crate::ticket::RevocationId;

/// Revocation, as JSON, to the second since 1970 until which it counts.
const REVOCATIONS: TableDefinition<'_, &str, u64> = TableDefinition::new("revocations");

/// The store of one node. A restart revives nothing: revocations are on disk before they count as
/// done, and nonces of an earlier process are stale.
///
/// The disk has a thread of its own, so that no async runtime waits for it; what comes while it writes is
/// written together afterwards. To drop the store waits for what has begun.
pub struct EmbeddedStore {
    memory: MemoryStore,
    disk: Disk,
}

impl EmbeddedStore {
    /// Opens the store in this file, or makes it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Store`] if the file cannot be opened or read, for example because another process
    /// has it open.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        const FAILED: ConfigError = ConfigError::Store;
        if let Some(parent) = path.as_ref().parent() {
            std::fs::create_dir_all(parent).map_err(|_| FAILED)?;
        }
        let database = Database::create(path).map_err(|_| FAILED)?;
        let memory = MemoryStore::new()?;
        load(&database, &memory).ok_or(FAILED)?;
        let disk = Disk::new(Arc::new(database)).map_err(|_| FAILED)?;
        Ok(Self { memory, disk })
    }

    /// Drops revocations from disk that nothing valid can be concerned by any more. Nobody else does it:
    /// call it before the store is handed to the builder.
    ///
    /// `now` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the disk fails; nothing is lost then.
    pub fn compact(&self, now: u64) -> Result<(), StoreError> {
        let transaction = self.disk.database.begin_write().map_err(|_| StoreError)?;
        {
            let mut table = transaction
                .open_table(REVOCATIONS)
                .map_err(|_| StoreError)?;
            table
                .retain(|_, until| until >= now)
                .map_err(|_| StoreError)?;
        }
        transaction.commit().map_err(|_| StoreError)
    }
}

fn load(database: &Database, memory: &MemoryStore) -> Option<()> {
    let transaction = database.begin_write().ok()?;
    {
        let table = transaction.open_table(REVOCATIONS).ok()?;
        for entry in table.iter().ok()? {
            let (revocation, until) = entry.ok()?;
            let stored: Stored = serde_json::from_str(revocation.value()).ok()?;
            memory
                .revoke_now(stored.into_revocation()?, until.value())
                .ok()?;
        }
    }
    transaction.commit().ok()
}

impl Store for EmbeddedStore {
    fn domain(&self) -> [u8; 16] {
        self.memory.domain()
    }

    fn outlives_process(&self) -> bool {
        true
    }

    fn check_and_insert(&self, used: UsedProof) -> StoreFuture<'_, Verdict> {
        self.memory.check_and_insert(used)
    }

    fn is_revoked(&self, session: SessionRef) -> StoreFuture<'_, bool> {
        self.memory.is_revoked(session)
    }

    fn revoke(&self, revocation: Revocation, until: u64) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            // In memory first: should the disk fail, this process at least knows.
            self.memory.revoke_now(revocation.clone(), until)?;
            self.disk.write(&revocation, until).await
        })
    }
}

/// The thread that writes.
struct Disk {
    database: Arc<Database>,
    /// `None` once it is to end.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

struct Job {
    key: String,
    until: u64,
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl Disk {
    fn new(database: Arc<Database>) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let written = Arc::clone(&database);
        let work = move || {
            while let Ok(first) = waiting.recv() {
                let jobs: Vec<_> = iter::once(first).chain(waiting.try_iter()).collect();
                let outcome = persist(&written, &jobs).map_err(|_| StoreError);
                for job in jobs {
                    // Who has asked may have gone; it is written all the same.
                    let _ = job.done.send(outcome);
                }
            }
        };
        let thread = thread::Builder::new().name("bulla-store".into());
        Ok(Self {
            database,
            jobs: Some(jobs),
            thread: Some(thread.spawn(work)?),
        })
    }

    async fn write(&self, revocation: &Revocation, until: u64) -> Result<(), StoreError> {
        let key = serde_json::to_string(&Stored::from(revocation)).map_err(|_| StoreError)?;
        let (done, outcome) = oneshot::channel();
        let job = Job { key, until, done };
        let jobs = self.jobs.as_ref().ok_or(StoreError)?;
        jobs.send(job).map_err(|_| StoreError)?;
        outcome.await.map_err(|_| StoreError)?
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            // If it has panicked, everybody who waited for it knows.
            let _ = thread.join();
        }
    }
}

/// All of them, or none.
fn persist(database: &Database, jobs: &[Job]) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut table = transaction.open_table(REVOCATIONS)?;
        for Job { key, until, .. } in jobs {
            let known = table.get(key.as_str())?.map_or(0, |known| known.value());
            table.insert(key.as_str(), known.max(*until))?;
        }
    }
    Ok(transaction.commit()?)
}

#[derive(Serialize, Deserialize)]
enum Stored {
    Session(String),
    Subject(String, u32),
    Device(String),
}

impl Stored {
    fn into_revocation(self) -> Option<Revocation> {
        Some(match self {
            Self::Session(id) => Revocation::Session(RevocationId(base64::decode_array(id)?)),
            Self::Subject(subject, login) => Revocation::Subject(subject.parse().ok()?, login),
            Self::Device(device) => Revocation::Device(device.parse().ok()?),
        })
    }
}

impl From<&Revocation> for Stored {
    fn from(revocation: &Revocation) -> Self {
        match revocation {
            Revocation::Session(id) => Self::Session(base64::encode(id.0)),
            Revocation::Subject(subject, login) => Self::Subject(subject.to_string(), *login),
            Revocation::Device(device) => Self::Device(device.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use bulla_protocol::jwk::Thumbprint;

    use super::*;

    fn session(id: u8) -> Revocation {
        Revocation::Session(RevocationId([id; RevocationId::LEN]))
    }

    #[tokio::test]
    async fn nobody_else_waits_while_the_disk_is_busy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let store = EmbeddedStore::open(&path).unwrap();
        let busy = store.disk.database.begin_write().unwrap();
        let mut first = store.revoke(session(1), 5000);
        let mut second = store.revoke(session(2), 5000);
        // On this thread, which is the runtime's only one.
        poll_fn(|cx| {
            assert!(first.as_mut().poll(cx).is_pending());
            assert!(second.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        busy.abort().unwrap();
        assert_eq!((first.await, second.await), (Ok(()), Ok(())));

        // Nobody waits for this one, but it has been asked for.
        let mut third = store.revoke(session(3), 5000);
        poll_fn(|cx| Poll::Ready(third.as_mut().poll(cx).is_pending())).await;
        drop(third);
        drop(store);
        // The file is free at once, and all is in it.
        let store = EmbeddedStore::open(&path).unwrap();
        for id in 1..=3 {
            let session = SessionRef {
                session: RevocationId([id; RevocationId::LEN]),
                device: Thumbprint([0; 32]),
                subject: None,
            };
            assert_eq!(store.is_revoked(session).await, Ok(true), "{id}");
        }
    }
}

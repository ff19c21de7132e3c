//! A registry of one node, on disk.

use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::{fmt, io};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use tokio::sync::oneshot;

use super::{Record, Registry, Swap};
use crate::error::ConfigError;
use crate::file;
use crate::store::{StoreError, StoreFuture};
use crate::subject::Subject;

/// By user: the version, what is kept, and until when, in seconds since 1970.
const RECORDS: TableDefinition<'_, &str, (u64, &[u8], u64)> = TableDefinition::new("records");

/// How often what is over is looked for on disk, in seconds: it takes reading all of it.
const SWEEP: u64 = 24 * 3600;

/// The registry of one node: lists survive a restart.
///
/// The disk has a thread of its own, so that no async runtime waits for it. To drop the registry waits for what
/// has begun.
pub struct EmbeddedRegistry {
    /// `None` once it is to end.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

enum Job {
    Load(Subject, oneshot::Sender<Result<Option<Record>, StoreError>>),
    Swap(Box<Swap>, oneshot::Sender<Result<bool, StoreError>>),
}

impl EmbeddedRegistry {
    /// Opens the registry in this file, or makes it. The store has another one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if the file cannot be opened or read, for example because another process has it open.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let open = || {
            file::make_folder(path)?;
            let database = Database::create(path).map_err(io::Error::other)?;
            let make = || -> Result<(), redb::Error> {
                let transaction = database.begin_write()?;
                transaction.open_table(RECORDS)?;
                transaction.commit()?;
                Ok(())
            };
            make().map_err(io::Error::other)?;
            file::sync_folder(path)?;
            let (jobs, waiting) = mpsc::channel();
            let thread = thread::Builder::new().name("bulla-registry".into());
            let thread = thread.spawn(move || {
                let mut swept = 0;
                while let Ok(job) = waiting.recv() {
                    work(&database, job, &mut swept);
                }
            })?;
            Ok(Self {
                jobs: Some(jobs),
                thread: Some(thread),
            })
        };
        open().map_err(ConfigError::of_file(path))
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(StoreError)?;
        jobs.send(job(answer)).map_err(|_| StoreError)?;
        answered.await.map_err(|_| StoreError)?
    }
}

impl Registry for EmbeddedRegistry {
    fn load(&self, subject: Subject) -> StoreFuture<'_, Option<Record>> {
        Box::pin(self.ask(move |answer| Job::Load(subject, answer)))
    }

    fn swap(&self, swap: Swap) -> StoreFuture<'_, bool> {
        Box::pin(self.ask(move |answer| Job::Swap(Box::new(swap), answer)))
    }
}

impl Drop for EmbeddedRegistry {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            // If it has panicked, everybody who waited for it knows.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for EmbeddedRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedRegistry").finish_non_exhaustive()
    }
}

fn work(database: &Database, job: Job, swept: &mut u64) {
    // Who has asked may have gone.
    match job {
        Job::Load(subject, answer) => {
            let _ = answer.send(load(database, &subject).map_err(|error| report(&error)));
        }
        Job::Swap(next, answer) => {
            let _ = answer.send(swap(database, &next, swept).map_err(|error| report(&error)));
        }
    }
}

fn report(error: &redb::Error) -> StoreError {
    tracing::error!(
        target: "bulla::registry",
        error = error as &dyn std::error::Error,
        "the list of sessions could not be read or written"
    );
    StoreError
}

fn load(database: &Database, subject: &Subject) -> Result<Option<Record>, redb::Error> {
    let table = database.begin_read()?.open_table(RECORDS)?;
    let record = table.get(subject.as_str())?;
    Ok(record.map(|record| {
        let (version, content, _) = record.value();
        Record {
            version,
            content: content.to_vec(),
        }
    }))
}

fn swap(database: &Database, swap: &Swap, swept: &mut u64) -> Result<bool, redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        let subject = swap.subject.as_str();
        let known = table.get(subject)?.map(|record| record.value().0);
        if known != swap.known {
            return Ok(false);
        }
        let Record { version, content } = &swap.next;
        table.insert(subject, (*version, content.as_slice(), swap.until))?;
        if swap.now.abs_diff(*swept) >= SWEEP {
            table.retain(|_, (_, _, until)| until >= swap.now)?;
            *swept = swap.now;
        }
    }
    transaction.commit()?;
    Ok(true)
}

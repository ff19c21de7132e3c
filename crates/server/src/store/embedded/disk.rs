//! The file, and the thread that writes it.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::{io, iter};

use bulla_protocol::base64;
use redb::{Database, Durability, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::super::{Ended, MemoryStore, Party, Replacement, Revocation, StoreError};
use crate::registry::{Swap, Swapped, embedded};
use crate::subject::Subject;
use crate::ticket::RevocationId;

/// What has ended, as JSON, to the second since 1970 until which it counts.
pub(super) const REVOCATIONS: TableDefinition<'_, &str, u64> = TableDefinition::new("revocations");

/// When it was last written to, in seconds since 1970, under no name.
pub(super) const WRITTEN: TableDefinition<'_, (), u64> = TableDefinition::new("written");

/// What its memory of revocations is called, under no name.
pub(super) const NAME: TableDefinition<'_, (), [u8; 16]> = TableDefinition::new("name");

/// How often what is over is looked for on disk, in seconds: it takes reading all of it.
const SWEEP: u64 = 3600;

/// The thread that writes, and reads what is not in memory.
pub(crate) struct Disk {
    /// To look at what has been written.
    #[cfg(test)]
    pub(super) database: Arc<Database>,
    /// `None` once it is to end.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

enum Job {
    Change(Change, Answer<Swapped>),
    Look(Subject, Answer<Option<Vec<u8>>>),
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

enum Change {
    /// Something has ended.
    Ended { key: String, until: u64, now: u64 },
    /// All that has ended before is forgotten, under this name.
    Anew([u8; 16]),
    /// A user's record.
    Swap(Swap),
}

impl Disk {
    pub(super) fn new(database: Database) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let database = Arc::new(database);
        let written = Arc::clone(&database);
        let mut swept = 0;
        let work = move || {
            while let Ok(first) = waiting.recv() {
                let mut changes = Vec::new();
                let mut answers = Vec::new();
                for job in iter::once(first).chain(waiting.try_iter()) {
                    match job {
                        Job::Change(change, answer) => {
                            changes.push(change);
                            answers.push(answer);
                        }
                        Job::Look(subject, answer) => {
                            let record =
                                embedded::look(&written, subject).map_err(|error| failed(&error));
                            // Who has asked may have gone.
                            let _ = answer.send(record);
                        }
                    }
                }
                if changes.is_empty() {
                    continue;
                }
                match persist(&written, &changes, &mut swept).map_err(|error| failed(&error)) {
                    // Who has asked may have gone; it is written all the same.
                    Ok(done) => {
                        for (answer, done) in answers.into_iter().zip(done) {
                            let _ = answer.send(Ok(done));
                        }
                    }
                    Err(StoreError) => {
                        for answer in answers {
                            let _ = answer.send(Err(StoreError));
                        }
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("bulla-store".into());
        Ok(Self {
            #[cfg(test)]
            database,
            jobs: Some(jobs),
            thread: Some(thread.spawn(work)?),
        })
    }

    /// Has it written, whether or not anybody waits for that.
    pub(super) fn write(
        &self,
        stored: &Stored,
        until: u64,
        now: u64,
    ) -> Result<Writing, StoreError> {
        let key = serde_json::to_string(stored).map_err(|_| StoreError)?;
        self.change(Change::Ended { key, until, now })
    }

    pub(super) fn begin_anew(&self, name: [u8; 16]) -> Result<Writing, StoreError> {
        self.change(Change::Anew(name))
    }

    fn change(&self, change: Change) -> Result<Writing, StoreError> {
        let (answer, outcome) = oneshot::channel();
        self.send(Job::Change(change, answer))?;
        Ok(Writing(outcome))
    }

    /// Puts a user's record in the place of another.
    pub(crate) async fn swap(&self, swap: Swap) -> Result<Swapped, StoreError> {
        let Writing(outcome) = self.change(Change::Swap(swap))?;
        outcome.await.map_err(|_| StoreError)?
    }

    /// A user's record.
    pub(crate) async fn look(&self, subject: Subject) -> Result<Option<Vec<u8>>, StoreError> {
        let (answer, outcome) = oneshot::channel();
        self.send(Job::Look(subject, answer))?;
        outcome.await.map_err(|_| StoreError)?
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        let jobs = self.jobs.as_ref().ok_or(StoreError)?;
        jobs.send(job).map_err(|_| StoreError)
    }
}

fn failed(error: &redb::Error) -> StoreError {
    let error = error as &dyn std::error::Error;
    tracing::error!(target: "bulla::store", error, "the disk does not do it");
    StoreError
}

/// Something on its way to the disk.
pub(super) struct Writing(oneshot::Receiver<Result<Swapped, StoreError>>);

impl Writing {
    pub(super) async fn done(self) -> Result<(), StoreError> {
        self.0.await.map_err(|_| StoreError)?.map(drop)
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

/// All of them, or none. Once in a while what is over goes.
fn persist(
    database: &Database,
    changes: &[Change],
    swept: &mut u64,
) -> Result<Vec<Swapped>, redb::Error> {
    let now = changes.iter().filter_map(|change| match change {
        Change::Ended { now, .. } | Change::Swap(Swap { now, .. }) => Some(*now),
        Change::Anew(_) => None,
    });
    let now = now.max().unwrap_or_default();
    let is_due = now.abs_diff(*swept) >= SWEEP;
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let mut done = Vec::with_capacity(changes.len());
    {
        let mut table = transaction.open_table(REVOCATIONS)?;
        for change in changes {
            let mut swapped = Swapped::Done;
            match change {
                Change::Ended { key, until, .. } => {
                    let known = table.get(key.as_str())?.map_or(0, |known| known.value());
                    table.insert(key.as_str(), known.max(*until))?;
                }
                Change::Anew(name) => {
                    // A device that is locked out stays so.
                    let is_device =
                        |key: &str| matches!(serde_json::from_str(key), Ok(Stored::Device(_)));
                    table.retain(|key, _| is_device(key))?;
                    transaction.open_table(NAME)?.insert((), name)?;
                }
                Change::Swap(swap) => swapped = embedded::swap(&transaction, swap)?,
            }
            done.push(swapped);
        }
        if now > 0 {
            if is_due {
                table.retain(|_, until| until >= now)?;
                embedded::sweep(&transaction, now)?;
            }
            // Not the latest ever: once the clock has been put right, the verifier has done what there is to do.
            transaction.open_table(WRITTEN)?.insert((), now)?;
        }
    }
    transaction.commit()?;
    if is_due && now > 0 {
        *swept = now;
    }
    Ok(done)
}

#[derive(Serialize, Deserialize)]
/// What has ended, as it is written.
pub(super) enum Stored {
    Session(String),
    Subject(String, u32),
    Device(String),
    RecentLogin(String, u32),
    /// The first session, by the second.
    Replaced(String, String),
}

impl Stored {
    /// Who has asked for it is not on disk: it takes nobody's part, and must not be left out.
    pub(super) fn load(self, until: u64, memory: &MemoryStore) -> Option<()> {
        const BY: Party = Party::Application;
        const NOW: u64 = 0;
        let session = |id: String| Some(RevocationId(base64::decode_array(id)?));
        let revocation = match self {
            Self::Session(id) => Revocation::Session(session(id)?),
            Self::Subject(subject, login) => Revocation::Subject(subject.parse().ok()?, login),
            Self::Device(device) => Revocation::Device(device.parse().ok()?),
            Self::RecentLogin(subject, login) => {
                Revocation::RecentLogin(subject.parse().ok()?, login)
            }
            Self::Replaced(old, new) => {
                let replacement = Replacement {
                    old: session(old)?,
                    new: session(new)?,
                    until,
                    now: NOW,
                    by: BY,
                };
                return memory.replace_now(&replacement).ok().map(drop);
            }
        };
        let ended = Ended {
            revocation,
            until,
            now: NOW,
            by: BY,
        };
        memory.revoke_now(&ended).ok().map(drop)
    }
}

impl From<&Revocation> for Stored {
    fn from(revocation: &Revocation) -> Self {
        match revocation {
            Revocation::Session(id) => Self::Session(base64::encode(id.0)),
            Revocation::Subject(subject, login) => Self::Subject(subject.to_string(), *login),
            Revocation::Device(device) => Self::Device(device.to_string()),
            Revocation::RecentLogin(subject, login) => {
                Self::RecentLogin(subject.to_string(), *login)
            }
        }
    }
}

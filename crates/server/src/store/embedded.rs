//! The store of one node: revocations durable on disk, proofs in memory.

use std::path::Path;

use bulla_protocol::base64;
use redb::{Database, Durability, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::{
    MemoryStore, Revocation, SessionRef, Store, StoreError, StoreFuture, UsedProof, Verdict,
};
use crate::error::ConfigError;
use crate::ticket::RevocationId;

/// Revocation, as JSON, to the second since 1970 until which it counts.
const REVOCATIONS: TableDefinition<'_, &str, u64> = TableDefinition::new("revocations");

/// The store of one node. A restart revives nothing: revocations are on disk before they count as
/// done, and nonces of an earlier process are stale.
pub struct EmbeddedStore {
    memory: MemoryStore,
    database: Database,
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
        let transaction = database.begin_write().map_err(|_| FAILED)?;
        {
            let table = transaction.open_table(REVOCATIONS).map_err(|_| FAILED)?;
            for entry in table.iter().map_err(|_| FAILED)? {
                let (revocation, until) = entry.map_err(|_| FAILED)?;
                let stored: Stored =
                    serde_json::from_str(revocation.value()).map_err(|_| FAILED)?;
                let revocation = stored.into_revocation().ok_or(FAILED)?;
                memory
                    .revoke_now(revocation, until.value())
                    .map_err(|_| FAILED)?;
            }
        }
        transaction.commit().map_err(|_| FAILED)?;
        Ok(Self { memory, database })
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
        let transaction = self.database.begin_write().map_err(|_| StoreError)?;
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

    fn persist(&self, revocation: &Revocation, until: u64) -> Result<(), StoreError> {
        let key = serde_json::to_string(&Stored::from(revocation)).map_err(|_| StoreError)?;
        let mut transaction = self.database.begin_write().map_err(|_| StoreError)?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(|_| StoreError)?;
        {
            let mut table = transaction
                .open_table(REVOCATIONS)
                .map_err(|_| StoreError)?;
            let known = table
                .get(key.as_str())
                .map_err(|_| StoreError)?
                .map_or(0, |known| known.value());
            table
                .insert(key.as_str(), until.max(known))
                .map_err(|_| StoreError)?;
        }
        transaction.commit().map_err(|_| StoreError)
    }
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
            self.persist(&revocation, until)
        })
    }
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

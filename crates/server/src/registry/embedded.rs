//! The registry of one node, in the file of its store.

use std::fmt;
use std::sync::Arc;

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError,
    WriteTransaction,
};

use super::{Registry, Swap, Swapped};
use crate::store::StoreFuture;
use crate::store::embedded::disk::Disk;
use crate::subject::Subject;

/// A user's record, with the second since 1970 until which it is kept.
const RECORDS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("records");

/// The registry of one node, by [`EmbeddedStore::registry`](crate::EmbeddedStore::registry). What it keeps is on disk
/// before it counts as kept, and in memory no more of it than redb caches: users who are not there cost nothing.
pub struct EmbeddedRegistry(Arc<Disk>);

impl EmbeddedRegistry {
    pub(crate) fn new(disk: Arc<Disk>) -> Self {
        Self(disk)
    }
}

impl Registry for EmbeddedRegistry {
    fn get(&self, subject: Subject) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(self.0.look(subject))
    }

    fn swap(&self, swap: Swap) -> StoreFuture<'_, Swapped> {
        Box::pin(self.0.swap(swap))
    }
}

impl fmt::Debug for EmbeddedRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedRegistry").finish_non_exhaustive()
    }
}

pub(crate) fn look(database: &Database, subject: Subject) -> Result<Option<Vec<u8>>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(RECORDS) {
        // Nothing was ever kept.
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        table => table?,
    };
    let record = table.get(subject.as_str())?;
    Ok(record.map(|record| record.value().1.to_vec()))
}

pub(crate) fn swap(transaction: &WriteTransaction, swap: &Swap) -> Result<Swapped, redb::Error> {
    let mut table = transaction.open_table(RECORDS)?;
    let subject = swap.subject.as_str();
    let there = table.get(subject)?.map(|record| record.value().1.to_vec());
    if there != swap.old {
        return Ok(Swapped::Other(there));
    }
    match &swap.new {
        Some(new) => drop(table.insert(subject, (swap.until, new.as_slice()))?),
        None => drop(table.remove(subject)?),
    }
    Ok(Swapped::Done)
}

pub(crate) fn sweep(transaction: &WriteTransaction, now: u64) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(RECORDS)?;
    table.retain(|_, (until, _)| until >= now)?;
    Ok(())
}

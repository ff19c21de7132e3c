//! A registry in memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Record, Registry, Swap};
use crate::store::StoreFuture;
use crate::subject::Subject;

/// How often what is over is looked for, in seconds.
const SWEEP: u64 = 3600;

/// The registry of one process, for tests and demos: a restart forgets it, devices and their names too.
#[derive(Debug, Default)]
pub struct MemoryRegistry(Mutex<Records>);

#[derive(Debug, Default)]
struct Records {
    /// Each until its time.
    of: HashMap<Subject, (Record, u64)>,
    swept: u64,
}

impl MemoryRegistry {
    /// One with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Registry for MemoryRegistry {
    fn load(&self, subject: Subject) -> StoreFuture<'_, Option<Record>> {
        Box::pin(async move {
            let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(records.of.get(&subject).map(|(record, _)| record.clone()))
        })
    }

    fn swap(&self, swap: Swap) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if records.swept.saturating_add(SWEEP) <= swap.now {
                records.swept = swap.now;
                records.of.retain(|_, (_, until)| swap.now < *until);
            }
            let known = records
                .of
                .get(&swap.subject)
                .map(|(record, _)| record.version);
            if known != swap.known {
                return Ok(false);
            }
            records.of.insert(swap.subject, (swap.next, swap.until));
            Ok(true)
        })
    }
}

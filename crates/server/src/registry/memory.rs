//! The registry in memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use super::{Registry, Swap, Swapped};
use crate::store::{StoreError, StoreFuture};
use crate::subject::Subject;

/// How often what is over is looked for, in seconds.
const SWEEP: u64 = 3600;

/// A registry in memory, for tests and for demos: lists and names of devices are gone with the process.
#[derive(Default)]
pub struct MemoryRegistry(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Each with when it is over.
    records: HashMap<Subject, (Box<[u8]>, u64)>,
    swept: u64,
}

impl MemoryRegistry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        self.0.lock().map_err(|_| StoreError)
    }
}

impl Inner {
    fn swap(&mut self, swap: Swap) -> Swapped {
        let Swap {
            subject,
            old,
            new,
            until,
            now,
        } = swap;
        if now.abs_diff(self.swept) >= SWEEP {
            self.records.retain(|_, (_, until)| *until >= now);
            self.swept = now;
        }
        let new = new.map(|new| (new.into_boxed_slice(), until));
        match self.records.entry(subject) {
            Entry::Occupied(mut there) if old.as_deref() == Some(&*there.get().0) => {
                match new {
                    Some(new) => drop(there.insert(new)),
                    None => drop(there.remove()),
                }
                Swapped::Done
            }
            Entry::Occupied(there) => Swapped::Other(Some(there.get().0.to_vec())),
            Entry::Vacant(place) if old.is_none() => {
                if let Some(new) = new {
                    place.insert(new);
                }
                Swapped::Done
            }
            Entry::Vacant(_) => Swapped::Other(None),
        }
    }
}

impl Registry for MemoryRegistry {
    fn get(&self, subject: Subject) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            let inner = self.lock()?;
            let record = inner.records.get(&subject);
            Ok(record.map(|(record, _)| record.to_vec()))
        })
    }

    fn swap(&self, swap: Swap) -> StoreFuture<'_, Swapped> {
        Box::pin(async move { Ok(self.lock()?.swap(swap)) })
    }
}

impl fmt::Debug for MemoryRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRegistry").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_goes_by_itself() {
        let mut inner = Inner::default();
        let swap = |subject: &str, until, now| Swap {
            subject: subject.parse().unwrap(),
            old: None,
            new: Some(vec![1]),
            until,
            now,
        };
        assert_eq!(inner.swap(swap("ann", 5000, 1000)), Swapped::Done);
        assert_eq!(inner.swap(swap("bob", 9000, 1000)), Swapped::Done);
        assert_eq!(inner.swap(swap("eve", 9000, 5001)), Swapped::Done);
        assert_eq!(inner.records.len(), 2);
        let late = inner.swap(swap("bob", 9000, 5001));
        assert_eq!(late, Swapped::Other(Some(vec![1])));
    }
}

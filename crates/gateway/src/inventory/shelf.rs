//! Scripts that are kept, as many as there is room for.

use std::collections::HashMap;

use super::script::{INLINE, Key, Script};

/// As many scripts have room.
pub(super) const MOST: usize = 5000;

/// A script with what is needed to keep it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) script: Script,
    /// In which order they were seen first.
    pub(super) number: u64,
    /// The same, of the last time.
    pub(super) seen: u64,
    /// In which hour it was told last of what it stands for.
    pub(super) told: Option<u64>,
}

/// Where there is no room, what was seen on the fewest days gives way, and of that what was seen longest ago: whoever
/// makes up scripts takes the room of his own, and what pages have run for long stays.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    entries: HashMap<Key, Entry>,
    /// How many inline scripts of each page there are.
    inline: HashMap<String, usize>,
}

impl Shelf {
    pub(super) fn get(&mut self, key: &Key) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }

    pub(super) fn inline_of(&self, page: &str) -> usize {
        self.inline.get(page).copied().unwrap_or_default()
    }

    /// Puts one there, and takes away what gives way to it.
    pub(super) fn put(&mut self, entry: Entry) {
        while self.entries.len() >= MOST {
            let rank = |entry: &Entry| (entry.script.days, entry.seen);
            let least = self.entries.iter().min_by_key(|(_, entry)| rank(entry));
            let Some(least) = least.map(|(key, _)| key.clone()) else {
                break;
            };
            self.take(&least);
        }
        self.keep(entry);
    }

    /// Puts one there, whether there is room or not.
    pub(super) fn keep(&mut self, entry: Entry) {
        if entry.script.url == INLINE {
            *self.inline.entry(entry.script.page.clone()).or_default() += 1;
        }
        self.entries.insert(entry.script.key(), entry);
    }

    pub(super) fn take(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        if entry.script.url == INLINE
            && let Some(count) = self.inline.get_mut(&entry.script.page)
        {
            *count -= 1;
            if *count == 0 {
                self.inline.remove(&entry.script.page);
            }
        }
        Some(entry)
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry> {
        self.inline.clear();
        self.entries.drain().map(|(_, entry)| entry)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }
}

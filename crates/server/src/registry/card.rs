//! What is kept of one user, and how it changes.

use bulla_protocol::jwk::Thumbprint;
use serde::{Deserialize, Serialize};

use super::{Concurrency, MAX_LISTED};
use crate::store::SessionRef;
use crate::subject::Subject;
use crate::ticket::RevocationId;

/// Times are in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Card {
    pub(super) sessions: Vec<Entry>,
    pub(super) devices: Vec<Device>,
}

/// A session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) session: [u8; RevocationId::LEN],
    pub(crate) device: Thumbprint,
    /// The store's memory of revocations under which its ticket was sealed.
    pub(crate) memory: [u8; 16],
    pub(crate) login: u32,
    pub(crate) seen: u32,
    /// When its ticket ends.
    pub(crate) until: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Device {
    pub(super) key: Thumbprint,
    pub(super) name: Option<String>,
    pub(super) first: u32,
    pub(super) seen: u32,
}

/// The user has as many sessions as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Entry {
    pub(crate) fn of(&self, subject: Subject) -> SessionRef {
        SessionRef {
            session: RevocationId(self.session),
            device: self.device,
            subject: Some((subject, self.login)),
            memory: self.memory,
        }
    }
}

impl Card {
    /// Forgets sessions whose tickets have ended, and these.
    pub(super) fn forget(&mut self, now: u32, dead: &[RevocationId]) {
        let is_alive =
            |entry: &Entry| now < entry.until && !dead.contains(&RevocationId(entry.session));
        self.sessions.retain(is_alive);
    }

    /// Takes a session in that has just begun. Those that must end for it are returned.
    pub(super) fn enter(&mut self, entry: Entry, limit: Concurrency) -> Result<Vec<Entry>, Full> {
        self.sessions.retain(|other| other.session != entry.session);
        let mut ended = Vec::new();
        match limit {
            Concurrency::AtMost(most) if self.sessions.len() >= usize::from(most.get()) => {
                return Err(Full);
            }
            Concurrency::Unlimited | Concurrency::AtMost(_) => {}
            Concurrency::NewestWins(most) => {
                self.sessions.sort_by_key(|entry| entry.seen);
                let over = (self.sessions.len() + 1).saturating_sub(usize::from(most.get()));
                ended.extend(self.sessions.drain(..over));
            }
        }
        self.see(entry, None);
        Ok(ended)
    }

    /// A session goes on, perhaps in the place of another.
    pub(super) fn see(&mut self, entry: Entry, replaces: Option<RevocationId>) {
        let is_other = |other: &Entry| {
            other.session != entry.session && replaces != Some(RevocationId(other.session))
        };
        self.sessions.retain(is_other);
        self.sessions.push(entry);
        self.sessions.sort_by_key(|entry| entry.seen);
        let over = self.sessions.len().saturating_sub(MAX_LISTED);
        self.sessions.drain(..over);
        if let Some(device) = self
            .devices
            .iter_mut()
            .find(|known| known.key == entry.device)
        {
            device.seen = entry.seen.max(device.seen);
            return;
        }
        self.devices.push(Device {
            key: entry.device,
            name: None,
            first: entry.seen,
            seen: entry.seen,
        });
        // One that has a name is worth more than one that was here once.
        self.devices
            .sort_by_key(|device| (device.name.is_some(), device.seen));
        let over = self.devices.len().saturating_sub(MAX_LISTED);
        self.devices.drain(..over);
    }

    pub(super) fn device(&mut self, device: &Thumbprint) -> Option<&mut Device> {
        self.devices.iter_mut().find(|known| known.key == *device)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use super::*;

    fn entry(id: u8, seen: u32) -> Entry {
        Entry {
            session: [id; 12],
            device: Thumbprint([id; 32]),
            memory: [0; 16],
            login: 1,
            seen,
            until: seen + 100,
        }
    }

    fn ids(entries: &[Entry]) -> Vec<u8> {
        entries.iter().map(|entry| entry.session[0]).collect()
    }

    #[test]
    fn there_are_as_many_as_there_may_be() {
        let two = NonZeroU8::new(2).unwrap();
        let fill = |limit| {
            let mut card = Card::default();
            let ended = [(1, 10), (2, 30), (1, 40), (3, 50)]
                .map(|(id, seen)| card.enter(entry(id, seen), limit).map(|ended| ids(&ended)));
            (ids(&card.sessions), ended)
        };
        let none = || Ok(Vec::new());
        let (card, ended) = fill(Concurrency::Unlimited);
        assert_eq!(
            (card, ended),
            (vec![2, 1, 3], [none(), none(), none(), none()])
        );
        let (card, ended) = fill(Concurrency::AtMost(two));
        assert_eq!(
            (card, ended),
            (vec![2, 1], [none(), none(), none(), Err(Full)])
        );
        let (card, ended) = fill(Concurrency::NewestWins(two));
        assert_eq!(
            (card, ended),
            (vec![1, 3], [none(), none(), none(), Ok(vec![2])])
        );
    }

    #[test]
    fn what_goes_on_is_seen_and_what_is_over_is_forgotten() {
        let mut card = Card::default();
        for (id, seen) in [(1, 10), (2, 20), (3, 30)] {
            card.enter(entry(id, seen), Concurrency::Unlimited).unwrap();
        }
        // Fresh keys, and nothing twice.
        for _ in 0..2 {
            card.see(entry(4, 40), Some(RevocationId([1; 12])));
            assert_eq!(ids(&card.sessions), [2, 3, 4]);
        }
        card.forget(120, &[RevocationId([3; 12])]);
        assert_eq!(ids(&card.sessions), [4]);
        assert_eq!(card.devices.len(), 4);
        let device = card.device(&Thumbprint([1; 32])).unwrap();
        assert_eq!((device.first, device.seen), (10, 10));
    }

    #[test]
    fn a_user_has_no_more_than_a_list() {
        let mut card = Card::default();
        for number in 0..=u8::try_from(MAX_LISTED).unwrap() {
            card.see(entry(number, u32::from(number)), None);
            card.device(&Thumbprint([0; 32])).unwrap().name = Some("mine".into());
        }
        assert_eq!(ids(&card.sessions), (1..=100).collect::<Vec<_>>());
        assert_eq!(card.devices.len(), MAX_LISTED);
        assert!(card.device(&Thumbprint([0; 32])).is_some());
        assert!(card.device(&Thumbprint([1; 32])).is_none());
    }
}

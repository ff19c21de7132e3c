//! A user's record: his sessions and his devices, and the rules by which they come and go. All registries keep it as
//! the same bytes, so each rule is written once.

use bulla_protocol::jwk::Thumbprint;

use super::name::DeviceName;
use crate::clock::MAX_STEP_BACK;
use crate::store::SessionRef;
use crate::subject::Subject;
use crate::ticket::{RevocationId, take};

/// As many sessions are listed.
pub(super) const MOST_SESSIONS: usize = 1000;
/// As many devices. After that one goes that was seen the longest ago.
const MOST_DEVICES: usize = 100;
/// How long a device is listed after it was seen, in seconds.
const DEVICE_LIFE: u32 = 366 * 24 * 3600;
/// What a record begins with.
const VERSION: u8 = 1;

/// What is known of a user.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) devices: Vec<Device>,
    pub(super) sessions: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) key: Thumbprint,
    pub(super) first: u32,
    /// Since when it has its present key.
    pub(super) since: u32,
    pub(super) seen: u32,
    pub(super) name: Option<DeviceName>,
}

/// A session that the user has logged in to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What it was called after the login. Whatever has taken its place by fresh keys ends with it.
    pub(super) id: RevocationId,
    /// What it is called now.
    pub(super) current: RevocationId,
    pub(super) device: Thumbprint,
    /// The memory of revocations under which its tickets are sealed.
    pub(super) memory: [u8; 16],
    pub(super) login: u32,
    pub(super) seen: u32,
    /// When its last ticket ends, and with it all that can be asked in it.
    pub(super) expires: u32,
    /// When it ends at the latest, its open streams too.
    pub(super) ends: u32,
}

impl Entry {
    pub(super) fn is_active(&self, now: u32) -> bool {
        now < self.expires
    }

    /// What the store is asked of it.
    pub(super) fn session_ref(&self, subject: Subject) -> SessionRef {
        SessionRef {
            session: self.current,
            device: self.device,
            subject: Some((subject, self.login)),
            memory: self.memory,
        }
    }
}

impl Record {
    /// Drops what is over, and what was seen by a clock that was ahead: it has ended with its ring.
    pub(super) fn tidy(&mut self, now: u32) {
        let latest = now.saturating_add(MAX_STEP_BACK);
        let is_there = |session: &Entry| now < session.ends && session.seen <= latest;
        self.sessions.retain(is_there);
        let is_known = |device: &Device| now <= device.seen.saturating_add(DEVICE_LIFE);
        self.devices.retain(is_known);
    }

    /// Gives a session a place, if it has none, and if there is one: at most `room` are active at once.
    pub(super) fn reserve(&mut self, entry: Entry, room: usize, now: u32) -> bool {
        let (mut active, mut all, mut has_place) = (0, 0, false);
        for other in &self.sessions {
            let is_active = other.is_active(now);
            if other.current == entry.current {
                has_place = is_active;
            } else {
                all += 1;
                active += usize::from(is_active);
            }
        }
        let is_full = active >= room || all >= MOST_SESSIONS;
        if is_full && !has_place {
            return false;
        }
        self.place(entry, None);
        true
    }

    /// The same for one that has shown a proof, and with it its device.
    pub(super) fn enter(&mut self, entry: Entry, room: usize, now: u32) -> bool {
        let has_place = self.reserve(entry, room, now);
        if has_place {
            self.meet(entry.device, entry.seen);
        }
        has_place
    }

    /// Notes that a session lives in the place of the one whose fresh keys it has, if either is there.
    pub(super) fn goes_on(&mut self, entry: Entry, replaced: RevocationId) -> bool {
        let is_there = |known: &Entry| [entry.current, replaced].contains(&known.current);
        let goes_on = self.sessions.iter().any(is_there);
        if goes_on {
            self.go_on(entry, Some(replaced));
        }
        goes_on
    }

    /// Notes that a session lives, in the place of the one whose fresh keys it has.
    pub(super) fn go_on(&mut self, entry: Entry, replaced: Option<RevocationId>) {
        self.place(entry, replaced);
        self.meet(entry.device, entry.seen);
    }

    fn place(&mut self, entry: Entry, replaced: Option<RevocationId>) {
        let is_same =
            |known: &&mut Entry| known.current == entry.current || Some(known.current) == replaced;
        if let Some(known) = self.sessions.iter_mut().find(is_same) {
            known.current = entry.current;
            known.seen = known.seen.max(entry.seen);
            known.expires = known.expires.max(entry.expires);
        } else if self.sessions.len() < MOST_SESSIONS {
            self.sessions.push(entry);
        }
    }

    fn meet(&mut self, key: Thumbprint, now: u32) {
        if let Some(known) = self.device(key) {
            known.seen = now;
            return;
        }
        if self.devices.len() >= MOST_DEVICES {
            let longest_ago = (0..self.devices.len()).min_by_key(|at| self.devices[*at].seen);
            longest_ago.map(|at| self.devices.swap_remove(at));
        }
        self.devices.push(Device {
            key,
            first: now,
            since: now,
            seen: now,
            name: None,
        });
    }

    /// Gives a device's place to the key that it has signed in.
    pub(super) fn rotate(&mut self, old: Thumbprint, new: Thumbprint, now: u32) {
        // They have ended with the old key.
        self.sessions.retain(|session| session.device != old);
        if self.device(old).is_some() {
            self.devices.retain(|known| known.key != new);
        }
        if let Some(known) = self.device(old) {
            (known.key, known.since) = (new, now);
        }
    }

    /// Takes off what was noted of a session that had ended by then: its device, too, if it was not there before.
    pub(super) fn unlist(&mut self, entry: &Entry) {
        self.sessions.retain(|known| known.current != entry.current);
        let is_new = |known: &Device| known.key == entry.device && known.first >= entry.seen;
        self.devices.retain(|known| !is_new(known));
    }

    /// Takes a device off, and what has ended with it.
    pub(super) fn forget_device(&mut self, key: Thumbprint) {
        self.devices.retain(|known| known.key != key);
        self.sessions.retain(|session| session.device != key);
    }

    pub(super) fn device(&mut self, key: Thumbprint) -> Option<&mut Device> {
        let mut devices = self.devices.iter_mut();
        devices.find(|known| known.key == key)
    }

    /// How long it is of any use, in seconds since 1970.
    pub(super) fn until(&self) -> u64 {
        let sessions = self.sessions.iter().map(|session| session.ends);
        let devices = self.devices.iter();
        let devices = devices.map(|device| device.seen.saturating_add(DEVICE_LIFE));
        sessions.chain(devices).max().unwrap_or(0).into()
    }

    /// As it is kept; nothing for an empty one.
    pub(super) fn write(&self) -> Option<Vec<u8>> {
        if self.devices.is_empty() && self.sessions.is_empty() {
            return None;
        }
        let mut bytes = vec![VERSION, u8::try_from(self.devices.len()).ok()?];
        for device in &self.devices {
            let name = device.name.as_ref().map_or("", DeviceName::as_str);
            bytes.extend(device.key.0);
            for time in [device.first, device.since, device.seen] {
                bytes.extend(time.to_be_bytes());
            }
            bytes.extend(u16::try_from(name.len()).ok()?.to_be_bytes());
            bytes.extend(name.as_bytes());
        }
        for session in &self.sessions {
            bytes.extend(session.id.0);
            bytes.extend(session.current.0);
            bytes.extend(session.device.0);
            bytes.extend(session.memory);
            for time in [session.login, session.seen, session.expires, session.ends] {
                bytes.extend(time.to_be_bytes());
            }
        }
        Some(bytes)
    }

    /// `None` for what is no record.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let [VERSION, devices] = take(&mut rest)? else {
            return None;
        };
        let mut record = Self::default();
        for _ in 0..devices {
            let key = Thumbprint(take(&mut rest)?);
            let (first, since, seen) = (time(&mut rest)?, time(&mut rest)?, time(&mut rest)?);
            let len = u16::from_be_bytes(take(&mut rest)?).into();
            let (name, after) = rest.split_at_checked(len)?;
            rest = after;
            let name = match str::from_utf8(name).ok()? {
                "" => None,
                name => Some(name.parse().ok()?),
            };
            record.devices.push(Device {
                key,
                first,
                since,
                seen,
                name,
            });
        }
        while !rest.is_empty() {
            record.sessions.push(Entry {
                id: RevocationId(take(&mut rest)?),
                current: RevocationId(take(&mut rest)?),
                device: Thumbprint(take(&mut rest)?),
                memory: take(&mut rest)?,
                login: time(&mut rest)?,
                seen: time(&mut rest)?,
                expires: time(&mut rest)?,
                ends: time(&mut rest)?,
            });
        }
        Some(record)
    }
}

fn time(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(take(rest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1000;

    fn id(id: u8) -> RevocationId {
        RevocationId([id; RevocationId::LEN])
    }

    fn entry(of: u8) -> Entry {
        Entry {
            id: id(of),
            current: id(of),
            device: Thumbprint([of; 32]),
            memory: [7; 16],
            login: NOW,
            seen: NOW,
            expires: NOW + 900,
            ends: NOW + 43_200,
        }
    }

    fn of(sessions: &[u8]) -> Record {
        let mut record = Record::default();
        for session in sessions {
            record.go_on(entry(*session), None);
        }
        record
    }

    #[test]
    fn is_read_as_it_was_written() {
        let mut record = of(&[1, 2]);
        record.device(Thumbprint([2; 32])).unwrap().name = "Ann's phone".parse().ok();
        let bytes = record.write().unwrap();
        assert_eq!(Record::read(&bytes), Some(record));
        assert_eq!(Record::default().write(), None);
        for end in 0..bytes.len() {
            // A session less is a record, too.
            let is_whole = end + 88 == bytes.len() || end + 176 == bytes.len();
            assert_eq!(Record::read(&bytes[..end]).is_some(), is_whole, "{end}");
        }
        let mut other = bytes;
        other[0] = 2;
        assert_eq!(Record::read(&other), None);
    }

    #[test]
    fn a_place_is_given_free_by_time_and_not_twice() {
        let mut record = of(&[1, 2]);
        assert!(!record.enter(entry(3), 2, NOW));
        assert_eq!(record, of(&[1, 2]));
        // It has one.
        assert!(record.enter(entry(2), 2, NOW));
        assert!(record.reserve(entry(3), 3, NOW));
        // At the end of its ticket a session is left, though its streams may go on.
        let later = NOW + 900;
        assert!(!record.enter(entry(4), 0, later));
        let late = |of| Entry {
            expires: later + 900,
            ..entry(of)
        };
        assert!(record.reserve(late(4), 1, later));
        assert_eq!(record.sessions.len(), 4);
        // Its place is another's now.
        assert!(!record.enter(late(1), 1, later));
        record.tidy(NOW + 43_200);
        assert!(record.sessions.is_empty());
        // Those of the others have shown nothing yet.
        assert_eq!(record.devices.len(), 2);
        record.tidy(NOW + DEVICE_LIFE + 1);
        assert_eq!(record.write(), None);
    }

    #[test]
    fn what_a_clock_that_was_ahead_has_left_takes_no_place() {
        let mut record = of(&[1]);
        record.tidy(NOW - MAX_STEP_BACK);
        assert_eq!(record.sessions.len(), 1);
        record.tidy(NOW - MAX_STEP_BACK - 1);
        assert!(record.sessions.is_empty());
    }

    #[test]
    fn fresh_keys_keep_the_place_and_the_name() {
        let mut record = of(&[1]);
        let fresh = Entry {
            seen: NOW + 5,
            device: Thumbprint([1; 32]),
            ..entry(2)
        };
        // Requests that were made at once all say so.
        for _ in 0..2 {
            record.go_on(fresh, Some(id(1)));
        }
        let [session] = &record.sessions[..] else {
            panic!("{record:?}");
        };
        assert_eq!((session.id, session.current), (id(1), id(2)));
        assert_eq!(session.seen, NOW + 5);
        assert_eq!(record.devices.len(), 1);
        let device = &record.devices[0];
        assert_eq!((device.first, device.seen), (NOW, NOW + 5));
    }

    #[test]
    fn another_key_has_the_place_and_the_name_of_the_one_that_signed_it_in() {
        let mut record = of(&[1, 2, 3]);
        record.device(Thumbprint([1; 32])).unwrap().name = "Ann's phone".parse().ok();
        let later = NOW + 5;
        // Also if it was there before, and if the old one was not.
        for (old, new) in [(1, 4), (4, 2), (9, 3)] {
            record.rotate(Thumbprint([old; 32]), Thumbprint([new; 32]), later);
        }
        let keys: Vec<_> = record
            .devices
            .iter()
            .map(|device| device.key.0[0])
            .collect();
        assert_eq!(keys, [2, 3]);
        let [device, other] = &record.devices[..] else {
            panic!("{record:?}");
        };
        assert_eq!((device.first, device.since), (NOW, later));
        assert_eq!(device.name, "Ann's phone".parse().ok());
        assert_eq!((other.first, other.since), (NOW, NOW));
        // What was the old key's has ended; what was the new key's has not.
        let sessions: Vec<_> = record.sessions.iter().map(|session| session.id).collect();
        assert_eq!(sessions, [id(2), id(3)]);
    }

    #[test]
    fn has_a_bound() {
        let mut record = Record::default();
        for number in 0..u32::try_from(MOST_SESSIONS).unwrap() {
            let mut entry = entry(0);
            entry.current.0[..4].copy_from_slice(&number.to_be_bytes());
            entry.device.0[..4].copy_from_slice(&number.to_be_bytes());
            entry.seen += number;
            assert!(record.enter(entry, MOST_SESSIONS, NOW));
        }
        assert!(!record.enter(entry(1), MOST_SESSIONS, NOW));
        // Nor those that were left, at whose streams somebody may be.
        assert!(!record.enter(entry(1), MOST_SESSIONS, NOW + 1000));
        record.go_on(entry(1), None);
        assert_eq!(record.sessions.len(), MOST_SESSIONS);
        assert_eq!(record.devices.len(), MOST_DEVICES);
        let first = record.devices.iter().map(|device| device.seen).min();
        // All but one of the last: this one came late and was seen early.
        assert_eq!(first, Some(NOW));
        assert!(Record::read(&record.write().unwrap()).is_some());
    }
}

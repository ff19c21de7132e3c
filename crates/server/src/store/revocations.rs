//! What has ended, in memory.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher as _;

use bulla_protocol::jwk::Thumbprint;

use super::{Ended, Ending, Party, Replacement, Revocation, SessionRef, StoreError};
use crate::subject::Subject;
use crate::ticket::RevocationId;

/// How often what is over is looked for, in seconds.
const SWEEP: u64 = 60;

/// Revocations, each until its time.
///
/// A client can have as many sessions ended as it can open, so of these there is a limit. Users and devices
/// are ended by name, once each, and by nobody but the application and themselves.
pub(super) struct Revocations {
    /// There may be millions of them, so each is as small as it can be.
    sessions: HashMap<RevocationId, (Until, Owner)>,
    /// Of those that were replaced, by which.
    successors: HashMap<RevocationId, RevocationId>,
    subjects: HashMap<Subject, Before>,
    /// Whose logins count as recent no more.
    logins: HashMap<Subject, Before>,
    devices: HashMap<Thumbprint, u64>,
    of_users: HashMap<Owner, usize>,
    all_of_users: usize,
    of_strangers: usize,
    swept: u64,
    hasher: RandomState,
    pub(super) capacity: usize,
    pub(super) quota: usize,
}

/// In seconds since 1970, up to 2106.
type Until = u32;

/// Logins up to this second since 1970, and until which one that counts.
type Before = (u32, u64);

/// In whose part of the memory an ended session stands: a user by a hash of 32 bits. Users whose hashes are the
/// same share a quota; nobody can bring that about.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Owner(u32);

impl Owner {
    const APPLICATION: Self = Self(0);
    const STRANGER: Self = Self(1);

    fn user(hash: u64) -> Self {
        // What is left of it is as good as the whole.
        let [.., a, b, c, d] = hash.to_be_bytes();
        Self(u32::from_be_bytes([a, b, c, d]).max(2))
    }
}

fn is_before(logins: &HashMap<Subject, Before>, session: &SessionRef) -> bool {
    session.subject.as_ref().is_some_and(|(subject, login)| {
        let before = logins.get(subject);
        before.is_some_and(|(before, _)| login <= before)
    })
}

fn whole(until: u64) -> Until {
    Until::try_from(until).unwrap_or(Until::MAX)
}

impl Revocations {
    pub(super) fn new(capacity: usize, quota: usize) -> Self {
        Self {
            sessions: HashMap::new(),
            successors: HashMap::new(),
            subjects: HashMap::new(),
            logins: HashMap::new(),
            devices: HashMap::new(),
            of_users: HashMap::new(),
            all_of_users: 0,
            of_strangers: 0,
            swept: 0,
            hasher: RandomState::new(),
            capacity,
            quota,
        }
    }

    pub(super) fn contain(&self, session: &SessionRef) -> bool {
        self.sessions.contains_key(&session.session)
            || self.devices.contains_key(&session.device)
            || is_before(&self.subjects, session)
    }

    pub(super) fn must_step_up(&self, session: &SessionRef) -> bool {
        is_before(&self.logins, session)
    }

    pub(super) fn insert(&mut self, ended: &Ended) -> Result<Ending, StoreError> {
        self.sweep(ended.now);
        let until = ended.until;
        match ended.revocation {
            Revocation::Session(id) => {
                if !self.insert_session(id, until, ended.by)? {
                    return Ok(Ending::OverQuota);
                }
                let place = self.place_of(id);
                if let Ending::Replaced(last) = place
                    && !self.insert_session(last, until, ended.by)?
                {
                    return Ok(Ending::OverQuota);
                }
                return Ok(place);
            }
            Revocation::Device(device) => {
                let known = self.devices.entry(device).or_default();
                *known = until.max(*known);
            }
            Revocation::Subject(subject, login) => {
                let known = self.subjects.entry(subject).or_default();
                *known = (login.max(known.0), until.max(known.1));
            }
            Revocation::RecentLogin(subject, login) => {
                let known = self.logins.entry(subject).or_default();
                *known = (login.max(known.0), until.max(known.1));
            }
        }
        Ok(Ending::Done)
    }

    pub(super) fn replace(&mut self, replacement: &Replacement) -> Result<Ending, StoreError> {
        let Replacement {
            old,
            new,
            until,
            now,
            by,
        } = *replacement;
        self.sweep(now);
        if !self.sessions.contains_key(&old) {
            if !self.insert_session(old, until, by)? {
                return Ok(Ending::OverQuota);
            }
            self.successors.insert(old, new);
        }
        Ok(self.place_of(old))
    }

    /// Who has the place of a session that has ended.
    fn place_of(&mut self, ended: RevocationId) -> Ending {
        let next = |id: &RevocationId| self.successors.get(id).copied();
        // No longer than it can be, should a caller have made a ring of it.
        let longest = self.successors.len();
        let line = std::iter::successors(next(&ended), next).take(longest);
        let Some(last) = line.last() else {
            return Ending::Done;
        };
        // Whoever asks next for any of these, and there may be many, walks one step.
        let mut at = ended;
        for _ in 0..longest {
            match self.successors.get_mut(&at) {
                Some(next) if at != last => at = std::mem::replace(next, last),
                _ => break,
            }
        }
        Ending::Replaced(last)
    }

    /// `false` if there is no room for more of this user's.
    fn insert_session(
        &mut self,
        id: RevocationId,
        until: u64,
        by: Party,
    ) -> Result<bool, StoreError> {
        let place = match self.sessions.entry(id) {
            Entry::Occupied(mut known) => {
                let known = &mut known.get_mut().0;
                *known = whole(until).max(*known);
                return Ok(true);
            }
            Entry::Vacant(place) => place,
        };
        let owner = match by {
            Party::Application => Owner::APPLICATION,
            Party::User(subject) => {
                let user = Owner::user(self.hasher.hash_one(subject));
                let own = self.of_users.get(&user).copied().unwrap_or_default();
                if own >= self.quota {
                    return Ok(false);
                }
                if self.all_of_users >= self.capacity {
                    return Err(StoreError);
                }
                self.all_of_users += 1;
                self.of_users.insert(user, own + 1);
                user
            }
            Party::Stranger => {
                if self.of_strangers >= self.capacity / 4 {
                    return Err(StoreError);
                }
                self.of_strangers += 1;
                Owner::STRANGER
            }
        };
        place.insert((whole(until), owner));
        Ok(true)
    }

    pub(super) fn take_devices(&mut self) -> HashMap<Thumbprint, u64> {
        std::mem::take(&mut self.devices)
    }

    pub(super) fn put_devices(&mut self, devices: HashMap<Thumbprint, u64>) {
        self.devices = devices;
    }

    /// Drops what was revoked so long ago that nothing of it can be valid.
    pub(super) fn sweep(&mut self, now: u64) {
        if now.abs_diff(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        self.devices.retain(|_, until| *until >= now);
        self.subjects.retain(|_, (_, until)| *until >= now);
        self.logins.retain(|_, (_, until)| *until >= now);
        self.sessions.retain(|_, (until, owner)| {
            // What has no end in 32 bits has none.
            let stays = *until >= whole(now);
            if !stays {
                match *owner {
                    Owner::APPLICATION => {}
                    Owner::STRANGER => self.of_strangers -= 1,
                    user => {
                        self.all_of_users -= 1;
                        if let Entry::Occupied(mut own) = self.of_users.entry(user) {
                            *own.get_mut() -= 1;
                            if *own.get() == 0 {
                                own.remove();
                            }
                        }
                    }
                }
            }
            stays
        });
        let sessions = &self.sessions;
        self.successors.retain(|old, _| sessions.contains_key(old));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: u64 = 5000;

    fn ended(id: u8, now: u64, by: Party) -> Ended {
        Ended {
            revocation: Revocation::Session(RevocationId([id; RevocationId::LEN])),
            until: now + LIFE,
            now,
            by,
        }
    }

    fn user(name: &str) -> Party {
        Party::User(name.parse().unwrap())
    }

    fn has(revocations: &Revocations, id: u8) -> bool {
        revocations.contain(&SessionRef {
            session: RevocationId([id; RevocationId::LEN]),
            device: Thumbprint([0; 32]),
            subject: None,
            memory: [0; 16],
        })
    }

    #[test]
    fn go_by_themselves_and_make_room() {
        let mut revocations = Revocations::new(8, 4);
        for (id, by) in [
            (1, user("ann")),
            (2, Party::Stranger),
            (3, Party::Application),
        ] {
            assert_eq!(revocations.insert(&ended(id, 1000, by)), Ok(Ending::Done));
        }
        for revocation in [
            Revocation::Device(Thumbprint([9; 32])),
            Revocation::Subject("ann".parse().unwrap(), 1000),
        ] {
            let ended = Ended {
                revocation,
                ..ended(0, 1000, Party::Application)
            };
            assert_eq!(revocations.insert(&ended), Ok(Ending::Done));
        }
        // Said again, one lasts longer.
        let again = ended(3, 1000 + SWEEP, Party::Application);
        assert_eq!(revocations.insert(&again), Ok(Ending::Done));
        revocations.sweep(1000 + LIFE);
        assert!((1..=3).all(|id| has(&revocations, id)));
        revocations.sweep(1000 + LIFE + SWEEP);
        assert_eq!(
            [1, 2, 3].map(|id| has(&revocations, id)),
            [false, false, true]
        );
        assert!(revocations.devices.is_empty() && revocations.subjects.is_empty());
        assert!(revocations.of_users.is_empty());
        assert_eq!((revocations.all_of_users, revocations.of_strangers), (0, 0));
    }

    #[test]
    fn last_for_as_long_as_anybody_has_asked_and_are_not_taken_back() {
        let session = |device, login| SessionRef {
            session: RevocationId([7; RevocationId::LEN]),
            device: Thumbprint([device; 32]),
            subject: Some(("ann".parse().unwrap(), login)),
            memory: [0; 16],
        };
        let mut revocations = Revocations::new(8, 4);
        let device = Revocation::Device(Thumbprint([9; 32]));
        let up_to = |login| Revocation::Subject("ann".parse().unwrap(), login);
        // What is asked for later ends earlier, and less.
        for (revocation, until) in [
            (device.clone(), 6000),
            (device, 2000),
            (up_to(50), 6000),
            (up_to(40), 2000),
        ] {
            let ended = Ended {
                revocation,
                until,
                now: 1000,
                by: Party::Application,
            };
            assert_eq!(revocations.insert(&ended), Ok(Ending::Done));
        }
        for (now, has) in [(1000, true), (3000, true), (6000, true), (6061, false)] {
            revocations.sweep(now);
            assert_eq!(revocations.contain(&session(9, 51)), has, "{now}");
            assert_eq!(revocations.contain(&session(1, 50)), has, "{now}");
            assert!(!revocations.contain(&session(1, 51)), "{now}");
        }
    }

    #[test]
    fn one_user_has_a_quota_and_strangers_a_part() {
        let mut revocations = Revocations::new(8, 4);
        let mut insert = |id, by| revocations.insert(&ended(id, 1000, by));
        for id in 0..4 {
            assert_eq!(insert(id, user("ann")), Ok(Ending::Done));
        }
        assert_eq!(insert(4, user("ann")), Ok(Ending::OverQuota));
        // What has ended has ended already.
        assert_eq!(insert(3, user("ann")), Ok(Ending::Done));
        for id in 10..12 {
            assert_eq!(insert(id, Party::Stranger), Ok(Ending::Done));
        }
        assert_eq!(insert(12, Party::Stranger), Err(StoreError));
        // Others do not feel it.
        for id in 20..24 {
            assert_eq!(insert(id, user("bob")), Ok(Ending::Done));
        }
        // Now it is full, but for the application itself; and nothing has been forgotten.
        assert_eq!(insert(30, user("eve")), Err(StoreError));
        assert_eq!(insert(31, Party::Application), Ok(Ending::Done));
        for id in [0, 1, 2, 3, 10, 11, 20, 21, 22, 23, 31] {
            assert!(has(&revocations, id), "{id}");
        }
        assert!(![4, 12, 30].into_iter().any(|id| has(&revocations, id)));
        // Time makes room.
        let late = ended(4, 1000 + LIFE + SWEEP, user("ann"));
        assert_eq!(revocations.insert(&late), Ok(Ending::Done));
    }

    fn replacement(old: u8, new: u8, now: u64) -> Replacement {
        Replacement {
            old: RevocationId([old; RevocationId::LEN]),
            new: RevocationId([new; RevocationId::LEN]),
            until: now + LIFE,
            now,
            by: user("ann"),
        }
    }

    #[test]
    fn one_session_takes_the_place_of_another() {
        let place = |id| Ok(Ending::Replaced(RevocationId([id; RevocationId::LEN])));
        let mut revocations = Revocations::new(8, 4);
        assert_eq!(revocations.replace(&replacement(1, 2, 1000)), place(2));
        assert_eq!([1, 2].map(|id| has(&revocations, id)), [true, false]);
        // Again, and by another one that comes too late.
        assert_eq!(revocations.replace(&replacement(1, 2, 1000)), place(2));
        assert_eq!(revocations.replace(&replacement(1, 3, 1000)), place(2));
        // Whoever ends the first means the last.
        assert_eq!(revocations.replace(&replacement(2, 3, 1000)), place(3));
        assert_eq!(revocations.replace(&replacement(3, 4, 1000)), place(4));
        assert!(!has(&revocations, 4));
        assert_eq!(revocations.insert(&ended(1, 1000, user("ann"))), place(4));
        assert!(has(&revocations, 4));
        // All that stood on the way know it now: whoever asks for any of them walks one step.
        let last = RevocationId([4; RevocationId::LEN]);
        assert!(revocations.successors.values().all(|next| *next == last));
        // What has ended has no place to give.
        let end = ended(4, 1000, user("ann"));
        assert_eq!(revocations.insert(&end), Ok(Ending::Done));
        let late = revocations.replace(&replacement(4, 5, 1000));
        assert_eq!(late, Ok(Ending::Done));
        assert!(!has(&revocations, 5));
        // It takes room like any other.
        let more = replacement(6, 7, 1000);
        assert_eq!(revocations.replace(&more), Ok(Ending::OverQuota));
        assert!(!has(&revocations, 6));
        revocations.sweep(1000 + LIFE + SWEEP);
        assert!(revocations.successors.is_empty() && revocations.sessions.is_empty());
    }
}

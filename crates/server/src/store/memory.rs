//! The store in memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use bulla_keys::{Random, SystemRandom};

use super::revocations::Revocations;
use super::{
    Ended, Ending, Memory, Replacement, SessionRef, Store, StoreError, StoreFuture, UsedProof,
    Verdict,
};
use crate::error::ConfigError;
use crate::ticket::RevocationId;

/// A store in memory: exact, bounded, closed when full.
///
/// It forgets everything when the process ends, and with it end all sessions: nonces of an earlier process
/// are stale, and its tickets do not open, even if the ring is kept.
pub struct MemoryStore {
    /// Changed while `inner` is locked.
    memory: RwLock<Memory>,
    capacity: usize,
    quota: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    /// By the second until which they must be remembered.
    proofs: BTreeMap<u64, Bucket>,
    confirmed: usize,
    unconfirmed: usize,
    revocations: Revocations,
}

#[derive(Default)]
struct Bucket {
    proofs: HashSet<[u8; 16]>,
    confirmed: usize,
    unconfirmed: usize,
    per_session: HashMap<RevocationId, usize>,
}

impl MemoryStore {
    /// Proofs of confirmed sessions that are remembered at once, by default; some 45 bytes each, 172 MiB when full.
    /// Unconfirmed sessions have a tenth of that to share.
    pub const DEFAULT_CAPACITY: usize = 4_000_000;
    /// Proofs of one session that are remembered at once, by default.
    pub const DEFAULT_QUOTA: usize = 20_000;
    /// Proofs of one session at most as long as it is unconfirmed, which one proof suffices to end:
    /// what a page may send at once, before the first reply is there.
    pub const UNCONFIRMED_QUOTA: usize = 100;
    /// Ended sessions of users that are remembered at once, by default; some 70 bytes each. Sessions that
    /// nobody has logged in to have a quarter of that to share.
    pub const DEFAULT_REVOCATIONS: usize = 4_000_000;
    /// Ended sessions of one user that are remembered at once. A login takes two, fresh keys one.
    pub const REVOCATIONS_QUOTA: usize = 10_000;

    /// An empty store.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Random`] if the system gives no random bytes.
    pub fn new() -> Result<Self, ConfigError> {
        Self::new_with(&SystemRandom)
    }

    /// An empty store, whose names are drawn from `random`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Random`] if it gives no random bytes.
    pub fn new_with(random: &dyn Random) -> Result<Self, ConfigError> {
        Ok(Self {
            memory: RwLock::new(Memory::begin(random)?),
            capacity: Self::DEFAULT_CAPACITY,
            quota: Self::DEFAULT_QUOTA,
            inner: Mutex::new(Inner::new(Self::DEFAULT_REVOCATIONS)),
        })
    }

    /// Sets how many proofs are remembered at once. When it is full, requests are refused with
    /// `store_unavailable`.
    #[must_use]
    pub fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }

    /// Sets how many proofs of one session are remembered at once. Beyond, its requests are refused with
    /// `rate_limited`.
    #[must_use]
    pub fn with_quota(self, quota: usize) -> Self {
        Self { quota, ..self }
    }

    /// Sets how many ended sessions of users are remembered at once, and a quarter as many of sessions that
    /// nobody has logged in to. When it is full no session can be ended but by the application: logins and
    /// logouts are refused with `store_unavailable`.
    #[must_use]
    pub fn with_revocations(mut self, capacity: usize) -> Self {
        let inner = self.inner.get_mut();
        inner
            .unwrap_or_else(PoisonError::into_inner)
            .revocations
            .capacity = capacity;
        self
    }

    fn lock(&self) -> Result<MutexGuard<'_, Inner>, StoreError> {
        self.inner.lock().map_err(|_| StoreError)
    }

    /// What has ended, which somebody else keeps, has this name.
    #[cfg(feature = "embedded")]
    pub(super) fn with_name(mut self, revocations: [u8; 16]) -> Self {
        let memory = self.memory.get_mut();
        memory.unwrap_or_else(PoisonError::into_inner).revocations = revocations;
        self
    }

    pub(super) fn insert_now(&self, used: &UsedProof) -> Result<Verdict, StoreError> {
        let mut inner = self.lock()?;
        if used.memory != self.memory().proofs {
            return Ok(Verdict::Stale);
        }
        inner.forget(used.now);
        if self.has_ended(&inner, &used.session) {
            return Ok(Verdict::Revoked);
        }
        if inner
            .proofs
            .values()
            .any(|bucket| bucket.proofs.contains(&used.proof))
        {
            return Ok(Verdict::Replayed);
        }
        let session = used.session.session;
        let of_session: usize = inner
            .proofs
            .values()
            .filter_map(|bucket| bucket.per_session.get(&session))
            .sum();
        let (kept, capacity, quota) = if used.confirmed {
            (&mut inner.confirmed, self.capacity, self.quota)
        } else {
            let quota = self.quota.min(Self::UNCONFIRMED_QUOTA);
            (&mut inner.unconfirmed, self.capacity / 10, quota)
        };
        if of_session >= quota {
            return Ok(Verdict::OverQuota);
        }
        if *kept >= capacity {
            return Err(StoreError);
        }
        *kept += 1;
        let bucket = inner.proofs.entry(used.until).or_default();
        bucket.proofs.insert(used.proof);
        *bucket.per_session.entry(session).or_default() += 1;
        if used.confirmed {
            bucket.confirmed += 1;
        } else {
            bucket.unconfirmed += 1;
        }
        Ok(if inner.revocations.must_step_up(&used.session) {
            Verdict::StepUp
        } else {
            Verdict::Fresh
        })
    }

    fn has_ended(&self, inner: &Inner, session: &SessionRef) -> bool {
        session.memory != self.memory().revocations || inner.revocations.contain(session)
    }

    pub(super) fn revoke_now(&self, ended: &Ended) -> Result<Ending, StoreError> {
        self.lock()?.revocations.insert(ended)
    }

    pub(super) fn replace_now(&self, replacement: &Replacement) -> Result<Ending, StoreError> {
        self.lock()?.revocations.replace(replacement)
    }

    pub(super) fn begin_anew_now(&self, next: Memory) -> Result<(), StoreError> {
        let mut inner = self.lock()?;
        let devices = inner.revocations.take_devices();
        *inner = Inner::new(inner.revocations.capacity);
        inner.revocations.put_devices(devices);
        *self.memory.write().map_err(|_| StoreError)? = next;
        Ok(())
    }
}

impl Inner {
    fn new(revocations: usize) -> Self {
        Self {
            proofs: BTreeMap::new(),
            confirmed: 0,
            unconfirmed: 0,
            revocations: Revocations::new(revocations, MemoryStore::REVOCATIONS_QUOTA),
        }
    }

    /// Drops whole buckets, and revocations whose time is over.
    fn forget(&mut self, now: u64) {
        while let Some(bucket) = self
            .proofs
            .first_entry()
            .filter(|bucket| *bucket.key() < now)
        {
            let bucket = bucket.remove();
            self.confirmed -= bucket.confirmed;
            self.unconfirmed -= bucket.unconfirmed;
        }
        self.revocations.sweep(now);
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn memory(&self) -> Memory {
        // It is copied as a whole, whoever panics.
        *self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> u64 {
        0
    }

    fn check_and_insert(&self, used: UsedProof) -> StoreFuture<'_, Verdict> {
        Box::pin(async move { self.insert_now(&used) })
    }

    fn is_revoked(&self, session: SessionRef) -> StoreFuture<'_, bool> {
        Box::pin(async move { Ok(self.has_ended(&*self.lock()?, &session)) })
    }

    fn revoke(&self, ended: Ended) -> StoreFuture<'_, Ending> {
        Box::pin(async move { self.revoke_now(&ended) })
    }

    fn replace(&self, replacement: Replacement) -> StoreFuture<'_, Ending> {
        Box::pin(async move { self.replace_now(&replacement) })
    }

    fn begin_anew(&self, next: Memory) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.begin_anew_now(next) })
    }
}

#[cfg(test)]
mod tests {
    use bulla_keys::RandomError;
    use bulla_protocol::jwk::Thumbprint;
    use futures_util::FutureExt as _;

    use super::super::{Party, Revocation};
    use super::*;

    fn used(proof: u8, now: u64) -> UsedProof {
        UsedProof {
            proof: [proof; 16],
            memory: [7; 16],
            until: now + 100,
            now,
            confirmed: true,
            session: SessionRef {
                session: RevocationId([1; 12]),
                device: Thumbprint([2; 32]),
                subject: Some(("ann".parse().unwrap(), 50)),
                memory: [7; 16],
            },
        }
    }

    /// Not random at all, or empty.
    struct Fixed(Option<u8>);

    impl Random for Fixed {
        fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
            out.fill(self.0.ok_or(RandomError)?);
            Ok(())
        }
    }

    fn store() -> MemoryStore {
        MemoryStore::new_with(&Fixed(Some(7))).unwrap()
    }

    #[test]
    fn its_names_come_from_the_randomness_that_is_handed_in() {
        let named = MemoryStore::new_with(&Fixed(Some(7))).unwrap();
        let name = [7; 16];
        let memory = Memory {
            proofs: name,
            revocations: name,
        };
        assert_eq!(named.memory(), memory);
        let failed = MemoryStore::new_with(&Fixed(None)).err();
        assert!(matches!(failed, Some(ConfigError::Random)));
    }

    #[test]
    fn a_proof_is_fresh_once() {
        let store = store();
        assert_eq!(store.insert_now(&used(1, 1000)), Ok(Verdict::Fresh));
        assert_eq!(store.insert_now(&used(1, 1000)), Ok(Verdict::Replayed));
        assert_eq!(store.insert_now(&used(1, 1100)), Ok(Verdict::Replayed));
        assert_eq!(store.insert_now(&used(2, 1000)), Ok(Verdict::Fresh));
    }

    #[test]
    fn what_was_made_under_another_memory_does_not_count() {
        let store = store();
        let mut other = used(1, 1000);
        other.memory = [8; 16];
        assert_eq!(store.insert_now(&other), Ok(Verdict::Stale));
        let mut other = used(1, 1000);
        other.session.memory = [8; 16];
        assert_eq!(store.insert_now(&other), Ok(Verdict::Revoked));
        let is_revoked = |session| store.is_revoked(session).now_or_never().unwrap();
        assert_eq!(is_revoked(other.session), Ok(true));
        assert_eq!(is_revoked(used(1, 1000).session), Ok(false));
        assert_eq!(store.insert_now(&used(1, 1000)), Ok(Verdict::Fresh));
    }

    /// Whoever sends a copy along with the original, over another connection.
    #[test]
    fn a_proof_is_fresh_once_however_many_ask_at_once() {
        let store = store();
        let start = std::sync::Barrier::new(4);
        let rounds = 5000_u32;
        let fresh = || {
            start.wait();
            let mut fresh = 0;
            for round in 0..rounds {
                let mut used = used(0, 1000);
                used.proof[..4].copy_from_slice(&round.to_be_bytes());
                // Of a session of its own, as far as quotas go.
                used.session.session.0[..4].copy_from_slice(&round.to_be_bytes());
                let verdict = store.check_and_insert(used).now_or_never().unwrap();
                fresh += u32::from(verdict == Ok(Verdict::Fresh));
            }
            fresh
        };
        let fresh: u32 = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(fresh));
            threads.map(|thread| thread.join().unwrap()).iter().sum()
        });
        assert_eq!(fresh, rounds);
    }

    #[test]
    fn a_full_store_refuses_and_forgets_nothing() {
        let store = store().with_capacity(10);
        for proof in 0..10 {
            assert_eq!(store.insert_now(&used(proof, 1000)), Ok(Verdict::Fresh));
        }
        assert_eq!(store.insert_now(&used(10, 1000)), Err(StoreError));
        assert_eq!(store.insert_now(&used(0, 1000)), Ok(Verdict::Replayed));
        // Unconfirmed sessions have room of their own.
        let unconfirmed = |proof| UsedProof {
            confirmed: false,
            ..used(proof, 1000)
        };
        assert_eq!(store.insert_now(&unconfirmed(11)), Ok(Verdict::Fresh));
        assert_eq!(store.insert_now(&unconfirmed(12)), Err(StoreError));
        // Time makes room.
        assert_eq!(store.insert_now(&used(10, 1101)), Ok(Verdict::Fresh));
    }

    #[test]
    fn one_session_has_a_quota() {
        let store = store().with_quota(2);
        store.insert_now(&used(0, 1000)).unwrap();
        store.insert_now(&used(1, 1000)).unwrap();
        assert_eq!(store.insert_now(&used(2, 1000)), Ok(Verdict::OverQuota));
        let mut other = used(2, 1000);
        other.session.session = RevocationId([7; 12]);
        assert_eq!(store.insert_now(&other), Ok(Verdict::Fresh));
    }

    #[test]
    fn an_unconfirmed_session_cannot_fill_the_part_that_all_of_them_share() {
        let store = store();
        let unconfirmed = |proof| UsedProof {
            confirmed: false,
            ..used(proof, 1000)
        };
        for proof in 0..100 {
            assert_eq!(store.insert_now(&unconfirmed(proof)), Ok(Verdict::Fresh));
        }
        assert_eq!(store.insert_now(&unconfirmed(100)), Ok(Verdict::OverQuota));
        assert_eq!(store.insert_now(&used(100, 1000)), Ok(Verdict::Fresh));
    }

    #[test]
    fn revocations_by_session_subject_and_device() {
        for (revocation, revoked) in [
            (Revocation::Session(RevocationId([1; 12])), true),
            (Revocation::Session(RevocationId([3; 12])), false),
            (Revocation::Device(Thumbprint([2; 32])), true),
            (Revocation::Subject("ann".parse().unwrap(), 50), true),
            (Revocation::Subject("ann".parse().unwrap(), 49), false),
            (Revocation::Subject("bob".parse().unwrap(), 50), false),
        ] {
            let store = store();
            assert_eq!(revocation.ends(&used(1, 1000).session), revoked);
            let ended = Ended {
                revocation: revocation.clone(),
                until: 5000,
                now: 1000,
                by: Party::Application,
            };
            assert_eq!(store.revoke_now(&ended), Ok(Ending::Done));
            let expected = if revoked {
                Verdict::Revoked
            } else {
                Verdict::Fresh
            };
            assert_eq!(
                store.insert_now(&used(1, 1000)),
                Ok(expected),
                "{revocation:?}"
            );
        }
    }
}

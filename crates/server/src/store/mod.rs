//! Where proofs and revocations are remembered.

use std::future::Future;
use std::pin::Pin;

use bulla_keys::Random;
use bulla_protocol::jwk::Thumbprint;

use crate::error::ConfigError;
use crate::subject::Subject;
use crate::ticket::RevocationId;

#[cfg(feature = "embedded")]
pub(crate) mod embedded;
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod revocations;

#[cfg(feature = "embedded")]
pub use embedded::EmbeddedStore;
pub use memory::MemoryStore;
#[cfg(feature = "redis")]
pub use redis::{RedisBuilder, RedisRegistry, RedisStore, Survive, WrappingKey};

/// A boxed future, since stores are trait objects. It resolves to [`StoreError`] where the store cannot answer or is full;
/// what was asked for has not been done then, or nobody can say.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Told what has ended; `None` if something may have ended and nobody can say what. It does no more than send that on, and may
/// be called from any thread.
pub type Tell = Box<dyn Fn(Option<Revocation>) + Send + Sync>;

/// Remembers which proofs have been used and which sessions have ended.
///
/// A false positive (a fresh proof taken for a used one) refuses one request. A false negative (a used
/// proof taken for a fresh one) carries out somebody's transfer twice, and a forgotten revocation lets
/// a thief go on. So a store that is full or cannot answer must say [`StoreError`], never guess, and
/// must never evict what it was asked to remember.
pub trait Store: Send + Sync + 'static {
    /// Names what it remembers. A store that has lost any of it goes on under other names.
    fn memory(&self) -> Memory;

    /// When it last remembered that something has ended, in seconds since 1970 and by whatever clock there
    /// was; 0 if it does not know of an earlier process. If that is still to come when the verifier is built,
    /// the clock was ahead, and the store may have dropped what still counts: the verifier drops its ring.
    fn written(&self) -> u64;

    /// Whether other nodes have it too. Whoever shares a ring shares the store: what a node knows for itself it
    /// forgets when its clock is wrong, and the ring of the others would go on.
    fn is_shared(&self) -> bool {
        false
    }

    /// Tells from now on what others have ended that share it, within a second, so that open streams end.
    /// Stores that nobody shares do nothing.
    fn on_ended(&self, tell: Tell) {
        drop(tell);
    }

    /// Looks up the session's revocations and, if it has not ended, remembers the proof: both in one
    /// atomic step and one round trip. Only in the memory that the proof's nonce was handed out for: else
    /// it is [`Verdict::Stale`].
    fn check_and_insert(&self, used: UsedProof) -> StoreFuture<'_, Verdict>;

    /// Whether the session has been revoked, without remembering anything. If its ticket was sealed under
    /// another memory than the one that is there, it has.
    fn is_revoked(&self, session: SessionRef) -> StoreFuture<'_, bool>;

    /// Remembers a revocation until nothing that it concerns can be valid any more. Must be durable, where
    /// the store is, before it resolves.
    ///
    /// Of a session that had been [replaced](Self::replace) when it was revoked, the one that has its place
    /// now is revoked in the same atomic step, and is [`Ending::Replaced`]: whoever asked for the end of the
    /// one meant the other too, or a logout would be lost that comes at the same moment as fresh keys.
    fn revoke(&self, ended: Ended) -> StoreFuture<'_, Ending>;

    /// Ends a session and remembers which one takes its place, unless it has ended already: all in one
    /// atomic step. There is no moment, then, at which a revocation of the old session could miss both it
    /// and the new one. Must be durable, where the store is, before it resolves, also if the new session
    /// had the place already.
    ///
    /// Who has the place now is [`Ending::Replaced`]: the new session, or another one if that was faster.
    /// [`Ending::Done`] says that nobody has it: the old session has ended in any other way.
    fn replace(&self, replacement: Replacement) -> StoreFuture<'_, Ending>;

    /// Ends all sessions, whoever's they are: it goes on under these names, so that no ticket, proof or nonce counts
    /// any more which was made under the earlier ones. Devices that have been revoked stay so. Must be durable, where the store is, before it resolves; and whoever
    /// shares the store must know it before he is asked the next thing.
    fn begin_anew(&self, next: Memory) -> StoreFuture<'_, ()>;
}

/// Names what a store remembers. Each name is drawn at random when that memory begins, so that nothing
/// counts which was made under an earlier or another one: nodes that do not share a store do not take
/// each other's proofs and tickets, and a store that is lost takes its own with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Which proofs have been used. Every nonce is made for one such memory.
    pub proofs: [u8; 16],
    /// What has ended. Every ticket is sealed under one such memory.
    pub revocations: [u8; 16],
}

impl Memory {
    /// One that begins now.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Random`] if there are no random bytes.
    pub fn begin(random: &dyn Random) -> Result<Self, ConfigError> {
        let name = || {
            let mut name = [0; 16];
            random.fill(&mut name).map_err(|_| ConfigError::Random)?;
            Ok(name)
        };
        Ok(Self {
            proofs: name()?,
            revocations: name()?,
        })
    }
}

/// Which session a request belongs to, as far as revocation goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRef {
    /// The session.
    pub session: RevocationId,
    /// The device.
    pub device: Thumbprint,
    /// The user, if logged in, and when that was, in seconds since 1970.
    pub subject: Option<(Subject, u32)>,
    /// The [memory of revocations](Memory::revocations) under which its ticket was sealed.
    pub memory: [u8; 16],
}

/// A session of this device's that is nobody's: whether it is revoked tells whether the device is.
pub(crate) fn of_device(device: Thumbprint, memory: [u8; 16]) -> SessionRef {
    SessionRef {
        session: RevocationId([0; RevocationId::LEN]),
        device,
        subject: None,
        memory,
    }
}

/// A proof that has passed every other check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedProof {
    /// Names the proof: a hash over the device and the random part of its nonce.
    pub proof: [u8; 16],
    /// The [memory of proofs](Memory::proofs) that its nonce was handed out for.
    pub memory: [u8; 16],
    /// How long it must be remembered, in seconds since 1970.
    pub until: u64,
    /// Now, in seconds since 1970.
    pub now: u64,
    /// Whether the session is confirmed. Those that are not share a part of the store of their own, so
    /// that nobody fills it for others.
    pub confirmed: bool,
    /// The session.
    pub session: SessionRef,
}

/// What a store says of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Never seen before, and remembered from now on.
    Fresh,
    /// The same, and the user's login does not count as [recent](Revocation::RecentLogin) any more.
    StepUp,
    /// Seen before.
    Replayed,
    /// The session has ended.
    Revoked,
    /// Its nonce was handed out for another memory; nothing is remembered.
    Stale,
    /// This session has more proofs in memory than one session may have.
    OverQuota,
}

/// What has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revocation {
    /// One session.
    Session(RevocationId),
    /// All sessions of a user that logged in up to this second since 1970.
    Subject(Subject, u32),
    /// All sessions of a device.
    Device(Thumbprint),
    /// What a user's logins up to this second since 1970 are worth where a
    /// [recent login](crate::Require::recent_login) or an [assurance](crate::Require::assurance) is asked for. The
    /// sessions go on, and
    /// [`Session::must_step_up`](crate::Session::must_step_up) says so until the user logs in again.
    RecentLogin(Subject, u32),
}

impl Revocation {
    /// Whether it ends this session.
    pub fn ends(&self, session: &SessionRef) -> bool {
        match self {
            Self::Session(id) => *id == session.session,
            Self::Device(device) => *device == session.device,
            Self::Subject(subject, until) => session
                .subject
                .as_ref()
                .is_some_and(|(name, login)| name == subject && login <= until),
            Self::RecentLogin(..) => false,
        }
    }
}

/// A revocation that is to be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What has ended.
    pub revocation: Revocation,
    /// How long it must be remembered, in seconds since 1970.
    pub until: u64,
    /// Now, in seconds since 1970.
    pub now: u64,
    /// Who has asked for it.
    pub by: Party,
}

/// A session that is to take the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The session that ends.
    pub old: RevocationId,
    /// The one that takes its place: the same device's and the same user's.
    pub new: RevocationId,
    /// How long that must be remembered, in seconds since 1970.
    pub until: u64,
    /// Now, in seconds since 1970.
    pub now: u64,
    /// Who has asked for it.
    pub by: Party,
}

/// What a store says of what was to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has ended, and nothing has its place.
    Done,
    /// It has ended, and this session has its place: the last, where one has replaced another more than
    /// once. To [`Store::revoke`] that one has ended too; to [`Store::replace`] that is not said.
    Replaced(RevocationId),
    /// The user who asks has had more sessions ended than one user may; nothing is remembered.
    OverQuota,
}

/// Who has something ended. Clients can fill the store no further than their own part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The application itself, by [`Bulla::revoke`](crate::Bulla::revoke). It has no limit.
    Application,
    /// A session that this user has logged in to, or logs in from.
    User(Subject),
    /// A session that nobody has logged in to. All of these share a part of the store.
    Stranger,
}

impl From<Option<Subject>> for Party {
    fn from(subject: Option<Subject>) -> Self {
        subject.map_or(Self::Stranger, Self::User)
    }
}

/// The store cannot answer, or is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session store is unavailable")]
pub struct StoreError;

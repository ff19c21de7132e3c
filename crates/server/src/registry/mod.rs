//! Which sessions and devices a user has: for lists, and for limits to how many there may be at once.
//!
//! Nothing of this is needed to verify a request: a session is with its client, and what has ended is in the
//! [store](crate::store). So there is a registry only where the application wants one, and it is asked at logins,
//! when tickets are renewed, and by whoever looks at a list.

use std::num::NonZeroU8;

use bulla_protocol::jwk::Thumbprint;

use crate::store::StoreFuture;
use crate::subject::Subject;
use crate::ticket::RevocationId;

mod card;
#[cfg(feature = "embedded")]
mod embedded;
mod keep;
mod memory;

pub(crate) use card::Entry;
#[cfg(feature = "embedded")]
pub use embedded::EmbeddedRegistry;
pub use memory::MemoryRegistry;

/// Keeps one record for each user, and puts another one in its place.
///
/// It never says what has ended: the [`Store`](crate::Store) does, and is asked before a session is shown. A record
/// that is lost hides sessions from their user until their tickets are renewed, and lets a user have as many more as
/// were in it than [`Concurrency`] allows. An old one that comes back shows nothing that has ended. So it may keep
/// less well than a store does.
pub trait Registry: Send + Sync + 'static {
    /// Whether other nodes have it too. Whoever shares a ring shares the registry.
    fn is_shared(&self) -> bool {
        false
    }

    /// The user's record; none if there is none, or its time is over.
    fn load(&self, subject: Subject) -> StoreFuture<'_, Option<Record>>;

    /// Puts a record in the place of the one that is known, in one atomic step. `false` if another one is there by
    /// now, and nothing was done.
    fn swap(&self, swap: Swap) -> StoreFuture<'_, bool>;
}

/// What is kept of one user: not for the registry to understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Drawn at random for each.
    pub version: u64,
    /// A few KiB at most.
    pub content: Vec<u8>,
}

/// A record that is to be put in the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// Whose it is.
    pub subject: Subject,
    /// The version of the one that is there; none if there is none.
    pub known: Option<u64>,
    /// What is to be there.
    pub next: Record,
    /// How long it is kept, in seconds since 1970.
    pub until: u64,
    /// Now, in seconds since 1970.
    pub now: u64,
}

/// How many sessions a user may have at once (OWASP ASVS 5.0, 7.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Concurrency {
    /// As many as they like.
    #[default]
    Unlimited,
    /// So many; beyond, logins are refused with [`Code::SessionLimit`](crate::Code::SessionLimit), until one has
    /// ended.
    AtMost(NonZeroU8),
    /// So many; a further login ends the one that was used least lately.
    NewestWins(NonZeroU8),
}

/// A session in its user's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedSession {
    /// What it is ended by.
    pub id: RevocationId,
    /// Its device.
    pub device: Thumbprint,
    /// When the user logged in, in seconds since 1970.
    pub login: u64,
    /// When it was last seen, in seconds since 1970: no later than half a ticket's life after that.
    pub seen: u64,
    /// Whether it is the one that asks.
    pub is_current: bool,
}

/// A device in its user's list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedDevice {
    /// The RFC 7638 thumbprint of its key.
    pub device: Thumbprint,
    /// What the user calls it, if anything.
    pub name: Option<String>,
    /// When the user first logged in with it, in seconds since 1970.
    pub first_seen: u64,
    /// When it was last seen, in seconds since 1970.
    pub last_seen: u64,
}

/// The longest name of a device, in bytes.
pub const MAX_DEVICE_NAME_LEN: usize = 64;

/// As many sessions and devices of one user are listed: the ones that were seen last. More can live.
pub const MAX_LISTED: usize = 100;

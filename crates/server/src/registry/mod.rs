//! Where the lists of users' sessions and devices are kept, and how many sessions a user may have.

use std::num::NonZeroU32;

use crate::store::StoreFuture;
use crate::subject::Subject;

#[cfg(feature = "embedded")]
pub(crate) mod embedded;
mod lists;
mod memory;
mod name;
mod own;
mod record;

#[cfg(feature = "embedded")]
pub use embedded::EmbeddedRegistry;
pub use lists::{ListedDevice, ListedSession};
pub use memory::MemoryRegistry;
pub use name::DeviceName;

/// Keeps one record for each user: his sessions and his devices. What it says is for the verifier to read and to
/// write; a registry keeps bytes.
///
/// What has ended is not for the registry to say but for the [`Store`](crate::Store), which is asked of every
/// session that is listed or counted. So a record that was lost, or an old one that came back, costs lists: users do
/// not see their sessions or cannot end them until each has renewed its ticket, names of devices are gone, and a
/// limit on sessions counts none that it does not know. It revives nothing and logs nobody in. A swap that is
/// confirmed and was not made, or that was made over something else than what was to be there, lets two logins take
/// the last place at once. A registry that cannot answer must say [`StoreError`](crate::store::StoreError): logins
/// and fresh keys are refused with `store_unavailable` then.
///
/// It is asked where a session of a user begins, is proved for the first time, renews its ticket or ends, and for
/// lists; never on the way of other requests.
pub trait Registry: Send + Sync + 'static {
    /// Whether other nodes have it too. Whoever shares a ring shares the registry, or a user's sessions are spread
    /// over lists of which no one is whole.
    fn is_shared(&self) -> bool {
        false
    }

    /// The record of a user, if there is one.
    fn get(&self, subject: Subject) -> StoreFuture<'_, Option<Vec<u8>>>;

    /// Puts a record in the place of the one that is thought to be there, in one atomic step, if that is what is there.
    /// Must be durable, where the registry is, before it resolves.
    fn swap(&self, swap: Swap) -> StoreFuture<'_, Swapped>;
}

/// A record that is to take the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// Whose.
    pub subject: Subject,
    /// What must be there; `None` for nothing.
    pub old: Option<Vec<u8>>,
    /// What is to be there; `None` for nothing.
    pub new: Option<Vec<u8>>,
    /// How long it must be kept, in seconds since 1970.
    pub until: u64,
    /// Now, in seconds since 1970.
    pub now: u64,
}

/// What a registry says of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// It was made.
    Done,
    /// It was not: this is there.
    Other(Option<Vec<u8>>),
}

/// How many sessions one user may be logged in to at once. Counted are those whose ticket is valid: one that was left
/// without a word gives its place free when its last ticket has run out.
///
/// Nobody has more than [`Self::MOST`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Concurrency {
    /// As many as he likes, up to [`Self::MOST`]; after that it is as with `NewestWins`.
    #[default]
    Unlimited,
    /// So many; a further login is refused with `session_limit`.
    AtMost(NonZeroU32),
    /// So many; with a further login that one ends whose login is the longest ago.
    NewestWins(NonZeroU32),
}

impl Concurrency {
    /// As many sessions of one user are listed. More are ended, those first that nobody uses any more.
    pub const MOST: usize = record::MOST_SESSIONS;

    fn room(self) -> usize {
        match self {
            Self::Unlimited => Self::MOST,
            Self::AtMost(limit) | Self::NewestWins(limit) => {
                usize::try_from(limit.get()).map_or(Self::MOST, |limit| limit.min(Self::MOST))
            }
        }
    }

    /// Whether it is more than a bound on what is remembered.
    pub(crate) fn is_limit(self) -> bool {
        self != Self::Unlimited
    }
}

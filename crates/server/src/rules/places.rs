//! Where sessions were last seen, in room of a fixed size.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::network::Network;
use crate::ticket::RevocationId;

type Slot = Mutex<Option<(RevocationId, Network)>>;

/// Each session has one place, and the newest that wants it has it.
pub(super) struct Places(Box<[Slot]>);

impl Places {
    const PLACES: usize = 8192;

    pub(super) fn new() -> Self {
        Self((0..Self::PLACES).map(|_| Slot::default()).collect())
    }

    /// A session goes on as another: from where that one was last seen.
    pub(super) fn inherit(&self, old: RevocationId, new: RevocationId) {
        // Once: requests that were made at once all say so, and each would begin where the first had begun.
        let before = self.place(old).take_if(|(known, _)| *known == old);
        if let Some((_, network)) = before {
            *self.place(new) = Some((new, network));
        }
    }

    /// Whether it was elsewhere before, as far as anybody remembers.
    pub(super) fn has_moved(&self, session: RevocationId, network: Network) -> bool {
        let before = self.place(session).replace((session, network));
        before.is_some_and(|(known, elsewhere)| known == session && elsewhere != network)
    }

    fn place(&self, session: RevocationId) -> MutexGuard<'_, Option<(RevocationId, Network)>> {
        // A hash already; whoever finds two that share a place makes them forget each other.
        let at = usize::from(u16::from_be_bytes([session.0[0], session.0[1]]));
        let place = self.0[at % self.0.len()].lock();
        place.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn only_who_was_seen_elsewhere_has_moved() {
        let places = Places::new();
        let network = |last| Network::from(IpAddr::from([192, 0, 2, last]));
        let (one, other) = (RevocationId([1; 12]), RevocationId([2; 12]));
        let seen = [
            (one, 1),
            (one, 1),
            (other, 2),
            (one, 2),
            (one, 1),
            (other, 2),
        ]
        .map(|(session, last)| places.has_moved(session, network(last)));
        assert_eq!(seen, [false, false, false, true, true, false]);
    }
}

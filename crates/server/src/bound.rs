//! What cookies and tokens have in common once they are bound to a device: for how long they are good.

use crate::bulla::Bulla;
use crate::vault;

/// As much of a memory's name is kept inside: names are random, and nobody chooses one.
pub(crate) const MEMORY_LEN: usize = 8;

/// How a memory of revocations is named inside.
pub(crate) fn head(memory: [u8; 16]) -> [u8; MEMORY_LEN] {
    let mut head = [0; MEMORY_LEN];
    head.copy_from_slice(&memory[..MEMORY_LEN]);
    head
}

impl Bulla {
    /// Whether its time is not over, and the store still remembers what has been locked out since.
    pub(crate) fn is_good(&self, expires: u32, memory: [u8; MEMORY_LEN]) -> bool {
        expires > self.now() && memory == head(self.0.store.memory().revocations)
    }

    /// Whether what does not open claims to be sealed by a key that is there. What an erased key has sealed is
    /// only old.
    pub(crate) fn is_forged(&self, sealed: Option<&[u8]>) -> bool {
        let id = sealed.and_then(vault::key_of);
        id.is_none_or(|id| self.0.ring.by_id(id).is_some())
    }
}

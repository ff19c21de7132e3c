//! A little work, which an opening has to show where there are too many of them.
//!
//! Whoever opens one session does not notice it; whoever opens a million pays for each. The server remembers
//! nothing of those that it has asked: what is worked on is its nonce, so the work is as fresh as that, and it is
//! bound to the device and to the opening.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::jwk::Thumbprint;

const LABEL: &[u8] = b"bulla work v1\0";

/// What a client does at most, in bits: a million tries, a second or two in a browser.
pub const MAX_WORK_BITS: u8 = 20;

/// A server nonce, and a number that makes a hash over it begin with zeros.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The nonce that came with the refusal.
    pub nonce: String,
    /// The number.
    pub counter: u32,
}

impl Work {
    /// Whether the hash over it, for this device and this opening, begins with so many zero bits.
    pub fn holds(&self, device: &Thumbprint, random: &[u8; 32], bits: u8) -> bool {
        is_enough(&begin(device, random, &self.nonce), self.counter, bits)
    }
}

/// SHA-256 over a label, the device's thumbprint, the opening's random value, the nonce's text, and the number in
/// four bytes, the most significant first.
fn begin(device: &Thumbprint, random: &[u8; 32], nonce: &str) -> Sha256 {
    Sha256::new()
        .chain_update(LABEL)
        .chain_update(device.0)
        .chain_update(random)
        .chain_update(nonce)
}

fn is_enough(begun: &Sha256, counter: u32, bits: u8) -> bool {
    let hash = begun.clone().chain_update(counter.to_be_bytes()).finalize();
    let [a, b, c, d, ..] = *hash.as_slice() else {
        return false;
    };
    u32::from_be_bytes([a, b, c, d]).leading_zeros() >= u32::from(bits)
}

/// Looks for the number.
#[derive(Clone)]
pub(crate) struct Search {
    begun: Sha256,
    nonce: String,
    bits: u8,
    next: u32,
}

impl Search {
    /// `None` for more than a client does.
    pub(crate) fn new(
        device: &Thumbprint,
        random: &[u8; 32],
        nonce: String,
        bits: u8,
    ) -> Option<Self> {
        (bits <= MAX_WORK_BITS).then(|| Self {
            begun: begin(device, random, &nonce),
            nonce,
            bits,
            next: 0,
        })
    }

    /// Tries so many further numbers.
    pub(crate) fn run(&mut self, tries: u32) -> Option<Work> {
        let last = self.next.saturating_add(tries);
        let found = (self.next..last).find(|counter| is_enough(&self.begun, *counter, self.bits));
        self.next = last;
        found.map(|counter| Work {
            nonce: self.nonce.clone(),
            counter,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Thumbprint = Thumbprint([1; 32]);

    #[test]
    fn what_was_found_holds_for_this_opening_and_for_no_other() {
        let mut search = Search::new(&DEVICE, &[2; 32], "nonce".to_owned(), 12).unwrap();
        // In slices, as a browser does it.
        let work = std::iter::from_fn(|| Some(search.run(100)))
            .flatten()
            .next()
            .unwrap();
        assert!(work.holds(&DEVICE, &[2; 32], 12));
        assert!(work.holds(&DEVICE, &[2; 32], 0));
        let other = Work {
            nonce: "other".to_owned(),
            ..work.clone()
        };
        assert!(!other.holds(&DEVICE, &[2; 32], 12));
        assert!(!work.holds(&Thumbprint([3; 32]), &[2; 32], 12));
        assert!(!work.holds(&DEVICE, &[3; 32], 12));
        assert!(!work.holds(&DEVICE, &[2; 32], 32));
        for earlier in 0..work.counter {
            let earlier = Work {
                counter: earlier,
                ..work.clone()
            };
            assert!(!earlier.holds(&DEVICE, &[2; 32], 12));
        }
    }

    #[test]
    fn nobody_is_made_to_work_for_long() {
        let search = |bits| Search::new(&DEVICE, &[2; 32], String::new(), bits).is_some();
        assert!(search(MAX_WORK_BITS) && !search(MAX_WORK_BITS + 1) && !search(u8::MAX));
    }
}

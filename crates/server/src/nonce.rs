//! Server nonces: stateless, short-lived, and worthless once the replay store has lost its memory.
//!
//! An epoch, a ring key id and a MAC. The MAC key comes from the ring and from the name of the replay
//! store's memory, so that a store which was lost, emptied or never shared takes its nonces with it. Epochs never run backwards, whatever the clock does, for as long as any of these keys is there.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bulla_keys::MacKey;
use bulla_protocol::base64;
use bulla_protocol::error::{Code, Error};
use bulla_protocol::structured;
use http::HeaderValue;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::ring::{Purpose, Ring, RingKey};

const MAC_LEN: usize = 16;
const LEN: usize = 4 + 1 + MAC_LEN;

pub(crate) struct Nonces {
    /// A nonce is taken in its own epoch and in the next, so for one life at least and two at most; and already in the one
    /// before, by nodes whose clocks are behind that of the one which gave it.
    life: u64,
    latest: AtomicU32,
    /// The nonces of two epochs, since every request asks for the current one, and many for that before.
    known: Mutex<[Option<Known>; 2]>,
}

/// A nonce, and what it is made of.
struct Known {
    epoch: u32,
    /// Of two keys that were made apart, names may be the same.
    key: Arc<RingKey>,
    memory: [u8; 16],
    nonce: Nonce,
}

/// A server nonce, in the ways in which it is handed out.
#[derive(Clone)]
pub(crate) struct Nonce {
    /// As it stands in a proof's `nonce` parameter.
    pub(crate) text: Arc<str>,
    /// As the value of its field, a String.
    pub(crate) field: HeaderValue,
    /// As the value of the field of RFC 9449 section 8.1, where it stands for itself.
    pub(crate) plain: HeaderValue,
}

impl Nonces {
    pub(crate) fn new(life: Duration) -> Self {
        Self {
            life: life.as_secs().max(1),
            latest: AtomicU32::new(0),
            known: Mutex::default(),
        }
    }

    pub(crate) fn issue(
        &self,
        now: u64,
        key: &Arc<RingKey>,
        memory: [u8; 16],
    ) -> Result<Nonce, Error> {
        self.make(self.epoch(now), key, memory)
    }

    pub(crate) fn check(
        &self,
        text: &str,
        now: u64,
        ring: &Ring,
        memory: [u8; 16],
    ) -> Result<(), Error> {
        const STALE: Error = Code::NonceStale.because("the nonce is not a current one");
        let nonce: [u8; LEN] = base64::decode_array(text).ok_or(STALE)?;
        let epoch = u32::from_be_bytes([nonce[0], nonce[1], nonce[2], nonce[3]]);
        let current = self.epoch(now);
        if epoch.abs_diff(current) > 1 {
            return Err(STALE);
        }
        let key = ring.by_id(nonce[4]).ok_or(STALE)?;
        // Everyone is handed the same one, but for the next, which is nobody's yet.
        let right = self.make(epoch, &key, memory)?;
        if !bool::from(right.text.as_bytes().ct_eq(text.as_bytes())) {
            return Err(STALE);
        }
        Ok(())
    }

    /// Which key of the ring a nonce is made with, if it is one.
    pub(crate) fn key_of(text: &str) -> Option<u8> {
        base64::decode_array::<LEN>(text).map(|nonce| nonce[4])
    }

    /// The one nonce of an epoch. Callers ask for the current epoch, mostly, and those beside it.
    fn make(&self, epoch: u32, key: &Arc<RingKey>, memory: [u8; 16]) -> Result<Nonce, Error> {
        const FAILED: Error = Code::Internal.because("no nonce could be made");
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut known[usize::from(epoch % 2 == 1)];
        if let Some(known) = place
            && (known.epoch, known.memory) == (epoch, memory)
            && Arc::ptr_eq(&known.key, key)
        {
            return Ok(known.nonce.clone());
        }
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&epoch.to_be_bytes());
        bytes[4] = key.id;
        bytes[5..].copy_from_slice(&mac(key, memory, epoch)[..MAC_LEN]);
        let text = base64::encode(bytes);
        let value = |text: String| HeaderValue::try_from(text).map_err(|_| FAILED);
        let nonce = Nonce {
            text: text.as_str().into(),
            field: value(structured::from_string(&text)?)?,
            plain: value(text)?,
        };
        *place = Some(Known {
            epoch,
            key: Arc::clone(key),
            memory,
            nonce: nonce.clone(),
        });
        Ok(nonce)
    }

    /// Until when a proof with a nonce that is current now could be accepted again, in seconds since
    /// 1970: two lives, one before them where a clock is ahead, and one more for good measure.
    pub(crate) fn remember_until(&self, now: u64) -> u64 {
        u64::from(self.epoch(now))
            .saturating_add(4)
            .saturating_mul(self.life)
    }

    /// Goes back to the clock's epoch. All nonces that were ever made must have lost their key, or the store refuse whoever
    /// has another time than it.
    pub(crate) fn restart(&self) {
        self.latest.store(0, Ordering::Relaxed);
    }

    fn epoch(&self, now: u64) -> u32 {
        let epoch = u32::try_from(now / self.life).unwrap_or(u32::MAX);
        self.latest.fetch_max(epoch, Ordering::Relaxed).max(epoch)
    }
}

fn mac(key: &RingKey, memory: [u8; 16], epoch: u32) -> [u8; 32] {
    let mut secret = Zeroizing::new([0; 32]);
    key.derive(Purpose::Nonce, &memory, secret.as_mut());
    MacKey::new(&secret).sign(&epoch.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use bulla_keys::SystemRandom;

    use super::*;

    #[test]
    fn live_for_one_to_two_lives_and_die_with_the_memory() {
        let ring = Ring::ephemeral();
        ring.begin(600, Duration::from_mins(1), &SystemRandom)
            .unwrap();
        let key = ring.current(600).unwrap();
        let nonces = Nonces::new(Duration::from_mins(1));
        let nonce = nonces.issue(600, &key, [1; 16]).unwrap().text;
        for now in [600, 659, 660, 719] {
            assert_eq!(nonces.check(&nonce, now, &ring, [1; 16]), Ok(()));
        }
        let stale = |nonces: &Nonces, nonce: &str, now, memory| {
            nonces.check(nonce, now, &ring, memory).unwrap_err().code == Code::NonceStale
        };
        assert!(stale(&nonces, &nonce, 720, [1; 16]));
        // The clock jumps back: the nonce stays dead.
        assert!(stale(&nonces, &nonce, 600, [1; 16]));

        let nonces = Nonces::new(Duration::from_mins(1));
        assert!(stale(&nonces, &nonce, 600, [2; 16]));
        assert!(stale(&nonces, &nonce[1..], 600, [1; 16]));
        let mut changed = nonce.as_bytes().to_vec();
        changed[20] ^= 1;
        assert!(stale(
            &nonces,
            &String::from_utf8(changed).unwrap(),
            600,
            [1; 16]
        ));
    }

    /// Or a client would be told by one that what another has just given him is stale.
    #[test]
    fn nodes_whose_clocks_are_apart_take_each_others() {
        let ring = Ring::ephemeral();
        let life = Duration::from_mins(1);
        ring.begin(600, life, &SystemRandom).unwrap();
        let key = ring.current(600).unwrap();
        let given = Nonces::new(life).issue(600, &key, [1; 16]).unwrap().text;
        let behind = Nonces::new(life);
        assert!(behind.check(&given, 539, &ring, [1; 16]).is_err());
        for now in [540, 599, 719] {
            assert_eq!(behind.check(&given, now, &ring, [1; 16]), Ok(()));
        }
        assert!(behind.check(&given, 720, &ring, [1; 16]).is_err());
        // What was used early is remembered for as long as any of them may take it, and a life longer.
        let early = Nonces::new(life);
        assert_eq!(early.remember_until(540), 720 + 60);
    }
}

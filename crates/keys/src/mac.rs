//! HMAC and HKDF with SHA-256, for both backends.
//!
//! A request takes a dozen of them over a line or two each. aws-lc is no faster at the hash, and needs
//! up to twice the time for such a message as a whole.

use core::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::BadSignature;

/// An HMAC-SHA256 key.
pub struct MacKey(Hmac<Sha256>);

impl MacKey {
    /// Takes 256 bits.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(keyed(key))
    }

    /// The MAC of a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        let mac = self.0.clone().chain_update(message);
        mac.finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub fn verify(&self, message: &[u8], mac: &[u8]) -> Result<(), BadSignature> {
        let expected = self.0.clone().chain_update(message);
        expected.verify_slice(mac).map_err(|_| BadSignature)
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}

/// A pseudorandom key of HKDF-SHA256 (RFC 5869).
pub struct Prk(Hmac<Sha256>);

impl Prk {
    /// HKDF-Extract (section 2.2).
    pub fn extract(salt: &[u8], ikm: &[u8]) -> Self {
        let prk = keyed(salt).chain_update(ikm).finalize().into_bytes();
        Self::from_uniform(&Zeroizing::new(prk.into()))
    }

    /// Takes a key that is uniformly random already (section 3.3).
    pub fn from_uniform(key: &[u8; 32]) -> Self {
        Self(keyed(key))
    }

    /// HKDF-Expand (section 2.3), over the parts of `info` one after the other. `out` is at most
    /// 255 * 32 bytes long; what lies beyond is left as it was.
    pub fn expand(&self, info: &[&[u8]], out: &mut [u8]) {
        let mut block = Zeroizing::new([0; 32]);
        for (counter, chunk) in (1..=u8::MAX).zip(out.chunks_mut(32)) {
            let mut mac = self.0.clone();
            if counter > 1 {
                mac.update(block.as_slice());
            }
            for part in info {
                mac.update(part);
            }
            mac.update(&[counter]);
            *block = mac.finalize().into_bytes().into();
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}

impl fmt::Debug for Prk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prk(..)")
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

//! Devices that were seen lately.
//!
//! A ticket has room for a compressed key only. To take its square root and to hash its thumbprint
//! costs more than all the symmetric cryptography of a request, so both are kept for a while. Only keys
//! out of tickets that opened get in here, and what falls out costs time and nothing else.

use std::sync::{Arc, Mutex, PoisonError};

use bulla_keys::{KeyError, VerifyingKey};
use bulla_protocol::jwk::{PublicKey, Thumbprint};

/// A device key, ready for use.
pub(crate) struct Device {
    pub(crate) key: VerifyingKey,
    pub(crate) thumbprint: Thumbprint,
}

type Slot = Mutex<Option<([u8; PublicKey::COMPRESSED_LEN], Arc<Device>)>>;

/// A table of fixed size: each key has one place, and the newest that wants it has it.
pub(crate) struct Devices(Box<[Slot]>);

impl Devices {
    /// Less than 1 KiB each, once they are taken.
    const PLACES: usize = 8192;

    pub(crate) fn new() -> Self {
        Self((0..Self::PLACES).map(|_| Slot::default()).collect())
    }

    /// The device with this compressed key.
    pub(crate) fn find(
        &self,
        compressed: &[u8; PublicKey::COMPRESSED_LEN],
    ) -> Result<Arc<Device>, KeyError> {
        // The end of an x coordinate is as good as random, unless somebody makes keys that collide: he
        // slows down those that share his place.
        let at = usize::from(u16::from_be_bytes([compressed[31], compressed[32]]));
        // A poisoned place holds what it held before.
        let mut place = self.0[at % self.0.len()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((known, device)) = &*place
            && known == compressed
        {
            return Ok(Arc::clone(device));
        }
        let key = PublicKey::from_compressed(compressed).map_err(|_| KeyError)?;
        let device = Arc::new(Device {
            key: VerifyingKey::new(&key)?,
            thumbprint: key.thumbprint(),
        });
        *place = Some((*compressed, Arc::clone(&device)));
        Ok(device)
    }
}

#[cfg(test)]
mod tests {
    use bulla_keys::{SigningKey, SystemRandom};

    use super::*;

    #[test]
    fn a_device_is_itself_whoever_had_its_place_before() {
        let devices = Devices(Box::new([Slot::default()]));
        let keys = [(); 2].map(|()| SigningKey::generate(&SystemRandom).unwrap());
        for at in [0, 1, 0, 0] {
            let found = devices.find(&keys[at].public().to_compressed()).unwrap();
            assert_eq!(found.thumbprint, keys[at].thumbprint());
            let signature = keys[at].sign(b"text").unwrap();
            assert_eq!(found.key.verify(b"text", &signature), Ok(()));
        }
        assert!(devices.find(&[0xff; 33]).is_err());
    }
}

//! Devices that were seen lately.
//!
//! A ticket has room for a compressed key only. To take its square root and to hash its thumbprint
//! costs more than all the symmetric cryptography of a request, so both are kept for a while. Only keys
//! out of tickets that opened get in here, and what falls out costs time and nothing else.

use std::sync::{Mutex, PoisonError};

use bulla_protocol::jwk::{InvalidKey, PublicKey, Thumbprint};

/// A device key, ready for use.
#[derive(Clone, Copy)]
pub(crate) struct Device {
    pub(crate) key: PublicKey,
    pub(crate) thumbprint: Thumbprint,
}

type Slot = Mutex<Option<([u8; PublicKey::COMPRESSED_LEN], Device)>>;

/// A table of fixed size: each key has one place, and the newest that wants it has it.
pub(crate) struct Devices(Box<[Slot]>);

impl Devices {
    /// Some 130 bytes each.
    const PLACES: usize = 8192;

    pub(crate) fn new() -> Self {
        Self((0..Self::PLACES).map(|_| Slot::default()).collect())
    }

    /// The device with this compressed key.
    pub(crate) fn find(
        &self,
        compressed: &[u8; PublicKey::COMPRESSED_LEN],
    ) -> Result<Device, InvalidKey> {
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
            return Ok(*device);
        }
        let key = PublicKey::from_compressed(compressed)?;
        let device = Device {
            key,
            thumbprint: key.thumbprint(),
        };
        *place = Some((*compressed, device));
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
        let keys = [(); 2].map(|()| *SigningKey::generate(&SystemRandom).unwrap().public());
        for key in [keys[0], keys[1], keys[0], keys[0]] {
            let found = devices.find(&key.to_compressed()).unwrap();
            assert_eq!((found.key, found.thumbprint), (key, key.thumbprint()));
        }
        assert!(devices.find(&[0xff; 33]).is_err());
    }
}

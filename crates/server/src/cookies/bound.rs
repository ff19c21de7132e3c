//! What is inside a bound value, and how it is written.

use bulla_protocol::error::Error;
use bulla_protocol::jwk::Thumbprint;
use cookie::SameSite;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::NOT_MADE;
use crate::bound::MEMORY_LEN;
use crate::subject::Subject;

/// Its attributes inside, beside its `SameSite`.
const PERSISTENT: u8 = 4;
const PARTITIONED: u8 = 8;

/// What is inside a bound value.
pub(super) struct Bound {
    /// Whose it is: so that one of another device can be told from what is none of ours.
    pub(super) device: Thumbprint,
    /// Who was logged in when it was set.
    pub(super) owner: Owner,
    /// The memory of revocations in which its device was not locked out.
    pub(super) memory: [u8; MEMORY_LEN],
    /// In seconds since 1970.
    pub(super) expires: u32,
    /// Whether the browser is to keep it beyond its own end.
    pub(super) persistent: bool,
    pub(super) partitioned: bool,
    pub(super) same_site: SameSite,
    pub(super) path: String,
    pub(super) value: Zeroizing<String>,
}

/// A user by a hash, for cookies have little room; or nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner([u8; 16]);

impl Owner {
    pub(super) const NOBODY: Self = Self([0; 16]);

    pub(super) fn of(subject: &Subject) -> Self {
        let hash = Sha256::digest(subject.as_str());
        let mut owner = Self::NOBODY;
        owner.0.copy_from_slice(&hash[..16]);
        owner
    }
}

impl Bound {
    pub(super) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let path_len = u32::try_from(self.path.len()).map_err(|_| NOT_MADE)?;
        let len = 32 + 16 + MEMORY_LEN + 4 + 1 + 4 + self.path.len() + self.value.len();
        let mut plain = Zeroizing::new(Vec::with_capacity(len));
        plain.extend(self.device.0);
        plain.extend(self.owner.0);
        plain.extend(self.memory);
        plain.extend(self.expires.to_be_bytes());
        let same_site = match self.same_site {
            SameSite::Strict => 0,
            SameSite::Lax => 1,
            SameSite::None => 2,
        };
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        plain.push(
            same_site | bit(self.persistent, PERSISTENT) | bit(self.partitioned, PARTITIONED),
        );
        plain.extend(path_len.to_be_bytes());
        plain.extend(self.path.bytes());
        plain.extend(self.value.bytes());
        Ok(plain)
    }

    pub(super) fn decode(plain: &[u8]) -> Option<Self> {
        let (device, rest) = plain.split_first_chunk()?;
        let (owner, rest) = rest.split_first_chunk()?;
        let (memory, rest) = rest.split_first_chunk()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (attributes, rest) = rest.split_first()?;
        let (path_len, rest) = rest.split_first_chunk()?;
        let path_len = usize::try_from(u32::from_be_bytes(*path_len)).ok()?;
        let (path, value) = rest.split_at_checked(path_len)?;
        Some(Self {
            device: Thumbprint(*device),
            owner: Owner(*owner),
            memory: *memory,
            expires: u32::from_be_bytes(*expires),
            persistent: attributes & PERSISTENT != 0,
            partitioned: attributes & PARTITIONED != 0,
            same_site: match attributes & !(PERSISTENT | PARTITIONED) {
                0 => SameSite::Strict,
                1 => SameSite::Lax,
                2 => SameSite::None,
                _ => return None,
            },
            path: String::from_utf8(path.to_vec()).ok()?,
            value: Zeroizing::new(String::from_utf8(value.to_vec()).ok()?),
        })
    }
}

//! A secret of the ring, what is derived of it, and the file that keeps it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bulla_keys::{MacKey, Prk, Random};
use bulla_protocol::base64;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::ConfigError;
use crate::file;

/// What a key of the ring seals.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Ticket,
    Nonce,
    Cookie,
    Token,
}

/// One secret of the ring.
pub(crate) struct RingKey {
    pub(crate) id: u8,
    /// From when on it seals, in seconds since 1970.
    pub(crate) begins: u64,
    /// What is kept.
    pub(crate) secret: Zeroizing<[u8; 32]>,
    /// What is used.
    prk: Prk,
}

impl RingKey {
    pub(crate) fn new(id: u8, begins: u64, secret: Zeroizing<[u8; 32]>) -> Self {
        Self {
            id,
            begins,
            prk: Prk::from_uniform(&secret),
            secret,
        }
    }

    /// One that has none of their names. By chance, so that a key that was lost and the one that others made
    /// in its place hardly share one.
    pub(super) fn generate(
        others: &[Arc<Self>],
        begins: u64,
        random: &dyn Random,
    ) -> Result<Self, ConfigError> {
        let mut secret = Zeroizing::new([0; 32]);
        let mut first = [0];
        random
            .fill(secret.as_mut())
            .and_then(|()| random.fill(&mut first))
            .map_err(|_| ConfigError::Random)?;
        let mut names = (0..=u8::MAX).map(|step| first[0].wrapping_add(step));
        let is_free = |id: &u8| others.iter().all(|other| other.id != *id);
        // With as many as there are names, the oldest has long been past.
        let id = names.find(is_free).unwrap_or(first[0]);
        Ok(Self::new(id, begins, secret))
    }

    /// The labelled subkey for a purpose, expanded with `context`.
    pub(crate) fn derive(&self, purpose: Purpose, context: &[u8], out: &mut [u8]) {
        let label: &[u8] = match purpose {
            Purpose::Ticket => b"bulla ring v1 ticket\0",
            Purpose::Nonce => b"bulla ring v1 nonce\0",
            Purpose::Cookie => b"bulla ring v1 cookie\0",
            Purpose::Token => b"bulla ring v1 token\0",
        };
        self.prk.expand(&[label, context], out);
    }
}

impl PartialEq for RingKey {
    fn eq(&self, other: &Self) -> bool {
        let [ours, theirs] = [self, other].map(|key| MacKey::new(&key.secret));
        let are_one = ours.verify(b"", &theirs.sign(b"")).is_ok();
        are_one && (self.id, self.begins) == (other.id, other.begins)
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredKey {
    id: u8,
    begins: u64,
    secret: Zeroizing<String>,
}

impl From<&RingKey> for StoredKey {
    fn from(key: &RingKey) -> Self {
        Self {
            id: key.id,
            begins: key.begins,
            secret: Zeroizing::new(base64::encode(key.secret.as_slice())),
        }
    }
}

impl StoredKey {
    pub(super) fn load(self) -> Option<Arc<RingKey>> {
        let bytes = Zeroizing::new(base64::decode(self.secret.as_bytes())?);
        let secret = Zeroizing::new(bytes.as_slice().try_into().ok()?);
        Some(Arc::new(RingKey::new(self.id, self.begins, secret)))
    }
}

/// The keys of a file; `None` if it is none.
pub(super) fn parse(bytes: &[u8]) -> Option<Vec<Arc<RingKey>>> {
    let stored: Stored = serde_json::from_slice(bytes).ok()?;
    stored.keys.into_iter().map(StoredKey::load).collect()
}

/// Writes them to a file that nobody else can read.
pub(super) fn persist(path: &Path, keys: &[Arc<RingKey>]) -> io::Result<()> {
    let keys = keys.iter().map(|key| StoredKey::from(&**key)).collect();
    let bytes = Zeroizing::new(serde_json::to_vec(&Stored { keys })?);
    file::write_private(path, &bytes)
}

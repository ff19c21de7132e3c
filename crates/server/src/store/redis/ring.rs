//! The ring that the nodes share, beside the store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, io};

use bulla_keys::Aes256Gcm;
use bulla_protocol::seal::TAG_LEN;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::link::is_of_connection;
use super::shared::{Shared, wrong};
use super::{RedisStore, failed};
use crate::clock::MAX_SKEW;
use crate::error::{ConfigError, not_a};
use crate::ring::{Change, Loading, Ring, RingKey, SharedPlace};

const SCRIPT: &str = include_str!("ring.lua");
const LABEL: &[u8] = b"bulla ring v1 wrapped\0";
/// A key's name and when it begins to seal, which are not secret.
const HEAD_LEN: usize = 1 + 8;
const NONCE_LEN: usize = 12;

/// What a ring's keys are wrapped under, in a server that never sees it: AES-256-GCM (NIST SP 800-38D).
///
/// All nodes that share the ring have the same one. Whoever has it and can read what Redis has can make a
/// session for anyone; and with what Redis had (its snapshots, its log of commands) open what was recorded then.
/// Where that matters, let this Redis keep nothing on disk.
///
/// To change it, have all nodes read what is wrapped under the next one, too ([`Self::or`]); when all do, have them wrap
/// under that and still read the old one; and leave the old one out when no key of the ring is wrapped under it any
/// more, after the ring's period and a session's life.
pub struct WrappingKey {
    wraps: Aes256Gcm,
    /// What is wrapped under these is read, too.
    others: Vec<Aes256Gcm>,
}

impl WrappingKey {
    /// Its length, in bytes.
    pub const LEN: usize = 32;

    /// Takes these random bytes.
    pub fn new(secret: &[u8; Self::LEN]) -> Self {
        Self {
            wraps: Aes256Gcm::new(secret),
            others: Vec::new(),
        }
    }

    /// Has what is wrapped under another key read, too. This one goes on wrapping.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.others.push(other.wraps);
        self.others.extend(other.others);
        self
    }

    /// Reads it from a file that holds its 32 bytes and nothing else, such as
    /// `openssl rand -out wrapping.key 32` makes.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if it cannot be read, or has another length.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let read = std::fs::read(path).map(Zeroizing::new);
        let key = read.and_then(|bytes| {
            let secret: Option<&[u8; Self::LEN]> = bytes.as_slice().try_into().ok();
            secret
                .map(Self::new)
                .ok_or_else(|| not_a("a key of 32 bytes"))
        });
        key.map_err(ConfigError::of_file(path))
    }

    fn wrap(&self, key: &RingKey, nonce: [u8; NONCE_LEN]) -> RedisResult<Vec<u8>> {
        let head = [&[key.id], &key.begins.to_be_bytes()[..]].concat();
        // Room for the tag: what a vector has outgrown would stay in memory.
        let mut secret = Zeroizing::new(Vec::with_capacity(key.secret.len() + TAG_LEN));
        secret.extend_from_slice(&key.secret[..]);
        self.wraps
            .seal_in_place(nonce, &[LABEL, &head].concat(), &mut secret)
            .map_err(|_| wrong("a key of the ring cannot be wrapped"))?;
        Ok([&head, &nonce[..], &secret].concat())
    }

    fn unwrap(&self, wrapped: &[u8]) -> Option<Arc<RingKey>> {
        let (head, rest) = wrapped.split_first_chunk::<HEAD_LEN>()?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (id, begins) = head.split_first()?;
        let label = [LABEL, head].concat();
        let mut keys = std::iter::once(&self.wraps).chain(&self.others);
        let secret = keys.find_map(|key| {
            let mut text = Zeroizing::new(text.to_vec());
            let secret = key.open_in_place(*nonce, &label, &mut text).ok()?;
            Some(Zeroizing::new((&*secret).try_into().ok()?))
        })?;
        let begins = u64::from_be_bytes(begins.try_into().ok()?);
        Some(Arc::new(RingKey::new(*id, begins, secret)))
    }
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrappingKey")
    }
}

impl RedisStore {
    /// The ring that all nodes share which share this store. Its keys are in the same server, wrapped. Whichever
    /// node comes first makes the next one, five minutes before it seals.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Redis`] if the server does not answer, or if its keys are wrapped under another key.
    pub async fn ring(&self, key: WrappingKey) -> Result<Ring, ConfigError> {
        let place = Wrapped {
            shared: Arc::clone(&self.shared),
            key,
        };
        let name = place.name();
        let keys = place.load().await?;
        Ok(Ring::shared(Box::new(place), name, keys))
    }
}

struct Wrapped {
    shared: Arc<Shared>,
    key: WrappingKey,
}

impl Wrapped {
    async fn ask(
        &self,
        change: Option<Change>,
        number: &AtomicU64,
    ) -> RedisResult<Vec<Arc<RingKey>>> {
        let name = |id: u8| id.to_string();
        let (mut now, mut after, mut further) = (String::new(), String::new(), Vec::new());
        let mut past = Vec::new();
        if let Some(change) = change {
            now = change.now.to_string();
            after = change.after.map(name).unwrap_or_default();
            past = change.past.into_iter().map(name).collect();
            if let Some(next) = change.next {
                let [nonce @ .., _, _, _, _] = change.random;
                further = self.key.wrap(&next, nonce)?;
            }
        }
        let changes = !further.is_empty() || !past.is_empty();
        let mut command = redis::cmd("EVAL");
        command
            .arg(SCRIPT)
            .arg(1)
            .arg(self.shared.keys.ring())
            .arg(now)
            .arg(MAX_SKEW)
            .arg(after)
            .arg(further)
            .arg(past);
        // With what waits for replicas.
        let (mut connection, of) = self.shared.ends.get().await?;
        number.store(of, Ordering::Relaxed);
        let answer = connection.send(&command).await?;
        if changes {
            // A key that a promoted replica does not have would be lost to all but one.
            self.shared.have_replicas(&mut connection).await?;
        }
        let answer: Vec<Vec<u8>> = redis::from_redis_value(answer)?;
        let keys = match answer.split_first() {
            Some((said, keys)) if said == b"ok" => keys,
            Some((said, _)) if said == b"replica" => {
                // The next one looks for the primary.
                return Err(RedisError::from((
                    ErrorKind::Server(ServerErrorKind::ReadOnly),
                    "it is a replica",
                )));
            }
            Some((said, _)) if said == b"clock" => {
                return Err(wrong("its clock and this node's are apart"));
            }
            _ => return Err(wrong("what stands there is no ring")),
        };
        let keys = keys.iter().map(|wrapped| self.key.unwrap(wrapped));
        keys.collect::<Option<_>>()
            .ok_or_else(|| wrong("the ring there is wrapped under another key"))
    }

    fn in_time(&self, change: Option<Change>) -> Loading<'_> {
        Box::pin(async move {
            let number = AtomicU64::new(0);
            let late = |_| RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
            let asked = timeout(self.shared.settings.timeout, self.ask(change, &number));
            let answer = asked.await.map_err(late).and_then(|answer| answer);
            if answer.as_ref().is_err_and(is_of_connection) {
                // Broken, silent, or elsewhere.
                let number = number.load(Ordering::Relaxed);
                self.shared.ends.give_up(number).await;
            }
            answer.map_err(failed)
        })
    }
}

impl SharedPlace for Wrapped {
    fn name(&self) -> [u8; 16] {
        self.shared.memory().revocations
    }

    fn load(&self) -> Loading<'_> {
        self.in_time(None)
    }

    fn change(&self, change: Change) -> Loading<'_> {
        self.in_time(Some(change))
    }
}

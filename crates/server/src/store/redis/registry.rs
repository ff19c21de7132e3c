//! The registry that the nodes share, beside the store.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Cmd, FromRedisValue, RedisError, RedisResult};
use tokio::time::timeout;

use super::RedisStore;
use super::link::is_of_connection;
use super::shared::Shared;
use crate::registry::{Record, Registry, Swap};
use crate::store::{StoreError, StoreFuture};
use crate::subject::Subject;

const SCRIPT: &str = include_str!("registry.lua");

/// A record's version stands before it.
const VERSION_LEN: usize = 8;

/// The registry in the server of a [`RedisStore`]: got from [`RedisStore::registry`]. What is in it outlives what
/// the store remembers, where the server keeps anything.
pub struct RedisRegistry(Arc<Shared>);

impl RedisStore {
    /// The registry that all nodes share which share this store. Each user has a record of a few hundred bytes
    /// for each session and device, for 400 days after the last of them.
    pub fn registry(&self) -> RedisRegistry {
        RedisRegistry(Arc::clone(&self.shared))
    }
}

impl RedisRegistry {
    fn key(&self, subject: &Subject) -> Vec<u8> {
        self.0.keys.of("card", subject.as_str().as_bytes())
    }

    async fn ask<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StoreError> {
        let number = AtomicU64::new(0);
        let sent = async {
            let (mut connection, of) = self.0.checks.get().await?;
            number.store(of, Ordering::Relaxed);
            let answer = connection.send(&command).await?;
            Ok(redis::from_redis_value::<T>(answer)?)
        };
        let late = |_| RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
        let answer: RedisResult<T> = timeout(self.0.settings.timeout, sent)
            .await
            .map_err(late)
            .and_then(|answer| answer);
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => {
                if is_of_connection(&error) {
                    self.0.checks.give_up(number.load(Ordering::Relaxed)).await;
                }
                tracing::error!(
                    target: "bulla::registry",
                    error = &error as &dyn std::error::Error,
                    "Redis does not do it"
                );
                Err(StoreError)
            }
        }
    }
}

impl Registry for RedisRegistry {
    fn is_shared(&self) -> bool {
        true
    }

    fn load(&self, subject: Subject) -> StoreFuture<'_, Option<Record>> {
        Box::pin(async move {
            let mut command = redis::cmd("GET");
            command.arg(self.key(&subject));
            let found: Option<Vec<u8>> = self.ask(command).await?;
            let Some(found) = found else {
                return Ok(None);
            };
            let (version, content) = found.split_first_chunk::<VERSION_LEN>().ok_or(StoreError)?;
            Ok(Some(Record {
                version: u64::from_be_bytes(*version),
                content: content.to_vec(),
            }))
        })
    }

    fn swap(&self, swap: Swap) -> StoreFuture<'_, bool> {
        Box::pin(async move {
            let known = swap
                .known
                .map_or(Vec::new(), |known| known.to_be_bytes().to_vec());
            let next = [&swap.next.version.to_be_bytes(), &swap.next.content[..]].concat();
            let mut command = redis::cmd("EVAL");
            command
                .arg(SCRIPT)
                .arg(1)
                .arg(self.key(&swap.subject))
                .arg(known)
                .arg(next)
                .arg(swap.until);
            self.ask(command).await
        })
    }
}

impl std::fmt::Debug for RedisRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisRegistry").finish_non_exhaustive()
    }
}

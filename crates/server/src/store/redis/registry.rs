//! The registry that the nodes share, beside the store.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Cmd, RedisError, RedisResult, Script, Value};
use tokio::time::timeout;

use super::RedisStore;
use super::link::{Link, is_of_connection};
use super::shared::{Shared, is_unknown_script, wrong};
use crate::registry::{Registry, Swap, Swapped};
use crate::store::{StoreError, StoreFuture};
use crate::subject::Subject;

const SCRIPT: &str = include_str!("swap.lua");

/// The registry that several nodes share, by [`RedisStore::registry`]: a key for each user, in the server of the store.
/// Records of users who are not seen for a year go by themselves.
///
/// It is as durable as the store's revocations: where these are on replicas before they count as done
/// ([`Survive::Replicas`](crate::Survive::Replicas)), so are records; else both end with the process of the server.
pub struct RedisRegistry {
    shared: Arc<Shared>,
    script: Script,
}

impl RedisStore {
    /// The registry that all nodes share which share this store.
    pub fn registry(&self) -> RedisRegistry {
        RedisRegistry {
            shared: Arc::clone(&self.shared),
            script: Script::new(SCRIPT),
        }
    }
}

impl RedisRegistry {
    async fn look(&self, subject: Subject) -> Result<Option<Vec<u8>>, StoreError> {
        let mut command = redis::cmd("GET");
        command.arg(self.shared.keys.record(subject.as_str()));
        let link = &self.shared.checks;
        let read = async |number: &AtomicU64| {
            let (mut connection, of) = link.get().await?;
            number.store(of, Ordering::Relaxed);
            Ok(redis::from_redis_value(connection.send(&command).await?)?)
        };
        self.in_time(link, read).await
    }

    async fn change(&self, swap: &Swap) -> Result<Swapped, StoreError> {
        // What waits for replicas.
        let link = &self.shared.ends;
        let change = async |number: &AtomicU64| {
            let (mut connection, of) = link.get().await?;
            number.store(of, Ordering::Relaxed);
            let sent = connection.send(&self.command(swap, false)).await;
            let answer: Value = match sent {
                Err(error) if is_unknown_script(&error) => {
                    connection.send(&self.command(swap, true)).await?
                }
                sent => sent?,
            };
            let mut answer: Vec<Vec<u8>> = redis::from_redis_value(answer)?;
            let there = answer.pop();
            match (answer.pop().as_deref(), there) {
                (None, Some(done)) if done == b"done" => {
                    self.shared.have_replicas(&mut connection).await?;
                    Ok(Swapped::Done)
                }
                (Some(b"other"), Some(there)) => Ok(Swapped::Other(
                    Some(there).filter(|there| !there.is_empty()),
                )),
                _ => Err(wrong("what stands there is no record")),
            }
        };
        self.in_time(link, change).await
    }

    fn command(&self, swap: &Swap, is_first: bool) -> Cmd {
        let mut command = if is_first {
            let mut command = redis::cmd("EVAL");
            command.arg(SCRIPT);
            command
        } else {
            let mut command = redis::cmd("EVALSHA");
            command.arg(self.script.get_hash());
            command
        };
        command
            .arg(1)
            .arg(self.shared.keys.record(swap.subject.as_str()))
            .arg(swap.old.as_deref().unwrap_or_default())
            .arg(swap.new.as_deref().unwrap_or_default())
            // No more than its clock can count.
            .arg(
                swap.until
                    .saturating_sub(swap.now)
                    .clamp(1, u32::MAX.into()),
            );
        command
    }

    /// In whatever time there is. The next one tries another connection where this one is broken or silent.
    async fn in_time<T>(
        &self,
        link: &Link,
        ask: impl AsyncFnOnce(&AtomicU64) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let number = AtomicU64::new(0);
        let asked = timeout(self.shared.settings.timeout, ask(&number)).await;
        let late = |_| RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
        let error = match asked.map_err(late).flatten() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if is_of_connection(&error) {
            link.give_up(number.load(Ordering::Relaxed)).await;
        }
        let error = &error as &dyn std::error::Error;
        tracing::error!(target: "bulla::registry", error, "Redis does not do it");
        Err(StoreError)
    }
}

impl Registry for RedisRegistry {
    fn is_shared(&self) -> bool {
        true
    }

    fn get(&self, subject: Subject) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(self.look(subject))
    }

    fn swap(&self, swap: Swap) -> StoreFuture<'_, Swapped> {
        Box::pin(async move { self.change(&swap).await })
    }
}

impl fmt::Debug for RedisRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRegistry").finish_non_exhaustive()
    }
}

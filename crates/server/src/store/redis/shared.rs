//! What a node knows of the server's memories, and how it has a step done in them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bulla_keys::Random;
use bulla_protocol::base64;
use redis::{ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Survive;
use super::keys::Keys;
use super::link::{Connection, Link, is_of_connection};
use super::steps::{MOST_NEWS, Step};
use crate::clock::MAX_SKEW;
use crate::store::{Memory, Revocation, StoreError, Tell};

const STEP: &str = include_str!("step.lua");
const BEGIN: &str = include_str!("begin.lua");
/// How often a step is tried when memories change under it.
const ATTEMPTS: usize = 4;
const EVICTS: &str = "it evicts: set `maxmemory-policy noeviction`";
const NOT_OURS: &str = "what stands there is not a store's";

pub(super) struct Shared {
    /// For what every request waits for.
    pub(super) checks: Link,
    /// For what waits for replicas, and with it everything behind it.
    pub(super) ends: Link,
    pub(super) keys: Keys,
    pub(super) settings: Settings,
    pub(super) current: RwLock<Arc<Current>>,
    /// So that one of those who find it lost asks for a new memory.
    pub(super) begins: Mutex<()>,
    /// Whether the server evicts, which it did not when the memory began.
    pub(super) evicts: AtomicBool,
    pub(super) tell: OnceLock<Tell>,
}

/// The memories as this node knows them, and the script that works on them.
pub(super) struct Current {
    pub(super) memory: Memory,
    /// How many revocations this node has seen in it.
    pub(super) seen: AtomicU64,
    script: Script,
    text: String,
}

pub(super) struct Settings {
    pub(super) survive: Survive,
    pub(super) timeout: Duration,
    pub(super) quota: usize,
    pub(super) random: Box<dyn Random>,
}

impl Current {
    pub(super) fn new(memory: Memory, seen: u64) -> Self {
        let name = base64::encode(memory.proofs);
        let text =
            format!("local name, max_skew, most_news = '{name}', {MAX_SKEW}, {MOST_NEWS}\n{STEP}");
        Self {
            memory,
            seen: AtomicU64::new(seen),
            script: Script::new(&text),
            text,
        }
    }
}

impl Shared {
    pub(super) fn memory(&self) -> Memory {
        self.current().memory
    }

    pub(super) fn current(&self) -> Arc<Current> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }

    /// Does a step, in whatever time there is. What it says first is what came of it.
    pub(super) async fn step(&self, step: Step<'_>) -> Result<Vec<Vec<u8>>, StoreError> {
        let link = if step.ends { &self.ends } else { &self.checks };
        let limit = self.settings.timeout;
        let number = AtomicU64::new(0);
        let error = match timeout(limit, self.try_step(link, &step, &number)).await {
            Ok(Ok(said)) => return Ok(said),
            Ok(Err(error)) => {
                if is_of_connection(&error) {
                    link.give_up(number.load(Ordering::Relaxed)).await;
                }
                error
            }
            // Silent: the next one tries another connection.
            Err(_) => {
                link.give_up(number.load(Ordering::Relaxed)).await;
                RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
            }
        };
        tracing::error!(
            target: "bulla::store",
            error = &error as &dyn std::error::Error,
            step = step.name,
            "Redis does not do it"
        );
        Err(StoreError)
    }

    async fn try_step(
        &self,
        link: &Link,
        step: &Step<'_>,
        number: &AtomicU64,
    ) -> RedisResult<Vec<Vec<u8>>> {
        let said = |what: &str| Ok(vec![what.as_bytes().to_vec()]);
        for _ in 0..ATTEMPTS {
            let current = self.current();
            let Memory {
                proofs,
                revocations,
            } = &current.memory;
            if step.revocations.is_some_and(|memory| memory != revocations) {
                return said("revoked");
            }
            if step.proofs.is_some_and(|memory| memory != proofs) {
                return said("stale");
            }
            let (mut connection, of) = link.get().await?;
            number.store(of, Ordering::Relaxed);
            let answer = match self.evaluate(&mut connection, &current, step, false).await {
                Err(error) if is_unknown_script(&error) => {
                    // It is another process, or its scripts were thrown away.
                    self.learn(&current).await?;
                    if !Arc::ptr_eq(&current, &self.current()) {
                        continue;
                    }
                    self.evaluate(&mut connection, &current, step, true).await?
                }
                answer => answer?,
            };
            let answer: Vec<Vec<u8>> = redis::from_redis_value(answer)?;
            match answer.first().map(Vec::as_slice) {
                Some(b"other") => {
                    self.learn(&current).await?;
                    if Arc::ptr_eq(&current, &self.current()) {
                        // Nor has the primary that was asked: this way leads to another server.
                        link.give_up(of).await;
                    }
                }
                Some(b"clock") => return Err(wrong("its clock and this node's are apart")),
                Some(_) => {
                    if step.ends {
                        self.have_replicas(&mut connection).await?;
                    }
                    return Ok(answer);
                }
                None => return Err(wrong("an answer is empty")),
            }
        }
        Err(wrong("its memory changes all the time"))
    }

    async fn evaluate(
        &self,
        connection: &mut Connection,
        current: &Current,
        step: &Step<'_>,
        is_first: bool,
    ) -> RedisResult<Value> {
        let mut command = if is_first {
            let mut command = redis::cmd("EVAL");
            command.arg(&current.text);
            command
        } else {
            let mut command = redis::cmd("EVALSHA");
            command.arg(current.script.get_hash());
            command
        };
        command
            .arg(step.keys.len() + 2)
            .arg(self.keys.memory())
            .arg(self.keys.log())
            .arg(&step.keys)
            .arg(step.name)
            .arg(if is_first { "first" } else { "" })
            .arg(step.now.map_or(String::new(), |now| now.to_string()))
            .arg(&step.args);
        connection.send(&command).await
    }

    /// Waits for the replicas, where what has been written must be known to them.
    pub(super) async fn have_replicas(&self, connection: &mut Connection) -> RedisResult<()> {
        let Survive::Replicas(wanted) = self.settings.survive else {
            return Ok(());
        };
        let limit = self.settings.timeout / 2;
        let reached = connection
            .wait(&self.keys.memory(), wanted.get(), limit)
            .await?;
        if reached < wanted.get() {
            return Err(wrong("too few replicas have what was written"));
        }
        Ok(())
    }

    /// Learns what the memories are called now, unless somebody has done so since.
    pub(super) async fn learn(&self, known: &Arc<Current>) -> RedisResult<()> {
        let _one = self.begins.lock().await;
        if Arc::ptr_eq(known, &self.current()) {
            self.begin(None).await?;
        }
        Ok(())
    }

    /// Begins new memories: the server may have forgotten what it was to remember.
    pub(super) async fn lose(&self) -> RedisResult<()> {
        self.begin(Some(self.fresh()?)).await
    }

    /// Begins memories of these names, and with that all sessions have ended.
    pub(super) async fn begin_anew(&self, next: Memory) -> Result<(), StoreError> {
        let limit = self.settings.timeout;
        let late = |_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let begun = timeout(limit, self.begin(Some(next))).await.map_err(late);
        begun.and_then(|begun| begun).map_err(|error| {
            tracing::error!(
                target: "bulla::store",
                error = &error as &dyn std::error::Error,
                "Redis does not begin anew"
            );
            StoreError
        })
    }

    fn fresh(&self) -> RedisResult<Memory> {
        Memory::begin(&*self.settings.random).map_err(|_| wrong("no random bytes"))
    }

    /// Asks the server what its memories are called. New ones begin where what they knew may be lost, or where
    /// `next` says what they are to be called.
    pub(super) async fn begin(&self, next: Option<Memory>) -> RedisResult<()> {
        let known = self.current();
        let fresh = next.map_or_else(|| self.fresh(), Ok)?;
        let mut command = redis::cmd("EVAL");
        command
            .arg(BEGIN)
            .arg(2)
            .arg(self.keys.memory())
            .arg(self.keys.log())
            .arg(base64::encode(fresh.proofs))
            .arg(base64::encode(fresh.revocations))
            .arg(match self.settings.survive {
                Survive::Nothing => "process",
                Survive::Replicas(_) => "more",
            })
            .arg(base64::encode(known.memory.revocations))
            .arg(known.seen.load(Ordering::Acquire))
            .arg(if next.is_some() { "forgotten" } else { "" });
        let (mut connection, number) = self.checks.get().await?;
        let answer = match connection.send(&command).await {
            Ok(answer) => answer,
            Err(error) => {
                if is_of_connection(&error) {
                    self.checks.give_up(number).await;
                }
                return Err(error);
            }
        };
        let adopted = self.adopt(&known, answer);
        if adopted.as_ref().is_err_and(is_of_connection) {
            self.checks.give_up(number).await;
        }
        adopted?;
        if next.is_some() {
            // Or a promoted one would go on with what has ended.
            self.have_replicas(&mut connection).await?;
        }
        Ok(())
    }

    /// Goes on with the memories that the server says it has.
    fn adopt(&self, known: &Current, answer: Value) -> RedisResult<()> {
        let answer: Vec<String> = redis::from_redis_value(answer)?;
        let (proofs, revocations, count) =
            match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["ok", proofs, revocations, count] => (proofs, revocations, count),
                ["old"] => return Err(wrong("it is older than 7.0")),
                // The next one looks for the primary.
                ["replica"] => {
                    return Err(RedisError::from((
                        ErrorKind::Server(ServerErrorKind::ReadOnly),
                        "it is a replica",
                    )));
                }
                ["evicts"] => return Err(wrong(EVICTS)),
                _ => return Err(wrong(NOT_OURS)),
            };
        let memory = Memory {
            proofs: base64::decode_array(proofs).ok_or_else(|| wrong(NOT_OURS))?,
            revocations: base64::decode_array(revocations).ok_or_else(|| wrong(NOT_OURS))?,
        };
        if memory == known.memory {
            return Ok(());
        }
        let seen = if memory.revocations == known.memory.revocations {
            known.seen.load(Ordering::Acquire)
        } else {
            // From here on; what was before concerns other sessions.
            count.parse().map_err(|_| wrong(NOT_OURS))?
        };
        tracing::info!(
            target: "bulla::store",
            sessions_go_on = memory.revocations == known.memory.revocations,
            "a memory in Redis has another name now"
        );
        let current = Arc::new(Current::new(memory, seen));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        self.tell(None);
        Ok(())
    }

    pub(super) fn tell(&self, ended: Option<Revocation>) {
        if let Some(tell) = self.tell.get() {
            tell(ended);
        }
    }
}

pub(super) fn wrong(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Client, what))
}

pub(super) fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

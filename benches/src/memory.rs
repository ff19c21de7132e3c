//! What is remembered, in bytes for each: of this process as the system counts it, or as Redis says.
//!
//! Each is measured in a process of its own, since an allocator keeps what was given back to it.

use std::env;
use std::fs;
use std::process::Command;

use bulla_client::SystemRandom;
use bulla_server::registry::{Swap, Swapped};
use bulla_server::store::{Ended, Memory, Party, SessionRef, UsedProof, Verdict};
use bulla_server::{
    Bulla, Identity, MemoryRegistry, MemoryStore, Openings, RedisStore, Registry, Revocation,
    RevocationId, Store, Thumbprint,
};
use bulla_tests::redis::Redis;
use bulla_tests::serve::Server;
use futures_util::future::join_all;

use crate::Outcome;
use crate::report::{Entry, Goal};

/// As many as a store in memory takes by default: it is full then.
const FULL: u32 = 4_000_000;
/// As many as show what one costs in Redis.
const MANY: u32 = 200_000;
/// So many at once.
const AT_ONCE: u32 = 200;
/// So many users with lists.
const USERS: u32 = 100_000;
/// With so many sessions, each on a device of its own.
const SESSIONS: u32 = 2;
/// As long as lists are of sessions and devices.
const RECORD: usize = 2 + SESSIONS as usize * (42 + 88);
/// Sessions that do nothing.
const IDLE: u32 = 20_000;
/// A session has so many proofs.
const EACH: u32 = 1000;

const GOALS: [(&str, Option<f64>); 7] = [
    ("memory/proof", Some(48.0)),
    ("memory/revocation", Some(96.0)),
    ("memory/idle-session", Some(1.0)),
    ("memory/redis-proof", None),
    ("memory/redis-revocation", None),
    ("memory/registry-entry", None),
    ("memory/redis-registry-entry", None),
];

/// Measures everything.
pub(crate) fn run() -> Outcome<Vec<Entry>> {
    let measure = |(id, goal): &(&'static str, Option<f64>)| {
        let output = Command::new(env::current_exe()?)
            .args(["memory", id])
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let bytes: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
        Ok(match goal {
            Some(most) => Entry::absolute(*id, "bytes", bytes, Goal::AtMost(*most)),
            None => Entry::raw(*id, "bytes", bytes),
        })
    };
    GOALS.iter().map(measure).collect()
}

/// Measures one in this process, and prints it.
pub(crate) fn one(id: &str) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let bytes = runtime.block_on(async {
        match id {
            "memory/proof" => {
                let store = MemoryStore::new()?;
                let before = resident()?;
                proofs(&store, FULL).await?;
                Ok(each(resident()? - before, FULL))
            }
            "memory/revocation" => {
                let store = MemoryStore::new()?;
                let before = resident()?;
                revocations(&store, FULL).await?;
                Ok(each(resident()? - before, FULL))
            }
            "memory/idle-session" => idle().await,
            "memory/redis-proof" => {
                let redis = Redis::start()?;
                let store = RedisStore::connect(redis.url()).await?;
                let before = used(&redis)?;
                proofs(&store, MANY).await?;
                Ok(each(used(&redis)? - before, MANY))
            }
            "memory/redis-revocation" => {
                let redis = Redis::start()?;
                let store = RedisStore::connect(redis.url()).await?;
                let before = used(&redis)?;
                revocations(&store, MANY).await?;
                Ok(each(used(&redis)? - before, MANY))
            }
            "memory/registry-entry" => {
                let registry = MemoryRegistry::new();
                let before = resident()?;
                records(&registry, USERS).await?;
                Ok(each(resident()? - before, USERS * SESSIONS))
            }
            "memory/redis-registry-entry" => {
                let redis = Redis::start()?;
                let store = RedisStore::connect(redis.url()).await?;
                let before = used(&redis)?;
                records(&store.registry(), USERS).await?;
                Ok(each(used(&redis)? - before, USERS * SESSIONS))
            }
            _ => Err(format!("there is no `{id}`").into()),
        }
    })?;
    println!("{bytes}");
    Ok(())
}

fn each(bytes: f64, count: u32) -> f64 {
    bytes / f64::from(count)
}

/// What this process has of the machine's memory, in bytes.
fn resident() -> Outcome<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kibibytes: f64 = kibibytes
        .ok_or("/proc says nothing of it")?
        .trim()
        .parse()?;
    Ok(kibibytes * 1024.0)
}

fn used(redis: &Redis) -> Outcome<f64> {
    Ok(redis.info("used_memory")?.parse()?)
}

fn now() -> Outcome<u64> {
    Ok(std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs())
}

/// Spread, as hashes are.
fn name<const N: usize>(number: u32) -> [u8; N] {
    let mut name = [0; N];
    for (at, part) in name.chunks_mut(4).enumerate() {
        let spread = number
            .wrapping_mul(0x9e37_79b1)
            .rotate_left(u32::try_from(at).unwrap_or(0) * 7);
        part.copy_from_slice(&spread.to_be_bytes()[..part.len()]);
    }
    name
}

fn session(memory: Memory, number: u32) -> SessionRef {
    SessionRef {
        session: RevocationId(name(number)),
        device: Thumbprint(name(number)),
        subject: None,
        memory: memory.revocations,
    }
}

/// Of three lives of a nonce, as many in each.
async fn proofs(store: &impl Store, count: u32) -> Outcome {
    let (memory, now) = (store.memory(), now()?);
    for first in (0..count).step_by(AT_ONCE as usize) {
        let asked = (first..first + AT_ONCE).map(|number| {
            store.check_and_insert(UsedProof {
                proof: name(number),
                memory: memory.proofs,
                until: (now / 60 + 1 + u64::from(number % 3)) * 60,
                now,
                confirmed: true,
                session: session(memory, number / EACH),
            })
        });
        for verdict in join_all(asked).await {
            if verdict? != Verdict::Fresh {
                return Err("a proof was not fresh".into());
            }
        }
    }
    Ok(())
}

async fn revocations(store: &impl Store, count: u32) -> Outcome {
    let now = now()?;
    for first in (0..count).step_by(AT_ONCE as usize) {
        let asked = (first..first + AT_ONCE).map(|number| {
            store.revoke(Ended {
                revocation: Revocation::Session(RevocationId(name(number))),
                until: now + 43_260,
                now,
                by: Party::Application,
            })
        });
        for ended in join_all(asked).await {
            ended?;
        }
    }
    Ok(())
}

/// Records of users, each as long as that of somebody with some sessions and as many devices.
async fn records(registry: &impl Registry, count: u32) -> Outcome {
    let now = now()?;
    for first in (0..count).step_by(AT_ONCE as usize) {
        let asked = (first..first + AT_ONCE).map(|number| async move {
            let mut record = vec![0; RECORD];
            record[..16].copy_from_slice(&name::<16>(number));
            let swap = Swap {
                subject: format!("user-{number}").parse()?,
                old: None,
                new: Some(record),
                until: now + 43_200,
                now,
            };
            match registry.swap(swap).await? {
                Swapped::Done => Ok(()),
                Swapped::Other(_) => Err("a user has a record already".into()),
            }
        });
        for made in join_all(asked).await {
            let made: Outcome = made;
            made?;
        }
    }
    Ok(())
}

/// Sessions that were opened over a real connection and then forgotten by their clients.
async fn idle() -> Outcome<f64> {
    let mut built = None;
    let server = Server::start_with(|origin| {
        let identity = Identity::generate(&SystemRandom).map_err(std::io::Error::other)?;
        let store = MemoryStore::new().map_err(std::io::Error::other)?;
        let bulla = Bulla::builder()
            .origin(origin)
            .identity(identity)
            .store(store);
        let bulla = bulla
            .openings(Openings::FREE)
            .build()
            .map_err(std::io::Error::other)?;
        built = Some(bulla.identity());
        Ok(bulla.protect(axum::Router::new()))
    })
    .await?;
    let identity = built.ok_or("the verifier was not built")?;
    let client = bulla_client::Client::builder(server.origin())
        .identity(identity)
        .build()?;
    // So that whatever grows once has grown.
    for _ in 0..IDLE / 10 {
        client.open().await?;
    }
    let before = resident()?;
    for _ in 0..IDLE {
        client.open().await?;
    }
    Ok(each((resident()? - before).max(0.0), IDLE))
}

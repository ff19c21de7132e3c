//! A Redis that is gone, slow, full, read-only, restarted or replaced by another one: no proof is taken
//! twice, no session that has ended is served, and service goes on by itself.

use std::io;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulla_protocol::base64;
use bulla_server::store::{
    Ended, Ending, Memory, Party, SessionRef, StoreError, UsedProof, Verdict,
};
use bulla_server::{
    ConfigError, MemoryStore, RedisStore, Revocation, RevocationId, Store, Survive, Thumbprint,
};
use bulla_tests::attack::Outcome;
use bulla_tests::clock::ProcessClock;
use bulla_tests::redis::Redis;

/// How long a node waits for an answer here.
const LIMIT: Duration = Duration::from_millis(400);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

async fn node(redis: &Redis, survive: Survive) -> Result<RedisStore, ConfigError> {
    let store = RedisStore::builder(redis.url()).survive(survive);
    store.timeout(LIMIT).connect().await
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// A proof under this memory, of a session that was opened under it.
fn proof(memory: Memory, number: u8) -> UsedProof {
    let now = now();
    UsedProof {
        proof: [number; 16],
        memory: memory.proofs,
        until: (now / 60 + 3) * 60,
        now,
        confirmed: true,
        session: session(memory, 1),
    }
}

fn session(memory: Memory, of: u8) -> SessionRef {
    SessionRef {
        session: RevocationId([of; RevocationId::LEN]),
        device: Thumbprint([2; 32]),
        subject: None,
        memory: memory.revocations,
    }
}

fn end(of: u8) -> Ended {
    Ended {
        revocation: Revocation::Session(RevocationId([of; RevocationId::LEN])),
        until: now() + 43_200,
        now: now(),
        by: Party::Application,
    }
}

/// What a store says of a proof.
async fn said(store: &RedisStore, memory: Memory, number: u8) -> Result<Verdict, StoreError> {
    store.check_and_insert(proof(memory, number)).await
}

/// A node that has taken the proof 1, and its memory.
async fn begun(redis: &Redis) -> Outcome<(RedisStore, Memory)> {
    let store = node(redis, Survive::Nothing).await?;
    let memory = store.memory();
    assert_eq!(said(&store, memory, 1).await, Ok(Verdict::Fresh));
    Ok((store, memory))
}

/// Once one replica has them.
const ON_A_REPLICA: Survive = Survive::Replicas(NonZeroU32::MIN);

/// Asks until the store answers, and gives the answer.
async fn until_it_answers(store: &RedisStore, proof: UsedProof) -> Outcome<Verdict> {
    let start = Instant::now();
    loop {
        match store.check_and_insert(proof.clone()).await {
            Ok(verdict) => return Ok(verdict),
            Err(StoreError) if start.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whatever a new memory is called: earlier proofs are stale, later ones are taken once.
async fn proofs_begin_anew(store: &RedisStore, before: Memory) -> Outcome<Memory> {
    for number in [1, 2] {
        let verdict = until_it_answers(store, proof(before, number)).await?;
        assert!(
            matches!(verdict, Verdict::Stale | Verdict::Revoked),
            "{verdict:?}"
        );
    }
    let after = store.memory();
    assert_ne!(after.proofs, before.proofs);
    for verdict in [Verdict::Fresh, Verdict::Replayed] {
        let mut fresh = proof(after, 0);
        fresh.proof = after.proofs;
        assert_eq!(store.check_and_insert(fresh).await?, verdict);
    }
    Ok(after)
}

#[tokio::test]
async fn nodes_share_what_they_know() -> Outcome {
    let redis = Redis::start()?;
    let (one, other) = (
        node(&redis, Survive::Nothing).await?,
        node(&redis, Survive::Nothing).await?,
    );
    let memory = one.memory();
    assert_eq!(memory, other.memory());
    assert_eq!(said(&one, memory, 1).await, Ok(Verdict::Fresh));
    assert_eq!(said(&other, memory, 1).await, Ok(Verdict::Replayed));

    // What one ends the other is told within a second, without being asked anything.
    let told: Arc<Mutex<Vec<Option<Revocation>>>> = Arc::default();
    let heard = Arc::clone(&told);
    other.on_ended(Box::new(move |ended| heard.lock().unwrap().push(ended)));
    let revocations = [
        Revocation::Session(RevocationId([7; 12])),
        Revocation::Device(Thumbprint([8; 32])),
        Revocation::Subject("ann: of, course".parse()?, 9),
    ];
    let start = Instant::now();
    for revocation in &revocations {
        let ended = Ended {
            revocation: revocation.clone(),
            ..end(0)
        };
        assert_eq!(one.revoke(ended).await?, Ending::Done);
    }
    let expected: Vec<_> = revocations.into_iter().map(Some).collect();
    while *told.lock().unwrap() != expected {
        assert!(start.elapsed() < PATIENCE, "{:?}", told.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Out of a line of `INFO commandstats`.
fn calls(info: io::Result<String>) -> u64 {
    let calls = info.ok().and_then(|info| {
        let calls = info.strip_prefix("calls=")?.split(',').next()?.parse();
        calls.ok()
    });
    calls.unwrap_or_default()
}

/// Apart from what each node asks by itself two or three times in a second.
#[tokio::test]
async fn a_request_takes_one_round_trip() -> Outcome {
    let redis = Redis::start()?;
    let store = node(&redis, Survive::Nothing).await?;
    let memory = store.memory();
    assert_eq!(said(&store, memory, 0).await, Ok(Verdict::Fresh));
    redis.ask(&["CONFIG", "RESETSTAT"])?;
    for number in 1..=100 {
        assert_eq!(said(&store, memory, number).await, Ok(Verdict::Fresh));
    }
    let steps = calls(redis.info("cmdstat_evalsha"));
    assert!((100..110).contains(&steps), "{steps}");
    assert_eq!(calls(redis.info("cmdstat_eval")), 0);
    Ok(())
}

#[tokio::test]
async fn one_that_is_gone_refuses_and_one_that_is_back_goes_on() -> Outcome {
    let mut redis = Redis::start()?;
    let (store, memory) = begun(&redis).await?;
    redis.kill()?;
    let start = Instant::now();
    for _ in 0..3 {
        assert_eq!(said(&store, memory, 2).await, Err(StoreError));
        assert_eq!(store.is_revoked(session(memory, 1)).await, Err(StoreError));
        assert_eq!(store.revoke(end(1)).await, Err(StoreError));
    }
    assert!(start.elapsed() < PATIENCE);
    redis.start_again()?;
    // It knows nothing of who has logged out.
    let after = proofs_begin_anew(&store, memory).await?;
    assert_ne!(after.revocations, memory.revocations);
    assert!(store.is_revoked(session(memory, 9)).await?);
    assert!(!store.is_revoked(session(after, 9)).await?);
    Ok(())
}

/// What was on its disk may be older than what it had confirmed.
#[tokio::test]
async fn a_restart_with_its_data_revives_neither_proofs_nor_sessions() -> Outcome {
    let mut redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"])?;
    let (store, memory) = begun(&redis).await?;
    assert_eq!(store.revoke(end(5)).await?, Ending::Done);
    redis.kill()?;
    redis.start_again()?;
    let after = proofs_begin_anew(&store, memory).await?;
    assert_ne!(after.revocations, memory.revocations);
    // A node that comes later learns the same names.
    assert_eq!(node(&redis, Survive::Nothing).await?.memory(), after);
    Ok(())
}

/// Whether the one before is gone, or only silent, with all connections to it.
#[tokio::test]
async fn a_promoted_replica_that_has_all_revocations_keeps_the_sessions() -> Outcome {
    for is_silent in [false, true] {
        let (mut primary, replica) = (Redis::start()?, Redis::start()?);
        replica.follow(&primary)?;
        let sentinel = Redis::sentinel_of(&primary)?;
        sentinel.until_it_knows_a_replica()?;
        let url = format!("redis+sentinel://127.0.0.1:{}/bank", sentinel.port());
        let store = RedisStore::builder(url).survive(ON_A_REPLICA);
        let store = store.timeout(LIMIT).connect().await?;
        let memory = store.memory();
        assert_eq!(said(&store, memory, 1).await, Ok(Verdict::Fresh));
        assert_eq!(store.revoke(end(5)).await?, Ending::Done);
        if is_silent {
            primary.freeze()?;
        } else {
            primary.kill()?;
        }
        let after = proofs_begin_anew(&store, memory).await?;
        assert_eq!(after.revocations, memory.revocations);
        assert!(store.is_revoked(session(memory, 5)).await?);
        assert!(!store.is_revoked(session(memory, 6)).await?);
        // There is no replica left that could have it.
        assert_eq!(store.revoke(end(6)).await, Err(StoreError));
    }
    Ok(())
}

/// A failover that loses the last second.
#[tokio::test]
async fn what_a_replica_has_not_is_no_done_revocation() -> Outcome {
    for survive in [ON_A_REPLICA, Survive::Nothing] {
        let (primary, replica) = (Redis::start()?, Redis::start()?);
        replica.follow(&primary)?;
        let (here, there) = (
            node(&primary, survive).await?,
            node(&replica, survive).await,
        );
        assert!(cause(there).contains("replica"));
        let memory = here.memory();
        assert_eq!(said(&here, memory, 1).await, Ok(Verdict::Fresh));
        replica.until_it_has_all_of(&primary)?;
        replica.freeze()?;
        let done = here.revoke(end(5)).await;
        let lost = here.check_and_insert(proof(memory, 2)).await?;
        assert_eq!(lost, Verdict::Fresh);
        drop(here);
        drop(primary);
        replica.thaw()?;
        replica.ask(&["REPLICAOF", "NO", "ONE"])?;
        let store = node(&replica, survive).await?;
        let after = proofs_begin_anew(&store, memory).await?;
        if survive == Survive::Nothing {
            assert_eq!(done, Ok(Ending::Done));
            assert_ne!(after.revocations, memory.revocations);
            assert!(store.is_revoked(session(memory, 5)).await?);
        } else {
            // Whoever wanted to log out has been told that it may not have happened.
            assert_eq!(done, Err(StoreError));
            assert_eq!(after.revocations, memory.revocations);
        }
    }
    Ok(())
}

/// The first one is the primary again, with what the second one had.
#[tokio::test]
async fn two_failovers_in_a_row_revive_no_proof() -> Outcome {
    let (one, other) = (Redis::start()?, Redis::start()?);
    other.follow(&one)?;
    let store = node(&one, Survive::Nothing).await?;
    let before = store.memory();
    other.until_it_has_all_of(&one)?;
    other.freeze()?;
    assert_eq!(said(&store, before, 1).await, Ok(Verdict::Fresh));
    // What the second one has not seen is lost with the next step.
    one.ask(&["CLIENT", "KILL", "TYPE", "replica"])?;
    other.thaw()?;
    other.ask(&["REPLICAOF", "NO", "ONE"])?;
    let elsewhere = node(&other, Survive::Nothing).await?;
    let between = proofs_begin_anew(&elsewhere, before).await?;
    one.follow(&other)?;
    one.ask(&["REPLICAOF", "NO", "ONE"])?;
    // Its process has the script of the first memory still.
    let after = proofs_begin_anew(&store, before).await?;
    assert_ne!(after.proofs, between.proofs);
    Ok(())
}

#[tokio::test]
async fn one_that_does_not_answer_costs_a_limited_time() -> Outcome {
    let redis = Redis::start()?;
    let (store, memory) = begun(&redis).await?;
    redis.freeze()?;
    let start = Instant::now();
    assert_eq!(said(&store, memory, 2).await, Err(StoreError));
    assert_eq!(said(&store, memory, 3).await, Err(StoreError));
    assert!(start.elapsed() < PATIENCE);
    redis.thaw()?;
    // It has lost nothing.
    assert_eq!(
        until_it_answers(&store, proof(memory, 1)).await?,
        Verdict::Replayed
    );
    assert_eq!(store.memory(), memory);
    // What nobody waited for any more may have been done.
    let late = until_it_answers(&store, proof(memory, 2)).await?;
    assert!(matches!(late, Verdict::Fresh | Verdict::Replayed));
    assert_eq!(said(&store, memory, 2).await, Ok(Verdict::Replayed));
    Ok(())
}

#[tokio::test]
async fn a_full_one_refuses_and_forgets_nothing() -> Outcome {
    let redis = Redis::start()?;
    let (store, memory) = begun(&redis).await?;
    assert_eq!(store.revoke(end(5)).await?, Ending::Done);
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"])?;
    assert_eq!(said(&store, memory, 2).await, Err(StoreError));
    assert_eq!(store.revoke(end(6)).await, Err(StoreError));
    assert!(store.is_revoked(session(memory, 5)).await?);
    assert!(!store.is_revoked(session(memory, 6)).await?);
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"])?;
    assert_eq!(
        until_it_answers(&store, proof(memory, 2)).await?,
        Verdict::Fresh
    );
    assert_eq!(said(&store, memory, 1).await, Ok(Verdict::Replayed));
    assert_eq!(store.memory(), memory);
    Ok(())
}

/// Why there is no store.
fn cause(node: Result<RedisStore, ConfigError>) -> String {
    let error = node.err();
    let cause = error.as_ref().and_then(std::error::Error::source);
    cause.map(ToString::to_string).unwrap_or_default()
}

#[tokio::test]
async fn one_that_begins_to_evict_takes_with_it_what_it_may_have_thrown_away() -> Outcome {
    let redis = Redis::start()?;
    let (store, memory) = begun(&redis).await?;
    redis.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])?;
    let start = Instant::now();
    for number in 2.. {
        if said(&store, memory, number).await == Err(StoreError) {
            break;
        }
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    redis.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])?;
    let after = proofs_begin_anew(&store, memory).await?;
    assert_ne!(after.revocations, memory.revocations);
    Ok(())
}

/// Nobody can say what else has gone with it.
#[tokio::test]
async fn one_that_knows_less_than_before_has_lost_its_sessions() -> Outcome {
    let redis = Redis::start()?;
    let (store, memory) = begun(&redis).await?;
    assert_eq!(store.revoke(end(5)).await?, Ending::Done);
    // Once the node has heard of it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    redis.ask(&["HSET", "{bulla}", "count", "0"])?;
    let start = Instant::now();
    while store.memory() == memory {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = proofs_begin_anew(&store, memory).await?;
    assert_ne!(after.revocations, memory.revocations);
    Ok(())
}

/// Between the name's being read and the script's being sent the server may have become another one, with the
/// name among its data.
#[tokio::test]
async fn a_script_does_nothing_in_another_process_than_its_memory_began_in() -> Outcome {
    let mut redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"])?;
    let (store, memory) = begun(&redis).await?;
    let script = format!(
        "local name, max_skew, most_news = '{}', 30, 512\n{}",
        base64::encode(memory.proofs),
        include_str!("../../crates/server/src/store/redis/step.lua")
    );
    let first = [
        "EVAL",
        &script,
        "2",
        "{bulla}",
        "{bulla}:log:",
        "news",
        "first",
        "",
        "0",
    ];
    assert!(redis.ask(&first)?.contains("noeviction"));
    drop(store);
    redis.kill()?;
    redis.start_again()?;
    assert_eq!(redis.ask(&first)?, "other");
    Ok(())
}

#[tokio::test]
async fn the_later_of_two_ends_is_kept() -> Outcome {
    let redis = Redis::start()?;
    let (store, _) = begun(&redis).await?;
    for life in [43_200, 60] {
        let mut ended = end(b'a');
        ended.until = ended.now + life;
        assert_eq!(store.revoke(ended).await?, Ending::Done);
    }
    let left: u64 = redis.ask(&["TTL", "{bulla}:s:aaaaaaaaaaaa"])?.parse()?;
    assert!(left > 43_000, "{left}");
    Ok(())
}

#[tokio::test]
async fn one_that_evicts_is_refused() -> Outcome {
    let redis = Redis::start_with(&["--maxmemory-policy", "allkeys-lru"])?;
    assert!(cause(node(&redis, Survive::Nothing).await).contains("noeviction"));
    redis.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])?;
    node(&redis, Survive::Nothing).await?;
    Ok(())
}

#[tokio::test]
async fn one_that_is_read_only_is_refused() -> Outcome {
    let (redis, other) = (Redis::start()?, Redis::start()?);
    let store = node(&redis, Survive::Nothing).await?;
    let memory = store.memory();
    redis.follow(&other)?;
    assert_eq!(said(&store, memory, 1).await, Err(StoreError));
    assert_eq!(store.revoke(end(1)).await, Err(StoreError));
    redis.ask(&["REPLICAOF", "NO", "ONE"])?;
    proofs_begin_anew(&store, memory).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_thrown_away_takes_its_own_with_it() -> Outcome {
    let redis = Redis::start()?;
    let (store, memory) = begun(&redis).await?;
    // Scripts can be sent again.
    redis.ask(&["SCRIPT", "FLUSH"])?;
    assert_eq!(said(&store, memory, 1).await, Ok(Verdict::Replayed));
    assert_eq!(store.memory(), memory);
    redis.ask(&["FLUSHALL"])?;
    let after = proofs_begin_anew(&store, memory).await?;
    assert_ne!(after.revocations, memory.revocations);
    Ok(())
}

/// A proof would be forgotten too early, or a nonce be taken for too long.
#[tokio::test]
async fn a_node_whose_clock_is_wrong_is_refused() -> Outcome {
    let redis = Redis::start()?;
    let store = node(&redis, Survive::Nothing).await?;
    let memory = store.memory();
    for (number, (apart, is_taken)) in
        (0..).zip([(-120_i64, false), (-20, true), (20, true), (120, false)])
    {
        let mut used = proof(memory, number);
        used.now = used.now.saturating_add_signed(apart);
        used.until = used.until.saturating_add_signed(apart);
        let verdict = store.check_and_insert(used).await;
        assert_eq!(verdict.is_ok(), is_taken, "{apart}");
    }
    Ok(())
}

/// Clocks may be apart by what they are allowed, each from the server's.
/// While it was wrong the server may have dropped what it was to remember.
#[tokio::test]
async fn the_clock_of_redis_jumps_and_comes_back() -> Outcome {
    for survive in [Survive::Nothing, ON_A_REPLICA] {
        for jump in [13 * 3600, -3600] {
            let clock = ProcessClock::that_jumps()?;
            let (redis, replica) = (Redis::start_by(&clock)?, Redis::start()?);
            replica.follow(&redis)?;
            let store = node(&redis, survive).await?;
            let memory = store.memory();
            assert_eq!(said(&store, memory, 1).await, Ok(Verdict::Fresh));
            assert_eq!(store.revoke(end(9)).await?, Ending::Done);
            until_asked(&redis, 4).await?;
            clock.set_ahead(jump)?;
            assert_eq!(said(&store, memory, 2).await, Err(StoreError));
            let start = Instant::now();
            while store.memory() == memory {
                assert!(start.elapsed() < PATIENCE, "nobody notices {jump}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            clock.set_ahead(0)?;
            let after = proofs_begin_anew(&store, memory).await?;
            assert_ne!(after.revocations, memory.revocations);
            assert!(store.is_revoked(session(memory, 9)).await?);
            assert!(!store.is_revoked(session(after, 8)).await?);
        }
    }
    Ok(())
}

/// Until nodes have asked for news so often.
async fn until_asked(redis: &Redis, times: u64) -> Outcome {
    let start = Instant::now();
    while calls(redis.info("cmdstat_evalsha")) < times {
        assert!(start.elapsed() < PATIENCE, "nobody asks for news");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_copy_at_another_node_is_noticed_whatever_their_clocks_say() -> Outcome {
    let redis = Redis::start()?;
    let store = node(&redis, Survive::Nothing).await?;
    let memory = store.memory();
    let apart = [-28_i64, 0, 28];
    for (number, life) in [(1, 60), (2, 1), (3, 200)] {
        for (place, first) in apart.into_iter().enumerate() {
            for second in apart {
                let at = |apart: i64| {
                    let now = now().saturating_add_signed(apart);
                    let mut used = proof(memory, number);
                    used.proof[0] = u8::try_from(place).unwrap_or_default();
                    used.proof[1] = second.to_le_bytes()[0];
                    used.until = (now / life + 3) * life;
                    used.now = now;
                    used
                };
                assert_eq!(store.check_and_insert(at(first)).await?, Verdict::Fresh);
                assert_eq!(store.check_and_insert(at(second)).await?, Verdict::Replayed);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_user_and_strangers_have_a_quota_of_what_they_end() -> Outcome {
    let redis = Redis::start()?;
    let store = node(&redis, Survive::Nothing).await?;
    let of = |number: u32, by| {
        let mut ended = end(0);
        let mut id = [1; 12];
        id[..4].copy_from_slice(&number.to_be_bytes());
        ended.revocation = Revocation::Session(RevocationId(id));
        ended.by = by;
        ended
    };
    let (ann, bob) = (Party::User("ann".parse()?), Party::User("bob".parse()?));
    let quota = u32::try_from(MemoryStore::REVOCATIONS_QUOTA)?;
    // As if she had ended all but one already, and so had those without a name.
    redis.ask(&[
        "SET",
        "{bulla}:o:ann",
        &(quota - 1).to_string(),
        "EX",
        "1000",
    ])?;
    assert_eq!(store.revoke(of(1, ann)).await?, Ending::Done);
    assert_eq!(store.revoke(of(2, ann)).await?, Ending::OverQuota);
    let all_but_one = (RedisStore::STRANGERS_QUOTA - 1).to_string();
    redis.ask(&["SET", "{bulla}:o:", &all_but_one, "EX", "1000"])?;
    assert_eq!(store.revoke(of(4, Party::Stranger)).await?, Ending::Done);
    assert_eq!(store.revoke(of(5, Party::Stranger)).await, Err(StoreError));
    // What has ended has ended already.
    assert_eq!(store.revoke(of(1, ann)).await?, Ending::Done);
    assert_eq!(store.revoke(of(3, bob)).await?, Ending::Done);
    assert_eq!(store.revoke(of(2, Party::Application)).await?, Ending::Done);
    Ok(())
}

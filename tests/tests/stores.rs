//! What every store owes, asked of each: in memory, on disk, and in a real Redis.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bulla_server::store::{
    Ended, Ending, Memory, Party, Replacement, SessionRef, UsedProof, Verdict,
};
use bulla_server::{
    EmbeddedStore, MemoryStore, RedisStore, Revocation, RevocationId, Store, SystemRandom,
    Thumbprint,
};
use bulla_tests::attack::Outcome;
use bulla_tests::redis::Redis;

/// As long as sessions live, in seconds.
const LIFE: u64 = 43_200;

#[tokio::test]
async fn memory() -> Outcome {
    owes(&|| async { Ok(MemoryStore::new()?) }).await
}

#[tokio::test]
async fn embedded() -> Outcome {
    let folder = tempfile::tempdir()?;
    let number = AtomicU32::new(0);
    owes(&|| async {
        let number = number.fetch_add(1, Ordering::Relaxed);
        Ok(EmbeddedStore::open(folder.path().join(number.to_string()))?)
    })
    .await
}

#[tokio::test]
async fn redis() -> Outcome {
    let redis = Redis::start()?;
    let number = AtomicU32::new(0);
    owes(&|| async {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let store = RedisStore::builder(redis.url()).name(format!("store-{number}"));
        Ok(store.connect().await?)
    })
    .await
}

#[tokio::test]
async fn redis_over_tls() -> Outcome {
    let (redis, authority) = Redis::start_with_tls()?;
    let url = format!("rediss://localhost:{}", redis.port());
    let store = || RedisStore::builder(&*url);
    a_proof_is_fresh_once(&store().root_certificate(&*authority).connect().await?).await?;
    // Nobody whom the system trusts vouches for it.
    assert!(store().connect().await.is_err());
    Ok(())
}

/// The first URL leads to the one that has not the store's slot, or the second.
#[tokio::test]
async fn redis_cluster() -> Outcome {
    let nodes = Redis::start_cluster()?;
    for node in &nodes {
        let number = AtomicU32::new(0);
        let url = format!("redis+cluster://127.0.0.1:{}", node.port());
        owes(&|| async {
            let number = number.fetch_add(1, Ordering::Relaxed);
            let name = format!("store-{}-{number}", node.port());
            let store = RedisStore::builder(&*url).name(name);
            Ok(store.connect().await?)
        })
        .await?;
    }
    Ok(())
}

async fn owes<S: Store, F: Future<Output = Outcome<S>>>(new: &impl Fn() -> F) -> Outcome {
    a_proof_is_fresh_once(&new().await?).await?;
    a_proof_is_fresh_once_however_many_ask_at_once(Arc::new(new().await?)).await?;
    what_was_made_under_another_memory_does_not_count(&new().await?, &new().await?).await?;
    a_session_may_send_much_once_it_is_confirmed(&new().await?).await?;
    what_has_ended_has_ended(new).await?;
    what_is_said_twice_is_not_taken_back(&new().await?).await?;
    a_login_is_recent_no_more_and_its_session_goes_on(&new().await?).await?;
    one_session_takes_the_place_of_another(&new().await?).await?;
    a_replacement_and_an_end_at_once_leave_nothing_alive(Arc::new(new().await?)).await?;
    whoever_begins_anew_has_ended_all(&new().await?).await?;
    Ok(())
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

fn id(id: u8) -> RevocationId {
    RevocationId([id; RevocationId::LEN])
}

/// Ann's, of device 2, logged in at second 50.
fn session(store: &impl Store, of: u8) -> SessionRef {
    SessionRef {
        session: id(of),
        device: Thumbprint([2; 32]),
        subject: "ann".parse().ok().map(|ann| (ann, 50)),
        memory: store.memory().revocations,
    }
}

fn used(store: &impl Store, proof: u32, of: u8) -> UsedProof {
    let mut name = [0; 16];
    // Spread, as hashes are.
    for (at, part) in name.chunks_mut(4).enumerate() {
        let spread = proof
            .wrapping_mul(0x9e37_79b1)
            .rotate_left(u32::try_from(at).unwrap_or(0) * 7);
        part.copy_from_slice(&spread.to_be_bytes());
    }
    let now = now();
    UsedProof {
        proof: name,
        memory: store.memory().proofs,
        until: (now / 60 + 3) * 60,
        now,
        confirmed: true,
        session: session(store, of),
    }
}

fn ended(revocation: Revocation) -> Ended {
    Ended {
        revocation,
        until: now() + LIFE,
        now: now(),
        by: Party::Application,
    }
}

fn replacement(old: u8, new: u8) -> Replacement {
    Replacement {
        old: id(old),
        new: id(new),
        until: now() + LIFE,
        now: now(),
        by: Party::Stranger,
    }
}

async fn whoever_begins_anew_has_ended_all(store: &impl Store) -> Outcome {
    let (before, kept) = (session(store, 1), used(store, 1, 1));
    assert_eq!(store.check_and_insert(kept.clone()).await?, Verdict::Fresh);
    assert!(!store.is_revoked(before.clone()).await?);
    let device = Revocation::Device(Thumbprint([9; 32]));
    store.revoke(ended(device)).await?;
    let next = Memory::begin(&SystemRandom)?;
    store.begin_anew(next).await?;
    assert_eq!(store.memory(), next);
    assert!(store.is_revoked(before).await?);
    let verdict = store.check_and_insert(kept).await?;
    assert!(matches!(verdict, Verdict::Stale | Verdict::Revoked));
    let fresh = used(store, 2, 1);
    assert_eq!(store.check_and_insert(fresh).await?, Verdict::Fresh);
    assert!(!store.is_revoked(session(store, 1)).await?);
    // A device that was locked out stays so.
    let mut locked_out = session(store, 2);
    locked_out.device = Thumbprint([9; 32]);
    assert!(store.is_revoked(locked_out).await?);
    Ok(())
}

async fn a_proof_is_fresh_once(store: &impl Store) -> Outcome {
    let proof = used(store, 1, 1);
    assert_eq!(store.check_and_insert(proof.clone()).await?, Verdict::Fresh);
    assert_eq!(
        store.check_and_insert(proof.clone()).await?,
        Verdict::Replayed
    );
    // Another session of the device, and a node whose clock is a little ahead.
    let mut again = proof.clone();
    again.session = session(store, 2);
    again.now += 10;
    again.until += 60;
    assert_eq!(store.check_and_insert(again).await?, Verdict::Replayed);
    for number in 2..200 {
        let proof = used(store, number, 1);
        assert_eq!(
            store.check_and_insert(proof).await?,
            Verdict::Fresh,
            "{number}"
        );
    }
    assert_eq!(store.check_and_insert(proof).await?, Verdict::Replayed);
    Ok(())
}

async fn a_proof_is_fresh_once_however_many_ask_at_once(store: Arc<impl Store>) -> Outcome {
    let ask = |_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut fresh = Vec::new();
            for number in 0..200 {
                if store.check_and_insert(used(&*store, number, 1)).await == Ok(Verdict::Fresh) {
                    fresh.push(number);
                }
            }
            fresh
        })
    };
    let tasks: Vec<_> = (0..4).map(ask).collect();
    let mut fresh = Vec::new();
    for task in tasks {
        fresh.extend(task.await?);
    }
    assert_eq!(fresh.len(), 200);
    assert_eq!(fresh.iter().collect::<HashSet<_>>().len(), 200);
    Ok(())
}

async fn what_was_made_under_another_memory_does_not_count(
    store: &impl Store,
    other: &impl Store,
) -> Outcome {
    assert_ne!(store.memory().proofs, other.memory().proofs);
    assert_ne!(store.memory().revocations, other.memory().revocations);
    let mut foreign = used(store, 1, 1);
    foreign.memory = other.memory().proofs;
    assert_eq!(store.check_and_insert(foreign).await?, Verdict::Stale);
    let mut foreign = used(store, 1, 1);
    foreign.session.memory = other.memory().revocations;
    assert_eq!(
        store.check_and_insert(foreign.clone()).await?,
        Verdict::Revoked
    );
    assert!(store.is_revoked(foreign.session).await?);
    // Nor was it remembered.
    assert_eq!(
        store.check_and_insert(used(store, 1, 1)).await?,
        Verdict::Fresh
    );
    Ok(())
}

async fn a_session_may_send_much_once_it_is_confirmed(store: &impl Store) -> Outcome {
    for number in 0..101 {
        let proof = UsedProof {
            confirmed: false,
            ..used(store, number, 1)
        };
        let expected = if number < 100 {
            Verdict::Fresh
        } else {
            Verdict::OverQuota
        };
        assert_eq!(store.check_and_insert(proof).await?, expected, "{number}");
    }
    assert_eq!(
        store.check_and_insert(used(store, 100, 1)).await?,
        Verdict::Fresh
    );
    let proof = UsedProof {
        confirmed: false,
        ..used(store, 101, 2)
    };
    assert_eq!(store.check_and_insert(proof).await?, Verdict::Fresh);
    Ok(())
}

async fn what_has_ended_has_ended<S: Store, F: Future<Output = Outcome<S>>>(
    new: &impl Fn() -> F,
) -> Outcome {
    for (revocation, ends) in [
        (Revocation::Session(id(1)), true),
        (Revocation::Session(id(3)), false),
        (Revocation::Device(Thumbprint([2; 32])), true),
        (Revocation::Device(Thumbprint([3; 32])), false),
        (Revocation::Subject("ann".parse()?, 50), true),
        (Revocation::Subject("ann".parse()?, 49), false),
        (Revocation::Subject("bob".parse()?, 50), false),
    ] {
        let store = new().await?;
        assert!(!store.is_revoked(session(&store, 1)).await?);
        assert_eq!(store.revoke(ended(revocation.clone())).await?, Ending::Done);
        assert_eq!(
            store.is_revoked(session(&store, 1)).await?,
            ends,
            "{revocation:?}"
        );
        let expected = if ends {
            Verdict::Revoked
        } else {
            Verdict::Fresh
        };
        let verdict = store.check_and_insert(used(&store, 1, 1)).await?;
        assert_eq!(verdict, expected, "{revocation:?}");
        // Whom nobody has logged in to ends with its id and its device only.
        let mut stranger = session(&store, 1);
        stranger.subject = None;
        let expected = ends && !matches!(revocation, Revocation::Subject(..));
        assert_eq!(
            store.is_revoked(stranger).await?,
            expected,
            "{revocation:?}"
        );
    }
    Ok(())
}

async fn what_is_said_twice_is_not_taken_back(store: &impl Store) -> Outcome {
    for (login, until) in [(50, LIFE), (40, 60)] {
        for revocation in [
            Revocation::Subject("ann".parse()?, login),
            Revocation::Session(id(7)),
        ] {
            let mut ended = ended(revocation);
            ended.until = now() + until;
            assert_eq!(store.revoke(ended).await?, Ending::Done);
        }
    }
    assert!(store.is_revoked(session(store, 1)).await?);
    assert!(store.is_revoked(session(store, 7)).await?);
    Ok(())
}

async fn a_login_is_recent_no_more_and_its_session_goes_on(store: &impl Store) -> Outcome {
    let (ann, bob) = ("ann".parse()?, "bob".parse()?);
    let mut number = 0;
    let mut said = async |subject| {
        number += 1;
        let mut proof = used(store, number, 1);
        proof.session.subject = subject;
        Ok::<_, Box<dyn std::error::Error>>(store.check_and_insert(proof).await?)
    };
    assert_eq!(said(Some((ann, 50))).await?, Verdict::Fresh);
    // The second is not taken back by what is said after it.
    for login in [49, 50, 48] {
        let again = Revocation::RecentLogin(ann, login);
        assert_eq!(store.revoke(ended(again)).await?, Ending::Done);
    }
    assert_eq!(said(Some((ann, 49))).await?, Verdict::StepUp);
    assert_eq!(said(Some((ann, 50))).await?, Verdict::StepUp);
    for other in [Some((ann, 51)), Some((bob, 50)), None] {
        assert_eq!(said(other).await?, Verdict::Fresh);
    }
    assert!(!store.is_revoked(session(store, 1)).await?);
    // It is remembered like any other.
    let again = store.check_and_insert(used(store, 3, 1)).await?;
    assert_eq!(again, Verdict::Replayed);
    Ok(())
}

async fn one_session_takes_the_place_of_another(store: &impl Store) -> Outcome {
    let place = |of| Ending::Replaced(id(of));
    assert_eq!(store.replace(replacement(1, 2)).await?, place(2));
    assert!(store.is_revoked(session(store, 1)).await?);
    assert!(!store.is_revoked(session(store, 2)).await?);
    // Again, and by another one that comes too late.
    assert_eq!(store.replace(replacement(1, 2)).await?, place(2));
    assert_eq!(store.replace(replacement(1, 3)).await?, place(2));
    assert_eq!(store.replace(replacement(2, 3)).await?, place(3));
    assert_eq!(store.replace(replacement(3, 4)).await?, place(4));
    assert!(!store.is_revoked(session(store, 4)).await?);
    // Whoever ends the first means the last.
    let end = ended(Revocation::Session(id(1)));
    assert_eq!(store.revoke(end).await?, place(4));
    for of in 1..=4 {
        assert!(store.is_revoked(session(store, of)).await?, "{of}");
    }
    // What has ended has no place to give.
    let end = ended(Revocation::Session(id(4)));
    assert_eq!(store.revoke(end).await?, Ending::Done);
    assert_eq!(store.replace(replacement(4, 5)).await?, Ending::Done);
    assert!(!store.is_revoked(session(store, 5)).await?);
    Ok(())
}

/// Whichever comes first.
async fn a_replacement_and_an_end_at_once_leave_nothing_alive(store: Arc<impl Store>) -> Outcome {
    for round in (10..110).step_by(2) {
        let (ending, replacing) = (Arc::clone(&store), Arc::clone(&store));
        let end = tokio::spawn(async move {
            let end = ended(Revocation::Session(id(round)));
            ending.revoke(end).await
        });
        let place = replacing.replace(replacement(round, round + 1)).await?;
        let end = end.await??;
        let heir_ended = store.is_revoked(session(&*store, round + 1)).await?;
        match (place, end) {
            (Ending::Done, Ending::Done) => {}
            (Ending::Replaced(_), Ending::Replaced(_)) => assert!(heir_ended, "{round}"),
            other => return Err(format!("{round}: {other:?}").into()),
        }
        assert!(store.is_revoked(session(&*store, round)).await?, "{round}");
    }
    Ok(())
}

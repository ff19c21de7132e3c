//! What every registry owes, asked of each: in memory, on disk, and in a real Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bulla_server::registry::{Swap, Swapped};
use bulla_server::{
    EmbeddedStore, MemoryRegistry, RedisStore, Registry, Revocation, RevocationId, Store, Subject,
};
use bulla_tests::attack::Outcome;
use bulla_tests::redis::Redis;

#[tokio::test]
async fn memory() -> Outcome {
    owes(&|| async { Ok(((), MemoryRegistry::new())) }).await
}

#[tokio::test]
async fn embedded() -> Outcome {
    let folder = tempfile::tempdir()?;
    let number = AtomicU32::new(0);
    owes(&|| async {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let store = EmbeddedStore::open(folder.path().join(number.to_string()))?;
        // Also once the store itself is not there any more.
        Ok(((), store.registry()))
    })
    .await
}

#[tokio::test]
async fn redis() -> Outcome {
    let redis = Redis::start()?;
    let number = AtomicU32::new(0);
    owes(&|| async {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let store = RedisStore::builder(redis.url()).name(format!("registry-{number}"));
        let store = store.connect().await?;
        let registry = store.registry();
        Ok((store, registry))
    })
    .await
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
            let name = format!("registry-{}-{number}", node.port());
            let store = RedisStore::builder(&*url).name(name).connect().await?;
            let registry = store.registry();
            Ok((store, registry))
        })
        .await?;
    }
    Ok(())
}

/// Beside each registry there may be something that it lives by.
async fn owes<L, R: Registry, F: Future<Output = Outcome<(L, R)>>>(
    new: &impl Fn() -> F,
) -> Outcome {
    let (_life, registry) = new().await?;
    what_is_there_is_swapped_for_what_is_to_be(&registry).await?;
    let (_life, registry) = new().await?;
    users_are_apart(&registry).await?;
    let (_life, registry) = new().await?;
    of_those_who_swap_at_once_one_does(Arc::new(registry)).await?;
    let (_life, registry) = new().await?;
    a_record_may_be_long(&registry).await
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

fn swap(user: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> Outcome<Swap> {
    Ok(Swap {
        subject: user.parse()?,
        old: old.map(<[u8]>::to_vec),
        new: new.map(<[u8]>::to_vec),
        until: now() + 3600,
        now: now(),
    })
}

async fn what_is_there_is_swapped_for_what_is_to_be(registry: &impl Registry) -> Outcome {
    let ann: Subject = "ann".parse()?;
    // All bytes, as they are.
    let every: Vec<u8> = (0..=255).collect();
    let records: [Option<&[u8]>; 6] = [
        None,
        Some(b"one\0"),
        Some(&every),
        Some(b"\r\n"),
        None,
        None,
    ];
    assert_eq!(registry.get(ann).await?, None);
    for (old, new) in records.into_iter().zip(records.into_iter().skip(1)) {
        // Not over anything else, whatever it begins with.
        for wrong in [Some(&b"one"[..]), Some(b"other"), None] {
            if wrong != old {
                let refused = registry.swap(swap("ann", wrong, Some(b"x"))?).await?;
                assert_eq!(refused, Swapped::Other(old.map(<[u8]>::to_vec)));
            }
        }
        let done = registry.swap(swap("ann", old, new)?).await?;
        assert_eq!(done, Swapped::Done);
        assert_eq!(registry.get(ann).await?.as_deref(), new);
    }
    Ok(())
}

async fn users_are_apart(registry: &impl Registry) -> Outcome {
    let users = ["a", "ab", "a b", "a{b}", "ä", &"x".repeat(48)];
    for user in users {
        let made = registry.swap(swap(user, None, Some(user.as_bytes()))?);
        assert_eq!(made.await?, Swapped::Done, "{user}");
    }
    for user in users {
        let record = registry.get(user.parse()?).await?;
        assert_eq!(record.as_deref(), Some(user.as_bytes()));
    }
    Ok(())
}

async fn of_those_who_swap_at_once_one_does(registry: Arc<impl Registry>) -> Outcome {
    let count = |_| {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            for _ in 0..50 {
                let mut old = None;
                loop {
                    let seen = old.as_deref().map_or(0, <[u8]>::len);
                    let next = vec![0; seen + 1];
                    let next = swap("ann", old.as_deref(), Some(&next));
                    match registry.swap(next.map_err(|_| "no swap")?).await {
                        Ok(Swapped::Done) => break,
                        Ok(Swapped::Other(there)) => old = there,
                        Err(_) => return Err("no answer"),
                    }
                }
            }
            Ok(())
        })
    };
    let tasks: Vec<_> = (0..4).map(count).collect();
    for task in tasks {
        task.await??;
    }
    // Each has added one.
    let record = registry.get("ann".parse()?).await?;
    assert_eq!(record.map(|record| record.len()), Some(200));
    Ok(())
}

async fn a_record_may_be_long(registry: &impl Registry) -> Outcome {
    let long = vec![7; 128 << 10];
    registry.swap(swap("ann", None, Some(&long))?).await?;
    let shorter = swap("ann", Some(&long), Some(&long[1..]))?;
    assert_eq!(registry.swap(shorter).await?, Swapped::Done);
    let record = registry.get("ann".parse()?).await?;
    assert_eq!(record.as_deref(), Some(&long[1..]));
    Ok(())
}

#[tokio::test]
async fn on_disk_a_record_outlives_the_process_and_its_time_does_not() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store.redb");
    let (ann, bob): (Subject, Subject) = ("ann".parse()?, "bob".parse()?);
    let registry = EmbeddedStore::open(&path)?.registry();
    for user in ["ann", "bob"] {
        let mut swap = swap(user, None, Some(b"x"))?;
        swap.until = now() + if user == "ann" { 60 } else { 9000 };
        registry.swap(swap).await?;
    }
    // Both have the file.
    assert!(EmbeddedStore::open(&path).is_err());
    drop(registry);
    let store = EmbeddedStore::open(&path)?;
    let registry = store.registry();
    assert!(registry.get(ann).await?.is_some() && registry.get(bob).await?.is_some());
    let mut later = swap("eve", None, Some(b"x"))?;
    later.now += 7200;
    later.until += 7200;
    registry.swap(later).await?;
    assert!(registry.get(ann).await?.is_none() && registry.get(bob).await?.is_some());
    // What has ended is beside it, and is not touched.
    let ended = bulla_server::store::Ended {
        revocation: Revocation::Session(RevocationId([1; RevocationId::LEN])),
        until: now() + 9000,
        now: now(),
        by: bulla_server::store::Party::Application,
    };
    store.revoke(ended).await?;
    assert!(registry.get(bob).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn redis_forgets_a_record_when_its_time_is_over() -> Outcome {
    let redis = Redis::start()?;
    let store = RedisStore::connect(redis.url()).await?;
    let registry = store.registry();
    registry.swap(swap("ann", None, Some(b"x"))?).await?;
    let left: u64 = redis.ask(&["TTL", "{bulla}:r:ann"])?.parse()?;
    assert!((3500..=3600).contains(&left), "{left}");
    // Scripts that were thrown away are sent again.
    redis.ask(&["SCRIPT", "FLUSH"])?;
    let again = registry.swap(swap("ann", Some(b"x"), Some(b"y"))?).await?;
    assert_eq!(again, Swapped::Done);
    Ok(())
}

#[tokio::test]
async fn a_redis_that_is_away_says_so() -> Outcome {
    let mut redis = Redis::start()?;
    let store = RedisStore::connect(redis.url()).await?;
    let registry = store.registry();
    redis.kill()?;
    assert!(registry.get("ann".parse()?).await.is_err());
    assert!(registry.swap(swap("ann", None, Some(b"x"))?).await.is_err());
    redis.start_again()?;
    // It goes on by itself.
    let mut attempts = 0;
    while registry.swap(swap("ann", None, Some(b"x"))?).await.is_err() {
        attempts += 1;
        assert!(attempts < 100, "it does not");
    }
    assert!(registry.get("ann".parse()?).await?.is_some());
    Ok(())
}

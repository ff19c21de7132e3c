//! What every registry owes, asked of each: in memory, on disk, and in a real Redis.

use std::sync::Arc;

use bulla_server::registry::{Record, Swap};
use bulla_server::{EmbeddedRegistry, MemoryRegistry, RedisStore, Registry, Subject};
use bulla_tests::attack::Outcome;
use bulla_tests::redis::Redis;
use futures_util::future::join_all;

/// By the system's clock, since Redis goes by its own.
fn now() -> u64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

fn swap(subject: &str, known: Option<u64>, version: u64, content: &[u8]) -> Outcome<Swap> {
    Ok(Swap {
        subject: subject.parse()?,
        known,
        next: Record {
            version,
            content: content.to_vec(),
        },
        until: now() + 1000,
        now: now(),
    })
}

#[tokio::test]
async fn memory() -> Outcome {
    owes(Arc::new(MemoryRegistry::new())).await
}

#[tokio::test]
async fn embedded() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registry.redb");
    let registry = Arc::new(EmbeddedRegistry::open(&file)?);
    owes(Arc::clone(&registry)).await?;
    assert!(EmbeddedRegistry::open(&file).is_err(), "it is open");
    drop(registry);
    // The next process finds what there was.
    let reopened = EmbeddedRegistry::open(&file)?;
    let found = reopened.load("ann".parse()?).await?;
    assert_eq!(found.map(|record| record.content), Some(b"third".to_vec()));
    Ok(())
}

#[tokio::test]
async fn redis() -> Outcome {
    let redis = Redis::start()?;
    let store = RedisStore::connect(redis.url()).await?;
    owes(Arc::new(store.registry())).await?;
    // Another node sees the same, another application on the same server does not.
    let other = RedisStore::connect(redis.url()).await?.registry();
    let ann: Subject = "ann".parse()?;
    assert!(other.load(ann).await?.is_some());
    let apart = RedisStore::builder(redis.url())
        .name("apart")
        .connect()
        .await?;
    assert_eq!(apart.registry().load(ann).await?, None);
    // It is gone in its time.
    let life: u64 = redis.ask(&["TTL", "{bulla}:card:ann"])?.parse()?;
    assert!((900..=1000).contains(&life), "{life}");
    Ok(())
}

#[tokio::test]
async fn redis_cluster() -> Outcome {
    let nodes = Redis::start_cluster()?;
    for (number, node) in nodes.iter().enumerate() {
        let url = format!("redis+cluster://127.0.0.1:{}", node.port());
        let store = RedisStore::builder(url).name(format!("store-{number}"));
        owes(Arc::new(store.connect().await?.registry())).await?;
    }
    Ok(())
}

#[tokio::test]
async fn one_that_is_away_says_so() -> Outcome {
    let redis = Redis::start()?;
    let store = RedisStore::connect(redis.url()).await?;
    let registry = store.registry();
    drop(redis);
    assert!(registry.load("ann".parse()?).await.is_err());
    assert!(registry.swap(swap("ann", None, 1, b"")?).await.is_err());
    Ok(())
}

async fn owes<R: Registry>(registry: Arc<R>) -> Outcome {
    let ann: Subject = "ann".parse()?;
    assert_eq!(registry.load(ann).await?, None);
    // What is not there has no version; what is there has one, and no other.
    assert!(!registry.swap(swap("ann", Some(1), 2, b"first")?).await?);
    assert!(registry.swap(swap("ann", None, 2, b"second")?).await?);
    for known in [None, Some(1), Some(3)] {
        assert!(!registry.swap(swap("ann", known, 4, b"other")?).await?);
    }
    let found = registry.load(ann).await?.ok_or("nothing is there")?;
    assert_eq!((found.version, &found.content[..]), (2, &b"second"[..]));
    assert!(
        registry
            .swap(swap("ann", Some(2), u64::MAX, b"third")?)
            .await?
    );
    assert!(registry.swap(swap("bob", None, 1, b"")?).await?);
    let found = registry.load(ann).await?.ok_or("nothing is there")?;
    assert_eq!(
        (found.version, &found.content[..]),
        (u64::MAX, &b"third"[..])
    );

    // Of many who come at once one is first.
    let at_once = (0..20).map(|version| {
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            let swap = swap("eve", None, version, b"").map_err(|error| error.to_string())?;
            registry.swap(swap).await.map_err(|error| error.to_string())
        })
    });
    let mut first = 0;
    for came in join_all(at_once).await {
        first += u32::from(came??);
    }
    assert_eq!(first, 1);
    Ok(())
}

//! How many sessions a user may have at once (OWASP ASVS 5.0, 7.1.2), at one node and at two.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bulla_client::Code;
use bulla_server::registry::{Swap, Swapped};
use bulla_server::store::StoreFuture;
use bulla_server::{
    Builder, Concurrency, EmbeddedStore, RedisRegistry, RedisStore, Registry, Ring, Subject,
    WrappingKey,
};
use bulla_tests::attack::Name::{Asvs, Sess};
use bulla_tests::attack::With::Refused;
use bulla_tests::attack::{Attack, Outcome, Shown, Twin, error_code};
use bulla_tests::bank::PATIENCE;
use bulla_tests::members::{Members, call, log_in, refusal, ticks, until_cut, who};
use bulla_tests::redis::Redis;
use serde_json::Value;
use tokio::join;
use tokio::sync::Notify;
use tokio::task::yield_now;

bulla_tests::attacks! {
    of_two_logins_at_once_one_gets_the_last_place: [LAST_PLACE],
}

const ONE: NonZeroU32 = NonZeroU32::MIN;

fn many(limit: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(limit - 1)
}

async fn node(redis: &Redis, concurrency: Concurrency) -> Outcome<Members> {
    let store = RedisStore::connect(redis.url()).await?;
    let ring = store.ring(WrappingKey::new(&[7; 32])).await?;
    let registry = store.registry();
    let configure = |builder: Builder| {
        let builder = builder.ring(ring).store(store).registry(registry);
        builder.concurrency(concurrency)
    };
    Ok(Members::start(configure).await?)
}

#[tokio::test]
async fn unlimited_is_as_many_as_one_likes() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(members.log_in("ann").await?);
    }
    for session in &sessions {
        assert_eq!(who(session).await?["subject"], "ann");
    }
    assert_eq!(members.bulla.sessions_of("ann".parse()?).await?.len(), 20);
    Ok(())
}

#[tokio::test]
async fn at_most_so_many_and_the_next_is_told_so() -> Outcome {
    let limit = Concurrency::AtMost(many(2));
    let members = Members::start(|builder| builder.concurrency(limit)).await?;
    let (phone, laptop) = (members.log_in("ann").await?, members.log_in("ann").await?);
    let tablet = members.device()?.open().await?;
    let refused = error_code(log_in(&tablet, "ann").await);
    assert_eq!(refused, Some(Code::SessionLimit));
    // Whose session this is has not changed, and others are not concerned.
    assert_eq!(who(&tablet).await?["subject"], Value::Null);
    members.log_in("bob").await?;
    for session in [&phone, &laptop] {
        assert_eq!(who(session).await?["subject"], "ann");
    }
    // Whoever logs in again where he is logged in needs no place.
    log_in(&phone, "ann").await?;
    call(&laptop, "POST", "/api/logout", &Value::Null).await?;
    log_in(&tablet, "ann").await?;
    Ok(())
}

#[tokio::test]
async fn the_newest_wins_and_the_oldest_is_cut() -> Outcome {
    let limit = Concurrency::NewestWins(ONE);
    let members = Members::start(|builder| builder.concurrency(limit)).await?;
    let phone = members.log_in("ann").await?;
    let bob = members.log_in("bob").await?;
    let stream = ticks(&phone).await?;
    let laptop = members.log_in("ann").await?;
    until_cut(stream).await?;
    assert_eq!(refusal(&phone).await, Some(Code::SessionRevoked));
    assert_eq!(who(&laptop).await?["subject"], "ann");
    assert_eq!(who(&bob).await?["subject"], "bob");
    Ok(())
}

/// A registry that takes its time between a look and what is done by it: the second look, by which a login's session is
/// given its place.
struct Slow {
    registry: RedisRegistry,
    looks: AtomicU32,
    has_looked: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl Registry for Slow {
    fn is_shared(&self) -> bool {
        true
    }

    fn get(&self, subject: Subject) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            let record = self.registry.get(subject).await;
            if self.looks.fetch_add(1, Ordering::Relaxed) == 1 {
                self.has_looked.notify_one();
                self.go_on.notified().await;
            }
            record
        })
    }

    fn swap(&self, swap: Swap) -> StoreFuture<'_, Swapped> {
        self.registry.swap(swap)
    }
}

static LAST_PLACE: Attack = Attack {
    has: "her password",
    does: "logs in at one node while she does at another one, where there may be one session",
    twin: Twin::Weakened("nodes that count each for itself"),
    without: "both are in",
    with: Refused(&[Code::SessionLimit]),
    names: &[Sess(11), Asvs("7.1.2")],
    shown: Shown::nothing(),
};

/// Each through a node of its own. When one takes the place the other has seen that it is free.
async fn of_two_logins_at_once_one_gets_the_last_place() -> Outcome {
    let redis = Redis::start()?;
    let limit = Concurrency::AtMost(ONE);
    let here = node(&redis, limit).await?;
    let (has_looked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let store = RedisStore::connect(redis.url()).await?;
    let ring = store.ring(WrappingKey::new(&[7; 32])).await?;
    let registry = Slow {
        registry: store.registry(),
        looks: AtomicU32::new(0),
        has_looked: Arc::clone(&has_looked),
        go_on: Arc::clone(&go_on),
    };
    let configure = |builder: Builder| {
        let builder = builder.ring(ring).store(store).registry(registry);
        builder.concurrency(limit)
    };
    let there = Members::start(configure).await?;
    let (one, two) = (here.device()?.open().await?, there.device()?.open().await?);
    let between = async {
        has_looked.notified().await;
        let logged_in = log_in(&one, "ann").await;
        go_on.notify_one();
        logged_in
    };
    let (first, second) = join!(between, log_in(&two, "ann"));
    first?;
    LAST_PLACE.refused(error_code(second));
    assert_eq!(who(&one).await?["subject"], "ann");
    assert_eq!(here.bulla.sessions_of("ann".parse()?).await?.len(), 1);
    LAST_PLACE.without(nodes_that_count_each_for_itself_let_both_in().await?);
    Ok(())
}

/// What the test before would see where nodes do not count together.
async fn nodes_that_count_each_for_itself_let_both_in() -> Outcome<bool> {
    let limit = Concurrency::AtMost(ONE);
    let node = || Members::start(|builder| builder.concurrency(limit));
    let (here, there) = (node().await?, node().await?);
    let (one, two) = join!(here.log_in("ann"), there.log_in("ann"));
    let (one, two) = (who(&one?).await?, who(&two?).await?);
    Ok(one["subject"] == "ann" && two["subject"] == "ann")
}

#[tokio::test]
async fn at_two_nodes_the_newest_wins() -> Outcome {
    let redis = Redis::start()?;
    let limit = Concurrency::NewestWins(ONE);
    let (here, there) = (node(&redis, limit).await?, node(&redis, limit).await?);
    let first = here.log_in("ann").await?;
    let stream = ticks(&first).await?;
    let second = there.log_in("ann").await?;
    until_cut(stream).await?;
    assert_eq!(refusal(&first).await, Some(Code::SessionRevoked));
    assert_eq!(who(&second).await?["subject"], "ann");
    Ok(())
}

/// Connections that are being closed hold the earlier one for a moment.
async fn open(path: &Path) -> Outcome<EmbeddedStore> {
    let start = Instant::now();
    loop {
        match EmbeddedStore::open(path) {
            Err(_) if start.elapsed() < PATIENCE => yield_now().await,
            opened => return Ok(opened?),
        }
    }
}

/// A place that is taken stays taken over a restart, and the name of a device is kept.
#[tokio::test]
async fn on_disk_a_place_outlives_the_process() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    let start = async || -> Outcome<Members> {
        let store = open(&path.join("store.redb")).await?;
        let ring = Ring::in_file(path.join("ring.json"))?;
        let registry = store.registry();
        let configure = |builder: Builder| {
            let builder = builder.ring(ring).store(store).registry(registry);
            builder.concurrency(Concurrency::AtMost(ONE))
        };
        Ok(Members::start(configure).await?)
    };
    let members = start().await?;
    let session = members.log_in("ann").await?;
    call(&session, "PUT", "/api/device", &"Ann's phone".into()).await?;
    let before = members.bulla.sessions_of("ann".parse()?).await?;
    drop((session, members));
    let members = start().await?;
    let after = members.bulla.sessions_of("ann".parse()?).await?;
    assert_eq!((after.len(), &after), (1, &before));
    let name = after[0].device_name.as_ref().map(ToString::to_string);
    assert_eq!(name.as_deref(), Some("Ann's phone"));
    let other = members.device()?.open().await?;
    let refused = error_code(log_in(&other, "ann").await);
    assert_eq!(refused, Some(Code::SessionLimit));
    Ok(())
}

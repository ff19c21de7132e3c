//! Two nodes behind a plain round-robin, with one store and one ring.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bulla_client::{Client, Code, Mode, Prepared, ProofKind, Session};
use bulla_server::{Lifetimes, RedisStore, WrappingKey};
use bulla_tests::attack::Name::{Api, Asvs, Sess};
use bulla_tests::attack::With::Refused;
use bulla_tests::attack::{
    Attack, Outcome, Shown, Twin, client, code, error_code, log_in, post, transfer,
};
use bulla_tests::bank::Bank;
use bulla_tests::nodes::Nodes;
use bulla_tests::redis::Redis;
use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

bulla_tests::attacks! {
    at_once_at_two_nodes_it_is_taken_by_one: [AT_TWO_NODES, AFTER_LOGOUT_ELSEWHERE],
}

/// Where nodes can keep the ring that they share.
const RINGS: [&str; 2] = ["folder", "redis"];
const DAY: i64 = 24 * 3600;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

async fn start(ring: &'static str) -> Outcome<Nodes> {
    Nodes::start(env!("CARGO_BIN_EXE_node"), ring).await
}

async fn open(nodes: &Nodes) -> Outcome<Session> {
    // Every request over a connection of its own, so that each goes to the next node.
    let http = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()?;
    let client = Client::builder(nodes.balancer.origin())
        .http(http)
        .build()?;
    Ok(client.open().await?)
}

/// Who a session is, by the node that answers.
async fn me(session: &Session) -> Outcome<(Option<String>, String)> {
    let request = Request::get("/api/me").body(Bytes::new())?;
    let reply = session.fetch(request).await?.into_body().bytes().await?;
    let me: Value = serde_json::from_slice(&reply)?;
    let text = |name: &str| me[name].as_str().map(str::to_owned);
    Ok((text("subject"), text("node").ok_or("no node")?))
}

fn prepare(session: &Session, request: Request<Bytes>) -> Outcome<Prepared> {
    let nonce = session.fresh_nonce()?;
    Ok(session.prepare(request, Mode::Sealed, ProofKind::Device, nonce)?)
}

/// Sends what has been prepared, and gives the code of a refusal.
async fn send(session: &Session, prepared: &Prepared) -> Outcome<Option<Code>> {
    let request = prepared.request.clone();
    let reply = session.client().send_unverified(request).await?;
    Ok(error_code(prepared.open_reply(reply).await))
}

#[tokio::test]
async fn a_session_that_one_has_opened_is_one_of_all() -> Outcome {
    for ring in RINGS {
        let nodes = start(ring).await?;
        let session = open(&nodes).await?;
        log_in(&session).await?;
        let id = session.id();
        let mut answered = HashSet::new();
        for amount in 1..=10 {
            assert_eq!(session.fetch(transfer(amount)?).await?.status(), 200);
            for _ in 0..2 {
                let (subject, node) = me(&session).await?;
                assert_eq!(subject.as_deref(), Some("ann"), "{ring}");
                answered.insert(node);
            }
        }
        assert_eq!(answered.len(), 2, "{ring}: both have been asked");
        assert_eq!(session.id(), id, "{ring}: nothing was opened anew");
        assert_eq!(nodes.ledger()?.len(), 10);
    }
    Ok(())
}

#[tokio::test]
async fn what_one_has_taken_the_other_has_seen() -> Outcome {
    let nodes = start("folder").await?;
    let session = open(&nodes).await?;
    log_in(&session).await?;
    let prepared = prepare(&session, transfer(1)?)?;
    nodes.only(0);
    assert_eq!(send(&session, &prepared).await?, None);
    for node in [1, 0, 1] {
        nodes.only(node);
        assert_eq!(send(&session, &prepared).await?, Some(Code::Replayed));
    }
    assert_eq!(nodes.ledger()?.len(), 1);
    Ok(())
}

/// How long a nonce lives at those of [`bank_of`], in seconds: its half is less than clocks may be off.
const LIFE: i64 = 40;

/// A bank that shares this Redis server, and is reached as this origin too.
async fn bank_of(redis: &Redis, origin: Option<String>) -> Outcome<Bank> {
    let store = RedisStore::connect(redis.url()).await?;
    let ring = store.ring(WrappingKey::new(&[7; 32])).await?;
    let lifetimes = Lifetimes {
        nonce: Duration::from_secs(LIFE.unsigned_abs()),
        ..Lifetimes::default()
    };
    let bank = Bank::open_with(|builder| {
        let builder = builder.ring(ring).store(store).lifetimes(lifetimes);
        match origin {
            Some(origin) => builder.origin(origin),
            None => builder,
        }
    });
    Ok(bank.await?)
}

/// What is for one of them, sent to the other one.
fn sent_to(other: &Bank, request: &Request<Bytes>, host: &str) -> Outcome<Request<Bytes>> {
    let mut request = request.clone();
    *request.uri_mut() = other.server.url(request.uri().path()).parse()?;
    request.headers_mut().insert("host", host.parse()?);
    Ok(request)
}

static AT_TWO_NODES: Attack = Attack {
    has: "a request of hers, recorded",
    does: "sends it to a second node while she sends it to the first",
    twin: Twin::App,
    without: "both pay",
    with: Refused(&[Code::Replayed]),
    names: &[Sess(9), Api(2), Api(6)],
    shown: Shown::nothing(),
};

static AFTER_LOGOUT_ELSEWHERE: Attack = Attack {
    has: "an order of hers, proved ahead",
    does: "sends it to a second node once the first has logged her out",
    twin: Twin::App,
    without: "her token goes on paying",
    with: Refused(&[Code::SessionRevoked]),
    names: &[Sess(6), Asvs("7.4.1")],
    shown: Shown::nothing(),
};

async fn at_once_at_two_nodes_it_is_taken_by_one() -> Outcome {
    let redis = Redis::start()?;
    let here = bank_of(&redis, None).await?;
    let there = bank_of(&redis, Some(here.server.origin())).await?;
    let host = here.server.origin().replace("http://", "");
    let session = client(&here)?.open().await?;
    log_in(&session).await?;
    let thin = session.client();
    for round in 1..=10 {
        let prepared = prepare(&session, transfer(1)?)?;
        let copy = sent_to(&there, &prepared.request, &host)?;
        let (one, other) = tokio::join!(
            thin.send_unverified(prepared.request.clone()),
            thin.send_unverified(copy)
        );
        let mut codes = Vec::new();
        for reply in [one?, other?] {
            codes.push(error_code(prepared.open_reply(reply).await));
        }
        codes.sort_by_key(Option::is_some);
        assert_eq!(codes[0], None);
        AT_TWO_NODES.refused(codes[1]);
        let paid = here.ledger.transfers().len() + there.ledger.transfers().len();
        assert_eq!(paid, round);
    }

    // As soon as one has said that it is over, it is over at the other one.
    let late = prepare(&session, transfer(1)?)?;
    let logout = Request::post("/api/logout").body(Bytes::new())?;
    assert_eq!(send(&session, &prepare(&session, logout)?).await?, None);
    let reply = thin.send_unverified(sent_to(&there, &late.request, &host)?);
    AFTER_LOGOUT_ELSEWHERE.refused(error_code(late.open_reply(reply.await?).await));

    let mut order = post(
        &here.server.url("/twin/transfer"),
        &json!({ "to": "mallory", "amount": 1 }),
    )?;
    let token = "Bearer token-of-ann".parse()?;
    order.headers_mut().insert("authorization", token);
    let copy = sent_to(&there, &order, &host)?;
    let (one, other) = tokio::join!(thin.send_unverified(order), thin.send_unverified(copy));
    let both_pay = one?.status() == 200 && other?.status() == 200;
    AT_TWO_NODES.without(both_pay);
    AFTER_LOGOUT_ELSEWHERE.without(both_pay);
    Ok(())
}

/// Each by its own clock, between which the life of one nonce ends and that of the next begins.
#[tokio::test]
async fn a_nonce_of_one_whose_clock_is_ahead_is_taken_by_the_other() -> Outcome {
    let redis = Redis::start()?;
    let ahead = bank_of(&redis, None).await?;
    let behind = bank_of(&redis, Some(ahead.server.origin())).await?;
    let into = i64::try_from(now()?)? % LIFE;
    if into < LIFE / 2 {
        behind.clock.advance(-into - 1);
    } else {
        ahead.clock.advance(LIFE - into);
    }
    // It stays behind for as long as this takes.
    behind.clock.advance(-8);
    let host = ahead.server.origin().replace("http://", "");
    let session = client(&ahead)?.open().await?;
    log_in(&session).await?;
    let prepared = prepare(&session, transfer(1)?)?;
    for (bank, expected) in [
        (&behind, None),
        (&behind, Some(Code::Replayed)),
        (&ahead, Some(Code::Replayed)),
    ] {
        let request = sent_to(bank, &prepared.request, &host)?;
        let reply = session.client().send_unverified(request).await?;
        assert_eq!(error_code(prepared.open_reply(reply).await), expected);
    }
    assert_eq!(behind.ledger.transfers().len(), 1);
    assert_eq!(ahead.ledger.transfers().len(), 0);
    Ok(())
}

/// Seconds since 1970.
fn now() -> Outcome<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// Open streams too, within a second: here they wait for as long as they must.
#[tokio::test]
async fn what_one_has_ended_has_ended_at_the_other() -> Outcome {
    let nodes = start("redis").await?;
    let session = open(&nodes).await?;
    log_in(&session).await?;
    nodes.only(1);
    let request = Request::get("/api/ticks").body(Bytes::new())?;
    let mut stream = session.fetch(request).await?.into_body();
    assert!(stream.frame().await.is_some_and(|frame| frame.is_ok()));
    let later = prepare(&session, transfer(1)?)?;

    nodes.only(0);
    let logout = Request::post("/api/logout").body(Bytes::new())?;
    let at_one = prepare(&session, logout)?;
    assert_eq!(send(&session, &at_one).await?, None);
    let ended = Instant::now();
    while let Some(frame) = stream.frame().await {
        assert!(ended.elapsed() < PATIENCE, "the stream goes on");
        if frame.is_err() {
            break;
        }
    }
    nodes.only(1);
    let refused = send(&session, &later).await?;
    assert_eq!(refused, Some(Code::SessionRevoked));
    assert!(nodes.ledger()?.is_empty());
    Ok(())
}

/// The thief is seen by the one, and the other one wants the password, too.
#[tokio::test]
async fn what_one_suspects_the_other_suspects() -> Outcome {
    let nodes = start("redis").await?;
    let session = open(&nodes).await?;
    log_in(&session).await?;
    nodes.only(0);
    let thief = Client::builder(nodes.balancer.origin()).build()?;
    let stolen = session.dangerous_loot()?.ticket;
    let opening = thief.prepare_opening(Some(stolen))?.request;
    let refused = code(&thief.send_unverified(opening).await?);
    assert_eq!(refused, Some(Code::TicketInvalid));
    let suspect = Some(Code::InsufficientUserAuthentication);
    for node in [1, 0] {
        nodes.only(node);
        assert_eq!(error_code(session.fetch(transfer(1)?).await), suspect);
        assert_eq!(me(&session).await?.0.as_deref(), Some("ann"));
    }
    assert!(nodes.ledger()?.is_empty());
    // A login of the same second is as suspect.
    let start = Instant::now();
    nodes.only(1);
    loop {
        log_in(&session).await?;
        match session.fetch(transfer(1)?).await {
            Ok(_) => break,
            refused => assert_eq!(error_code(refused), suspect),
        }
        assert!(start.elapsed() < PATIENCE, "it stays suspect");
    }
    nodes.only(0);
    assert_eq!(session.fetch(transfer(1)?).await?.status(), 200);
    assert_eq!(nodes.ledger()?.len(), 2);
    Ok(())
}

/// What was carried out is not carried out again by the other one.
#[tokio::test]
async fn one_is_killed_in_the_middle_of_a_request() -> Outcome {
    let mut nodes = start("folder").await?;
    let session = open(&nodes).await?;
    log_in(&session).await?;
    nodes.only(0);
    let hanging = prepare(&session, post("/api/hang", &json!("pay"))?)?;
    let (client, request) = (session.client().clone(), hanging.request.clone());
    let request = tokio::spawn(async move { client.send_unverified(request).await });
    let start = Instant::now();
    while nodes.ledger()?.is_empty() {
        assert!(start.elapsed() < PATIENCE, "it does not arrive");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    nodes.kill(0)?;
    let lost = request.await?.expect_err("nobody answers");
    assert_eq!(lost.code, Code::Network);

    nodes.all();
    assert_eq!(send(&session, &hanging).await?, Some(Code::Replayed));
    let id = session.id();
    for _ in 0..4 {
        let (subject, node) = me(&session).await?;
        assert_eq!((subject.as_deref(), &*node), (Some("ann"), "1"));
    }
    assert_eq!(session.id(), id);
    assert_eq!(nodes.ledger()?, ["\"pay\""]);
    Ok(())
}

/// Two days in sessions that are kept busy, and a node that comes late. (A file system's clock is not the test's.)
#[tokio::test]
async fn the_ring_rotates_and_nobody_notices() -> Outcome {
    let mut nodes = start("redis").await?;
    let session = open(&nodes).await?;
    log_in(&session).await?;
    let mut id = session.id();
    let (mut openings, mut passed) = (0, 0);
    let mut seen = Vec::new();
    while passed <= 2 * DAY {
        // A ticket lives for fifteen minutes.
        passed += 400;
        nodes.clock.set_ahead(passed)?;
        let (subject, _) = me(&session).await?;
        if session.id() != id {
            // After twelve hours it is at its end.
            assert_eq!(subject, None);
            log_in(&session).await?;
            (id, openings) = (session.id(), openings + 1);
        }
        seen.push(keys(&nodes.redis)?);
    }
    seen.dedup();
    // The next one comes while the first seals, and the first goes when nothing of it is valid.
    assert_eq!(seen, ["1", "2", "1", "2"]);
    assert_eq!(openings, 4, "once in twelve hours");
    nodes.add()?;
    nodes.only(2);
    let (subject, node) = me(&session).await?;
    assert_eq!((subject.as_deref(), &*node), (Some("ann"), "2"));
    assert_eq!(session.id(), id);
    Ok(())
}

/// A bank in this process, with its own connection to the Redis server that it shares with others.
async fn bank(redis: &Redis) -> Outcome<Bank> {
    bank_with(redis, WrappingKey::new(&[7; 32])).await
}

async fn bank_with(redis: &Redis, key: WrappingKey) -> Outcome<Bank> {
    let store = RedisStore::connect(redis.url()).await?;
    let ring = store.ring(key).await?;
    Ok(Bank::open_with(|builder| builder.ring(ring).store(store)).await?)
}

fn keys(redis: &Redis) -> Outcome<String> {
    Ok(redis.ask(&["LLEN", "{bulla}:ring:"])?)
}

#[tokio::test]
async fn nodes_that_begin_at_once_make_one_key() -> Outcome {
    let redis = Redis::start()?;
    let mut banks = Vec::new();
    for _ in 0..8 {
        banks.push(bank(&redis).await?);
    }
    assert_eq!(keys(&redis)?, "0");
    let clients: Vec<_> = banks.iter().map(client).collect::<Result<_, _>>()?;
    for opened in join_all(clients.iter().map(Client::open)).await {
        opened?;
    }
    assert_eq!(keys(&redis)?, "1");
    Ok(())
}

/// Neither ahead nor behind.
#[tokio::test]
async fn whose_clock_is_wrong_makes_no_key() -> Outcome {
    let redis = Redis::start()?;
    for wrong in [100, -100] {
        let bank = bank(&redis).await?;
        bank.clock.advance(wrong);
        let refused = error_code(client(&bank)?.open().await);
        assert_eq!(refused, Some(Code::StoreUnavailable));
        assert_eq!(keys(&redis)?, "0");
        bank.clock.advance(-wrong);
        // It goes on by itself.
        client(&bank)?.open().await?;
        redis.ask(&["DEL", "{bulla}:ring:"])?;
    }
    Ok(())
}

/// It would be worth more than others for as long as the clock was ahead.
#[tokio::test]
async fn what_was_opened_while_the_clock_was_ahead_is_no_session() -> Outcome {
    let redis = Redis::start()?;
    client(&bank(&redis).await?)?.open().await?;
    let bank = bank(&redis).await?;
    bank.clock.advance(100);
    let session = client(&bank)?.open().await?;
    let id = session.id();
    let refused = error_code(session.fetch(transfer(1)?).await);
    assert_eq!(refused, Some(Code::StoreUnavailable));
    bank.clock.advance(-100);
    let request = Request::get("/api/me").body(Bytes::new())?;
    assert_eq!(session.fetch(request).await?.status(), 200);
    assert_ne!(session.id(), id);
    assert!(bank.ledger.refusals().contains(&"ticket_invalid"));
    Ok(())
}

#[tokio::test]
async fn a_ring_that_is_lost_ends_its_sessions_and_the_next_one_is_known_to_all() -> Outcome {
    let redis = Redis::start()?;
    let (one, other) = (bank(&redis).await?, bank(&redis).await?);
    let at_one = client(&one)?.open().await?;
    client(&other)?.open().await?;
    assert_eq!(keys(&redis)?, "1");
    redis.ask(&["DEL", "{bulla}:ring:"])?;
    // Those who have it go on.
    client(&one)?.open().await?;
    assert_eq!(keys(&redis)?, "0");
    let late = bank(&redis).await?;
    let at_late = client(&late)?.open().await?;
    assert_eq!(keys(&redis)?, "1");
    // A ticket of the new key is looked for; with that the old one is gone.
    let carried = at_late.dangerous_loot()?.ticket;
    let prepared = client(&one)?.prepare_opening(Some(carried))?;
    let answer = client(&one)?
        .send_unverified(prepared.request.clone())
        .await?;
    assert_eq!(
        code(&answer),
        Some(Code::TicketInvalid),
        "of another device"
    );
    let refused = error_code(at_one.fetch(transfer(1)?).await);
    assert_eq!(refused, Some(Code::TicketInvalid));
    Ok(())
}

/// Else those who have it go on by themselves, until one comes that has not: then all that they have sealed since ends.
#[tokio::test]
async fn a_ring_that_is_lost_with_the_store_is_made_anew_by_those_who_go_on() -> Outcome {
    let mut redis = Redis::start()?;
    let one = bank(&redis).await?;
    let before = client(&one)?.open().await?;
    redis.kill()?;
    redis.start_again()?;
    // It finds out, and serves others.
    let start = Instant::now();
    let session = loop {
        assert!(start.elapsed() < PATIENCE, "it does not come back");
        let request = Request::get("/api/me").body(Bytes::new())?;
        let opened = client(&one)?.open().await;
        if before.fetch(request).await.is_ok()
            && let Ok(session) = opened
            && log_in(&session).await.is_ok()
        {
            break session;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(keys(&redis)?, "1");
    let late = bank(&redis).await?;
    let at_late = client(&late)?.open().await?;
    // One has no need to look for its key.
    let carried = at_late.dangerous_loot()?.ticket;
    let prepared = client(&one)?.prepare_opening(Some(carried))?;
    client(&one)?
        .send_unverified(prepared.request.clone())
        .await?;
    assert_eq!(session.fetch(transfer(1)?).await?.status(), 200);
    assert_eq!(keys(&redis)?, "1");
    Ok(())
}

#[tokio::test]
async fn when_one_ends_all_they_have_ended_at_the_other() -> Outcome {
    let redis = Redis::start()?;
    let (one, other) = (bank(&redis).await?, bank(&redis).await?);
    let session = client(&other)?.open().await?;
    log_in(&session).await?;
    let request = Request::get("/api/ticks/1000000/10").body(Bytes::new())?;
    let mut stream = session.fetch(request).await?.into_body();
    assert!(stream.frame().await.is_some_and(|frame| frame.is_ok()));
    one.bulla.end_all().await?;
    // With this request it finds out.
    let refused = error_code(session.fetch(transfer(1)?).await);
    assert_eq!(refused, Some(Code::SessionRevoked));
    let ended = Instant::now();
    while let Some(Ok(_)) = stream.frame().await {
        assert!(ended.elapsed() < PATIENCE, "the stream goes on");
    }
    assert!(other.ledger.transfers().is_empty());
    log_in(&session).await?;
    assert_eq!(session.fetch(transfer(1)?).await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn a_ring_is_read_under_its_own_wrapping_key_only() -> Outcome {
    let redis = Redis::start()?;
    let bank = bank(&redis).await?;
    client(&bank)?.open().await?;
    let store = RedisStore::connect(redis.url()).await?;
    assert!(store.ring(WrappingKey::new(&[7; 32])).await.is_ok());
    assert!(store.ring(WrappingKey::new(&[8; 32])).await.is_err());
    // Whoever has the server can change nothing of it.
    let key = redis.ask(&["LINDEX", "{bulla}:ring:", "0"])?;
    assert!(!key.is_empty());
    redis.ask(&["EVAL", CHANGE, "1", "{bulla}:ring:"])?;
    assert!(store.ring(WrappingKey::new(&[7; 32])).await.is_err());
    Ok(())
}

/// First all read the next one, too; then they wrap under it, one after another.
#[tokio::test]
async fn a_wrapping_key_is_changed_node_by_node() -> Outcome {
    let key = |byte: u8| WrappingKey::new(&[byte; 32]);
    let (old, next) = (7, 8);
    for (wraps, reads) in [(old, next), (next, old)] {
        let redis = Redis::start()?;
        let bank = bank_with(&redis, key(wraps).or(key(reads))).await?;
        client(&bank)?.open().await?;
        let store = RedisStore::connect(redis.url()).await?;
        for known in [
            key(wraps),
            key(wraps).or(key(reads)),
            key(reads).or(key(wraps)),
        ] {
            assert!(store.ring(known).await.is_ok());
        }
        assert!(
            store.ring(key(reads)).await.is_err(),
            "it wraps under {wraps}"
        );
    }
    Ok(())
}

/// Has the key begin a second later.
const CHANGE: &str = "local key = redis.call('LINDEX', KEYS[1], 0) \
    local time = string.byte(key, 9) \
    redis.call('LSET', KEYS[1], 0, string.sub(key, 1, 8) .. string.char((time + 1) % 256) .. string.sub(key, 10))";

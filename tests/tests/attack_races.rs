//! Attacks that want to be there at the right moment: while a nonce changes, while somebody logs in, while she logs out.
//!
//! Whoever comes first, what is asserted holds either way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post as posted};
use bulla_client::{Client, Code, Mode, Prepared, ProofKind, ProofNonce, Session};
use bulla_tests::attack::Name::{Api, Asvs, Sess};
use bulla_tests::attack::With::{Refused, RefusedByOneOf};
use bulla_tests::attack::{
    Attack, Outcome, Shown, Twin, client, error_code, log_in, post, transfer,
};
use bulla_tests::bank::Bank;
use bulla_tests::serve::Server;
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::{HeaderValue, Request};
use serde_json::json;

bulla_tests::attacks! {
    the_same_under_two_nonces_is_taken_once: [UNDER_TWO_NONCES],
    nothing_from_before_a_login_is_the_users: [FIXED_SESSION],
    nothing_is_carried_out_that_comes_after_a_logout: [AT_THE_LOGOUT],
    of_many_copies_one_is_taken_by_whatever_way: [BY_TWO_WAYS],
}

/// How often each is tried: who comes first is another one each time.
const ROUNDS: usize = 10;

fn prepare(session: &Session, request: Request<Bytes>, mode: Mode) -> Outcome<Prepared> {
    let nonce = session.fresh_nonce()?;
    Ok(session.prepare(request, mode, ProofKind::Device, nonce)?)
}

/// Sends what was prepared, and gives the code of a refusal, whether it came sealed or in the open.
async fn send(session: &Session, prepared: &Prepared) -> Outcome<Option<Code>> {
    let reply = session.client().send_unverified(prepared.request.clone());
    Ok(error_code(prepared.open_reply(reply.await?).await))
}

/// All at once, over connections of their own.
async fn send_all(session: &Session, all: &[Prepared]) -> Outcome<Vec<Option<Code>>> {
    try_join_all(all.iter().map(|one| send(session, one))).await
}

/// An order to the twin with the token that is all it asks for.
fn twin_order(bank: &Bank) -> Outcome<Request<Bytes>> {
    let mut order = post(
        &bank.server.url("/twin/transfer"),
        &json!({ "to": "mallory", "amount": 1 }),
    )?;
    let token = HeaderValue::from_static("Bearer token-of-ann");
    order.headers_mut().insert("authorization", token);
    Ok(order)
}

/// How many of these copies the twin takes.
async fn taken_by_the_twin(bank: &Bank, thin: &Client, copies: usize) -> Outcome<usize> {
    let order = twin_order(bank)?;
    let copies = (0..copies).map(|_| thin.send_unverified(order.clone()));
    let answers = try_join_all(copies).await?;
    Ok(answers
        .iter()
        .filter(|answer| answer.status() == 200)
        .count())
}

static UNDER_TWO_NONCES: Attack = Attack {
    has: "the use of her device key, by script",
    does: "has one order proved under the nonce of now and under the next one, and sends both at once when it changes",
    twin: Twin::App,
    without: "it pays twice",
    with: Refused(&[Code::Replayed]),
    names: &[Sess(9), Api(6)],
    shown: Shown::nothing(),
};

async fn the_same_under_two_nonces_is_taken_once() -> Outcome {
    let bank = Bank::open().await?;
    let session = client(&bank)?.open().await?;
    log_in(&session).await?;
    for round in 1..=ROUNDS {
        bank.clock.next_life();
        session
            .fetch(Request::get("/api/me").body(Bytes::new())?)
            .await?;
        let earlier = session.fresh_nonce()?;
        bank.clock.next_life();
        session
            .fetch(Request::get("/api/me").body(Bytes::new())?)
            .await?;
        let later = session.fresh_nonce()?.server;
        assert_ne!(earlier.server, later);
        let later = ProofNonce {
            server: later,
            random: earlier.random,
        };
        let mut both = Vec::new();
        for nonce in [earlier, later] {
            both.push(session.prepare(transfer(1)?, Mode::Sealed, ProofKind::Device, nonce)?);
        }
        let mut codes = send_all(&session, &both).await?;
        codes.sort_by_key(Option::is_some);
        assert_eq!(codes[0], None);
        UNDER_TWO_NONCES.refused(codes[1]);
        assert_eq!(bank.ledger.transfers().len(), round);
    }
    let paid = taken_by_the_twin(&bank, session.client(), 2).await?;
    UNDER_TWO_NONCES.without(paid == 2);
    Ok(())
}

static BY_TWO_WAYS: Attack = Attack {
    has: "a request of hers, recorded",
    does: "sends sixteen copies at once, concealed and by its own path, while she sends it",
    twin: Twin::App,
    without: "it pays as often",
    with: Refused(&[Code::Replayed]),
    names: &[Sess(9), Api(6)],
    shown: Shown::nothing(),
};

async fn of_many_copies_one_is_taken_by_whatever_way() -> Outcome {
    const COPIES: usize = 16;

    let bank = Bank::open().await?;
    let session = client(&bank)?.open().await?;
    log_in(&session).await?;
    for round in 1..=ROUNDS {
        let nonce = session.fresh_nonce()?;
        let mut copies = Vec::new();
        for copy in 0..COPIES {
            let mode = [Mode::Sealed, Mode::SealedAtPath][copy % 2];
            let nonce = nonce.clone();
            copies.push(session.prepare(transfer(1)?, mode, ProofKind::Device, nonce)?);
        }
        let codes = send_all(&session, &copies).await?;
        let refused: Vec<_> = codes.into_iter().flatten().collect();
        assert_eq!(refused.len(), COPIES - 1);
        for code in refused {
            BY_TWO_WAYS.refused(Some(code));
        }
        assert_eq!(bank.ledger.transfers().len(), round);
    }
    let paid = taken_by_the_twin(&bank, session.client(), COPIES).await?;
    BY_TWO_WAYS.without(paid == COPIES);
    Ok(())
}

static FIXED_SESSION: Attack = Attack {
    has: "her session from before she logs in, on her own device",
    does: "orders in it while she logs in, and afterwards",
    twin: Twin::Weakened("sessions whose name a login keeps"),
    without: "he is her as soon as she has logged in",
    with: RefusedByOneOf(&[Code::LoginRequired, Code::SessionRevoked]),
    names: &[Sess(3), Asvs("7.2.4")],
    shown: Shown::nothing(),
};

async fn nothing_from_before_a_login_is_the_users() -> Outcome {
    let bank = Bank::open().await?;
    for _ in 0..ROUNDS {
        let session = client(&bank)?.open().await?;
        session
            .fetch(Request::get("/api/me").body(Bytes::new())?)
            .await?;
        let login = post("/api/login", &json!({ "user": "ann" }))?;
        let login = prepare(&session, login, Mode::Sealed)?;
        let mut orders = Vec::new();
        for amount in 0..8 {
            orders.push(prepare(&session, transfer(amount)?, Mode::Sealed)?);
        }
        let (at_once, afterwards) = orders.split_at(4);
        let (logged_in, codes) = tokio::join!(send(&session, &login), send_all(&session, at_once));
        assert_eq!(logged_in?, None);
        for code in codes? {
            FIXED_SESSION.refused(code);
        }
        for code in send_all(&session, afterwards).await? {
            assert_eq!(code, Some(Code::SessionRevoked));
        }
    }
    assert!(bank.ledger.transfers().is_empty());

    let twin = Server::start(with_fixed_sessions()).await?;
    let bare = Client::builder(twin.origin()).build()?;
    let ask = async |method: &str, path: &str| -> Outcome<(StatusCode, Bytes)> {
        let request = Request::builder().method(method).uri(twin.url(path));
        let request = request.header("cookie", "sid=planted").body(Bytes::new())?;
        let answer = bare.send_unverified(request).await?;
        Ok((answer.status(), answer.into_body()))
    };
    assert_eq!(ask("GET", "/me").await?.0, 401);
    ask("POST", "/login").await?;
    FIXED_SESSION.without(ask("GET", "/me").await?.1 == "ann");
    Ok(())
}

/// Who is logged in, by a name that the browser brings along and that stays.
fn with_fixed_sessions() -> Router {
    type Users = Arc<Mutex<HashMap<String, &'static str>>>;

    fn sid(headers: &HeaderMap) -> String {
        let line = headers.get("cookie").map(HeaderValue::as_bytes);
        String::from_utf8_lossy(line.unwrap_or_default()).into_owned()
    }

    let login = async |State(users): State<Users>, headers: HeaderMap| {
        let mut users = users.lock().unwrap_or_else(PoisonError::into_inner);
        users.insert(sid(&headers), "ann");
    };
    let me = async |State(users): State<Users>, headers: HeaderMap| {
        let users = users.lock().unwrap_or_else(PoisonError::into_inner);
        users
            .get(&sid(&headers))
            .copied()
            .ok_or(StatusCode::UNAUTHORIZED)
    };
    Router::new()
        .route("/login", posted(login))
        .route("/me", get(me))
        .with_state(Users::default())
}

static AT_THE_LOGOUT: Attack = Attack {
    has: "orders of hers, proved ahead, or the use of her device key",
    does: "sends them while she logs out, and when she is told that she has",
    twin: Twin::App,
    without: "her token goes on paying",
    with: Refused(&[Code::SessionRevoked]),
    names: &[Sess(6), Asvs("7.4.1")],
    shown: Shown::nothing(),
};

async fn nothing_is_carried_out_that_comes_after_a_logout() -> Outcome {
    let bank = Bank::open().await?;
    for _ in 0..ROUNDS {
        let session = client(&bank)?.open().await?;
        log_in(&session).await?;
        let mut orders = Vec::new();
        for amount in 0..8 {
            orders.push(prepare(&session, transfer(amount)?, Mode::Sealed)?);
        }
        let logout = Request::post("/api/logout").body(Bytes::new())?;
        let logout = prepare(&session, logout, Mode::Sealed)?;
        let before = bank.ledger.transfers().len();
        let (at_once, afterwards) = orders.split_at(4);
        let (logged_out, codes) =
            tokio::join!(send(&session, &logout), send_all(&session, at_once));
        assert_eq!(logged_out?, None);
        let codes = codes?;
        let taken = codes.iter().filter(|code| code.is_none()).count();
        assert_eq!(
            bank.ledger.transfers().len(),
            before + taken,
            "no refusal has paid"
        );
        for code in codes.into_iter().flatten() {
            AT_THE_LOGOUT.refused(Some(code));
        }
        for code in send_all(&session, afterwards).await? {
            AT_THE_LOGOUT.refused(code);
        }
        assert_eq!(bank.ledger.transfers().len(), before + taken);
    }
    let thin = client(&bank)?;
    AT_THE_LOGOUT.without(taken_by_the_twin(&bank, &thin, 4).await? == 4);
    Ok(())
}

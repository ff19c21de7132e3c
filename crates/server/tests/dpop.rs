//! The resource server for clients of OAuth: tokens of other issuers, streams, and bad input of all kinds.
#![allow(clippy::unwrap_used)] // in tests a surprise may panic

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bulla_keys::{SigningKey, SystemRandom};
use bulla_protocol::dpop::{Claims, to_sign, token_hash};
use bulla_protocol::jws;
use bulla_server::dpop::{Access, AccessToken, AccessTokens, Dpop, Freshness, TokenError};
use bulla_server::{
    Bulla, Clock, Code, Confirmation, EventKind, Identity, MemoryStore, Rate, Rates, Refused,
    Revocation, RevocationId, SecurityEvent, Subject,
};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use proptest::collection::vec;
use proptest::prelude::*;
use tower::{ServiceExt as _, service_fn};

const NOW: u64 = 1_800_000_000;
const ORIGIN: &str = "https://bank.example";

#[derive(Clone)]
struct TestClock(Arc<AtomicU64>);

impl Clock for TestClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Tokens as an authorization server tells them that is asked for each (RFC 7662).
#[derive(Clone)]
struct Introspection {
    known: Arc<Mutex<HashMap<String, Known>>>,
    clock: TestClock,
    /// How long it takes, in seconds.
    takes: Arc<AtomicU64>,
    /// How often it was asked.
    asked: Arc<AtomicU64>,
}

type Known = Result<AccessToken<u32>, TokenError>;

impl Introspection {
    fn knows(&self, text: &str, token: Known) {
        self.known.lock().unwrap().insert(text.to_owned(), token);
    }
}

impl AccessTokens for Introspection {
    type Claims = u32;

    async fn check(&self, token: &str, _: u64) -> Known {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let seconds = self.takes.load(Ordering::Relaxed);
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
        let known = self.known.lock().unwrap().get(token).cloned();
        known.unwrap_or(Err(TokenError::Inactive))
    }
}

struct Server {
    bulla: Bulla,
    tokens: Introspection,
    dpop: Dpop<Introspection>,
    events: Arc<Mutex<Vec<SecurityEvent>>>,
    clock: TestClock,
}

impl Server {
    fn new() -> Self {
        Self::with(Rates::default())
    }

    fn with(rates: Rates) -> Self {
        let events: Arc<Mutex<Vec<SecurityEvent>>> = Arc::default();
        let (seen, clock) = (
            Arc::clone(&events),
            TestClock(Arc::new(AtomicU64::new(NOW))),
        );
        let bulla = Bulla::builder()
            .origin(ORIGIN)
            .identity(Identity::generate(&SystemRandom).unwrap())
            .store(MemoryStore::new().unwrap())
            .clock(clock.clone())
            .rates(rates)
            .on_event(move |event| seen.lock().unwrap().push(event.clone()))
            .build()
            .unwrap();
        let tokens = Introspection {
            known: Arc::default(),
            clock: clock.clone(),
            takes: Arc::default(),
            asked: Arc::default(),
        };
        let dpop = bulla.dpop(tokens.clone());
        Self {
            bulla,
            tokens,
            dpop: dpop.freshness(Freshness::Window(std::time::Duration::from_mins(1))),
            events,
            clock,
        }
    }

    fn refusals(&self) -> Vec<Code> {
        let events = std::mem::take(&mut *self.events.lock().unwrap());
        events
            .iter()
            .filter_map(|event| event.kind.code())
            .collect()
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        let routes = Router::new()
            .route("/me", get(me))
            .route("/stream", get(ticks))
            .route("/vault", get(vault))
            .route("/revoke", get(revoke))
            .route("/notes", get(note));
        self.dpop.protect(routes).oneshot(request).await.unwrap()
    }
}

async fn me(access: Access<u32>) -> String {
    format!("{:?} {}", access.subject(), access.claims())
}

async fn revoke(access: Access<u32>) -> Result<(), Refused> {
    Ok(access.revoke().await?)
}

async fn vault(_: Access<u32>) -> Refused {
    Refused(Code::InsufficientUserAuthentication.because("not today"))
}

async fn note(_: Access<u32>, body: Body) -> String {
    match body.collect().await {
        Ok(_) => "whole".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Says something whenever it is asked.
async fn ticks() -> Body {
    let ticks = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(b"tick")));
    Body::from_stream(ticks)
}

fn device() -> SigningKey {
    SigningKey::generate(&SystemRandom).unwrap()
}

fn token(device: &SigningKey, name: &str) -> AccessToken<u32> {
    AccessToken {
        id: RevocationId::of_token("https://login.example", name),
        confirmation: Confirmation {
            jkt: device.thumbprint(),
        },
        subject: Some("ann".to_owned()),
        issued: None,
        expires: None,
        claims: 7,
    }
}

fn prove(device: &SigningKey, path: &str, token: &str, jti: &str, iat: u64) -> String {
    let claims = Claims {
        jti: jti.to_owned(),
        htm: "GET".to_owned(),
        htu: format!("{ORIGIN}{path}"),
        iat,
        ath: Some(token_hash(token)),
        nonce: None,
    };
    let signed = to_sign(device.public(), &claims).unwrap();
    jws::join(&signed, &device.sign(signed.as_bytes()).unwrap())
}

fn request(path: &str, token: &str, proof: &str) -> Request<Body> {
    Request::get(path)
        .header("host", "bank.example")
        .header("authorization", format!("DPoP {token}"))
        .header("dpop", proof)
        .body(Body::empty())
        .unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Whoever has no key has nobody else asked for his sake.
#[tokio::test]
async fn a_token_is_asked_about_for_a_proof_that_is_signed_only() {
    let server = Server::new();
    let ann = device();
    server.tokens.knows("good", Ok(token(&ann, "good")));
    let proof = prove(&ann, "/me", "good", "1", NOW);
    let (signed, signature) = proof.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    let answer = server.send(request("/me", "good", &forged)).await;
    assert_eq!(answer.status(), 401);
    assert_eq!(server.tokens.asked.load(Ordering::Relaxed), 0);
    assert_eq!(
        server.send(request("/me", "good", &proof)).await.status(),
        200
    );
    assert_eq!(server.tokens.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn rates_hold_here_too_and_a_copy_uses_none_up() {
    let minute = std::time::Duration::from_mins(1);
    let server = Server::with(Rates {
        session: Some(Rate::new(2, minute)),
        network: Some(Rate::new(6, minute)),
        ..Rates::default()
    });
    let ann = device();
    server.tokens.knows("good", Ok(token(&ann, "good")));
    let get = async |jti: &str| {
        let proof = prove(&ann, "/me", "good", jti, NOW);
        let mut request = request("/me", "good", &proof);
        let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 80));
        request.extensions_mut().insert(peer);
        server.send(request).await.status()
    };
    let mut seen = Vec::new();
    for jti in ["1", "1", "1", "2", "3", "4", "5"] {
        seen.push(get(jti).await.as_u16());
    }
    assert_eq!(seen, [200, 401, 401, 200, 429, 429, 429]);
    let asked = server.tokens.asked.load(Ordering::Relaxed);
    assert_eq!(asked, 6, "the last was one too many from there");
}

#[tokio::test]
async fn nor_is_whoever_comes_too_often_from_one_place_heard_out() {
    let server = Server::with(Rates {
        network: Some(Rate::new(1, std::time::Duration::from_mins(1))),
        ..Rates::default()
    });
    let endless = || {
        let silence = stream::pending::<Result<Bytes, Infallible>>();
        let mut request = Request::post("/notes").header("host", "bank.example");
        let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 80));
        request.extensions_mut().unwrap().insert(peer);
        request.body(Body::from_stream(silence)).unwrap()
    };
    assert_eq!(server.send(endless()).await.status(), 401);
    let limited = server.send(endless()).now_or_never();
    assert_eq!(limited.map(|answer| answer.status().as_u16()), Some(429));
}

#[tokio::test]
async fn tokens_of_other_issuers_are_taken_at_their_word() {
    let server = Server::new();
    let ann = device();
    let get = async |text: &str, jti: &str| {
        let now = server.clock.now();
        let proof = prove(&ann, "/me", text, jti, now);
        server.send(request("/me", text, &proof)).await
    };
    server.tokens.knows("good", Ok(token(&ann, "good")));
    let answer = get("good", "1").await;
    assert_eq!(text(answer).await, "Some(\"ann\") 7");
    assert_eq!(server.refusals(), []);

    let nobody = AccessToken {
        subject: Some(String::new()),
        ..token(&ann, "nobody")
    };
    let machine = AccessToken {
        subject: None,
        ..token(&ann, "machine")
    };
    let lasting = AccessToken {
        issued: Some(NOW),
        expires: Some(NOW + 43_201),
        ..token(&ann, "lasting")
    };
    let answers = [
        (Ok(machine), 200, None),
        (Ok(lasting.clone()), 200, None),
        (Ok(nobody), 401, Some(Code::TicketInvalid)),
        (
            Ok(AccessToken {
                expires: Some(NOW + 43_231),
                ..lasting
            }),
            401,
            Some(Code::TicketInvalid),
        ),
        (Err(TokenError::Unbound), 401, Some(Code::TicketInvalid)),
        (Err(TokenError::Expired), 401, Some(Code::TicketExpired)),
        (Err(TokenError::Inactive), 401, Some(Code::SessionRevoked)),
        (
            Err(TokenError::Unavailable),
            503,
            Some(Code::StoreUnavailable),
        ),
    ];
    for (number, (token, status, code)) in answers.into_iter().enumerate() {
        server.tokens.knows("next", token);
        let answer = get("next", &format!("next {number}")).await;
        assert_eq!(answer.status(), status, "{code:?}");
        assert_eq!(answer.headers().contains_key("retry-after"), status == 503);
        assert_eq!(server.refusals(), Vec::from_iter(code));
    }

    // Of which it is not known when they were issued, they end with every revocation of their subject.
    let subject = Subject::of_token("ann").unwrap();
    let long_ago = Revocation::Subject(subject, 1);
    server.bulla.revoke(long_ago).await.unwrap();
    assert_eq!(get("good", "2").await.status(), 401);
    assert_eq!(server.refusals(), [Code::SessionRevoked]);
}

#[tokio::test]
async fn a_proof_is_too_old_when_its_token_was_looked_up_for_too_long() {
    let server = Server::new();
    let ann = device();
    server.tokens.knows("token", Ok(token(&ann, "token")));
    for (takes, refused) in [(60, None), (61, Some(Code::ProofMismatch))] {
        server.tokens.takes.store(takes, Ordering::Relaxed);
        let proof = prove(&ann, "/me", "token", "1", server.clock.now());
        let answer = server.send(request("/me", "token", &proof)).await;
        assert_eq!(answer.status() == 200, refused.is_none(), "{takes}");
        assert_eq!(server.refusals(), Vec::from_iter(refused), "{takes}");
        server.clock.0.fetch_add(1000, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_token_that_a_handler_revokes_has_ended_and_that_is_told() {
    let server = Server::new();
    let ann = device();
    let token = token(&ann, "token");
    let id = token.id;
    server.tokens.knows("token", Ok(token));
    let get = async |path: &str, number: &str| {
        let proof = prove(&ann, path, "token", number, NOW);
        server.send(request(path, "token", &proof)).await.status()
    };
    assert_eq!(get("/me", "1").await, 200);
    assert_eq!(get("/revoke", "2").await, 200);
    let told = server.events.lock().unwrap().last().cloned().unwrap();
    let names = server.bulla.pseudonyms();
    assert_eq!(told.kind, EventKind::SessionEnded);
    assert_eq!(told.session, Some(names.session(id)));
    assert_eq!(told.device, Some(names.device(ann.thumbprint())));
    assert_eq!(get("/me", "3").await, 401);
    assert_eq!(server.refusals(), [Code::SessionRevoked]);
}

#[tokio::test]
async fn open_streams_end_with_their_token() {
    let server = Server::new();
    let ann = device();
    for (name, revocation) in [
        ("token", Revocation::Session(token(&ann, "token").id)),
        ("device", Revocation::Device(ann.thumbprint())),
    ] {
        server.tokens.knows(name, Ok(token(&ann, name)));
        let proof = prove(&ann, "/stream", name, name, NOW);
        let answer = server.send(request("/stream", name, &proof)).await;
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body().into_data_stream();
        assert_eq!(body.next().await.unwrap().unwrap(), "tick");
        server.bulla.revoke(revocation).await.unwrap();
        let mut rest = 0;
        while let Some(Ok(_)) = body.next().await {
            rest += 1;
            assert!(rest < 10, "{name}");
        }
    }
}

#[tokio::test]
async fn bodies_are_held_to_the_pace_here_too() {
    let server = Server::new();
    let ann = device();
    server.tokens.knows("token", Ok(token(&ann, "token")));
    let proof = prove(&ann, "/notes", "token", "1", NOW);
    let silence = stream::pending::<Result<Bytes, Infallible>>();
    let silent = request("/notes", "token", &proof).map(|_| Body::from_stream(silence));
    let moving = async {
        server.clock.0.fetch_add(21, Ordering::Relaxed);
    };
    let answered = async { tokio::join!(server.send(silent), moving).0 };
    // Only so that a lost wake-up is a failure and not a hang. `timeout` would look once more, and find it late.
    let answer = tokio::select! {
        biased;
        () = tokio::time::sleep(std::time::Duration::from_secs(20)) => panic!("nobody was woken up"),
        answer = answered => answer,
    };
    assert!(text(answer).await.contains(Code::TooSlow.as_str()));
}

#[tokio::test]
async fn handlers_refuse_in_the_same_words() {
    let server = Server::new();
    let ann = device();
    server.tokens.knows("token", Ok(token(&ann, "token")));
    let proof = prove(&ann, "/vault", "token", "1", NOW);
    let answer = server.send(request("/vault", "token", &proof)).await;
    let challenges = answer.headers().get_all("www-authenticate");
    let challenges: Vec<_> = challenges.iter().map(HeaderValue::as_bytes).collect();
    let error = r#"DPoP error="insufficient_user_authentication", algs="ES256""#;
    assert_eq!(
        (answer.status().as_u16(), challenges),
        (401, vec![error.as_bytes()])
    );
    assert_eq!(server.refusals(), [Code::InsufficientUserAuthentication]);
}

#[tokio::test]
async fn without_the_layer_there_is_no_access() {
    let routes = Router::new().route("/me", get(me));
    let request = Request::get("/me").body(Body::empty()).unwrap();
    let answer = routes.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(text(answer).await.contains(Code::ProofMissing.as_str()));
}

#[tokio::test]
async fn no_byte_of_a_request_can_be_another() {
    let server = Server::new();
    let ann = device();
    server.tokens.knows("token", Ok(token(&ann, "token")));
    let proof = prove(&ann, "/me", "token", "1", NOW);
    for at in 0..proof.len() {
        for other in [b'A', b'_', b'.', b' '] {
            let mut changed = proof.clone().into_bytes();
            if std::mem::replace(&mut changed[at], other) == other {
                continue;
            }
            let changed = String::from_utf8(changed).unwrap();
            // Space around a field's value is none of it (RFC 9110 section 5.5).
            let answer = server.send(request("/me", "token", &changed)).await;
            assert_eq!(answer.status(), 401, "{at} {changed}");
            assert_eq!(server.refusals(), [Code::ProofMismatch], "{at} {changed}");
        }
    }
    let answer = server.send(request("/me", "token", &proof)).await;
    assert_eq!(answer.status(), 200);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_refused(lines in vec((0..3_usize, line()), 0..5), target in target()) {
        let server = Server::new();
        let handled = service_fn(async |_: Request<bulla_server::Body>| {
            Err::<Response<Body>, _>("it was let through")
        });
        let service = tower::Layer::layer(&server.dpop.layer(), handled);
        let mut request = Request::get(target).header("host", "bank.example");
        for (name, value) in lines {
            let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
            request = request.header(["authorization", "dpop", "origin"][name], value);
        }
        let Ok(request) = request.body(Body::empty()) else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(service.oneshot(request));
        let answer = answer.map_err(TestCaseError::fail)?;
        prop_assert!(answer.status().is_client_error());
        prop_assert_eq!(server.refusals().len(), 1);
    }
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "DPoP ",
        "dpop",
        "Bearer ",
        "token",
        ".",
        "..",
        "=",
        " ",
        ",",
        "{",
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2In0",
        "e30",
        "bnVsbA",
        "W10",
        "eyJqdGkiOjF9",
        "\u{e9}",
    ]);
    prop_oneof![
        vec(any::<u8>(), 0..200),
        vec(pieces, 0..8).prop_map(|pieces| pieces.concat().into_bytes()),
        Just(vec![b'A'; 20_000]),
    ]
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![Just("/me".to_owned()), "/[ -~]{0,20}"]
}

//! The client against the real verifier, in process, with a hand on the wire between them.

mod replies;

use std::iter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bulla_keys::ece;
use bulla_protocol::error::Problem;
use bulla_protocol::limits::OPENING_TIMEOUT;
use bulla_protocol::message::{self, Control, Head};
use bulla_protocol::seal::Header;
use bulla_protocol::{field, structured};
use bulla_server::{Bulla, Identity, MemoryStore, Refused, Require, Revocation};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::oneshot;
use tower::ServiceExt as _;

use crate::transport::{Outbound, Sending, Transport};
use crate::{Client, Clock, Code, Error, Mode, ProofKind, Session, SigningKey, SystemRandom};

const ORIGIN: &str = "https://bank.example";

#[derive(Clone)]
struct TestClock(Arc<AtomicU64>);

impl TestClock {
    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl bulla_server::Clock for TestClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A client whose clock stands still, and is wrong.
struct Stopped;

impl Clock for Stopped {
    fn unix_seconds(&self) -> u64 {
        1
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

impl Clock for TestClock {
    fn unix_seconds(&self) -> u64 {
        1
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(bulla_server::Clock::now(self))
    }
}

/// A client that sleeps while time goes on: only its wall clock tells.
struct Asleep(TestClock);

impl Clock for Asleep {
    fn unix_seconds(&self) -> u64 {
        bulla_server::Clock::now(&self.0)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// What the wire does to the next reply.
type Tamper = Box<dyn FnOnce(Response<Bytes>) -> Response<Bytes> + Send>;

/// The way to the verifier. It counts, and changes a reply if it is told to.
#[derive(Clone)]
struct Wire(Arc<Shared>);

struct Shared {
    bulla: Bulla,
    app: Router,
    clock: TestClock,
    handled: Arc<AtomicU64>,
    sent: AtomicU64,
    tamper: Mutex<Option<Tamper>>,
    held: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
    cut: Mutex<Option<u32>>,
    lost: Mutex<Option<u32>>,
}

impl Wire {
    fn new() -> Self {
        Self::with(ProofKind::Device)
    }

    fn with(proof: ProofKind) -> Self {
        let clock = TestClock(Arc::new(AtomicU64::new(1_800_000_000)));
        let bulla = Bulla::builder()
            .origin(ORIGIN)
            .identity(Identity::generate(&SystemRandom).unwrap())
            .store(MemoryStore::new().unwrap())
            .clock(clock.clone())
            .proof(proof)
            .build()
            .unwrap();
        let handled = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&handled);
        let echo = |session: bulla_server::Session, body: String| async move {
            let proof = session.proof();
            format!("{}:{proof:?}:{body}", session.subject().unwrap_or("-"))
        };
        let app = Router::new()
            .route(
                "/api/echo",
                post(move |session: bulla_server::Session, body: String| {
                    count.fetch_add(1, Ordering::Relaxed);
                    echo(session, body)
                }),
            )
            .route("/api/count", post(count_bytes))
            .route("/api/me", get(echo))
            .route("/api/big", get(|| async { vec![7_u8; 300_000] }))
            .route("/api/none", get(|| async { http::StatusCode::NO_CONTENT }))
            .route("/api/later", get(later))
            .route(
                "/api/login",
                post(|session: bulla_server::Session, body: String| async move {
                    session.login(&body).await.map_err(Refused)
                }),
            )
            .route(
                "/api/logout",
                post(|session: bulla_server::Session| async move {
                    session.logout().await.map_err(Refused)
                }),
            );
        Self(Arc::new(Shared {
            app: bulla.protect(app),
            bulla,
            clock,
            handled,
            sent: AtomicU64::new(0),
            tamper: Mutex::default(),
            held: Mutex::default(),
            cut: Mutex::default(),
            lost: Mutex::default(),
        }))
    }

    fn client(&self) -> Client {
        self.build(Client::builder(ORIGIN).identity(self.0.bulla.identity()))
    }

    fn build(&self, builder: crate::Builder) -> Client {
        builder
            .transport(self.clone())
            .clock(Stopped)
            .build()
            .unwrap()
    }

    async fn open(&self) -> Session {
        self.client().open().await.unwrap()
    }

    fn tamper(&self, tamper: impl FnOnce(Response<Bytes>) -> Response<Bytes> + Send + 'static) {
        *self.0.tamper.lock().unwrap() = Some(Box::new(tamper));
    }

    /// Holds the reply to the next request: tells when it is there, and waits until it is let go.
    fn hold(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (is_there, wait) = oneshot::channel();
        let (let_go, held) = oneshot::channel();
        *self.0.held.lock().unwrap() = Some((is_there, held));
        (wait, let_go)
    }

    /// Of the next reply half of the body comes, and then the connection is gone.
    fn cut(&self) {
        self.cut_after(0);
    }

    /// The same of the reply after so many others.
    fn cut_after(&self, replies: u32) {
        *self.0.cut.lock().unwrap() = Some(replies);
    }

    /// The request after so many others does not arrive.
    fn lose_after(&self, requests: u32) {
        *self.0.lost.lock().unwrap() = Some(requests);
    }

    fn handled(&self) -> u64 {
        self.0.handled.load(Ordering::Relaxed)
    }

    fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    async fn carry(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.deliver(request.map(axum::body::Body::from)).await
    }

    async fn deliver(&self, request: Request<axum::body::Body>) -> Response<Bytes> {
        self.0.sent.fetch_add(1, Ordering::Relaxed);
        let held = self.0.held.lock().unwrap().take();
        // Others get their turn, as on a real network.
        tokio::task::yield_now().await;
        // What an HTTP/1.1 client makes of an absolute URI.
        let (mut parts, body) = request.into_parts();
        let host = parts.uri.authority().unwrap().as_str().parse().unwrap();
        parts.headers.insert("host", host);
        parts.uri = parts
            .uri
            .path_and_query()
            .unwrap()
            .as_str()
            .parse()
            .unwrap();
        let request = Request::from_parts(parts, body);
        let response = self.0.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let response = Response::from_parts(parts, body.collect().await.unwrap().to_bytes());
        if let Some((is_there, held)) = held {
            is_there.send(()).unwrap();
            held.await.unwrap();
        }
        match self.0.tamper.lock().unwrap().take() {
            Some(tamper) => tamper(response),
            None => response,
        }
    }
}

/// Counts down; once.
fn is_due(left: &Mutex<Option<u32>>) -> bool {
    let mut left = left.lock().unwrap();
    let due = *left == Some(0);
    *left = left.and_then(|left| left.checked_sub(1));
    due
}

impl Transport for Wire {
    fn send(&self, request: Request<Outbound>, _: Option<Duration>) -> Sending<'_> {
        Box::pin(async move {
            if is_due(&self.0.lost) {
                return Err(Error::network("it is lost"));
            }
            let request = request.map(|body| match body {
                Outbound::Whole(bytes) => bytes.into(),
                Outbound::Stream(body) => axum::body::Body::new(body),
            });
            let response = self.deliver(request).await;
            let is_cut = is_due(&self.0.cut);
            Ok(response.map(|body| {
                let half = body.slice(..body.len() / 2);
                let gone = std::io::Error::other("the connection is gone");
                let (comes, end) = if is_cut {
                    (half, Some(gone))
                } else {
                    (body, None)
                };
                let frames =
                    iter::once(Ok(Frame::data(comes))).chain(end.map(|gone| Err(gone.into())));
                StreamBody::new(futures_util::stream::iter(frames)).boxed()
            }))
        })
    }
}

/// Reads a stream without keeping it.
async fn count_bytes(_: bulla_server::Session, body: axum::body::Body) -> Result<String, String> {
    let mut body = body;
    let mut count = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        count += frame.into_data().map_or(0, |data| data.len());
    }
    Ok(count.to_string())
}

/// Content of so many mebibytes, which is never there as a whole. The last piece fails, if it is to.
fn stream(mebibytes: usize, fails: bool) -> impl HttpBody<Data = Bytes, Error = std::io::Error> {
    let pieces = (0..mebibytes * 64).map(|_| Ok(Frame::data(Bytes::from_static(&[7; 16 * 1024]))));
    let error = fails.then(|| Err(std::io::Error::other("the disk is gone")));
    StreamBody::new(futures_util::stream::iter(pieces.chain(error)))
}

/// A reply without content whose end comes by itself.
async fn later() -> (http::StatusCode, axum::body::Body) {
    let mut asked = false;
    let end = futures_util::stream::poll_fn(move |cx| {
        if std::mem::replace(&mut asked, true) {
            return std::task::Poll::Ready(None::<Result<Bytes, std::io::Error>>);
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    });
    let body = axum::body::Body::from_stream(end);
    (http::StatusCode::NO_CONTENT, body)
}

fn echo(body: &str) -> Request<String> {
    Request::post("/api/echo")
        .header("content-type", "text/plain")
        .body(body.to_owned())
        .unwrap()
}

async fn text(response: Result<Response<crate::Body>, Error>) -> Result<String, Code> {
    let body = response.map_err(|error| error.code)?.into_body();
    let bytes = body.bytes().await.map_err(|error| error.code)?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

fn problem(code: Code) -> impl FnOnce(Response<Bytes>) -> Response<Bytes> + Send + 'static {
    move |response| {
        let mut forged = Response::new(Bytes::from(Problem::from(code.because("")).to_json()));
        *forged.status_mut() = http::StatusCode::from_u16(code.status()).unwrap();
        let headers = forged.headers_mut();
        headers.insert("content-type", Problem::MEDIA_TYPE.parse().unwrap());
        if let Some(nonce) = response.headers().get(field::NONCE) {
            headers.insert(field::NONCE, nonce.clone());
        }
        forged
    }
}

#[tokio::test]
async fn fetches_sealed_and_signed() {
    let wire = Wire::new();
    let session = wire.open().await;
    // The future can move between threads.
    let moved = session.clone();
    let reply = tokio::spawn(async move { text(moved.fetch(echo("hi")).await).await });
    assert_eq!(reply.await.unwrap().unwrap(), "-:Device:hi");

    let response = session.fetch(Request::get("/api/big").body("").unwrap());
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(
        response
            .headers()
            .keys()
            .all(|name| !name.as_str().starts_with("bulla-"))
    );
    assert_eq!(
        response.into_body().bytes().await.unwrap(),
        vec![7; 300_000]
    );
    let none = session.fetch(Request::get("/api/none").body("").unwrap());
    assert_eq!(none.await.unwrap().status(), 204);
    let missing = session.fetch(Request::get("/nowhere").body("").unwrap());
    assert_eq!(missing.await.unwrap().status(), 404);

    let builder = Client::builder(ORIGIN).seal(false);
    let client = wire.build(builder);
    assert_eq!(client.identity(), None);
    let session = client.open().await.unwrap();
    assert_eq!(client.identity(), Some(wire.0.bulla.identity()));
    assert_eq!(
        text(session.fetch(echo("hi")).await).await.unwrap(),
        "-:Device:hi"
    );
}

#[tokio::test]
async fn session_proofs_follow_a_device_proof() {
    let wire = Wire::with(ProofKind::Session);
    let session = wire.open().await;
    for proof in ["Device", "Session", "Session"] {
        let reply = text(session.fetch(echo("")).await).await.unwrap();
        assert_eq!(reply, format!("-:{proof}:"));
    }
    // Login wants a device proof; the client sends it by itself.
    let login = Request::post("/api/login").body("ann").unwrap();
    assert!(session.fetch(login).await.unwrap().status().is_success());
    assert!(session.is_authenticated());
}

#[tokio::test]
async fn session_proofs_do_not_keep_a_busy_session_from_its_next_ticket() {
    let wire = Wire::with(ProofKind::Session);
    let client = Client::builder(ORIGIN).transport(wire.clone());
    let client = client.clock(wire.0.clock.clone()).build().unwrap();
    let session = client.open().await.unwrap();
    let login = Request::post("/api/login").body("ann").unwrap();
    assert!(session.fetch(login).await.unwrap().status().is_success());
    let mut device_proofs = 0;
    for minute in 0..60 {
        let reply = text(session.fetch(echo("")).await).await.unwrap();
        assert!(reply.starts_with("ann:"), "{minute}: {reply}");
        device_proofs += usize::from(reply.contains("Device"));
        wire.0.clock.advance(60);
    }
    // One to confirm it, then one for each half of a ticket's life.
    assert_eq!(device_proofs, 8);
}

#[tokio::test]
async fn login_changes_the_session_before_the_reply_is_seen() {
    let wire = Wire::new();
    let session = wire.open().await;
    let before = session.id();
    let login = Request::post("/api/login").body("ann").unwrap();
    assert!(session.fetch(login).await.unwrap().status().is_success());
    assert!(session.is_authenticated() && session.id() != before);
    assert_eq!(
        text(session.fetch(echo("x")).await).await.unwrap(),
        "ann:Device:x"
    );
}

#[tokio::test]
async fn a_stale_nonce_is_replaced_once() {
    let wire = Wire::new();
    let session = wire.open().await;
    wire.0.clock.advance(125);
    assert_eq!(
        text(session.fetch(echo("x")).await).await.unwrap(),
        "-:Device:x"
    );
    assert_eq!((wire.sent(), wire.handled()), (3, 1));
}

#[tokio::test]
async fn a_forged_refusal_does_not_make_anything_happen_twice() {
    let wire = Wire::new();
    let session = wire.open().await;
    wire.tamper(problem(Code::NonceStale));
    // The reply is dropped and a stale nonce claimed: the second time is known to be one.
    assert_eq!(
        text(session.fetch(echo("pay")).await).await,
        Err(Code::Replayed)
    );
    assert_eq!(wire.handled(), 1);

    wire.tamper(problem(Code::SessionRevoked));
    let before = session.id();
    assert_eq!(
        text(session.fetch(echo("pay")).await).await,
        Err(Code::SessionRevoked)
    );
    assert_eq!(wire.handled(), 2);
    assert_ne!(session.id(), before);
    assert!(session.fetch(echo("go on")).await.is_ok());
}

/// Where nothing is sealed, nothing says that a refusal is the server's own.
#[tokio::test]
async fn a_weak_proof_that_is_claimed_in_the_open_is_not_made_anew() {
    let wire = Wire::with(ProofKind::Session);
    let builder = Client::builder(ORIGIN).identity(wire.0.bulla.identity());
    let session = wire.build(builder.seal(false)).open().await.unwrap();
    for expected in ["-:Device:pay", "-:Session:pay"] {
        let paid = text(session.fetch(echo("pay")).await).await;
        assert_eq!(paid.as_deref(), Ok(expected));
    }
    wire.tamper(problem(Code::ProofWeak));
    let refused = text(session.fetch(echo("pay")).await).await;
    assert_eq!(refused, Err(Code::ProofWeak));
    assert_eq!(wire.handled(), 3);
}

/// Of an answer to a sealed request that is not sealed, a nonce is taken and nothing else.
#[tokio::test]
async fn what_is_said_beside_a_forged_refusal_is_not_believed() {
    let wire = Wire::new();
    let session = wire.open().await;
    let mallory = wire.open().await;
    let foreign = mallory.dangerous_loot().unwrap().ticket.to_field();
    let before = (session.id(), session.dangerous_loot().unwrap().ticket);
    for (name, value) in [
        (field::TICKET, foreign.as_str()),
        (field::CARRY_OVER, foreign.as_str()),
        (field::ENDED, "?1"),
    ] {
        let forged = value.parse().unwrap();
        wire.tamper(move |response| {
            let mut response = problem(Code::StoreUnavailable)(response);
            response.headers_mut().insert(name, forged);
            response
        });
        let (sent, refused) = (wire.sent(), text(session.fetch(echo("x")).await).await);
        assert_eq!(refused, Err(Code::StoreUnavailable), "{name}");
        assert_eq!(wire.sent(), sent + 1, "{name}");
        let after = (session.id(), session.dangerous_loot().unwrap().ticket);
        assert_eq!(after, before, "{name}");
    }
    // Nor is it kept for the next opening.
    wire.0.clock.advance(24 * 3600);
    let me = Request::get("/api/me").body("").unwrap();
    assert_eq!(text(session.fetch(me).await).await.unwrap(), "-:Device:");
    // Codes that only a client can come to are nobody's refusal.
    wire.tamper(|response| {
        let mut forged = problem(Code::Malformed)(response);
        let claimed = Problem::from(Code::SessionClosed.because("")).to_json();
        *forged.body_mut() = claimed.into();
        forged
    });
    let refused = text(session.fetch(echo("x")).await).await;
    assert_eq!(refused, Err(Code::ReplyUnsealed));
}

/// Also where nobody reads on.
#[tokio::test]
async fn a_reply_without_content_ends_with_its_final_record() {
    let wire = Wire::new();
    let session = wire.open().await;
    let later = || session.fetch(Request::get("/api/later").body("").unwrap());
    let whole = later().await.unwrap();
    assert_eq!(whole.status(), http::StatusCode::NO_CONTENT);
    wire.tamper(|response| response.map(|body| body.slice(..21 + 4096)));
    let cut = later().await.map(drop).map_err(|error| error.code);
    assert_eq!(cut, Err(Code::ReplyTruncated));
}

/// What can be told from the lengths on the wire is rough.
#[tokio::test]
async fn near_lengths_look_the_same() {
    let wire = Wire::new();
    let session = wire.open().await;
    let mut lengths = std::collections::BTreeSet::new();
    for len in 1000..1020 {
        let nonce = session.fresh_nonce().unwrap();
        let request = echo(&"x".repeat(len));
        let prepared = session.prepare(request, Mode::Sealed, ProofKind::Device, nonce);
        let prepared = prepared.unwrap();
        let reply = wire.carry(prepared.request.clone()).await;
        lengths.insert((prepared.request.body().len(), reply.body().len()));
    }
    assert!(lengths.len() < 4, "{lengths:?}");
}

/// Where nothing is sealed, a reply can be forged, with what it says of the session.
#[tokio::test]
async fn what_is_said_in_the_open_moves_nobody_into_anothers_session() {
    let wire = Wire::new();
    let log_in = async |session: &Session, user: &'static str| {
        let login = Request::post("/api/login").body(user).unwrap();
        session.fetch(login).await.unwrap();
        assert!(session.is_authenticated());
    };
    let mallory = wire.open().await;
    log_in(&mallory, "mallory").await;
    let foreign = mallory.dangerous_loot().unwrap().ticket.to_field();
    let builder = Client::builder(ORIGIN).identity(wire.0.bulla.identity());
    let client = wire.build(builder.seal(false));
    let nobody = || Ok("-:Device:".to_owned());
    for (name, value, paid, then) in [
        (
            field::NONCE,
            "\"forged\"",
            Ok(()),
            Ok("ann:Device:".to_owned()),
        ),
        (field::ENDED, "?1", Ok(()), nobody()),
        (
            field::CARRY_OVER,
            foreign.as_str(),
            Err(Code::TicketInvalid),
            nobody(),
        ),
        // Until that ticket ends.
        (
            field::TICKET,
            foreign.as_str(),
            Ok(()),
            Err(Code::ProofMismatch),
        ),
        (field::TICKET, ":AA==:", Ok(()), nobody()),
    ] {
        let session = client.open().await.unwrap();
        log_in(&session, "ann").await;
        let handled = wire.handled();
        let forged = value.parse().unwrap();
        wire.tamper(move |mut response| {
            response.headers_mut().insert(name, forged);
            response
        });
        let pay = text(session.fetch(echo("pay")).await).await;
        assert_eq!(pay.map(drop), paid, "{name} {value}");
        assert_eq!(wire.handled(), handled + 1, "{name} {value}");
        let me = Request::get("/api/me").body("").unwrap();
        assert_eq!(text(session.fetch(me).await).await, then, "{name} {value}");
    }
}

#[tokio::test]
async fn a_refused_session_is_replaced() {
    let wire = Wire::new();
    let session = wire.open().await;
    let device = session.client().device();
    wire.0
        .bulla
        .revoke(Revocation::Device(device))
        .await
        .unwrap();
    let unsafe_one = text(session.fetch(echo("x")).await).await;
    assert_eq!(unsafe_one, Err(Code::SessionRevoked));

    let session = wire.open().await;
    wire.0.clock.advance(24 * 3600);
    let me = Request::get("/api/me").body("").unwrap();
    assert_eq!(text(session.fetch(me).await).await.unwrap(), "-:Device:");
}

#[tokio::test]
async fn replies_that_are_not_what_they_must_be_are_refused() {
    let wire = Wire::new();
    let session = wire.open().await;
    let fetch = || async { text(session.fetch(echo("x")).await).await.unwrap_err() };

    wire.tamper(|_| Response::new(Bytes::from("all is well")));
    assert_eq!(fetch().await, Code::ReplyUnsealed);
    wire.tamper(|mut response| {
        *response.status_mut() = http::StatusCode::ACCEPTED;
        response
    });
    assert_eq!(fetch().await, Code::ReplyUnsealed);
    wire.tamper(|response| response.map(|body| body.slice(..body.len() - 1)));
    assert_eq!(fetch().await, Code::ReplyBroken);
    wire.tamper(|response| response.map(|body| body.slice(..21)));
    assert_eq!(fetch().await, Code::ReplyTruncated);
    wire.tamper(|response| response.map(|_| Bytes::new()));
    assert_eq!(fetch().await, Code::ReplyTruncated);
    wire.tamper(|response| {
        response.map(|body| {
            let mut body = body.to_vec();
            body[30] ^= 1;
            body.into()
        })
    });
    assert_eq!(fetch().await, Code::ReplyBroken);

    // The connection goes before the end.
    wire.cut();
    assert_eq!(fetch().await, Code::ReplyTruncated);

    // A long reply without its last records.
    wire.tamper(|response| response.map(|body| body.slice(..21 + 2 * 65_536)));
    let big = Request::get("/api/big").body("").unwrap();
    assert_eq!(
        text(session.fetch(big).await).await,
        Err(Code::ReplyTruncated)
    );
}

/// Also where nothing is sealed, and TLS alone says where a reply ends.
#[tokio::test]
async fn half_a_reply_is_an_error() {
    let wire = Wire::new();
    let client = wire.build(Client::builder(ORIGIN).seal(false));
    wire.cut();
    assert_eq!(client.open().await.unwrap_err().code, Code::Network);
    let session = client.open().await.unwrap();
    wire.cut();
    let cut = text(session.fetch(echo("pay")).await).await;
    assert_eq!((cut, wire.handled()), (Err(Code::Network), 1));
    // Nor is a refusal believed of which half is missing.
    wire.tamper(problem(Code::SessionRevoked));
    wire.cut();
    let before = session.id();
    let cut = text(session.fetch(echo("pay")).await).await;
    assert_eq!((cut, session.id()), (Err(Code::Network), before));
}

/// Nobody is told that a login failed, and logged in by it a moment later.
#[tokio::test]
async fn a_login_whose_opening_is_lost_logs_nobody_in() {
    // The answer to the login, then that to the opening.
    for arrives in [false, true] {
        let wire = Wire::new();
        let session = wire.open().await;
        if arrives {
            wire.cut_after(1);
        } else {
            wire.lose_after(1);
        }
        let login = Request::post("/api/login").body("ann").unwrap();
        let lost = session.fetch(login).await.map(drop);
        assert_eq!(lost.map_err(|error| error.code), Err(Code::Network));
        let after = text(session.fetch(echo("x")).await).await;
        assert_eq!(after.as_deref(), Ok("-:Device:x"), "{arrives}");
    }
}

/// The login has ended the session that a request at the same time is then refused for.
#[tokio::test]
async fn a_login_is_not_lost_to_a_session_that_was_opened_meanwhile() {
    for seal in [true, false] {
        let wire = Wire::new();
        let session = wire.build(Client::builder(ORIGIN).seal(seal));
        let session = session.open().await.unwrap();
        let (is_there, late) = wire.hold();
        let login = session.fetch(Request::post("/api/login").body("ann").unwrap());
        let meanwhile = async {
            is_there.await.unwrap();
            let me = Request::get("/api/me").body("").unwrap();
            let reply = text(session.fetch(me).await).await;
            late.send(()).unwrap();
            reply
        };
        let (login, meanwhile) = tokio::join!(login, meanwhile);
        assert!(login.unwrap().status().is_success());
        assert_eq!(meanwhile.as_deref(), Ok("-:Device:"));
        let after = text(session.fetch(echo("x")).await).await;
        assert_eq!(after.as_deref(), Ok("ann:Device:x"), "{seal}");
    }
}

/// Any request may make the opening that a login is waiting for, and lose it.
#[tokio::test]
async fn a_login_whose_opening_another_request_loses_has_failed() {
    let wire = Wire::new();
    let session = wire.open().await;
    let others_go_on = || async {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    };
    let me = async || {
        let me = Request::get("/api/me").body("").unwrap();
        text(session.fetch(me).await).await
    };
    let (is_there, login_reply) = wire.hold();
    let login = session.fetch(Request::post("/api/login").body("ann").unwrap());
    let (first_may, first_starts) = oneshot::channel();
    let (second_may, second_starts) = oneshot::channel();
    let first = async {
        first_starts.await.unwrap();
        me().await
    };
    let second = async {
        second_starts.await.unwrap();
        me().await
    };
    let course = async {
        is_there.await.unwrap();
        // The first is refused, and opens a session while it holds the turn.
        let (is_there, refusal) = wire.hold();
        first_may.send(()).unwrap();
        is_there.await.unwrap();
        let (is_there, opened) = wire.hold();
        refusal.send(()).unwrap();
        is_there.await.unwrap();
        // The second waits for its turn; behind it waits the login, with its ticket.
        second_may.send(()).unwrap();
        others_go_on().await;
        login_reply.send(()).unwrap();
        others_go_on().await;
        // The first sends its request again, then the second opens a session.
        wire.lose_after(1);
        opened.send(()).unwrap();
    };
    let (login, first, second, ()) = tokio::join!(login, first, second, course);
    assert_eq!(first.as_deref(), Ok("-:Device:"));
    assert_eq!(second, Err(Code::Network));
    assert_eq!(login.map(drop).unwrap_err().code, Code::Network);
    let after = text(session.fetch(echo("x")).await).await;
    assert_eq!(after.as_deref(), Ok("-:Device:x"));
}

#[tokio::test]
async fn a_late_end_of_an_old_session_ends_no_newer_one() {
    for seal in [true, false] {
        let wire = Wire::new();
        let session = wire.build(Client::builder(ORIGIN).seal(seal));
        let session = session.open().await.unwrap();
        let old = session.id();
        let (is_there, late) = wire.hold();
        let logout = session.fetch(Request::post("/api/logout").body("").unwrap());
        let meanwhile = async {
            is_there.await.unwrap();
            let me = Request::get("/api/me").body("").unwrap();
            let reply = text(session.fetch(me).await).await;
            late.send(()).unwrap();
            (reply, session.id())
        };
        let (ended, (reply, newer)) = tokio::join!(logout, meanwhile);
        assert!(ended.unwrap().status().is_success());
        assert_eq!(reply.as_deref(), Ok("-:Device:"));
        assert_ne!(newer, old);
        assert_eq!(session.id(), newer, "{seal}");
    }
}

#[tokio::test]
async fn an_identity_that_is_not_the_pinned_one_is_refused() {
    let (wire, other) = (Wire::new(), Wire::new());
    let builder = Client::builder(ORIGIN).identity(other.0.bulla.identity());
    let refused = wire.build(builder).open().await.unwrap_err();
    assert_eq!(refused.code, Code::IdentityChanged);

    // The first identity that is met stays.
    let client = wire.build(Client::builder(ORIGIN));
    client.open().await.unwrap();
    let prepared = client.prepare_opening(None).unwrap();
    let answer = other.carry(prepared.request.clone()).await;
    let refused = prepared.answer(&answer).unwrap_err();
    assert_eq!(refused.code, Code::IdentityChanged);

    let mut answer = wire.carry(prepared.request.clone()).await;
    assert!(prepared.answer(&answer).is_ok());
    // A body that its digest fits, and that the identity has not signed.
    let mut changed = answer.clone();
    let body = String::from_utf8(answer.body().to_vec()).unwrap();
    let body = body.replace("\"authenticated\":false", "\"authenticated\":true");
    let digest = bulla_protocol::digest::ContentDigest::of(body.as_bytes()).to_field();
    let headers = changed.headers_mut();
    headers.insert(field::CONTENT_DIGEST, digest.parse().unwrap());
    *changed.body_mut() = body.into();
    let refused = prepared.answer(&changed).unwrap_err();
    assert_eq!(refused.code, Code::ReplyInvalid);

    *answer.body_mut() = Bytes::from(answer.body().to_vec().repeat(2));
    let refused = prepared.answer(&answer).unwrap_err();
    assert_eq!(refused.code, Code::ReplyInvalid);
}

/// Two openings that were on their way when none was known: the first one met is the one that stays.
#[tokio::test]
async fn the_first_of_two_identities_stays() {
    let (wire, other) = (Wire::new(), Wire::new());
    let client = wire.build(Client::builder(ORIGIN));
    let (first, second) = (
        client.prepare_opening(None).unwrap(),
        client.prepare_opening(None).unwrap(),
    );
    let answer = wire.carry(first.request.clone()).await;
    assert!(first.answer(&answer).is_ok());
    let answer = other.carry(second.request.clone()).await;
    let refused = second.answer(&answer).unwrap_err();
    assert_eq!(refused.code, Code::IdentityChanged);
    assert_eq!(client.identity(), Some(wire.0.bulla.identity()));
}

#[tokio::test]
async fn each_step_can_be_held_in_hand() {
    let wire = Wire::new();
    let client = wire.client();
    let opening = client.prepare_opening(None).unwrap();
    let answer = client
        .send_unverified(opening.request.clone())
        .await
        .unwrap();
    let session = opening.answer(&answer).unwrap();

    let prepare = |mode| {
        let nonce = session.fresh_nonce().unwrap();
        session
            .prepare(echo("x"), mode, ProofKind::Device, nonce)
            .unwrap()
    };
    for mode in [Mode::Sealed, Mode::SealedAtPath, Mode::Signed] {
        let prepared = prepare(mode);
        let reply = client
            .send_unverified(prepared.request.clone())
            .await
            .unwrap();
        let opened = prepared.open_reply(reply).await.unwrap();
        assert_eq!(opened.body(), "-:Device:x", "{mode:?}");
        assert!(opened.headers().contains_key(field::NONCE));
        let again = client
            .send_unverified(prepared.request.clone())
            .await
            .unwrap();
        let refused = prepared.open_reply(again).await.unwrap_err();
        assert_eq!(refused.code, Code::Replayed, "{mode:?}");
    }

    // Two replies swapped.
    let (one, two) = (prepare(Mode::Sealed), prepare(Mode::Sealed));
    let reply = client.send_unverified(two.request.clone()).await.unwrap();
    let refused = one.open_reply(reply).await.unwrap_err();
    assert_eq!(refused.code, Code::ReplyMismatch);

    let garbage = session.dangerous_seal(b"not a message").unwrap();
    let refused = client.send_unverified(garbage).await.unwrap();
    assert_eq!(Problem::parse(refused.body()), Some(Code::Malformed));
}

#[tokio::test]
async fn loot_opens_nothing() {
    let wire = Wire::with(ProofKind::Session);
    let victim = wire.open().await;
    let login = Request::post("/api/login").body("ann").unwrap();
    assert!(victim.fetch(login).await.is_ok());
    assert!(victim.fetch(echo("mine")).await.is_ok());
    let handled = wire.handled();

    let loot = victim.dangerous_loot().unwrap();
    assert!(
        !format!("{loot:?}{victim:?}").contains(&structured::from_bytes(loot.ticket.as_bytes()))
    );
    let thief = wire.open().await;
    let stolen = thief.dangerous_with_loot(loot.clone()).unwrap();
    for mode in [Mode::Sealed, Mode::Signed] {
        for kind in [ProofKind::Device, ProofKind::Session] {
            let nonce = stolen.fresh_nonce().unwrap();
            let prepared = stolen.prepare(echo("steal"), mode, kind, nonce).unwrap();
            let reply = wire.carry(prepared.request.clone()).await;
            let refused = prepared.open_reply(reply).await.unwrap_err();
            assert_eq!(refused.code, Code::ProofMismatch, "{mode:?} {kind:?}");
        }
    }
    let opening = thief.client().prepare_opening(Some(loot.ticket)).unwrap();
    let answer = wire.carry(opening.request.clone()).await;
    assert_eq!(
        opening.answer(&answer).unwrap_err().code,
        Code::TicketInvalid
    );
    assert_eq!(wire.handled(), handled);
}

/// The sealing keys are what keeps whoever is on the way from answering for the server: who has them too, such as
/// script in the page that works for him, makes replies. Requests he cannot make: `loot_opens_nothing`.
#[tokio::test]
async fn whoever_is_on_the_way_and_has_the_sealing_keys_makes_replies() {
    let wire = Wire::new();
    let (session, other) = (wire.open().await, wire.open().await);
    let nonce = session.fresh_nonce().unwrap();
    let prepared = session
        .prepare(echo("x"), Mode::Sealed, ProofKind::Device, nonce.clone())
        .unwrap();
    let handled = wire.handled();
    let answer = async |session: &Session, nonce: &str| {
        let in_reply_to = (field::IN_REPLY_TO.to_owned(), format!("\"{nonce}\""));
        let head = Head {
            control: Control::Response(200),
            fields: vec![in_reply_to],
        };
        let inner = message::whole(head, b"forged").unwrap();
        let header = Header {
            salt: [7; 16],
            record_size: 4096,
            keyid: Vec::new(),
        };
        let key = session.dangerous_loot().unwrap().response_key;
        let sealed = ece::seal_whole(&key, &header, &inner).unwrap();
        let reply = Response::builder()
            .header("content-type", field::BHTTP)
            .header("content-encoding", field::AES128GCM)
            .body(Bytes::from(sealed));
        let read = prepared.open_reply(reply.unwrap()).await;
        read.map(Response::into_body).map_err(|error| error.code)
    };
    let nonce = nonce.to_param();
    assert_eq!(answer(&other, &nonce).await, Err(Code::ReplyBroken));
    let earlier = session.fresh_nonce().unwrap().to_param();
    assert_eq!(answer(&session, &earlier).await, Err(Code::ReplyMismatch));
    let forged = answer(&session, &nonce).await;
    assert_eq!(forged, Ok(Bytes::from_static(b"forged")));
    assert_eq!(wire.handled(), handled);
}

#[tokio::test]
async fn an_ended_session_is_closed() {
    let wire = Wire::new();
    let session = wire.open().await;
    let loot = session.dangerous_loot().unwrap();
    session.end().await.unwrap();
    session.end().await.unwrap();
    assert_eq!(
        text(session.fetch(echo("x")).await).await,
        Err(Code::SessionClosed)
    );

    let opening = session.client().prepare_opening(Some(loot.ticket)).unwrap();
    let answer = wire.carry(opening.request.clone()).await;
    assert_eq!(
        opening.answer(&answer).unwrap_err().code,
        Code::SessionRevoked
    );
}

#[tokio::test]
async fn an_end_that_nobody_waits_for_closes_the_session() {
    let wire = Wire::new();
    let session = wire.open().await;
    let held = wire.hold();
    assert!(session.end().now_or_never().is_none());
    drop(held);
    let refused = text(session.fetch(echo("x")).await).await;
    assert_eq!(refused, Err(Code::SessionClosed));
    assert_eq!(session.id(), None);
}

#[tokio::test]
async fn only_the_servers_own_word_says_that_a_session_has_ended() {
    let wire = Wire::new();
    let session = wire.open().await;
    let device = Revocation::Device(session.client().device());
    wire.0.bulla.revoke(device).await.unwrap();
    session.end().await.unwrap();
    for forged in [
        Code::SessionRevoked,
        Code::TicketInvalid,
        Code::TicketExpired,
    ] {
        let session = wire.open().await;
        wire.tamper(problem(forged));
        assert_eq!(session.end().await.unwrap_err().code, forged);
        let after = text(session.fetch(echo("x")).await).await;
        assert_eq!(after, Err(Code::SessionClosed));
    }
}

#[tokio::test]
async fn requests_at_the_same_time_share_one_new_session() {
    let wire = Wire::new();
    let session = wire.open().await;
    wire.0.clock.advance(24 * 3600);
    let me = || session.fetch(Request::get("/api/me").body("").unwrap());
    let before = wire.sent();
    let (one, two, three) = tokio::join!(me(), me(), me());
    assert!(one.is_ok() && two.is_ok() && three.is_ok());
    // Three refused, one opening, three answered.
    assert_eq!(wire.sent() - before, 7);
}

#[test]
fn wrong_configurations_are_refused() {
    for (server, prefix) in [
        ("bank.example", "/p"),
        ("https://bank.example/x", "/p"),
        (ORIGIN, "p"),
        (ORIGIN, "/p/"),
        (ORIGIN, "/p?x"),
    ] {
        let error = Client::builder(server).prefix(prefix).build().unwrap_err();
        assert_eq!(error.code, Code::RequestInvalid, "{server} {prefix}");
    }
    let key = SigningKey::generate(&SystemRandom).unwrap();
    let device = key.thumbprint();
    let client = Client::builder(ORIGIN).device_key(key).build().unwrap();
    assert_eq!(client.device(), device);
}

#[tokio::test]
async fn a_stream_is_uploaded_once_though_its_nonce_is_stale() {
    let wire = Wire::new();
    let session = wire.open().await;
    wire.0.clock.advance(200);
    let before = wire.sent();
    // More than the server would collect.
    let request = Request::post("/api/count").body(|| stream(5, false));
    let reply = session.upload(request.unwrap()).await;
    assert_eq!(text(reply).await.unwrap(), (5 << 20).to_string());
    assert_eq!(wire.sent() - before, 2);

    let too_large = Request::post("/api/count").body(vec![7; 5 << 20]).unwrap();
    assert_eq!(
        text(session.fetch(too_large).await).await,
        Err(Code::TooLarge)
    );
}

#[tokio::test]
async fn a_stream_that_fails_is_not_taken_for_a_whole_one() {
    let wire = Wire::new();
    let session = wire.open().await;
    let request = Request::post("/api/count").body(|| stream(1, true));
    let reply = session.upload(request.unwrap()).await.unwrap();
    // The handler has met the error; its answer says so.
    let text = text(Ok(reply)).await.unwrap();
    assert_ne!(text, (1 << 20).to_string());
    assert!(text.contains("did not arrive whole"), "{text}");
}

#[tokio::test]
async fn a_stream_goes_over_a_real_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let bulla = Bulla::builder()
        .origin(&origin)
        .identity(Identity::generate(&SystemRandom).unwrap())
        .store(MemoryStore::new().unwrap())
        .build()
        .unwrap();
    let app = bulla.protect(Router::new().route("/api/count", post(count_bytes)));
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let client = Client::builder(&origin).identity(bulla.identity());
    let session = client.build().unwrap().open().await.unwrap();
    let request = Request::post("/api/count").body(|| stream(20, false));
    let reply = session.upload(request.unwrap()).await;
    assert_eq!(text(reply).await.unwrap(), (20 << 20).to_string());
    let broken = Request::post("/api/count").body(|| stream(20, true));
    let error = session.upload(broken.unwrap()).await.unwrap_err();
    assert_eq!(error.code, Code::Network);
    server.abort();
}

/// Also by whoever is still sending when it is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_large_body_is_seen() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let bulla = Bulla::builder()
        .origin(&origin)
        .identity(Identity::generate(&SystemRandom).unwrap())
        .store(MemoryStore::new().unwrap())
        .build()
        .unwrap();
    let mine = post(count_bytes).layer(Require::session().logged_in());
    let app = Router::new()
        .route("/api/count", post(count_bytes))
        .route("/api/mine", mine);
    let app = bulla.protect(app);
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    for seal in [true, false] {
        let client = Client::builder(&origin).identity(bulla.identity());
        let session = client.seal(seal).build().unwrap().open().await.unwrap();
        for mebibytes in [3, 7].repeat(25) {
            let large = Request::post("/api/count").body(vec![7; mebibytes << 20]);
            let refused = text(session.fetch(large.unwrap()).await).await;
            assert_eq!(refused, Err(Code::TooLarge), "{mebibytes} MiB, {seal}");
            // And the connection that comes next is not a dead one.
            let small = Request::post("/api/count").body("x").unwrap();
            assert_eq!(text(session.fetch(small).await).await.as_deref(), Ok("1"));
        }
    }
    // And of a stream, which is refused before it is read.
    let session = Client::builder(&origin).build().unwrap().open().await;
    let session = session.unwrap();
    for _ in 0..50 {
        let upload = Request::post("/api/mine").body(|| stream(3, false));
        let refused = text(session.upload(upload.unwrap()).await).await;
        assert_eq!(refused, Err(Code::LoginRequired));
    }
    server.abort();
}

/// All else would wait for it. The clock stands still but where everybody waits.
#[tokio::test(start_paused = true)]
async fn an_opening_is_not_waited_for_without_end() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", silent.local_addr().unwrap());
    let client = Client::builder(&origin).build().unwrap();
    let began = tokio::time::Instant::now();
    let opened = tokio::time::timeout(2 * OPENING_TIMEOUT, client.open()).await;
    let error = opened.expect("there is a limit").unwrap_err();
    assert_eq!(error.code, Code::Network);
    assert!(began.elapsed() >= OPENING_TIMEOUT);
}

/// By an HTTP client that was handed in, and that follows redirects.
#[tokio::test]
async fn what_a_redirect_leads_to_answers_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let elsewhere = || async { axum::response::Redirect::temporary("/elsewhere") };
    let app = Router::new().route("/.well-known/bulla/session", post(elsewhere));
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let follows = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::limited(3))
        .build()
        .unwrap();
    for (builder, wanted) in [
        (Client::builder(&origin), Code::ReplyInvalid),
        (Client::builder(&origin).http(follows), Code::Network),
    ] {
        let refused = builder.build().unwrap().open().await.unwrap_err();
        assert_eq!(refused.code, wanted);
    }
    server.abort();
}

/// A middle man holds the reply until the server has forgotten the request, and says that it was none.
#[tokio::test]
async fn nothing_is_done_twice_for_a_late_word_from_the_path() {
    for (seal, sleeps, claimed) in [
        (true, false, Code::SessionUnconfirmed),
        (false, false, Code::SessionUnconfirmed),
        (true, false, Code::NonceStale),
        (true, true, Code::SessionUnconfirmed),
        (true, true, Code::NonceStale),
    ] {
        let wire = Wire::with(ProofKind::Session);
        let clock = wire.0.clock.clone();
        let builder = Client::builder(ORIGIN).identity(wire.0.bulla.identity());
        let builder = builder.seal(seal).transport(wire.clone());
        let client = if sleeps {
            builder.clock(Asleep(clock))
        } else {
            builder.clock(clock)
        };
        let session = client.build().unwrap().open().await.unwrap();
        for expected in ["-:Device:x", "-:Session:x"] {
            let reply = text(session.fetch(echo("x")).await).await;
            assert_eq!(reply.as_deref(), Ok(expected));
        }
        let before = wire.handled();
        let (is_there, late) = wire.hold();
        let middle_man = async {
            is_there.await.unwrap();
            wire.0.clock.advance(200);
            // Anybody is told the current nonce.
            let ask = Request::get(format!("{ORIGIN}/x")).body(Bytes::new());
            let told = wire.carry(ask.unwrap()).await.headers()[field::NONCE].clone();
            wire.tamper(move |mut response| {
                response.headers_mut().insert(field::NONCE, told);
                problem(claimed)(response)
            });
            late.send(()).unwrap();
        };
        let (paid, ()) = tokio::join!(session.fetch(echo("pay")), middle_man);
        let code = paid.err().map(|error| error.code);
        assert_eq!(code, Some(claimed), "{seal} {sleeps}");
        assert_eq!(wire.handled() - before, 1, "{seal} {sleeps} {claimed}");
    }
}

/// Others have opened as many as are for nothing; and nobody on the way can have more than so much work done.
#[tokio::test]
async fn an_opening_that_takes_work_takes_it_by_itself() {
    let serve = async |bits| {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let bulla = Bulla::builder()
            .origin(&origin)
            .identity(Identity::generate(&SystemRandom).unwrap())
            .store(MemoryStore::new().unwrap())
            .openings(bulla_server::Openings {
                in_all: Some(bulla_server::Rate::new(1, Duration::from_hours(1))),
                network: None,
                bits,
            })
            .build()
            .unwrap();
        let app = bulla.protect(Router::new().route("/api/count", post(count_bytes)));
        tokio::spawn(async move { axum::serve(listener, app).await });
        origin
    };
    let origin = serve(10).await;
    for _ in 0..3 {
        let session = Client::builder(&origin).build().unwrap().open().await;
        let request = Request::post("/api/count").body("xx").unwrap();
        let reply = text(session.unwrap().fetch(request).await).await;
        assert_eq!(reply.as_deref(), Ok("2"));
    }
}

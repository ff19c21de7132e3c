//! The verifier, whole: its tower service is called with requests that `bulla-client` has made, and
//! the reply is read to its end. What is measured is everything between the two, the boxed futures
//! and the handler included, which hands the request's body back.
//!
//! Store in memory where none is named, the system's clock, nobody listening to events. The sessions are many, so that
//! nothing is found in a cache only because there is one device in the world. They are confirmed by a
//! first request over a real connection, as any session is.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::any;
use bulla_client::{Client, Mode, ProofKind, Session, SystemRandom};
use bulla_protocol::field;
use bulla_server::{
    Body, Bulla, BullaService, Identity, Lifetimes, MemoryStore, Openings, RedisStore, Store,
};
use bulla_tests::redis::Redis;
use bulla_tests::serve::Server;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either, Full};
use tokio::runtime::Runtime;
use tower::{Layer as _, Service};

use crate::Outcome;
use crate::measure::Probe;

/// As many are in flight at once.
pub(crate) const SESSIONS: usize = 64;
/// How long a nonce lives by default, and how long one that does not go stale while it waits for its turn.
pub(crate) const NONCE: Duration = Duration::from_mins(1);
pub(crate) const LONG_NONCE: Duration = Duration::from_hours(12);
const BODY_LEN: usize = 1 << 10;
const BULK_LEN: usize = 1 << 20;
const PATH: &str = "/api/transfer";
const BULK_PATH: &str = "/api/statement";

/// A verifier, and sessions with it.
pub(crate) struct Target {
    runtime: Runtime,
    service: BullaService<Handler>,
    handler: Handler,
    sessions: Vec<Session>,
    sealed_uri: http::Uri,
    /// Where the sessions talk to the same verifier.
    _server: Server,
}

impl Target {
    /// Sets the verifier up over a store in memory, with nonces that live for this long, and opens and confirms
    /// the sessions.
    pub(crate) fn start(nonce: Duration) -> Outcome<Rc<Self>> {
        Self::start_over(nonce, async || Ok(MemoryStore::new()?))
    }

    /// The same over the store in this Redis server.
    pub(crate) fn start_with_redis(nonce: Duration, redis: &Redis) -> Outcome<Rc<Self>> {
        Self::start_over(nonce, async || Ok(RedisStore::connect(redis.url()).await?))
    }

    fn start_over<S: Store>(
        nonce: Duration,
        store: impl AsyncFnOnce() -> Outcome<S>,
    ) -> Outcome<Rc<Self>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut built = None;
        let store = runtime.block_on(store())?;
        let server = runtime.block_on(Server::start_with(|origin| {
            let bulla = verifier(origin, nonce, store).map_err(io::Error::other)?;
            built = Some(bulla.clone());
            Ok(bulla.protect(Router::new().route(PATH, any(|body: Bytes| async { body }))))
        }))?;
        let bulla = built.ok_or("the verifier was not built")?;
        let sessions = runtime.block_on(async {
            let mut sessions = Vec::with_capacity(SESSIONS);
            for _ in 0..SESSIONS {
                let client = Client::builder(server.origin()).identity(bulla.identity());
                let session = client.build()?.open().await?;
                session.fetch(transfer(PATH)?).await?;
                sessions.push(session);
            }
            Ok::<_, crate::Failure>(sessions)
        })?;
        let handler = Handler::new();
        let target = Rc::new(Self {
            runtime,
            service: bulla.layer().layer(handler.clone()),
            handler,
            sessions,
            sealed_uri: server.url("/.well-known/bulla/sealed").parse()?,
            _server: server,
        });
        target.check()?;
        Ok(target)
    }

    /// The paths whose time is that of one request.
    pub(crate) fn requests(self: &Rc<Self>) -> Vec<Probe> {
        use Mode::{Sealed, Signed};
        use ProofKind::{Device, Session};

        let proven = |id, batch, mode, kind| {
            self.probe(id, batch, StatusCode::OK, move |target, number| {
                target.request(number, PATH, mode, kind)
            })
        };
        vec![
            proven("server/sealed-device", 8, Sealed, Device),
            proven("server/signed-device", 8, Signed, Device),
            proven("server/sealed-session", 16, Sealed, Session),
            proven("server/signed-session", 16, Signed, Session),
            self.probe(
                "server/refuse-garbage",
                64,
                StatusCode::BAD_REQUEST,
                |target, _| target.garbage(),
            ),
            self.probe(
                "server/refuse-forged-ticket",
                64,
                StatusCode::UNAUTHORIZED,
                Self::forged,
            ),
            self.probe(
                "server/open-session",
                2,
                StatusCode::OK,
                |target, number| {
                    let client = target.session(number).client();
                    Ok(client.prepare_opening(None)?.request)
                },
            ),
        ]
    }

    /// Many at once, each session with one of its own: the time of one, while the store has all of them to answer.
    pub(crate) fn in_flight(self: &Rc<Self>, id: &'static str) -> Probe {
        let target = Rc::clone(self);
        let mut refreshed = Instant::now();
        Probe::new(id, SESSIONS, move |operations| {
            // Nonces live as long as an operator has them live.
            if refreshed.elapsed() > NONCE / 2 {
                target.refresh()?;
                refreshed = Instant::now();
            }
            let mut services = Vec::with_capacity(operations);
            for number in 0..operations {
                let request = target.request(number, PATH, Mode::Sealed, ProofKind::Device)?;
                services.push((target.service.clone(), request.map(Full::new)));
            }
            target.runtime.block_on(async {
                let start = Instant::now();
                let calls = services
                    .iter_mut()
                    .map(|(service, request)| call(service, std::mem::take(request)));
                for answered in join_all(calls).await {
                    let (status, len) = answered?;
                    if status != StatusCode::OK || len == 0 {
                        return Err(format!("status {status}, {len} bytes").into());
                    }
                }
                Ok(start.elapsed())
            })
        })
    }

    /// Gets each session the nonce of the hour.
    fn refresh(&self) -> Outcome {
        self.runtime.block_on(async {
            for session in &self.sessions {
                session.fetch(transfer(PATH)?).await?;
            }
            Ok(())
        })
    }

    /// A reply of 1 MiB: the time from the handler's answer, so without the request, to the last
    /// sealed byte.
    pub(crate) fn bulk(self: &Rc<Self>) -> Probe {
        let target = Rc::clone(self);
        let mut number = 0;
        Probe::new("server/seal-1MiB", 2, move |operations| {
            let mut time = Duration::ZERO;
            for _ in 0..operations {
                number += 1;
                let kind = ProofKind::Session;
                let request = target.request(number, BULK_PATH, Mode::Sealed, kind)?;
                let mut service = target.service.clone();
                let reply = call(&mut service, request.map(Full::new));
                let (status, len) = target.runtime.block_on(reply)?;
                let answered = *lock(&target.handler.answered);
                time += answered.ok_or("the handler was not called")?.elapsed();
                if status != StatusCode::OK || len < BULK_LEN {
                    return Err(format!("status {status}, {len} bytes").into());
                }
            }
            Ok(time)
        })
    }

    fn probe(
        self: &Rc<Self>,
        id: &'static str,
        batch: usize,
        expected: StatusCode,
        make: impl Fn(&Self, usize) -> Outcome<Request<Bytes>> + 'static,
    ) -> Probe {
        let target = Rc::clone(self);
        let mut number = 0;
        Probe::new(id, batch, move |operations| {
            let mut requests = Vec::with_capacity(operations);
            for _ in 0..operations {
                number += 1;
                requests.push(make(&target, number)?.map(Full::new));
            }
            let mut service = target.service.clone();
            target.runtime.block_on(async {
                let start = Instant::now();
                for request in requests {
                    let (status, len) = call(&mut service, request).await?;
                    if status != expected || len == 0 {
                        return Err(format!("status {status}, {len} bytes").into());
                    }
                }
                Ok(start.elapsed())
            })
        })
    }

    fn session(&self, number: usize) -> &Session {
        &self.sessions[number % self.sessions.len()]
    }

    fn request(
        &self,
        number: usize,
        path: &str,
        mode: Mode,
        kind: ProofKind,
    ) -> Outcome<Request<Bytes>> {
        let session = self.session(number);
        let prepared = session.prepare(transfer(path)?, mode, kind, session.fresh_nonce()?)?;
        Ok(prepared.request)
    }

    /// What nobody who knows the protocol sends, in the shape of a sealed request.
    fn garbage(&self) -> Outcome<Request<Bytes>> {
        let mut body = vec![0; 2 * BODY_LEN];
        aws_lc_rs::rand::fill(&mut body)?;
        // One in 65536 would declare a record size that is allowed, and be refused a step later.
        body[16] = 0xff;
        self.sealed(body)
    }

    /// A sealed request whose ticket somebody has made up.
    fn forged(&self, number: usize) -> Outcome<Request<Bytes>> {
        let request = self.request(number, PATH, Mode::Sealed, ProofKind::Device)?;
        let mut body = request.into_body().to_vec();
        // RFC 8188 section 2.1: salt, record size and length stand before the ticket. Its first two
        // bytes say which key it was sealed with.
        let end = 21 + usize::from(body[20]);
        let made_up = body.get_mut(23..end);
        aws_lc_rs::rand::fill(made_up.ok_or("the ticket is cut")?)?;
        self.sealed(body)
    }

    fn sealed(&self, body: Vec<u8>) -> Outcome<Request<Bytes>> {
        Ok(Request::post(self.sealed_uri.clone())
            .header("content-type", field::BHTTP)
            .header("content-encoding", field::AES128GCM)
            .body(body.into())?)
    }

    /// Fails unless the paths do what their names say.
    fn check(&self) -> Outcome {
        self.runtime.block_on(async {
            let session = self.session(0);
            for mode in [Mode::Sealed, Mode::Signed] {
                for kind in [ProofKind::Device, ProofKind::Session] {
                    let request = transfer(PATH)?;
                    let sent = request.body().clone();
                    let prepared = session.prepare(request, mode, kind, session.fresh_nonce()?)?;
                    let request = prepared.request.clone().map(Full::new);
                    let (parts, body) = self.service.clone().call(request).await?.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let reply = prepared
                        .open_reply(Response::from_parts(parts, body))
                        .await?;
                    if *reply.body() != sent {
                        return Err("the reply is not what the handler said".into());
                    }
                }
            }
            for (request, code) in [
                (self.garbage()?, "seal_broken"),
                (self.forged(0)?, "ticket_invalid"),
            ] {
                let reply = self.service.clone().call(request.map(Full::new)).await?;
                let body = reply.into_body().collect().await?.to_bytes();
                let problem: serde_json::Value = serde_json::from_slice(&body)?;
                if problem["code"] != code {
                    return Err(format!("refused with {problem}, not {code}").into());
                }
            }
            Ok(())
        })
    }
}

/// Hands the request's body back, or a long one of its own.
#[derive(Clone)]
struct Handler {
    bulk: Bytes,
    /// When the long one was handed out last.
    answered: Arc<Mutex<Option<Instant>>>,
}

impl Handler {
    fn new() -> Self {
        Self {
            bulk: vec![7; BULK_LEN].into(),
            answered: Arc::default(),
        }
    }
}

impl Service<Request<Body>> for Handler {
    type Response = Response<Either<Body, Full<Bytes>>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let body = if request.uri().path() == BULK_PATH {
            *lock(&self.answered) = Some(Instant::now());
            Either::Right(Full::new(self.bulk.clone()))
        } else {
            Either::Left(request.into_body())
        };
        ready(Ok(Response::new(body)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn verifier(origin: &str, nonce: Duration, store: impl Store) -> Outcome<Bulla> {
    const LONG: Duration = Duration::from_hours(12);
    Ok(Bulla::builder()
        .origin(origin)
        .identity(Identity::generate(&SystemRandom)?)
        .store(store)
        .proof(ProofKind::Session)
        .lifetimes(Lifetimes {
            nonce,
            ticket: LONG,
            ..Lifetimes::default()
        })
        .openings(Openings::FREE)
        .build()?)
}

/// 1 KiB for the application.
fn transfer(path: &str) -> Outcome<Request<Bytes>> {
    Ok(Request::post(path)
        .header("content-type", "application/json")
        .body(vec![b'x'; BODY_LEN].into())?)
}

/// Calls the service, and reads the reply to its end. Gives its status and length.
async fn call(
    service: &mut BullaService<Handler>,
    request: Request<Full<Bytes>>,
) -> Outcome<(StatusCode, usize)> {
    let (parts, mut body) = service.call(request).await?.into_parts();
    let mut len = 0;
    while let Some(frame) = body.frame().await {
        len += black_box(frame?).data_ref().map_or(0, Bytes::len);
    }
    Ok((parts.status, len))
}

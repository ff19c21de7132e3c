//! The steps that run the real halves: `exchange` the verifier, `client` the native client.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{any, get, post};
use bulla_client::Client;
use bulla_keys::{Random, RandomError, SystemRandom, ece};
use bulla_protocol::base64;
use bulla_protocol::error::{Code, Problem};
use bulla_protocol::field;
use bulla_protocol::message::{Control, Event, Reader};
use bulla_protocol::opening::Ticket;
use bulla_protocol::proof::{ProofKind, ProofNonce};
use bulla_protocol::seal::Header;
use bulla_server::{
    Bulla, Clock, Concurrency, Identity, Limits, MemoryRegistry, MemoryStore, Openings, Rate,
    Refused, Require, Ring, Session,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::input::{Input, text};
use crate::{Stop, step};

/// Where the verifier of the exchanges is reached.
pub(crate) const ORIGIN: &str = "https://bank.example";

/// Where nothing listens.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Runs any step.
///
/// # Errors
///
/// What the step refuses with, or what makes the vector unusable.
pub fn run(step: &str, input: &Value) -> Result<Value, Stop> {
    match step {
        "exchange" => wait(exchange(Input(input))),
        "client" => wait(client(Input(input))),
        _ => step::run(step, input),
    }
}

/// Runs a future to its end.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A request as it is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sent {
    /// How many seconds pass before it is sent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after: u64,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The header fields, `host` among them.
    pub fields: Vec<(String, String)>,
    /// The body, in base64url.
    pub body: String,
    /// How many seconds of silence follow it, if it is not whole.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stalls: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A reply, unsealed if it was sealed.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// The status.
    pub status: u16,
    /// Whether it came sealed.
    pub sealed: bool,
    /// The fields.
    pub fields: Vec<(String, String)>,
    /// The content.
    pub content: Vec<u8>,
}

/// How long ago the login may be where it must be recent.
const RECENT: Duration = Duration::from_mins(1);

/// The real verifier in the state that a vector describes, with a few routes behind it.
pub(crate) struct Server {
    app: Router,
    clock: StoppedClock,
}

impl Server {
    /// A verifier in this state.
    ///
    /// # Errors
    ///
    /// If the state cannot be read.
    pub(crate) fn new(state: Input<'_>, random: impl Random + 'static) -> Result<Self, Stop> {
        let unusable = |error: &dyn core::fmt::Display| Stop::Unusable(error.to_string());
        let clock = StoppedClock(Arc::new(AtomicU64::new(state.number("now")?)));
        // A file is how a ring's key is fixed from outside.
        let mut file = tempfile::NamedTempFile::new().map_err(|error| unusable(&error))?;
        file.write_all(state.part("ring")?.0.to_string().as_bytes())
            .map_err(|error| unusable(&error))?;
        let names = Repeated(state.array("memory")?);
        let mut memory = MemoryStore::new_with(&names).map_err(|error| unusable(&error))?;
        if state.has("capacity") {
            memory = memory.with_capacity(state.value("capacity")?);
        }
        if state.has("quota") {
            memory = memory.with_quota(state.value("quota")?);
        }
        let der = state.signing_key("identity")?.to_pkcs8_der();
        let pem = base64::encode_standard(der.map_err(|error| unusable(&error))?.as_slice());
        let builder = Bulla::builder()
            .origin(if state.has("origin") {
                state.text("origin")?
            } else {
                ORIGIN
            })
            .identity(Identity::from_pem(&pem).map_err(|error| unusable(&error))?)
            .ring(Ring::in_file(file.path()).map_err(|error| unusable(&error))?)
            .store(memory)
            .clock(clock.clone());
        let builder = if state.has("openings") {
            builder.openings(Openings {
                in_all: Some(Rate::new(state.value("openings")?, Duration::from_secs(10))),
                ..Openings::default()
            })
        } else {
            builder
        };
        let builder = if state.has("sessions") {
            let most = Concurrency::AtMost(state.value("sessions")?);
            builder.registry(MemoryRegistry::new()).concurrency(most)
        } else {
            builder
        };
        let builder = if state.has("exhausted") {
            builder.random(Exhausted)
        } else {
            builder.random(random)
        };
        let bulla = builder.build().map_err(|error| unusable(&error))?;
        let routes = Router::new()
            .route("/api/echo", any(echo))
            .route(
                "/api/login",
                post(|session: Session, user: String| async move {
                    session.login(&user).await.map_err(Refused)
                }),
            )
            .route("/api/sealed", get(echo).layer(Require::session().sealed()))
            .route("/api/user", get(echo).layer(Require::session().logged_in()))
            .route(
                "/api/recent",
                get(echo).layer(Require::session().recent_login(RECENT)),
            );
        Ok(Self {
            app: bulla.protect(routes),
            clock,
        })
    }

    /// Sends a request, and opens the reply with the key for it.
    ///
    /// # Errors
    ///
    /// If one of the two cannot be read.
    pub(crate) async fn send(&self, sent: &Sent, response_key: &[u8; 32]) -> Result<Reply, Stop> {
        self.clock.0.fetch_add(sent.after, Ordering::Relaxed);
        let body = base64::decode(&sent.body).unwrap_or_default();
        let mut request = Request::builder()
            .method(sent.method.as_str())
            .uri(&sent.target);
        for (name, value) in &sent.fields {
            request = request.header(name, value);
        }
        let request = request
            .body(self.sending(body, sent.stalls))
            .map_err(|error| Stop::Unusable(error.to_string()))?;
        let response = self.answer(request).await;
        let reply = Reply {
            status: response.status().as_u16(),
            sealed: false,
            fields: fields_of(&response),
            content: response.body().to_vec(),
        };
        let is_sealed = response
            .headers()
            .get("content-encoding")
            .is_some_and(|coding| coding.as_bytes() == field::AES128GCM.as_bytes());
        if is_sealed {
            return open(&reply.content, response_key);
        }
        Ok(reply)
    }

    /// A body that comes at once, and then nothing for so many seconds.
    fn sending(&self, body: Vec<u8>, stalls: u64) -> Body {
        if stalls == 0 {
            return body.into();
        }
        let clock = self.clock.clone();
        let silence = stream::poll_fn(move |cx| {
            // While somebody waits, time passes.
            let (clock, waker) = (clock.clone(), cx.waker().clone());
            tokio::spawn(async move {
                clock.0.fetch_add(stalls, Ordering::Relaxed);
                waker.wake();
            });
            Poll::Pending
        });
        let start = stream::once(ready(Ok::<_, Infallible>(body)));
        Body::from_stream(start.chain(silence))
    }

    async fn answer(&self, request: Request<Body>) -> Response<Bytes> {
        let Ok(response) = self.app.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }
}

async fn echo(session: Session, body: String) -> String {
    format!("{}: {body}", session.subject().unwrap_or("nobody"))
}

async fn exchange(input: Input<'_>) -> Result<Value, Stop> {
    let state = input.part("state")?;
    let server = Server::new(state, SystemRandom)?;
    let response_key = state.array("response_key")?;
    let requests: Vec<Sent> = input.value("requests")?;
    let (last, before) = requests
        .split_last()
        .ok_or_else(|| Stop::Unusable("there are no requests".into()))?;
    for sent in before {
        let reply = server.send(sent, &response_key).await?;
        if reply.status >= 300 {
            return Err(Stop::Unusable(format!("an earlier request: {reply:?}")));
        }
    }
    let reply = server.send(last, &response_key).await?;
    if let Some(code) = Problem::parse(&reply.content) {
        if code.status() != reply.status {
            return Err(Stop::Unusable(format!("{code} came with {}", reply.status)));
        }
        return Err(code.because("by the server").into());
    }
    let is_text = line(&reply.fields, "content-type").is_some_and(|kind| kind.starts_with("text/"));
    Ok(json!({
        "status": reply.status,
        "sealed": reply.sealed,
        "body": is_text.then(|| String::from_utf8_lossy(&reply.content).into_owned()),
    }))
}

async fn client(input: Input<'_>) -> Result<Value, Stop> {
    let refused = |error: bulla_client::Error| Stop::Refused(error.code.because("by the client"));
    let fetched = match input.text("do")? {
        "read" => return read(input).await,
        "make keys without random values" => {
            let made = Client::builder(ORIGIN).random(Arc::new(Exhausted)).build();
            made.map(|_| ()).map_err(refused)
        }
        "open" => {
            let client = Client::builder(NOWHERE).build().map_err(refused)?;
            client.open().await.map(|_| ()).map_err(refused)
        }
        "fetch from elsewhere" => {
            let session = session(ORIGIN).await?;
            let request = Request::get("https://elsewhere.example/").body(Bytes::new());
            let fetched = session.fetch(request.unwrap()).await;
            fetched.map(|_| ()).map_err(refused)
        }
        "fetch after the end" => {
            let session = session(NOWHERE).await?;
            // Ended here; that the server does not hear of it changes nothing.
            let _ = session.end().await;
            let request = Request::get("/api/echo").body(Bytes::new());
            let fetched = session.fetch(request.unwrap()).await;
            fetched.map(|_| ()).map_err(refused)
        }
        other => return Err(Stop::Unusable(format!("nobody can {other}"))),
    };
    fetched.map(|()| json!({}))
}

/// Has the client read a reply to a request whose keys and nonce are fixed.
async fn read(input: Input<'_>) -> Result<Value, Stop> {
    let refused = |error: bulla_client::Error| Stop::Refused(error.code.because("by the client"));
    let own = session(ORIGIN).await?;
    let mut loot = own.dangerous_loot().map_err(refused)?;
    *loot.response_key = input.array("response_key")?;
    let session = own.dangerous_with_loot(loot).map_err(refused)?;
    let nonce = ProofNonce::parse(input.text("nonce")?)?;
    let request = Request::get("/api/echo").body(Bytes::new()).unwrap();
    let prepared = session
        .prepare(
            request,
            bulla_client::Mode::Sealed,
            ProofKind::Device,
            nonce,
        )
        .map_err(refused)?;
    let part = input.part("reply")?;
    let mut response = Response::builder().status(part.value::<u16>("status")?);
    for (name, value) in part.fields("fields")? {
        response = response.header(name, value);
    }
    let response = response.body(part.bytes("body")?.into()).unwrap();
    let reply = prepared.open_reply(response).await.map_err(refused)?;
    Ok(json!({ "status": reply.status().as_u16(), "content": text(reply.body()) }))
}

/// A session of the real client with the real verifier, which was called by hand: nothing else will
/// reach it.
async fn session(origin: &str) -> Result<bulla_client::Session, Stop> {
    let unusable = |error: bulla_client::Error| Stop::Unusable(error.to_string());
    let client = Client::builder(origin).build().map_err(unusable)?;
    let mut state = crate::cases::state();
    state["origin"] = origin.into();
    let server = Server::new(Input(&state), SystemRandom)?;
    let mut opening = client.prepare_opening(None).map_err(unusable)?;
    let request = std::mem::take(&mut opening.request).map(Body::from);
    let answer = opening.answer(&server.answer(request).await);
    answer.map_err(unusable)
}

/// Opens a sealed reply.
fn open(sealed: &[u8], key: &[u8; 32]) -> Result<Reply, Stop> {
    const CUT: bulla_protocol::error::Error = Code::SealBroken.because("the header is cut");
    let (header, records) = Header::parse(sealed)?.ok_or(CUT)?;
    let plain = ece::open_whole(key, &header, records)?;
    let mut reader = Reader::new(Limits::default());
    let mut reply = Reply {
        status: 0,
        sealed: true,
        fields: Vec::new(),
        content: Vec::new(),
    };
    for event in reader.push(plain)? {
        match event {
            Event::Head(head) => {
                if let Control::Response(status) = head.control {
                    reply.status = status;
                }
                reply.fields = head.fields;
            }
            Event::Content(bytes) => reply.content.extend(bytes),
        }
    }
    reader.finish()?;
    Ok(reply)
}

/// The value of a field.
pub(crate) fn line<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

/// The ticket in a field of a reply.
pub(crate) fn ticket(reply: &Reply, name: &str) -> Ticket {
    Ticket::from_field(line(&reply.fields, name).unwrap()).unwrap()
}

fn fields_of(response: &Response<Bytes>) -> Vec<(String, String)> {
    let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let value = value.to_str().unwrap_or_default();
        (name.to_string(), value.to_owned())
    };
    response.headers().iter().map(line).collect()
}

#[derive(Clone)]
struct StoppedClock(Arc<AtomicU64>);

impl Clock for StoppedClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Exhausted;

impl Random for Exhausted {
    fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
        Err(RandomError)
    }
}

/// Gives the store's memories a fixed name, so that nonces are always the same.
struct Repeated([u8; 16]);

impl Random for Repeated {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        for (out, byte) in out.iter_mut().zip(self.0.iter().cycle()) {
            *out = *byte;
        }
        Ok(())
    }
}

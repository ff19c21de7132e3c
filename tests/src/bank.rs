//! A bank behind the verifier, and its unprotected twin: what browsers and thieves are set upon.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE,
};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use axum::{Json, Router};
use bulla_server::{
    Builder, Bulla, Clock, EventKind, Identity, MemoryStore, Refused, Require, SecurityEvent,
    Session,
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use crate::browser::{Browser, BrowserError};
use crate::serve::{Server, html};

/// A clock that runs with the system's and can be moved.
#[derive(Clone, Debug, Default)]
pub struct MovedClock(Arc<AtomicI64>);

impl MovedClock {
    /// Moves the clock by so many seconds, either way.
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Moves the clock to where the next life of nonces begins: a minute is left until another one does.
    pub fn next_life(&self) {
        let into = self.now() % 60;
        self.advance(60_i64.saturating_sub_unsigned(into));
    }
}

impl Clock for MovedClock {
    fn now(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap_or_default()
            .as_secs()
            .saturating_add_signed(self.0.load(Ordering::Relaxed))
    }
}

/// For a client whose time goes with the bank's.
impl bulla_client::Clock for MovedClock {
    fn unix_seconds(&self) -> u64 {
        self.now()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.now())
    }
}

/// What the bank has seen and done.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    transfers: Mutex<Vec<Value>>,
    events: Mutex<Vec<SecurityEvent>>,
    open_streams: watch::Sender<u64>,
    taken: watch::Sender<u32>,
}

impl Ledger {
    /// The transfers that were carried out, in order: `{ from, to, amount }`.
    pub fn transfers(&self) -> Vec<Value> {
        lock(&self.0.transfers).clone()
    }

    /// The codes of everything that was refused, and the name of what was dropped, in order.
    pub fn refusals(&self) -> Vec<&'static str> {
        let events = lock(&self.0.events);
        events
            .iter()
            .filter_map(|event| match event.kind {
                EventKind::CookieDropped => Some(event.kind.name()),
                kind => Some(kind.code()?.as_str()),
            })
            .collect()
    }

    /// Waits until so many replies that count are being made or sent: those of `ticks` and `wait`.
    ///
    /// # Errors
    ///
    /// If that does not come about within a minute.
    pub async fn until_open_streams(&self, wanted: u64) -> io::Result<()> {
        self.until_open_streams_are(wanted..=wanted).await
    }

    /// Waits until their number is one of these.
    ///
    /// # Errors
    ///
    /// If that does not come about within a minute.
    pub async fn until_open_streams_are(&self, wanted: RangeInclusive<u64>) -> io::Result<()> {
        let mut count = self.0.open_streams.subscribe();
        let came = timeout(PATIENCE, count.wait_for(|count| wanted.contains(count))).await;
        match came {
            Ok(Ok(_)) => Ok(()),
            _ => Err(io::Error::other(format!(
                "{} streams are open, not {wanted:?}",
                *self.0.open_streams.borrow()
            ))),
        }
    }

    fn book(&self, from: &str, order: &Value) -> Value {
        let receipt = json!({ "from": from, "to": order["to"], "amount": order["amount"] });
        let mut transfers = lock(&self.0.transfers);
        transfers.push(receipt.clone());
        json!({ "number": transfers.len(), "receipt": receipt })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long anything may take on a small machine that runs several browsers.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How far a download runs ahead of its reader at most, in bytes.
const WINDOW: u32 = 4 << 20;

/// A running bank.
pub struct Bank {
    /// Where it is served.
    pub server: Server,
    /// The verifier.
    pub bulla: Bulla,
    /// The verifier's clock.
    pub clock: MovedClock,
    /// What has happened.
    pub ledger: Ledger,
}

impl Bank {
    /// Opens a bank on a free port, with keys of its own and a store in memory.
    ///
    /// # Errors
    ///
    /// If no port can be had, or the npm package is not built.
    pub async fn open() -> io::Result<Self> {
        Self::open_with(|builder| builder).await
    }

    /// Opens a bank whose verifier is configured further.
    ///
    /// # Errors
    ///
    /// As [`Bank::open`].
    pub async fn open_with(configure: impl FnOnce(Builder) -> Builder) -> io::Result<Self> {
        let (clock, ledger) = (MovedClock::default(), Ledger::default());
        let package = package()?;
        let mut built = None;
        let server = Server::start_with(|origin| {
            let seen = ledger.clone();
            let builder = Bulla::builder()
                .origin(origin)
                .clock(clock.clone())
                .unsigned("/npm/")
                .unsigned("/page")
                .unsigned("/twin/")
                .on_event(move |event| lock(&seen.0.events).push(event.clone()));
            let builder = builder
                .identity(Identity::generate(&bulla_keys::SystemRandom).map_err(io::Error::other)?)
                .store(MemoryStore::new().map_err(io::Error::other)?);
            let bulla = configure(builder).build().map_err(io::Error::other)?;
            let app = bulla.protect(routes(ledger.clone()).merge(package));
            built = Some(bulla);
            Ok(app)
        })
        .await?;
        let bulla = built.ok_or_else(|| io::Error::other("the verifier was not built"))?;
        Ok(Self {
            server,
            bulla,
            clock,
            ledger,
        })
    }

    /// The page that imports the npm package as `window.bulla`.
    pub fn page(&self) -> String {
        self.server.url("/page")
    }

    /// The thumbprint that clients pin.
    pub fn identity(&self) -> String {
        self.bulla.identity().to_string()
    }

    /// Loads the page and opens a session as `window.session`, with the pin and with `options`
    /// beside it. Returns what the session tells about itself.
    ///
    /// # Errors
    ///
    /// What the page throws.
    pub async fn visit(&self, browser: &Browser, options: Value) -> Result<Value, BrowserError> {
        browser.goto(&self.page()).await?;
        self.open_in(browser, options).await
    }

    /// As [`Bank::visit`], in the page that is there.
    ///
    /// # Errors
    ///
    /// What the page throws.
    pub async fn open_in(&self, browser: &Browser, options: Value) -> Result<Value, BrowserError> {
        browser.wait_until("return window.bulla", PATIENCE).await?;
        let pinned = json!({ "server": self.server.origin(), "identity": self.identity() });
        browser
            .eval(
                "window.session = await bulla.open({ ...args[0], ...args[1] }); return about(session)",
                [pinned, options],
            )
            .await
    }
}

/// The package, and what most tests say.
const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A bank of the tests</title>
<link rel="icon" href="data:,">
<script>
  // A clock that is wrong by `skew` seconds, before anything else runs.
  window.skew = Number(new URLSearchParams(location.search).get("skew"));
  window.Date = class extends Date {
    constructor(...given) { super(...(given.length ? given : [Date.now()])); }
    static now() { return super.now() + skew * 1000; }
  };
</script>
<script type="module">
  import * as bulla from "/npm/index.js";
  window.about = ({ id, authenticated, storage, identity, device }) =>
    ({ id, authenticated, storage, identity, device });
  window.post = (path, body) => session.fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  }).then((reply) => reply.json());
  window.clock = () => Date.now();
  // How many sessions this page has opened.
  window.openings = () => performance.getEntriesByType("resource")
    .filter(({ name }) => name.endsWith("/.well-known/bulla/session")).length;
  window.bulla = bulla;
</script>
"#;

fn routes(ledger: Ledger) -> Router {
    let required = Require::session().logged_in();
    Router::new()
        .route("/page", page())
        .route("/api/me", get(me))
        .route("/api/login", post(login))
        .route("/api/logout", post(logout))
        .route("/api/transfer", post(transfer).layer(required))
        .route(
            "/api/transfer/device",
            post(transfer).layer(required.device_proof().sealed()),
        )
        .route("/api/cookie/login", post(twin_login))
        .route("/api/cookie/me", get(twin_me))
        .nest("/api", replies())
        .nest("/twin", replies())
        .route("/twin/login", post(twin_login))
        .route("/twin/me", get(twin_me))
        .route("/twin/jar", get(jar))
        .route("/twin/transfer", post(twin_transfer))
        .with_state(ledger)
}

/// What any application may answer, the same behind the verifier and beside it.
fn replies() -> Router<Ledger> {
    Router::new()
        .route("/echo", any(echo))
        .route("/none", any(|| async { StatusCode::NO_CONTENT }))
        .route("/mirror", post(mirror))
        .route(
            "/status/{status}",
            any(|path: axum::extract::Path<u16>| async move {
                let status = StatusCode::from_u16(path.0).unwrap_or(StatusCode::IM_A_TEAPOT);
                (status, "an answer")
            }),
        )
        .route(
            "/elsewhere/{status}",
            any(|path: axum::extract::Path<u16>| async move {
                let status = StatusCode::from_u16(path.0).unwrap_or(StatusCode::FOUND);
                (status, [(LOCATION, "../echo?redirected=1")])
            }),
        )
        .route(
            "/around",
            any(|| async { (StatusCode::FOUND, [(LOCATION, "around")]) }),
        )
        .route(
            "/hops/{left}",
            any(|path: axum::extract::Path<u32>| async move {
                match path.0.checked_sub(1) {
                    Some(next) => {
                        (StatusCode::FOUND, [(LOCATION, next.to_string())]).into_response()
                    }
                    None => StatusCode::OK.into_response(),
                }
            }),
        )
        .route(
            "/away",
            any(|| async {
                let location = [(LOCATION, "https://example.com/")];
                (
                    StatusCode::FOUND,
                    location,
                    "It is elsewhere. ".repeat(1 << 13),
                )
            }),
        )
        .route(
            "/form",
            any(|| async {
                let form = [(CONTENT_TYPE, "application/x-www-form-urlencoded")];
                (form, "one=1&two=2+%26+3")
            }),
        )
        .route(
            "/problem/{length}",
            any(|path: axum::extract::Path<usize>| async move {
                let kind = [(CONTENT_TYPE, "application/problem+json")];
                let problem = json!({ "code": "mine", "detail": "a".repeat(path.0) });
                (StatusCode::CONFLICT, kind, problem.to_string())
            }),
        )
        .route(
            "/now",
            get(|| async {
                let now = format!("{:?}", Instant::now());
                ([(CACHE_CONTROL, "max-age=600")], now)
            }),
        )
        .route("/bytes/{mebibytes}", get(bytes))
        .route("/taken", post(taken))
        .route("/ticks/{count}/{milliseconds}", get(ticks))
        .route("/wait", any(wait))
}

async fn me(session: Session) -> Json<Value> {
    Json(json!({
        "id": session.id().to_string(),
        "subject": session.subject(),
        "sealed": session.is_sealed(),
        "proof": session.proof(),
    }))
}

async fn login(session: Session, Json(who): Json<Value>) -> Result<Json<Value>, Refused> {
    let user = who["user"].as_str().unwrap_or_default();
    session.login(user).await?;
    if who["rotate"] == true {
        session.rotate_device_key()?;
    }
    Ok(Json(json!({ "hello": user })))
}

async fn logout(session: Session) -> Result<StatusCode, Refused> {
    session.logout().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn transfer(
    State(ledger): State<Ledger>,
    session: Session,
    Json(order): Json<Value>,
) -> Json<Value> {
    Json(ledger.book(session.subject().unwrap_or_default(), &order))
}

async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Json<Value> {
    let fields: BTreeMap<_, _> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    Json(json!({
        "method": method.as_str(),
        "target": uri.path_and_query().map(axum::http::uri::PathAndQuery::as_str),
        "fields": fields,
        "body": String::from_utf8_lossy(&body),
    }))
}

/// What was sent, as what `x-kind` says that it is.
async fn mirror(headers: HeaderMap, body: Bytes) -> Response {
    let mut response = Body::from(body).into_response();
    if let Some(kind) = headers.get("x-kind") {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    response
}

/// So many mebibytes, never more than a window ahead of what the reader says he has, as a network
/// would do it: browsers hold whatever is sent, and some read from a local server faster than they hand
/// it on. No two stretches are the same, so that none can be missing, doubled or in another's place.
async fn bytes(State(ledger): State<Ledger>, path: axum::extract::Path<u32>) -> impl IntoResponse {
    const PIECE: u32 = 1 << 16;
    let length = path.0 << 20;
    ledger.0.taken.send_replace(0);
    let taken = ledger.0.taken.subscribe();
    let pieces = stream::unfold((0, taken), move |(start, mut taken)| async move {
        if start == length {
            return None;
        }
        let end = start + PIECE;
        let may_go = taken
            .wait_for(|taken| end <= taken.saturating_add(WINDOW))
            .await;
        let piece = may_go
            .map_err(io::Error::other)
            .map(|_| (start..end).map(byte_at).collect::<Bytes>());
        Some((piece, (end, taken)))
    });
    ([(CONTENT_LENGTH, length)], Body::from_stream(pieces))
}

/// The byte at this place of a download.
fn byte_at(place: u32) -> u8 {
    // The highest byte of the product with 2^32 divided by the golden ratio.
    place.wrapping_mul(0x9e37_79b1).to_be_bytes()[0]
}

/// How many bytes of the download the reader has.
async fn taken(State(ledger): State<Ledger>, Json(bytes): Json<u32>) -> Json<u32> {
    ledger
        .0
        .taken
        .send_modify(|taken| *taken = bytes.max(*taken));
    Json(bytes)
}

/// An event stream: so many events, one every so many milliseconds.
async fn ticks(
    State(ledger): State<Ledger>,
    path: axum::extract::Path<(u64, u64)>,
) -> impl IntoResponse {
    let (count, milliseconds) = path.0;
    let guard = Streaming::new(ledger);
    let pace = interval(Duration::from_millis(milliseconds.max(1)));
    let events = stream::unfold((0, pace, guard), move |(at, mut pace, guard)| async move {
        if at == count {
            return None;
        }
        pace.tick().await;
        let event = Ok::<_, io::Error>(format!("data: {at}\n\n"));
        Some((event, (at + 1, pace, guard)))
    });
    (
        [(CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(events),
    )
}

/// Answers never.
async fn wait(State(ledger): State<Ledger>) -> Response {
    let _guard = Streaming::new(ledger);
    std::future::pending().await
}

/// Counts a stream for as long as it is being sent.
struct Streaming(Ledger);

impl Streaming {
    fn new(ledger: Ledger) -> Self {
        ledger.0.open_streams.send_modify(|count| *count += 1);
        Self(ledger)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.0.open_streams.send_modify(|count| *count -= 1);
    }
}

/// As most applications do it: a bearer token, or a cookie, which is all that a request needs. Behind the
/// verifier too, at an application that goes by its cookie.
async fn twin_login(Json(who): Json<Value>) -> impl IntoResponse {
    let token = format!("token-of-{}", who["user"].as_str().unwrap_or_default());
    let cookie = format!("twin={token}; Path=/; HttpOnly; SameSite=Lax");
    ([(SET_COOKIE, cookie)], Json(json!({ "token": token })))
}

/// Sets again all cookies that come, as the answer to the rotation of a device key does.
async fn jar(headers: HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let cookies = headers.get(COOKIE).and_then(|line| line.to_str().ok());
    for cookie in cookies.unwrap_or_default().split("; ") {
        let line = format!("{cookie}; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=43200");
        if let Ok(line) = line.try_into() {
            response.headers_mut().append(SET_COOKIE, line);
        }
    }
    response
}

async fn twin_me(headers: HeaderMap) -> Result<Json<Value>, StatusCode> {
    let user = twin_user(&headers).ok_or(StatusCode::UNAUTHORIZED)?;
    Ok(Json(json!({ "subject": user })))
}

async fn twin_transfer(
    State(ledger): State<Ledger>,
    headers: HeaderMap,
    Json(order): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    let user = twin_user(&headers).ok_or(StatusCode::UNAUTHORIZED)?;
    Ok(Json(ledger.book(&user, &order)))
}

fn twin_user(headers: &HeaderMap) -> Option<String> {
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let cookies = value(COOKIE).into_iter().flat_map(|line| line.split("; "));
    let mut tokens = cookies
        .filter_map(|cookie| cookie.strip_prefix("twin="))
        .chain(value(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")));
    tokens.find_map(|token| token.strip_prefix("token-of-").map(str::to_owned))
}

/// The page that imports the npm package from `/npm` as `window.bulla`.
pub fn page<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    html(PAGE)
}

/// The files of the npm package, below `/npm`.
///
/// # Errors
///
/// If it is not built.
pub fn package() -> io::Result<Router<()>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../npm/dist");
    let unbuilt = |error: io::Error| {
        io::Error::other(format!("npm/dist: {error}; `cargo xtask wasm` builds it"))
    };
    let mut router = Router::new();
    for below in ["", "later/"] {
        for entry in std::fs::read_dir(folder.join(below)).map_err(unbuilt)? {
            let file = entry?.path();
            let kind = match file.extension().and_then(OsStr::to_str) {
                Some("js") => "text/javascript",
                Some("wasm") => "application/wasm",
                _ => continue,
            };
            let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let content = std::fs::read(&file).map_err(unbuilt)?;
            let served = crate::serve::bytes(kind, content);
            router = router.route(&format!("/npm/{below}{name}"), served);
        }
    }
    Ok(router)
}

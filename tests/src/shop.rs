//! A shop of the old kind behind the verifier: pages, forms, pictures and cookies, whose scripts know nothing of a
//! session. A service worker stands before its pages.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, RANGE, SET_COOKIE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{AppendHeaders, Html, IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use bulla_server::{Bulla, Cookies, Identity, MemoryStore, Refused, Require, Session};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use crate::bank::{MovedClock, PATIENCE, package};
use crate::serve::{Server, bytes, html};

/// A running shop.
pub struct Shop {
    /// Where it is served.
    pub server: Server,
    /// The verifier.
    pub bulla: Bulla,
    /// The verifier's clock.
    pub clock: MovedClock,
    /// What came through to its handlers.
    pub counter: Counter,
}

/// What came through to the handlers.
#[derive(Clone, Default)]
pub struct Counter(Arc<Inner>);

#[derive(Default)]
struct Inner {
    seen: Mutex<Vec<Value>>,
    refused: watch::Sender<Vec<(String, &'static str)>>,
    arrived: watch::Sender<()>,
    open: watch::Sender<u64>,
    worker: Mutex<String>,
    forged: Mutex<Option<StatusCode>>,
}

impl Counter {
    /// What has come to this path, in order: `{ method, query, fields, body, subject }`. Field names are in lower case.
    pub fn seen(&self, path: &str) -> Vec<Value> {
        let seen = lock(&self.0.seen);
        let mut seen: Vec<_> = seen
            .iter()
            .filter(|seen| seen["path"] == path)
            .cloned()
            .collect();
        for seen in &mut seen {
            seen.as_object_mut().map(|seen| seen.remove("path"));
        }
        seen
    }

    /// Waits until a request for this path has come, and says whether it came through.
    ///
    /// # Errors
    ///
    /// If none comes within a minute.
    pub async fn outcome(&self, path: &str) -> io::Result<bool> {
        let mut refused = self.0.refused.subscribe();
        let mut arrived = self.0.arrived.subscribe();
        let was_refused = refused.wait_for(|all| all.iter().any(|(refused, _)| refused == path));
        let has_come = arrived.wait_for(|()| !self.seen(path).is_empty());
        let outcome = async {
            tokio::select! {
                _ = was_refused => false,
                _ = has_come => true,
            }
        };
        timeout(PATIENCE, outcome)
            .await
            .map_err(|_| io::Error::other(format!("nothing comes to {path}")))
    }

    /// Path and code of what was refused, in order.
    pub fn refused(&self) -> Vec<(String, &'static str)> {
        self.0.refused.borrow().clone()
    }

    /// Waits until so many requests for this path have been refused.
    ///
    /// # Errors
    ///
    /// If that does not come about within a minute.
    pub async fn until_refused(&self, path: &str, wanted: usize) -> io::Result<()> {
        let count = |all: &[(String, _)]| all.iter().filter(|(refused, _)| refused == path).count();
        let mut refused = self.0.refused.subscribe();
        let came = timeout(PATIENCE, refused.wait_for(|all| count(all) >= wanted)).await;
        match came {
            Ok(Ok(_)) => Ok(()),
            _ => Err(io::Error::other(format!("{:?}", self.refused()))),
        }
    }

    /// Waits until so many replies are being sent by `ticks`.
    ///
    /// # Errors
    ///
    /// If that does not come about within a minute.
    pub async fn until_open(&self, wanted: u64) -> io::Result<()> {
        let mut open = self.0.open.subscribe();
        let came = timeout(PATIENCE, open.wait_for(|open| *open == wanted)).await;
        let count = *self.0.open.borrow();
        match came {
            Ok(Ok(_)) => Ok(()),
            _ => Err(io::Error::other(format!(
                "{count} streams are open, not {wanted}"
            ))),
        }
    }

    /// Makes the script of the service worker another one, as a new version of the application does.
    pub fn change_worker(&self, script: &str) {
        script.clone_into(&mut lock(&self.0.worker));
    }

    /// Has whoever ends TLS answer sealed requests by a refusal of his own, with this status, or no more.
    pub fn forge(&self, status: Option<StatusCode>) {
        *lock(&self.0.forged) = status;
    }

    fn note(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
        session: Option<&Session>,
    ) -> Value {
        let fields: BTreeMap<_, _> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
            .collect();
        let seen = json!({
            "path": uri.path(),
            "method": method.as_str(),
            "query": uri.query(),
            "fields": fields,
            "body": String::from_utf8_lossy(body),
            "subject": session.and_then(Session::subject),
        });
        lock(&self.0.seen).push(seen.clone());
        self.0.arrived.send_replace(());
        seen
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shop {
    /// Opens a shop on a free port, with keys of its own and a store in memory. Everything below `/app/` has to come sealed.
    ///
    /// # Errors
    ///
    /// If no port can be had, or the npm package is not built.
    pub async fn open() -> io::Result<Self> {
        let (clock, counter) = (MovedClock::default(), Counter::default());
        let package = package()?;
        let mut built = None;
        let server = Server::start_with(|origin| {
            let seen = counter.clone();
            let identity =
                Identity::generate(&bulla_keys::SystemRandom).map_err(io::Error::other)?;
            counter.change_worker(&worker(&identity.thumbprint().to_string()));
            let bulla = Bulla::builder()
                .origin(origin)
                .clock(clock.clone())
                .identity(identity)
                .store(MemoryStore::new().map_err(io::Error::other)?)
                .cookies(Cookies::Named(vec!["strict".to_owned(), "lax".to_owned()]))
                .unsigned("/npm/")
                .unsigned("/start")
                .unsigned("/signin")
                .unsigned("/bare")
                .unsigned("/sw.js")
                .unsigned("/favicon.ico")
                .unsigned("/twin/")
                .require("/app/", Require::session().sealed())
                .on_event(move |event| {
                    if let Some(code) = event.kind.code() {
                        let path = event.path.clone().unwrap_or_default();
                        let refused = (path, code.as_str());
                        seen.0.refused.send_modify(|all| all.push(refused));
                    }
                })
                .build()
                .map_err(io::Error::other)?;
            let app = bulla.protect(routes(counter.clone()).merge(package));
            // Outside of all that the verifier does.
            let app = app.layer(from_fn_with_state(counter.clone(), between));
            built = Some(bulla);
            Ok(app)
        })
        .await?;
        let bulla = built.ok_or_else(|| io::Error::other("the verifier was not built"))?;
        Ok(Self {
            server,
            bulla,
            clock,
            counter,
        })
    }
}

/// The script of the service worker, as an application has it.
pub fn worker(identity: &str) -> String {
    format!(
        "import {{ protect }} from \"/npm/sw.js\";
         protect({{ identity: \"{identity}\", paths: [\"/app/\"], except: [\"/app/open/\"], login: \"/signin\" }});"
    )
}

/// Whoever ends TLS.
async fn between(State(counter): State<Counter>, request: Request, next: Next) -> Response {
    let forged = *lock(&counter.0.forged);
    match forged {
        Some(status) if request.uri().path().ends_with("/sealed") => {
            let kind = [(CONTENT_TYPE, "application/problem+json")];
            let problem = json!({ "status": status.as_u16(), "code": "login_required" });
            (status, kind, problem.to_string()).into_response()
        }
        _ => next.run(request).await,
    }
}

/// A service worker that sends again whatever its pages ask for at `/twin/`, as most do that touch requests at all.
pub const CARELESS: &str = "
addEventListener('fetch', (event) => {
  const { url, method, headers } = event.request;
  if (!new URL(url).pathname.startsWith('/twin/')) return;
  const sent = event.request.blob().then((body) => fetch(url, { method, headers, body: body.size ? body : undefined }));
  event.respondWith(sent);
});";

/// Of each page: what makes its title, and the one line that the application has added.
fn page(title: &str, body: &str) -> Html<String> {
    paged(title, body, "")
}

fn paged(title: &str, body: &str, head: &str) -> Html<String> {
    Html(format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<link rel="icon" href="data:,">
{head}
<script type="module">import {{ register }} from "/npm/register.js"; window.ready = register("/sw.js").then(() => "ready", String)</script>
<h1>{title}</h1>
{body}
"#
    ))
}

const HOME: &str = r#"
<a id="next" href="/app/echo?by=link">next</a>
<a id="picture" href="/app/download" download>download</a>
<form id="order" method="post" action="/app/order"><input name="what" value="clay &amp; seals"></form>
<form id="moved" method="post" action="/app/moved/307"><input name="what" value="kept"></form>
<form id="upload" method="post" action="/app/echo" enctype="multipart/form-data">
  <input name="note" value="hello"><input id="file" name="file" type="file">
</form>
"#;

fn routes(counter: Counter) -> Router {
    Router::new()
        .route("/start", get(|| async { page("The start", HOME) }))
        .route("/signin", get(|| async { page("The sign-in", SIGNIN) }))
        .route(
            "/bare",
            html("<!doctype html><title>Bare</title><link rel=icon href=data:,>"),
        )
        .route("/sw.js", get(script))
        .route("/twin/login", get(twin_login))
        .route("/twin/order", post(twin_order))
        .route("/twin/sound.wav", bytes("audio/wav", silence()))
        .route("/", get(home))
        .route("/app/home", get(home))
        .route("/app/loose", get(|| async { paged("Loose", HOME, LOOSE) }))
        .route("/app/login", post(login))
        .route(
            "/app/members",
            get(members)
                .post(members)
                .layer(Require::session().logged_in()),
        )
        .route("/app/order", post(order))
        .route("/app/echo", any(echo))
        .route("/app/kind/{kind}", any(kind))
        .route("/app/moved/{status}", any(moved))
        .route("/app/away", any(away))
        .route("/app/picture.svg", get(picture))
        .route("/app/download", get(download))
        .route("/app/stated/{length}", get(stated))
        .route("/app/sound.wav", get(sound))
        .route("/app/ticks/{count}/{milliseconds}", get(ticks))
        .with_state(counter)
}

/// What tells other sites where their visitors come from.
const LOOSE: &str = r#"<meta name="referrer" content="unsafe-url">"#;

const SIGNIN: &str = r#"
<form id="login" method="post" action="/app/login"><input name="user" value="ann"></form>
<form id="members" method="post" action="/app/members"></form>
"#;

/// With a policy that is too strict for it, if that is asked for.
async fn script(State(counter): State<Counter>, uri: Uri) -> Response {
    let script = lock(&counter.0.worker).clone();
    let kind = [
        (CONTENT_TYPE, "text/javascript"),
        (CACHE_CONTROL, "no-cache"),
    ];
    let mut response = (kind, script).into_response();
    if uri.query() == Some("strict") {
        let policy = HeaderValue::from_static("script-src 'self'");
        response
            .headers_mut()
            .insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

async fn home(
    State(counter): State<Counter>,
    session: Session,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Html<String> {
    counter.note(&method, &uri, &headers, b"", Some(&session));
    page("The shop", HOME)
}

/// Logs in whoever it says, with two cookies beside the session.
async fn login(
    State(counter): State<Counter>,
    session: Session,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Refused> {
    counter.note(&method, &uri, &headers, body.as_bytes(), Some(&session));
    let user = body.strip_prefix("user=").unwrap_or_default();
    session.login(user).await?;
    let cookies = ["strict", "lax"].map(|kind| {
        let cookie = format!("{kind}={user}; HttpOnly; Path=/app; SameSite={kind}");
        (SET_COOKIE, cookie)
    });
    let to = [(LOCATION, "home?after=login")];
    Ok((StatusCode::SEE_OTHER, AppendHeaders(cookies), to).into_response())
}

/// As most applications do it.
async fn twin_login() -> impl IntoResponse {
    [(SET_COOKIE, "twin=ann; HttpOnly; Path=/; SameSite=Strict")]
}

async fn twin_order(
    State(counter): State<Counter>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Json<Value> {
    Json(counter.note(&method, &uri, &headers, &body, None))
}

async fn members(session: Session) -> Html<String> {
    page("Members", session.subject().unwrap_or_default())
}

async fn order(
    State(counter): State<Counter>,
    session: Session,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    counter.note(&method, &uri, &headers, &body, Some(&session));
    (StatusCode::SEE_OTHER, [(LOCATION, "/app/home?after=order")]).into_response()
}

async fn echo(
    State(counter): State<Counter>,
    session: Session,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Json<Value> {
    Json(counter.note(&method, &uri, &headers, &body, Some(&session)))
}

/// What an element of this kind loads.
async fn kind(
    State(counter): State<Counter>,
    session: Session,
    Path(kind): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    counter.note(&method, &uri, &headers, b"", Some(&session));
    let (kind, content) = match kind.as_str() {
        "script" | "module" | "worker" => ("text/javascript", ""),
        "style" => ("text/css", ""),
        "page" | "frame" | "sandboxed" | "object" | "embed" => ("text/html", "<!doctype html>"),
        "events" => ("text/event-stream", "data: 1\n\n"),
        "audio" => return ([(CONTENT_TYPE, "audio/wav")], silence()).into_response(),
        _ => ("image/svg+xml", PICTURE),
    };
    ([(CONTENT_TYPE, kind)], content).into_response()
}

async fn moved(Path(status): Path<u16>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    (status, [(LOCATION, "../echo?by=redirect")]).into_response()
}

async fn away(uri: Uri) -> Response {
    found(uri.query(), StatusCode::FOUND)
}

fn found(to: Option<&str>, status: StatusCode) -> Response {
    (status, [(LOCATION, to.unwrap_or_default().to_owned())]).into_response()
}

const PICTURE: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"/>"#;

async fn picture() -> impl IntoResponse {
    ([(CONTENT_TYPE, "image/svg+xml")], PICTURE)
}

async fn download(
    State(counter): State<Counter>,
    session: Session,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> impl IntoResponse {
    counter.note(&method, &uri, &headers, b"", Some(&session));
    let kind = [
        (CONTENT_TYPE, "application/octet-stream"),
        (CONTENT_DISPOSITION, "attachment; filename=clay.bin"),
    ];
    (kind, vec![7; 100_000])
}

/// What says that it is so long, and is not.
async fn stated(_session: Session, Path(length): Path<u64>) -> impl IntoResponse {
    let content = stream::iter([Ok::<_, io::Error>("clay "), Ok("and seals")]);
    ([(CONTENT_LENGTH, length)], Body::from_stream(content))
}

/// A second of silence, of which parts can be asked for.
async fn sound(
    State(counter): State<Counter>,
    session: Session,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    counter.note(&method, &uri, &headers, b"", Some(&session));
    let sound = silence();
    let kind = [(CONTENT_TYPE, "audio/wav"), (ACCEPT_RANGES, "bytes")];
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let Some((start, end)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'))
    else {
        return (kind, sound).into_response();
    };
    let start: usize = start.parse().unwrap_or(0).min(sound.len() - 1);
    let end: usize = end
        .parse()
        .unwrap_or(usize::MAX)
        .min(sound.len() - 1)
        .max(start);
    let part = [(
        CONTENT_RANGE,
        format!("bytes {start}-{end}/{}", sound.len()),
    )];
    (
        StatusCode::PARTIAL_CONTENT,
        kind,
        part,
        sound[start..=end].to_vec(),
    )
        .into_response()
}

/// 8 kHz, 8 bits, one channel.
fn silence() -> Vec<u8> {
    const SAMPLES: u32 = 8000;
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + SAMPLES).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(SAMPLES.to_le_bytes());
    wav.extend(SAMPLES.to_le_bytes());
    wav.extend(b"\x01\0\x08\0data");
    wav.extend(SAMPLES.to_le_bytes());
    wav.extend([128; SAMPLES as usize]);
    wav
}

/// An event stream: so many events, one every so many milliseconds.
async fn ticks(
    State(counter): State<Counter>,
    _session: Session,
    Path((count, milliseconds)): Path<(u64, u64)>,
) -> impl IntoResponse {
    let guard = Open::new(counter);
    let pace = interval(Duration::from_millis(milliseconds.max(1)));
    let events = stream::unfold((0, pace, guard), move |(at, mut pace, guard)| async move {
        if at == count {
            return None;
        }
        pace.tick().await;
        Some((
            Ok::<_, io::Error>(format!("data: {at}\n\n")),
            (at + 1, pace, guard),
        ))
    });
    (
        [(CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(events),
    )
}

/// Counts a stream for as long as it is being sent.
struct Open(Counter);

impl Open {
    fn new(counter: Counter) -> Self {
        counter.0.open.send_modify(|open| *open += 1);
        Self(counter)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.open.send_modify(|open| *open -= 1);
    }
}

/// Another site, which knows the shop's address: what it does to a visitor of the shop. To browsers 127.0.0.1 is another
/// site than localhost.
pub async fn foreign(shop: &str) -> io::Result<Server> {
    let page = format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Elsewhere</title>
<link rel="icon" href="data:,">
<a id="link" href="{shop}/app/echo?by=foreign-link">link</a>
<form id="get" method="get" action="{shop}/app/echo"><input name="by" value="foreign-get"></form>
<form id="post" method="post" action="{shop}/app/order"><input name="what" value="everything"></form>
<form id="hidden" method="post" action="{shop}/app/order" rel="noreferrer"><input name="what" value="hidden"></form>
<form id="twin" method="post" action="{shop}/twin/order"><input name="what" value="everything"></form>
<div id="frames"></div>
"#
    );
    Server::start(
        Router::new()
            .route("/", get(move || async move { Html(page) }))
            .route(
                "/back",
                any(|uri: Uri| async move { found(uri.query(), StatusCode::TEMPORARY_REDIRECT) }),
            )
            .route(
                "/plain",
                any(|headers: HeaderMap| async move {
                    let names: Vec<_> = headers
                        .keys()
                        .map(|name| name.as_str().to_owned())
                        .collect();
                    ([("access-control-allow-origin", "*")], Json(names))
                }),
            )
            .route(
                "/script.js",
                bytes("text/javascript", "window.foreign = true;"),
            ),
    )
    .await
}

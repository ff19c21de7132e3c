//! How far an upload and a download have come, as told in real browsers and in Node.

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use bulla_server::{Bulla, Cookies, Identity, Limits, MemoryStore, SystemRandom};
use bulla_tests::bank::{Bank, PATIENCE, package};
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::serve::{Server, bytes, html};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// How long an upload is: several times what a browser and the system hold of one.
const UPLOAD: u64 = 64 << 20;

/// How far the server reads ahead of what it has heard of: more than what is not content, the seal and what pads it.
const WINDOW: u64 = 4 << 20;

/// How many mebibytes are downloaded: more than the bank sends ahead.
const DOWNLOAD: u64 = 16;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A page that sends much</title>
<link rel="icon" href="data:,">
<script src="/progress.js"></script>
<script type="module">
  import { open } from "/npm/index.js";
  const seal = new URLSearchParams(location.search).get("seal") === "true";
  window.session = await open({ server: location.origin, seal });
</script>
"#;

const WORKER: &str = r#"
import { open } from "/npm/inline.js";
addEventListener("message", ({ ports: [port] }) => {
  const told = [];
  open({ server: location.origin })
    .then((session) => session.fetch("/api/upload", {
      method: "POST",
      body: "a body",
      onUploadProgress: ({ loaded, total }) => told.push([loaded, total]),
    }))
    .then((reply) => reply.text(), ({ code }) => code)
    .then((text) => port.postMessage([...told, text, typeof XMLHttpRequest]));
});
"#;

bulla_tests::in_each_engine!(progress_is_told_as_by_the_platform);

async fn progress_is_told_as_by_the_platform(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    let warehouse = Warehouse::open().await?;
    for sealed in [true, false] {
        warehouse.visit(&browser, sealed).await?;
        for by in ["fetch", "XMLHttpRequest"] {
            an_upload_goes_as_far_as_is_told(&browser, &warehouse, by).await?;
            an_upload_that_is_given_up_ends_at_the_server(&browser, &warehouse, by).await?;
        }
        a_redirect_of_an_upload_is_refused(&browser, &warehouse, sealed).await?;
    }
    a_service_worker_hears_once(&browser).await?;

    let readable = vec!["mine".to_owned()];
    let cookies = Cookies::HttpOnly { readable };
    let bank = Bank::open_with(|builder| builder.cookies(cookies).limits(limits())).await?;
    for sealed in [true, false] {
        bank.visit(&browser, json!({ "seal": sealed })).await?;
        add_script(&browser, include_str!("pages/progress.js")).await?;
        for by in ["fetch", "XMLHttpRequest"] {
            a_download_goes_as_far_as_is_told(&browser, by).await?;
        }
        what_cannot_be_followed_is_heard_of_once(&browser).await?;
        a_second_sending_is_not_told_as_another(&browser, &bank).await?;
        a_callback_that_throws_stops_nothing(&browser).await?;
        a_length_that_is_not_the_contents_is_not_told(&browser).await?;
        it_does_what_the_platform_does(&browser, sealed).await?;
    }
    browser.quit().await?;
    Ok(())
}

async fn an_upload_goes_as_far_as_is_told(browser: &Browser, at: &Warehouse, by: &str) -> Outcome {
    at.gate.close();
    let arrived = at.gate.arrived();
    let told = call(browser, "uploading", json!([by, UPLOAD, false])).await?;
    let events = rising(&told["events"], UPLOAD)?;
    let (first, last) = (events.first().ok_or("nothing told")?, events.last());
    // More than once before the end.
    assert!(events.len() > 2 && *first < UPLOAD, "{by}: {events:?}");
    assert_eq!(last, Some(&UPLOAD), "{by}");
    let answer = UPLOAD.to_string();
    let expected = if by == "fetch" {
        answer
    } else {
        format!("load {answer}")
    };
    assert_eq!(told["outcome"], expected);
    assert_eq!(at.gate.arrived(), arrived + 1);
    Ok(())
}

async fn an_upload_that_is_given_up_ends_at_the_server(
    browser: &Browser,
    at: &Warehouse,
    by: &str,
) -> Outcome {
    at.gate.close();
    let arrived = at.gate.arrived();
    let told = call(browser, "uploading", json!([by, UPLOAD, true])).await?;
    let events = rising(&told["events"], UPLOAD)?;
    assert!(events.len() == 1 && events[0] < UPLOAD, "{by}: {events:?}");
    assert_eq!(
        told["outcome"],
        if by == "fetch" { "enough" } else { "abort " }
    );
    // Nobody reads what has been sent so far, until now.
    at.gate.allow(u64::MAX);
    at.gate.until_idle().await?;
    assert_eq!(at.gate.arrived(), arrived, "{by}");
    Ok(())
}

/// An `XMLHttpRequest` follows whatever it is told.
async fn a_redirect_of_an_upload_is_refused(
    browser: &Browser,
    at: &Warehouse,
    sealed: bool,
) -> Outcome {
    at.gate.0.redirects.store(true, Ordering::Relaxed);
    let told = call(
        browser,
        "heard",
        json!(["/api/upload", { "method": "POST", "body": "a body" }]),
    )
    .await?;
    at.gate.0.redirects.store(false, Ordering::Relaxed);
    let code = if sealed {
        "reply_unsealed"
    } else {
        "reply_invalid"
    };
    assert_eq!(told["code"], code);
    assert_eq!(told["up"], json!([[6, 6, true]]));
    assert_eq!(told["made"], 1);
    Ok(())
}

async fn a_service_worker_hears_once(browser: &Browser) -> Outcome {
    let told = call(browser, "serving", json!(["/sw-of-progress.js"])).await?;
    assert_eq!(told, json!([[6, 6], "6", "undefined"]));
    // It may import nothing later, and `bulla` would have to: nothing is sent.
    let told = call(browser, "serving", json!(["/sw-by-parts.js"])).await?;
    assert_eq!(told, json!(["network", "undefined"]));
    Ok(())
}

async fn a_download_goes_as_far_as_is_told(browser: &Browser, by: &str) -> Outcome {
    let told = call(browser, "downloading", json!([by, DOWNLOAD])).await?;
    let length = DOWNLOAD << 20;
    assert_eq!(told["length"], length, "{by}");
    let events = rising(&told["events"], length)?;
    assert!(events.len() > 2, "{by}: {events:?}");
    assert_eq!(events.last(), Some(&length), "{by}");
    Ok(())
}

/// An `XMLHttpRequest` has no word for some of what may be said to `fetch`.
async fn what_cannot_be_followed_is_heard_of_once(browser: &Browser) -> Outcome {
    browser.eval("document.cookie = 'mine=1'", []).await?;
    let ways = [
        (json!({}), 1, true, true),
        (json!({ "credentials": "include" }), 1, true, true),
        (json!({ "credentials": "omit" }), 0, false, true),
        (json!({ "referrerPolicy": "no-referrer" }), 0, true, false),
        (json!({ "keepalive": true }), 0, true, true),
    ];
    for (init, made, cookie, referrer) in ways {
        let mut given = json!({ "method": "POST", "body": "a body" });
        if let (Some(given), Some(init)) = (given.as_object_mut(), init.as_object()) {
            given.extend(init.clone());
        }
        let told = call(browser, "heard", json!(["/api/echo", given])).await?;
        assert_eq!(told["up"], json!([[6, 6, true]]), "{init}");
        assert_eq!(told["made"], made, "{init}");
        let echo: Value = serde_json::from_str(told["text"].as_str().ok_or("no text")?)?;
        assert_eq!(echo["body"], "a body", "{init}");
        assert_eq!(
            echo["fields"]["cookie"] == "mine=1",
            cookie,
            "{init}: {echo}"
        );
        assert_eq!(!echo["fields"]["referer"].is_null(), referrer, "{init}");
    }
    // Nothing goes up, or nothing comes down.
    for (path, init, made) in [
        ("/api/none", json!({}), 0),
        ("/api/none", json!({ "method": "POST" }), 0),
        ("/api/none", json!({ "method": "POST", "body": "" }), 0),
    ] {
        let told = call(browser, "heard", json!([path, init])).await?;
        let nothing = json!({ "up": [], "down": [], "made": made, "text": "" });
        assert_eq!(told, nothing, "{path} {init}");
    }
    Ok(())
}

async fn a_second_sending_is_not_told_as_another(browser: &Browser, bank: &Bank) -> Outcome {
    let refused = bank.ledger.refusals().len();
    bank.clock.advance(600);
    let body = "0123456789abcdef".repeat(1 << 16);
    let init = json!({ "method": "POST", "body": body });
    let told = call(browser, "heard", json!(["/api/mirror", init])).await?;
    assert_eq!(bank.ledger.refusals()[refused..], ["nonce_stale"]);
    assert_eq!(
        told["made"], 1,
        "the second goes by fetch: there is nothing left to tell"
    );
    assert_eq!(told["text"], body);
    let events = rising(&told["up"], body.len() as u64)?;
    assert_eq!(events.last(), Some(&(body.len() as u64)));
    Ok(())
}

async fn a_callback_that_throws_stops_nothing(browser: &Browser) -> Outcome {
    let told = call(browser, "throwing", json!([])).await?;
    assert_eq!(told, json!([200, "a body", [true, true]]));
    Ok(())
}

async fn a_length_that_is_not_the_contents_is_not_told(browser: &Browser) -> Outcome {
    let fields = json!([
        { "content-length": "6" },
        { "content-length": "6", "content-encoding": "gzip" },
        { "content-length": "six" },
        {},
    ]);
    let told = call(browser, "watching", json!([fields])).await?;
    let unknown = json!([6, 0, false]);
    assert_eq!(told, json!([[6, 6, true], unknown, unknown, unknown]));
    Ok(())
}

async fn it_does_what_the_platform_does(browser: &Browser, sealed: bool) -> Outcome {
    call(browser, "tell", json!([])).await?;
    let given = [json!("/twin"), json!("/api"), json!(sealed)];
    let found = browser.eval(include_str!("pages/fetch.js"), given).await?;
    let differences = &found["differences"];
    assert_eq!(*differences, json!([]), "sealed: {sealed}\n{differences:#}");
    Ok(())
}

/// How far it was, each time further than before, of so much; 0 if that is not known.
fn rising(events: &Value, total: u64) -> Outcome<Vec<u64>> {
    let mut loaded = Vec::new();
    for event in events.as_array().ok_or("no events")? {
        assert_eq!(event[1], total);
        assert_eq!(event[2], total > 0);
        loaded.extend(event[0].as_u64());
    }
    assert!(loaded.is_sorted_by(|one, next| one < next), "{loaded:?}");
    Ok(loaded)
}

fn limits() -> Limits {
    Limits {
        max_body_len: 1 << 27,
        ..Limits::default()
    }
}

/// A server that takes large bodies, and reads them no further than it is allowed to.
struct Warehouse {
    server: Server,
    gate: Gate,
}

impl Warehouse {
    async fn open() -> io::Result<Self> {
        let gate = Gate::default();
        let at_the_gate = gate.clone();
        let server = Server::start_with(|origin| {
            let bulla = Bulla::builder()
                .origin(origin)
                .limits(limits())
                .pace(None)
                .identity(Identity::generate(&SystemRandom).map_err(io::Error::other)?)
                .store(MemoryStore::new().map_err(io::Error::other)?)
                .build()
                .map_err(io::Error::other)?;
            let application = Router::new()
                .route("/api/upload", post(upload))
                .layer(DefaultBodyLimit::disable());
            let paced = bulla
                .protect(application)
                .layer(from_fn_with_state(at_the_gate.clone(), pace));
            let around = Router::new()
                .route("/allow", post(allow))
                .route("/elsewhere", any(|| async { "elsewhere" }))
                .with_state(at_the_gate)
                .route("/page", html(PAGE))
                .route(
                    "/progress.js",
                    bytes("text/javascript", include_str!("pages/progress.js")),
                )
                .route("/sw-of-progress.js", bytes("text/javascript", WORKER))
                .route(
                    "/sw-by-parts.js",
                    bytes("text/javascript", WORKER.replace("inline", "index")),
                );
            Ok(paced.merge(around).merge(package()?))
        })
        .await?;
        Ok(Self { server, gate })
    }

    async fn visit(&self, browser: &Browser, sealed: bool) -> Outcome {
        browser
            .goto(&self.server.url(&format!("/page?seal={sealed}")))
            .await?;
        browser
            .wait_until("return window.session", PATIENCE)
            .await?;
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    allowed: watch::Sender<u64>,
    open: watch::Sender<u32>,
    arrived: AtomicU32,
    redirects: AtomicBool,
}

impl Gate {
    fn close(&self) {
        self.0.allowed.send_replace(WINDOW);
    }

    fn allow(&self, bytes: u64) {
        self.0
            .allowed
            .send_modify(|allowed| *allowed = bytes.max(*allowed));
    }

    /// How many uploads have come whole.
    fn arrived(&self) -> u32 {
        self.0.arrived.load(Ordering::Relaxed)
    }

    /// Waits until no upload is being read.
    async fn until_idle(&self) -> Outcome {
        let mut open = self.0.open.subscribe();
        timeout(PATIENCE, open.wait_for(|open| *open == 0)).await??;
        Ok(())
    }
}

/// Counts an upload for as long as it is being read.
struct Reading(Gate);

impl Reading {
    fn new(gate: Gate) -> Self {
        gate.0.open.send_modify(|open| *open += 1);
        Self(gate)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.0.open.send_modify(|open| *open -= 1);
    }
}

async fn upload(content: Bytes) -> String {
    content.len().to_string()
}

async fn allow(State(gate): State<Gate>, loaded: String) -> StatusCode {
    gate.allow(loaded.parse::<u64>().unwrap_or_default() + WINDOW);
    StatusCode::NO_CONTENT
}

/// What stands before the verifier: it reads no faster than allowed, or says that it is elsewhere.
async fn pace(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    if gate.0.redirects.load(Ordering::Relaxed) {
        let location = [(header::LOCATION, "/elsewhere")];
        return (StatusCode::TEMPORARY_REDIRECT, location).into_response();
    }
    if length(request.headers()) < WINDOW {
        return next.run(request).await;
    }
    let paced = request.map(|body| {
        let allowed = gate.0.allowed.subscribe();
        let state = (body.into_data_stream(), 0, allowed, Reading::new(gate));
        Body::from_stream(stream::unfold(
            state,
            |(mut body, read, mut allowed, reading)| async move {
                allowed.wait_for(|allowed| read < *allowed).await.ok()?;
                let Some(piece) = body.next().await else {
                    reading.0.0.arrived.fetch_add(1, Ordering::Relaxed);
                    return None;
                };
                let length = piece.as_ref().map_or(0, Bytes::len);
                Some((piece, (body, read + length as u64, allowed, reading)))
            },
        ))
    });
    next.run(paced).await
}

fn length(headers: &HeaderMap) -> u64 {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or_default()
}

/// Calls a function of the page and waits for what comes of it.
async fn call(browser: &Browser, function: &str, given: Value) -> Outcome<Value> {
    browser
        .eval(
            "window.outcome = undefined;
             Promise.resolve(window[args[0]](...args[1])).catch(String).then((outcome = null) => {
               window.outcome = { outcome };
             });",
            [json!(function), given],
        )
        .await?;
    let mut told = browser.wait_until("return outcome", 3 * PATIENCE).await?;
    Ok(told["outcome"].take())
}

/// As a script of the page: the driver's world has globals of its own in Firefox.
async fn add_script(browser: &Browser, script: &str) -> Outcome {
    browser
        .eval(
            "const script = document.createElement('script');
             script.textContent = args[0];
             document.head.append(script);",
            [json!(script)],
        )
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn node_hears_once_of_an_upload() -> Outcome {
    let bank = Bank::open().await?;
    let (origin, identity) = (bank.server.origin(), bank.identity());
    let told = tokio::task::spawn_blocking(move || node(&[&origin, &identity])).await??;
    let whole = json!({ "loaded": 6, "total": 6, "lengthComputable": true });
    assert_eq!(told["up"], json!([whole]));
    assert_eq!(told["down"], told["up"]);
    assert_eq!(told["text"], "a body");
    // Through it, past it, and when it is gone.
    assert_eq!(told["statuses"], json!([200, 200, 401]));
    Ok(())
}

/// Runs the script where the package is installed. Gives what it prints.
fn node(arguments: &[&str]) -> io::Result<Value> {
    let folder = tempfile::tempdir()?;
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../npm");
    std::fs::create_dir(folder.path().join("node_modules"))?;
    symlink(package, folder.path().join("node_modules/bulla"))?;
    let script = folder.path().join("script.mjs");
    std::fs::write(&script, include_str!("pages/progress.mjs"))?;
    let output = Command::new("node").arg(script).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !said.is_empty() {
        return Err(io::Error::other(format!("{}: {said}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

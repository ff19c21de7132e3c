//! `session.events` beside the platform's own `EventSource`, in real browsers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{OriginalUri, Query, State};
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use bulla_server::{Bulla, Code, Identity, MemoryStore, Require};
use bulla_tests::attack::{Outcome, Proxy, bank_behind, in_page};
use bulla_tests::bank::{Bank, PATIENCE, package, page};
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::serve::Server;
use futures_util::{Stream, StreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

bulla_tests::in_each_engine!(events_come_as_by_the_platforms_event_source);

async fn events_come_as_by_the_platforms_event_source(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    let server = stage()?.await?;
    visit(&browser, &server).await?;
    it_does_what_the_platform_does(&browser).await?;
    a_stream_may_come_in_any_pieces(&browser).await?;
    what_may_pass_is_waited_out(&browser).await?;
    what_is_no_event_stream_is_stopped(&browser).await?;
    waiting_grows_and_has_an_end(&browser).await?;
    what_no_other_attempt_mends_ends_it(&browser).await?;
    closing_it_ends_the_servers_work(&browser).await?;
    it_goes_on_in_the_next_session(&browser).await?;
    a_script_that_is_not_there_ends_it(&browser).await?;
    browser.quit().await?;
    Ok(())
}

/// It keeps no process alive once it is closed.
#[tokio::test(flavor = "multi_thread")]
async fn node() -> Outcome {
    const SCRIPT: &str = "
        import { open } from 'bulla';
        const session = await open({ server: process.argv[2] });
        const source = session.events('/api/ticks/1000000/1');
        const told = [];
        source.onopen = () => told.push(source.readyState);
        source.onmessage = ({ data, origin }) => {
          told.push([data, origin === session.origin]);
          if (told.length < 4) return;
          source.close();
          console.log(JSON.stringify(told));
        };";
    let bank = Bank::open().await?;
    let folder = tempfile::tempdir()?;
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../npm");
    std::fs::create_dir(folder.path().join("node_modules"))?;
    symlink(package, folder.path().join("node_modules/bulla"))?;
    let script = folder.path().join("script.mjs");
    std::fs::write(&script, SCRIPT)?;
    let mut node = Command::new("node");
    node.arg(script).arg(bank.server.origin());
    let output = tokio::task::spawn_blocking(move || node.output()).await??;
    let said = String::from_utf8(output.stderr)?;
    assert!(output.status.success() && said.is_empty(), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(told, json!([1, ["0", true], ["1", true], ["2", true]]));
    bank.ledger.until_open_streams(0).await?;
    Ok(())
}

async fn it_does_what_the_platform_does(browser: &Browser) -> Outcome {
    let args = json!(["/twin", "/api", "/api/signed"]);
    let found = in_page(browser, include_str!("pages/events.js"), args).await?;
    assert!(found["cases"].as_u64() > Some(80), "{found}");
    let differences = &found["differences"];
    assert_eq!(*differences, json!([]), "{differences:#}");
    Ok(())
}

/// What follows a stream, on streams and failures that are made up. `fetched` is what `fetch` gives each time: pieces
/// of a stream, or the code of an error, or whatever else it throws. What would be waited is told, and not waited.
const FOLLOW: &str = r#"
const { follow } = await import("/npm/later/events.js");
const streamed = (pieces) => {
  const body = new ReadableStream({
    start: (controller) => {
      pieces.forEach((piece) => controller.enqueue(piece));
      controller.close();
    },
  });
  const reply = new Response(body, { headers: { "content-type": "text/event-stream" } });
  return Object.defineProperty(reply, "url", { value: location.href });
};
const refused = (code) => Object.assign(new Error(code), { name: "BullaError", code });
const followed = async (fetched, wait = () => {}) => {
  const { setTimeout, clearTimeout } = window;
  const [control, told] = [new AbortController(), []];
  const timers = new Set();
  window.setTimeout = (end, milliseconds) => {
    told.push(["waits", milliseconds]);
    timers.add(end);
    // What comes with the timer's end, unless the wait is ended by something else.
    setTimeout(() => wait(control, told, timers) ?? (timers.has(end) && end()));
    return end;
  };
  window.clearTimeout = (end) => timers.delete(end);
  const fetch = async () => {
    const next = fetched.shift();
    if (next === undefined) {
      control.abort();
      control.signal.throwIfAborted();
    }
    if (next instanceof Response) return next;
    if (Array.isArray(next)) return streamed(next);
    throw typeof next === "string" ? refused(next) : next;
  };
  const states = ["connecting", "open", "closed"];
  try {
    await follow(fetch, { url: location.href, withCredentials: false }, control.signal, (state, event, error) => {
      if (!control.signal.aborted) told.push([states[state], event.type, event.data ?? error?.code ?? error?.name ?? null, event.lastEventId]);
    });
  } finally {
    Object.assign(window, { setTimeout, clearTimeout });
  }
  return { told, timers: timers.size };
};
const bytes = (text) => new TextEncoder().encode(text);
"#;

async fn followed(browser: &Browser, body: &str, args: Value) -> Outcome<Value> {
    in_page(browser, &format!("{FOLLOW}\n{body}"), args).await
}

/// Two at each place, and every byte alone.
async fn a_stream_may_come_in_any_pieces(browser: &Browser) -> Outcome {
    let found = followed(
        browser,
        r#"
        const whole = bytes("\ufeffid: 1\r\ndata: é\u{1f3fa}\r\n: c\r\rdata:a\n\ndata\r\n\r\n\rretry: 7\nevent: b\ndata: \r\rid\r\ndata: c\n\n\nda");
        const wanted = await followed([[whole]]);
        const cuts = Array.from(whole, (_, at) => [whole.slice(0, at), whole.slice(at)]);
        const wrong = [];
        for (const pieces of [...cuts, Array.from(whole, (byte) => Uint8Array.of(byte))]) {
          const found = await followed([pieces]);
          if (JSON.stringify(found) !== JSON.stringify(wanted)) wrong.push(found);
        }
        return { wanted, wrong };"#,
        json!([]),
    )
    .await?;
    assert_eq!(found["wrong"], json!([]));
    let message = |kind, data, id| json!(["open", kind, data, id]);
    assert_eq!(
        found["wanted"],
        json!({ "timers": 0, "told": [
            ["open", "open", null, null],
            message("message", "é\u{1f3fa}", "1"),
            message("message", "a", "1"),
            message("message", "", "1"),
            message("b", "", "1"),
            message("message", "c", ""),
            ["connecting", "error", null, null],
            ["waits", 7],
        ] })
    );
    Ok(())
}

/// A stream that has been open is asked for again after the reconnection time, whatever has cut it.
async fn what_may_pass_is_waited_out(browser: &Browser) -> Outcome {
    let found = followed(
        browser,
        "const outcomes = {};
         for (const code of args) {
           const { told } = await followed([code]);
           outcomes[code] = told[0];
         }
         return outcomes;",
        json!(
            Code::ALL
                .iter()
                .map(|code| code.as_str())
                .collect::<Vec<_>>()
        ),
    )
    .await?;
    let passing = [
        Code::TooSlow,
        Code::ProofWeak,
        Code::NonceStale,
        Code::Replayed,
        Code::SessionUnconfirmed,
        Code::SessionRevoked,
        Code::TicketExpired,
        Code::TicketInvalid,
        Code::WorkRequired,
        Code::RateLimited,
        Code::StoreUnavailable,
        Code::Internal,
        Code::ReplyInvalid,
        Code::ReplyUnsealed,
        Code::ReplyTruncated,
        Code::Network,
    ];
    for code in Code::ALL {
        let state = if passing.contains(code) {
            "connecting"
        } else {
            "closed"
        };
        assert_eq!(
            found[code.as_str()],
            json!([state, "error", code.as_str(), null])
        );
    }
    Ok(())
}
/// Else its connection is kept until somebody collects the garbage.
async fn what_is_no_event_stream_is_stopped(browser: &Browser) -> Outcome {
    let found = followed(
        browser,
        "let isStopped = false;
         const { told } = await followed([new Response(new ReadableStream({ cancel: () => { isStopped = true; } }))]);
         return [told, isStopped];",
        json!([]),
    )
    .await?;
    assert_eq!(found, json!([[["closed", "error", null, null]], true]));
    Ok(())
}

/// By chance, which is given here: the most, and nothing.
async fn waiting_grows_and_has_an_end(browser: &Browser) -> Outcome {
    let found = followed(
        browser,
        r#"
        const { random } = Math;
        const told = {};
        try {
          Math.random = () => 1;
          const refusals = ["network", "store_unavailable", "network", "rate_limited", "network", "network", "network"];
          told.most = await followed([...refusals]);
          told.again = await followed(["network", "network", [bytes("retry: 10\n\n")], [], "network"]);
          told.atOnce = await followed([[bytes("retry: 0\n\n")], "network", "network"]);
          told.longest = await followed([[bytes("retry: 99999999999999999999\n\n")], []]);
          Math.random = () => 0;
          told.least = await followed(["network", "network", "network"]);
          // The network is back: while it waits its time, and while it waits longer.
          told.back = await followed(["network", "network"], (control, told, timers) => {
            const before = timers.size;
            dispatchEvent(new Event("online"));
            told.push([before, timers.size]);
            return told.at(-2)[1] === 3000 ? undefined : "no end";
          });
          // It is closed while it waits.
          told.closed = await followed(["network", "network"], (control, told) => {
            if (told.at(-1)[1] === 3000) return undefined;
            control.abort();
            return "no end";
          });
        } finally {
          Math.random = random;
        }
        const waits = ({ told, timers }) => [told.filter(([kind]) => kind === "waits").map(([, time]) => time), timers];
        return { ...Object.fromEntries(Object.entries(told).map(([name, told]) => [name, waits(told)])), online: told.back.told.filter(([kind]) => typeof kind === "number") };"#,
        json!([]),
    )
    .await?;
    let waited = |times: &[u64]| json!([times, 0]);
    assert_eq!(
        found,
        json!({
            "most": waited(&[
                3000, 2000, 3000, 4000, 3000, 8000, 3000, 16000, 3000, 32000, 3000, 60000, 3000, 60000,
            ]),
            "again": waited(&[3000, 2000, 3000, 4000, 10, 10, 10, 2000]),
            "atOnce": waited(&[0, 0, 2000, 0, 4000]),
            "longest": waited(&[2_147_483_647, 2_147_483_647]),
            "least": waited(&[3000, 0, 3000, 0, 3000, 0]),
            "back": waited(&[3000, 0, 3000, 0]),
            "online": [[1, 1], [1, 0], [1, 1], [1, 0]],
            "closed": waited(&[3000, 0]),
        })
    );
    Ok(())
}

/// Each with what the page is told.
async fn what_no_other_attempt_mends_ends_it(browser: &Browser) -> Outcome {
    let latin = json!([{ "type": "text/event-stream", "pieces": ["retry: 10\nid: \u{c3}\u{a9}\ndata: a\n\n"] }]);
    let query = in_page(
        browser,
        "return encodeURIComponent(JSON.stringify(args))",
        latin,
    );
    let said = format!(
        "/api/said?key=ends&replies={}",
        query.await?.as_str().ok_or("no query")?
    );
    for (url, name, code) in [
        ("/api/mine", "BullaError", json!("login_required")),
        (&said, "BullaError", json!("request_invalid")),
        (
            "https://example.com/",
            "BullaError",
            json!("request_invalid"),
        ),
        ("/api/a%2Fb", "BullaError", json!("request_invalid")),
        ("http://ann:secret@localhost/", "TypeError", json!(null)),
    ] {
        let found = in_page(
            browser,
            "const source = session.events(args[0]);
             const last = await new Promise((resolve) => {
               source.onerror = (event) => { if (source.readyState === source.CLOSED) resolve(event); };
             });
             const { error } = last;
             return [last.type, error.name, error.code ?? null, error instanceof bulla.BullaError];",
            json!([url]),
        )
        .await?;
        assert_eq!(
            found,
            json!(["error", name, code, name == "BullaError"]),
            "{url}"
        );
    }
    Ok(())
}

async fn closing_it_ends_the_servers_work(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    for sealed in [true, false] {
        bank.visit(browser, json!({ "seal": sealed })).await?;
        // While it waits for an answer, and while it is open.
        for (url, state) in [("/api/wait", 0), ("/api/ticks/1000000/20", 1)] {
            in_page(
                browser,
                "window.source = session.events(args[0]);
                 window.heard = [];
                 const hear = ({ type }) => heard.push([type, source.readyState]);
                 for (const type of ['open', 'message', 'error']) source.addEventListener(type, hear);
                 if (args[1] === 1) await new Promise((resolve) => { source.onmessage = resolve; });",
                json!([url, state]),
            )
            .await?;
            bank.ledger.until_open_streams(1).await?;
            let closed = in_page(
                browser,
                "const before = source.readyState;
                 source.close();
                 heard.length = 0;
                 return [before, source.readyState];",
                json!([]),
            )
            .await?;
            assert_eq!(closed, json!([state, 2]), "{url}");
            bank.ledger.until_open_streams(0).await?;
            let heard = in_page(browser, "return heard", json!([])).await?;
            assert_eq!(heard, json!([]), "{url}");
        }
    }
    assert_eq!(bank.ledger.refusals(), [""; 0]);
    Ok(())
}

/// After a login, by this tab and by another one, and after a logout; not after the end.
async fn it_goes_on_in_the_next_session(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    let (tab, other) = (browser.tab().await?, browser.new_tab().await?);
    browser.switch(&other).await?;
    bank.visit(browser, json!({})).await?;
    browser.switch(&tab).await?;
    bank.visit(browser, json!({})).await?;
    in_page(
        browser,
        "const { setTimeout } = window;
         window.setTimeout = (end, time, ...given) => setTimeout(end, time === 3000 ? 10 : time, ...given);
         window.source = session.events('/api/ticks/1000000/20');
         window.heard = { open: [], message: [], error: [] };
         for (const type in heard) {
           source.addEventListener(type, ({ error }) => heard[type].push([source.readyState, error?.code ?? null, session.id]));
         }",
        json!([]),
    )
    .await?;
    let mut ids = vec![until_opened(browser, &bank, 1).await?];
    for (at, (tab_of, body)) in [
        (&tab, "await post('/api/login', { user: 'ann' })"),
        (&other, "await post('/api/login', { user: 'bob' })"),
        (
            &other,
            "await session.fetch('/api/logout', { method: 'POST' })",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        browser.switch(tab_of).await?;
        browser.eval(body, []).await?;
        browser.switch(&tab).await?;
        ids.push(until_opened(browser, &bank, at + 2).await?);
    }
    for (at, id) in ids.iter().enumerate() {
        assert!(!ids[..at].contains(id), "{ids:?}");
    }
    browser.eval("await session.end()", []).await?;
    browser
        .wait_until("return source.readyState === 2", PATIENCE)
        .await?;
    bank.ledger.until_open_streams(0).await?;
    let errors = in_page(
        browser,
        "return heard.error.map(([state, code]) => [state, code])",
        json!([]),
    )
    .await?;
    let cut = (0, "reply_truncated");
    assert_eq!(errors, json!([cut, cut, cut, cut, (2, "session_closed")]));
    browser.switch(&other).await?;
    browser.driver().close_window().await?;
    browser.switch(&tab).await?;
    Ok(())
}

/// Waits until the stream has been opened so many times, and has said something since. Gives the session's name.
async fn until_opened(browser: &Browser, bank: &Bank, times: usize) -> Outcome<Value> {
    browser
        .wait_until(&format!("return heard.open.length === {times}"), PATIENCE)
        .await?;
    in_page(browser, "heard.message.length = 0", json!([])).await?;
    browser
        .wait_until("return heard.message.length > 0", PATIENCE)
        .await?;
    bank.ledger.until_open_streams(1).await?;
    Ok(browser.eval("return session.id", []).await?)
}

async fn a_script_that_is_not_there_ends_it(browser: &Browser) -> Outcome {
    let proxy = Proxy::start().await?;
    let _bank = bank_behind(&proxy).await?;
    browser.goto(&format!("{}/page", proxy.origin())).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    let open = "window.session = await bulla.open({ server: location.origin })";
    browser.eval(open, []).await?;
    proxy.take_seen();
    proxy.change_reply(|mut reply| {
        *reply.status_mut() = StatusCode::NOT_FOUND;
        reply
    });
    let found = in_page(
        browser,
        "const source = session.events('/api/ticks/1/1');
         const { error } = await new Promise((resolve) => { source.onerror = resolve; });
         return [source.readyState, error.code, error instanceof bulla.BullaError];",
        json!([]),
    )
    .await?;
    assert_eq!(found, json!([2, "unsupported", true]));
    let seen = proxy.take_seen();
    let paths: Vec<_> = seen
        .iter()
        .map(|exchange| exchange.request.uri().path())
        .collect();
    assert_eq!(paths, ["/npm/later/events.js"]);
    Ok(())
}

async fn visit(browser: &Browser, server: &Server) -> Outcome {
    browser.goto(&server.url("/page")).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    let open = "window.session = await bulla.open({ server: location.origin })";
    browser.eval(open, []).await?;
    Ok(())
}

/// A server that says what it is asked to say, behind the verifier and beside it.
fn stage() -> io::Result<impl Future<Output = io::Result<Server>>> {
    let package = package()?;
    Ok(Server::start_with(|origin| {
        let bulla = Bulla::builder()
            .origin(origin)
            .unsigned("/npm/")
            .unsigned("/page")
            .unsigned("/twin/")
            .identity(Identity::generate(&bulla_keys::SystemRandom).map_err(io::Error::other)?)
            .store(MemoryStore::new().map_err(io::Error::other)?)
            .build()
            .map_err(io::Error::other)?;
        let said = Router::new()
            .route("/said", get(said))
            .route("/sent", get(sent))
            .route("/cut", get(cut));
        let mine = get(|| async {}).layer(Require::session().logged_in());
        let routes = Router::new()
            .route("/api/mine", mine)
            .route("/page", page())
            .nest("/api", said.clone())
            .nest("/api/signed", said.clone())
            .nest("/twin", said)
            .with_state(Sent::default());
        Ok(bulla.protect(routes.merge(package)))
    }))
}

/// What was asked for, by the key of whoever did.
#[derive(Clone, Default)]
struct Sent {
    requests: Arc<Mutex<BTreeMap<String, Vec<Value>>>>,
    /// Whose streams are to be cut.
    cut: watch::Sender<BTreeSet<String>>,
}

impl Sent {
    /// Remembers a request, and says how many there were before it.
    fn push(&self, key: &str, request: Value) -> usize {
        let mut all = self.lock();
        let own = all.entry(key.to_owned()).or_default();
        own.push(request);
        own.len() - 1
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Value>>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct Asked {
    key: String,
    #[serde(default)]
    replies: String,
}

/// One of the replies that are asked for; they come in turn.
#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    status: Option<u16>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    location: bool,
    /// Each character is a byte.
    #[serde(default)]
    pieces: Vec<String>,
    /// How often the first piece is said.
    #[serde(default)]
    times: Option<usize>,
    #[serde(default)]
    then: Option<String>,
}

async fn said(
    State(sent): State<Sent>,
    Query(asked): Query<Asked>,
    uri: OriginalUri,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    const WRONG: StatusCode = StatusCode::IM_A_TEAPOT;
    let field = |name| headers.get(name).map(|value| value.to_str().ok());
    let told = json!({ "accept": field("accept"), "last": field("last-event-id") });
    let turn = sent.push(&asked.key, told);
    let mut replies: Vec<Reply> = serde_json::from_str(&asked.replies).map_err(|_| WRONG)?;
    if turn >= replies.len() {
        return Err(WRONG);
    }
    let reply = replies.swap_remove(turn);
    let mut response = Response::builder().status(reply.status.unwrap_or(200));
    if let Some(kind) = reply.kind {
        response = response.header(CONTENT_TYPE, kind);
    }
    if reply.location {
        response = response.header(LOCATION, uri.to_string());
    }
    let mut cut = sent.cut.subscribe();
    let is_cut = async move {
        let _ = cut.wait_for(|all| all.contains(&asked.key)).await;
        Err(io::Error::other("cut"))
    };
    if reply.then.is_none() && reply.pieces.is_empty() {
        // No chunks either: there are statuses that take none.
        return response.body(Body::empty()).map_err(|_| WRONG);
    }
    let pieces = one_by_one(reply.pieces, reply.times.unwrap_or(1));
    let body = match reply.then.as_deref() {
        Some("hang") => Body::from_stream(pieces.chain(stream::pending())),
        Some("cut") => Body::from_stream(pieces.chain(stream::once(is_cut))),
        _ => Body::from_stream(pieces),
    };
    response.body(body).map_err(|_| WRONG)
}

/// The first of them so many times.
fn one_by_one(pieces: Vec<String>, times: usize) -> impl Stream<Item = io::Result<Bytes>> {
    let pieces = pieces.into_iter().enumerate();
    let pieces = pieces.map(move |(at, piece)| if at == 0 { piece.repeat(times) } else { piece });
    stream::iter(pieces).then(|piece| async move {
        // Apart from each other, as far as a network leaves it so.
        sleep(Duration::from_millis(5)).await;
        let bytes = piece.chars().map(u32::from).map(u8::try_from);
        let bytes: Result<Bytes, _> = bytes.collect();
        bytes.map_err(io::Error::other)
    })
}

async fn sent(State(sent): State<Sent>, Query(asked): Query<Asked>) -> Json<Vec<Value>> {
    Json(sent.lock().get(&asked.key).cloned().unwrap_or_default())
}

async fn cut(State(sent): State<Sent>, Query(asked): Query<Asked>) -> Json<()> {
    sent.cut.send_modify(|all| {
        all.insert(asked.key);
    });
    Json(())
}

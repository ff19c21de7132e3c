//! Networks as they are, in real browsers: lines that go down and come back, portals and proxies that answer in the
//! server's place, pages of other origins and under policies of their own.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use bulla_server::Cookies;
use bulla_tests::attack::{Outcome, Proxy, bank_behind, in_page};
use bulla_tests::bank::{Bank, PATIENCE, package, page};
use bulla_tests::browser::{Browser, BrowserError, Engine};
use bulla_tests::serve::{Server, html, listener};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const OPENING: &str = "/.well-known/bulla/session";
const SEALED: &str = "/.well-known/bulla/sealed";

/// Longer than a nonce is taken, shorter than a ticket lives.
const STALE: i64 = 150;

const PAY: &str = "return post('/api/transfer', { to: 'bob', amount: 7 })";

bulla_tests::in_each_engine!(a_session_outlasts_bad_networks);

async fn a_session_outlasts_bad_networks(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    a_line_that_comes_back_finds_the_session(&browser).await?;
    who_begins_without_a_line_begins_when_it_is_there(&browser).await?;
    an_answer_of_somebody_else_is_said_to_be_one(&browser).await?;
    a_body_that_can_be_read_once_is_sent_twice(&browser).await?;
    a_page_of_another_origin_has_all_of_it(&browser).await?;
    an_origin_that_is_not_known_is_given_as_a_reason(&browser).await?;
    a_policy_without_wasm_is_told_what_to_add(&browser).await?;
    browser.quit().await?;
    Ok(())
}

/// A line to a server, at an origin of its own, that can be cut and mended.
struct Line {
    port: u16,
    server: Arc<AtomicU16>,
    is_up: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Line {
    async fn start() -> io::Result<Self> {
        let listener = listener().await?;
        let port = listener.local_addr()?.port();
        let server = Arc::new(AtomicU16::new(0));
        let is_up = watch::Sender::new(true);
        let (to, up) = (server.clone(), is_up.subscribe());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, to.load(Ordering::Relaxed), up.clone()));
            }
        });
        Ok(Self {
            port,
            server,
            is_up,
            accepting,
        })
    }

    fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// A bank at its other end, and its page.
    async fn to_bank(&self, browser: &Browser) -> Outcome<Bank> {
        let origin = self.origin();
        let bank = Bank::open_with(|builder| builder.origin(origin)).await?;
        self.server.store(bank.server.port(), Ordering::Relaxed);
        load(browser, &self.origin()).await?;
        Ok(bank)
    }

    fn cut(&self) {
        self.is_up.send_replace(false);
    }

    fn mend(&self) {
        self.is_up.send_replace(true);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Carries one connection, until the line goes down.
async fn carry(mut client: TcpStream, server: u16, mut is_up: watch::Receiver<bool>) {
    if !*is_up.borrow() {
        return;
    }
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = is_up.wait_for(|is_up| !is_up) => {}
    }
}

async fn a_line_that_comes_back_finds_the_session(browser: &Browser) -> Outcome {
    for sealed in [true, false] {
        let line = Line::start().await?;
        let bank = line.to_bank(browser).await?;
        open(browser, json!({ "seal": sealed })).await?;
        let about = browser
            .eval(
                "await post('/api/login', { user: 'ann' }); return about(session)",
                [],
            )
            .await?;
        for round in 1..=2 {
            line.cut();
            for work in [PAY, "await session.fetch('/api/me')"] {
                let lost = browser.eval(work, []).await.expect_err("there is no line");
                assert_eq!(lost.code(), Some("network"), "{work}");
                let message = lost.thrown().map(|thrown| thrown.message.as_str());
                assert_eq!(message, Some("the server could not be reached"));
            }
            line.mend();
            browser.eval(PAY, []).await?;
            assert_eq!(browser.eval("return about(session)", []).await?, about);
            assert_eq!(bank.ledger.transfers().len(), round);
        }
        // One at first, one for the login.
        assert_eq!(browser.eval("return openings()", []).await?, 2);
        assert_eq!(bank.ledger.refusals(), [""; 0]);
    }
    Ok(())
}

async fn who_begins_without_a_line_begins_when_it_is_there(browser: &Browser) -> Outcome {
    let line = Line::start().await?;
    let bank = line.to_bank(browser).await?;
    line.cut();
    let lost = open(browser, json!({}))
        .await
        .expect_err("there is no line");
    assert_eq!(lost.code(), Some("network"));
    line.mend();
    open(browser, json!({})).await?;
    browser
        .eval("await post('/api/login', { user: 'ann' })", [])
        .await?;

    // And who renews a session keeps his login meanwhile.
    line.cut();
    let lost = browser
        .eval(&format!("window.skew = 86_400; {PAY}"), [])
        .await;
    let lost = lost.expect_err("there is no line");
    assert_eq!(lost.code(), Some("network"));
    line.mend();
    browser.eval(PAY, []).await?;
    assert_eq!(bank.ledger.transfers().len(), 1);
    Ok(())
}

/// A proxy's error page, a portal's, or one to log in at. The message says what it was.
async fn an_answer_of_somebody_else_is_said_to_be_one(browser: &Browser) -> Outcome {
    let answers = [
        (StatusCode::BAD_GATEWAY, "502, text/html"),
        (StatusCode::OK, "200, text/html"),
        (StatusCode::FOUND, "a redirect"),
    ];
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    load(browser, &proxy.origin()).await?;
    for (status, what) in answers {
        proxy.change_reply(move |_| portal(status));
        let refused = open(browser, json!({}))
            .await
            .expect_err("it is a portal's");
        assert_eq!(refused.code(), Some("reply_invalid"), "{what}");
        let message = refused.thrown().map(|thrown| thrown.message.clone());
        assert!(
            message.is_some_and(|message| message.ends_with(what)),
            "{refused}"
        );
    }
    open(browser, json!({})).await?;
    browser
        .eval("await post('/api/login', { user: 'ann' })", [])
        .await?;
    let about = browser.eval("return about(session)", []).await?;
    for (status, what) in answers {
        proxy.take_seen();
        proxy.change_reply(move |_| portal(status));
        let refused = browser.eval("await session.fetch('/api/me')", []).await;
        let refused = refused.expect_err("it is a portal's");
        assert_eq!(refused.code(), Some("reply_unsealed"), "{what}");
        let message = refused.thrown().map(|thrown| thrown.message.clone());
        assert!(
            message.is_some_and(|message| message.ends_with(what)),
            "{refused}"
        );
        let seen = proxy.take_seen();
        assert_eq!(
            seen.len(),
            1,
            "nothing is followed, and no other session is opened"
        );
        browser.eval(PAY, []).await?;
        assert_eq!(browser.eval("return about(session)", []).await?, about);
    }
    assert_eq!(bank.ledger.transfers().len(), answers.len());
    assert_eq!(bank.ledger.refusals(), [""; 0]);
    Ok(())
}

fn portal(status: StatusCode) -> Response<Bytes> {
    let mut reply = Response::new(Bytes::from_static(b"<!doctype html><title>Welcome</title>"));
    *reply.status_mut() = status;
    let fields = [
        ("content-type", "text/html; charset=utf-8"),
        ("location", "/page"),
    ];
    for (name, value) in fields {
        reply
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    reply
}

/// It is held since it was first read.
async fn a_body_that_can_be_read_once_is_sent_twice(browser: &Browser) -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    load(browser, &proxy.origin()).await?;
    open(browser, json!({})).await?;
    let mut bodies = vec!["new Request('/api/echo', { method: 'POST', body: 'once' })"];
    // No other engine sends streams.
    if matches!(browser.engine(), Engine::Chromium) {
        bodies.push(
            "new Request('/api/echo', { method: 'POST', duplex: 'half', body: new Blob(['once']).stream() })",
        );
    }
    for body in bodies {
        bank.clock.advance(STALE);
        proxy.take_seen();
        let work = format!(
            "const request = {body};
             const {{ body }} = await session.fetch(request).then((reply) => reply.json());
             return [body, request.bodyUsed];"
        );
        assert_eq!(
            in_page(browser, &work, json!([])).await?,
            json!(["once", true])
        );
        let seen = proxy.take_seen();
        let paths: Vec<_> = seen
            .iter()
            .map(|exchange| exchange.request.uri().path())
            .collect();
        assert_eq!(paths, [SEALED; 2], "{body}");
    }
    Ok(())
}

/// With cookies, and whatever browsers ask the server beforehand.
async fn a_page_of_another_origin_has_all_of_it(browser: &Browser) -> Outcome {
    let (near, far) = (Proxy::start().await?, Proxy::start().await?);
    let pages = Server::start(package()?.route("/page", page())).await?;
    near.forward_to(pages.port());
    let (origin, known) = (far.origin(), near.origin());
    let cookies = Cookies::HttpOnly {
        readable: Vec::new(),
    };
    let bank =
        Bank::open_with(|builder| builder.origin(origin).allow_origin(known).cookies(cookies))
            .await?;
    far.forward_to(bank.server.port());
    load(browser, &near.origin()).await?;
    for sealed in [true, false] {
        far.take_seen();
        let found = in_page(
            browser,
            "window.session = await bulla.open(args);
             await post('/api/login', { user: 'ann' });
             const text = (reply) => reply.ok ? reply.json() : reply.status;
             const given = { credentials: 'include' };
             const log_in = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{\"user\":\"ann\"}' };
             await session.fetch('/api/cookie/login', { ...given, ...log_in });
             const by_cookie = await session.fetch('/api/cookie/me', given).then(text);
             const without = await session.fetch('/api/cookie/me').then(text);
             const paid = await post('/api/transfer', { to: 'bob', amount: 7 });
             const elsewhere = await session.fetch(`${location.origin}/page`).catch((error) => error.code);
             await session.end();
             return [by_cookie, without, paid.receipt.amount, elsewhere];",
            json!({ "server": far.origin(), "seal": sealed }),
        )
        .await?;
        let expected = json!([{ "subject": "ann" }, 401, 7, "request_invalid"]);
        assert_eq!(found, expected, "sealed: {sealed}");
        let asked: Vec<_> = far
            .take_seen()
            .iter()
            .filter(|exchange| exchange.request.method() == Method::OPTIONS)
            .map(|exchange| exchange.request.uri().path().to_owned())
            .collect();
        let target = if sealed { SEALED } else { "/api/transfer" };
        for path in [OPENING, target] {
            // What was asked a short time ago is not asked again.
            let is_asked = asked.iter().any(|asked| asked == path);
            assert!(
                is_asked || (path == OPENING && !sealed),
                "{path}: {asked:?}"
            );
        }
    }
    assert_eq!(bank.ledger.transfers().len(), 2);
    assert_eq!(bank.ledger.refusals(), [""; 0]);
    Ok(())
}

/// Browsers tell pages nothing but that it has failed.
async fn an_origin_that_is_not_known_is_given_as_a_reason(browser: &Browser) -> Outcome {
    let pages = Server::start(package()?.route("/page", page())).await?;
    let known = pages.origin();
    let strict = Bank::open().await?;
    let open_to = Bank::open_with(|builder| builder.allow_origin(known)).await?;
    load(browser, &pages.origin()).await?;
    let refused = open(browser, json!({ "server": strict.server.origin() })).await;
    let refused = refused.expect_err("the page is not known there");
    assert_eq!(refused.code(), Some("network"));
    let message = refused
        .thrown()
        .map(|thrown| thrown.message.clone())
        .unwrap_or_default();
    for reason in ["allow_origin", "CORS", "connect-src"] {
        assert!(message.contains(reason), "{message}");
    }
    open(browser, json!({ "server": open_to.server.origin() })).await?;
    Ok(())
}

/// By both of the ways in which the module comes.
async fn a_policy_without_wasm_is_told_what_to_add(browser: &Browser) -> Outcome {
    const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="content-security-policy" content="script-src 'self' 'unsafe-inline'">
<title>A page under a policy</title>
<link rel="icon" href="data:,">
<script type="module">
  import * as beside from "/npm/index.js";
  import * as inline from "/npm/inline.js";
  window.entries = { beside, inline };
</script>
"#;
    let bank = Bank::open().await?;
    let pages = Server::start(package()?.route("/page", html(PAGE))).await?;
    browser.goto(&pages.url("/page")).await?;
    browser
        .wait_until("return window.entries", PATIENCE)
        .await?;
    for entry in ["beside", "inline"] {
        let open = "await entries[args[0]].open({ server: args[1] })";
        let given = [json!(entry), json!(bank.server.origin())];
        let refused = browser.eval(open, given).await;
        let refused = refused.expect_err("Wasm is forbidden");
        assert_eq!(refused.code(), Some("unsupported"), "{entry}");
        let message = refused
            .thrown()
            .map(|thrown| thrown.message.clone())
            .unwrap_or_default();
        assert!(message.contains("'wasm-unsafe-eval'"), "{entry}: {message}");
    }
    Ok(())
}

/// Loads all of the page, so that nothing but the protocol's is sent from then on.
async fn load(browser: &Browser, origin: &str) -> Outcome {
    browser.goto(&format!("{origin}/page")).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    browser.eval("await bulla.init()", []).await?;
    Ok(())
}

/// Opens a session in the page that is there, without a pin.
async fn open(browser: &Browser, options: Value) -> Result<Value, BrowserError> {
    let open = "window.session = await bulla.open({ server: location.origin, ...args[0] });
        return about(session);";
    browser.eval(open, [options]).await
}

//! What stands between a browser and its server: another server, a stale nonce, lies about the fate of
//! a request. What was sent is what a middle man has seen.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::routing;
use bulla_client::{Client, Code, ProofKind};
use bulla_server::Revocation;
use bulla_tests::attack::{Outcome, Proxy, bank_behind, forged, in_page, records};
use bulla_tests::bank::{Bank, PATIENCE, package, page};
use bulla_tests::browser::{Browser, BrowserError, Engine};
use bulla_tests::serve::Server;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::interval;

const OPENING: &str = "/.well-known/bulla/session";
const SEALED: &str = "/.well-known/bulla/sealed";
const TRANSFER: &str = "/api/transfer";

/// Longer than a nonce is taken, shorter than a ticket lives.
const STALE: i64 = 150;

bulla_tests::in_each_engine!(nothing_between_changes_what_was_asked);

async fn nothing_between_changes_what_was_asked(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    the_first_identity_is_the_only_one(&browser).await?;
    whoever_ends_tls_can_have_a_browser_forget(&browser).await?;
    no_other_opening_is_taken(&browser).await?;
    no_other_reply_is_taken(&browser).await?;
    what_is_not_read_to_its_end_is_stopped(&browser).await?;
    nothing_random_comes_twice(&browser).await?;
    for sealed in [true, false] {
        a_stale_nonce_costs_a_second_sending(&browser, sealed).await?;
        there_is_no_third_sending(&browser, sealed).await?;
    }
    a_nonce_that_was_stale_for_long_costs_the_request(&browser).await?;
    what_may_have_been_done_is_not_done_again(&browser).await?;
    for sealed in [true, false] {
        a_session_proof_that_is_refused_makes_the_device_prove(&browser, sealed).await?;
    }
    an_old_ticket_makes_the_device_prove(&browser).await?;
    what_carries_a_request_is_as_asked(&browser).await?;
    a_login_whose_opening_is_lost_can_be_repeated(&browser).await?;
    a_renewal_that_is_lost_keeps_the_login(&browser).await?;
    an_opening_that_the_end_overtakes_gives_no_session(&browser).await?;
    an_opening_without_an_answer_keeps_no_tab_waiting(&browser).await?;
    an_answer_without_an_end_is_given_up(&browser).await?;
    for revoked in [false, true] {
        whoever_gives_up_waits_for_no_opening(&browser, revoked).await?;
    }
    an_end_that_only_the_path_confirms_is_an_error(&browser).await?;
    a_late_end_of_an_old_session_ends_no_newer_one(&browser).await?;
    browser.quit().await?;
    Ok(())
}

/// Trust on first use: nothing in code says whose identity is right.
async fn the_first_identity_is_the_only_one(browser: &Browser) -> Outcome {
    let proxy = Proxy::start().await?;
    let (other, bank) = (bank_behind(&proxy).await?, bank_behind(&proxy).await?);
    let foreign = opened_by_somebody_else(&proxy, &other).await?;

    proxy.forward_to(bank.server.port());
    let opened = visit(browser, &proxy, true).await?;
    assert_eq!(opened["identity"], json!(bank.identity()));
    let pinned = records(browser).await?;
    assert_eq!(pinned["identity"], json!({ "value": bank.identity() }));
    browser.eval("await session.end()", []).await?;

    // It says that it is another one; and it answers as if it were the one.
    proxy.forward_to(other.server.port());
    for answer in [None, Some(foreign)] {
        load(browser, &proxy).await?;
        proxy.take_seen();
        if let Some(answer) = answer {
            proxy.change_reply(move |_| answer);
        }
        let refused = open(browser, true).await.expect_err("it is another server");
        assert_eq!(refused.code(), Some("identity_changed"));
        assert_eq!(sent(&proxy), [OPENING]);
        assert_eq!(records(browser).await?["identity"], pinned["identity"]);
    }

    // The first one again; and the other one again, behind the back of a session.
    proxy.forward_to(bank.server.port());
    visit(browser, &proxy, true).await?;
    let about = log_in(browser).await?;
    assert_eq!(about["identity"], json!(bank.identity()));
    assert_eq!(about["device"], opened["device"]);
    proxy.forward_to(other.server.port());
    proxy.take_seen();
    for method in ["GET", "POST"] {
        let ask = "await session.fetch('/api/me', { method: args[0] })";
        let refused = browser.eval(ask, [json!(method)]).await;
        let refused = refused.expect_err("it is another server");
        assert_eq!(refused.code(), Some("identity_changed"), "{method}");
        assert_eq!(sent(&proxy), [SEALED, OPENING], "{method}");
    }
    proxy.forward_to(bank.server.port());
    pay(browser).await?;
    assert_eq!(browser.eval("return about(session)", []).await?, about);
    assert_eq!(bank.ledger.transfers().len(), 1);
    Ok(())
}

/// By a field around a sealed reply. Then there is another first use, but for a pin in code.
async fn whoever_ends_tls_can_have_a_browser_forget(browser: &Browser) -> Outcome {
    let proxy = Proxy::start().await?;
    let (other, bank) = (bank_behind(&proxy).await?, bank_behind(&proxy).await?);
    proxy.forward_to(bank.server.port());
    visit(browser, &proxy, true).await?;
    proxy.change_reply(|mut reply| {
        let all = HeaderValue::from_static("\"storage\"");
        reply.headers_mut().insert("clear-site-data", all);
        reply
    });
    let _ = browser.eval("await session.fetch('/api/me')", []).await;

    proxy.forward_to(other.server.port());
    load(browser, &proxy).await?;
    let pinned = browser
        .eval(
            "return bulla.open({ server: location.origin, identity: args[0] }).then(() => 'opened', ({ code }) => code)",
            [json!(bank.identity())],
        )
        .await?;
    assert_eq!(pinned, "identity_changed");
    let opened = open(browser, true).await?;
    assert_eq!(opened["identity"], json!(other.identity()));
    Ok(())
}

/// An answer that the server has given to a client without a pin.
async fn opened_by_somebody_else(proxy: &Proxy, bank: &Bank) -> Outcome<Response<Bytes>> {
    proxy.forward_to(bank.server.port());
    let http = proxy.trusting_client()?;
    let client = Client::builder(proxy.origin()).http(http).build()?;
    client.open().await?;
    let exchange = proxy.take_seen().pop().ok_or("nothing was sent")?;
    Ok(exchange.reply)
}

type Change = Box<dyn FnOnce(Response<Bytes>) -> Response<Bytes> + Send>;

/// Not the server's own answer to an opening before, either, and nobody is followed elsewhere.
async fn no_other_opening_is_taken(browser: &Browser) -> Outcome {
    let proxy = Proxy::start().await?;
    let _bank = bank_behind(&proxy).await?;
    load(browser, &proxy).await?;
    proxy.take_seen();
    open(browser, true).await?;
    let before = proxy.take_seen().pop().ok_or("nothing was sent")?.reply;
    browser.eval("await session.end()", []).await?;

    let changes: [Change; 2] = [Box::new(|_| before), Box::new(|_| elsewhere())];
    for change in changes {
        proxy.take_seen();
        proxy.change_reply(change);
        let refused = open(browser, true).await.expect_err("it is another one");
        assert_eq!(refused.code(), Some("reply_invalid"));
        assert_eq!(sent(&proxy), [OPENING]);
    }
    Ok(())
}

async fn no_other_reply_is_taken(browser: &Browser) -> Outcome {
    const READ: &str = "
        const reader = (await session.fetch(args[0])).body?.getReader();
        while (reader && !(await reader.read()).done);";
    let (proxy, bank, _) = logged_in(browser, true).await?;
    browser.eval(READ, [json!("/api/me")]).await?;
    let before = proxy.take_seen().pop().ok_or("nothing was sent")?.reply;

    let changes: [(&str, &str, Change); 7] = [
        ("/api/me", "reply_mismatch", Box::new(|_| before)),
        ("/api/me", "reply_unsealed", Box::new(in_the_open)),
        ("/api/me", "reply_unsealed", Box::new(|_| elsewhere())),
        ("/api/me", "reply_broken", changed(|body| body[100] ^= 1)),
        ("/api/none", "reply_broken", changed(lengthened)),
        (
            "/api/ticks/9/1",
            "reply_broken",
            changed(|body| {
                let at = body.len() - 1500;
                body[at] ^= 1;
            }),
        ),
        // The last record of a stream is empty, and padded to its full size.
        (
            "/api/ticks/9/1",
            "reply_truncated",
            changed(|body| body.truncate(body.len() - 1024)),
        ),
    ];
    for (path, code, change) in changes {
        proxy.change_reply(change);
        let refused = browser.eval(READ, [json!(path)]).await;
        let refused = refused.expect_err("it is another one");
        assert_eq!(refused.code(), Some(code), "{path}: {refused}");
        assert_eq!(sent(&proxy), [SEALED], "{path}, {code}");
    }
    pay(browser).await?;
    assert_eq!(bank.ledger.refusals(), [""; 0]);
    Ok(())
}

/// Else its connection is kept until somebody collects the garbage.
async fn what_is_not_read_to_its_end_is_stopped(browser: &Browser) -> Outcome {
    let (_proxy, _bank, _) = logged_in(browser, true).await?;
    let found = in_page(
        browser,
        "const { fetch } = window;
         const asked = async (path, change) => {
             let stopped = false;
             window.fetch = async (...given) => {
                 window.fetch = fetch;
                 const reply = await window.fetch(...given);
                 const [headers, bytes] = [new Headers(reply.headers), new Uint8Array(await reply.arrayBuffer())];
                 // It has no end. So none of these is short: a last record is known by where all ends.
                 const body = new ReadableStream({
                     start: (controller) => controller.enqueue(change(bytes, headers)),
                     cancel: () => { stopped = true; },
                 });
                 return new Response(body, { headers });
             };
             const told = await read(path).catch((error) => error.code);
             return [told, stopped];
         };
         const read = async (path) => {
             const reader = (await session.fetch(path, { redirect: 'error' })).body.getReader();
             while (!(await reader.read()).done);
         };
         let earlier;
         return [
             await asked('/api/ticks/9/1', (bytes) => (earlier = bytes.slice(), bytes[100] ^= 1, bytes)),
             await asked('/api/ticks/9/1', () => earlier),
             await asked('/api/me', (bytes, headers) => (headers.set('content-type', 'text/plain'), bytes)),
             await asked('/api/ticks/9/1', (bytes) => (bytes[bytes.length - 1500] ^= 1, bytes)),
             await asked('/api/away', (bytes) => bytes),
         ];",
        json!([]),
    )
    .await?;
    let stopped = [
        "reply_broken",
        "reply_mismatch",
        "reply_unsealed",
        "reply_broken",
        "network",
    ];
    assert_eq!(found, json!(stopped.map(|code| (code, true))));
    Ok(())
}

/// What the application might have answered, if it were not sealed.
fn in_the_open(_: Response<Bytes>) -> Response<Bytes> {
    Response::new(Bytes::from_static(br#"{"subject":"mallory"}"#))
}

fn elsewhere() -> Response<Bytes> {
    let mut reply = Response::new(Bytes::new());
    *reply.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let location = HeaderValue::from_static("/page");
    reply.headers_mut().insert("location", location);
    reply
}

fn changed(change: impl FnOnce(&mut Vec<u8>) + Send + 'static) -> Change {
    Box::new(|reply| {
        reply.map(|body| {
            let mut body = body.to_vec();
            change(&mut body);
            body.into()
        })
    })
}

/// By a record after the final one. How long records are stands where nothing vouches for it.
fn lengthened(body: &mut Vec<u8>) {
    let size = u32::try_from(body.len() - 21).unwrap_or_default();
    body[16..20].copy_from_slice(&size.to_be_bytes());
    body.extend([0; 32]);
}

/// Nor in the same request, when it is sent again: two messages under one key would give both away.
async fn nothing_random_comes_twice(browser: &Browser) -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    visit(browser, &proxy, true).await?;
    log_in(browser).await?;
    bank.clock.advance(STALE);
    pay(browser).await?;
    let mut drawn = Vec::new();
    for exchange in proxy.take_seen() {
        let body = exchange.request.body();
        match exchange.request.uri().path() {
            OPENING => drawn.push(serde_json::from_slice::<Value>(body)?["random"].clone()),
            SEALED => drawn.push(json!(body[..16])),
            _ => {}
        }
    }
    // Two openings, the login, and the transfer twice.
    assert_eq!(drawn.len(), 5);
    for (at, value) in drawn.iter().enumerate() {
        assert!(!drawn[..at].contains(value), "{value}");
    }
    Ok(())
}

async fn a_stale_nonce_costs_a_second_sending(browser: &Browser, sealed: bool) -> Outcome {
    let (proxy, bank, target) = logged_in(browser, sealed).await?;
    bank.clock.advance(STALE);
    pay(browser).await?;
    assert_eq!(sent(&proxy), [target; 2]);
    assert_eq!(bank.ledger.refusals(), ["nonce_stale"]);
    assert_eq!(bank.ledger.transfers().len(), 1);
    // The nonce that came with it is good for the next one, also on the next page.
    pay(browser).await?;
    assert_eq!(sent(&proxy), [target]);
    visit(browser, &proxy, sealed).await?;
    proxy.take_seen();
    pay(browser).await?;
    assert_eq!(sent(&proxy), [target]);
    Ok(())
}

async fn there_is_no_third_sending(browser: &Browser, sealed: bool) -> Outcome {
    let (proxy, bank, target) = logged_in(browser, sealed).await?;
    for _ in 0..3 {
        let clock = bank.clock.clone();
        proxy.change_request(move |request| {
            clock.advance(STALE);
            request
        });
    }
    let refused = pay(browser).await.expect_err("each nonce is stale");
    assert_eq!(refused.code(), Some("nonce_stale"));
    assert_eq!(sent(&proxy), [target; 2]);
    assert_eq!(bank.ledger.transfers(), [Value::Null; 0]);
    Ok(())
}

/// After one life of a nonce the server may have forgotten that it has had the request already.
async fn a_nonce_that_was_stale_for_long_costs_the_request(browser: &Browser) -> Outcome {
    // While the page is awake, and while the device sleeps, which the one clock may not count.
    for waits in [
        "let time = performance.now();
         window.performance.now = () => time += 61_000;",
        "const { fetch } = window;
         window.fetch = (...given) => { window.skew += 61; return fetch(...given); };",
    ] {
        let (proxy, bank, target) = logged_in(browser, true).await?;
        bank.clock.advance(STALE);
        browser.eval(waits, []).await?;
        let refused = pay(browser).await.expect_err("it took too long");
        assert_eq!(refused.code(), Some("nonce_stale"));
        assert_eq!(sent(&proxy), [target]);
    }
    Ok(())
}

/// The server has done it, and whoever is in between says that it was refused, and that the session is
/// another one's now, or none. What he hands out is not taken.
async fn what_may_have_been_done_is_not_done_again(browser: &Browser) -> Outcome {
    let (proxy, bank, _) = logged_in(browser, true).await?;
    for (at, (claimed, told, sendings)) in [
        (Code::NonceStale, "replayed", &[SEALED, SEALED][..]),
        (Code::ProofWeak, "proof_weak", &[SEALED]),
        (Code::SessionUnconfirmed, "session_unconfirmed", &[SEALED]),
        (Code::StoreUnavailable, "store_unavailable", &[SEALED]),
        (Code::SessionRevoked, "session_revoked", &[SEALED, OPENING]),
        (Code::TicketExpired, "ticket_expired", &[SEALED, OPENING]),
        (Code::TicketInvalid, "ticket_invalid", &[SEALED, OPENING]),
    ]
    .into_iter()
    .enumerate()
    {
        proxy.change_reply(move |_| generous(claimed));
        let refused = pay(browser).await.expect_err("it is said to be refused");
        assert_eq!(refused.code(), Some(told), "{claimed}");
        assert_eq!(sent(&proxy), sendings, "{claimed}");
        assert_eq!(bank.ledger.transfers().len(), at + 1, "{claimed}");
        if sendings.contains(&OPENING) {
            log_in(browser).await?;
            proxy.take_seen();
        }
    }
    Ok(())
}

/// By the server itself, under seal, and by whoever is in between: he gets nothing done twice.
async fn a_session_proof_that_is_refused_makes_the_device_prove(
    browser: &Browser,
    sealed: bool,
) -> Outcome {
    const DEVICE: &str = "return post('/api/transfer/device', { to: 'bob', amount: 7 })";
    let proxy = Proxy::start().await?;
    let origin = proxy.origin();
    let bank = Bank::open_with(|builder| builder.origin(origin).proof(ProofKind::Session)).await?;
    proxy.forward_to(bank.server.port());
    visit(browser, &proxy, sealed).await?;
    for (claimed, told, sendings) in [
        (None, None, 2),
        (Some(Code::SessionUnconfirmed), Some("replayed"), 2),
        (Some(Code::ProofWeak), Some("proof_weak"), 1),
    ] {
        // The server asks for more where more is wanted, and that is sealed.
        if claimed.is_none() && !sealed {
            continue;
        }
        log_in(browser).await?;
        // The first device proof confirms the session.
        assert_eq!(proof(browser).await?, "device");
        assert_eq!(proof(browser).await?, "session");
        let before = bank.ledger.transfers().len();
        proxy.take_seen();
        let outcome = match claimed {
            None => browser.eval(DEVICE, []).await,
            Some(claimed) => {
                proxy.change_reply(move |_| forged(claimed.because("so he says"), None));
                pay(browser).await
            }
        };
        let code = outcome
            .err()
            .and_then(|error| error.code().map(str::to_owned));
        assert_eq!(code.as_deref(), told, "{claimed:?}");
        assert_eq!(sent(&proxy).len(), sendings, "{claimed:?}, {sealed}");
        assert_eq!(bank.ledger.transfers().len(), before + 1, "{claimed:?}");
        assert_eq!(proof(browser).await?, "device", "{claimed:?}");
    }
    Ok(())
}

/// Only such a proof brings the next ticket.
async fn an_old_ticket_makes_the_device_prove(browser: &Browser) -> Outcome {
    let bank = Bank::open_with(|builder| builder.proof(ProofKind::Session)).await?;
    bank.visit(browser, json!({})).await?;
    log_in(browser).await?;
    assert_eq!(proof(browser).await?, "device");
    for (age, expected) in [(440, "session"), (460, "device")] {
        browser.eval("window.skew = args[0]", [json!(age)]).await?;
        assert_eq!(proof(browser).await?, expected, "{age}");
    }
    Ok(())
}

/// How the next request is proved.
async fn proof(browser: &Browser) -> Result<Value, BrowserError> {
    let me = "return session.fetch('/api/me').then((reply) => reply.json())";
    Ok(browser.eval(me, []).await?["proof"].clone())
}

async fn what_carries_a_request_is_as_asked(browser: &Browser) -> Outcome {
    for sealed in [true, false] {
        let (proxy, _bank, _) = logged_in(browser, sealed).await?;
        browser
            .eval(
                "document.cookie = 'choice=dark';
                 await session.fetch('/api/echo');
                 await session.fetch('/api/echo', { credentials: 'omit' });
                 await session.fetch('/api/echo', { referrerPolicy: 'no-referrer' });",
                [],
            )
            .await?;
        let seen = proxy.take_seen();
        let carried: Vec<_> = seen
            .iter()
            .map(|exchange| {
                ["cookie", "referer"].map(|name| exchange.request.headers().contains_key(name))
            })
            .collect();
        assert_eq!(
            carried,
            [[true, true], [false, true], [true, false]],
            "sealed: {sealed}"
        );
    }
    Ok(())
}

/// A refusal by whoever is in between, with all that a server hands out.
fn generous(claimed: Code) -> Response<Bytes> {
    let mut reply = forged(claimed.because("so he says"), None);
    for (name, value) in [
        ("bulla-ticket", ":AAAA:"),
        ("bulla-carry-over", ":AAAA:"),
        ("bulla-ended", "?1"),
    ] {
        let value = HeaderValue::from_static(value);
        reply.headers_mut().insert(name, value);
    }
    reply
}

/// The server has ended the old session by then: it must not be tried again, from storage either.
async fn a_login_whose_opening_is_lost_can_be_repeated(browser: &Browser) -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    visit(browser, &proxy, true).await?;
    proxy.take_seen();
    proxy.change_reply(|reply| reply);
    proxy.change_reply(|_| Response::new(Bytes::new()));
    let lost = log_in(browser).await.expect_err("there is no session");
    assert_eq!(lost.code(), Some("reply_invalid"));
    assert_eq!(sent(&proxy), [SEALED, OPENING]);
    assert_eq!(log_in(browser).await?["authenticated"], true);
    assert_eq!(sent(&proxy), [OPENING, SEALED, OPENING]);
    assert_eq!(bank.ledger.refusals(), [""; 0]);
    Ok(())
}

/// Only the server's word ends a session: without an answer nobody takes another one, which is nobody's.
async fn a_renewal_that_is_lost_keeps_the_login(browser: &Browser) -> Outcome {
    let (proxy, bank, _) = logged_in(browser, true).await?;
    browser.eval("window.skew = 86_400", []).await?;
    proxy.change_reply(|_| Response::new(Bytes::new()));
    let lost = pay(browser).await.expect_err("there is no answer");
    assert_eq!(lost.code(), Some("reply_invalid"));
    assert_eq!(sent(&proxy), [OPENING]);
    pay(browser).await?;
    assert_eq!(sent(&proxy), [OPENING, SEALED]);
    assert_eq!(bank.ledger.transfers().len(), 1);
    Ok(())
}

async fn an_opening_that_the_end_overtakes_gives_no_session(browser: &Browser) -> Outcome {
    let proxy = Proxy::start().await?;
    let _bank = bank_behind(&proxy).await?;
    visit(browser, &proxy, true).await?;
    let found = in_page(
        browser,
        "await session.fetch('/api/logout', { method: 'POST' });
         const { fetch } = window;
         window.fetch = async (...given) => {
             window.fetch = fetch;
             await session.end();
             return fetch(...given);
         };
         const asked = await session.fetch('/api/me').catch((error) => error.code);
         return [asked, session.id];",
        json!([]),
    )
    .await?;
    assert_eq!(found, json!(["session_closed", null]));
    assert!(!records(browser).await?.contains_key("session"));
    Ok(())
}

async fn an_opening_without_an_answer_keeps_no_tab_waiting(browser: &Browser) -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    load(browser, &proxy).await?;
    // Connections are made, and nobody takes them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    proxy.forward_to(silent.local_addr()?.port());
    let found = in_page(
        browser,
        "const { timeout } = AbortSignal;
         let patience;
         AbortSignal.timeout = (given) => timeout.call(AbortSignal, (patience = given) && 1);
         const opened = await bulla.open({ server: location.origin }).catch((error) => error.code);
         AbortSignal.timeout = timeout;
         return [opened, patience];",
        json!([]),
    )
    .await?;
    assert_eq!(found, json!(["network", 30_000]));

    proxy.forward_to(bank.server.port());
    assert_eq!(
        open(browser, true).await?["identity"],
        json!(bank.identity())
    );
    Ok(())
}

/// By its length, whatever time an opening has.
async fn an_answer_without_an_end_is_given_up(browser: &Browser) -> Outcome {
    let endless = || async {
        let pace = interval(Duration::from_millis(1));
        Body::from_stream(stream::unfold(pace, |mut pace| async {
            pace.tick().await;
            Some((Ok::<_, Infallible>(Bytes::from_static(&[b' '; 1024])), pace))
        }))
    };
    let routes = package()?.route("/page", page());
    let server = Server::start(routes.route(OPENING, routing::post(endless))).await?;
    browser.goto(&server.url("/page")).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    let found = in_page(
        browser,
        "AbortSignal.timeout = () => new AbortController().signal;
         return bulla.open({ server: location.origin }).catch((error) => error.code);",
        json!([]),
    )
    .await?;
    assert_eq!(found, "reply_invalid");
    Ok(())
}

/// Neither for the one that comes first, nor for that of a session which the server refuses.
async fn whoever_gives_up_waits_for_no_opening(browser: &Browser, revoked: bool) -> Outcome {
    let (_proxy, bank, _) = logged_in(browser, true).await?;
    if revoked {
        let device = browser.eval("return session.device", []).await?;
        let device = device.as_str().ok_or("no device")?.parse()?;
        bank.bulla.revoke(Revocation::Device(device)).await?;
    }
    let reason = in_page(
        browser,
        "if (!args[0]) window.skew = 86_400;
         const { fetch } = window;
         const control = new AbortController();
         window.fetch = (url, init) => {
             if (!url.endsWith('/session')) return fetch(url, init);
             control.abort('enough');
             return new Promise(() => {});
         };
         return session.fetch('/api/me', { signal: control.signal }).catch((reason) => reason);",
        json!([revoked]),
    )
    .await?;
    assert_eq!(reason, "enough", "{revoked}");
    Ok(())
}

async fn an_end_that_only_the_path_confirms_is_an_error(browser: &Browser) -> Outcome {
    let (proxy, bank, _) = logged_in(browser, true).await?;
    // Under seal the server itself says that there is nothing left to end.
    let device = browser.eval("return session.device", []).await?;
    let device = device.as_str().ok_or("no device")?.parse()?;
    bank.bulla.revoke(Revocation::Device(device)).await?;
    browser.eval("await session.end()", []).await?;
    assert!(bank.ledger.refusals().contains(&"session_revoked"));
    bank.clock.advance(2);

    for claimed in [
        Code::SessionRevoked,
        Code::TicketExpired,
        Code::TicketInvalid,
    ] {
        open(browser, true).await?;
        proxy.change_reply(move |_| forged(claimed.because("so he says"), None));
        let told = browser.eval("await session.end()", []).await;
        let told = told.expect_err("the server has not said so");
        assert_eq!(told.code(), Some(claimed.as_str()));
        let left = browser.eval("return session.id", []).await?;
        assert_eq!(left, Value::Null);
        let refused = pay(browser).await.expect_err("it has ended here");
        assert_eq!(refused.code(), Some("session_closed"), "{claimed}");
    }

    // Whoever wants to be forgotten is, too.
    open(browser, true).await?;
    proxy.change_reply(|_| forged(Code::SessionRevoked.because("so he says"), None));
    let told = browser.eval("await session.forget()", []).await;
    let told = told.expect_err("the server has not said so");
    assert_eq!(told.code(), Some("session_revoked"));
    let left = records(browser).await?;
    assert!(left.keys().eq(["identity"]), "{:?}", left.keys());
    Ok(())
}

/// The reply to a logout is on its way when the page already has its next session.
async fn a_late_end_of_an_old_session_ends_no_newer_one(browser: &Browser) -> Outcome {
    for sealed in [true, false] {
        let (proxy, _bank, _) = logged_in(browser, sealed).await?;
        let mut late = proxy.hold_reply();
        browser
            .eval(
                "window.leaving = session.fetch('/api/logout', { method: 'POST' })",
                [],
            )
            .await?;
        late.arrival().await;
        let newer = browser
            .eval(
                "const old = session.id;
                 await session.fetch('/api/me');
                 return session.id !== old && session.id",
                [],
            )
            .await?;
        assert!(newer.is_string(), "nobody has opened a newer one");
        late.let_go();
        let after = browser.eval("await leaving; return session.id", []).await?;
        assert_eq!(after, newer);
        assert_eq!(
            records(browser).await?["session"]["object"]["id"]["value"],
            newer
        );
    }
    Ok(())
}

/// A bank, a middle man who has seen nothing yet, and what he sees of a transfer.
async fn logged_in(browser: &Browser, sealed: bool) -> Outcome<(Proxy, Bank, &'static str)> {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    visit(browser, &proxy, sealed).await?;
    log_in(browser).await?;
    proxy.take_seen();
    Ok((proxy, bank, if sealed { SEALED } else { TRANSFER }))
}

async fn visit(browser: &Browser, proxy: &Proxy, sealed: bool) -> Outcome<Value> {
    load(browser, proxy).await?;
    Ok(open(browser, sealed).await?)
}

/// Loads all of the page, so that nothing but the protocol's is sent from then on.
async fn load(browser: &Browser, proxy: &Proxy) -> Outcome {
    browser.goto(&format!("{}/page", proxy.origin())).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    browser.eval("await bulla.init()", []).await?;
    Ok(())
}

/// Opens a session in the page that is there, without a pin. Returns what it tells about itself.
async fn open(browser: &Browser, sealed: bool) -> Result<Value, BrowserError> {
    browser
        .eval(
            "window.session = await bulla.open({ server: location.origin, seal: args[0] });
             return about(session);",
            [json!(sealed)],
        )
        .await
}

async fn log_in(browser: &Browser) -> Result<Value, BrowserError> {
    browser
        .eval(
            "await post('/api/login', { user: 'ann' }); return about(session)",
            [],
        )
        .await
}

async fn pay(browser: &Browser) -> Result<Value, BrowserError> {
    browser
        .eval("return post('/api/transfer', { to: 'bob', amount: 7 })", [])
        .await
}

/// The paths of what has been sent since this was last asked.
fn sent(proxy: &Proxy) -> Vec<String> {
    let seen = proxy.take_seen().into_iter();
    seen.map(|exchange| exchange.request.uri().path().to_owned())
        .collect()
}

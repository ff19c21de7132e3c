//! What stands between a browser and its server: another server, a stale nonce, lies about the fate of
//! a request. What was sent is what a middle man has seen.

use bulla_client::{Client, Code};
use bulla_server::Revocation;
use bulla_tests::attack::{Outcome, Proxy, bank_behind, forged, in_page, records};
use bulla_tests::bank::{Bank, PATIENCE};
use bulla_tests::browser::{Browser, BrowserError, Engine};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

const OPENING: &str = "/.well-known/bulla/session";
const SEALED: &str = "/.well-known/bulla/sealed";
const TRANSFER: &str = "/api/transfer";

/// Longer than a nonce is taken, shorter than a ticket lives.
const STALE: i64 = 150;

#[tokio::test(flavor = "multi_thread")]
async fn chromium() -> Outcome {
    everything_works(Engine::Chromium).await
}

#[tokio::test(flavor = "multi_thread")]
async fn firefox() -> Outcome {
    everything_works(Engine::Firefox).await
}

#[tokio::test(flavor = "multi_thread")]
async fn webkit() -> Outcome {
    everything_works(Engine::WebKit).await
}

async fn everything_works(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    the_first_identity_is_the_only_one(&browser).await?;
    for sealed in [true, false] {
        a_stale_nonce_costs_a_second_sending(&browser, sealed).await?;
        there_is_no_third_sending(&browser, sealed).await?;
    }
    a_nonce_that_was_stale_for_long_costs_the_request(&browser).await?;
    what_may_have_been_done_is_not_done_again(&browser).await?;
    a_login_whose_opening_is_lost_can_be_repeated(&browser).await?;
    an_opening_that_the_end_overtakes_gives_no_session(&browser).await?;
    an_opening_without_an_answer_keeps_no_tab_waiting(&browser).await?;
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

/// An answer that the server has given to a client without a pin.
async fn opened_by_somebody_else(proxy: &Proxy, bank: &Bank) -> Outcome<Response<Bytes>> {
    proxy.forward_to(bank.server.port());
    let http = proxy.trusting_client()?;
    let client = Client::builder(proxy.origin()).http(http).build()?;
    client.open().await?;
    let exchange = proxy.take_seen().pop().ok_or("nothing was sent")?;
    Ok(exchange.reply)
}

async fn a_stale_nonce_costs_a_second_sending(browser: &Browser, sealed: bool) -> Outcome {
    let (proxy, bank, target) = logged_in(browser, sealed).await?;
    bank.clock.advance(STALE);
    pay(browser).await?;
    assert_eq!(sent(&proxy), [target; 2]);
    assert_eq!(bank.ledger.refusals(), ["nonce_stale"]);
    assert_eq!(bank.ledger.transfers().len(), 1);
    // The nonce that came with it is good for the next one.
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
    let (proxy, bank, target) = logged_in(browser, true).await?;
    bank.clock.advance(STALE);
    browser
        .eval(
            "let time = performance.now();
             window.performance.now = () => time += 61_000;",
            [],
        )
        .await?;
    let refused = pay(browser).await.expect_err("it took too long");
    assert_eq!(refused.code(), Some("nonce_stale"));
    assert_eq!(sent(&proxy), [target]);
    Ok(())
}

/// The server has done it, and whoever is in between says that it was refused.
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
        proxy.change_reply(move |_| forged(claimed.because("so he says"), None));
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
        proxy.change_reply(|reply| reply);
    }
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

//! Two tabs of one browser: what one ends or forgets under the other, and what both do at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bulla_tests::attack::{Outcome, Proxy, bank_behind, in_page, records};
use bulla_tests::bank::{Bank, PATIENCE};
use bulla_tests::browser::{Browser, Engine, WindowHandle};
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

/// How often both tabs do the same at once: no two times are alike.
const ROUNDS: usize = 3;

const PAY: &str = "await post('/api/transfer', { to: 'bob', amount: 7 })";

bulla_tests::in_each_engine!(tabs_agree_on_one_session);

async fn tabs_agree_on_one_session(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    let tabs = [browser.tab().await?, browser.new_tab().await?];
    for forgets in [false, true] {
        what_ends_is_gone(&browser, &tabs, forgets).await?;
    }
    what_one_tab_does_shows_in_the_other(&browser, &tabs).await?;
    who_is_not_told_finds_out(&browser, &tabs).await?;
    a_late_reply_leaves_the_next_session_alone(&browser).await?;
    whoever_is_refused_meanwhile_waits_for_a_login(&browser).await?;
    an_end_takes_what_came_meanwhile(&browser).await?;
    whoever_has_ended_a_session_sends_nothing_more(&browser).await?;
    tabs_that_renew_at_once_share_a_session(&browser, &tabs).await?;
    tabs_that_log_in_at_once_share_a_session(&browser, &tabs).await?;
    browser.quit().await?;
    Ok(())
}

/// By `end` or by `forget`, in the first of two tabs.
async fn what_ends_is_gone(browser: &Browser, tabs: &[WindowHandle; 2], forgets: bool) -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    for tab in tabs {
        browser.switch(tab).await?;
        visit(browser, &proxy.origin()).await?;
    }
    browser.switch(&tabs[0]).await?;
    let before = log_in(browser).await?;
    let stored = records(browser).await?;
    assert_eq!(names(&stored), ["device", "identity", "session"]);
    let captured = capture(browser, &proxy).await?;

    let end = if forgets { "forget" } else { "end" };
    let ended = browser
        .eval(&format!("await session.{end}(); return about(session)"), [])
        .await?;
    assert_eq!(
        (&ended["id"], &ended["authenticated"]),
        (&json!(null), &json!(false))
    );
    let refused = browser.eval(PAY, []).await.expect_err("it has ended");
    assert_eq!(refused.code(), Some("session_closed"));
    let mut left = stored;
    left.remove("session");
    if forgets {
        left.remove("device");
    }
    assert_eq!(records(browser).await?, left);

    // What would have been a transfer is none.
    proxy.send(captured).await?;
    assert_eq!(bank.ledger.refusals().last(), Some(&"session_revoked"));

    // The other tab has been told. It has the old key as long as it is open.
    browser.switch(&tabs[1]).await?;
    let gone = "return session.id === null && !session.authenticated";
    browser.wait_until(gone, PATIENCE).await?;
    let refused = browser
        .eval(PAY, [])
        .await
        .expect_err("nobody is logged in");
    assert_eq!(refused.code(), Some("login_required"));
    let other = browser.eval("return about(session)", []).await?;
    assert_eq!(other["device"], before["device"]);
    assert_ne!(other["id"], before["id"]);

    // And who opens a session later.
    browser.switch(&tabs[0]).await?;
    let later = open(browser).await?;
    assert_eq!(later["authenticated"], false);
    assert_eq!(later["identity"], before["identity"]);
    assert_eq!(later["device"] == before["device"], !forgets, "{later}");
    assert_eq!(later["id"] == other["id"], !forgets, "{later}");
    assert_eq!(bank.ledger.transfers(), [Value::Null; 0]);
    Ok(())
}

/// Without a request of its own, and to whoever listens to it.
async fn what_one_tab_does_shows_in_the_other(
    browser: &Browser,
    tabs: &[WindowHandle; 2],
) -> Outcome {
    let bank = shared_by(browser, tabs).await?;
    let requests = "return performance.getEntriesByType('resource').length";
    let sent = browser.eval(requests, []).await?;
    let listen = "window.told = []; session.on('change', (about) => told.push(about))";
    browser.eval(listen, []).await?;

    let log_out = "await session.fetch('/api/logout', { method: 'POST' })";
    let open = "await session.fetch('/api/me')";
    let rotate = "await post('/api/login', { user: 'ann', rotate: true })";
    let mut told = Vec::new();
    for work in [
        "await post('/api/login', { user: 'ann' })",
        log_out,
        open,
        rotate,
        "await session.end()",
    ] {
        browser.switch(&tabs[0]).await?;
        let about = browser
            .eval(&format!("{work}; return about(session)"), [])
            .await?;
        browser.switch(&tabs[1]).await?;
        let same = format!("return session.id === {} && about(session)", about["id"]);
        let seen = browser.wait_until(&same, PATIENCE).await?;
        assert_eq!(seen, about, "{work}");
        told.push(seen);
    }
    assert_ne!(told[3]["device"], told[0]["device"]);
    for about in &mut told {
        about.as_object_mut().ok_or("no object")?.remove("identity");
    }
    assert_eq!(browser.eval("return told", []).await?, json!(told));
    assert_eq!(browser.eval(requests, []).await?, sent);
    assert_eq!(bank.ledger.refusals(), [""; 0]);

    // And it goes on from there.
    let me = "return session.fetch('/api/me').then((reply) => reply.json())";
    assert_eq!(browser.eval(me, []).await?["subject"], Value::Null);
    Ok(())
}

/// As in a tab that was asleep, or where there are no channels: it is refused, and then goes on as if it had been told.
async fn who_is_not_told_finds_out(browser: &Browser, tabs: &[WindowHandle; 2]) -> Outcome {
    let bank = Bank::open().await?;
    for tab in tabs {
        browser.switch(tab).await?;
        browser.goto(&bank.page()).await?;
        browser.wait_until("return window.bulla", PATIENCE).await?;
        browser
            .eval(
                "Object.defineProperty(window, 'BroadcastChannel', { value: undefined })",
                [],
            )
            .await?;
        open(browser).await?;
    }
    browser.switch(&tabs[0]).await?;
    log_in(browser).await?;
    browser.switch(&tabs[1]).await?;
    assert_eq!(
        browser.eval("return session.authenticated", []).await?,
        false
    );
    let me = "return session.fetch('/api/me').then((reply) => reply.json())";
    assert_eq!(browser.eval(me, []).await?["subject"], "ann");

    browser.switch(&tabs[0]).await?;
    browser.eval("await session.end()", []).await?;
    browser.switch(&tabs[1]).await?;
    let refused = browser.eval(PAY, []).await.expect_err("it has ended");
    assert_eq!(refused.code(), Some("session_revoked"));
    let refused = browser
        .eval(PAY, [])
        .await
        .expect_err("nobody is logged in");
    assert_eq!(refused.code(), Some("login_required"));
    Ok(())
}

/// A transfer that has left the browser and has never come to the server.
async fn capture(browser: &Browser, proxy: &Proxy) -> Outcome<Request<Bytes>> {
    let captured = Arc::new(Mutex::new(None));
    let capturing = captured.clone();
    proxy.change_request(move |mut request| {
        *capturing.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.clone());
        *request.body_mut() = Bytes::new();
        request
    });
    browser.eval(PAY, []).await.expect_err("it was held back");
    let captured = captured
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    Ok(captured.ok_or("nothing was sent")?)
}

/// Two sessions of one page share the store as two tabs do. One logs in while a reply to the other, which
/// hands out the next ticket, is on its way.
async fn a_late_reply_leaves_the_next_session_alone(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    visit(browser, &bank.server.origin()).await?;
    let found = in_page(
        browser,
        "const other = await bulla.open({ server: location.origin });
         const { fetch } = window;
         window.fetch = async (...given) => {
             window.fetch = fetch;
             const reply = await fetch(...given);
             const body = JSON.stringify({ user: 'ann' });
             await other.fetch('/api/login', {
                 method: 'POST', headers: { 'content-type': 'application/json' }, body,
             });
             return reply;
         };
         const same = session.id === other.id;
         await session.fetch('/api/me');
         const next = await bulla.open({ server: location.origin });
         return [same, other.authenticated, next.authenticated, next.id === other.id];",
        json!([]),
    )
    .await?;
    assert_eq!(found, json!([true, true, true, true]));
    Ok(())
}

/// Else a tab that the login has taken the session from would put one of nobody's in its place.
async fn whoever_is_refused_meanwhile_waits_for_a_login(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    visit(browser, &bank.server.origin()).await?;
    let found = in_page(
        browser,
        "const other = await bulla.open({ server: location.origin });
         const { fetch } = window;
         let asking;
         window.fetch = async (url, init) => {
             if (!url.endsWith('/session')) return fetch(url, init);
             window.fetch = fetch;
             asking = other.fetch('/api/me').then((reply) => reply.json());
             while ((await navigator.locks.query()).pending.length === 0);
             return fetch(url, init);
         };
         await post('/api/login', { user: 'ann' });
         const { subject, id } = await asking;
         return [subject, id === session.id];",
        json!([]),
    )
    .await?;
    assert_eq!(found, json!(["ann", true]));
    assert_eq!(bank.ledger.refusals(), ["session_revoked"]);
    Ok(())
}

/// Whoever ends a session while it is logged in keeps nothing of the one that came of that.
async fn an_end_takes_what_came_meanwhile(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    visit(browser, &bank.server.origin()).await?;
    let found = in_page(
        browser,
        "const { fetch } = window;
         window.fetch = async (...given) => {
             window.fetch = fetch;
             await post('/api/login', { user: 'ann' });
             return fetch(...given);
         };
         await session.end();
         return session.id;",
        json!([]),
    )
    .await?;
    assert_eq!(found, Value::Null);
    assert!(!records(browser).await?.contains_key("session"));
    Ok(())
}

/// Neither in a session that another tab has opened since, nor for one that a login would open.
async fn whoever_has_ended_a_session_sends_nothing_more(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    visit(browser, &bank.server.origin()).await?;
    let found = in_page(
        browser,
        "const { fetch } = window;
         window.fetch = async (...given) => {
             window.fetch = fetch;
             await session.end();
             window.other = await bulla.open({ server: location.origin });
             return fetch(...given);
         };
         const asked = await session.fetch('/api/me').catch((error) => error.code);
         window.session = other;
         window.fetch = async (...given) => {
             window.fetch = fetch;
             const reply = await fetch(...given);
             await session.end();
             return reply;
         };
         const login = await post('/api/login', { user: 'ann' }).catch((error) => error.code);
         return [asked, login, openings()];",
        json!([]),
    )
    .await?;
    assert_eq!(found, json!(["session_closed", "session_closed", 2]));
    Ok(())
}

fn names(records: &BTreeMap<String, Value>) -> Vec<&str> {
    records.keys().map(String::as_str).collect()
}

/// By their own clock, the ticket of both is at its end.
async fn tabs_that_renew_at_once_share_a_session(
    browser: &Browser,
    tabs: &[WindowHandle; 2],
) -> Outcome {
    let bank = shared_by(browser, tabs).await?;
    browser.switch(&tabs[0]).await?;
    log_in(browser).await?;
    for round in 1..=ROUNDS {
        let found = at_once(
            browser,
            tabs,
            &format!("window.skew = {};", round * 1000),
            "const before = openings();
             const me = () => session.fetch('/api/me').then((reply) => reply.json());
             const [receipt, one, two] = await Promise.all([
               post('/api/transfer', { to: 'bob', amount: 7 }), me(), me(),
             ]);
             return { paid: receipt.receipt.amount, one, two, openings: openings() - before };",
        )
        .await?;
        let id = &found[0]["one"]["id"];
        for seen in &found {
            assert_eq!(seen["paid"], 7);
            for me in [&seen["one"], &seen["two"]] {
                assert_eq!(
                    (&me["id"], &me["subject"]),
                    (id, &json!("ann")),
                    "{found:?}"
                );
            }
        }
        assert_eq!(openings(&found), 1, "{found:?}");
        assert_eq!(bank.ledger.transfers().len(), 2 * round);
    }
    assert_eq!(bank.ledger.refusals(), [""; 0]);
    Ok(())
}

/// A login ends the session under the other's, which is told so and tries again.
async fn tabs_that_log_in_at_once_share_a_session(
    browser: &Browser,
    tabs: &[WindowHandle; 2],
) -> Outcome {
    for _ in 0..ROUNDS {
        let _bank = shared_by(browser, tabs).await?;
        let found = at_once(
            browser,
            tabs,
            "",
            "const before = openings();
             let refused = 0;
             const log_in = async () => {
               try {
                 return await post('/api/login', { user: 'ann' });
               } catch (error) {
                 if (error.code !== 'session_revoked') throw error;
                 refused += 1;
                 return log_in();
               }
             };
             const { hello } = await log_in();
             return { hello, refused, openings: openings() - before };",
        )
        .await?;
        for seen in &found {
            assert_eq!(seen["hello"], "ann");
            assert!(seen["refused"].as_u64() <= Some(1), "{found:?}");
        }
        assert!(openings(&found) <= 3, "{found:?}");
        let mut sessions = Vec::new();
        for tab in tabs {
            browser.switch(tab).await?;
            let me = "return session.fetch('/api/me').then((reply) => reply.json())";
            sessions.push(browser.eval(me, []).await?);
        }
        assert_eq!(sessions[0], sessions[1]);
        assert_eq!(sessions[0]["subject"], "ann");
    }
    Ok(())
}

fn openings(found: &[Value; 2]) -> u64 {
    found
        .iter()
        .filter_map(|seen| seen["openings"].as_u64())
        .sum()
}

/// A bank with which both tabs have the same session.
async fn shared_by(browser: &Browser, tabs: &[WindowHandle; 2]) -> Outcome<Bank> {
    let bank = Bank::open().await?;
    for tab in tabs {
        browser.switch(tab).await?;
        visit(browser, &bank.server.origin()).await?;
    }
    Ok(bank)
}

async fn visit(browser: &Browser, origin: &str) -> Outcome<Value> {
    browser.goto(&format!("{origin}/page")).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    open(browser).await
}

async fn open(browser: &Browser) -> Outcome<Value> {
    Ok(browser
        .eval(
            "window.session = await bulla.open({ server: location.origin });
             return about(session);",
            [],
        )
        .await?)
}

async fn log_in(browser: &Browser) -> Outcome<Value> {
    Ok(browser
        .eval(
            "await post('/api/login', { user: 'ann' }); return about(session)",
            [],
        )
        .await?)
}

/// Runs `first` in each tab, then `work` in both at the same moment. Returns what it gives in each.
async fn at_once(
    browser: &Browser,
    tabs: &[WindowHandle; 2],
    first: &str,
    work: &str,
) -> Outcome<[Value; 2]> {
    let prepare = format!(
        "{first}
         window.outcome = undefined;
         window.start = () => {{ window.outcome = (async () => {{ {work} }})(); }};
         window.channel?.close();
         window.channel = new BroadcastChannel('test');
         channel.onmessage = start;"
    );
    for tab in tabs {
        browser.switch(tab).await?;
        browser.eval(&prepare, []).await?;
    }
    browser
        .eval("channel.postMessage('now'); start()", [])
        .await?;
    let mut found = [Value::Null, Value::Null];
    for (found, tab) in found.iter_mut().zip(tabs) {
        browser.switch(tab).await?;
        browser
            .wait_until("return window.outcome !== undefined", PATIENCE)
            .await?;
        *found = browser.eval("return outcome", []).await?;
    }
    Ok(found)
}

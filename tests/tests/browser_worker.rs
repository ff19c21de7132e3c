//! Isolated sessions: those that live in a worker of their own, in real browsers.

use std::io;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::routing::get;
use bulla_server::{Bulla, Cookies, Identity, MemoryStore, SystemRandom};
use bulla_tests::attack::{Outcome, TAKE_STORAGE, in_page};
use bulla_tests::bank::{Bank, PATIENCE, package};
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::serve::{Server, bytes, html};
use serde_json::{Value, json};
use tower_http::set_header::SetResponseHeaderLayer;

bulla_tests::in_each_engine!(an_isolated_session_does_what_one_in_the_page_does);

async fn an_isolated_session_does_what_one_in_the_page_does(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    for seal in [true, false] {
        let bank = Bank::open().await?;
        visit(&browser, &bank, json!({ "seal": seal })).await?;
        it_does_what_the_platform_does(&browser, seal).await?;
        the_server_sees_that_the_page_gives_up(&browser, &bank).await?;
        pieces_come_as_they_are_read(&browser).await?;
        it_can_be_installed(&browser).await?;
    }
    errors_cross_as_what_they_are(&browser).await?;
    the_page_hears_what_the_worker_knows(&browser).await?;
    proofs_are_made_in_the_worker(&browser).await?;
    nothing_but_the_given_paths_is_reached(&browser).await?;
    the_handle_tells_how_the_session_stands(&browser).await?;
    a_login_lasts_as_long_as_its_page(&browser).await?;
    a_bound_cookie_outlives_the_page(&browser).await?;
    what_has_ended_stays_ended(&browser).await?;
    a_worker_that_dies_takes_its_session_along(&browser).await?;
    replies_that_nobody_reads_are_stopped(&browser).await?;
    options_are_checked_in_the_worker(&browser).await?;
    the_worker_can_be_handed_in(&browser).await?;
    the_policies_in_the_docs_hold(&browser).await?;
    browser.quit().await?;
    Ok(())
}

/// Loads the bank's page, and opens an isolated session as `window.session`.
async fn visit(browser: &Browser, bank: &Bank, options: Value) -> Outcome<Value> {
    browser.goto(&bank.page()).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    open(browser, bank, options).await
}

/// As [`visit`], in the page that is there.
async fn open(browser: &Browser, bank: &Bank, options: Value) -> Outcome<Value> {
    let pinned =
        json!({ "server": bank.server.origin(), "identity": bank.identity(), "paths": ["/api/"] });
    in_page(
        browser,
        "window.isolated = await import('/npm/worker.js');
         window.session = await isolated.open({ ...args[0], ...args[1] });
         return about(session);",
        json!([pinned, options]),
    )
    .await
}

/// The code that a script fails with, if it is one of the package's errors.
async fn code(browser: &Browser, script: &str) -> Outcome<String> {
    let refused = browser.eval(script, []).await.expect_err(script);
    let thrown = refused.thrown().ok_or(script)?;
    Ok(format!(
        "{} {}",
        thrown.name,
        thrown.code.as_deref().unwrap_or_default()
    ))
}

async fn it_does_what_the_platform_does(browser: &Browser, seal: bool) -> Outcome {
    let found = browser
        .eval(
            include_str!("pages/fetch.js"),
            [json!("/twin"), json!("/api"), json!(seal)],
        )
        .await?;
    assert!(found["cases"].as_u64() > Some(80), "{found}");
    assert_eq!(
        found["differences"],
        json!([]),
        "sealed: {seal}\n{:#}",
        found["differences"]
    );
    Ok(())
}

async fn it_can_be_installed(browser: &Browser) -> Outcome {
    let found = in_page(
        browser,
        "const { install } = await import('/npm/install.js');
         const byXhr = (method, path, body) => new Promise((resolve) => {
           const told = { up: [], down: [] };
           const add = (list) => ({ loaded, total, lengthComputable }) => list.push([loaded, total, lengthComputable]);
           const xhr = new XMLHttpRequest();
           if (body) xhr.upload.onprogress = add(told.up);
           xhr.onprogress = add(told.down);
           xhr.open(method, path);
           xhr.onloadend = () => resolve({ ...told, status: xhr.status, text: xhr.responseText });
           xhr.send(body);
         });
         const byFetch = async (path, init) => {
           const reply = await fetch(path, init);
           return [reply.status, reply.url, await reply.text()];
         };
         const uninstall = install(session, { paths: ['/api/'] });
         const found = {
           sent: await byXhr('POST', '/api/mirror', 'by XHR'),
           asked: await byXhr('GET', '/api/form'),
           fetched: await byFetch('/api/mirror', { method: 'POST', body: 'by fetch' }),
           elsewhere: await byFetch('/twin/form').then(([status]) => status),
         };
         uninstall();
         found.after = await byFetch('/api/form').then(([status]) => status);
         found.url = location.origin + '/api/mirror';
         return found;",
        json!([]),
    )
    .await?;
    let form = "one=1&two=2+%26+3";
    let whole = json!([[form.len(), form.len(), true]]);
    assert_eq!(
        found,
        json!({
            "sent": { "up": [[6, 6, true]], "down": [[6, 6, true]], "status": 200, "text": "by XHR" },
            "asked": { "up": [], "down": whole, "status": 200, "text": form },
            "fetched": [200, found["url"], "by fetch"],
            "elsewhere": 200,
            "after": 401,
            "url": found["url"],
        })
    );
    Ok(())
}

async fn the_server_sees_that_the_page_gives_up(browser: &Browser, bank: &Bank) -> Outcome {
    // Before there is a reply.
    browser
        .eval(
            "window.control = new AbortController();
             window.fetching = session.fetch('/api/wait', { method: 'POST', signal: control.signal })
               .catch((reason) => reason);",
            [],
        )
        .await?;
    bank.ledger.until_open_streams(1).await?;
    let reason = browser
        .eval("control.abort('enough'); return fetching", [])
        .await?;
    assert_eq!(reason, "enough");
    bank.ledger.until_open_streams(0).await?;

    // While the reply is read, by the signal, by the reader and by the stream; and while none is wanted.
    for (give_up, ends) in [
        ("control.abort('enough')", "enough"),
        ("await reader.cancel()", "done"),
        (
            "reader.releaseLock(); await reply.body.cancel()",
            "TypeError",
        ),
        (
            "window.reading = reader.read(); control.abort('enough'); await reading.catch(() => {})",
            "enough",
        ),
    ] {
        browser
            .eval(
                "window.control = new AbortController();
                 window.reply = await session.fetch('/api/ticks/1000000/20', { signal: control.signal });
                 window.reader = reply.body.getReader();
                 await reader.read();",
                [],
            )
            .await?;
        bank.ledger.until_open_streams(1).await?;
        browser.eval(give_up, []).await?;
        bank.ledger.until_open_streams(0).await?;
        let found = browser
            .eval(
                "try {
                   for (;;) if ((await reader.read()).done) return 'done';
                 } catch (reason) { return reason.name ?? reason }",
                [],
            )
            .await?;
        assert_eq!(found, ends, "{give_up}");
    }
    Ok(())
}

/// The server goes on with a download when it hears how far the reader has come; and the page is sent a piece when it asks
/// for one: neither half gathers what the application has not read.
async fn pieces_come_as_they_are_read(browser: &Browser) -> Outcome {
    let found = in_page(
        browser,
        "const { enqueue } = ReadableStreamDefaultController.prototype;
         let length = 0, wrong = 0, read = 0, came = 0, ahead;
         ReadableStreamDefaultController.prototype.enqueue = function (piece) {
           if (piece.length > 1000) came += 1;
           return enqueue.call(this, piece);
         };
         const told = [];
         const reader = (await session.fetch('/api/bytes/16')).body.getReader();
         for (let piece; !(piece = await reader.read()).done;) {
           read += 1;
           const before = length;
           for (const byte of piece.value) wrong += byte !== Math.imul(length++, 0x9e3779b1) >>> 24;
           if (before >> 20 !== length >> 20) told.push(post('/api/taken', length));
           if (read !== 3) continue;
           // There is more at hand, and time for it to come.
           await session.fetch('/api/me').then((reply) => reply.json());
           ahead = came - read;
         }
         ReadableStreamDefaultController.prototype.enqueue = enqueue;
         await Promise.all(told);
         return { length, wrong, ahead };",
        json!([]),
    )
    .await?;
    assert_eq!(found, json!({ "length": 16 << 20, "wrong": 0, "ahead": 0 }));
    Ok(())
}

async fn errors_cross_as_what_they_are(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    visit(browser, &bank, json!({})).await?;
    let told = in_page(
        browser,
        "const error = await post('/api/transfer', { to: 'bob', amount: 1 }).catch((error) => error);
         const { name, code, message, status } = error;
         return { isOurs: error instanceof isolated.BullaError, isAnError: error instanceof Error,
                  name, code, isTold: message.length > 0, status, own: Object.keys(error).includes('stack') };",
        json!([]),
    )
    .await?;
    assert_eq!(
        told,
        json!({ "isOurs": true, "isAnError": true, "name": "BullaError", "code": "login_required",
                "isTold": true, "status": 401, "own": false })
    );

    // A reply that breaks off, with its session.
    browser
        .eval(
            "window.reader = (await session.fetch('/api/ticks/1000000/20')).body.getReader();
             await reader.read();
             await session.fetch('/api/logout', { method: 'POST' });",
            [],
        )
        .await?;
    let cut = "for (;;) if ((await reader.read()).done) break;";
    assert_eq!(code(browser, cut).await?, "BullaError reply_truncated");

    // No answer at all.
    drop(bank);
    let lost = "await session.fetch('/api/me')";
    assert_eq!(code(browser, lost).await?, "BullaError network");
    Ok(())
}

/// What is not for the worker alone.
async fn the_page_hears_what_the_worker_knows(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    visit(browser, &bank, json!({})).await?;
    let heard = in_page(
        browser,
        "const changes = [], events = [], deaf = [], up = [], down = [];
         const unlisten = [session.on('change', (about) => changes.push(about)), session.on('change', () => deaf.push('change')),
           session.on('event', ({ type, path }) => events.push(`${type} ${path}`)), session.on('event', () => deaf.push('event'))];
         const ended = new Promise((resolve) => { session.on('change', ({ id }) => id ?? resolve()); });
         unlisten[1]();
         unlisten[3]();
         const before = session.id;
         await post('/api/login', { user: 'ann' });
         const body = 'a'.repeat(300_000);
         await session.fetch('/api/echo', {
           method: 'POST', body, onUploadProgress: (told) => up.push(told), onDownloadProgress: (told) => down.push(told),
         }).then((reply) => reply.text());
         unlisten[2]();
         const count = events.length;
         await post('/api/echo', {});
         const { id } = session;
         await session.end();
         await ended;
         const wrong = [['none', () => {}], ['event', 'none'], []].map((given) => {
           try { session.on(...given) } catch (error) { return error.name }
         });
         return {
           ids: changes.map((about) => [before, id, null].indexOf(about.id)),
           says: changes.map(({ authenticated }) => authenticated),
           has: Object.keys(changes[0]).sort(),
           isSigned: events.includes('signing /api/login'), isQuiet: events.length === count, deaf, wrong,
           uploaded: up.at(-1), isDown: down.length > 0 && down.at(-1).loaded > body.length,
         };",
        json!([]),
    )
    .await?;
    assert_eq!(
        heard,
        json!({
            "ids": [1, 2], "says": [true, false], "has": ["authenticated", "device", "id", "storage"],
            "isSigned": true, "isQuiet": true, "deaf": [], "wrong": ["TypeError", "TypeError", "TypeError"],
            "uploaded": { "loaded": 300_000, "total": 300_000, "lengthComputable": true }, "isDown": true,
        })
    );

    open(browser, &bank, json!({})).await?;
    let heard = in_page(
        browser,
        "const source = session.events('/api/ticks/3/10');
         const heard = [];
         source.onmessage = ({ data }) => heard.push(data);
         await new Promise((resolve) => { source.onerror = resolve; });
         source.close();
         return [heard, new URL(source.url).pathname];",
        json!([]),
    )
    .await?;
    assert_eq!(heard, json!([["0", "1", "2"], "/api/ticks/3/10"]));
    Ok(())
}

/// DPoP proofs (RFC 9449), for what the page means by a URL.
async fn proofs_are_made_in_the_worker(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    visit(browser, &bank, json!({})).await?;
    let found = in_page(
        browser,
        "const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (byte) => byte.charCodeAt(0));
         const read = (part) => JSON.parse(new TextDecoder().decode(bytes(part)));
         const told = [];
         for (const url of ['api/me?a#b', new URL('/api/me', location.href), 'https://elsewhere.example/']) {
           const proof = await session.dpop({ url, method: 'POST', nonce: 'a' });
           const [header, payload, signature] = proof.split('.');
           const { jwk, typ } = read(header);
           const how = { name: 'ECDSA', hash: 'SHA-256', namedCurve: 'P-256' };
           const key = await crypto.subtle.importKey('jwk', jwk, how, true, ['verify']);
           const signed = new TextEncoder().encode(`${header}.${payload}`);
           const { htm, htu, nonce } = read(payload);
           told.push([typ, htm, htu.replace(location.origin, ''), nonce, await crypto.subtle.verify(how, key, bytes(signature), signed)]);
         }
         const refused = await session.dpop({ url: 'http://[', method: 'GET' }).catch(({ code }) => code);
         return [told, refused];",
        json!([]),
    )
    .await?;
    let told = |htu| json!(["dpop+jwt", "POST", htu, "a", true]);
    let all = ["/api/me", "/api/me", "https://elsewhere.example/"].map(told);
    assert_eq!(found, json!([all, "request_invalid"]));
    Ok(())
}

async fn nothing_but_the_given_paths_is_reached(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    let except = ["/api/transfer", "/api/echo", "/api/a%20b", "/api/%C3%BC"];
    let scope = json!({ "paths": ["/api/"], "except": except });
    visit(browser, &bank, scope).await?;
    browser
        .eval("await post('/api/login', { user: 'ann' })", [])
        .await?;
    for call in [
        "'/api/transfer', { method: 'POST', body: '{}' }",
        "'/api/transfer/device', { method: 'POST', body: '{}' }",
        "'/api/me/../transfer'",
        "'/api//transfer'",
        "'/api/x/..;/transfer'",
        "'/api/%74ransfer'",
        "'/api/%61%20b'",
        "'/api/%c3%bc'",
        "'/api/%2e%2e/npm/worker.js'",
        "'/page'",
        "'/apix'",
        "'/API/me'",
        "'/.well-known/bulla/session', { method: 'DELETE' }",
        // And by a redirect.
        "'/api/elsewhere/307', { method: 'POST', body: 'again' }",
        "'https://example.com/api/me'",
    ] {
        let refused = code(browser, &format!("await session.fetch({call})")).await?;
        assert_eq!(refused, "BullaError request_invalid", "{call}");
    }
    assert_eq!(bank.ledger.transfers().len(), 0);
    let me = browser
        .eval(
            "return session.fetch('/api/me').then((reply) => reply.json())",
            [],
        )
        .await?;
    assert_eq!(me["subject"], "ann");
    Ok(())
}

async fn the_handle_tells_how_the_session_stands(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    let opened = visit(browser, &bank, json!({})).await?;
    assert_eq!(opened["authenticated"], false);
    assert_eq!(opened["storage"], "indexeddb");
    assert_eq!(opened["identity"], json!(bank.identity()));
    let found = browser
        .eval(
            "await post('/api/login', { user: 'ann', rotate: true });
             return { ...about(session), isConstructed: session instanceof isolated.Session, origin: session.origin };",
            [],
        )
        .await?;
    assert_eq!(found["authenticated"], true);
    assert_eq!(found["isConstructed"], true);
    assert_eq!(found["origin"], json!(bank.server.origin()));
    assert_ne!(found["id"], opened["id"]);
    assert_ne!(found["device"], opened["device"]);
    let me = browser
        .eval(
            "return session.fetch('/api/me').then((reply) => reply.json())",
            [],
        )
        .await?;
    assert_eq!((&me["id"], &me["subject"]), (&found["id"], &json!("ann")));
    // To the server, the worker has asked.
    let referer = browser
        .eval(
            "return session.fetch('/api/echo').then((reply) => reply.json()).then(({ fields }) => fields.referer)",
            [],
        )
        .await?;
    assert_eq!(referer, json!(bank.server.url("/npm/isolated.js")));
    Ok(())
}

/// Nothing of the session is stored: two that are open are two, and the next page has to log in again.
async fn a_login_lasts_as_long_as_its_page(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    let opened = visit(browser, &bank, json!({})).await?;
    browser
        .eval(
            "await post('/api/login', { user: 'ann' }); window.before = session;",
            [],
        )
        .await?;
    assert_eq!(kept(browser, &bank).await?, ["device", "identity"]);

    let beside = open(browser, &bank, json!({})).await?;
    assert_eq!(beside["device"], opened["device"]);
    assert_eq!(beside["authenticated"], false);
    assert_eq!(browser.eval("return before.authenticated", []).await?, true);

    let after = visit(browser, &bank, json!({})).await?;
    assert_eq!(after["device"], opened["device"]);
    assert_eq!(after["authenticated"], false);
    assert_eq!(bank.ledger.refusals(), [""; 0]);
    Ok(())
}

/// The kinds of records that the page's storage has of this bank.
async fn kept(browser: &Browser, bank: &Bank) -> Outcome<Vec<String>> {
    let storage = in_page(browser, TAKE_STORAGE, json!([])).await?;
    let records = storage["databases"][0]["stores"][0]["records"].as_array();
    let keys = records.ok_or("nothing is stored")?.iter();
    let keys = keys.filter_map(|record| record["key"].as_str());
    let suffix = format!(" {}", bank.server.origin());
    Ok(keys
        .filter_map(|key| key.strip_suffix(&suffix))
        .map(str::to_owned)
        .collect())
}

/// Since it is the device's, and the device key is kept.
async fn a_bound_cookie_outlives_the_page(browser: &Browser) -> Outcome {
    let readable = Vec::new();
    let bank = Bank::open_with(|builder| builder.cookies(Cookies::HttpOnly { readable })).await?;
    let me = "return session.fetch('/api/cookie/me').then((reply) => reply.status)";
    visit(browser, &bank, json!({})).await?;
    assert_eq!(browser.eval(me, []).await?, 401);
    browser
        .eval("await post('/api/cookie/login', { user: 'ann' })", [])
        .await?;
    assert_eq!(browser.eval(me, []).await?, 200);
    visit(browser, &bank, json!({})).await?;
    assert_eq!(browser.eval(me, []).await?, 200);
    Ok(())
}

async fn what_has_ended_stays_ended(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    let opened = visit(browser, &bank, json!({})).await?;
    let ended = browser
        .eval(
            "await post('/api/login', { user: 'ann' });
             await Promise.all([session.end(), session.end()]);
             await session.end();
             return about(session);",
            [],
        )
        .await?;
    assert_eq!(
        (&ended["id"], &ended["authenticated"], &ended["device"]),
        (&Value::Null, &json!(false), &opened["device"])
    );
    for late in ["fetch('/api/me')", "forget()"] {
        let refused = code(browser, &format!("await session.{late}")).await?;
        assert_eq!(refused, "BullaError session_closed", "{late}");
    }
    let again = open(browser, &bank, json!({})).await?;
    assert_eq!(again["device"], opened["device"]);
    browser.eval("await session.forget()", []).await?;
    assert_eq!(kept(browser, &bank).await?, ["identity"]);
    let new = open(browser, &bank, json!({})).await?;
    assert_ne!(new["device"], opened["device"]);
    Ok(())
}

async fn a_worker_that_dies_takes_its_session_along(browser: &Browser) -> Outcome {
    const HANDED_IN: &str = "
        window.isolated = await import('/npm/worker.js');
        window.worker = new Worker('/npm/isolated.js', { type: 'module' });
        window.session = await isolated.open({ server: location.origin, paths: ['/api/'], worker });";
    let bank = Bank::open().await?;
    for death in [
        "worker.terminate()",
        "worker.dispatchEvent(new Event('error'))",
    ] {
        browser.goto(&bank.page()).await?;
        browser.wait_until("return window.bulla", PATIENCE).await?;
        in_page(browser, HANDED_IN, json!([])).await?;
        browser
            .eval(
                "window.told = (error) => `${error.name} ${error.code}`;
                 window.waiting = session.fetch('/api/wait').catch(told);
                 window.reader = (await session.fetch('/api/ticks/1000000/20')).body.getReader();
                 window.reading = (async () => { while (!(await reader.read()).done); })().catch(told);",
                [],
            )
            .await?;
        bank.ledger.until_open_streams(2).await?;
        browser.eval(death, []).await?;
        let found = browser
            .eval(
                "const late = session.fetch('/api/me').catch(told);
                 return [await waiting, await reading, await late, session.id, await session.end().catch(told)];",
                [],
            )
            .await?;
        let gone = "BullaError session_closed";
        assert_eq!(found, json!([gone, gone, gone, null, gone]), "{death}");
        bank.ledger.until_open_streams(0).await?;
        open(browser, &bank, json!({})).await?;
        browser.eval("await session.fetch('/api/me')", []).await?;
    }
    Ok(())
}

/// As the platform stops its own, when an engine collects what nobody can reach. Engines take what a stray value looks like
/// an address of for reachable: two may stay. Nothing makes WebKit collect at all; there they end with the session.
async fn replies_that_nobody_reads_are_stopped(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    visit(browser, &bank, json!({})).await?;
    // The signal outlives the replies.
    in_page(
        browser,
        "window.control = new AbortController();
         for (let at = 0; at < 4; at += 1) {
           const reply = await session.fetch('/api/ticks/1000000/20', { signal: control.signal });
           await reply.body.getReader().read();
         }",
        json!([]),
    )
    .await?;
    bank.ledger.until_open_streams(4).await?;
    if browser.engine() == Engine::WebKit {
        browser.eval("await session.end()", []).await?;
        bank.ledger.until_open_streams(0).await?;
        return Ok(());
    }
    // Engines look for what nobody can reach when there is much of it, and tell of it when there is nothing else to do.
    let waste = "const waste = [];
        for (let at = 0; at < 50; at += 1) waste.push(new Array(100000).fill({}));
        await new Promise((done) => setTimeout(done));";
    let mut stopped = std::pin::pin!(bank.ledger.until_open_streams_are(0..=2));
    loop {
        tokio::select! {
            left = &mut stopped => break Ok(left?),
            wasted = browser.eval(waste, []) => { wasted?; }
        }
    }
}

async fn options_are_checked_in_the_worker(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    browser.goto(&bank.page()).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    for options in [
        "undefined",
        "{ server: location.origin }",
        "{ server: location.origin, paths: '/api/' }",
        "{ server: location.origin, paths: ['api'] }",
        "{ server: location.origin, paths: ['/api/'], except: ['/api/%2E'] }",
        "{ server: location.origin, paths: ['/api/'], except: ['/api/a;b/'] }",
        "{ server: location.origin, paths: ['/api/', '/b//c'] }",
        "{ server: location.origin, paths: ['/api/'], pin: 'misspelt' }",
        "{ server: location.origin, paths: ['/api/'], identity: 'none' }",
        "{ server: location.origin, paths: ['/api/'], seal: () => true }",
        "{ server: location.origin + '/api', paths: ['/api/'] }",
        "{ paths: ['/api/'] }",
    ] {
        let refused = in_page(
            browser,
            &format!(
                "const {{ open }} = await import('/npm/worker.js');
                 return open({options}).catch(({{ code }}) => code);"
            ),
            json!([]),
        )
        .await?;
        assert_eq!(refused, "request_invalid", "{options}");
    }
    Ok(())
}

/// For whoever's bundler loses it: the worker, or where it is. Anything else is no session's worker.
async fn the_worker_can_be_handed_in(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    for worker in [
        "new Worker('/npm/isolated.js', { type: 'module' })",
        "'/npm/isolated.js'",
        "new URL('/npm/isolated.js', location.href)",
    ] {
        browser.goto(&bank.page()).await?;
        browser.wait_until("return window.bulla", PATIENCE).await?;
        let found = in_page(
            browser,
            &format!(
                "const {{ open }} = await import('/npm/worker.js');
                 const session = await open({{ server: location.origin, paths: ['/api/'], worker: {worker} }});
                 return session.fetch('/api/me').then((reply) => reply.status);"
            ),
            json!([]),
        )
        .await?;
        assert_eq!(found, 200, "{worker}");
    }
    for worker in [
        "'/npm/none.js'",
        "'https://example.com/isolated.js'",
        "'http://['",
    ] {
        let found = in_page(
            browser,
            &format!(
                "const {{ open }} = await import('/npm/worker.js');
                 return open({{ server: location.origin, paths: ['/api/'], worker: {worker} }}).catch(({{ code }}) => code);"
            ),
            json!([]),
        )
        .await?;
        assert_eq!(found, "unsupported", "{worker}");
    }
    Ok(())
}

const DOCS: &str = include_str!("../../docs/isolation.md");

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A page under a policy</title>
<script type="module" src="/main.js"></script>
"#;

const SCRIPT: &str = r#"
import { open } from "/npm/worker.js";

try {
  const session = await open({ server: location.origin, paths: ["/me"] });
  const reply = await session.fetch("/me");
  window.outcome = { told: await reply.text() };
} catch ({ code, message }) {
  window.outcome = { code: code ?? message };
}
"#;

/// The page goes by one policy, and the worker by the one that comes with its script.
async fn the_policies_in_the_docs_hold(browser: &Browser) -> Outcome {
    let mut blocks = DOCS.split("```csp\n").skip(1);
    let mut policy = || blocks.next()?.split_once("\n```").map(|(policy, _)| policy);
    let (page, worker) = (
        policy().ok_or("no policy")?,
        policy().ok_or("no second one")?,
    );
    let both = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'";
    let works = json!({ "told": "here" });
    let refused = json!({ "code": "unsupported" });
    for (page, worker, outcome) in [
        (page.to_owned(), worker.to_owned(), &works),
        (both.to_owned(), both.to_owned(), &works),
        (
            page.replace("worker-src 'self';", ""),
            worker.to_owned(),
            &works,
        ),
        (
            page.replace("worker-src 'self'", "worker-src 'none'"),
            worker.to_owned(),
            &refused,
        ),
        (
            page.replace("trusted-types bulla", "trusted-types other"),
            worker.to_owned(),
            &refused,
        ),
        (
            page.to_owned(),
            worker.replace(" 'wasm-unsafe-eval'", " 'self'"),
            &refused,
        ),
        (
            page.to_owned(),
            worker.replace("connect-src 'self'", ""),
            &refused,
        ),
        // Where any name is allowed, and where no Trusted Type is needed.
        (
            page.replace("trusted-types bulla", ""),
            worker.to_owned(),
            &works,
        ),
        (
            page.replace(
                "require-trusted-types-for 'script'; trusted-types bulla",
                "trusted-types other",
            ),
            worker.to_owned(),
            &works,
        ),
    ] {
        let server = server_under(&page, &worker).await?;
        browser.goto(&server.url("/page")).await?;
        let found = browser
            .wait_until("return window.outcome", PATIENCE)
            .await?;
        assert_eq!(found, *outcome, "{page}, and {worker}");
    }
    Ok(())
}

/// An application, its page and the package.
async fn server_under(page: &str, worker: &str) -> io::Result<Server> {
    let header = |policy: &str| HeaderValue::from_str(policy).map_err(io::Error::other);
    let (page, worker) = (header(page)?, header(worker)?);
    Server::start_with(|origin| {
        let bulla = Bulla::builder()
            .origin(origin)
            .identity(Identity::generate(&SystemRandom).map_err(io::Error::other)?)
            .store(MemoryStore::new().map_err(io::Error::other)?)
            .build()
            .map_err(io::Error::other)?;
        let application = Router::new().route("/me", get(|| async { "here" }));
        let under = |policy| SetResponseHeaderLayer::overriding(CONTENT_SECURITY_POLICY, policy);
        let pages = Router::new().route("/page", html(PAGE)).layer(under(page));
        let scripts = package()?
            .route("/main.js", bytes("text/javascript", SCRIPT))
            .layer(under(worker));
        Ok(bulla.protect(application).merge(pages).merge(scripts))
    })
    .await
}

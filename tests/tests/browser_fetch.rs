//! `session.fetch` beside the platform's own `fetch`, in real browsers.

use bulla_tests::bank::{Bank, PATIENCE};
use bulla_tests::browser::{Browser, Engine};
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::in_each_engine!(fetch_does_what_the_platforms_does);

async fn fetch_does_what_the_platforms_does(engine: Engine) -> Outcome {
    let bank = Bank::open().await?;
    let browser = Browser::launch(engine).await?;
    for sealed in [true, false] {
        bank.visit(&browser, json!({ "seal": sealed })).await?;
        it_does_what_the_platform_does(&browser, sealed).await?;
        it_encodes_what_no_target_may_hold(&browser).await?;
        it_refuses_what_cannot_be_carried(&browser).await?;
        nothing_comes_from_the_cache(&browser).await?;
        the_server_sees_that_the_page_gives_up(&browser, &bank, sealed).await?;
    }
    bank.visit(&browser, json!({})).await?;
    redirects_are_followed_as_asked(&browser, &bank).await?;
    browser.quit().await?;
    Ok(())
}

async fn it_does_what_the_platform_does(browser: &Browser, sealed: bool) -> Outcome {
    let found = browser
        .eval(
            include_str!("pages/fetch.js"),
            [json!("/twin"), json!("/api"), json!(sealed)],
        )
        .await?;
    assert!(found["cases"].as_u64() > Some(80), "{found}");
    assert_eq!(
        found["differences"],
        Value::Array(Vec::new()),
        "sealed: {sealed}\n{:#}",
        found["differences"]
    );
    Ok(())
}

/// Browsers leave these in URLs and send them as they are.
async fn it_encodes_what_no_target_may_hold(browser: &Browser) -> Outcome {
    let call = r#"const reply = await session.fetch('/api/echo?q={"x":[1]}&p=`^\\<>|&r=%20c');
                  return (await reply.json()).target"#;
    let target = browser.eval(call, []).await?;
    let target = target.as_str().unwrap_or_default();
    let query = target.split_once('?').map(|(_, query)| query);
    assert_eq!(
        query,
        Some("q=%7B%22x%22:[1]%7D&p=%60%5E%5C%3C%3E%7C&r=%20c")
    );
    Ok(())
}

async fn it_refuses_what_cannot_be_carried(browser: &Browser) -> Outcome {
    for call in [
        "'https://example.com/'",
        "'http://127.0.0.1:' + location.port + '/api/echo'",
        "'data:,hello'",
        "'blob:' + location.origin + '/api/echo'",
        "'/api/a%2Fb'",
        "'/api/echo', { method: 'propfind' }",
        "'/api/echo', { headers: { 'bulla-ticket': ':AA==:' } }",
        "'/api/echo', { headers: { 'Signature': 'a=:AA==:' } }",
        "'/api/echo', { headers: { 'content-digest': 'sha-256=:AA==:' } }",
        "'/api/echo', { headers: { 'x-forwarded-for': '1.2.3.4' } }",
        "'/api/echo', { headers: { 'x-http-method-override': 'DELETE' } }",
        "'/api/echo', { headers: { 'x-a': '\\u00e9' } }",
        "'/api/echo', { integrity: 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' }",
    ] {
        let refused = browser
            .eval(&format!("await session.fetch({call})"), [])
            .await
            .expect_err(call);
        assert_eq!(refused.code(), Some("request_invalid"), "{call}: {refused}");
        let thrown = refused.thrown().ok_or(call)?;
        assert_eq!(thrown.name, "BullaError", "{call}");
    }
    Ok(())
}

/// What was proved for one request is no answer to the next. The platform's own does keep it.
async fn nothing_comes_from_the_cache(browser: &Browser) -> Outcome {
    let found = browser
        .eval(
            "const isKept = async (fetch, path) => {
               const now = () => fetch(path).then((reply) => reply.text());
               return await now() === await now();
             };
             return [await isKept((path) => fetch(path), '/twin/now'), await isKept(session.fetch, '/api/now')];",
            [],
        )
        .await?;
    // WebKit keeps nothing as long as it is driven.
    let keeps = !matches!(browser.engine(), Engine::WebKit);
    assert_eq!(found, json!([keeps, false]));
    Ok(())
}

async fn the_server_sees_that_the_page_gives_up(
    browser: &Browser,
    bank: &Bank,
    sealed: bool,
) -> Outcome {
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

    // Where the stream is the platform's own, WebKit forgets the reason, and Chromium now and then.
    let reasons: &[&str] = match (browser.engine(), sealed) {
        (Engine::WebKit, false) => &["AbortError"],
        (Engine::Chromium, false) => &["enough", "AbortError"],
        _ => &["enough"],
    };
    // While the reply is read, by the signal, by the reader and by the stream.
    for (give_up, ends) in [
        ("control.abort('enough')", reasons),
        ("await reader.cancel()", &["done"]),
        (
            "reader.releaseLock(); await reply.body.cancel()",
            &["TypeError"],
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
        let is_one = ends.iter().any(|end| found == *end);
        assert!(is_one, "{give_up}, sealed: {sealed}: {found}");
    }
    Ok(())
}

async fn redirects_are_followed_as_asked(browser: &Browser, bank: &Bank) -> Outcome {
    let by_hand = browser
        .eval(
            "const reply = await session.fetch('/api/elsewhere/303', { method: 'POST', redirect: 'manual' });
             return { status: reply.status, location: reply.headers.get('location'),
                      redirected: reply.redirected, url: new URL(reply.url).pathname };",
            [],
        )
        .await?;
    assert_eq!(
        by_hand,
        json!({ "status": 303, "location": "../echo?redirected=1", "redirected": false,
                "url": "/api/elsewhere/303" })
    );
    for (call, code) in [
        ("'/api/elsewhere/302', { redirect: 'error' }", "network"),
        ("'/api/around'", "network"),
        ("'/api/away'", "request_invalid"),
    ] {
        let refused = browser
            .eval(&format!("await session.fetch({call})"), [])
            .await
            .expect_err(call);
        assert_eq!(refused.code(), Some(code), "{call}");
    }

    // Where a signed request is redirected to, browsers tell nobody.
    browser.reload().await?;
    bank.open_in(browser, json!({ "seal": false })).await?;
    browser
        .wait_until("return window.session", PATIENCE)
        .await?;
    let refused = browser
        .eval("await session.fetch('/api/elsewhere/302')", [])
        .await
        .expect_err("it cannot be followed");
    assert_eq!(refused.code(), Some("reply_invalid"));
    Ok(())
}

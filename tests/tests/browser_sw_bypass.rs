//! Which requests of a page a service worker sees, and what becomes of those that it does not: what docs/bypass.md says.

use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, BrowserError, Engine};
use bulla_tests::shop::{Shop, foreign};
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::in_each_engine!(what_no_worker_sees_is_refused);

const DOCS: &str = include_str!("../../docs/bypass.md");

/// A request of each kind: the last part of its path, the row that it has in the table, and how it is made.
const KINDS: &[(&str, &str, &str)] = &[
    ("fetch", "`fetch`", "fetch(path)"),
    (
        "keepalive",
        "`fetch` with `keepalive`",
        "fetch(path, { keepalive: true })",
    ),
    (
        "xhr",
        "`XMLHttpRequest`",
        "const request = new XMLHttpRequest(); request.open('GET', path); request.send()",
    ),
    (
        "sync",
        "`XMLHttpRequest`, synchronous",
        "const request = new XMLHttpRequest(); request.open('GET', path, false); try { request.send() } catch {}",
    ),
    ("beacon", "`sendBeacon`", "navigator.sendBeacon(path)"),
    (
        "events",
        "`EventSource`",
        "new EventSource(path).onmessage = ({ target }) => target.close()",
    ),
    (
        "socket",
        "`WebSocket`",
        "new WebSocket(path.replace('http', 'ws'))",
    ),
    ("image", "`<img>`", "add('img', { src: path })"),
    (
        "audio",
        "`<audio>`, `<video>`",
        "add('audio', { src: path, preload: 'auto' })",
    ),
    ("script", "`<script>`", "add('script', { src: path })"),
    ("module", "`import()`", "import(path).catch(() => {})"),
    (
        "style",
        "`<link rel=\"stylesheet\">`",
        "add('link', { rel: 'stylesheet', href: path })",
    ),
    (
        "background",
        "pictures and fonts of a style",
        "add('div', { style: `height: 9px; background: url(${path})` })",
    ),
    (
        "font",
        "`FontFace`",
        "new FontFace('kind', `url(${path})`).load().catch(() => {})",
    ),
    (
        "preload",
        "`<link rel=\"preload\">`",
        "add('link', { rel: 'preload', as: 'image', href: path })",
    ),
    (
        "icon",
        "`<link rel=\"icon\">`",
        "add('link', { rel: 'icon', href: path })",
    ),
    (
        "object",
        "`<object>`",
        "add('object', { data: path, type: 'text/html' })",
    ),
    (
        "embed",
        "`<embed>`",
        "add('embed', { src: path, type: 'text/html' })",
    ),
    ("frame", "`<iframe>`", "add('iframe', { src: path })"),
    (
        "sandboxed",
        "`<iframe sandbox>`",
        "add('iframe', { src: path, sandbox: '' })",
    ),
    ("worker", "`new Worker`", "new Worker(path)"),
    (
        "inside",
        "`fetch` in a worker made of a `Blob`",
        "new Worker(URL.createObjectURL(new Blob([`fetch(${JSON.stringify(path)})`])))",
    ),
    (
        "anchor",
        "`<a download>`",
        "add('a', { href: path, download: '' }).click()",
    ),
    (
        "form",
        "`<form method=\"post\">`",
        "add('iframe', { name: 'inner' }); const form = add('form', { action: path, method: 'post', target: 'inner' }); form.submit()",
    ),
    (
        "ping",
        "`<a ping>`",
        "const link = add('a', { href: '#', ping: path }); link.click()",
    ),
    ("page", "a page", "location = path"),
];

async fn what_no_worker_sees_is_refused(engine: Engine) -> Outcome {
    let shop = Shop::open().await?;
    let browser = Browser::launch(engine).await?;
    for (kind, row, script) in KINDS {
        let expected = told(row, engine).ok_or(*row)?;
        if is_not_made(engine, kind) {
            continue;
        }
        visit(&browser, &shop, "/start").await?;
        let path = format!("/app/kind/{kind}");
        let script = format!(
            "const path = new URL({path:?}, document.baseURI).href;
             const add = (name, given) => {{
               const element = Object.assign(document.createElement(name), given);
               document.body.append(element);
               return element;
             }};
             {script};"
        );
        browser
            .eval(
                "const script = document.createElement('script');
                 script.textContent = `{ ${args[0]} }`;
                 document.head.append(script);",
                [json!(script)],
            )
            .await?;
        let found = if shop.counter.outcome(&path).await? {
            "sealed"
        } else {
            "refused"
        };
        assert_eq!(found, expected, "{engine}: {row}");
    }
    browser
        .wait_until(
            "return location.pathname === '/app/kind/page' && document.readyState === 'complete'",
            PATIENCE,
        )
        .await?;
    let refused = shop.counter.refused();
    assert!(
        refused.iter().all(|(_, code)| *code == "proof_missing"),
        "{refused:?}"
    );
    let rows = DOCS
        .lines()
        .filter(|line| told_of(line, engine).is_some())
        .count();
    assert_eq!(rows, KINDS.len());

    a_page_that_was_loaded_past_it_is_taken_back(&browser, &shop).await?;
    other_origins_are_never_touched(&browser).await?;
    browser.quit().await?;
    Ok(())
}

/// Firefox sends no pings by default, and the others load no icons without a window.
fn is_not_made(engine: Engine, kind: &str) -> bool {
    match engine {
        Engine::Firefox => kind == "ping",
        Engine::Chromium | Engine::WebKit => kind == "icon",
    }
}

/// What the table says of a request.
fn told(row: &str, engine: Engine) -> Option<&'static str> {
    let begin = format!("| {row} |");
    let line = DOCS.lines().find(|line| line.starts_with(&begin))?;
    told_of(line, engine)
}

fn told_of(line: &'static str, engine: Engine) -> Option<&'static str> {
    let cells: Vec<_> = line.split('|').map(str::trim).collect();
    let column = 2 + Engine::ALL.iter().position(|one| *one == engine)?;
    let said = cells.get(column).filter(|_| cells.len() == 6)?;
    ["sealed", "refused", "not made"]
        .contains(said)
        .then_some(*said)
}

async fn visit(browser: &Browser, shop: &Shop, path: &str) -> Result<Value, BrowserError> {
    browser.goto(&shop.server.url(path)).await?;
    browser.wait_until("return window.ready", PATIENCE).await
}

async fn a_page_that_was_loaded_past_it_is_taken_back(browser: &Browser, shop: &Shop) -> Outcome {
    visit(browser, shop, "/start").await?;
    browser.eval("window.isOld = true", []).await?;
    if browser.reload_past_workers().await.is_err() {
        // Only Chromium's driver can.
        assert_ne!(browser.engine(), Engine::Chromium);
        return Ok(());
    }
    browser
        .wait_until("return !window.isOld && window.ready", PATIENCE)
        .await?;
    let said = browser
        .eval(
            "return (await (await fetch('/app/echo?by=forced')).json()).query",
            [],
        )
        .await?;
    assert_eq!(said, "by=forced");
    Ok(())
}

async fn other_origins_are_never_touched(browser: &Browser) -> Outcome {
    let elsewhere = foreign("").await?;
    let fields = browser
        .eval(
            "return (await fetch(args[0], { method: 'POST', body: 'x' })).json()",
            [json!(elsewhere.url("/plain"))],
        )
        .await?;
    let fields = fields.to_string();
    assert!(
        !fields.contains("bulla") && !fields.contains("signature"),
        "{fields}"
    );
    assert!(fields.contains("origin"), "{fields}");
    let loaded = browser
        .eval(
            "const script = Object.assign(document.createElement('script'), { src: args[0] });
             const loaded = new Promise((resolve) => { script.onload = () => resolve('loaded'); script.onerror = () => resolve('failed') });
             document.body.append(script);
             return loaded;",
            [json!(elsewhere.url("/script.js"))],
        )
        .await?;
    assert_eq!(loaded, "loaded");
    Ok(())
}

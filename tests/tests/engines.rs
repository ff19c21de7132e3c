//! The harness itself, in every engine.

use std::time::Duration;

use axum::Router;
use bulla_tests::browser::{Browser, BrowserError, Engine};
use bulla_tests::serve::{Server, bytes, html};
use serde_json::json;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_mins(1);

/// A page with an empty key store, and a module beside it.
const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A page of the tests</title>
<style>
  :root { color-scheme: light dark; background: white; }
  @media (prefers-color-scheme: dark) { :root { background: black; } }
</style>
<h1>Hello</h1>
<script type="module">
  import { keys } from "/keys.js";
  window.keys = keys;
</script>
"#;

/// Keeps one key pair in IndexedDB.
const KEYS: &str = r#"
const settled = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

async function store(mode) {
  const opening = indexedDB.open("keys", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("keys");
  return (await settled(opening)).transaction("keys", mode).objectStore("keys");
}

export const keys = {
  async make() {
    const pair = await crypto.subtle.generateKey(
      { name: "ECDSA", namedCurve: "P-256" }, false, ["sign", "verify"]);
    await settled((await store("readwrite")).put(pair, "pair"));
  },
  async kept() {
    return settled((await store("readonly")).get("pair"));
  },
};
"#;

/// Signs with the pair in storage; the signature, and what exporting the private key says.
const USE_KEYS: &str = r#"
const { privateKey, publicKey } = await window.keys.kept();
const algorithm = { name: "ECDSA", hash: "SHA-256" };
const text = new TextEncoder().encode(args[0]);
const signature = await crypto.subtle.sign(algorithm, privateKey, text);
const exported = {};
for (const format of ["jwk", "pkcs8", "raw"]) {
  exported[format] = await crypto.subtle.exportKey(format, privateKey)
    .then(() => "exported", (error) => error.name);
}
return {
  extractable: privateKey.extractable,
  valid: await crypto.subtle.verify(algorithm, publicKey, signature, text),
  exported,
};
"#;

bulla_tests::in_each_engine!(the_harness_drives_this_engine);

#[tokio::test(flavor = "multi_thread")]
async fn webkit_is_dark_from_its_launch() -> Outcome {
    let server = server().await?;
    let browser = Browser::launch_dark(Engine::WebKit).await?;
    browser.goto(&server.url("/")).await?;
    shoot(&browser, 390, 844, true).await?;

    let folder = tempfile::tempdir()?;
    let light = browser
        .screenshot(folder.path().join("light.png"), 390, 844, false)
        .await;
    assert!(
        matches!(light, Err(BrowserError::Unsupported { .. })),
        "{light:?}"
    );
    Ok(())
}

/// One launch for all of it: launching costs more than the rest together.
async fn the_harness_drives_this_engine(engine: Engine) -> Outcome {
    let server = server().await?;
    let browser = Browser::launch(engine).await?;
    browser.goto(&server.url("/")).await?;
    browser.wait_until("return window.keys", PATIENCE).await?;

    keys_survive_a_reload_and_stay_inside(&browser).await?;
    two_tabs_share_a_profile(&browser, &server).await?;
    what_scripts_throw_is_told(&browser).await?;
    waiting_ends(&browser).await?;
    the_console_is_read(&browser, &server).await?;
    assert!(
        browser.memory()? > 50 << 20,
        "a browser takes more than {}",
        browser.memory()?
    );

    browser.goto(&server.url("/")).await?;
    shoot(&browser, 390, 844, false).await?;
    if engine != Engine::WebKit {
        shoot(&browser, 1280, 1600, true).await?;
    }

    let home = browser.home().to_owned();
    assert!(home.is_dir());
    browser.quit().await?;
    assert!(!home.exists(), "the profile is left at {}", home.display());
    Ok(())
}

async fn keys_survive_a_reload_and_stay_inside(browser: &Browser) -> Outcome {
    browser.eval("await window.keys.make()", []).await?;
    browser.reload().await?;
    browser.wait_until("return window.keys", PATIENCE).await?;

    let found = browser.eval(USE_KEYS, [json!("a message")]).await?;
    assert_eq!(found["extractable"], false);
    assert_eq!(found["valid"], true);
    assert_eq!(found["exported"]["jwk"], "InvalidAccessError");
    assert_eq!(found["exported"]["pkcs8"], "InvalidAccessError");
    assert_ne!(found["exported"]["raw"], "exported");
    Ok(())
}

async fn two_tabs_share_a_profile(browser: &Browser, server: &Server) -> Outcome {
    let first = browser.tab().await?;
    browser
        .eval("window.heard = []; window.channel = new BroadcastChannel('tabs'); channel.onmessage = ({ data }) => heard.push(data)", [])
        .await?;

    let second = browser.new_tab().await?;
    assert_ne!(first, second);
    browser.goto(&server.url("/")).await?;
    browser.wait_until("return window.keys", PATIENCE).await?;
    let found = browser
        .eval(USE_KEYS, [json!("from the other tab")])
        .await?;
    assert_eq!(found["valid"], true);
    browser
        .eval("new BroadcastChannel('tabs').postMessage('hello')", [])
        .await?;
    // A page that did not draw would never come back from this.
    browser
        .eval("await new Promise(requestAnimationFrame)", [])
        .await?;

    browser.switch(&first).await?;
    let heard = browser
        .wait_until("return heard.length && heard", PATIENCE)
        .await?;
    assert_eq!(heard, json!(["hello"]));
    Ok(())
}

async fn what_scripts_throw_is_told(browser: &Browser) -> Outcome {
    let error = failure(
        browser,
        "throw Object.assign(new TypeError('no entry'), { code: 'replayed' })",
    )
    .await;
    assert_eq!(error.code(), Some("replayed"));
    let thrown = error.thrown().ok_or("nothing was thrown")?;
    assert_eq!(thrown.name, "TypeError");
    assert_eq!(thrown.message, "no entry");

    // A DOMException's code is a number that nobody needs, and a thrown value need not be an Error.
    let error = failure(browser, "throw new DOMException('gone', 'NotFoundError')").await;
    assert_eq!(error.code(), None);
    assert_eq!(
        error.thrown().map(|thrown| thrown.name.as_str()),
        Some("NotFoundError")
    );
    let error = failure(browser, "await Promise.reject(7)").await;
    assert_eq!(
        error.thrown().map(|thrown| thrown.message.as_str()),
        Some("7")
    );
    let error = failure(browser, "return 1n").await;
    assert_eq!(
        error.thrown().map(|thrown| thrown.name.as_str()),
        Some("TypeError")
    );

    let error = failure(browser, "this is no script").await;
    assert!(matches!(error, BrowserError::Driver(_)), "{error}");
    assert_eq!(browser.eval("// nothing", []).await?, json!(null));
    Ok(())
}

async fn failure(browser: &Browser, body: &str) -> BrowserError {
    browser.eval(body, []).await.expect_err("the script fails")
}

async fn waiting_ends(browser: &Browser) -> Outcome {
    let error = browser
        .wait_until(
            "return document.querySelector('h1').textContent === 'Bye'",
            Duration::from_millis(300),
        )
        .await
        .expect_err("the page says Hello");
    let BrowserError::Timeout { last, .. } = error else {
        return Err(error.into());
    };
    assert_eq!(last, "false");
    Ok(())
}

async fn the_console_is_read(browser: &Browser, server: &Server) -> Outcome {
    if browser.engine() == Engine::WebKit {
        let errors = browser.console_errors().await;
        assert!(
            matches!(errors, Err(BrowserError::Unsupported { .. })),
            "{errors:?}"
        );
        return Ok(());
    }

    browser.console_errors().await?;
    browser.goto(&server.url("/broken")).await?;
    browser.wait_until("return window.broken", PATIENCE).await?;
    let errors = browser.console_errors().await?;
    assert!(
        errors.iter().any(|error| error.contains("out of order")),
        "{errors:?}"
    );
    assert_eq!(browser.console_errors().await?, [""; 0]);
    Ok(())
}

async fn shoot(browser: &Browser, width: u32, height: u32, dark: bool) -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("shots").join("page.png");
    browser.screenshot(&path, width, height, dark).await?;

    let png = std::fs::read(&path)?;
    // The header chunk holds both sizes, big-endian, right after the signature.
    assert_eq!(png.get(..8), Some(b"\x89PNG\r\n\x1a\n".as_slice()));
    assert_eq!(png.get(16..20), Some(width.to_be_bytes().as_slice()));
    assert_eq!(png.get(20..24), Some(height.to_be_bytes().as_slice()));
    let background = browser
        .eval(
            "return getComputedStyle(document.documentElement).backgroundColor",
            [],
        )
        .await?;
    assert_eq!(
        background,
        if dark {
            "rgb(0, 0, 0)"
        } else {
            "rgb(255, 255, 255)"
        }
    );
    Ok(())
}

async fn server() -> std::io::Result<Server> {
    Server::start(
        Router::new()
            .route("/", html(PAGE))
            .route("/keys.js", bytes("text/javascript", KEYS))
            .route(
                "/broken",
                html("<!doctype html><script>setTimeout(() => { window.broken = true; throw new Error('out of order') })</script>"),
            ),
    )
    .await
}

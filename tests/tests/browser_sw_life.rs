//! A service worker's life: stopped by the browser, kept alive while it streams, and taken over by the next version, in
//! real browsers.

use std::time::Duration;

use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, BrowserError, Engine};
use bulla_tests::shop::{Shop, worker};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio::try_join;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// How long a stream lasts, in seconds: longer than any engine lets a worker live that has nothing to do.
const LONG: u64 = 70;

bulla_tests::in_each_engine!(a_worker_may_be_stopped_and_replaced);

async fn a_worker_may_be_stopped_and_replaced(engine: Engine) -> Outcome {
    let shop = Shop::open().await?;
    let browser = Browser::launch(engine).await?;
    modules_of_versions_before_are_let_go(&browser, &shop).await?;
    one_that_cannot_live_says_so(&browser, &shop).await?;
    log_in(&browser, &shop).await?;
    match engine {
        Engine::Chromium | Engine::Firefox => {
            the_next_request_starts_it_again(&browser).await?;
            a_stream_that_it_was_writing_is_cut(&browser, &shop).await?;
        }
        Engine::WebKit => {
            let stopped = browser.stop_workers().await;
            assert!(matches!(stopped, Err(BrowserError::Unsupported { .. })));
        }
    }
    all_tabs_share_it(&browser, &shop).await?;
    a_page_may_register_again(&browser, &shop).await?;
    versions_live_side_by_side(&browser, &shop).await?;
    browser.quit().await?;
    Ok(())
}

async fn visit(browser: &Browser, shop: &Shop, path: &str) -> Result<Value, BrowserError> {
    browser.goto(&shop.server.url(path)).await?;
    browser.wait_until("return window.ready", PATIENCE).await
}

/// Because of its policy, with another module than its own, or with options that are none; or since the page is not below
/// it. The page is not kept waiting for it.
async fn one_that_cannot_live_says_so(browser: &Browser, shop: &Shop) -> Outcome {
    let identity = shop.bulla.identity().to_string();
    let good = worker(&identity);
    let with = |option: &str| good.replace("paths:", &format!("{option}, paths:"));
    for (script, address, scope, expected) in [
        (&good, "/sw.js?strict", "/", "unsupported"),
        (
            &with("wasm: '/npm/index.js'"),
            "/sw.js?1",
            "/",
            "unsupported",
        ),
        (&with("pin: 'abc'"), "/sw.js?2", "/", "unsupported"),
        (&with("prefix: 'none'"), "/sw.js?3", "/", "unsupported"),
        (&with("server: 'bank'"), "/sw.js?4", "/", "unsupported"),
        (&good, "/none.js", "/", "unsupported"),
        (&good, "/sw.js?5", "/app/", "request_invalid"),
        (
            &with("server: `${location.origin}/`"),
            "/sw.js?6",
            "/",
            "ready",
        ),
    ] {
        shop.counter.change_worker(script);
        browser.goto(&shop.server.url("/bare")).await?;
        let refused = browser
            .eval(
                "const { register } = await import('/npm/register.js');
                 const registered = register(args[0], { scope: args[1] });
                 const waited = fetch('/start').then((reply) => reply.status);
                 window.found = [await registered.then(() => 'ready', ({ code }) => code), await waited];
                 for (const registration of await navigator.serviceWorker.getRegistrations()) await registration.unregister();
                 return found;",
                [json!(address), json!(scope)],
            )
            .await?;
        assert_eq!(refused, json!([expected, 200]), "{address}");
    }
    shop.counter.change_worker(&good);
    Ok(())
}

async fn log_in(browser: &Browser, shop: &Shop) -> Outcome {
    visit(browser, shop, "/signin").await?;
    browser
        .eval("document.querySelector('#login').submit()", [])
        .await?;
    browser
        .wait_until(
            "return location.search === '?after=login' && window.ready",
            PATIENCE,
        )
        .await?;
    Ok(())
}

const SUBJECT: &str = "return (await (await fetch('/app/echo')).json()).subject";

async fn the_next_request_starts_it_again(browser: &Browser) -> Outcome {
    for _ in 0..3 {
        browser.stop_workers().await?;
        // In the same session.
        assert_eq!(browser.eval(SUBJECT, []).await?, "ann");
    }
    Ok(())
}

async fn a_stream_that_it_was_writing_is_cut(browser: &Browser, shop: &Shop) -> Outcome {
    browser
        .eval(
            "const script = document.createElement('script');
             script.textContent = args[0];
             document.head.append(script);",
            [json!(READ)],
        )
        .await?;
    browser.eval("read('/app/ticks/1000000/20')", []).await?;
    browser
        .wait_until("return heard.length > 2", PATIENCE)
        .await?;
    browser.stop_workers().await?;
    browser.wait_until("return ended", PATIENCE).await?;
    // A clean end would be taken for all that there was.
    assert_eq!(browser.eval("return ended", []).await?, "TypeError");
    shop.counter.until_open(0).await?;
    Ok(())
}

/// Reads a stream of events in the page's own world, and says what it has heard and how it ended.
const READ: &str = "
window.read = async (path) => {
  window.heard = [];
  window.ended = null;
  const reply = await fetch(path);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  (async () => {
    for (let piece; !(piece = await reader.read()).done;) {
      for (const [, number] of piece.value.matchAll(/data: (\\d+)\\n\\n/g)) heard.push(Number(number));
    }
    return 'done';
  })().then((how) => { window.ended = how }, ({ name }) => { window.ended = name });
};";

async fn all_tabs_share_it(browser: &Browser, shop: &Shop) -> Outcome {
    let first = browser.tab().await?;
    let second = browser.new_tab().await?;
    visit(browser, shop, "/app/home").await?;
    assert_eq!(browser.eval(SUBJECT, []).await?, "ann");
    visit(browser, shop, "/signin").await?;
    browser
        .eval("document.querySelector('[name=user]').value = 'bob'", [])
        .await?;
    browser
        .eval("document.querySelector('#login').submit()", [])
        .await?;
    browser
        .wait_until(
            "return location.search === '?after=login' && window.ready",
            PATIENCE,
        )
        .await?;
    browser.switch(&first).await?;
    assert_eq!(browser.eval(SUBJECT, []).await?, "bob");
    browser.switch(&second).await?;
    browser.driver().close_window().await?;
    browser.switch(&first).await?;
    Ok(())
}

/// As where a script is loaded anew beside its page. Streams are asked for once all the same.
async fn a_page_may_register_again(browser: &Browser, shop: &Shop) -> Outcome {
    visit(browser, shop, "/app/home").await?;
    let read = browser
        .eval(
            "const { register } = await import('/npm/register.js');
             const again = await import('/npm/register.js?copy');
             const scopes = [];
             for (const once of [register, register, again.register]) scopes.push((await once('/sw.js')).scope);
             const reply = await fetch('/app/ticks/3/1');
             return [new Set(scopes).size, await reply.text()];",
            [],
        )
        .await?;
    let events = "data: 0\n\ndata: 1\n\ndata: 2\n\n";
    assert_eq!(read, json!([1, events]));
    Ok(())
}

async fn modules_of_versions_before_are_let_go(browser: &Browser, shop: &Shop) -> Outcome {
    browser.goto(&shop.server.url("/bare")).await?;
    let names = browser
        .eval(
            "const { register } = await import('/npm/register.js');
             for (const name of [`bulla ${location.origin}/ before`, 'bulla ours']) await caches.open(name);
             const registration = await register('/sw.js');
             while ((await caches.keys()).length > 2) await new Promise((done) => setTimeout(done, 20));
             await registration.unregister();
             return (await caches.keys()).map((name) => name.replace(/^bulla .* .{64}$/, 'bulla now')).sort();",
            [],
        )
        .await?;
    assert_eq!(names, json!(["bulla now", "bulla ours"]));
    Ok(())
}

/// An update waits until no page needs the worker before it, and takes over its session.
async fn versions_live_side_by_side(browser: &Browser, shop: &Shop) -> Outcome {
    visit(browser, shop, "/app/home").await?;
    let next = worker(&shop.bulla.identity().to_string());
    shop.counter.change_worker(&format!("{next}\nself.version = 2;\naddEventListener('message', ({{ data, ports }}) => data === 'version' && ports[0].postMessage(2));"));
    browser
        .eval(
            "const registration = await navigator.serviceWorker.getRegistration();
             await registration.update();",
            [],
        )
        .await?;
    browser
        .wait_until("return (await navigator.serviceWorker.getRegistration()).waiting?.state === 'installed'", PATIENCE)
        .await?;
    // The page keeps the one that it has.
    assert_eq!(browser.eval(SUBJECT, []).await?, "bob");

    // Until all pages are gone, also those that a tab may go back to; a browser takes its time over that.
    let version = "
        const { port1, port2 } = new MessageChannel();
        const answer = new Promise((resolve) => {
          port1.onmessage = ({ data }) => resolve(data);
          setTimeout(resolve, 500);
        });
        navigator.serviceWorker.controller.postMessage('version', [port2]);
        return answer";
    let replaced = async {
        loop {
            let next = browser.new_tab().await?;
            for tab in browser.driver().windows().await? {
                if tab != next {
                    browser.switch(&tab).await?;
                    browser.driver().close_window().await?;
                }
            }
            browser.switch(&next).await?;
            visit(browser, shop, "/app/home").await?;
            if browser.eval(version, []).await? == 2 {
                return Outcome::Ok(());
            }
        }
    };
    timeout(PATIENCE, replaced).await??;
    assert_eq!(browser.eval(SUBJECT, []).await?, "bob");
    Ok(())
}

/// In all engines at once: it takes its time, which nobody can move forward.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_lives_as_long_as_its_streams() -> Outcome {
    let [chromium, firefox, webkit] = Engine::ALL.map(lives_as_long);
    try_join!(chromium, firefox, webkit, breaks_off())?;
    Ok(())
}

async fn lives_as_long(engine: Engine) -> Outcome {
    let shop = Shop::open().await?;
    let browser = Browser::launch(engine).await?;
    visit(&browser, &shop, "/start").await?;
    let path = format!("/app/ticks/{LONG}/1000");
    let script = format!(
        "{READ}
         read('{path}');
         window.request = new XMLHttpRequest();
         request.open('GET', '{path}');
         request.onloadend = () => {{ window.loaded = request.responseText }};
         request.send();"
    );
    browser
        .eval(
            "const script = document.createElement('script');
             script.textContent = args[0];
             document.head.append(script);",
            [json!(script)],
        )
        .await?;
    let patience = Duration::from_secs(LONG) + PATIENCE;
    browser
        .wait_until(
            "return window.ended && window.loaded !== undefined",
            patience,
        )
        .await?;
    let all: Vec<_> = (0..LONG).collect();
    let found = browser
        .eval(
            "return [ended, heard, loaded.match(/\\d+/g).map(Number)]",
            [],
        )
        .await?;
    assert_eq!(found, json!(["done", all, all]), "{engine}");
    browser.quit().await?;
    Ok(())
}

/// Where no page says so much as a word, Firefox would stop the worker, and the stream end as if that were all.
async fn breaks_off() -> Outcome {
    let shop = Shop::open().await?;
    let browser = Browser::launch(Engine::Firefox).await?;
    visit(&browser, &shop, "/start").await?;
    browser.goto(&shop.server.url("/bare")).await?;
    browser
        .eval(
            "const script = document.createElement('script');
             script.textContent = args[0];
             document.head.append(script);",
            [json!(format!("{READ} read('/app/ticks/{LONG}/1000');"))],
        )
        .await?;
    browser
        .wait_until("return window.ended", Duration::from_secs(LONG) + PATIENCE)
        .await?;
    let found = browser.eval("return [ended, heard.length]", []).await?;
    assert_eq!(found[0], "TypeError");
    assert!(found[1].as_u64() < Some(LONG - 1), "{found}");
    shop.counter.until_open(0).await?;
    browser.quit().await?;
    Ok(())
}

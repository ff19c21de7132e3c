//! An application that knows of nothing, behind the gateway, in real browsers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::COOKIE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse as _, Response};
use bulla_gateway::config::{Access, Mode};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, BrowserError, Engine};
use bulla_tests::gateway::{Behind, PAGE};
use tokio::time::timeout;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::in_each_engine!(an_application_behind_the_gateway_is_sealed);

bulla_tests::in_each_engine!(
    what_was_learnt_is_bound,
    chromium_learns Chromium,
    firefox_learns Firefox,
    webkit_learns WebKit
);

bulla_tests::in_each_engine!(
    a_gateway_that_lets_everything_go_can_be_taken_away,
    chromium_leaves Chromium,
    firefox_leaves Firefox,
    webkit_leaves WebKit
);

async fn an_application_behind_the_gateway_is_sealed(engine: Engine) -> Outcome {
    let site = Behind::start(|_| ()).await?;
    let browser = Browser::launch(engine).await?;

    // Whoever comes without a session gets one, and then the page.
    browser.goto(&site.server.url("/account?first")).await?;
    browser
        .wait_until("return document.title === 'The account'", PATIENCE)
        .await?;
    let path = browser
        .eval("return location.pathname + location.search", [])
        .await?;
    assert_eq!(path, "/account?first");
    let page = site.seen.at("/account?first");
    assert_eq!(page.len(), 1);
    assert!(page[0]["fields"]["bulla-session"].is_string(), "{page:?}");
    assert_eq!(page[0]["fields"]["bulla-proof"], "device");

    // Everything that the page does is sealed. The cookie is the application's own there, and elsewhere it is nothing.
    let said = browser
        .eval(
            "return (await fetch('/echo?by=fetch', { method: 'POST', body: 'clay' })).json()",
            [],
        )
        .await?;
    assert_eq!(said["body"], "clay");
    assert_eq!(said["fields"]["cookie"], "sessionid=s3cret");
    let host = site.server.url("");
    assert_eq!(said["fields"]["host"], host.trim_start_matches("http://"));
    // The page has the loader; what its scripts fetch is as the application has it.
    let first = browser
        .eval("return document.scripts[0].hasAttribute('data-worker')", [])
        .await?;
    assert_eq!(first, true);
    let part = browser
        .eval("return (await fetch('/account')).text()", [])
        .await?;
    assert_eq!(part, PAGE);

    let cookie = browser.driver().get_named_cookie("sessionid").await?;
    assert!(cookie.value.starts_with("bulla."), "{}", cookie.value);

    browser
        .eval("document.querySelector('#order').submit()", [])
        .await?;
    browser
        .wait_until("return location.search === '?ordered'", PATIENCE)
        .await?;
    assert_eq!(site.seen.at("/order")[0]["body"], "what=clay");

    // By a bare client.
    let client = reqwest::Client::builder().no_proxy().build()?;
    let stolen = format!("sessionid={}", cookie.value);
    let get = |path: &str| client.get(site.server.url(path)).header(COOKIE, &stolen);
    let bare = get("/echo?by=thief").send().await?;
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
    assert!(site.seen.at("/echo?by=thief").is_empty());
    let style = get("/static/style.css").send().await?;
    assert_eq!(style.text().await?, "h1 { color: teal }");
    browser.quit().await?;
    Ok(())
}

/// Comes to a page of the application, by its worker.
async fn visit(browser: &Browser, account: &str) -> Outcome {
    let there = "return document.title === 'The account' && navigator.serviceWorker.controller";
    browser.goto(account).await?;
    browser.wait_until(there, PATIENCE).await?;
    Ok(())
}

/// What the application keeps from script while the gateway only monitors is bound once it enforces, unless it is not to be.
async fn what_was_learnt_is_bound(engine: Engine) -> Outcome {
    for (unbound, is_bound) in [(Vec::new(), true), (vec!["sessionid".to_owned()], false)] {
        let site = Behind::start(|config| {
            config.mode = Mode::Monitor;
            config.bound_cookies = Vec::new();
            config.unbound_cookies = unbound;
        })
        .await?;
        let browser = Browser::launch(engine).await?;
        let account = site.server.url("/account");
        visit(&browser, &account).await?;
        let cookie = browser.driver().get_named_cookie("sessionid").await?;
        assert_eq!(cookie.value, "s3cret");

        site.gateway.set_mode(Mode::Enforce)?;
        site.seen.forget();
        visit(&browser, &account).await?;
        let seen = site
            .seen
            .at("/account")
            .pop()
            .ok_or("it was not asked for")?;
        let old = &seen["fields"]["cookie"];
        assert_eq!(old.is_null(), is_bound, "it never was the device's: {seen}");
        let cookie = browser.driver().get_named_cookie("sessionid").await?;
        assert_eq!(
            cookie.value.starts_with("bulla."),
            is_bound,
            "{}",
            cookie.value
        );

        // Going back logs nobody out.
        site.gateway.set_mode(Mode::Monitor)?;
        let echo = "return (await (await fetch('/echo')).json()).fields.cookie";
        assert_eq!(browser.eval(echo, []).await?, "sessionid=s3cret");
        browser.quit().await?;
    }
    Ok(())
}

/// What stands where the gateway was.
const BARE: &str = "<!doctype html><title>Without it</title><link rel=icon href=data:,>";

async fn bare(State(is_gone): State<Arc<AtomicBool>>, request: Request, next: Next) -> Response {
    if is_gone.load(Ordering::Relaxed) {
        return Html(BARE).into_response();
    }
    next.run(request).await
}

/// Leaves no page behind: Firefox keeps those that one has gone on from.
async fn in_another_tab(browser: &Browser) -> Result<(), BrowserError> {
    let before = browser.tab().await?;
    let tab = browser.new_tab().await?;
    browser.switch(&before).await?;
    browser.driver().close_window().await?;
    browser.switch(&tab).await
}

/// Browsers keep its service worker. One that was told to let everything go stands in nobody's way.
async fn a_gateway_that_lets_everything_go_can_be_taken_away(engine: Engine) -> Outcome {
    for (lets_go, title) in [
        (false, "This page did not come unharmed"),
        (true, "Without it"),
    ] {
        let (is_gone, mut running) = (Arc::new(AtomicBool::new(false)), None);
        let site = Behind::start_within(
            |config| running = Some(config.clone()),
            |router| router.layer(from_fn_with_state(Arc::clone(&is_gone), bare)),
        )
        .await?;
        let browser = Browser::launch(engine).await?;
        let account = site.server.url("/account");
        visit(&browser, &account).await?;
        if lets_go {
            let mut config = running.ok_or("nothing was configured")?;
            config.mode = Mode::Monitor;
            config.access = Access::Public;
            config.paths = Vec::new();
            config.runtime.watch = false;
            site.gateway.reload(&config)?;
            // The worker that lets go comes with the next page, and waits until those of the one before are gone.
            browser.goto(&account).await?;
            let waits = "const registration = await navigator.serviceWorker.getRegistration();
                await registration.update();
                return registration.waiting !== null";
            browser.wait_until(waits, PATIENCE).await?;
            in_another_tab(&browser).await?;
        }
        is_gone.store(true, Ordering::Relaxed);
        let shown = async {
            loop {
                browser.goto(&account).await?;
                let shown = browser.eval("return document.title", []).await?;
                if shown == title {
                    return Ok::<_, BrowserError>(());
                }
                // The worker before may take a moment to go.
                in_another_tab(&browser).await?;
            }
        };
        let shown = timeout(PATIENCE, shown).await;
        shown.map_err(|_| format!("{title:?} was not shown"))??;
        browser.quit().await?;
    }
    Ok(())
}

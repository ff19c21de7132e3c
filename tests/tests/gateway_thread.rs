//! An application that knows of nothing, behind the gateway, in real browsers.

use axum::http::StatusCode;
use axum::http::header::COOKIE;
use bulla_gateway::config::Mode;
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::gateway::{Behind, PAGE};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::in_each_engine!(an_application_behind_the_gateway_is_sealed);

bulla_tests::in_each_engine!(
    what_was_learnt_is_bound,
    chromium_learns Chromium,
    firefox_learns Firefox,
    webkit_learns WebKit
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
        let there = "return document.title === 'The account' && navigator.serviceWorker.controller";
        browser.goto(&account).await?;
        browser.wait_until(there, PATIENCE).await?;
        let cookie = browser.driver().get_named_cookie("sessionid").await?;
        assert_eq!(cookie.value, "s3cret");

        site.gateway.set_mode(Mode::Enforce)?;
        site.seen.forget();
        browser.goto(&account).await?;
        browser.wait_until(there, PATIENCE).await?;
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
        browser.quit().await?;
    }
    Ok(())
}

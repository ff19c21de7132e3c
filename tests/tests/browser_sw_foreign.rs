//! What another site can do to a visitor of an application behind a service worker (OWASP WSTG-SESS-05), in real
//! browsers: no more than without one.

use bulla_server::Code;
use bulla_tests::attack::Name::{Asvs, Sess};
use bulla_tests::attack::With::{Held, Refused};
use bulla_tests::attack::{Attack, Shown, Twin};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, BrowserError, Engine};
use bulla_tests::shop::{CARELESS, Shop, foreign, worker};
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::attacks! {
    another_site_gains_nothing_by_the_worker in each engine: [FOREIGN_FORM, FOREIGN_LINK],
}

static FOREIGN_FORM: Attack = Attack {
    has: "another site, which she visits",
    does: "has her browser post a form to hers",
    twin: Twin::Weakened("a service worker that does not ask where it comes from"),
    without: "it arrives as one of her own, with the cookies that are set `Strict`",
    with: Refused(&[Code::ProofMissing]),
    names: &[Sess(5), Asvs("3.3.2"), Asvs("3.5.3")],
    shown: Shown::nothing(),
};

static FOREIGN_LINK: Attack = Attack {
    has: "another site, which she visits",
    does: "has her browser follow a link, or a form that asks",
    twin: Twin::Weakened("a service worker that does not ask where it comes from"),
    without: "it arrives as one of her own, with the cookies that are set `Strict`",
    with: Held("it is followed, without the cookies that are set `Strict`"),
    names: &[Sess(2), Sess(5), Asvs("3.3.2")],
    shown: Shown::nothing(),
};

async fn another_site_gains_nothing_by_the_worker(engine: Engine) -> Outcome {
    let shop = Shop::open().await?;
    let careful = worker(&shop.bulla.identity().to_string());
    // Of all pages, for the sake of the first one.
    let all = r#"paths: ["/"], except: ["/npm/", "/start", "/signin", "/sw.js", "/twin/"#;
    let careful = careful.replace(r#"paths: ["/app/"], except: ["/app/open/"#, all);
    assert!(careful.contains(all));
    shop.counter.change_worker(&format!("{careful}{CARELESS}"));
    let elsewhere = foreign(&shop.server.origin()).await?;
    let elsewhere = format!("http://127.0.0.1:{}/", elsewhere.port());
    let browser = Browser::launch(engine).await?;

    // Somebody is logged in, with cookies of both kinds.
    visit(&browser, &shop.server.url("/signin")).await?;
    browser
        .eval("document.querySelector('#login').submit()", [])
        .await?;
    browser
        .wait_until(
            "return location.search === '?after=login' && window.ready",
            PATIENCE,
        )
        .await?;
    let home = shop.counter.seen("/app/home").pop().ok_or("no home")?;
    assert_eq!(cookies(&home), "strict=ann; lax=ann");
    assert_eq!(home["subject"], "ann");
    a_careless_worker_launders(&browser, &shop, &elsewhere).await?;
    forms_are_not_the_workers_to_send(&browser, &shop, &elsewhere).await?;
    links_are_followed_without_what_is_strict(&browser, &shop, &elsewhere).await?;
    frames_and_pictures_come_to_nothing(&browser, &shop, &elsewhere).await?;
    what_has_been_elsewhere_is_ours_no_more(&browser, &shop, &elsewhere).await?;
    the_first_pages_own_are_ours(&browser, &shop, &elsewhere).await?;
    the_page_works_as_ever(&browser, &shop, &elsewhere).await?;
    browser.quit().await?;
    Ok(())
}

/// Without the worker's care a form of another site passes for one of ours: with the cookie that is set strict.
async fn a_careless_worker_launders(browser: &Browser, shop: &Shop, elsewhere: &str) -> Outcome {
    browser.eval("await fetch('/twin/login')", []).await?;
    browser.goto(elsewhere).await?;
    browser
        .eval("document.querySelector('#twin').submit()", [])
        .await?;
    browser
        .wait_until(
            "return location.pathname === '/twin/order' && document.readyState === 'complete'",
            PATIENCE,
        )
        .await?;
    let laundered = &shop.counter.seen("/twin/order")[0];
    let cookie = laundered["fields"]["cookie"].as_str();
    assert!(
        cookie.is_some_and(|cookie| cookie.contains("twin=ann")),
        "{laundered}"
    );
    let is_ours = laundered["fields"]["sec-fetch-site"] == "same-origin";
    FOREIGN_FORM.without(is_ours);
    FOREIGN_LINK.without(is_ours);
    Ok(())
}

/// A form that is posted from another site is not the worker's to send.
async fn forms_are_not_the_workers_to_send(
    browser: &Browser,
    shop: &Shop,
    elsewhere: &str,
) -> Outcome {
    for form in ["post", "hidden"] {
        let before = shop.counter.refused().len();
        browser.goto(elsewhere).await?;
        browser
            .eval(&format!("document.querySelector('#{form}').submit()"), [])
            .await?;
        browser
            .wait_until(
                "return location.pathname === '/app/order' && document.readyState === 'complete'",
                PATIENCE,
            )
            .await?;
        let refused = &shop.counter.refused()[before..];
        let order = refused.iter().find(|(path, _)| path == "/app/order");
        FOREIGN_FORM.refused(order.and_then(|(_, code)| code.parse().ok()));
        assert!(shop.counter.seen("/app/order").is_empty(), "{form}");
    }
    Ok(())
}

/// A link is followed, and a form that only asks; what is set strict stays at home.
async fn links_are_followed_without_what_is_strict(
    browser: &Browser,
    shop: &Shop,
    elsewhere: &str,
) -> Outcome {
    for (way, by) in [
        ("#link').click()", "foreign-link"),
        ("#get').submit()", "foreign-get"),
    ] {
        browser.goto(elsewhere).await?;
        browser
            .eval(&format!("document.querySelector('{way}"), [])
            .await?;
        browser
            .wait_until(
                "return location.pathname === '/app/echo' && document.readyState === 'complete'",
                PATIENCE,
            )
            .await?;
        let seen = own(shop, by).ok_or("nothing came")?;
        assert_eq!(seen["fields"]["sec-fetch-site"], "cross-site", "{by}");
        FOREIGN_LINK.with(cookies(&seen) == "lax=ann");
        assert_eq!(seen["fields"]["origin"], "null", "{by}");
        assert_eq!(seen["fields"]["referer"], Value::Null, "{by}");
    }
    Ok(())
}

/// Frames, images and requests of another site's page.
async fn frames_and_pictures_come_to_nothing(
    browser: &Browser,
    shop: &Shop,
    elsewhere: &str,
) -> Outcome {
    browser.goto(elsewhere).await?;
    let before = shop.counter.seen("/app/echo").len();
    browser
        .eval(
            "const shop = args[0];
             const add = (name, given) => document.querySelector('#frames').append(Object.assign(document.createElement(name), given));
             add('iframe', { src: `${shop}/app/echo?by=foreign-frame` });
             add('img', { src: `${shop}/app/echo?by=foreign-image` });
             add('script', { src: `${shop}/app/echo?by=foreign-script` });
             add('iframe', { name: 'inner' });
             document.querySelector('#post').target = 'inner';
             document.querySelector('#post').submit();
             const carelessly = { mode: 'no-cors', credentials: 'include' };
             await fetch(`${shop}/app/echo?by=foreign-fetch`, carelessly).catch(() => {});
             await fetch(`${shop}/app/order`, { ...carelessly, method: 'POST', body: 'x' }).catch(() => {});",
            [json!(shop.server.origin())],
        )
        .await?;
    shop.counter.until_refused("/app/echo", 4).await?;
    shop.counter.until_refused("/app/order", 4).await?;
    let seen = shop.counter.seen("/app/echo");
    assert_eq!(seen[before..], [json!(null); 0]);
    assert!(shop.counter.seen("/app/order").is_empty());
    Ok(())
}

/// Nor is a link or a form of ours that has been there any more one of ours.
async fn what_has_been_elsewhere_is_ours_no_more(
    browser: &Browser,
    shop: &Shop,
    elsewhere: &str,
) -> Outcome {
    let back = |path| format!("{elsewhere}back?{}", shop.server.url(path));
    visit(browser, &shop.server.url("/app/home?by=address")).await?;
    browser
        .eval(
            "const link = document.querySelector('#next'); link.href = args[0]; link.click()",
            [json!(back("/app/echo?by=way"))],
        )
        .await?;
    browser
        .wait_until(
            "return location.pathname === '/app/echo' && document.readyState === 'complete'",
            PATIENCE,
        )
        .await?;
    let seen = own(shop, "way").ok_or("nothing came")?;
    assert_eq!(seen["fields"]["sec-fetch-site"], "cross-site");
    assert_eq!(cookies(&seen), "lax=ann");
    visit(browser, &shop.server.url("/app/home?by=address")).await?;
    browser
        .eval(
            "const form = document.querySelector('#order'); form.action = args[0]; form.submit()",
            [json!(back("/app/order"))],
        )
        .await?;
    browser
        .wait_until("return document.title === 'This was not sent'", PATIENCE)
        .await?;
    assert!(shop.counter.seen("/app/order").is_empty());

    // However much of the referrer a page of ours has let go there. In WebKit a worker cannot tell.
    if browser.engine() != Engine::WebKit {
        visit(browser, &shop.server.url("/app/loose")).await?;
        browser
            .eval(
                "const form = document.querySelector('#order'); form.action = args[0]; form.submit()",
                [json!(back("/app/order"))],
            )
            .await?;
        browser
            .wait_until("return document.title === 'This was not sent'", PATIENCE)
            .await?;
        assert!(shop.counter.seen("/app/order").is_empty());
    }
    Ok(())
}

/// The first page's own are ours, although that is all that is left of such a referrer.
async fn the_first_pages_own_are_ours(browser: &Browser, shop: &Shop, _elsewhere: &str) -> Outcome {
    visit(browser, &shop.server.url("/")).await?;
    browser
        .eval("document.querySelector('#next').click()", [])
        .await?;
    browser
        .wait_until(
            "return location.search === '?by=link' && document.readyState === 'complete'",
            PATIENCE,
        )
        .await?;
    let seen = own(shop, "link").ok_or("nothing came")?;
    assert_eq!(seen["fields"]["sec-fetch-site"], "same-origin");
    visit(browser, &shop.server.url("/")).await?;
    browser
        .eval("document.querySelector('#order').submit()", [])
        .await?;
    browser
        .wait_until(
            "return location.search === '?after=order' && document.readyState === 'complete'",
            PATIENCE,
        )
        .await?;
    assert_eq!(shop.counter.seen("/app/order").len(), 1);
    Ok(())
}

/// Reached from there, the page works as ever.
async fn the_page_works_as_ever(browser: &Browser, shop: &Shop, elsewhere: &str) -> Outcome {
    browser.goto(elsewhere).await?;
    browser
        .eval("document.querySelector('#link').click()", [])
        .await?;
    browser
        .wait_until(
            "return location.pathname === '/app/echo' && document.readyState === 'complete'",
            PATIENCE,
        )
        .await?;
    visit(browser, &shop.server.url("/app/home?by=address")).await?;
    browser
        .eval("document.querySelector('#next').click()", [])
        .await?;
    browser
        .wait_until(
            "return location.search === '?by=link' && document.readyState === 'complete'",
            PATIENCE,
        )
        .await?;
    let seen = own(shop, "link").ok_or("nothing came")?;
    assert_eq!(cookies(&seen), "strict=ann; lax=ann");
    Ok(())
}

/// The last request for the echo that came through by this way.
fn own(shop: &Shop, by: &str) -> Option<Value> {
    let seen = shop.counter.seen("/app/echo");
    seen.into_iter()
        .rfind(|seen| seen["query"] == format!("by={by}"))
}

/// The cookies that the verifier has let through, but for those that it has nothing to do with.
fn cookies(seen: &Value) -> String {
    let line = seen["fields"]["cookie"].as_str().unwrap_or_default();
    let cookies: Vec<_> = line
        .split("; ")
        .filter(|cookie| !cookie.starts_with("twin="))
        .collect();
    cookies.join("; ")
}

/// Goes to a page of the shop, until the worker stands before it.
async fn visit(browser: &Browser, url: &str) -> Result<Value, BrowserError> {
    browser.goto(url).await?;
    browser.wait_until("return window.ready", PATIENCE).await
}

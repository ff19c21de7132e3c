//! A service worker before an application of the old kind, in real browsers.

use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, BrowserError, Engine};
use bulla_tests::shop::{Shop, foreign};
use http::StatusCode;
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::in_each_engine!(an_application_that_knows_of_nothing_is_sealed);

async fn an_application_that_knows_of_nothing_is_sealed(engine: Engine) -> Outcome {
    let shop = Shop::open().await?;
    let browser = Browser::launch(engine).await?;
    what_goes_out_before_the_worker_is_there_waits_or_is_refused(&browser, &shop).await?;
    whatever_a_page_asks_for_is_sealed(&browser, &shop).await?;
    pages_and_forms_are_sealed(&browser, &shop).await?;
    redirects_lead_where_the_platform_leads(&browser, &shop).await?;
    parts_can_be_asked_for(&browser, &shop).await?;
    downloads_say_how_long_they_are(&browser, &shop).await?;
    streams_come_as_they_are_sent(&browser, &shop).await?;
    refusals_are_told_in_a_way_that_fits(&browser, &shop).await?;
    browser.quit().await?;
    Ok(())
}

/// Goes to a page, until the worker stands before it.
async fn visit(browser: &Browser, shop: &Shop, path: &str) -> Result<Value, BrowserError> {
    browser.goto(&shop.server.url(path)).await?;
    browser.wait_until("return window.ready", PATIENCE).await
}

async fn what_goes_out_before_the_worker_is_there_waits_or_is_refused(
    browser: &Browser,
    shop: &Shop,
) -> Outcome {
    // Without the worker: that it is refused is what the rest of the test goes by.
    browser.goto(&shop.server.url("/app/home")).await?;
    assert_eq!(
        shop.counter.refused(),
        [("/app/home".to_owned(), "proof_missing")]
    );

    browser.goto(&shop.server.url("/start")).await?;
    // The page's module may have run or not; a request that is made right then is sealed all the same.
    let said = browser
        .wait_until(
            "return window.ready && (await fetch('/app/echo?by=first')).json()",
            PATIENCE,
        )
        .await?;
    assert_eq!(said["query"], "by=first");
    assert_eq!(browser.eval("return ready", []).await?, "ready");
    Ok(())
}

async fn whatever_a_page_asks_for_is_sealed(browser: &Browser, shop: &Shop) -> Outcome {
    visit(browser, shop, "/start").await?;
    let found = browser
        .eval(
            "const loaded = (element) => new Promise((resolve, reject) => {
               element.onload = () => resolve(element.naturalWidth ?? element.contentDocument?.title ?? 'loaded');
               element.onerror = () => reject(new Error(element.localName));
               document.body.append(element);
             });
             const make = (name, given) => Object.assign(document.createElement(name), given);
             const xhr = new XMLHttpRequest();
             xhr.open('POST', '/app/echo?by=xhr');
             xhr.responseType = 'json';
             const sent = new Promise((resolve) => { xhr.onloadend = () => resolve([xhr.status, xhr.response?.body]) });
             xhr.send('clay');
             const posted = await fetch('/app/echo?by=fetch', { method: 'POST', body: 'seals', headers: { 'x-own': '1' } });
             return {
               xhr: await sent,
               fetch: [posted.status, posted.url, (await posted.json()).body],
               image: await loaded(make('img', { src: '/app/picture.svg' })),
               frame: await loaded(make('iframe', { src: '/app/home?by=frame' })),
               beacon: navigator.sendBeacon('/app/echo?by=beacon', 'lit'),
             };",
            [],
        )
        .await?;
    assert_eq!(
        found,
        json!({
            "xhr": [200, "clay"],
            "fetch": [200, shop.server.url("/app/echo?by=fetch"), "seals"],
            "image": 30,
            "frame": "The shop",
            "beacon": true,
        })
    );
    let seen = shop.counter.seen("/app/echo");
    let post = seen
        .iter()
        .find(|seen| seen["query"] == "by=fetch")
        .ok_or("no post")?;
    assert_eq!(post["fields"]["x-own"], "1");
    assert_eq!(post["fields"]["sec-fetch-site"], "same-origin");
    assert_eq!(post["fields"]["sec-fetch-mode"], "cors");
    assert_eq!(post["fields"]["referer"], shop.server.url("/start"));
    let frame = &shop.counter.seen("/app/home")[0];
    assert_eq!(frame["fields"]["sec-fetch-dest"], "iframe");
    assert_eq!(frame["fields"]["sec-fetch-site"], "same-origin");
    Ok(())
}

async fn pages_and_forms_are_sealed(browser: &Browser, shop: &Shop) -> Outcome {
    visit(browser, shop, "/app/home?by=address").await?;
    let title = "return document.title";
    assert_eq!(browser.eval(title, []).await?, "The shop");
    let path = "return location.pathname + location.search";

    browser
        .eval("document.querySelector('#order').submit()", [])
        .await?;
    browser
        .wait_until(
            "return location.search === '?after=order' && window.ready",
            PATIENCE,
        )
        .await?;
    let order = shop.counter.seen("/app/order");
    assert_eq!(order.len(), 1);
    assert_eq!(order[0]["body"], "what=clay+%26+seals");
    assert_eq!(
        order[0]["fields"]["content-type"],
        "application/x-www-form-urlencoded"
    );
    assert_eq!(order[0]["fields"]["sec-fetch-site"], "same-origin");
    assert_eq!(browser.eval(path, []).await?, "/app/home?after=order");

    // With a file.
    browser
        .eval(
            "const files = new DataTransfer();
             files.items.add(new File(['of clay'], 'tablet.txt', { type: 'text/plain' }));
             document.querySelector('#file').files = files.files;
             document.querySelector('#upload').submit();",
            [],
        )
        .await?;
    browser
        .wait_until(
            "return location.pathname === '/app/echo' && document.readyState === 'complete'",
            PATIENCE,
        )
        .await?;
    let upload = shop.counter.seen("/app/echo").pop().ok_or("no upload")?;
    let body = upload["body"].as_str().ok_or("no body")?;
    assert!(body.contains("name=\"note\"\r\n\r\nhello"), "{body}");
    assert!(
        body.contains("filename=\"tablet.txt\"") && body.contains("of clay"),
        "{body}"
    );

    visit(browser, shop, "/app/home").await?;
    browser
        .eval("document.querySelector('#next').click()", [])
        .await?;
    browser
        .wait_until(
            "return location.search === '?by=link' && document.readyState === 'complete'",
            PATIENCE,
        )
        .await?;
    Ok(())
}

async fn redirects_lead_where_the_platform_leads(browser: &Browser, shop: &Shop) -> Outcome {
    let elsewhere = foreign(&shop.server.origin()).await?;
    visit(browser, shop, "/app/home").await?;
    let found = browser
        .eval(
            "const reply = await fetch('/app/moved/307', { method: 'POST', body: 'again' });
             const kept = await reply.json();
             const changed = await fetch('/app/moved/303', { method: 'POST', body: 'no more' });
             const byHand = await fetch('/app/moved/302', { redirect: 'manual' });
             const refused = await fetch('/app/moved/302', { redirect: 'error' }).catch(({ name }) => name);
             const away = await fetch(`/app/away?${args[0]}`);
             return { kept: [kept.method, kept.body], changed: (await changed.json()).method, refused,
                      url: changed.url, redirected: changed.redirected,
                      byHand: [byHand.type, byHand.status], away: [away.url, (await away.json()).filter((name) => /bulla|signature/.test(name))] };",
            [json!(elsewhere.url("/plain"))],
        )
        .await?;
    assert_eq!(
        found,
        json!({
            "kept": ["POST", "again"],
            "changed": "GET",
            "refused": "TypeError",
            "url": shop.server.url("/app/echo?by=redirect"),
            "redirected": browser.engine() != Engine::WebKit,
            "byHand": ["opaqueredirect", 0],
            "away": [elsewhere.url("/plain"), []],
        })
    );

    browser
        .eval("document.querySelector('#moved').submit()", [])
        .await?;
    browser
        .wait_until(
            "return document.body.textContent.includes('what=kept')",
            PATIENCE,
        )
        .await?;
    let path = browser.eval("return location.pathname", []).await?;
    // WebKit would lose the form: there the worker follows, and the address stays.
    match browser.engine() {
        Engine::Chromium | Engine::Firefox => assert_eq!(path, "/app/echo"),
        Engine::WebKit => assert_eq!(path, "/app/moved/307"),
    }
    Ok(())
}

async fn parts_can_be_asked_for(browser: &Browser, shop: &Shop) -> Outcome {
    visit(browser, shop, "/app/home").await?;
    let found = browser
        .eval(
            "const part = await fetch('/app/sound.wav', { headers: { range: 'bytes=0-3' } });
             const played = (path) => new Promise((resolve) => {
               const audio = new Audio(path);
               audio.preload = 'auto';
               audio.onloadeddata = () => resolve(Math.round(audio.duration));
               audio.onerror = () => resolve(`error ${audio.error.code}`);
             });
             return { part: [part.status, part.headers.get('content-range'), await part.text()],
                      is_played: await played('/app/sound.wav') === await played('/twin/sound.wav') };",
            [],
        )
        .await?;
    assert_eq!(
        found,
        json!({ "part": [206, "bytes 0-3/8044", "RIFF"], "is_played": true })
    );
    Ok(())
}

async fn downloads_say_how_long_they_are(browser: &Browser, shop: &Shop) -> Outcome {
    visit(browser, shop, "/app/home").await?;
    let found = browser
        .eval(
            "const path = '/app/download';
             const reply = await fetch(path);
             const head = await fetch(path, { method: 'HEAD' });
             const xhr = new XMLHttpRequest();
             const told = new Set();
             xhr.open('GET', path);
             xhr.onprogress = ({ total, lengthComputable }) => told.add(`${total} ${lengthComputable}`);
             await new Promise((resolve) => {
               xhr.onloadend = resolve;
               xhr.send();
             });
             // The content ends where the message does, whatever is said of it.
             const stated = [2, 1000].map((length) => fetch(`/app/stated/${length}`).then((reply) => reply.text()));
             const length = ({ headers }) => headers.get('content-length');
             return { fetch: [length(reply), (await reply.arrayBuffer()).byteLength],
                      stated: await Promise.all(stated),
                      head: [length(head), await head.text()],
                      xhr: [[...told], xhr.response.length] };",
            [],
        )
        .await?;
    assert_eq!(
        found,
        json!({
            "fetch": ["100000", 100_000],
            "stated": ["clay and seals", "clay and seals"],
            "head": ["100000", ""],
            "xhr": [["100000 true"], 100_000],
        })
    );
    Ok(())
}

async fn streams_come_as_they_are_sent(browser: &Browser, shop: &Shop) -> Outcome {
    visit(browser, shop, "/start").await?;
    browser
        .eval(
            "window.source = new EventSource('/app/ticks/1000000/20');
             window.control = new AbortController();
             window.heard = 0;
             source.onmessage = () => { window.heard += 1 };
             const reply = await fetch('/app/ticks/1000000/20', { signal: control.signal });
             window.reader = reply.body.getReader();
             window.first = await reader.read().then(({value})=>reply.status+new TextDecoder().decode(value));",
            [],
        )
        .await?;
    browser.wait_until("return heard > 3", PATIENCE).await?;
    shop.counter.until_open(2).await?;
    browser.eval("control.abort(); source.close()", []).await?;
    shop.counter.until_open(0).await?;

    browser
        .eval("window.reader = (await fetch('/app/ticks/1000000/20')).body.getReader(); await reader.read()", [])
        .await?;
    shop.counter.until_open(1).await?;
    browser.eval("await reader.cancel()", []).await?;
    shop.counter.until_open(0).await?;

    // Nor does one outlive its page. (Chromium keeps a page that was left, with its requests, for a minute.)
    let first = browser.tab().await?;
    browser.new_tab().await?;
    visit(browser, shop, "/start").await?;
    browser
        .eval("window.reader = (await fetch('/app/ticks/1000000/20')).body.getReader(); await reader.read()", [])
        .await?;
    shop.counter.until_open(1).await?;
    browser.driver().close_window().await?;
    browser.switch(&first).await?;
    shop.counter.until_open(0).await?;
    Ok(())
}

async fn refusals_are_told_in_a_way_that_fits(browser: &Browser, shop: &Shop) -> Outcome {
    let found = browser
        .eval("const reply = await fetch('/app/members'); return [reply.status, reply.headers.get('content-type'), (await reply.json()).code]", [])
        .await?;
    assert_eq!(
        found,
        json!([401, "application/problem+json", "login_required"])
    );
    // What is not sealed may be anybody's, and speaks neither for the verifier nor for the application.
    shop.counter.forge(Some(StatusCode::NOT_FOUND));
    let forged = browser
        .eval(
            "return fetch('/app/echo').then(({ status }) => status, ({ name }) => name)",
            [],
        )
        .await?;
    assert_eq!(forged, "TypeError");
    browser.goto(&shop.server.url("/app/members")).await?;
    assert_eq!(
        browser.eval("return location.pathname", []).await?,
        "/app/members"
    );
    shop.counter.forge(None);

    // A person who has sent a form is told, and one who asks for a page is sent to the login.
    visit(browser, shop, "/signin").await?;
    browser
        .eval("document.querySelector('#members').submit()", [])
        .await?;
    browser
        .wait_until(
            "return location.pathname === '/app/members' && document.readyState === 'complete'",
            PATIENCE,
        )
        .await?;
    let said = browser
        .eval(
            "return [document.title, document.querySelector('code').textContent]",
            [],
        )
        .await?;
    assert_eq!(said, json!(["You are not signed in", "login_required"]));
    browser.goto(&shop.server.url("/app/members")).await?;
    browser
        .wait_until(
            "return document.title === 'The sign-in' && window.ready",
            PATIENCE,
        )
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
    browser.goto(&shop.server.url("/app/members")).await?;
    let text = browser.eval("return document.body.textContent", []).await?;
    assert!(
        text.as_str().is_some_and(|text| text.contains("ann")),
        "{text}"
    );
    Ok(())
}

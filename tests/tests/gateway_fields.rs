//! Fields by which pages are protected, as browsers get them through the gateway, with somebody on the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::http::header::{
    ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, Request};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use bulla_client::Client;
use bulla_gateway::config::{Access, Config, FieldsRule, PathRule, Reaction};
use bulla_gateway::delivery::Hash;
use bulla_server::Events;
use bulla_tests::attack::Name::{Api, Asvs};
use bulla_tests::attack::With::Held;
use bulla_tests::attack::{Attack, Shown, Twin};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::gateway::before;
use bulla_tests::serve::Server;
use serde_json::Value;
use tokio::time::timeout;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::attacks! {
    nobody_on_the_way_takes_a_pages_policies_off in each engine: [TAKES_POLICIES_OFF],
}

bulla_tests::in_each_engine!(
    what_stands_outside_the_seal_is_compared,
    chromium_outside Chromium,
    firefox_outside Firefox,
    webkit_outside WebKit
);

/// A page by whose fields the second script does not run, nor a frame of it show.
const PAGE: &str = "<!doctype html><title>The till</title><link rel=icon href=data:,>
<script nonce=clay>window.own = true</script>
<script>window.put = true</script>
<script nonce=clay src=/text></script>
<p>clay";

/// Another one that frames it.
const FRAMING: &str =
    "<!doctype html><title>The frame</title><link rel=icon href=data:,><iframe src=/till></iframe>";

const FIELDS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, "script-src 'nonce-clay'"),
    (REFERRER_POLICY, "no-referrer"),
    (X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-embedder-policy"),
        "require-corp",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "geolocation=()",
    ),
];

/// What of its fields a page shows: those that count, by the name of what they do.
const SHOWN: &str = "
    const shown = [];
    if (!window.put) shown.push('scripts');
    if (!window.text) shown.push('types');
    if (window.crossOriginIsolated) shown.push('isolated');
    if (document.featurePolicy?.allowsFeature('geolocation') === false) shown.push('geolocation');
    const sent = await fetch('/referrer');
    if (await sent.text() === '') shown.push('referrer');
    return shown";

fn application() -> Router {
    let till = async || {
        let mut page = Response::new(PAGE.to_owned());
        let fields = page.headers_mut();
        fields.insert("content-type", HeaderValue::from_static("text/html"));
        for (name, value) in FIELDS {
            fields.insert(name, HeaderValue::from_static(value));
        }
        page
    };
    let text = async || {
        let nosniff = [(X_CONTENT_TYPE_OPTIONS, "nosniff")];
        (nosniff, "window.text = true")
    };
    let referrer = async |fields: axum::http::HeaderMap| {
        let referrer = fields.get("referer").and_then(|field| field.to_str().ok());
        referrer.unwrap_or_default().to_owned()
    };
    Router::new()
        .route("/till", get(till))
        .route("/text", get(text))
        .route("/referrer", get(referrer))
        .route("/framing", get(async || Html(FRAMING)))
}

/// Takes all of them off.
async fn stripped(mut response: Response) -> Response {
    for (name, _) in FIELDS {
        response.headers_mut().remove(name);
    }
    response.headers_mut().remove(X_CONTENT_TYPE_OPTIONS);
    response
}

async fn shown(browser: &Browser, site: &Server) -> Outcome<BTreeSet<String>> {
    browser.goto(&site.url("/till")).await?;
    browser.wait_until("return window.own", PATIENCE).await?;
    let shown = browser.eval(SHOWN, []).await?;
    let mut shown: BTreeSet<String> = serde_json::from_value(shown)?;
    browser.goto(&site.url("/framing")).await?;
    let framed = "const [frame] = document.querySelectorAll('iframe');
        if (!frame || document.readyState !== 'complete') return null;
        let title;
        try { title = frame.contentDocument.title } catch {}
        return [title === 'The till']";
    let framed = browser.wait_until(framed, PATIENCE).await?;
    if framed[0] == Value::Bool(false) {
        shown.insert("frames".to_owned());
    }
    Ok(shown)
}

/// A page whose policy can be changed while it runs.
fn deployed(weak: &Arc<AtomicBool>) -> Router {
    let weak = Arc::clone(weak);
    let page = move || {
        let policy = if weak.load(Ordering::SeqCst) {
            "script-src 'nonce-2' *"
        } else {
            "script-src 'nonce-1'"
        };
        async move { ([(CONTENT_SECURITY_POLICY, policy)], Html("<p>clay")) }
    };
    Router::new().route("/till", get(page))
}

/// The first page, then that with a weak policy twice, with the line that is told between. Gives how often a change was
/// noticed.
async fn noticed_of_a_deployment(fields: Vec<FieldsRule>, watch: bool) -> Outcome<usize> {
    let weak = Arc::default();
    let application = Server::start(deployed(&weak)).await?;
    let configure = |config: &mut Config| {
        config.fields = fields;
        config.runtime.watch = watch;
    };
    let (gateway, server) = before(&application.url(""), configure, |router| router).await?;
    let mut events = gateway.bulla().events();
    let session = Client::builder(server.url("")).build()?.open().await?;
    let ask = async || {
        let page = Request::get("/till").header(ACCEPT, "text/html");
        let page = session.fetch(page.body("")?).await?;
        assert_eq!(page.status(), 200);
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    ask().await?;
    weak.store(true, Ordering::SeqCst);
    ask().await?;
    ask().await?;
    let seen = gateway.page_fields();
    assert_eq!(seen.len(), if watch { 2 } else { 0 }, "{seen:?}");
    let last = r#"{"kind":"patched","what":"fetch"}"#;
    let last = Request::post("/.well-known/bulla/gateway/report")
        .header(CONTENT_TYPE, "application/json")
        .body(last)?;
    session.fetch(last).await?;
    let mut found = 0;
    loop {
        let event = timeout(PATIENCE, events.next()).await?;
        let event = event.ok_or("the verifier is gone")??;
        match event.kind.noticed() {
            Some("fields-changed") => {
                assert!(event.session.is_some());
                found += 1;
            }
            Some(_) => return Ok(found),
            None => {}
        }
    }
}

#[tokio::test]
async fn fields_that_an_application_changes_are_an_event_unless_they_are_authorised() -> Outcome {
    assert_eq!(noticed_of_a_deployment(Vec::new(), true).await?, 1);
    assert_eq!(noticed_of_a_deployment(Vec::new(), false).await?, 0);
    let weak = "content-security-policy: script-src 'nonce-' *\n";
    let rule = |page: Option<&str>| FieldsRule {
        page: page.map(str::to_owned),
        hash: Hash::of(weak.as_bytes()).integrity(),
        justification: "as it was deployed".to_owned(),
    };
    assert_eq!(noticed_of_a_deployment(vec![rule(None)], true).await?, 0);
    // What is named has to be so from the beginning.
    let named = vec![rule(Some("/till"))];
    assert_eq!(noticed_of_a_deployment(named, true).await?, 1);
    let elsewhere = vec![rule(Some("/other"))];
    assert_eq!(noticed_of_a_deployment(elsewhere, true).await?, 1);
    Ok(())
}

static TAKES_POLICIES_OFF: Attack = Attack {
    has: "a place on the way of a page behind the gateway",
    does: "takes off the fields that protect the page",
    twin: Twin::App,
    without: "the page is without its policies",
    with: Held("they are as the application has set them"),
    names: &[Api(8), Asvs("4.1.5")],
    shown: Shown::nothing(),
};

async fn nobody_on_the_way_takes_a_pages_policies_off(engine: Engine) -> Outcome {
    let alone = Server::start(application()).await?;
    let twin = Server::start(application().layer(map_response(stripped))).await?;
    let (_, gateway) = before(
        &alone.url(""),
        |_| (),
        |router| router.layer(map_response(stripped)),
    )
    .await?;
    let browser = Browser::launch(engine).await?;
    let expected = shown(&browser, &alone).await?;
    let without = shown(&browser, &twin).await?;
    let through = shown(&browser, &gateway).await?;
    assert!(expected.len() >= 5, "{expected:?}");
    TAKES_POLICIES_OFF.without(without.is_empty());
    TAKES_POLICIES_OFF.with(through == expected);
    browser.quit().await?;
    Ok(())
}

const HSTS: HeaderName = axum::http::header::STRICT_TRANSPORT_SECURITY;
const CLEAR: HeaderName = HeaderName::from_static("clear-site-data");

bulla_tests::in_each_engine!(
    public_pages_are_compared_with_what_is_sealed,
    chromium_public Chromium,
    firefox_public Firefox,
    webkit_public WebKit
);

/// Has a page load a script that its worker tells of, among what it has found itself.
const LOAD: &str = "const script = document.createElement('script');
    script.src = '/last.js';
    document.head.append(script)";

/// Has the loader notice something, which goes out apart from that.
const PATCH: &str = "XMLHttpRequest.prototype.send = () => 0; dispatchEvent(new Event('pagehide'))";

/// A page that anybody may have, and one that has to be sealed. The first one's policy has a nonce, and a token.
async fn public_pages_are_compared_with_what_is_sealed(engine: Engine) -> Outcome {
    let changes: [(Change, bool); 2] = [
        (|reply| reply, false),
        (
            |mut reply| {
                reply.headers_mut().remove(CONTENT_SECURITY_POLICY);
                reply
            },
            true,
        ),
    ];
    let browser = Browser::launch(engine).await?;
    for (change, is_expected) in changes {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let public = move |method: Method| {
            let number = counted.fetch_add(usize::from(method == Method::HEAD), Ordering::SeqCst);
            let policy = format!("object-src 'none'; script-src * 'nonce-{number}'");
            let varies = format!("token-{number}=\"/reports\"");
            let fields = [
                (CONTENT_SECURITY_POLICY, policy),
                (HeaderName::from_static("reporting-endpoints"), varies),
            ];
            async move { (fields, Html("<title>The shop</title>")) }
        };
        let till = async || Html("<title>The till</title>");
        let application = Router::new()
            .route("/shop/", get(public))
            .route("/last.js", get(last))
            .route("/till", get(till));
        let application = Server::start(application).await?;
        let around =
            |router: Router| router.layer(map_response(move |reply| async move { change(reply) }));
        let configure = |config: &mut Config| {
            config.paths = vec![PathRule {
                prefix: "/shop/".to_owned(),
                access: Access::Public,
            }];
        };
        let (gateway, server) = before(&application.url(""), configure, around).await?;
        let mut events = gateway.bulla().events();
        for (path, title) in [("/till", "The till"), ("/shop/?token=1", "The shop")] {
            browser.goto(&server.url(path)).await?;
            let there = format!(
                "return document.title === '{title}' && navigator.serviceWorker.controller"
            );
            browser.wait_until(&there, PATIENCE).await?;
        }
        let has_asked = async {
            while asked.load(Ordering::SeqCst) < 3 {
                browser.eval("return 0", []).await?;
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        let has_asked = timeout(PATIENCE, has_asked).await;
        has_asked.map_err(|_| format!("it was asked {asked:?} times"))??;
        let noticed = noticed_at_last(&browser, &mut events).await?;
        let is_told = noticed.contains(&"transit");
        assert_eq!(is_told, is_expected, "{noticed:?}");
    }
    browser.quit().await?;
    Ok(())
}

async fn last() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/javascript")], "window.last = true")
}

/// All that is noticed up to two things that are told for certain, the second only once the first is: what the worker finds
/// meanwhile goes out with the first, or before the second.
async fn noticed_at_last(browser: &Browser, events: &mut Events) -> Outcome<Vec<&'static str>> {
    let mut noticed = Vec::new();
    for (marker, script) in [("script", LOAD), ("patched", PATCH)] {
        browser.eval(script, []).await?;
        while !noticed.contains(&marker) {
            let event = timeout(PATIENCE, events.next()).await?;
            noticed.extend(event.ok_or("the verifier is gone")??.kind.noticed());
        }
    }
    Ok(noticed)
}

/// What somebody on the way does with a reply.
type Change = fn(Response) -> Response;

/// Has a page come so, and tells whether its worker has told that fields are others.
async fn is_told(browser: &Browser, change: Change) -> Outcome<bool> {
    let page = (
        [(HSTS, "max-age=1; includeSubDomains")],
        Html("<title>The till</title>"),
    );
    let application = Router::new()
        .route("/till", get(async move || page))
        .route("/last.js", get(last));
    let application = Server::start(application).await?;
    let around =
        |router: Router| router.layer(map_response(move |reply| async move { change(reply) }));
    let configure = |config: &mut Config| config.runtime.transit = Reaction::StepUp;
    let (gateway, server) = before(&application.url(""), configure, around).await?;
    let mut events = gateway.bulla().events();
    browser.goto(&server.url("/till")).await?;
    let there = "return document.title === 'The till' && navigator.serviceWorker.controller";
    browser.wait_until(there, PATIENCE).await?;
    let noticed = noticed_at_last(browser, &mut events).await?;
    Ok(noticed.contains(&"transit"))
}

async fn what_stands_outside_the_seal_is_compared(engine: Engine) -> Outcome {
    let changes: [(Change, bool); 4] = [
        (|reply| reply, false),
        (
            |mut reply| {
                reply.headers_mut().remove(HSTS);
                reply
            },
            true,
        ),
        // What protects nothing may come in.
        (
            |mut reply| {
                let served = HeaderValue::from_static("cdn");
                reply.headers_mut().insert("x-served-by", served);
                reply
            },
            false,
        ),
        (
            |mut reply| {
                let cache = HeaderValue::from_static("\"cache\"");
                reply.headers_mut().insert(CLEAR, cache);
                reply
            },
            // It shows it to nobody.
            engine != Engine::Chromium,
        ),
    ];
    let browser = Browser::launch(engine).await?;
    for (number, (change, expected)) in changes.into_iter().enumerate() {
        let told = is_told(&browser, change).await;
        let told = told.map_err(|error| format!("{number}: {error}"))?;
        assert_eq!(told, expected, "{number}");
    }
    browser.quit().await?;
    Ok(())
}

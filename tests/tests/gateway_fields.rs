//! Fields by which pages are protected, as browsers get them through the gateway, with somebody on the way.

use std::collections::BTreeSet;

use axum::Router;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::map_response;
use axum::response::{Html, Response};
use axum::routing::get;
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::gateway::before;
use bulla_tests::serve::Server;
use serde_json::Value;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::in_each_engine!(nobody_on_the_way_takes_a_pages_policies_off);

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
    assert!(without.is_empty(), "{without:?}");
    assert_eq!(through, expected);
    browser.quit().await?;
    Ok(())
}

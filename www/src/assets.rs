//! The page and the npm package's files, embedded.

use axum::Router;
use axum::http::HeaderMap;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Response};
use axum::response::IntoResponse;
use axum::routing::get;
use bulla_client::{Random as _, SystemRandom};

use crate::tap::{VISITOR, visitor};

/// No script but the page's own files, and Wasm; nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
     font-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const WASM: &str = "application/wasm";
const WOFF2: &str = "font/woff2";

const BANK: &[u8] = include_bytes!("../page/index.html");
const PANEL: &[u8] = include_bytes!("../page/panel.html");

macro_rules! files {
    ($($path:literal $kind:ident $file:literal,)+) => {
        const FILES: &[(&str, &str, &[u8])] = &[
            $(($path, $kind, include_bytes!(concat!("../", $file))),)+
        ];
    };
}

files! {
    "/page/style.css" CSS "page/style.css",
    "/page/main.js" SCRIPT "page/main.js",
    "/page/bank.js" SCRIPT "page/bank.js",
    "/page/wire.js" SCRIPT "page/wire.js",
    "/page/message.js" SCRIPT "page/message.js",
    "/page/attack.js" SCRIPT "page/attack.js",
    "/page/panel.js" SCRIPT "page/panel.js",
    "/page/thief.js" SCRIPT "page/thief.js",
    "/page/rules.js" SCRIPT "page/rules.js",
    "/page/places.js" SCRIPT "page/places.js",
    "/page/office.js" SCRIPT "page/office.js",
    "/page/feed.js" SCRIPT "page/feed.js",
    "/page/meter.js" SCRIPT "page/meter.js",
    "/page/dom.js" SCRIPT "page/dom.js",
    "/page/seal.svg" SVG "page/seal.svg",
    "/page/hanken-grotesk.woff2" WOFF2 "page/hanken-grotesk.woff2",
    "/favicon.ico" SVG "page/seal.svg",
    "/bulla/index.js" SCRIPT "../npm/dist/index.js",
    "/bulla/later/debug.js" SCRIPT "../npm/dist/later/debug.js",
    "/bulla/later/events.js" SCRIPT "../npm/dist/later/events.js",
    "/bulla/later/form.js" SCRIPT "../npm/dist/later/form.js",
    "/bulla/later/progress.js" SCRIPT "../npm/dist/later/progress.js",
    "/bulla/bulla_web_bg.wasm" WASM "../npm/dist/bulla_web_bg.wasm",
}

/// The bank's page at `/`, and what it loads.
pub(crate) fn bank() -> Router {
    let page = get(|headers: HeaderMap| async move {
        let mut response = file(HTML, BANK);
        if visitor(&headers).is_none()
            && let Some(cookie) = new_visitor()
        {
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
        response
    });
    files().route("/", page)
}

/// The thief's panel at `/`, and what it loads.
pub(crate) fn panel() -> Router {
    files().route("/", get(|| async { file(HTML, PANEL) }))
}

fn files() -> Router {
    let mut router = Router::new();
    for (path, kind, content) in FILES.iter().copied() {
        router = router.route(path, get(move || async move { file(kind, content) }));
    }
    router
}

fn file(kind: &'static str, content: &'static [u8]) -> Response<axum::body::Body> {
    let mut response = content.into_response();
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(CONTENT_TYPE, kind);
    set(CONTENT_SECURITY_POLICY, POLICY);
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(REFERRER_POLICY, "no-referrer");
    set(CACHE_CONTROL, "no-cache");
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    response
}

/// Not `Secure`: WebKit keeps no such cookie on `http://localhost`.
fn new_visitor() -> Option<HeaderValue> {
    let mut random = [0; 16];
    SystemRandom.fill(&mut random).ok()?;
    let name = u128::from_be_bytes(random);
    let cookie = format!("{VISITOR}={name:032x}; Path=/; HttpOnly; SameSite=Strict");
    HeaderValue::from_str(&cookie).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_package_fetches_later_is_there() {
        let served = |path: &str| FILES.iter().find(|(served, ..)| *served == path);
        let (.., script) = served("/bulla/index.js").unwrap();
        let script = str::from_utf8(script).unwrap();
        let names: Vec<_> = script
            .split("import(\"./")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once('"')?.0))
            .collect();
        assert!(names.contains(&"later/events.js"), "{names:?}");
        for name in names {
            assert!(served(&format!("/bulla/{name}")).is_some(), "{name}");
        }
    }
}

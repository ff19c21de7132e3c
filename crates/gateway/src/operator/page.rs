//! The page itself: written by hand, and served from this process.

use axum::response::{Html, IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};

const PAGE: &str = include_str!("../../page/operator/page.html");
const LOGIN: &str = include_str!("../../page/operator/login.html");
const STYLE: &str = include_str!("../../page/operator/style.css");
const SCRIPT: &str = include_str!("../../page/operator/script.js");
const PLOT: &str = include_str!("../../page/operator/plot.js");

/// What the pages may do. The referrer is kept within them: without any, browsers would not say of which origin a form is.
const FIELDS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Sets what all answers have in common.
pub(super) fn guarded(mut response: Response) -> Response {
    let fields = response.headers_mut();
    for &(name, value) in FIELDS {
        fields.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    let fresh = HeaderValue::from_static("no-store");
    fields.entry(CACHE_CONTROL).or_insert(fresh);
    response
}

pub(super) async fn page() -> Html<&'static str> {
    Html(PAGE)
}

pub(super) async fn login() -> Html<String> {
    Html(LOGIN.replace("{said}", ""))
}

/// The form again, with what was wrong.
pub(super) fn not_logged_in(status: StatusCode, said: &'static str) -> Response {
    let said = format!("<p class=\"wrong\" role=\"alert\">{said}</p>");
    (status, Html(LOGIN.replace("{said}", &said))).into_response()
}

pub(super) async fn style(headers: HeaderMap) -> Response {
    file(&headers, "text/css; charset=utf-8", STYLE)
}

pub(super) async fn script(headers: HeaderMap) -> Response {
    file(&headers, "text/javascript; charset=utf-8", SCRIPT)
}

pub(super) async fn plot(headers: HeaderMap) -> Response {
    file(&headers, "text/javascript; charset=utf-8", PLOT)
}

/// A file, unless the browser has it already (RFC 9110 section 13.1.2).
fn file(headers: &HeaderMap, kind: &'static str, content: &'static str) -> Response {
    let digest = Sha256::digest(content);
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest));
    let is_known = headers
        .get(IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let fields = [
        (CONTENT_TYPE, kind.to_owned()),
        (ETAG, tag),
        (CACHE_CONTROL, "no-cache".to_owned()),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    (fields, content).into_response()
}

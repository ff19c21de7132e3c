//! What the application serves at a path, as far as it is code that everybody gets: the gateway asks for it itself, by
//! a request that nobody else has had a hand in, and keeps nothing of the reply but its hash.

use std::path::Path;

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, Response, StatusCode};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};

use super::Hash;
use super::manifest::is_code;
use super::validator::Validator;
use crate::access::is_beginning;
use crate::media;

/// How long a file may be, in bytes.
const MOST: u64 = 64 << 20;

/// How long a path may be, in bytes.
const MOST_PATH: usize = 512;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Code {
        hash: Hash,
        is_wasm: bool,
    },
    /// Nothing that everybody gets as code.
    Nothing,
}

/// What is at a path, and by what it is known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) found: Found,
    /// Where there is one, it need not be sent once more.
    pub(crate) validator: Option<Validator>,
}

impl From<Found> for Looked {
    fn from(found: Found) -> Self {
        Self {
            found,
            validator: None,
        }
    }
}

/// Whether what is at a path may be listed. Each file has few spellings that may, since there is no room for many.
pub(crate) fn may_be_listed(path: &str, base: &str) -> bool {
    // What never has to be encoded (RFC 3986 section 2.3) is not.
    let has_to_be = |octet: u8| !octet.is_ascii_alphanumeric() && !b"-._~".contains(&octet);
    let encoded = || {
        path.split('%')
            .skip(1)
            .map(|rest| rest.get(..2).unwrap_or_default())
    };
    let is_plain = encoded().all(|hex| u8::from_str_radix(hex, 16).is_ok_and(has_to_be));
    // Each letter in either case would double the spellings.
    let has =
        |is_in_case: fn(&u8) -> bool| encoded().any(|hex| hex.as_bytes().iter().any(is_in_case));
    let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    path.starts_with(base) && path.len() <= MOST_PATH && is_plain && !is_mixed && is_beginning(path)
}

/// What the application has answered to a request for a path; `None` if it says nothing about what is there. With
/// `before` it was asked whether that has changed.
pub(crate) async fn found(
    path: &str,
    response: Response<Body>,
    before: Option<&Looked>,
) -> Option<Looked> {
    let (parts, mut body) = response.into_parts();
    match (parts.status, before) {
        (StatusCode::OK, _) => {}
        (StatusCode::NOT_FOUND | StatusCode::GONE, _) => return Some(Found::Nothing.into()),
        (StatusCode::NOT_MODIFIED, Some(before)) => {
            let is_listed = is_for_everybody(path, &parts.headers);
            let before = is_listed.then(|| before.clone());
            return Some(before.unwrap_or(Found::Nothing.into()));
        }
        _ => return None,
    }
    let kind = media::essence(&parts.headers);
    if !runs(path, &kind) || !is_for_everybody(path, &parts.headers) {
        return Some(Found::Nothing.into());
    }
    let (mut hash, mut len) = (Sha256::new(), 0);
    while let Some(frame) = body.frame().await {
        // What broke off is said where it did.
        let Ok(data) = frame.ok()?.into_data() else {
            continue;
        };
        len += data.len() as u64;
        if len > MOST {
            tracing::warn!(target: "bulla_gateway::delivery", path, "a file is not listed, as it is too long");
            return Some(Found::Nothing.into());
        }
        hash.update(&data);
    }
    let is_wasm = kind == "application/wasm" || end(path) == "wasm";
    let hash = Hash::read(hash);
    Some(Looked {
        found: Found::Code { hash, is_wasm },
        validator: Validator::of(&parts.headers),
    })
}

/// Whether others get the same reply, as far as it says so.
fn is_for_everybody(path: &str, fields: &HeaderMap) -> bool {
    let why = not_for_everybody(fields);
    if let Some(why) = why {
        tracing::warn!(target: "bulla_gateway::delivery", path, why, "a file is not listed, as others may get another one");
    }
    why.is_none()
}

/// Whether browsers may run it, or draw by it.
fn runs(path: &str, kind: &str) -> bool {
    let is_named = is_code(&end(path)) && kind != "text/html";
    let is_script = kind.ends_with("/javascript")
        || kind.ends_with("/x-javascript")
        || kind.ends_with("/ecmascript");
    is_named || is_script || matches!(kind, "text/css" | "application/wasm")
}

/// Why it may be that others get another reply, if it may be.
fn not_for_everybody(fields: &HeaderMap) -> Option<&'static str> {
    let says = |name: &HeaderName, is_bad: &dyn Fn(&str) -> bool| {
        let lines = fields.get_all(name).iter();
        let lines = lines.map(|line| line.to_str().unwrap_or("?"));
        let mut members = lines.flat_map(|line| line.split(',')).map(str::trim);
        members.any(|member| !member.is_empty() && is_bad(&member.to_ascii_lowercase()))
    };
    let is_harmless = |name: &str| matches!(name, "accept-encoding" | "origin");
    if says(&VARY, &|name| !is_harmless(name)) {
        Some("vary")
    } else if says(&CACHE_CONTROL, &|said| said.starts_with("private")) {
        Some("cache-control")
    } else if fields.contains_key(SET_COOKIE) {
        Some("set-cookie")
    } else if says(&CONTENT_ENCODING, &|coding| coding != "identity") {
        Some("content-encoding")
    } else {
        None
    }
}

fn end(path: &str) -> String {
    let end = Path::new(path).extension().and_then(|end| end.to_str());
    end.unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;

    use super::*;

    async fn at(path: &str, status: u16, fields: &[(HeaderName, &'static str)]) -> Option<Found> {
        let mut response = Response::new(Body::from("clay"));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            let value = HeaderValue::from_static(value);
            response.headers_mut().append(name, value);
        }
        found(path, response, None).await.map(|looked| looked.found)
    }

    #[tokio::test]
    async fn code_that_everybody_gets_is_found_and_nothing_else() {
        let found = |is_wasm| {
            let hash = Hash::of(b"clay");
            Some(Found::Code { hash, is_wasm })
        };
        let js = (CONTENT_TYPE, "Text/JavaScript; charset=utf-8");
        for (path, status, fields, expected) in [
            ("/a.js", 200, vec![js.clone()], found(false)),
            ("/sdk", 200, vec![js.clone()], found(false)),
            (
                "/a.css",
                200,
                vec![(CONTENT_TYPE, "text/css")],
                found(false),
            ),
            (
                "/a",
                200,
                vec![(CONTENT_TYPE, "application/wasm")],
                found(true),
            ),
            (
                "/a.WASM",
                200,
                vec![(CONTENT_TYPE, "application/octet-stream")],
                found(true),
            ),
            ("/a.js", 200, vec![], found(false)),
            (
                "/a.js",
                200,
                vec![js.clone(), (VARY, "Accept-Encoding, Origin")],
                found(false),
            ),
            (
                "/a.js",
                200,
                vec![js.clone(), (CACHE_CONTROL, "public, no-store")],
                found(false),
            ),
            (
                "/a.js",
                200,
                vec![js.clone(), (CONTENT_ENCODING, "identity")],
                found(false),
            ),
            // Pages that say that there is no such file, and what others may get otherwise.
            (
                "/a.js",
                200,
                vec![(CONTENT_TYPE, "text/html")],
                Some(Found::Nothing),
            ),
            (
                "/cat.png",
                200,
                vec![(CONTENT_TYPE, "image/png")],
                Some(Found::Nothing),
            ),
            (
                "/a.js",
                200,
                vec![js.clone(), (VARY, "accept-encoding, Cookie")],
                Some(Found::Nothing),
            ),
            (
                "/a.js",
                200,
                vec![js.clone(), (VARY, "*")],
                Some(Found::Nothing),
            ),
            (
                "/a.js",
                200,
                vec![js.clone(), (CACHE_CONTROL, "max-age=1, Private")],
                Some(Found::Nothing),
            ),
            (
                "/a.js",
                200,
                vec![js.clone(), (SET_COOKIE, "a=b")],
                Some(Found::Nothing),
            ),
            (
                "/a.js",
                200,
                vec![js.clone(), (CONTENT_ENCODING, "gzip")],
                Some(Found::Nothing),
            ),
            ("/a.js", 404, vec![js.clone()], Some(Found::Nothing)),
            // Of these nobody knows what is there.
            ("/a.js", 206, vec![js.clone()], None),
            ("/a.js", 302, vec![js.clone()], None),
            ("/a.js", 403, vec![js.clone()], None),
            ("/a.js", 502, vec![js], None),
        ] {
            assert_eq!(
                at(path, status, &fields).await,
                expected,
                "{path} {status} {fields:?}"
            );
        }
    }

    #[tokio::test]
    async fn half_a_file_is_none() {
        let parts = [Ok("cl"), Err(std::io::Error::other("broke off"))];
        let body = Body::from_stream(futures_util::stream::iter(parts));
        assert_eq!(found("/a.js", Response::new(body), None).await, None);
    }

    #[test]
    fn a_file_has_few_spellings() {
        for path in [
            "/static/a.js",
            "/static/a/%5Bid%5D.js",
            "/static/%C3%BC.css",
            "/static/%c3%bc.css",
        ] {
            assert!(may_be_listed(path, "/static/"), "{path}");
        }
        let long = format!("/static/{}", "a".repeat(MOST_PATH));
        for path in [
            "/app.js",
            "/static",
            "//static/a.js",
            "/static//a.js",
            "/static/./a.js",
            "/static/../a.js",
            "/static/%2e%2e/a.js",
            "/static/a.js?b",
            "/static/a.js;b",
            "/static/%61.js",
            "/static/a%2Db.js",
            "/static/a%5fb.js",
            "/static/%7Ea.js",
            "/static/%C3%bc.css",
            "/static/%c3/%BC.css",
            "/static/a%2Fb.js",
            "/static/a%.js",
            "/static/a b.js",
            "/static/ü.js",
            long.as_str(),
        ] {
            assert!(!may_be_listed(path, "/static/"), "{path}");
        }
    }
}

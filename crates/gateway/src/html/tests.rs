use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderName;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http_body_util::BodyExt as _;
use proptest::prelude::*;

use super::*;
use crate::config::{self, Mode, Policy, Source};
use crate::delivery::{Delivery, Hash, Manifest, strict_policy};

const TAG: &str =
    r#"<script src="/loader.js" integrity="sha384-abc" crossorigin data-worker="/sw.js"></script>"#;

fn loader() -> Arc<Loader> {
    Arc::new(Loader {
        script: "/loader.js".to_owned(),
        integrity: "sha384-abc".to_owned(),
        worker: "/sw.js".to_owned(),
        origin: "https://bank.example".to_owned(),
        watch: false,
    })
}

fn page(body: Body) -> Response<Body> {
    Response::builder()
        .header(CONTENT_TYPE, "text/html; charset=utf-8")
        .body(body)
        .unwrap()
}

/// What is made of a page whose bytes come in these parts.
async fn made_of(parts: &[&[u8]]) -> Result<Vec<u8>, axum::Error> {
    let parts: Vec<_> = parts
        .iter()
        .map(|&part| Ok::<_, Infallible>(Bytes::copy_from_slice(part)))
        .collect();
    let response = rewrite(
        page(Body::from_stream(stream::iter(parts))),
        &loader(),
        None,
    );
    let collected = response.into_body().collect().await?;
    Ok(collected.to_bytes().to_vec())
}

fn now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

fn made(page: &[u8]) -> Vec<u8> {
    now(made_of(&[page])).unwrap()
}

/// Pages, in which `@` is where the loader belongs.
const PLACES: &[&str] = &[
    "<!doctype html><html><head>@<title>x</title><script>1</script></head><body></body></html>",
    "<!DOCTYPE HTML>\n<HTML lang=en>\n<HEAD class='x>y'>@\n<META charset=utf-8>",
    "<head>@</head>",
    "<head/>@<script>1</script>",
    "<!doctype html>@<title>x</title><p>y",
    "<html>@<body onload=1><script>1</script>",
    "<html>@<frameset><frame src=/a></frameset>",
    "@<header>x</header><head><script>1</script></head>",
    "@<script>'<head>'</script><head>",
    "@<svg><script>1</script></svg>",
    "@<template><script>1</script></template><head>",
    "@<noscript><head></noscript>",
    "@<select><xmp><script>1</script></select>",
    "@<img src=x onerror=1>",
    "@<p",
    "@<link rel=stylesheet href=/a.css><head>",
    "<!-- <head><script>1</script> -->@<script>2</script>",
    "<!--[if IE]><head><script>1</script><![endif]--><head>@<script>2</script>",
    "<![if !IE]><head>@<![endif]>",
    "<![CDATA[<script>]]>@<b>",
    "<?xml version='1.0'?><html>@<body>",
    "<!--><head>@--><script>1</script>",
    "<!-- a --!><head>@",
    "</head></p>text @<b>bold</b>",
    "text <html> text <head>@",
    "just text, a < b, &lt;head>@",
    "<html>@",
    "\u{feff}<html><head>@",
    "<head title=\"<script>\">@<script>1</script>",
    "<html data-a='<head>' data-b=<head>>@",
    "<html\n\n><head\t\n>@<b>",
    "<head a=b a=c =d / e>@",
];

#[test]
fn the_loader_is_the_first_that_can_run_or_load() {
    for page in PLACES {
        let input = page.replace('@', "");
        // A tag that never ends is none: what the page is then, is text.
        let expected = if *page == "@<p" {
            format!("<p{TAG}")
        } else {
            page.replace('@', TAG)
        };
        let made = String::from_utf8(made(input.as_bytes())).unwrap();
        assert_eq!(made, expected, "{page}");
    }
}

#[test]
fn wherever_a_page_is_cut_the_same_comes_of_it() {
    now(async {
        for page in PLACES.iter().chain(&POLICIES.map(|(page, _)| page)) {
            let page = page.replace('@', "");
            let page = page.as_bytes();
            let whole = made_of(&[page]).await.unwrap();
            for at in 0..=page.len() {
                let (head, rest) = page.split_at(at);
                assert_eq!(made_of(&[head, rest]).await.unwrap(), whole, "{at}");
            }
            let bytes: Vec<_> = page.chunks(1).collect();
            assert_eq!(made_of(&bytes).await.unwrap(), whole);
        }
    });
}

const URL: &str = "https://bank.example/loader.js";
const SW: &str = "https://bank.example/sw.js";

/// Pages with policies, and the part of each that is another afterwards.
const POLICIES: [(&str, &str); 9] = [
    (
        "<head><meta http-equiv=\"Content-Security-Policy\"  content=\"script-src 'none'; worker-src *\" id=a><b>",
        "<meta http-equiv=\"Content-Security-Policy\" content=\"script-src URL; worker-src *\" id=a><b>",
    ),
    // As templates write quotes, and what else stands there stays as it is written.
    (
        "<head><meta content='worker-src *; script-src &#x27;none&#39;; report-uri /a?b&amp;c&copy;' http-equiv=CONTENT-security-policy />",
        "<meta content=\"worker-src *; script-src URL; report-uri /a?b&amp;c&copy;\" http-equiv=CONTENT-security-policy />",
    ),
    (
        "<head><meta http-equiv=content-security-policy content='img-src &quot;; script-src &apos;nonce-a&apos; &apos;strict-dynamic&apos;'>",
        "content=\"img-src &quot;; script-src 'sha384-abc' &apos;nonce-a&apos; &apos;strict-dynamic&apos;\">",
    ),
    // After the head's end tag it is still the head's.
    (
        "<head></head><meta http-equiv=content-security-policy content='worker-src blob:'><b>",
        "content=\"worker-src SW blob:\"><b>",
    ),
    // And without tags for it.
    (
        "<meta http-equiv=content-security-policy content=\"default-src 'none'\"><b>",
        "content=\"script-src URL; worker-src SW; default-src 'none'\"><b>",
    ),
    // A template does not end it.
    (
        "<head><template><p></template><meta http-equiv=content-security-policy content='worker-src'><b>",
        "content=\"worker-src SW\"><b>",
    ),
    // One that is no policy, or none that lacks anything.
    (
        "<head><meta  http-equiv=refresh  content=\"script-src 'none'\">",
        "<meta  http-equiv=refresh  content=\"script-src 'none'\">",
    ),
    (
        "<head><meta  http-equiv=content-security-policy  content=\"default-src 'self'\">",
        "<meta  http-equiv=content-security-policy  content=\"default-src 'self'\">",
    ),
    // Past the head there are none.
    (
        "<head><body><meta  http-equiv=content-security-policy content='worker-src'>",
        "<body><meta  http-equiv=content-security-policy content='worker-src'>",
    ),
];

#[test]
fn a_policy_in_the_page_is_added_to() {
    for (page, expected) in POLICIES {
        let made = String::from_utf8(made(page.as_bytes())).unwrap();
        let expected = expected.replace("URL", URL).replace("SW", SW);
        assert!(made.ends_with(&expected), "{made}\n{expected}");
        assert_eq!(made.matches(TAG).count(), 1);
    }
}

#[test]
fn a_policy_in_the_page_keeps_bytes_of_any_encoding() {
    let page =
        b"<head><meta http-equiv=content-security-policy content='worker-src; x \xe9\x81\xff'>";
    let made = made(page);
    let expected = b"content=\"worker-src https://bank.example/sw.js; x \xe9\x81\xff\">";
    assert!(made.ends_with(expected), "{}", made.escape_ascii());
}

#[test]
fn policies_in_fields_are_added_to_each_by_itself() {
    let mut response = page(Body::from("<html>"));
    let fields = response.headers_mut();
    for policy in ["script-src 'none'; worker-src *", "img-src *, worker-src"] {
        fields.append(CONTENT_SECURITY_POLICY, policy.parse().unwrap());
    }
    let reported = HeaderValue::from_bytes(b"worker-src; \xff").unwrap();
    fields.append(CONTENT_SECURITY_POLICY_REPORT_ONLY, reported);
    let response = rewrite(response, &loader(), None);
    let of = |name| {
        let all = response.headers().get_all(name).iter();
        all.map(|field| {
            field
                .as_bytes()
                .escape_ascii()
                .to_string()
                .replace("\\'", "'")
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(
        of(CONTENT_SECURITY_POLICY),
        [
            format!("script-src {URL}; worker-src *"),
            format!("img-src *, worker-src {SW}"),
        ]
    );
    let reported = of(CONTENT_SECURITY_POLICY_REPORT_ONLY);
    assert_eq!(reported, [format!("worker-src {SW}; \\xff")]);
}

#[test]
fn fields_that_tell_of_other_bytes_are_taken_off() {
    let mut response = page(Body::from("<html>"));
    for name in rewritten::OF_THE_BYTES {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static("1"));
    }
    let kept = HeaderName::from_static("cache-control");
    response
        .headers_mut()
        .insert(kept.clone(), HeaderValue::from_static("no-store"));
    let response = rewrite(response, &loader(), None);
    let mut names: Vec<_> = response.headers().keys().collect();
    names.sort_by_key(|name| name.as_str());
    assert_eq!(names, [&kept, &CONTENT_TYPE]);
}

#[test]
fn what_is_no_page_to_be_changed_passes_with_all_its_fields() {
    let of = |status: u16, fields: &[(HeaderName, &str)]| {
        let mut response = page(Body::from("<html><script>"));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
            .headers_mut()
            .insert(ETAG, HeaderValue::from_static("\"a\""));
        for (name, value) in fields {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    };
    let kind = |kind| of(200, &[(CONTENT_TYPE, kind)]);
    let coding = |coding| of(200, &[(CONTENT_ENCODING, coding)]);
    let policy = |policy| of(200, &[(CONTENT_SECURITY_POLICY, policy)]);
    let mut untyped = of(200, &[]);
    untyped.headers_mut().remove(CONTENT_TYPE);
    for response in [
        untyped,
        of(206, &[]),
        of(304, &[]),
        kind("text/plain"),
        kind("text/html2"),
        kind("application/xhtml+xml"),
        kind("image/svg+xml"),
        kind("text/html; charset=utf-16le"),
        kind("text/html;a=b; Charset=\"ISO-2022-JP\""),
        coding("gzip"),
        coding("br"),
        policy("sandbox allow-scripts"),
        policy("sandbox allow-same-origin; script-src 'none'"),
    ] {
        let fields = response.headers().clone();
        let response = rewrite(response, &loader(), None);
        assert_eq!(response.headers(), &fields);
        let body = now(response.into_body().collect()).unwrap().to_bytes();
        assert_eq!(body, "<html><script>", "{fields:?}");
    }
    for response in [
        kind("Text/HTML"),
        kind("text/html ; charset=\"windows-1251\""),
        kind("text/html; charset=shift_jis"),
        kind("text/html; charset=nonsense"),
        coding("identity"),
        of(404, &[]),
        policy("sandbox allow-scripts allow-same-origin; script-src *"),
    ] {
        let fields = response.headers().clone();
        let response = rewrite(response, &loader(), None);
        assert_eq!(response.headers().get(ETAG), None);
        let body = now(response.into_body().collect()).unwrap().to_bytes();
        assert_eq!(body, format!("<html>{TAG}<script>"), "{fields:?}");
    }
}

#[test]
fn the_answer_to_head_has_no_content() {
    assert_eq!(made(b""), b"");
    let mut response = page(Body::empty());
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from_static("17"));
    let response = rewrite(response, &loader(), None);
    assert_eq!(response.headers()[CONTENT_LENGTH], "17");
}

#[test]
fn a_page_in_utf_16_passes_whatever_it_says() {
    for page in [
        b"\xff\xfe<\0b\0>\0",
        b"\xfe\xff\0<\0b\0>",
        b"<\0b\0>\0\n\0",
        b"\0<\0b\0>\0\n",
    ] {
        assert_eq!(made(page), page);
        let bytes: Vec<_> = page.chunks(1).collect();
        assert_eq!(now(made_of(&bytes)).unwrap(), page);
    }
}

#[test]
fn a_page_whose_first_tag_has_no_end_in_sight_is_broken_off() {
    let endless = vec![b'a'; 64 * 1024];
    let mut parts: Vec<&[u8]> = vec![b"<html title="];
    parts.extend([endless.as_slice(); 17]);
    parts.push(b"><script>1</script>");
    assert!(now(made_of(&parts)).is_err());
    // It is not the length of a page, or of what stands in it.
    parts[0] = b"<!-- ";
    parts.push(b"--><b>");
    let made = now(made_of(&parts)).unwrap();
    assert!(made.ends_with(format!("-->{TAG}<b>").as_bytes()));
}

#[test]
fn behind_the_loader_a_tag_may_be_as_long_as_it_likes() {
    let endless = vec![b'a'; 64 * 1024];
    let mut parts: Vec<&[u8]> = vec![b"<head><link rel=icon href="];
    parts.extend([endless.as_slice(); 17]);
    parts.push(b"><script>1</script>");
    let made = now(made_of(&parts)).unwrap();
    let expected = [format!("<head>{TAG}").as_bytes(), &parts.concat()[6..]].concat();
    assert!(made == expected);
}

#[test]
fn a_page_that_breaks_off_is_not_taken_for_whole() {
    for start in ["", "<", "<html>", "<html><body>"] {
        let parts = [Ok(Bytes::from_static(start.as_bytes())), Err("gone")];
        let response = rewrite(
            page(Body::from_stream(stream::iter(parts))),
            &loader(),
            None,
        );
        assert!(now(response.into_body().collect()).is_err());
    }
}

#[test]
fn trailers_pass_without_digests() {
    let mut trailers = HeaderMap::new();
    trailers.insert("server-timing", HeaderValue::from_static("a"));
    trailers.insert("content-digest", HeaderValue::from_static("a"));
    let body = http_body_util::Full::new(Bytes::from_static(b"text"))
        .with_trailers(async { Some(Ok(trailers)) });
    let response = rewrite(page(Body::new(body)), &loader(), None);
    let collected = now(response.into_body().collect()).unwrap();
    let trailers = collected.trailers().unwrap();
    assert_eq!(trailers.keys().collect::<Vec<_>>(), ["server-timing"]);
    assert_eq!(collected.to_bytes(), format!("text{TAG}"));
}

#[test]
fn what_is_known_of_a_page_is_passed_on_at_once() {
    let never = stream::once(async {
        Ok::<_, Infallible>(Bytes::from_static(b"<head><title>a</title> text"))
    });
    let body = Body::from_stream(futures_util::StreamExt::chain(never, stream::pending()));
    let mut body = rewrite(page(body), &loader(), None).into_body();
    let first = now(body.frame()).unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, format!("<head>{TAG}<title>a</title> text"));
}

/// Bytes that pages are made of.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "<",
        ">",
        "/",
        "!",
        "--",
        "-->",
        "<!--",
        "\"",
        "'",
        "=",
        " ",
        "\n",
        "\0",
        "<html",
        "<head",
        "</head>",
        "<body>",
        "<script>",
        "</script>",
        "<title>",
        "</title>",
        "<template>",
        "</template>",
        "<svg>",
        "</svg>",
        "<select>",
        "<xmp>",
        "<noscript>",
        "<meta charset=utf-8>",
        "<![CDATA[",
        "]]>",
        "<?",
        "a",
        "x=",
        "<plaintext>",
        "<style>",
        "<frameset>",
        "<table>",
        "<textarea>",
        "&lt;",
    ]);
    let piece = prop_oneof![
        8 => pieces.prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_else_of_a_page_changes(page in soup(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4)) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(page.len() + 1)).collect();
        cuts.extend([0, page.len()]);
        cuts.sort_unstable();
        let parts: Vec<_> = cuts.windows(2).map(|ends| &page[ends[0]..ends[1]]).collect();
        let made = now(made_of(&parts)).unwrap();
        let tag = TAG.as_bytes();
        let places: Vec<_> = (0..made.len()).filter(|&at| made[at..].starts_with(tag)).collect();
        let expected = usize::from(page.len() > 1 && !["\0<", "<\0"].iter().any(|mark| page.starts_with(mark.as_bytes()))
            && !page.starts_with(b"\xff\xfe") && !page.starts_with(b"\xfe\xff"));
        prop_assert_eq!(places.len(), expected);
        let mut rest = made;
        for at in places {
            rest.drain(at..at + tag.len());
        }
        prop_assert_eq!(rest, page);
    }
}

/// A page at `/shop/cart`, held to a manifest that lists `/static/a.js` and `/static/a.css`.
fn held(policy: Policy) -> Held {
    let source = Source::Signed("m".into());
    held_by(config::Delivery {
        script_policy: policy,
        ..config::Delivery::of(source)
    })
}

fn held_by(config: config::Delivery) -> Held {
    let hash = Hash::of(b"clay");
    let paths = ["/static/a.js", "/static/a.css"];
    let identity = bulla_server::Identity::generate(&bulla_server::SystemRandom).unwrap();
    let hashes = paths.map(|path| (path.to_owned(), hash)).into();
    let text = Manifest::listing("/static/", hashes)
        .signed(&identity)
        .unwrap();
    Held {
        delivery: Arc::new(Delivery {
            manifest: Manifest::open(&text, identity.thumbprint()).unwrap(),
            text: text.into(),
            config,
            strict: strict_policy(&[]),
        }),
        origin: "https://bank.example".to_owned(),
        path: "/shop/cart".to_owned(),
        mode: Mode::Enforce,
        holds_modules: true,
    }
}

fn made_held(page_of: &str) -> String {
    let response = rewrite(
        page(Body::from(page_of.to_owned())),
        &loader(),
        Some(held(Policy::Report)),
    );
    let bytes = now(response.into_body().collect()).unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn what_is_listed_gets_its_hash_and_nothing_else_changes() {
    let hash = Hash::of(b"clay").integrity();
    let added = format!(r#" integrity="{hash}" crossorigin="anonymous""#);
    // Where `#` stands, the hash belongs.
    for page in [
        "<head>@<script src=\"/static/a.js\"#></script></head><body><p>x",
        "@<p>x<script src=\"/static/a.js?v=3\"#></script><b>ü</b> a  <  b",
        "@<p><script src=\"../static/./a.js\"#></script>",
        "@<p><script src=\"https://bank.example/static/a.js\"#></script>",
        "@<link rel=\"preload StyleSheet\" href=\"/static/a.css\"#><p>",
        "@<template><script src=\"/static/a.js\"#></script></template>",
        "@<p>x<script src='/static/b.js'></script>",
        "@<p><script src=\"//bank.example/static/a.js\"#></script>",
        "@<p><script src=\"\\static\\a.js\"#></script>",
        "@<p><script  src='//cdn.example/static/a.js'></script>",
        "@<p><script  src='http://bank.example/static/a.js'></script>",
        "@<p><script src='https://bank.example.org/static/a.js'></script>",
        "@<p><script src='/static/a.js' integrity='sha384-x'></script>",
        "@<p><script>'<script src=/static/a.js>'</script>",
        "@<p><link rel=icon href='/static/a.css'><img  src=/static/a.js>",
        "@<p><!-- <script src='/static/a.js'></script> -->",
        "@<base href='https://cdn.example/'><script src='/static/a.js'></script>",
    ] {
        let input = page.replace(['@', '#'], "");
        let expected = page.replace('@', TAG).replace('#', &added);
        assert_eq!(made_held(&input), expected, "{page}");
    }
    let kept = made_held("<p><script src=/static/a.js crossorigin=use-credentials>");
    assert!(
        kept.contains("crossorigin=use-credentials integrity=\"sha256-"),
        "{kept}"
    );
}

#[test]
fn without_listed_code_a_held_page_is_as_any_other() {
    for page in PLACES.iter().chain(&POLICIES.map(|(page, _)| page)) {
        let page = page.replace('@', "");
        let plain = String::from_utf8(made(page.as_bytes())).unwrap();
        assert_eq!(made_held(&page), plain, "{page}");
    }
}

#[test]
fn the_strict_policy_is_added_as_the_operator_says() {
    let fields = |policy| {
        let mut response = page(Body::from("x"));
        let own = HeaderValue::from_static("script-src https:");
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, own);
        rewrite(response, &loader(), Some(held(policy)))
            .headers()
            .clone()
    };
    let all = |fields: &HeaderMap, name: &str| -> Vec<String> {
        let all = fields.get_all(name).into_iter();
        all.map(|field| field.to_str().unwrap().to_owned())
            .collect()
    };
    let (csp, reported) = (CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY);
    let off = fields(Policy::Off);
    assert_eq!(all(&off, csp.as_str()), ["script-src https:"]);
    assert_eq!(all(&off, reported.as_str()), [TYPES]);

    let report = fields(Policy::Report);
    assert_eq!(all(&report, csp.as_str()), ["script-src https:"]);
    let [strict, types] = &all(&report, reported.as_str())[..] else {
        panic!("{report:?}");
    };
    for part in [
        "script-src 'self' 'wasm-unsafe-eval'",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'self'",
    ] {
        assert!(strict.split("; ").any(|found| found == part), "{strict}");
    }
    assert_eq!(types, TYPES);

    let monitored = Held {
        mode: Mode::Monitor,
        ..held(Policy::Enforce)
    };
    let monitored = rewrite(page(Body::from("x")), &loader(), Some(monitored));
    assert!(!monitored.headers().contains_key(&csp));
    assert_eq!(
        all(monitored.headers(), reported.as_str()),
        [strict.as_str(), types.as_str()]
    );

    let enforce = fields(Policy::Enforce);
    assert_eq!(
        all(&enforce, csp.as_str()),
        ["script-src https:", strict.as_str()]
    );
    assert_eq!(all(&enforce, reported.as_str()), [types.as_str()]);
}

const TYPES: &str = "require-trusted-types-for 'script'";

#[test]
fn each_policy_is_told_by_itself_and_enforced_where_it_can_be_kept_to() {
    let told = |policy, mode, holds_modules| {
        let held = held_by(config::Delivery {
            source: Source::Signed("m".into()),
            script_policy: Policy::Off,
            integrity_policy: policy,
            trusted_types: policy,
        });
        let held = Held {
            mode,
            holds_modules,
            ..held
        };
        let response = rewrite(page(Body::from("x")), &loader(), Some(held));
        let names = [
            "content-security-policy",
            "content-security-policy-report-only",
            "integrity-policy",
            "integrity-policy-report-only",
        ];
        let is_there = |name: &&str| response.headers().contains_key(*name);
        names.into_iter().filter(is_there).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    let [types, types_reported, integrity, integrity_reported] = [
        "content-security-policy",
        "content-security-policy-report-only",
        "integrity-policy",
        "integrity-policy-report-only",
    ];
    assert_eq!(told(Policy::Off, Mode::Enforce, true), none);
    let reported = [types_reported, integrity_reported];
    assert_eq!(told(Policy::Report, Mode::Enforce, true), reported);
    assert_eq!(told(Policy::Enforce, Mode::Monitor, true), reported);
    assert_eq!(
        told(Policy::Enforce, Mode::Enforce, true),
        [types, integrity]
    );
    let in_webkit = [types, integrity_reported];
    assert_eq!(told(Policy::Enforce, Mode::Enforce, false), in_webkit);
}

#[test]
fn browsers_that_take_the_integrity_of_modules_are_known_by_name() {
    for (name, expected) in [
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
            true,
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0",
            true,
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15",
            false,
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0 Mobile/15E148 Safari/604.1",
            false,
        ),
        ("", false),
    ] {
        let fields = [(http::header::USER_AGENT, HeaderValue::from_static(name))];
        assert_eq!(
            holds_modules(&fields.into_iter().collect()),
            expected,
            "{name}"
        );
    }
    assert!(!holds_modules(&HeaderMap::new()));
}

//! Whole requests to a real verifier: whatever comes, there is a refusal, and no handler runs.
#![no_main]

use bulla_fuzz::{assert_refused, ask, lines};
use bulla_protocol::field;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;

const PATHS: [&str; 3] = ["/.well-known/bulla/session", "/.well-known/bulla/sealed", "/api/echo"];

fuzz_target!(|input: &[u8]| {
    let Some(([method, path, kind, input, signature, ticket, digest], body)) = lines(input) else {
        return;
    };
    let path = path.parse().ok().and_then(|at: usize| PATHS.get(at)).unwrap_or(&path);
    let Ok(mut request) = Request::builder()
        .method(method)
        .uri(*path)
        .header("host", "bank.example")
        .body(Bytes::copy_from_slice(body))
    else {
        return;
    };
    let coding = if kind == field::BHTTP { field::AES128GCM } else { "" };
    for (name, value) in [
        ("content-type", kind),
        ("content-encoding", coding),
        (field::SIGNATURE_INPUT, input),
        (field::SIGNATURE, signature),
        (field::TICKET, ticket),
        (field::CONTENT_DIGEST, digest),
    ] {
        if let Ok(value) = HeaderValue::from_str(value)
            && !value.is_empty()
        {
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
    }
    let is_opening = request.uri().path() == PATHS[0];
    let answer = ask(request, None);
    // Anyone may open a session, and an opening that was recorded opens one that nobody can use.
    if !(is_opening && answer.status() == 200) {
        assert_refused(&answer);
    }
});

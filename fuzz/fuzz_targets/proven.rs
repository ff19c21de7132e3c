//! The fields of a request under a ticket that opens: everything up to the signature, which nobody can
//! make here.
#![no_main]

use std::sync::LazyLock;

use bulla_client::Session;
use bulla_fuzz::{ORIGIN, ask, assert_refused, lines, session};
use bulla_protocol::field;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;

static SESSION: LazyLock<Session> = LazyLock::new(session);

fuzz_target!(|input: &[u8]| {
    let Some(([input, signature, digest, kind], body)) = lines(input) else {
        return;
    };
    let loot = SESSION.dangerous_loot().expect("a session");
    // What only this session knows stands in the input as a word.
    let input = input
        .replace("SESSION", &loot.session.to_string())
        .replace("NONCE", &loot.nonce);
    let mut request = Request::post(format!("{ORIGIN}/api/echo?x=1"))
        .header(field::TICKET, loot.ticket.to_field())
        .body(Bytes::copy_from_slice(body))
        .expect("a request");
    for (name, value) in [
        (field::SIGNATURE_INPUT, input.as_str()),
        (field::SIGNATURE, signature),
        (field::CONTENT_DIGEST, digest),
        ("content-type", kind),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
    }
    assert_refused(&ask(request, None));
});

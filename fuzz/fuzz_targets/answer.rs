//! The answer to an opening, as a native client reads it: nobody but the pinned identity can make one.
#![no_main]

use std::sync::LazyLock;

use bulla_client::PreparedOpening;
use bulla_fuzz::{lines, opening};
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::field;
use bytes::Bytes;
use http::{HeaderValue, Response};
use libfuzzer_sys::fuzz_target;

static OPENING: LazyLock<PreparedOpening> = LazyLock::new(opening);

fuzz_target!(|input: &[u8]| {
    let Some(([status, kind, input, signature], body)) = lines(input) else {
        return;
    };
    let Ok(mut answer) = Response::builder().status(status).body(Bytes::copy_from_slice(body)) else {
        return;
    };
    let digest = ContentDigest::of(body).to_field();
    for (name, value) in [
        ("content-type", kind),
        (field::CONTENT_DIGEST, &digest),
        (field::SIGNATURE_INPUT, input),
        (field::SIGNATURE, signature),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().insert(name, value);
        }
    }
    assert!(OPENING.answer(&answer).is_err());
});

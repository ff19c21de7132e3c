//! Replies to a sealed request, as a native client reads them: nobody on the way can make one.
#![no_main]

use std::sync::LazyLock;

use bulla_client::{Mode, Prepared, ProofKind};
use bulla_fuzz::{lines, session, wait};
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use libfuzzer_sys::fuzz_target;

static PREPARED: LazyLock<Prepared> = LazyLock::new(|| {
    let session = session();
    let request = Request::get("/api/me").body(Bytes::new()).expect("a request");
    let nonce = session.fresh_nonce().expect("a nonce");
    let prepared = session.prepare(request, Mode::Sealed, ProofKind::Device, nonce);
    prepared.expect("a request")
});

fuzz_target!(|input: &[u8]| {
    let Some(([status, kind, nonce], body)) = lines(input) else {
        return;
    };
    let Ok(mut reply) = Response::builder().status(status).body(Bytes::copy_from_slice(body)) else {
        return;
    };
    for (name, value) in [("content-type", kind), ("bulla-nonce", nonce)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            reply.headers_mut().insert(name, value);
        }
    }
    assert!(wait(PREPARED.open_reply(reply)).is_err());
});

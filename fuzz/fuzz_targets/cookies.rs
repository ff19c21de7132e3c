//! Cookies beside a good request, and those that its handler sets: one that was bound for nobody never
//! comes in, and what goes out is bound.
#![no_main]

use bulla_client::{Mode, ProofKind};
use bulla_fuzz::{ask, lines, session, wait};
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(([comes, goes], _)) = lines(input) else {
        return;
    };
    let (Ok(comes), Ok(goes)) = (HeaderValue::from_str(comes), HeaderValue::from_str(goes)) else {
        return;
    };
    let request = Request::get("/api/me").body(Bytes::new()).expect("a request");
    // Each its own: an unconfirmed session has not many proofs.
    let session = session();
    let nonce = session.fresh_nonce().expect("a nonce");
    let prepared = session
        .prepare(request, Mode::Sealed, ProofKind::Device, nonce)
        .expect("a request");
    let mut request = prepared.request.clone();
    request.headers_mut().insert("cookie", comes);
    let mut handled = Response::new(Bytes::from_static(b"handled"));
    handled.headers_mut().insert("set-cookie", goes);
    let answer = ask(request, Some(handled));
    for set in answer.headers().get_all("set-cookie") {
        let set = set.to_str().expect("text");
        assert!(!set.starts_with("sid=") || set.starts_with("sid=bulla.") || set.starts_with("sid=;"), "{set}");
    }
    let reply = wait(prepared.open_reply(answer)).expect("a reply");
    assert_eq!(reply.body(), "handled");
});

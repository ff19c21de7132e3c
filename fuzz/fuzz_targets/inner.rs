//! What a sender puts under his own seal. Without a proof it comes to nothing.
#![no_main]

use std::sync::LazyLock;

use bulla_client::Session;
use bulla_fuzz::{ask, assert_refused, session};
use libfuzzer_sys::fuzz_target;

static SESSION: LazyLock<Session> = LazyLock::new(session);

fuzz_target!(|plain: &[u8]| {
    let request = SESSION.dangerous_seal(plain).expect("a request");
    let answer = ask(request, None);
    // Once the proof's nonce could be read, the refusal is sealed.
    if !answer.headers().contains_key("content-encoding") {
        assert_refused(&answer);
    }
});

//! An opening, as a server reads it.
#![no_main]

use bulla_protocol::digest::ContentDigest;
use bulla_protocol::field;
use bulla_protocol::opening::{Open, Opened, ReceivedOpening};
use bulla_protocol::signature::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: (&str, &str, &[u8])| {
    let (input, signature, body) = message;
    let _ = serde_json::from_slice::<Open>(body);
    let _ = serde_json::from_slice::<Opened>(body);
    let fields: Vec<(String, String)> = vec![
        ("content-type".into(), "application/json".into()),
        (field::CONTENT_DIGEST.into(), ContentDigest::of(body).to_field()),
        (field::SIGNATURE_INPUT.into(), input.into()),
        (field::SIGNATURE.into(), signature.into()),
    ];
    let request = Request {
        method: "POST",
        authority: "bank.example",
        path: "/.well-known/bulla/session",
        query: None,
        fields: &fields,
    };
    let _ = ReceivedOpening::parse(&request, body);
});

//! An opening, as a server reads it.
#![no_main]

use bulla_fuzz::lines;
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::field;
use bulla_protocol::opening::{Open, Opened, ReceivedOpening};
use bulla_protocol::signature::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(([input, signature], body)) = lines(input) else {
        return;
    };
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

//! A request's proof, as a verifier reads it.
#![no_main]

use bulla_fuzz::lines;
use bulla_protocol::field;
use bulla_protocol::proof::{Binding, ReceivedProof};
use bulla_protocol::signature::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(([input, signature, other], _)) = lines(input) else {
        return;
    };
    let fields: Vec<(String, String)> = [
        (field::SIGNATURE_INPUT, input),
        (field::SIGNATURE, signature),
        (field::TICKET, ":dGlja2V0:"),
        (field::CONTENT_DIGEST, other),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let Ok(proof) = ReceivedProof::parse(&fields) else {
        return;
    };
    let _ = proof.binding();
    let request = Request {
        method: "POST",
        authority: "bank.example",
        path: "/api",
        query: Some(other),
        fields: &fields,
    };
    if let Ok(covered) = proof.check_coverage(&request, Binding::Digest) {
        // The base ends with the parameters, and each component stands on a line of its own.
        assert!(covered.base.contains("\"@signature-params\": "));
        assert!(covered.covered.contains(&field::TICKET));
    }
});

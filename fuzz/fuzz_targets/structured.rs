//! Structured fields, and the signatures in them: what parses serializes and parses to the same.
#![no_main]

use bulla_fuzz::lines;
use bulla_protocol::proof::TAG;
use bulla_protocol::signature::ReceivedSignature;
use bulla_protocol::structured;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(([input, signature], _)) = lines(input) else {
        return;
    };
    if let Ok(bytes) = structured::bytes(input) {
        let written = structured::from_bytes(&bytes);
        assert_eq!(structured::bytes(&written).ok(), Some(bytes));
    }
    if let Ok(text) = structured::string(input) {
        let written = structured::from_string(&text).expect("what was read can be written");
        assert_eq!(structured::string(&written).ok(), Some(text));
    }
    if let Ok(Some(received)) = ReceivedSignature::find(input, signature, TAG) {
        let params = received.signature_params;
        let input = format!("a={params}");
        let again = ReceivedSignature::find(&input, "a=:AA==:", TAG);
        let again = again.ok().flatten().expect("what was written can be parsed");
        assert_eq!(again.signature_params, params);
    }
});

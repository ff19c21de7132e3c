//! The `nonce` parameter: one spelling for each value.
#![no_main]

use bulla_protocol::proof::ProofNonce;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(nonce) = ProofNonce::parse(text) {
        assert_eq!(nonce.to_param(), text);
    }
});

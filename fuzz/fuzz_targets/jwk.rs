//! Public keys: what is taken lies on the curve, and is written as it was read.
#![no_main]

use bulla_protocol::jwk::{PublicKey, Thumbprint};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = PublicKey::from_uncompressed(bytes) {
        assert_eq!(PublicKey::from_compressed(&key.to_compressed()), Ok(key));
    }
    if let Ok(key) = serde_json::from_slice::<PublicKey>(bytes) {
        let json = serde_json::to_vec(&key).expect("a key can be written");
        assert_eq!(serde_json::from_slice::<PublicKey>(&json).ok(), Some(key));
    }
    if let Some(print) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<Thumbprint>().ok()) {
        assert_eq!(print.to_string().as_bytes(), bytes);
    }
});

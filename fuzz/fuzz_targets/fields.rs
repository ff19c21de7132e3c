//! The small ones: what a field, a digest, a ticket and a session's name may be.
#![no_main]

use bulla_protocol::digest::ContentDigest;
use bulla_protocol::field;
use bulla_protocol::opening::{SessionId, Ticket};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = field::check_value(bytes) {
        assert!(!value.contains(['\r', '\n', '\0']));
        assert_eq!(value.trim_matches([' ', '\t']), value);
        if let Ok(digest) = ContentDigest::parse(value) {
            assert_eq!(ContentDigest::parse(&digest.to_field()), Ok(digest));
        }
        if let Ok(ticket) = Ticket::from_field(value) {
            assert!((1..=255).contains(&ticket.as_bytes().len()));
            assert_eq!(Ticket::from_field(&ticket.to_field()), Ok(ticket));
        }
        if let Ok(id) = value.parse::<SessionId>() {
            assert_eq!(id.to_string(), value);
        }
    }
    if let Ok(name) = field::check_name(bytes) {
        assert!(http::HeaderName::from_lowercase(name.as_bytes()).is_ok());
    }
});

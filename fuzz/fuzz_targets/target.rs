//! Request targets and origins: what is taken can be read in one way only.
#![no_main]

use bulla_protocol::target::{Origin, Target};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(target) = Target::parse(text) {
        assert!(target.path.starts_with('/') && !target.path.contains('?'));
        let lower = target.path.to_ascii_lowercase();
        assert!(!lower.contains("/../") && !lower.contains("%2f") && !lower.contains("%2e"));
    }
    if let Ok(origin) = Origin::parse(text) {
        assert_eq!(Origin::parse(origin.as_str()).ok(), Some(origin.clone()));
        assert!(origin.has_authority(origin.authority()));
    }
});

//! Refusals, as a client reads them.
#![no_main]

use bulla_protocol::error::{Code, Problem};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Some(code) = Problem::parse(body) {
        assert!(Code::ALL.contains(&code));
    }
});

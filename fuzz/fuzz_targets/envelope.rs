//! RFC 8188: the header, and records however they are cut.
#![no_main]

use bulla_keys::ece;
use bulla_protocol::seal::{Header, Joiner};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let Ok(Some((header, records))) = Header::parse(bytes) else {
        return;
    };
    assert_eq!(&bytes[..bytes.len() - records.len()], header.encode());
    // Nobody has the key.
    assert!(ece::open_whole(&[7; 32], &header, records).is_err());
    let mut joiner = Joiner::new(header.record_size);
    for piece in records.chunks(usize::from(cut) + 1) {
        let Ok(complete) = joiner.push(piece) else {
            return;
        };
        for mut record in complete {
            record.bytes.truncate(record.bytes.len().saturating_sub(16));
            if joiner.opened(&mut record.bytes).is_err() {
                return;
            }
        }
    }
    let _ = joiner.finish();
});

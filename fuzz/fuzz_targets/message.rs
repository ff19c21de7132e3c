//! Binary HTTP: the same message comes out however it is cut, and never more than went in.
#![no_main]

use bulla_protocol::limits::Limits;
use bulla_protocol::message::{Event, Reader};
use libfuzzer_sys::fuzz_target;

fn read(bytes: &[u8], cut: usize) -> Option<(String, Vec<u8>)> {
    let mut reader = Reader::new(Limits::default());
    let (mut head, mut content) = (String::new(), Vec::new());
    for piece in bytes.chunks(cut) {
        for event in reader.push(piece.to_vec()).ok()? {
            match event {
                Event::Head(found) => head = format!("{found:?}"),
                Event::Content(more) => content.extend(more),
            }
        }
    }
    reader.finish().ok()?;
    Some((head, content))
}

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let whole = read(bytes, bytes.len().max(1));
    if let Some((_, content)) = &whole {
        assert!(content.len() < bytes.len());
    }
    assert_eq!(whole, read(bytes, usize::from(cut) + 1));
});

//! Searching for a key in whatever form it may stand somewhere.

use std::fmt::Write as _;

use bulla_protocol::base64;
use memchr::memmem;

/// The form in which `secret` stands in `text`: raw, or as somebody may have written it down.
pub fn find(text: &[u8], secret: &[u8]) -> Option<&'static str> {
    let stands = |form: &[u8]| memmem::find(text, form).is_some();
    if stands(secret) {
        return Some("raw");
    }
    let hex = secret.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    if stands(hex.as_bytes()) || stands(hex.to_uppercase().as_bytes()) {
        return Some("hex");
    }
    for separator in [",", ", ", " "] {
        let bytes: Vec<_> = secret.iter().map(u8::to_string).collect();
        if stands(bytes.join(separator).as_bytes()) {
            return Some("decimal");
        }
    }
    for (before, skipped) in [(0, 0), (1, 2), (2, 3)] {
        // Beside other bytes, the first and the last character depend on these.
        let bytes = [&[0; 2][..before], secret].concat();
        let whole = bytes.len() * 8 / 6;
        let standard = base64::encode_standard(&bytes);
        if stands(&standard.as_bytes()[skipped..whole]) {
            return Some("base64");
        }
        let url = base64::encode(&bytes);
        if stands(&url.as_bytes()[skipped..whole]) {
            return Some("base64url");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_found_and_nothing_else() {
        let secret: Vec<u8> = (200..=231).collect();
        for before in 0..4 {
            for after in 0..4 {
                let bytes = [&vec![7; before], &secret[..], &vec![9; after]].concat();
                let standard = base64::encode_standard(&bytes);
                assert_eq!(find(standard.as_bytes(), &secret), Some("base64"));
                let url = base64::encode(&bytes);
                assert!(find(url.as_bytes(), &secret).is_some());
                assert_eq!(find(&bytes, &secret), Some("raw"));
                assert_eq!(
                    find(format!("{bytes:?}").as_bytes(), &secret),
                    Some("decimal")
                );
                assert_eq!(find(&bytes[1..], &[5; 32]), None);
            }
        }
    }
}

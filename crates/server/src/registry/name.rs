//! What a user calls a device.

use std::fmt;
use std::str::FromStr;

use bulla_protocol::error::{Code, Error};
use serde::{Serialize, Serializer};

/// A device's name, as its user wrote it: 1 to 64 characters, none of which controls anything, and no space at
/// either end. What pages do with text of users' is theirs to do with this, too: escape it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName(String);

const NO_NAME: Error = Code::Malformed.because("a device's name is 1 to 64 plain characters");

impl DeviceName {
    /// The longest, in characters.
    pub const MAX_LEN: usize = 64;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether it makes other characters look like what they are not: those that turn the direction of writing, and those
/// that nobody sees.
fn deceives(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

impl FromStr for DeviceName {
    type Err = Error;

    /// # Errors
    ///
    /// [`Code::Malformed`].
    fn from_str(text: &str) -> Result<Self, Error> {
        let is_name = !text.is_empty()
            && text.trim() == text
            && text.chars().count() <= Self::MAX_LEN
            && !text.contains(deceives);
        is_name.then(|| Self(text.to_owned())).ok_or(NO_NAME)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for DeviceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_plain_and_short() {
        for good in ["a", "Ann's phone", "Grüße 📱", &"ж".repeat(64)] {
            let name: DeviceName = good.parse().unwrap();
            assert_eq!(name.as_str(), good);
        }
        for bad in [
            "",
            " ",
            " a",
            "a\n",
            "a\0b",
            "a\u{85}b",
            "a\u{202e}b",
            "a\u{2066}b",
            "\u{200b}",
            &"x".repeat(65),
        ] {
            assert_eq!(bad.parse::<DeviceName>(), Err(NO_NAME), "{bad:?}");
        }
    }
}

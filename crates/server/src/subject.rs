//! Who has logged in.

use std::fmt;
use std::str::FromStr;

use bulla_protocol::error::{Code, Error};
use bulla_protocol::limits::MAX_SUBJECT_LEN;

/// The application's user id, 1 to 48 bytes: what a ticket has room for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject {
    len: u8,
    /// Zero after the text.
    bytes: [u8; Self::MAX_LEN],
}

const NO_FIT: Error = Code::Malformed.because("a subject has 1 to 48 bytes");

impl Subject {
    /// The longest, in bytes.
    pub const MAX_LEN: usize = MAX_SUBJECT_LEN;

    /// How much room one takes in a ticket, whoever it is.
    pub(crate) const ROOM: usize = 1 + Self::MAX_LEN;

    /// The text.
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..usize::from(self.len));
        // It was text when it was made.
        text.and_then(|text| str::from_utf8(text).ok())
            .unwrap_or_default()
    }

    /// As it stands in a ticket; all zero for nobody.
    pub(crate) fn encode(subject: Option<&Self>) -> [u8; Self::ROOM] {
        let mut room = [0; Self::ROOM];
        if let Some(Self { len, bytes }) = subject {
            room[0] = *len;
            room[1..].copy_from_slice(bytes);
        }
        room
    }

    /// # Errors
    ///
    /// [`Code::Malformed`] for what no ticket of ours has in it.
    pub(crate) fn decode(room: &[u8; Self::ROOM]) -> Result<Option<Self>, Error> {
        let [len, bytes @ ..] = room;
        if *len == 0 {
            return Ok(None);
        }
        let text = bytes.get(..usize::from(*len)).ok_or(NO_FIT)?;
        let text = str::from_utf8(text).map_err(|_| NO_FIT)?;
        text.parse().map(Some)
    }
}

impl FromStr for Subject {
    type Err = Error;

    /// # Errors
    ///
    /// [`Code::Malformed`] for nothing, and for more than 48 bytes.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut bytes = [0; Self::MAX_LEN];
        let taken = bytes.get_mut(..text.len()).ok_or(NO_FIT)?;
        taken.copy_from_slice(text.as_bytes());
        match u8::try_from(text.len()) {
            Ok(len) if len > 0 => Ok(Self { len, bytes }),
            _ => Err(NO_FIT),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_whole_or_is_not() {
        for fits in ["a", "ä", &"x".repeat(48)] {
            let subject: Subject = fits.parse().unwrap();
            assert_eq!(subject.as_str(), fits);
            let room = Subject::encode(Some(&subject));
            assert_eq!(Subject::decode(&room), Ok(Some(subject)));
        }
        for bad in ["", &"x".repeat(49), &"x".repeat(300)] {
            let refused = bad.parse::<Subject>().unwrap_err();
            assert_eq!(refused.code, Code::Malformed, "{}", bad.len());
        }
        assert_eq!(Subject::decode(&Subject::encode(None)), Ok(None));
        let mut beyond = Subject::encode(None);
        beyond[0] = 49;
        assert_eq!(Subject::decode(&beyond), Err(NO_FIT));
        beyond[..2].copy_from_slice(&[1, 0xff]);
        assert_eq!(Subject::decode(&beyond), Err(NO_FIT));
    }
}

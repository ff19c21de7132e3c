//! What a client keeps of its session: the name, and the state that only the server reads.

use core::fmt;
use core::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base64;
use crate::error::{Code, Error};
use crate::limits::MAX_TICKET_LEN;
use crate::structured;

/// A session's state, sealed by the server for itself: 1 to 255 bytes that mean nothing to others.
///
/// It is not a bearer token: without the device key it opens nothing. It is kept out of `Debug` all
/// the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(Vec<u8>);

impl Ticket {
    /// Takes the bytes, if there are as many as may be.
    ///
    /// # Errors
    ///
    /// [`Code::Malformed`] if there are none, or more than 255.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let bytes = bytes.into();
        if !(1..=MAX_TICKET_LEN).contains(&bytes.len()) {
            return Err(Code::Malformed.because("a ticket has 1 to 255 bytes"));
        }
        Ok(Self(bytes))
    }

    /// Reads a field value: a Byte Sequence.
    ///
    /// # Errors
    ///
    /// [`Code::Malformed`] if it is no Byte Sequence, or not as long as [`Self::new`] takes it.
    pub fn from_field(value: &str) -> Result<Self, Error> {
        Self::new(structured::bytes(value)?)
    }

    /// Writes the field value.
    pub fn to_field(&self) -> String {
        structured::from_bytes(&self.0)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

impl Serialize for Ticket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Ticket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = base64::decode(String::deserialize(deserializer)?);
        bytes
            .and_then(|bytes| Self::new(bytes).ok())
            .ok_or_else(|| D::Error::custom("not a ticket"))
    }
}

/// A session's name: the first 16 bytes of its [`Transcript`](super::Transcript).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::encode(self.0))
    }
}

impl FromStr for SessionId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        base64::decode_array(text)
            .map(Self)
            .ok_or(Code::Malformed.because("not a session id"))
    }
}

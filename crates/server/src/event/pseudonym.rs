//! Names for logs: the same for the same, and nothing to anybody else.

use std::fmt;

use bulla_keys::MacKey;
use bulla_protocol::base64;
use bulla_protocol::jwk::Thumbprint;

use crate::network::Network;
use crate::ticket::RevocationId;

/// What stands in events and logs for a session, a device or a user: a keyed hash of 96 bits (OWASP ASVS
/// 5.0, 16.2.5). Whoever reads a log can follow one through it and learns nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pseudonym([u8; Self::LEN]);

impl Pseudonym {
    /// Its length in bytes.
    pub const LEN: usize = 12;

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// As 16 characters of base64url.
impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::encode(self.0))
    }
}

impl fmt::Debug for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pseudonym({self})")
    }
}

/// Gives pseudonyms: for whoever knows a user or a session and looks for it in the log.
///
/// The key comes from the server's identity, so all nodes give the same ones, and they last as long as it
/// does. Without that key nobody can try out a list of user names.
pub struct Pseudonyms(MacKey);

impl Pseudonyms {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(MacKey::new(key))
    }

    /// Of a session, by its id or by the part of it that revocations name.
    pub fn session(&self, id: impl Into<RevocationId>) -> Pseudonym {
        self.of(b's', &id.into().0)
    }

    /// Of a device.
    pub fn device(&self, device: Thumbprint) -> Pseudonym {
        self.of(b'd', &device.0)
    }

    /// Of a user, by the application's user id.
    pub fn subject(&self, subject: &str) -> Pseudonym {
        self.of(b'u', subject.as_bytes())
    }

    /// Of a network.
    pub fn network(&self, network: Network) -> Pseudonym {
        self.of(b'n', network.to_string().as_bytes())
    }

    fn of(&self, kind: u8, name: &[u8]) -> Pseudonym {
        let mac = self.0.sign(&[&[kind], name].concat());
        let mut short = [0; Pseudonym::LEN];
        short.copy_from_slice(&mac[..Pseudonym::LEN]);
        Pseudonym(short)
    }
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tell_apart_and_depend_on_the_key() {
        let (one, other) = (Pseudonyms::new(&[1; 32]), Pseudonyms::new(&[2; 32]));
        let ann = one.subject("ann");
        assert_eq!(one.subject("ann"), ann);
        assert_eq!(ann.to_string().len(), 16);
        let device = Thumbprint(*b"annannannannannannannannannannan");
        let session = RevocationId(*b"annannannann");
        for unlike in [
            one.subject("bob"),
            other.subject("ann"),
            one.device(device),
            one.session(session),
            one.subject("annannannann"),
        ] {
            assert_ne!(unlike, ann);
        }
        assert_ne!(one.session(session), one.subject("annannannann"));
    }
}

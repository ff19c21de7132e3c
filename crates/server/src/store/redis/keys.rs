//! What things are called in the server, and how they are written there.

use bulla_protocol::jwk::Thumbprint;

use super::RedisStore;
use crate::store::{MemoryStore, Party, Revocation};
use crate::ticket::RevocationId;

/// The names of what is in the server.
pub(super) struct Keys(String);

impl Keys {
    /// With this hash tag before all of them.
    pub(super) fn new(name: &str) -> Self {
        Self(format!("{{{name}}}"))
    }

    pub(super) fn of(&self, kind: &str, name: &[u8]) -> Vec<u8> {
        [self.0.as_bytes(), b":", kind.as_bytes(), b":", name].concat()
    }

    pub(super) fn memory(&self) -> Vec<u8> {
        self.0.as_bytes().to_vec()
    }

    pub(super) fn log(&self) -> Vec<u8> {
        self.of("log", b"")
    }

    pub(super) fn ring(&self) -> Vec<u8> {
        self.of("ring", b"")
    }

    pub(super) fn session(&self, id: &[u8]) -> Vec<u8> {
        self.of("s", id)
    }

    pub(super) fn device(&self, device: &Thumbprint) -> Vec<u8> {
        self.of("d", &device.0)
    }

    pub(super) fn subject(&self, subject: &str) -> Vec<u8> {
        self.of("u", subject.as_bytes())
    }

    /// Up to when a user's logins are recent no more.
    pub(super) fn login(&self, subject: &str) -> Vec<u8> {
        self.of("l", subject.as_bytes())
    }

    /// A user's sessions and devices.
    pub(super) fn record(&self, subject: &str) -> Vec<u8> {
        self.of("r", subject.as_bytes())
    }

    /// How many ended sessions somebody has. The application has no count.
    pub(super) fn owned(&self, by: Party) -> (Vec<u8>, String) {
        match by {
            Party::Application => (self.of("o", b""), String::new()),
            Party::User(subject) => (
                self.of("o", subject.as_str().as_bytes()),
                MemoryStore::REVOCATIONS_QUOTA.to_string(),
            ),
            Party::Stranger => (self.of("o", b""), RedisStore::STRANGERS_QUOTA.to_string()),
        }
    }
}

/// What has ended, as the log has it. Sessions are noted by the script, in the same way.
pub(super) fn note(ended: &Revocation) -> Vec<u8> {
    match ended {
        Revocation::Session(id) => [b"s", &id.0[..]].concat(),
        Revocation::Device(device) => [b"d", &device.0[..]].concat(),
        Revocation::Subject(subject, login) => format!("u{login}:{subject}").into_bytes(),
        Revocation::RecentLogin(subject, login) => format!("l{login}:{subject}").into_bytes(),
    }
}

/// `None` for what nobody here can read: whoever is told so looks for himself.
pub(super) fn noted(text: &[u8]) -> Option<Revocation> {
    match text.split_first()? {
        (b's', id) => Some(Revocation::Session(RevocationId(id.try_into().ok()?))),
        (b'd', device) => Some(Revocation::Device(Thumbprint(device.try_into().ok()?))),
        (kind @ (b'u' | b'l'), rest) => {
            let (login, subject) = std::str::from_utf8(rest).ok()?.split_once(':')?;
            let (subject, login) = (subject.parse().ok()?, login.parse().ok()?);
            Some(if *kind == b'u' {
                Revocation::Subject(subject, login)
            } else {
                Revocation::RecentLogin(subject, login)
            })
        }
        _ => None,
    }
}

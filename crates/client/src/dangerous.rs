//! What weakens a session, and what a thief would do with it. For attack tests.

use core::fmt;
use std::sync::Mutex;

use bulla_keys::MacKey;
use bulla_protocol::opening::{SessionId, Ticket, sealed_path};
use bytes::Bytes;
use http::Request;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::live::{Live, Notes};
use crate::request::seal;
use crate::session::{CLOSED, Session};

/// What can be copied from a session without its device key and its MAC key: the spoils of whoever
/// reads its memory dumps, its logs and its traffic.
///
/// The sealing keys are among it, since script in a page can derive from their handles whatever it
/// likes.
#[derive(Clone)]
pub struct Loot {
    /// The session's name.
    pub session: SessionId,
    /// The ticket.
    pub ticket: Ticket,
    /// The newest server nonce.
    pub nonce: String,
    /// The key that requests are sealed under.
    pub request_key: Zeroizing<[u8; 32]>,
    /// The key that replies are sealed under.
    pub response_key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Loot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loot({})", self.session)
    }
}

impl Session {
    /// Seals anything at all under the session's request key and ticket: no proof is made, nothing is
    /// checked.
    ///
    /// # Errors
    ///
    /// `session_closed` if there is no current session.
    pub fn dangerous_seal(&self, inner: &[u8]) -> Result<Request<Bytes>, Error> {
        let client = &self.0.client.0;
        let live = self.current().ok_or(CLOSED)?;
        seal(client, &live, &sealed_path(&client.prefix), inner)
    }

    /// What can be copied from the session without its device key and its MAC key.
    ///
    /// # Errors
    ///
    /// `session_closed` if there is no current session.
    pub fn dangerous_loot(&self) -> Result<Loot, Error> {
        Ok(self.current().ok_or(CLOSED)?.loot())
    }

    /// What a thief makes of his loot: a session that claims to be the other one, on this client's own
    /// device key and a MAC key that is made up.
    ///
    /// # Errors
    ///
    /// `session_closed` if there is no current session, `unsupported` without random bytes.
    pub fn dangerous_with_loot(&self, loot: Loot) -> Result<Self, Error> {
        let live = self.current().ok_or(CLOSED)?;
        let mut mac = Zeroizing::new([0; 32]);
        self.0.client.0.random.fill(mac.as_mut_slice())?;
        let stolen = live.with_loot(loot, MacKey::new(&mac));
        Ok(Self::new(self.0.client.clone(), Some(stolen)))
    }
}

impl Live {
    /// What can be copied from it.
    fn loot(&self) -> Loot {
        let Notes { ticket, nonce, .. } = self.notes().clone();
        Loot {
            session: self.id,
            ticket,
            nonce,
            request_key: self.request_key.clone(),
            response_key: self.response_key.clone(),
        }
    }

    /// A session that has the loot of another one, and a MAC key of its own.
    fn with_loot(&self, loot: Loot, mac: MacKey) -> Self {
        Self {
            id: loot.session,
            request_key: loot.request_key,
            response_key: loot.response_key,
            mac,
            authenticated: self.authenticated,
            nonce_life: self.nonce_life,
            ticket_life: self.ticket_life,
            proof: self.proof,
            notes: Mutex::new(Notes {
                ticket: loot.ticket,
                ticket_came: self.notes().ticket_came,
                nonce: loot.nonce,
                confirmed: true,
                wants_device: false,
            }),
        }
    }
}

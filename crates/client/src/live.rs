//! One session as this client holds it.

use core::fmt;
use core::time::Duration;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bulla_keys::{AgreementKey, KeyError, MacKey, Prk};
use bulla_protocol::opening::{MAC_INFO, SessionId, Ticket, VerifiedOpened};
use bulla_protocol::proof::ProofKind;
use bulla_protocol::reply::Handout;
use bulla_protocol::retry::Standing;
use zeroize::Zeroizing;

/// A session: its name, its keys, and what the server handed out last.
pub(crate) struct Live {
    pub(crate) id: SessionId,
    pub(crate) request_key: Zeroizing<[u8; 32]>,
    pub(crate) response_key: Zeroizing<[u8; 32]>,
    pub(crate) mac: MacKey,
    /// Whether it has a subject.
    pub(crate) authenticated: bool,
    pub(crate) nonce_life: Duration,
    ticket_life: Duration,
    /// The weakest proof that the server takes by default.
    proof: ProofKind,
    notes: Mutex<Notes>,
}

/// What the server hands out anew from time to time.
#[derive(Clone)]
struct Notes {
    ticket: Ticket,
    /// When it came, by the client's monotonic clock.
    ticket_came: Duration,
    nonce: String,
    /// A device proof has been seen by the server: it has handed out a further ticket.
    confirmed: bool,
    /// The server has refused a session proof.
    wants_device: bool,
}

/// What can be copied from a session without its device key and its MAC key: the spoils of whoever
/// reads its memory dumps, its logs and its traffic. For attack tests.
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

impl Live {
    /// The session that an opening has given, at this time by the client's monotonic clock.
    pub(crate) fn new(
        verified: VerifiedOpened,
        agreement: &AgreementKey,
        now: Duration,
    ) -> Result<Self, KeyError> {
        let VerifiedOpened { opened, transcript } = verified;
        let secret = |key| {
            let shared = agreement.agree(key)?;
            Ok(Zeroizing::new(*shared.as_bytes()))
        };
        let mut mac = Zeroizing::new([0; 32]);
        Prk::extract(&transcript.0, &*secret(&opened.agreement.mac)?)
            .expand(&[MAC_INFO], mac.as_mut_slice());
        Ok(Self {
            id: transcript.session_id(),
            request_key: secret(&opened.agreement.request)?,
            response_key: secret(&opened.agreement.response)?,
            mac: MacKey::new(&mac),
            authenticated: opened.authenticated,
            nonce_life: Duration::from_secs(opened.nonce_life.into()),
            ticket_life: Duration::from_secs(opened.ticket_life.into()),
            proof: opened.proof,
            notes: Mutex::new(Notes {
                ticket: opened.ticket,
                ticket_came: now,
                nonce: opened.nonce,
                confirmed: false,
                wants_device: false,
            }),
        })
    }

    /// What can be copied from it.
    pub(crate) fn loot(&self) -> Loot {
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
    pub(crate) fn with_loot(&self, loot: Loot, mac: MacKey) -> Self {
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

    pub(crate) fn ticket(&self) -> Ticket {
        self.notes().ticket.clone()
    }

    pub(crate) fn nonce(&self) -> String {
        self.notes().nonce.clone()
    }

    /// Which key proves the next request.
    pub(crate) fn proof_kind(&self, now: Duration) -> ProofKind {
        let notes = self.notes();
        let standing = Standing {
            proof: self.proof,
            confirmed: notes.confirmed,
            wants_device: notes.wants_device,
            ticket_age: now.saturating_sub(notes.ticket_came),
            ticket_life: self.ticket_life,
        };
        standing.next_proof()
    }

    /// Takes the next nonce and the next ticket, if there are any.
    pub(crate) fn take(&self, handout: &Handout, now: Duration) {
        let mut notes = self.notes();
        if let Some(nonce) = &handout.nonce {
            notes.nonce.clone_from(nonce);
        }
        if let Some(ticket) = &handout.ticket {
            notes.ticket.clone_from(ticket);
            notes.ticket_came = now;
            // The server hands one out only after it has seen a device proof.
            notes.confirmed = true;
        }
    }

    pub(crate) fn want_device(&self) {
        self.notes().wants_device = true;
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! One session as this client holds it.

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
    pub(crate) ticket_life: Duration,
    /// The weakest proof that the server takes by default.
    pub(crate) proof: ProofKind,
    pub(crate) notes: Mutex<Notes>,
}

/// What the server hands out anew from time to time.
#[derive(Clone)]
pub(crate) struct Notes {
    pub(crate) ticket: Ticket,
    /// When it came, by the client's monotonic clock.
    pub(crate) ticket_came: Duration,
    pub(crate) nonce: String,
    /// A device proof has been seen by the server: it has handed out a further ticket.
    pub(crate) confirmed: bool,
    /// The server has refused a session proof.
    pub(crate) wants_device: bool,
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

    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! One session as this client holds it, in memory and in the store.

use core::time::Duration;
use std::cell::{Cell, RefCell};

use bulla_protocol::error::Error;
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::opening::{SessionId, Ticket, VerifiedOpened};
use bulla_protocol::proof::ProofKind;
use bulla_protocol::retry::is_renewal_due;
use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;

use crate::crypto::SessionKeys;
use crate::platform::{member, object};

/// A session: its name, the handles of its keys, and what the server handed out last.
pub(crate) struct Live {
    pub(crate) id: SessionId,
    pub(crate) keys: SessionKeys,
    pub(crate) identity: Thumbprint,
    /// Whose proofs it takes.
    pub(crate) device: Thumbprint,
    /// Whether it has a subject.
    pub(crate) authenticated: bool,
    /// The weakest proof that the server takes by default.
    pub(crate) proof: ProofKind,
    /// In seconds, like the other lives.
    pub(crate) nonce_life: f64,
    pub(crate) ticket_life: f64,
    pub(crate) ticket: RefCell<Ticket>,
    /// When the ticket came, by the client's clock, in seconds since 1970.
    pub(crate) ticket_came: Cell<f64>,
    pub(crate) nonce: RefCell<String>,
    /// A device proof has been seen by the server: it has handed out a further ticket.
    pub(crate) confirmed: Cell<bool>,
    /// The server has refused a session proof.
    pub(crate) wants_device: Cell<bool>,
}

impl Live {
    /// The session that an opening has given.
    pub(crate) fn new(verified: VerifiedOpened, keys: SessionKeys, device: Thumbprint) -> Self {
        let VerifiedOpened { opened, transcript } = verified;
        Self {
            id: transcript.session_id(),
            keys,
            identity: opened.identity.thumbprint(),
            device,
            authenticated: opened.authenticated,
            proof: opened.proof,
            nonce_life: f64::from(opened.nonce_life),
            ticket_life: f64::from(opened.ticket_life),
            ticket: RefCell::new(opened.ticket),
            ticket_came: Cell::new(seconds()),
            nonce: RefCell::new(opened.nonce),
            confirmed: Cell::new(false),
            wants_device: Cell::new(false),
        }
    }

    /// Takes what [`to_stored`](Self::to_stored) gave; `None` if it is something else.
    pub(crate) fn from_stored(stored: &JsValue) -> Option<Self> {
        let text = |name| member(stored, name).as_string();
        let number = |name| member(stored, name).as_f64();
        let flag = |name| member(stored, name).as_bool();
        let ticket = member(stored, "ticket").dyn_into::<Uint8Array>().ok()?;
        Some(Self {
            id: text("id")?.parse().ok()?,
            keys: SessionKeys::from_stored(stored)?,
            identity: text("identity")?.parse().ok()?,
            device: text("device")?.parse().ok()?,
            authenticated: flag("authenticated")?,
            proof: if flag("sessionProof")? {
                ProofKind::Session
            } else {
                ProofKind::Device
            },
            nonce_life: number("nonceLife")?,
            ticket_life: number("ticketLife")?,
            ticket: RefCell::new(Ticket::new(ticket.to_vec()).ok()?),
            ticket_came: Cell::new(number("ticketCame")?),
            nonce: RefCell::new(text("nonce")?),
            confirmed: Cell::new(flag("confirmed")?),
            wants_device: Cell::new(false),
        })
    }

    /// An object for the store.
    pub(crate) fn to_stored(&self) -> JsValue {
        let ticket = Uint8Array::from(self.ticket.borrow().as_bytes());
        let object = object([
            ("id", self.id.to_string().into()),
            ("identity", self.identity.to_string().into()),
            ("device", self.device.to_string().into()),
            ("authenticated", self.authenticated.into()),
            ("sessionProof", (self.proof == ProofKind::Session).into()),
            ("nonceLife", self.nonce_life.into()),
            ("ticketLife", self.ticket_life.into()),
            ("ticket", ticket.into()),
            ("ticketCame", self.ticket_came.get().into()),
            ("nonce", self.nonce.borrow().as_str().into()),
            ("confirmed", self.confirmed.get().into()),
        ]);
        self.keys.store(&object);
        object.into()
    }

    /// Whether a stored session has this name.
    pub(crate) fn is_stored(id: SessionId, stored: &JsValue) -> bool {
        member(stored, "id").as_string() == Some(id.to_string())
    }

    /// Whether the ticket is at its end, as far as the client's clock can be believed. Only the server
    /// knows; asking it first saves the application a refusal.
    pub(crate) fn seems_over(&self) -> bool {
        !(0.0..self.ticket_life).contains(&self.ticket_age())
    }

    /// How long ago the ticket came, in seconds by the client's clock.
    fn ticket_age(&self) -> f64 {
        seconds() - self.ticket_came.get()
    }

    /// Which key proves the next request.
    pub(crate) fn proof_kind(&self) -> ProofKind {
        let duration = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let due = is_renewal_due(duration(self.ticket_age()), duration(self.ticket_life));
        if self.confirmed.get() && !self.wants_device.get() && !due {
            self.proof
        } else {
            ProofKind::Device
        }
    }

    /// Takes a further ticket. Returns whether anything is new.
    pub(crate) fn take_ticket(&self, field: &str) -> Result<bool, Error> {
        let ticket = Ticket::from_field(field)?;
        self.confirmed.set(true);
        self.ticket_came.set(seconds());
        Ok(self.ticket.replace(ticket.clone()) != ticket)
    }

    /// Takes a further server nonce. Returns whether anything is new.
    pub(crate) fn take_nonce(&self, nonce: String) -> bool {
        *self.nonce.borrow() != nonce && {
            self.nonce.replace(nonce);
            true
        }
    }
}

fn seconds() -> f64 {
    js_sys::Date::now() / 1000.0
}

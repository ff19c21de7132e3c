//! Opening a session, step by step: one type for each.

use bulla_protocol::limits::{OPENING_TIMEOUT, VERSION};
use bulla_protocol::opening::{
    self, Agreements, MAC_INFO, Open, SentOpening, Ticket, UnverifiedOpened, VerifiedOpened,
};
use bulla_protocol::proof::ProofKind;
use wasm_bindgen::prelude::*;

use crate::boundary::{array, lines, pairs, seconds};
use crate::error::Failure;
use crate::{Server, public_key};

/// How long an opening may take, in milliseconds.
#[wasm_bindgen(js_name = openingTimeout)]
pub fn opening_timeout() -> f64 {
    OPENING_TIMEOUT.as_secs_f64() * 1000.0
}

/// An opening that is waiting for its signature.
#[wasm_bindgen]
pub struct Opening(opening::Opening);

#[wasm_bindgen]
impl Opening {
    /// Prepares one. `device` and `agreement` are uncompressed points, `identity` is the pinned
    /// thumbprint, `random` has 32 bytes, `ticket` is that of a session to be carried over, `created` is
    /// in seconds since 1970. `previous` is the device key whose place this one's takes.
    ///
    /// # Errors
    ///
    /// `unsupported` for what is no point of P-256, `request_invalid` for an identity that is no thumbprint or
    /// random bytes that are not 32, `malformed` for what is no ticket.
    #[wasm_bindgen(constructor)]
    #[expect(
        clippy::too_many_arguments,
        reason = "an object with as many members costs its names on both sides"
    )]
    pub fn new(
        server: &Server,
        device: &[u8],
        agreement: &[u8],
        identity: Option<String>,
        random: &[u8],
        ticket: Option<String>,
        created: f64,
        previous: Option<Vec<u8>>,
    ) -> Result<Self, Failure> {
        let identity = identity.map(|text| crate::identity(&text)).transpose()?;
        let ticket = ticket.map(|field| Ticket::from_field(&field)).transpose()?;
        let open = Open {
            version: VERSION,
            device: public_key(device)?,
            agreement: public_key(agreement)?,
            identity,
            random: array(random)?,
            ticket,
            work: None,
        };
        let authority = server.origin.authority();
        let created = seconds(created);
        let previous = previous.map(|point| public_key(&point)).transpose()?;
        let opening = opening::Opening::new(open, previous, authority, &server.prefix, created)?;
        Ok(Self(opening))
    }

    /// What the device key signs.
    #[wasm_bindgen(getter)]
    pub fn base(&self) -> Vec<u8> {
        self.0.base().into()
    }

    /// What the key before it signs, if there is one.
    #[wasm_bindgen(getter, js_name = rotationBase)]
    pub fn rotation_base(&self) -> Option<Vec<u8>> {
        Some(self.0.rotation_base()?.into())
    }

    /// Adds the signatures.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the boundary knows no optional slice"
    )]
    pub fn signed(self, signature: &[u8], rotation: Option<Vec<u8>>) -> Sent {
        Sent(self.0.signed(signature, rotation.as_deref()))
    }
}

/// An opening that can be sent.
#[wasm_bindgen]
pub struct Sent(SentOpening);

#[wasm_bindgen]
impl Sent {
    /// The header fields, as lines.
    #[wasm_bindgen(getter)]
    pub fn fields(&self) -> String {
        lines(self.0.fields().iter())
    }

    /// The body.
    #[wasm_bindgen(getter)]
    pub fn body(&self) -> Vec<u8> {
        self.0.body().to_vec()
    }

    /// The work that the answer asks for, if it does.
    pub fn work(&self, status: u16, fields: &str, body: &[u8]) -> Option<Work> {
        self.0.work(status, &pairs(fields), body).map(Work)
    }

    /// Reads the answer.
    ///
    /// # Errors
    ///
    /// The server's refusal; `identity_changed`; `reply_invalid` for all else that is wrong with it.
    pub fn read(self, status: u16, fields: &str, body: &[u8]) -> Result<Unverified, Failure> {
        Ok(Unverified(self.0.read(status, &pairs(fields), body)?))
    }
}

/// Work that is to be done.
#[wasm_bindgen]
pub struct Work(opening::OpeningWork);

#[wasm_bindgen]
impl Work {
    /// Does some of it, and gives the opening that shows it once it is done.
    ///
    /// # Errors
    ///
    /// `malformed` if it cannot be written, which it could before.
    pub fn run(&mut self) -> Result<Option<Opening>, Failure> {
        // Some ten milliseconds; a hidden page has one turn a second.
        const TRIES: u32 = 1 << 14;
        Ok(self.0.run(TRIES)?.map(Opening))
    }
}

/// An answer whose signature is not checked yet.
#[wasm_bindgen]
pub struct Unverified(UnverifiedOpened);

#[wasm_bindgen]
impl Unverified {
    /// The server's identity key, an uncompressed point.
    #[wasm_bindgen(getter)]
    pub fn identity(&self) -> Vec<u8> {
        self.0.identity().as_uncompressed().to_vec()
    }

    /// What has to have been signed.
    #[wasm_bindgen(getter)]
    pub fn base(&self) -> Vec<u8> {
        self.0.base().into()
    }

    /// The signature.
    #[wasm_bindgen(getter)]
    pub fn signature(&self) -> Vec<u8> {
        self.0.signature().to_vec()
    }

    /// Goes on if WebCrypto says that the signature is valid.
    ///
    /// # Errors
    ///
    /// `reply_invalid` if it is not.
    pub fn verified(self, valid: bool) -> Result<Opened, Failure> {
        Ok(Opened(self.0.verify(|_, _, _| valid)?))
    }
}

/// What both sides agree on.
#[wasm_bindgen]
pub struct Opened(VerifiedOpened);

#[wasm_bindgen]
impl Opened {
    /// The session's name.
    #[wasm_bindgen(getter)]
    pub fn id(&self) -> String {
        self.0.transcript.session_id().to_string()
    }

    /// The thumbprint of the server's identity key.
    #[wasm_bindgen(getter)]
    pub fn identity(&self) -> String {
        self.0.opened.identity.thumbprint().to_string()
    }

    /// Whether the session has a subject.
    #[wasm_bindgen(getter)]
    pub fn authenticated(&self) -> bool {
        self.0.opened.authenticated
    }

    /// Whether the server takes session proofs by default.
    #[wasm_bindgen(getter, js_name = sessionProof)]
    pub fn session_proof(&self) -> bool {
        self.0.opened.proof == ProofKind::Session
    }

    /// How long a server nonce is taken, in seconds.
    #[wasm_bindgen(getter, js_name = nonceLife)]
    pub fn nonce_life(&self) -> u32 {
        self.0.opened.nonce_life
    }

    /// How long a ticket is taken, in seconds.
    #[wasm_bindgen(getter, js_name = ticketLife)]
    pub fn ticket_life(&self) -> u32 {
        self.0.opened.ticket_life
    }

    /// The ticket.
    #[wasm_bindgen(getter)]
    pub fn ticket(&self) -> String {
        self.0.opened.ticket.to_field()
    }

    /// The first server nonce.
    #[wasm_bindgen(getter)]
    pub fn nonce(&self) -> String {
        self.0.opened.nonce.clone()
    }

    /// The server's agreement keys for requests, for replies and for the session MAC key: uncompressed
    /// points, one after the other.
    #[wasm_bindgen(getter)]
    pub fn agreements(&self) -> Vec<u8> {
        let Agreements {
            request,
            response,
            mac,
        } = &self.0.opened.agreement;
        [request, response, mac]
            .map(|key| *key.as_uncompressed())
            .concat()
    }

    /// HKDF `salt` of the session MAC key.
    #[wasm_bindgen(getter, js_name = macSalt)]
    pub fn mac_salt(&self) -> Vec<u8> {
        self.0.transcript.0.to_vec()
    }

    /// HKDF `info` of the session MAC key.
    #[wasm_bindgen(getter, js_name = macInfo)]
    pub fn mac_info(&self) -> Vec<u8> {
        MAC_INFO.to_vec()
    }
}

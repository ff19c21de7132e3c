//! A reply: what it is, what comes beside it, and its content if it is sealed.

use bulla_protocol::field::is_ours;
use bulla_protocol::limits::{MAX_OPENING_LEN, MAX_PROBLEM_LEN};
use bulla_protocol::reply::{self, Part, check_in_reply_to};
use wasm_bindgen::prelude::*;

use crate::boundary::{lines, pairs};
use crate::error::{BullaError, Failure};
use crate::record::Handed;
use crate::request::Outgoing;

/// The status and the fields of a reply.
#[wasm_bindgen]
pub struct Head {
    status: u16,
    fields: Vec<(String, String)>,
}

#[wasm_bindgen]
impl Head {
    /// Of a reply as the platform hands it out. `fields` are lines: names and values in turn.
    #[wasm_bindgen(constructor)]
    pub fn new(status: u16, fields: &str) -> Self {
        let fields = pairs(fields);
        Self { status, fields }
    }

    /// The status code.
    #[wasm_bindgen(getter)]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The fields that are the application's, as lines.
    #[wasm_bindgen(getter)]
    pub fn fields(&self) -> String {
        lines(self.fields.iter().filter(|(name, _)| !is_ours(name)))
    }

    /// Whether it may be a refusal.
    #[wasm_bindgen(getter, js_name = isProblem)]
    pub fn is_problem(&self) -> bool {
        reply::is_problem(self.status, &self.fields)
    }

    /// The refusal that it is, with this content, if it is one.
    pub fn refusal(&self, content: &[u8]) -> Option<BullaError> {
        reply::refusal(self.status, &self.fields, content).map(BullaError::from)
    }

    /// Checks that it answers this request as it was sent last.
    ///
    /// # Errors
    ///
    /// `reply_mismatch`.
    #[wasm_bindgen(js_name = checkInReplyTo)]
    pub fn check_in_reply_to(&self, outgoing: &Outgoing) -> Result<(), Failure> {
        Ok(check_in_reply_to(&self.fields, outgoing.nonce())?)
    }

    /// What the server hands out, if that is more than the server nonce that the request was sent with. `vouched` says
    /// that the session's keys, or TLS alone if nothing is sealed, vouch for it.
    ///
    /// # Errors
    ///
    /// `reply_invalid` if a field of the protocol cannot be read.
    pub fn handout(&self, vouched: bool, outgoing: &Outgoing) -> Result<Option<Handout>, Failure> {
        let handout = if vouched {
            reply::Handout::read(&self.fields)?
        } else {
            reply::Handout::read_unsealed(&self.fields)?
        };
        let more = Some(handout).filter(|handout| !handout.is_known(outgoing.server_nonce()));
        Ok(more.map(Handout))
    }
}

/// How long a refusal, or the answer to an opening, may be, in bytes.
#[wasm_bindgen(js_name = maxAnswer)]
pub fn max_answer() -> usize {
    MAX_OPENING_LEN.max(MAX_PROBLEM_LEN)
}

/// What the server hands out beside a reply.
#[wasm_bindgen]
pub struct Handout(reply::Handout);

#[wasm_bindgen]
impl Handout {
    /// The next server nonce.
    #[wasm_bindgen(getter)]
    pub fn nonce(&self) -> Option<String> {
        self.0.nonce.clone()
    }

    /// The next ticket.
    #[wasm_bindgen(getter)]
    pub fn ticket(&self) -> Option<String> {
        Some(self.0.ticket.as_ref()?.to_field())
    }

    /// A ticket for one opening.
    #[wasm_bindgen(getter, js_name = carryOver)]
    pub fn carry_over(&self) -> Option<String> {
        Some(self.0.carry_over.as_ref()?.to_field())
    }

    /// Whether that opening may be by another device key.
    #[wasm_bindgen(getter)]
    pub fn rotate(&self) -> bool {
        self.0.rotate
    }

    /// Whether the session is over.
    #[wasm_bindgen(getter)]
    pub fn ended(&self) -> bool {
        self.0.ended
    }
}

/// Opens a sealed reply, with the cipher left to WebCrypto.
#[wasm_bindgen]
#[derive(Default)]
pub struct Unsealer {
    reply: reply::Unsealer,
    handed: Handed,
    head: Option<Head>,
    content: Vec<u8>,
}

#[wasm_bindgen]
impl Unsealer {
    /// For one reply.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds cipher text.
    ///
    /// # Errors
    ///
    /// `reply_broken`; `reply_invalid` if the envelope has a `keyid`.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.reply.push(bytes)?)
    }

    /// The cipher text is at its end.
    ///
    /// # Errors
    ///
    /// `reply_truncated`.
    pub fn end(&mut self) -> Result<(), Failure> {
        Ok(self.reply.end()?)
    }

    /// What the keys are derived with, once it is there.
    #[wasm_bindgen(getter)]
    pub fn salt(&self) -> Option<Vec<u8>> {
        self.reply.salt().map(|salt| salt.to_vec())
    }

    /// The next record to be deciphered, if it is there and not too many are on their way.
    pub fn record(&mut self) -> Option<Vec<u8>> {
        let record = self.reply.record()?;
        Some(self.handed.bytes(record))
    }

    /// The nonce of the last one, from the 12 bytes that were derived for the message; once.
    ///
    /// # Errors
    ///
    /// `request_invalid` if there are not 12, or there is no record without its nonce.
    pub fn nonce(&mut self, base: &[u8]) -> Result<Vec<u8>, Failure> {
        self.handed.nonce(base)
    }

    /// Takes the plain text of the oldest record on its way.
    ///
    /// # Errors
    ///
    /// `reply_broken`, `reply_truncated`; `reply_invalid` if what is inside is no reply.
    pub fn opened(&mut self, plain: Vec<u8>) -> Result<(), Failure> {
        for part in self.reply.opened(plain)? {
            match part {
                Part::Head(status, fields) => self.head = Some(Head { status, fields }),
                Part::Content(content) if self.content.is_empty() => self.content = content,
                Part::Content(content) => self.content.extend_from_slice(&content),
            }
        }
        Ok(())
    }

    /// The head, once it is there; once.
    pub fn head(&mut self) -> Option<Head> {
        self.head.take()
    }

    /// How many bytes of content are there to be taken.
    #[wasm_bindgen(getter)]
    pub fn held(&self) -> usize {
        self.content.len()
    }

    /// The content that is there.
    pub fn content(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.content)
    }

    /// Whether the final record has been opened.
    #[wasm_bindgen(getter, js_name = isComplete)]
    pub fn is_complete(&self) -> bool {
        self.reply.is_complete()
    }

    /// Checks that nothing is missing.
    ///
    /// # Errors
    ///
    /// `reply_truncated` or `reply_invalid` if something is.
    pub fn finish(&self) -> Result<(), Failure> {
        Ok(self.reply.finish()?)
    }
}

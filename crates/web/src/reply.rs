//! A reply: what it is, what comes beside it, and its content if it is sealed.

use bulla_protocol::error::Code;
use bulla_protocol::field::is_ours;
use bulla_protocol::limits::{MAX_OPENING_LEN, MAX_PROBLEM_LEN};
use bulla_protocol::reply::{self, Part, check_in_reply_to};
use wasm_bindgen::prelude::*;

use crate::boundary::{lines, pairs};
use crate::error::{BullaError, Failure};
use crate::record;
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

/// Whether the outer reply, of this status and this `content-type`, holds a sealed one.
#[wasm_bindgen(js_name = isSealed)]
pub fn is_sealed(status: u16, media_type: String) -> bool {
    reply::is_sealed(status, &vec![("content-type".to_owned(), media_type)])
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

    /// The next record to be deciphered, with its nonce behind it, if it is there and not too many are on their way.
    /// `nonce` is what was derived for the message.
    ///
    /// # Errors
    ///
    /// `request_invalid` if that has not 12 bytes.
    pub fn record(&mut self, nonce: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        record::handed(self.reply.record(), nonce)
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

    /// The head, once it is there; once. It answers this request as it was sent last.
    ///
    /// # Errors
    ///
    /// `reply_mismatch` if it answers another one.
    pub fn head(&mut self, outgoing: &Outgoing) -> Result<Option<Head>, Failure> {
        if let Some(head) = &self.head {
            check_in_reply_to(&head.fields, outgoing.nonce())?;
        }
        Ok(self.head.take())
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

    /// The content that is left, if all of it is there, so that there is nothing to wait for.
    ///
    /// # Errors
    ///
    /// `reply_invalid` if the message has no end.
    pub fn rest(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self.reply.finish() {
            Ok(()) => Ok(Some(self.content())),
            Err(error) if error.code == Code::ReplyTruncated => Ok(None),
            Err(error) => Err(error.into()),
        }
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

#[cfg(test)]
mod tests {
    use bulla_protocol::field::IN_REPLY_TO;
    use bulla_protocol::message::{Control, Head as Written, whole};
    use bulla_protocol::seal::{Header, Splitter, TAG_LEN};
    use bulla_protocol::structured::from_string;

    use super::*;
    use crate::Server;

    /// A request that has been proved.
    fn outgoing(random: u8) -> Outgoing {
        let standing = "AAAAAAAAAAAAAAAAAAAAAA\n:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==:\nnonce";
        let server = Server::new("https://bank.example", None).unwrap();
        let mut outgoing = Outgoing::new(&server, "GET\n/").unwrap();
        outgoing.prove(standing, &[random; 16], false, 5.0).unwrap();
        outgoing
    }

    /// The reply to that, opened to its end but for the end of the cipher text.
    fn opened(outgoing: &Outgoing, content: &[u8]) -> Unsealer {
        let fields = vec![(
            IN_REPLY_TO.to_owned(),
            from_string(outgoing.nonce()).unwrap(),
        )];
        let control = Control::Response(200);
        let message = whole(Written { control, fields }, content).unwrap();
        // One full record, and the final one.
        let capacity = message.len() - 1;
        let record_size = u32::try_from(capacity + 1 + TAG_LEN).unwrap();
        let mut splitter = Splitter::new(record_size);
        let mut plain = splitter.push(&message);
        plain.push(splitter.finish());

        let mut unsealer = Unsealer::new();
        let header = Header {
            salt: [0; 16],
            record_size,
            keyid: Vec::new(),
        };
        unsealer.push(&header.encode()).unwrap();
        for record in &plain {
            // As long as the cipher text would be.
            let len = record.bytes.len() + TAG_LEN;
            unsealer.push(&vec![0; len]).unwrap();
        }
        let record = |unsealer: &mut Unsealer| unsealer.record(&[9; 12]).unwrap().is_some();
        assert!(record(&mut unsealer) && !record(&mut unsealer));
        let [first, last] = plain.try_into().ok().unwrap();
        unsealer.opened(first.bytes).unwrap();
        assert_eq!(unsealer.rest().unwrap(), None);
        unsealer.end().unwrap();
        assert_eq!(unsealer.rest().unwrap(), None);
        assert!(record(&mut unsealer));
        unsealer.opened(last.bytes).unwrap();
        unsealer
    }

    #[test]
    fn the_rest_is_there_at_the_end_only() {
        let content = [7; 100];
        let mut unsealer = opened(&outgoing(1), &content);
        assert_eq!(unsealer.rest().unwrap(), Some(content.to_vec()));
    }

    #[test]
    fn the_head_of_a_reply_to_another_request_is_kept() {
        let mut unsealer = opened(&outgoing(1), b"content");
        for _ in 0..2 {
            let error = unsealer.head(&outgoing(2)).err().unwrap();
            assert_eq!(error.0.code, Code::ReplyMismatch);
        }
        assert!(unsealer.head(&outgoing(1)).unwrap().is_some());
        assert!(unsealer.head(&outgoing(1)).unwrap().is_none());
    }

    #[test]
    fn what_is_not_sealed_is_told_by_status_and_type() {
        let is = |status, media_type: &str| is_sealed(status, media_type.to_owned());
        assert!(is(200, "message/bhttp"));
        for (status, media_type) in [
            (0, ""),
            (200, ""),
            (200, "text/html"),
            (200, "message/bhttp, message/bhttp"),
            (404, "message/bhttp"),
        ] {
            assert!(!is(status, media_type), "{status} {media_type}");
        }
    }
}

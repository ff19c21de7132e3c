//! A request as the application made it, and how it leaves: signed, and sealed.

use std::vec;

use bulla_protocol::field;
use bulla_protocol::limits::{BULK_RECORD_SIZE, MAX_RECORDS_IN_FLIGHT};
use bulla_protocol::message;
use bulla_protocol::opening::Ticket;
use bulla_protocol::proof::ProofNonce;
use bulla_protocol::request::{self, Bound};
use bulla_protocol::seal::{Header, Splitter};
use wasm_bindgen::prelude::*;

use crate::boundary::{array, flat, pairs, proof_kind, seconds};
use crate::error::{Failure, invalid};
use crate::{Record, Server};

/// A request that can be sent, again and again if need be.
#[wasm_bindgen]
pub struct Outgoing {
    rules: request::Outgoing,
    body: Vec<u8>,
}

#[wasm_bindgen]
impl Outgoing {
    /// Takes a request apart. `target` is the path with the query, as the platform serialises them;
    /// `fields` are names and values in turn.
    ///
    /// # Errors
    ///
    /// `request_invalid`, for what no server takes.
    #[wasm_bindgen(constructor)]
    pub fn new(
        server: &Server,
        method: String,
        target: &str,
        fields: Vec<String>,
    ) -> Result<Self, Failure> {
        let (origin, target) = (server.origin.clone(), encode_rest(target));
        let rules = request::Outgoing::new(origin, method, target, pairs(fields));
        Ok(Self {
            rules: rules.map_err(invalid)?,
            body: Vec::new(),
        })
    }

    /// Sets the body.
    #[wasm_bindgen(setter)]
    pub fn set_body(&mut self, body: Vec<u8>) {
        self.body = body;
    }

    /// Path and query as they are signed and sent.
    #[wasm_bindgen(getter)]
    pub fn target(&self) -> String {
        self.rules.target().to_owned()
    }

    /// Whether the method is safe (RFC 9110 section 9.2.1).
    #[wasm_bindgen(getter, js_name = isSafe)]
    pub fn is_safe(&self) -> bool {
        self.rules.is_safe()
    }

    /// Prepares the proof. `random` has 16 bytes and stays the same when the request is sent again;
    /// `created` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// `request_invalid` if `random` has another length, or a text cannot be written; `malformed` for what is no
    /// ticket.
    pub fn prove(
        &self,
        session: &str,
        ticket: &str,
        nonce: &str,
        random: &[u8],
        session_proof: bool,
        created: f64,
    ) -> Result<Proof, Failure> {
        let ticket = Ticket::from_field(ticket)?;
        let nonce = ProofNonce {
            server: nonce.to_owned(),
            random: array(random)?,
        };
        let proof = self.rules.prove(
            proof_kind(session_proof),
            session.parse().map_err(invalid)?,
            &ticket,
            &nonce,
            Bound::Content(&self.body),
            seconds(created),
        );
        Ok(Proof {
            rules: proof.map_err(invalid)?,
            ticket,
            nonce,
        })
    }
}

/// The proof of one sending, without its signature.
#[wasm_bindgen]
pub struct Proof {
    rules: request::Proof,
    ticket: Ticket,
    nonce: ProofNonce,
}

#[wasm_bindgen]
impl Proof {
    /// What the device key or the session MAC key signs.
    #[wasm_bindgen(getter)]
    pub fn base(&self) -> Vec<u8> {
        self.rules.base().to_vec()
    }

    /// What a sealed reply has to answer to.
    #[wasm_bindgen(getter)]
    pub fn nonce(&self) -> String {
        self.nonce.to_param()
    }

    /// The fields of a request that is only signed: names and values in turn.
    pub fn signed(self, signature: &[u8]) -> Vec<String> {
        flat(self.rules.signed(signature))
    }

    /// The sealed message, before its encryption. `salt` has 16 bytes, drawn for this one.
    ///
    /// # Errors
    ///
    /// `request_invalid` if `salt` has another length, or the message cannot be written.
    pub fn sealed(
        self,
        outgoing: &Outgoing,
        signature: &[u8],
        salt: &[u8],
    ) -> Result<Sealing, Failure> {
        let head = self.rules.sealed(&outgoing.rules, signature);
        let header = Header {
            salt: array(salt)?,
            record_size: BULK_RECORD_SIZE,
            keyid: self.ticket.as_bytes().to_vec(),
        };
        let inner = message::whole(head, &outgoing.body).map_err(invalid)?;
        let mut splitter = Splitter::new(header.record_size);
        let mut records = splitter.push(&inner);
        records.push(splitter.finish());
        Ok(Sealing {
            header,
            records: records.into_iter(),
        })
    }
}

/// The fields that say that a message is sealed: names and values in turn.
#[wasm_bindgen(js_name = sealedFields)]
pub fn sealed_fields() -> Vec<String> {
    [
        "content-type",
        field::BHTTP,
        "content-encoding",
        field::AES128GCM,
    ]
    .map(str::to_owned)
    .into()
}

/// A message that is being sealed.
#[wasm_bindgen]
pub struct Sealing {
    header: Header,
    records: vec::IntoIter<bulla_protocol::seal::Record>,
}

#[wasm_bindgen]
impl Sealing {
    /// The header, which is sent first.
    #[wasm_bindgen(getter)]
    pub fn header(&self) -> Vec<u8> {
        self.header.encode()
    }

    /// The next records, as many as WebCrypto is given at once; none at the end.
    pub fn records(&mut self) -> Vec<Record> {
        let some = self.records.by_ref().take(MAX_RECORDS_IN_FLIGHT);
        some.map(Record).collect()
    }
}

/// URLs may hold characters that a request target may not (RFC 3986 appendix A); browsers send them
/// as they are.
fn encode_rest(target: &str) -> String {
    let mut encoded = String::with_capacity(target.len());
    for character in target.chars() {
        match character {
            '"' => encoded.push_str("%22"),
            '<' => encoded.push_str("%3C"),
            '>' => encoded.push_str("%3E"),
            '\\' => encoded.push_str("%5C"),
            '^' => encoded.push_str("%5E"),
            '`' => encoded.push_str("%60"),
            '{' => encoded.push_str("%7B"),
            '|' => encoded.push_str("%7C"),
            '}' => encoded.push_str("%7D"),
            other => encoded.push(other),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use bulla_protocol::target::Target;

    use super::*;

    #[test]
    fn what_browsers_leave_in_urls_can_be_signed() {
        let encoded = encode_rest("/a|b?q={\"x\":[1]}&p=`^\\<>");
        assert_eq!(encoded, "/a%7Cb?q=%7B%22x%22:[1]%7D&p=%60%5E%5C%3C%3E");
        assert!(Target::parse(&encoded).is_ok());
        assert_eq!(encode_rest("/a%20b?c=d%26e"), "/a%20b?c=d%26e");
    }
}

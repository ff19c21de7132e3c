//! A request as the application made it, and how it leaves: signed, and sealed.

use std::collections::VecDeque;

use bulla_protocol::digest::ContentDigest;
use bulla_protocol::field;
use bulla_protocol::limits::BULK_RECORD_SIZE;
use bulla_protocol::message;
use bulla_protocol::opening::Ticket;
use bulla_protocol::proof::ProofNonce;
use bulla_protocol::request::{self, Bound};
use bulla_protocol::seal::{Header, Record, Splitter, sealed_len};
use wasm_bindgen::prelude::*;

use crate::Server;
use crate::boundary::{array, lines, pairs, proof_kind, seconds};
use crate::error::{Failure, invalid, wrong};
use crate::record::Handed;

/// A request that can be sent, again and again if need be.
#[wasm_bindgen]
pub struct Outgoing {
    rules: request::Outgoing,
    content: ContentDigest,
    content_len: usize,
}

#[wasm_bindgen]
impl Outgoing {
    /// Takes a request without content apart. `target` is the path with the query, as the platform serialises them;
    /// `fields` are lines: names and values in turn.
    ///
    /// # Errors
    ///
    /// `request_invalid`, for what no server takes.
    #[wasm_bindgen(constructor)]
    pub fn new(
        server: &Server,
        method: String,
        target: &str,
        fields: &str,
    ) -> Result<Self, Failure> {
        let (origin, target) = (server.origin.clone(), encode_rest(target));
        let rules = request::Outgoing::new(origin, method, target, pairs(fields));
        Ok(Self {
            rules: rules.map_err(invalid)?,
            content: ContentDigest::of(&[]),
            content_len: 0,
        })
    }

    /// Tells the content.
    pub fn holds(&mut self, content: &[u8]) {
        self.content = ContentDigest::of(content);
        self.content_len = content.len();
    }

    /// Tells the SHA-256 hash of a content of this length, which would take long here.
    ///
    /// # Errors
    ///
    /// `request_invalid` if that has not 32 bytes.
    #[wasm_bindgen(js_name = holdsLong)]
    pub fn holds_long(&mut self, hash: &[u8], len: usize) -> Result<(), Failure> {
        self.content = ContentDigest(array(hash)?);
        self.content_len = len;
        Ok(())
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
            Bound::Digest(self.content),
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

    /// The fields of a request that is only signed, as lines.
    pub fn signed(self, signature: &[u8]) -> String {
        lines(self.rules.signed(signature).iter())
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
    ) -> Result<Sealer, Failure> {
        let head = self.rules.sealed(&outgoing.rules, signature);
        let header = Header {
            salt: array(salt)?,
            record_size: BULK_RECORD_SIZE,
            keyid: self.ticket.as_bytes().to_vec(),
        };
        let len = outgoing.content_len;
        let before = message::before(head, len).map_err(invalid)?;
        let zeros = message::zeros_behind(before.len() + len);
        let mut splitter = Splitter::new(BULK_RECORD_SIZE);
        Ok(Sealer {
            header: header.encode(),
            sealed_len: sealed_len(before.len() + len + zeros, BULK_RECORD_SIZE),
            records: splitter.push(&before).into(),
            handed: Handed::default(),
            splitter: Some(splitter),
            missing: len,
            zeros,
        })
    }
}

/// The fields that say that a message is sealed, as lines.
#[wasm_bindgen(js_name = sealedFields)]
pub fn sealed_fields() -> String {
    let fields = [
        ("content-type", field::BHTTP),
        ("content-encoding", field::AES128GCM),
    ];
    lines(
        fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .iter(),
    )
}

/// A message that is being sealed, with the cipher left to WebCrypto. Its content comes piece by piece, so that it never
/// lies here as a whole.
#[wasm_bindgen]
pub struct Sealer {
    header: Vec<u8>,
    sealed_len: usize,
    records: VecDeque<Record>,
    handed: Handed,
    /// Until there are no more records to come.
    splitter: Option<Splitter>,
    /// How much of the content is still to come.
    missing: usize,
    /// How many zeros stand behind it.
    zeros: usize,
}

#[wasm_bindgen]
impl Sealer {
    /// The header, which is sent first.
    #[wasm_bindgen(getter)]
    pub fn header(&self) -> Vec<u8> {
        self.header.clone()
    }

    /// How long the whole will be, the header included.
    #[wasm_bindgen(getter)]
    pub fn length(&self) -> usize {
        self.header.len() + self.sealed_len
    }

    /// Adds content.
    ///
    /// # Errors
    ///
    /// `request_invalid` if there is more of it than was told.
    pub fn push(&mut self, content: &[u8]) -> Result<(), Failure> {
        const TOO_LONG: &str = "there is more content than was told";
        let missing = self.missing.checked_sub(content.len());
        self.missing = missing.ok_or_else(|| wrong(TOO_LONG))?;
        if let Some(splitter) = &mut self.splitter {
            self.records.extend(splitter.push(content));
        }
        Ok(())
    }

    /// The next record, if the content that it takes is there, and none at the end.
    pub fn record(&mut self) -> Option<Vec<u8>> {
        while self.records.is_empty()
            && self.missing == 0
            && let Some(mut splitter) = self.splitter.take()
        {
            let zeros = self.zeros.min(BULK_RECORD_SIZE as usize);
            self.records.extend(splitter.push(&vec![0; zeros]));
            self.zeros -= zeros;
            if self.zeros > 0 {
                self.splitter = Some(splitter);
            } else {
                self.records.push_back(splitter.finish());
            }
        }
        let record = self.records.pop_front()?;
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
    use bulla_protocol::error::Code;
    use bulla_protocol::seal::{RecordNonce, TAG_LEN, pieces};
    use bulla_protocol::target::Target;

    use super::*;

    fn outgoing(len: usize) -> Outgoing {
        let server = Server::new("https://bank.example", None).unwrap();
        let fields = "content-type\ntext/plain";
        let mut outgoing = Outgoing::new(&server, "POST".to_owned(), "/notes", fields).unwrap();
        outgoing.holds(&content(len));
        outgoing
    }

    fn content(len: usize) -> Vec<u8> {
        (0..=u8::MAX).cycle().take(len).collect()
    }

    fn sealer(outgoing: &Outgoing) -> Sealer {
        let (session, ticket) = (
            "AAAAAAAAAAAAAAAAAAAAAA",
            ":AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==:",
        );
        let proof = outgoing.prove(session, ticket, "nonce", &[1; 16], false, 5.0);
        proof.unwrap().sealed(outgoing, &[2; 64], &[3; 16]).unwrap()
    }

    /// Numbers and bytes of the records that come of a content in slices.
    fn records(outgoing: &Outgoing, content: &[u8], slice: usize) -> Vec<Vec<u8>> {
        let mut sealer = sealer(outgoing);
        let mut records = Vec::new();
        for slice in content.chunks(slice).chain([&[][..]]) {
            sealer.push(slice).unwrap();
            while let Some(record) = sealer.record() {
                let nonce = RecordNonce::new([9; 12]).at(records.len() as u64);
                assert_eq!(sealer.nonce(&[9; 12]).unwrap(), nonce);
                records.push(record);
            }
        }
        let written: usize = records.iter().map(|record| record.len() + TAG_LEN).sum();
        assert_eq!(sealer.header().len() + written, sealer.length());
        records
    }

    #[test]
    fn a_content_in_slices_is_sealed_as_one_that_is_whole() {
        for len in [0, 1, 1000, 65_000, 65_519, 65_520, 200_000, 5_000_000] {
            let (outgoing, content) = (outgoing(len), content(len));
            let session = "AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
            let ticket = Ticket::from_field(":AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==:").unwrap();
            let nonce = ProofNonce {
                server: "nonce".to_owned(),
                random: [1; 16],
            };
            let bound = Bound::Digest(ContentDigest::of(&content));
            let proof = outgoing
                .rules
                .prove(proof_kind(false), session, &ticket, &nonce, bound, 5);
            let head = proof.unwrap().sealed(&outgoing.rules, &[2; 64]);
            let whole = message::whole(head, &content).unwrap();
            let wanted: Vec<_> = pieces(&whole, BULK_RECORD_SIZE)
                .map(|piece| [piece.data, &[piece.delimiter]].concat())
                .collect();
            for slice in [1 << 16, 777_777] {
                assert!(
                    records(&outgoing, &content, slice) == wanted,
                    "{len} {slice}"
                );
            }
        }
    }

    #[test]
    fn there_is_no_record_without_its_content() {
        let outgoing = outgoing(10);
        let mut sealer = sealer(&outgoing);
        assert_eq!(sealer.record(), None);
        sealer.push(&[0; 9]).unwrap();
        assert_eq!(sealer.record(), None);
        let error = sealer.push(&[0; 2]).unwrap_err();
        assert_eq!(error.0.code, Code::RequestInvalid);
        sealer.push(&[0]).unwrap();
        assert!(sealer.record().is_some());
        assert_eq!(sealer.record(), None);
    }

    #[test]
    fn what_browsers_leave_in_urls_can_be_signed() {
        let encoded = encode_rest("/a|b?q={\"x\":[1]}&p=`^\\<>");
        assert_eq!(encoded, "/a%7Cb?q=%7B%22x%22:[1]%7D&p=%60%5E%5C%3C%3E");
        assert!(Target::parse(&encoded).is_ok());
        assert_eq!(encode_rest("/a%20b?c=d%26e"), "/a%20b?c=d%26e");
    }
}

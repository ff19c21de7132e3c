//! A request as the application made it, and how it leaves: signed, and sealed.

use std::collections::VecDeque;

use bulla_protocol::digest::ContentDigest;
use bulla_protocol::field;
use bulla_protocol::limits::BULK_RECORD_SIZE;
use bulla_protocol::message::{self, Head};
use bulla_protocol::opening::Ticket;
use bulla_protocol::proof::ProofNonce;
use bulla_protocol::request::{self, Bound};
use bulla_protocol::seal::{Header, Record, Splitter, sealed_len};
use wasm_bindgen::prelude::*;

use crate::Server;
use crate::boundary::{array, lines, pairs, proof_kind, seconds};
use crate::error::{Failure, invalid, wrong};
use crate::record;

/// A request that can be sent, again and again if need be. It holds what belongs to the last sending, too: an object for
/// each step would cost more than the step.
#[wasm_bindgen]
pub struct Outgoing {
    rules: request::Outgoing,
    content: ContentDigest,
    content_len: usize,
    /// Until it is signed.
    proof: Option<(request::Proof, Ticket)>,
    /// What a reply has to answer to.
    nonce: String,
    sealer: Sealer,
}

#[wasm_bindgen]
impl Outgoing {
    /// Takes a request without content apart: lines, which are the method, the target, and names and values of fields
    /// in turn. The target is the path with the query, as it will be sent.
    ///
    /// # Errors
    ///
    /// `request_invalid`, for what no server takes.
    #[wasm_bindgen(constructor)]
    pub fn new(server: &Server, lines: &str) -> Result<Self, Failure> {
        let mut lines = pairs(lines).into_iter();
        let (method, target) = lines.next().unwrap_or_default();
        let rules = request::Outgoing::new(server.origin.clone(), method, target, lines.collect());
        Ok(Self {
            rules: rules.map_err(invalid)?,
            content: ContentDigest::EMPTY,
            content_len: 0,
            proof: None,
            nonce: String::new(),
            sealer: Sealer::default(),
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

    /// Whether the method is safe (RFC 9110 section 9.2.1).
    #[wasm_bindgen(getter, js_name = isSafe)]
    pub fn is_safe(&self) -> bool {
        self.rules.is_safe()
    }

    /// Prepares the proof of one sending, and returns what the device key or the session MAC key signs. `standing` are
    /// lines: the session's name, the ticket and the server nonce. `random` has 16 bytes and stays the same when the
    /// request is sent again; `created` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// `request_invalid` if there are not so many lines, `random` has another length, or a text cannot be written;
    /// `malformed` for what is no ticket.
    pub fn prove(
        &mut self,
        standing: &str,
        random: &[u8],
        session_proof: bool,
        created: f64,
    ) -> Result<Vec<u8>, Failure> {
        let standing: Vec<_> = standing.split('\n').collect();
        let [session, ticket, nonce] = standing[..] else {
            return Err(wrong("not three lines"));
        };
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
        let proof = proof.map_err(invalid)?;
        let base = proof.base().to_vec();
        self.nonce = nonce.to_param();
        self.proof = Some((proof, ticket));
        Ok(base)
    }

    /// The fields of a request that is only signed, as lines; once.
    ///
    /// # Errors
    ///
    /// `request_invalid` if there is no proof.
    pub fn signed(&mut self, signature: &[u8]) -> Result<String, Failure> {
        let (proof, _) = self.proved()?;
        Ok(lines(proof.signed(signature).iter()))
    }

    /// Begins the sealed message, and returns its header, which is sent first; once. `salt` has 16 bytes, drawn for this
    /// one.
    ///
    /// # Errors
    ///
    /// `request_invalid` if there is no proof, `salt` has another length, or the message cannot be written.
    pub fn seal(&mut self, signature: &[u8], salt: &[u8]) -> Result<Vec<u8>, Failure> {
        let (proof, ticket) = self.proved()?;
        let head = proof.sealed(&self.rules, signature);
        let header = Header {
            salt: array(salt)?,
            record_size: BULK_RECORD_SIZE,
            keyid: ticket.as_bytes().to_vec(),
        };
        let header = header.encode();
        self.sealer = Sealer::new(head, self.content_len, header.len())?;
        Ok(header)
    }

    fn proved(&mut self) -> Result<(request::Proof, Ticket), Failure> {
        self.proof.take().ok_or_else(|| wrong("there is no proof"))
    }

    /// How long the whole message will be, the header included.
    #[wasm_bindgen(getter)]
    pub fn length(&self) -> usize {
        self.sealer.length
    }

    /// Adds content to the message.
    ///
    /// # Errors
    ///
    /// `request_invalid` if there is more of it than was told.
    pub fn push(&mut self, content: &[u8]) -> Result<(), Failure> {
        self.sealer.push(content)
    }

    /// The next record of the message, with its nonce behind it, if the content that it takes is there, and none at the
    /// end. `nonce` is what was derived for the message.
    ///
    /// # Errors
    ///
    /// `request_invalid` if that has not 12 bytes.
    pub fn record(&mut self, nonce: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        record::handed(self.sealer.record(), nonce)
    }

    /// What a reply has to answer to.
    pub(crate) fn nonce(&self) -> &str {
        &self.nonce
    }

    /// The server's part of it.
    pub(crate) fn server_nonce(&self) -> &str {
        self.nonce.rsplit_once('.').map_or("", |(server, _)| server)
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
#[derive(Default)]
struct Sealer {
    length: usize,
    records: VecDeque<Record>,
    /// Until there are no more records to come.
    splitter: Option<Splitter>,
    /// How much of the content is still to come.
    missing: usize,
    /// How many zeros stand behind it.
    zeros: usize,
}

impl Sealer {
    /// For a content of this length, behind a header of that one.
    fn new(head: Head, len: usize, header_len: usize) -> Result<Self, Failure> {
        let before = message::before(head, len).map_err(invalid)?;
        let zeros = message::zeros_behind(before.len() + len);
        let mut splitter = Splitter::new(BULK_RECORD_SIZE);
        Ok(Self {
            length: header_len + sealed_len(before.len() + len + zeros, BULK_RECORD_SIZE),
            records: splitter.push(&before).into(),
            splitter: Some(splitter),
            missing: len,
            zeros,
        })
    }

    fn push(&mut self, content: &[u8]) -> Result<(), Failure> {
        const TOO_LONG: &str = "there is more content than was told";
        let missing = self.missing.checked_sub(content.len());
        self.missing = missing.ok_or_else(|| wrong(TOO_LONG))?;
        if let Some(splitter) = &mut self.splitter {
            self.records.extend(splitter.push(content));
        }
        Ok(())
    }

    fn record(&mut self) -> Option<Record> {
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
        self.records.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use bulla_protocol::error::Code;
    use bulla_protocol::seal::{RecordNonce, TAG_LEN, pieces};

    use super::*;

    fn outgoing(len: usize) -> Outgoing {
        let server = Server::new("https://bank.example", None).unwrap();
        let lines = "POST\n/notes\ncontent-type\ntext/plain";
        let mut outgoing = Outgoing::new(&server, lines).unwrap();
        outgoing.holds(&content(len));
        outgoing
    }

    fn content(len: usize) -> Vec<u8> {
        (0..=u8::MAX).cycle().take(len).collect()
    }

    const STANDING: &str = "AAAAAAAAAAAAAAAAAAAAAA\n:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==:\nnonce";

    /// Begins the message, and gives the length of its header.
    fn begin(outgoing: &mut Outgoing) -> usize {
        outgoing.prove(STANDING, &[1; 16], false, 5.0).unwrap();
        outgoing.seal(&[2; 64], &[3; 16]).unwrap().len()
    }

    /// Numbers and bytes of the records that come of a content in slices.
    fn records(outgoing: &mut Outgoing, content: &[u8], slice: usize) -> Vec<Vec<u8>> {
        let header_len = begin(outgoing);
        let mut records = Vec::new();
        for slice in content.chunks(slice).chain([&[][..]]) {
            outgoing.push(slice).unwrap();
            while let Some(mut record) = outgoing.record(&[9; 12]).unwrap() {
                let nonce = RecordNonce::new([9; 12]).at(records.len() as u64);
                assert_eq!(record.split_off(record.len() - 12), nonce);
                records.push(record);
            }
        }
        let written: usize = records.iter().map(|record| record.len() + TAG_LEN).sum();
        assert_eq!(header_len + written, outgoing.length());
        records
    }

    #[test]
    fn a_content_in_slices_is_sealed_as_one_that_is_whole() {
        for len in [0, 1, 1000, 65_000, 65_519, 65_520, 200_000, 5_000_000] {
            let (mut outgoing, content) = (outgoing(len), content(len));
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
                    records(&mut outgoing, &content, slice) == wanted,
                    "{len} {slice}"
                );
            }
        }
    }

    #[test]
    fn there_is_no_record_without_its_content() {
        let mut outgoing = outgoing(10);
        let is_there = |outgoing: &mut Outgoing| outgoing.record(&[9; 12]).unwrap().is_some();
        assert!(!is_there(&mut outgoing));
        assert!(outgoing.push(&[0]).is_err());
        begin(&mut outgoing);
        assert!(!is_there(&mut outgoing));
        outgoing.push(&[0; 9]).unwrap();
        assert!(!is_there(&mut outgoing));
        let error = outgoing.push(&[0; 2]).unwrap_err();
        assert_eq!(error.0.code, Code::RequestInvalid);
        outgoing.push(&[0]).unwrap();
        assert!(is_there(&mut outgoing) && !is_there(&mut outgoing));
    }

    #[test]
    fn a_proof_is_for_one_sending() {
        let mut outgoing = outgoing(10);
        assert!(outgoing.signed(&[2; 64]).is_err());
        begin(&mut outgoing);
        for error in [
            outgoing.seal(&[2; 64], &[3; 16]).unwrap_err(),
            outgoing.signed(&[2; 64]).unwrap_err(),
        ] {
            assert_eq!(error.0.code, Code::RequestInvalid);
        }
        let lines = [STANDING, "a"].join("\n");
        assert!(outgoing.prove(&lines, &[1; 16], false, 5.0).is_err());
        assert!(outgoing.prove("a\nb", &[1; 16], false, 5.0).is_err());
    }
}

//! A reply, on the client's side: what it may be, how a sealed one is opened, and what the server
//! hands out beside it. Who does the deciphering, and when, is left to the caller.

use std::collections::LinkedList;

use crate::error::{Code, Error, Problem};
use crate::field::{self, Fields};
use crate::limits::{Limits, MAX_PROBLEM_LEN, MAX_RECORDS_IN_FLIGHT};
use crate::message::{Control, Event, Reader};
use crate::opening::Ticket;
use crate::proof::ProofNonce;
use crate::seal::{Header, Joiner, Record};
use crate::structured;

/// What is inside a sealed reply is not a reply.
pub const INVALID: Error = Code::ReplyInvalid.because("the sealed reply is not valid");
const TRUNCATED: Error = Code::ReplyTruncated.because("the reply ends before its final record");

/// A record of a sealed reply does not open, or the records do not hold together.
pub const BROKEN: Error = Code::ReplyBroken.because("the seal of the reply is broken");

/// The answer to a sealed request that is neither sealed nor a refusal.
pub const UNSEALED: Error =
    Code::ReplyUnsealed.because("the reply to a sealed request is not sealed");

/// Whether the outer reply holds a sealed one.
pub fn is_sealed(status: u16, fields: &dyn Fields) -> bool {
    status == 200 && fields.line("content-type") == Ok(Some(field::BHTTP))
}

/// Whether a reply may be a refusal, so that its content is worth reading: at most
/// [`MAX_PROBLEM_LEN`] bytes of it.
pub fn is_problem(status: u16, fields: &dyn Fields) -> bool {
    let media_type = fields.line("content-type").ok().flatten();
    let media_type = media_type.and_then(|value| value.split(';').next());
    status >= 400
        && media_type.is_some_and(|name| name.trim_end().eq_ignore_ascii_case(Problem::MEDIA_TYPE))
}

/// The refusal that a reply is, if it is one of the server's. Codes that only clients use are not.
pub fn refusal(status: u16, fields: &dyn Fields, content: &[u8]) -> Option<Error> {
    if !is_problem(status, fields) || content.len() > MAX_PROBLEM_LEN {
        return None;
    }
    Problem::parse(content)
        .filter(|code| code.status() != 0)
        .map(|code| code.because(code.sentence()))
}

/// Checks that a sealed reply answers the request whose `nonce` parameter was this.
///
/// # Errors
///
/// [`Code::ReplyMismatch`].
pub fn check_in_reply_to(fields: &dyn Fields, nonce: &str) -> Result<(), Error> {
    let answered = fields.line(field::IN_REPLY_TO).ok().flatten();
    match answered.map(structured::string) {
        Some(Ok(answered)) if answered == nonce => Ok(()),
        _ => Err(Code::ReplyMismatch.because("the reply answers another request")),
    }
}

/// What the server hands out beside a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handout {
    /// The server nonce to be used from now on.
    pub nonce: Option<String>,
    /// The ticket to be used from now on.
    pub ticket: Option<Ticket>,
    /// A ticket for one opening; the session is over.
    pub carry_over: Option<Ticket>,
    /// That opening may be by another device key, which this one's signs in.
    pub rotate: bool,
    /// The session is over.
    pub ended: bool,
}

impl Handout {
    /// Whether there is nothing in it but a server nonce that is this one, if that.
    pub fn is_known(&self, nonce: &str) -> bool {
        let Self {
            nonce: now,
            ticket,
            carry_over,
            rotate: _,
            ended,
        } = self;
        now.as_deref().is_none_or(|now| now == nonce)
            && ticket.is_none()
            && carry_over.is_none()
            && !ended
    }

    /// Reads the fields of a reply that the session's keys, or TLS, vouch for.
    ///
    /// # Errors
    ///
    /// [`Code::ReplyInvalid`].
    pub fn read(fields: &dyn Fields) -> Result<Self, Error> {
        let ticket = |name| of_reply(fields, name, Ticket::from_field);
        let carry_over = ticket(field::CARRY_OVER)?;
        let is_true = |name| of_reply(fields, name, |value| Ok(value == "?1"));
        Ok(Self {
            ticket: ticket(field::TICKET)?,
            ended: carry_over.is_some() || is_true(field::ENDED)? == Some(true),
            carry_over,
            rotate: is_true(field::ROTATE)? == Some(true),
            ..Self::read_unsealed(fields)?
        })
    }

    /// Reads the fields of an answer to a sealed request that is not sealed: nobody vouches for it, and
    /// a nonce is all that is taken from it.
    ///
    /// # Errors
    ///
    /// [`Code::ReplyInvalid`].
    pub fn read_unsealed(fields: &dyn Fields) -> Result<Self, Error> {
        let nonce = of_reply(fields, field::NONCE, structured::string)?;
        if nonce
            .as_ref()
            .is_some_and(|nonce| !ProofNonce::takes(nonce))
        {
            return Err(Code::ReplyInvalid.because("the server nonce has a length that none has"));
        }
        Ok(Self {
            nonce,
            ..Self::default()
        })
    }
}

fn of_reply<T>(
    fields: &dyn Fields,
    name: &str,
    read: impl Fn(&str) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    let line = fields.line(name);
    line.and_then(|line| line.map(read).transpose())
        .map_err(|error| Code::ReplyInvalid.because(error.detail))
}

/// What a sealed reply says, part by part.
#[derive(Clone, PartialEq, Eq)]
pub enum Part {
    /// The status code and the fields; once, first.
    Head(u16, Vec<(String, String)>),
    /// Some content.
    Content(Vec<u8>),
}

/// Opens a sealed reply as it comes.
///
/// Cipher text goes in through [`push`](Self::push), its end through [`end`](Self::end). Once
/// [`salt`](Self::salt) is known the caller derives the keys, deciphers what [`record`](Self::record)
/// gives and hands the plain texts to [`opened`](Self::opened), in the same order.
pub struct Unsealer {
    /// Bytes of a header that is not complete.
    pending: Vec<u8>,
    header: Option<(Header, Joiner)>,
    #[expect(
        clippy::linkedlist,
        reason = "the browser's module has no room for a ring"
    )]
    waiting: LinkedList<Record>,
    in_flight: usize,
    has_ended: bool,
    message: Reader,
}

impl Default for Unsealer {
    fn default() -> Self {
        Self::new()
    }
}

impl Unsealer {
    /// For one reply.
    pub fn new() -> Self {
        Self {
            pending: Vec::new(),
            header: None,
            waiting: LinkedList::new(),
            in_flight: 0,
            has_ended: false,
            message: Reader::new(Limits::default()),
        }
    }

    /// Adds cipher text.
    ///
    /// # Errors
    ///
    /// [`Code::ReplyBroken`] if the header or the order of the records is wrong, [`Code::ReplyInvalid`] if the
    /// envelope has a `keyid`.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Some((_, joiner)) = &mut self.header {
            self.waiting.extend(joiner.push(bytes).map_err(|_| BROKEN)?);
            return Ok(());
        }
        self.pending.extend_from_slice(bytes);
        let parsed = Header::parse(&self.pending).map_err(|_| BROKEN)?;
        let Some((header, rest)) = parsed else {
            return Ok(());
        };
        if !header.keyid.is_empty() {
            return Err(INVALID);
        }
        let mut joiner = Joiner::new(header.record_size);
        self.waiting.extend(joiner.push(rest).map_err(|_| BROKEN)?);
        self.header = Some((header, joiner));
        self.pending = Vec::new();
        Ok(())
    }

    /// The cipher text is at its end.
    ///
    /// # Errors
    ///
    /// [`Code::ReplyTruncated`] if the header has not come, or the last record was cut.
    pub fn end(&mut self) -> Result<(), Error> {
        self.has_ended = true;
        let (_, joiner) = self.header.as_mut().ok_or(TRUNCATED)?;
        // Less than a tag is left: the last record was cut.
        self.waiting.extend(joiner.finish().map_err(|_| TRUNCATED)?);
        Ok(())
    }

    /// What the keys are derived with; `None` as long as too little has come.
    pub fn salt(&self) -> Option<&[u8; 16]> {
        self.header.as_ref().map(|(header, _)| &header.salt)
    }

    /// The next record to be deciphered. `None` if it has not come yet, or as long as
    /// [`MAX_RECORDS_IN_FLIGHT`] are on their way.
    pub fn record(&mut self) -> Option<Record> {
        if self.in_flight == MAX_RECORDS_IN_FLIGHT {
            return None;
        }
        let record = self.waiting.pop_front()?;
        self.in_flight += 1;
        Some(record)
    }

    /// Takes the plain text of the record that was handed out first of those on their way, and returns
    /// what it says.
    ///
    /// # Errors
    ///
    /// [`Code::ReplyBroken`], [`Code::ReplyTruncated`]; [`Code::ReplyInvalid`] if what is inside is no
    /// message, or a request.
    pub fn opened(&mut self, mut plain: Vec<u8>) -> Result<Vec<Part>, Error> {
        let (_, joiner) = self.header.as_mut().ok_or(INVALID)?;
        self.in_flight = self.in_flight.checked_sub(1).ok_or(INVALID)?;
        let is_last = self.has_ended && self.in_flight == 0 && self.waiting.is_empty();
        let was_complete = joiner.is_complete();
        joiner.opened(&mut plain).map_err(|_| {
            // A short record that is not the final one is what is left of a longer reply.
            if is_last && !was_complete {
                TRUNCATED
            } else {
                BROKEN
            }
        })?;
        let events = self.message.push(plain).map_err(|_| INVALID)?;
        events.into_iter().map(part).collect()
    }

    /// Whether the final record has been opened.
    pub fn is_complete(&self) -> bool {
        let joiner = self.header.as_ref().map(|(_, joiner)| joiner);
        joiner.is_some_and(Joiner::is_complete) && self.waiting.is_empty() && self.in_flight == 0
    }

    /// Everything has been opened, up to the end of the cipher text: checks that nothing is missing.
    ///
    /// # Errors
    ///
    /// [`Code::ReplyTruncated`] without the final record.
    pub fn finish(&self) -> Result<(), Error> {
        if !self.has_ended || !self.is_complete() {
            return Err(TRUNCATED);
        }
        self.message.finish().map_err(|_| INVALID)
    }
}

fn part(event: Event) -> Result<Part, Error> {
    match event {
        Event::Content(content) => Ok(Part::Content(content)),
        Event::Head(head) => match head.control {
            Control::Response(status) => Ok(Part::Head(status, head.fields)),
            Control::Request { .. } => Err(INVALID),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Head, whole};
    use crate::seal::Splitter;

    const RECORD_SIZE: u32 = 4096;

    /// What comes of a reply in one final record that holds `message`.
    fn read(message: &[u8]) -> Result<Vec<Part>, Error> {
        let header = Header {
            salt: [0; 16],
            record_size: RECORD_SIZE,
            keyid: Vec::new(),
        };
        let mut splitter = Splitter::new(RECORD_SIZE);
        assert!(splitter.push(message).is_empty());
        let plain = splitter.finish().bytes;

        let mut unsealer = Unsealer::new();
        unsealer.push(&header.encode())?;
        // As long as the cipher text would be.
        unsealer.push(&vec![0; plain.len() + 16])?;
        unsealer.end()?;
        assert!(unsealer.record().is_some());
        let events = unsealer.opened(plain)?;
        assert!(unsealer.is_complete());
        unsealer.finish()?;
        Ok(events)
    }

    #[test]
    fn no_server_nonce_is_taken_that_no_proof_could_hold() {
        let read = |len: usize| {
            let nonce = format!("\"{}\"", "n".repeat(len));
            Handout::read_unsealed(&vec![(field::NONCE.to_owned(), nonce)])
        };
        for len in [1, 64] {
            assert_eq!(read(len).unwrap().nonce.unwrap().len(), len);
        }
        for len in [0, 65] {
            assert_eq!(read(len).err().unwrap().code, Code::ReplyInvalid);
        }
    }

    #[test]
    fn a_final_record_does_not_make_a_message_whole() {
        let content = b"the content";
        let head = Head {
            control: Control::Response(200),
            fields: vec![("x-a".to_owned(), "1".to_owned())],
        };
        let message = whole(head, content).unwrap();
        let fields = vec![("x-a".to_owned(), "1".to_owned())];
        let parts = [Part::Head(200, fields), Part::Content(content.to_vec())];
        assert_eq!(read(&message), Ok(parts.into()));
        let start = message
            .windows(content.len())
            .position(|part| part == content);
        let start = start.unwrap();
        let end = start + content.len();
        // What is empty may be left out at the end (RFC 9292 section 3.8): trailers, and content as well.
        let length = start - 1;
        assert!(read(&message[..end]).is_ok());
        for cut in (0..end).filter(|cut| *cut != length) {
            assert_eq!(read(&message[..cut]), Err(INVALID), "{cut}");
        }
    }

    #[test]
    fn a_request_is_no_reply() {
        let control = Control::Request {
            method: "GET".to_owned(),
            scheme: "https".to_owned(),
            authority: "bank.example".to_owned(),
            target: "/".to_owned(),
        };
        let fields = Vec::new();
        let message = whole(Head { control, fields }, b"").unwrap();
        assert_eq!(read(&message), Err(INVALID));
    }
}

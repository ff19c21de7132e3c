//! Messages inside the seal: Binary HTTP (RFC 9292).
//!
//! Requests and short replies are written with known length; long replies as a [`head`], any number
//! of [`chunk`]s and an [`END`]. A [`Reader`] takes both, piece by piece. Trailers and informational
//! responses are not carried.

use crate::error::{Code, Error};
use crate::field;
use crate::limits::Limits;
use crate::padding::padme;
use crate::target::{self, Target};

const MALFORMED: Error = Code::Malformed.because("the inner message could not be parsed");
const TOO_MANY: Error = Code::TooLarge.because("the inner message has too many fields");

/// The control data of an inner message (RFC 9292 section 3.4 and 3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Of a request.
    Request {
        /// The method.
        method: String,
        /// `https` or `http`.
        scheme: String,
        /// The authority.
        authority: String,
        /// Path and query.
        target: String,
    },
    /// Of a final response: its status code, 200 to 599.
    Response(u16),
}

/// Control data and header fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub control: Control,
    /// Lower-case names; values of visible ASCII.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// Leaves room for this much content.
    fn write(self, mode: Mode, content_len: usize) -> Result<Vec<u8>, Error> {
        let parts: &[&String] = match &self.control {
            Control::Request {
                method,
                scheme,
                authority,
                target,
            } => &[method, scheme, authority, target],
            Control::Response(_) => &[],
        };
        let fields = self.fields.iter().flat_map(|(name, value)| [name, value]);
        let fields_len = fields.clone().map(|text| prefixed_len(text)).sum();
        let parts_len: usize = parts.iter().map(|text| prefixed_len(text)).sum();
        // Beside these a byte for the framing, two for a status, and the lengths of fields and content.
        let len = 1 + 2 + parts_len + 8 + fields_len + 8 + content_len + END.len();
        let mut bytes = Vec::with_capacity(padme(len));
        let framing = match mode {
            Mode::KnownLength => 0,
            Mode::IndeterminateLength => 2,
        };
        match self.control {
            Control::Request { .. } => bytes.push(framing),
            Control::Response(status @ 100..=599) => {
                bytes.push(framing + 1);
                write_varint(status.into(), &mut bytes);
            }
            Control::Response(_) => return Err(MALFORMED),
        }
        for text in parts {
            write_prefixed(text, &mut bytes);
        }
        if mode == Mode::KnownLength {
            write_varint(fields_len, &mut bytes);
        }
        for text in fields {
            write_prefixed(text, &mut bytes);
        }
        if mode == Mode::IndeterminateLength {
            bytes.push(0);
        }
        Ok(bytes)
    }
}

/// How the lengths of a message's parts are told (RFC 9292 section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    KnownLength,
    IndeterminateLength,
}

/// Writes a whole message of known length, padded with zeros to its Padmé length (RFC 9292 section
/// 3.8).
pub fn whole(head: Head, content: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = head.write(Mode::KnownLength, content.len())?;
    write_varint(content.len(), &mut bytes);
    bytes.extend_from_slice(content);
    bytes.push(0); // an empty trailer section
    bytes.resize(padme(bytes.len()), 0);
    Ok(bytes)
}

/// Writes the head of a message of indeterminate length.
pub fn head(head: Head) -> Result<Vec<u8>, Error> {
    head.write(Mode::IndeterminateLength, 0)
}

/// Writes what stands before a piece of content of this length in a message of indeterminate length.
/// An empty piece is nothing, since it would end the content.
pub fn chunk_len(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8);
    if len > 0 {
        write_varint(len, &mut bytes);
    }
    bytes
}

/// Writes a piece of content of a message of indeterminate length.
pub fn chunk(content: &[u8]) -> Vec<u8> {
    [&chunk_len(content.len()), content].concat()
}

/// Ends a message of indeterminate length: no more content, no trailers.
pub const END: [u8; 2] = [0, 0];

/// Reads a message as it comes.
pub struct Reader {
    limits: Limits,
    state: State,
    pending: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    ContentLen(Mode),
    Content { mode: Mode, left: u64 },
    Trailer,
    Padding,
}

/// What a [`Reader`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The head; once, first.
    Head(Head),
    /// Some content.
    Content(Vec<u8>),
}

impl Reader {
    /// A reader for one message.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Head,
            pending: Vec::new(),
        }
    }

    /// Adds bytes and returns what can be told from them.
    pub fn push(&mut self, mut bytes: Vec<u8>) -> Result<Vec<Event>, Error> {
        if self.pending.is_empty() {
            self.pending = bytes;
        } else {
            self.pending.append(&mut bytes);
        }
        let mut events = Vec::new();
        let mut at = 0;
        while let Some(used) = self.step(at, &mut events)? {
            // Nothing is left where all of it was handed on.
            at = if self.pending.is_empty() {
                0
            } else {
                at + used
            };
        }
        self.pending.drain(..at);
        Ok(events)
    }

    /// The message is at its end.
    ///
    /// # Errors
    ///
    /// [`Code::Malformed`] if it is not complete. A message of known length may leave out empty
    /// sections at its end (RFC 9292 section 3.8).
    pub fn finish(&self) -> Result<(), Error> {
        match self.state {
            State::Padding | State::Trailer | State::ContentLen(Mode::KnownLength)
                if self.pending.is_empty() =>
            {
                Ok(())
            }
            _ => Err(Code::Malformed.because("the inner message is not complete")),
        }
    }

    /// Takes one step and returns how many bytes it used; `None` if it needs more.
    fn step(&mut self, at: usize, events: &mut Vec<Event>) -> Result<Option<usize>, Error> {
        let bytes = &self.pending[at..];
        match self.state {
            State::Head => {
                let Some((mode, head, used)) = read_head(bytes, &self.limits)? else {
                    return Ok(None);
                };
                events.push(Event::Head(head));
                self.state = State::ContentLen(mode);
                Ok(Some(used))
            }
            State::ContentLen(mode) => {
                let Some((left, used)) = read_varint(bytes) else {
                    return Ok(None);
                };
                self.state = match (mode, left) {
                    (_, 0) => State::Trailer,
                    _ => State::Content { mode, left },
                };
                Ok(Some(used))
            }
            State::Content { mode, left } => {
                let used = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                if used == 0 {
                    return Ok(None);
                }
                match events.last_mut() {
                    // A sender may cut it into single bytes; it costs no more than in one piece.
                    Some(Event::Content(before)) => before.extend_from_slice(&bytes[..used]),
                    // A record of a stream: nothing but content.
                    _ if used == self.pending.len() => {
                        events.push(Event::Content(core::mem::take(&mut self.pending)));
                    }
                    _ => events.push(Event::Content(bytes[..used].to_vec())),
                }
                let left = left - used as u64;
                self.state = match (mode, left) {
                    (Mode::KnownLength, 0) => State::Trailer,
                    (Mode::IndeterminateLength, 0) => State::ContentLen(mode),
                    _ => State::Content { mode, left },
                };
                Ok(Some(used))
            }
            State::Trailer => match bytes.first() {
                None => Ok(None),
                Some(0) => {
                    self.state = State::Padding;
                    Ok(Some(1))
                }
                Some(_) => Err(Code::Malformed.because("trailers are not carried")),
            },
            State::Padding if bytes.is_empty() => Ok(None),
            State::Padding if bytes.iter().all(|byte| *byte == 0) => Ok(Some(bytes.len())),
            State::Padding => Err(Code::Malformed.because("something follows the inner message")),
        }
    }
}

fn read_head(bytes: &[u8], limits: &Limits) -> Result<Option<(Mode, Head, usize)>, Error> {
    let bounded = &bytes[..bytes.len().min(limits.max_head_len)];
    let Some((framing, mut rest)) = bounded.split_first() else {
        return Ok(None);
    };
    let mode = match framing {
        0 | 1 => Mode::KnownLength,
        2 | 3 => Mode::IndeterminateLength,
        _ => return Err(MALFORMED),
    };
    let is_request = framing % 2 == 0;
    // By lengths alone as long as it is not whole: this is asked again for each piece that comes, and a
    // head may come in thousands.
    let control = RawControl::cut(is_request, &mut rest);
    let fields = match control {
        Some(_) => cut_fields(mode, limits, &mut rest)?,
        None => None,
    };
    let (Some(control), Some(fields)) = (control, fields) else {
        if bytes.len() < limits.max_head_len {
            return Ok(None);
        }
        return Err(Code::TooLarge.because("the inner head is too large"));
    };
    let head = Head {
        control: control.read()?,
        fields: read_fields(fields, is_request, limits)?,
    };
    Ok(Some((mode, head, bounded.len() - rest.len())))
}

/// Control data as they stand in a message.
enum RawControl<'a> {
    /// Method, scheme, authority and target.
    Request([&'a [u8]; 4]),
    /// The status.
    Response(u64),
}

impl<'a> RawControl<'a> {
    fn cut(is_request: bool, rest: &mut &'a [u8]) -> Option<Self> {
        if is_request {
            let parts = [take(rest)?, take(rest)?, take(rest)?, take(rest)?];
            return Some(Self::Request(parts));
        }
        let (status, len) = read_varint(rest)?;
        *rest = &rest[len..];
        Some(Self::Response(status))
    }

    fn read(self) -> Result<Control, Error> {
        let text = |bytes| core::str::from_utf8(bytes).map_err(|_| MALFORMED);
        match self {
            Self::Request([method, scheme, authority, target]) => {
                let (method, target) = (text(method)?, text(target)?);
                target::check_method(method)?;
                Target::parse(target)?;
                Ok(Control::Request {
                    method: method.to_owned(),
                    scheme: text(scheme)?.to_owned(),
                    authority: text(authority)?.to_owned(),
                    target: target.to_owned(),
                })
            }
            Self::Response(status) => match u16::try_from(status) {
                Ok(status @ 200..=599) => Ok(Control::Response(status)),
                _ => Err(MALFORMED),
            },
        }
    }
}

/// Cuts off the field section, and returns it without what frames it.
fn cut_fields<'a>(
    mode: Mode,
    limits: &Limits,
    rest: &mut &'a [u8],
) -> Result<Option<&'a [u8]>, Error> {
    if mode == Mode::KnownLength {
        return Ok(take(rest));
    }
    let section = *rest;
    for _ in 0..=limits.max_fields {
        let fields = &section[..section.len() - rest.len()];
        match take(rest) {
            Some([]) => return Ok(Some(fields)),
            Some(_) if take(rest).is_some() => {}
            _ => return Ok(None),
        }
    }
    Err(TOO_MANY)
}

fn read_fields(
    mut section: &[u8],
    is_request: bool,
    limits: &Limits,
) -> Result<Vec<(String, String)>, Error> {
    let mut fields = Vec::new();
    while !section.is_empty() {
        let (name, value) = (take(&mut section), take(&mut section));
        let (Some(name @ [_, ..]), Some(value)) = (name, value) else {
            return Err(MALFORMED);
        };
        if fields.len() == limits.max_fields {
            return Err(TOO_MANY);
        }
        let name = field::check_name(name)?;
        if is_request && field::is_refused_inside(name) {
            return Err(Code::FieldRefused.because("a field may not stand inside the seal"));
        }
        fields.push((name.to_owned(), field::check_value(value)?.to_owned()));
    }
    Ok(fields)
}

/// Takes off what stands behind its length.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, at) = read_varint(rest)?;
    let (taken, left) = rest[at..].split_at_checked(usize::try_from(len).ok()?)?;
    *rest = left;
    Some(taken)
}

/// How long a text is with its length before it.
fn prefixed_len(text: &str) -> usize {
    varint_len(text.len()) + text.len()
}

fn write_prefixed(text: &str, bytes: &mut Vec<u8>) {
    write_varint(text.len(), bytes);
    bytes.extend_from_slice(text.as_bytes());
}

/// A variable-length integer (RFC 9000 section 16), and its own length.
fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let len = 1_usize << (bytes.first()? >> 6);
    let bytes = bytes.get(..len)?;
    let value = bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    Some((value & (u64::MAX >> (66 - 8 * len)), len))
}

fn write_varint(value: usize, bytes: &mut Vec<u8>) {
    let (at, len) = (bytes.len(), varint_len(value));
    bytes.extend_from_slice(&(value as u64).to_be_bytes()[8 - len..]);
    bytes[at] |= match len {
        1 => 0x00,
        2 => 0x40,
        4 => 0x80,
        _ => 0xc0,
    };
}

fn varint_len(value: usize) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Head {
        Head {
            control: Control::Request {
                method: "POST".into(),
                scheme: "https".into(),
                authority: "bank.example".into(),
                target: "/api?x=1".into(),
            },
            fields: vec![("content-type".into(), "text/plain".into())],
        }
    }

    fn read(bytes: &[u8], chunk: usize) -> Result<(Head, Vec<u8>), Error> {
        let mut reader = Reader::new(Limits::default());
        let (mut head, mut content) = (None, Vec::new());
        for chunk in bytes.chunks(chunk) {
            for event in reader.push(chunk.to_vec())? {
                match event {
                    Event::Head(found) => head = Some(found),
                    Event::Content(bytes) => content.extend(bytes),
                }
            }
        }
        reader.finish()?;
        Ok((head.unwrap(), content))
    }

    #[test]
    fn both_framings_round_trip_in_any_cut() {
        for len in [0, 1, 63, 64, 300, 20_000] {
            let content = vec![b'x'; len];
            let known = whole(request(), &content).unwrap();
            assert_eq!(padme(known.len()), known.len());
            let reply = Head {
                control: Control::Response(201),
                fields: vec![],
            };
            let (first, second) = content.split_at(len / 2);
            let stream = [
                head(reply.clone()).unwrap(),
                chunk(first),
                chunk(second),
                END.to_vec(),
                vec![0; 9],
            ]
            .concat();
            for cut in [1, 2, 7, 1000, 100_000] {
                assert_eq!(
                    read(&known, cut),
                    Ok((request(), content.clone())),
                    "{len} {cut}"
                );
                assert_eq!(
                    read(&stream, cut),
                    Ok((reply.clone(), content.clone())),
                    "{len} {cut}"
                );
            }
        }
    }

    /// Whoever has a session can cut what he seals into single bytes.
    #[test]
    fn pieces_cost_no_more_than_a_whole() {
        // Fields without an end are refused when there are too many, not when they end.
        let bytes = head(request()).unwrap();
        let no_end = [&bytes[..bytes.len() - 1], &b"\x01a\0".repeat(100)].concat();
        let mut reader = Reader::new(Limits::default());
        let error = reader.push(no_end).unwrap_err();
        assert_eq!(error.code, Code::TooLarge);

        let bytes = [head(request()).unwrap(), b"\x01x".repeat(1000)].concat();
        let mut reader = Reader::new(Limits::default());
        let content = Event::Content(vec![b'x'; 1000]);
        assert_eq!(
            reader.push(bytes),
            Ok(vec![Event::Head(request()), content])
        );
    }

    #[test]
    fn agrees_with_another_implementation() {
        let mut message = bhttp::Message::request(
            b"POST".to_vec(),
            b"https".to_vec(),
            b"bank.example".to_vec(),
            b"/api?x=1".to_vec(),
        );
        message.put_header("content-type", "text/plain");
        message.write_content(b"body");
        let stream = [head(request()).unwrap(), chunk(b"body"), END.to_vec()].concat();
        for (mode, ours) in [
            (bhttp::Mode::KnownLength, whole(request(), b"body").unwrap()),
            (bhttp::Mode::IndeterminateLength, stream),
        ] {
            let mut theirs = Vec::new();
            message.write_bhttp(mode, &mut theirs).unwrap();
            assert_eq!(read(&theirs, 3), Ok((request(), b"body".to_vec())));
            assert_eq!(ours[..theirs.len()], theirs);
            assert!(ours[theirs.len()..].iter().all(|padding| *padding == 0));
        }
    }

    #[test]
    fn incomplete_and_overlong_messages_are_refused() {
        let stream = [head(request()).unwrap(), chunk(b"abc"), END.to_vec()].concat();
        for cut in 0..stream.len() - 1 {
            assert!(read(&stream[..cut], 5).is_err() || cut == 0, "{cut}");
        }
        for tail in [&b"\0\0x"[..], b"x", b"\x40"] {
            assert!(read(&[&stream[..], tail].concat(), 5).is_err());
        }
        let trailers = [
            head(request()).unwrap(),
            chunk(b"abc"),
            b"\0\x01a\x01b\0".to_vec(),
        ];
        assert!(read(&trailers.concat(), 5).is_err());
        let mut claims = whole(request(), b"").unwrap();
        let at = claims.len() - 1;
        claims.truncate(at);
        claims.extend([0xff; 8]);
        assert!(read(&claims, 5).is_err());
    }

    #[test]
    fn refused_fields_and_targets() {
        for (name, value, code) in [
            ("cookie", "a=b", Code::FieldRefused),
            ("bulla-ticket", ":AA==:", Code::FieldRefused),
            ("x-forwarded-for", "1.2.3.4", Code::FieldRefused),
            ("Upper", "x", Code::FieldRefused),
            ("a", "x\r\ny: z", Code::FieldRefused),
        ] {
            let mut head = request();
            head.fields.push((name.into(), value.into()));
            assert_eq!(
                read(&whole(head.clone(), b"").unwrap(), 99)
                    .unwrap_err()
                    .code,
                code,
                "{name}"
            );
        }
        let mut head = request();
        head.control = Control::Request {
            method: "GET".into(),
            scheme: "https".into(),
            authority: "a".into(),
            target: "/a/../b".into(),
        };
        assert_eq!(
            read(&whole(head.clone(), b"").unwrap(), 99)
                .unwrap_err()
                .code,
            Code::PathRefused
        );
        let mut head = request();
        head.fields = (0..101).map(|at| (format!("x-{at}"), "1".into())).collect();
        assert_eq!(
            read(&whole(head.clone(), b"").unwrap(), 99)
                .unwrap_err()
                .code,
            Code::TooLarge
        );
        head.fields = vec![("x".into(), "y".repeat(40_000))];
        assert_eq!(
            read(&whole(head.clone(), b"").unwrap(), 99)
                .unwrap_err()
                .code,
            Code::TooLarge
        );
    }
}

//! Messages inside the seal: Binary HTTP (RFC 9292).
//!
//! Requests and short replies are written with known length; long replies as a [`head`], any number
//! of [`chunk`]s and an [`END`]. A [`Reader`] takes both, piece by piece. Trailers and informational
//! responses are not carried.

use std::io::Cursor;

use bhttp::{ControlData, FieldSection, Mode, StatusCode};

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
#[derive(Clone, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub control: Control,
    /// Lower-case names; values of visible ASCII.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// About how long it is when it is written, in bytes: a little more than it will be.
    fn len(&self) -> usize {
        let control = match &self.control {
            Control::Request {
                method,
                scheme,
                authority,
                target,
            } => method.len() + scheme.len() + authority.len() + target.len() + 16,
            Control::Response(_) => 2,
        };
        let fields = self.fields.iter();
        let fields: usize = fields
            .map(|(name, value)| name.len() + value.len() + 6)
            .sum();
        control + fields + 8
    }

    /// Leaves room for this much behind it.
    fn write(self, mode: Mode, room: usize) -> Result<Vec<u8>, Error> {
        let framing = match (&self.control, mode) {
            (Control::Request { .. }, Mode::KnownLength) => 0,
            (Control::Response(_), Mode::KnownLength) => 1,
            (Control::Request { .. }, Mode::IndeterminateLength) => 2,
            (Control::Response(_), Mode::IndeterminateLength) => 3,
        };
        let mut bytes = Vec::with_capacity(padme(self.len() + room));
        bytes.push(framing);
        let control = match self.control {
            Control::Request {
                method,
                scheme,
                authority,
                target,
            } => ControlData::Request {
                method: method.into(),
                scheme: scheme.into(),
                authority: authority.into(),
                path: target.into(),
            },
            Control::Response(status) => {
                ControlData::Response(StatusCode::try_from(status).map_err(|_| MALFORMED)?)
            }
        };
        let mut section = FieldSection::default();
        for (name, value) in self.fields {
            section.put(name, value);
        }
        control
            .write_bhttp(&mut bytes)
            .and_then(|()| section.write_bhttp(mode, &mut bytes))
            .map_err(|_| MALFORMED)?;
        Ok(bytes)
    }

    fn read(control: ControlData, section: &FieldSection, limits: &Limits) -> Result<Self, Error> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| MALFORMED);
        let control = match control {
            ControlData::Request {
                method,
                scheme,
                authority,
                path,
            } => {
                let method = text(method)?;
                target::check_method(&method)?;
                let target = text(path)?;
                Target::parse(&target)?;
                Control::Request {
                    method,
                    scheme: text(scheme)?,
                    authority: text(authority)?,
                    target,
                }
            }
            ControlData::Response(status) if status.informational() => return Err(MALFORMED),
            ControlData::Response(status) => Control::Response(status.code()),
        };
        if section.len() > limits.max_fields {
            return Err(TOO_MANY);
        }
        let is_request = matches!(control, Control::Request { .. });
        let mut fields = Vec::with_capacity(section.len());
        for line in section.iter() {
            let name = field::check_name(line.name())?;
            if is_request && field::is_refused_inside(name) {
                return Err(Code::FieldRefused.because("a field may not stand inside the seal"));
            }
            fields.push((
                name.to_owned(),
                field::check_value(line.value())?.to_owned(),
            ));
        }
        Ok(Self { control, fields })
    }
}

/// Writes a whole message of known length, padded with zeros to its Padmé length (RFC 9292 section
/// 3.8).
///
/// # Errors
///
/// [`Code::Malformed`] if the head cannot be written: a status that is none, or a text that is too long for its
/// length.
pub fn whole(head: Head, content: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = head.write(Mode::KnownLength, content.len())?;
    write_varint(content.len(), &mut bytes);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + zeros_behind(bytes.len()), 0);
    Ok(bytes)
}

/// Writes what stands before the content of a [`whole`] message, for a content that comes in pieces. Behind it stand
/// [`zeros_behind`].
///
/// # Errors
///
/// As [`whole`].
pub fn before(head: Head, content_len: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = head.write(Mode::KnownLength, 0)?;
    write_varint(content_len, &mut bytes);
    Ok(bytes)
}

/// How many zeros stand behind the content of a [`whole`] message that has this length up to there: an empty trailer
/// section, which is one, and the padding.
pub fn zeros_behind(len: usize) -> usize {
    padme(len + 1) - len
}

/// Writes the head of a message of indeterminate length.
///
/// # Errors
///
/// As [`whole`].
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
#[derive(Clone, PartialEq, Eq)]
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
    ///
    /// # Errors
    ///
    /// [`Code::TooLarge`] beyond `max_head_len` or `max_fields`; [`Code::FieldRefused`] and [`Code::PathRefused`]
    /// for what may not be inside; [`Code::Malformed`] if it is no message, has trailers, or something follows it.
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
    let Some(framing) = bounded.first() else {
        return Ok(None);
    };
    let mode = Mode::try_from(u64::from(*framing)).map_err(|_| MALFORMED)?;
    let is_request = framing % 2 == 0;
    let rest = &bounded[1..];
    if !is_head_whole(rest, is_request, mode, limits)? {
        if bytes.len() < limits.max_head_len {
            return Ok(None);
        }
        return Err(Code::TooLarge.because("the inner head is too large"));
    }
    let mut cursor = Cursor::new(rest);
    let control = ControlData::read_bhttp::<_, Cursor<&[u8]>>(is_request, &mut cursor);
    let control = control.map_err(|_| MALFORMED)?;
    let section = FieldSection::read_bhttp::<_, Cursor<&[u8]>>(mode, &mut cursor);
    let section = section.map_err(|_| MALFORMED)?;
    let used = 1 + usize::try_from(cursor.position()).map_err(|_| MALFORMED)?;
    Ok(Some((mode, Head::read(control, &section, limits)?, used)))
}

/// Whether all of a head is there, told by lengths alone: this is asked again for each piece that
/// comes, and a head may come in thousands.
fn is_head_whole(
    mut rest: &[u8],
    is_request: bool,
    mode: Mode,
    limits: &Limits,
) -> Result<bool, Error> {
    let control = if is_request {
        // Method, scheme, authority, path.
        (0..4).all(|_| skip(&mut rest).is_some())
    } else {
        // The status.
        read_varint(rest).is_some_and(|(_, len)| {
            rest = &rest[len..];
            true
        })
    };
    if !control || mode == Mode::KnownLength {
        return Ok(control && skip(&mut rest).is_some());
    }
    for _ in 0..=limits.max_fields {
        match skip(&mut rest) {
            Some(0) => return Ok(true),
            Some(_) if skip(&mut rest).is_some() => {}
            _ => return Ok(false),
        }
    }
    Err(TOO_MANY)
}

/// Skips what stands behind its length, and returns that.
fn skip(rest: &mut &[u8]) -> Option<u64> {
    let (len, at) = read_varint(rest)?;
    *rest = rest[at..].get(usize::try_from(len).ok()?..)?;
    Some(len)
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
    let value = (value as u64).to_be_bytes();
    let (len, prefix) = match u64::from_be_bytes(value) {
        0..0x40 => (1, 0x00),
        0x40..0x4000 => (2, 0x40),
        0x4000..0x4000_0000 => (4, 0x80),
        _ => (8, 0xc0),
    };
    let at = bytes.len();
    bytes.extend_from_slice(&value[8 - len..]);
    bytes[at] |= prefix;
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
    fn what_the_library_writes_is_read() {
        let mut message = bhttp::Message::request(
            b"POST".to_vec(),
            b"https".to_vec(),
            b"bank.example".to_vec(),
            b"/api?x=1".to_vec(),
        );
        message.put_header("content-type", "text/plain");
        message.write_content(b"body");
        for mode in [Mode::KnownLength, Mode::IndeterminateLength] {
            let mut bytes = Vec::new();
            message.write_bhttp(mode, &mut bytes).unwrap();
            assert_eq!(read(&bytes, 3), Ok((request(), b"body".to_vec())));
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

//! Bodies without an end, and lengths that are claimed: no more is read, and no more is kept, than the
//! limits say.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bulla_keys::ece::{self, MessageKey};
use bulla_protocol::error::Code;
use bulla_protocol::limits::{DEFAULT_PREFIX, MAX_OPENING_LEN, MAX_RECORD_SIZE};
use bulla_protocol::message::{self, Control, Head};
use bulla_protocol::opening::session_path;
use bulla_protocol::seal::{Header, Record};
use bulla_server::{BoxError, ProofKind};
use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;

use crate::support::{AUTHORITY, Body, ECHO, TestClock, concealed, fresh_random};
use crate::world::{Fate, MAX_BODY_LEN, MAX_HEAD_LEN, OVERHEAD, World};

/// A body that goes on for as long as it is read, and counts how much that is.
struct Endless<F> {
    next: F,
    read: Arc<AtomicUsize>,
}

impl<F: FnMut() -> Bytes + Send + Unpin + 'static> Endless<F> {
    /// Whoever has read this many bytes reads on for ever.
    const END: usize = 20 << 20;

    fn body(next: F) -> (Body, Arc<AtomicUsize>) {
        let read = Arc::new(AtomicUsize::new(0));
        let body = Self {
            next,
            read: Arc::clone(&read),
        };
        (body.boxed_unsync(), read)
    }
}

impl<F: FnMut() -> Bytes + Send + Unpin + 'static> HttpBody for Endless<F> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let piece = (self.next)();
        let before = self.read.fetch_add(piece.len(), Ordering::Relaxed);
        assert!(before < Self::END, "it is read without end");
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

const PIECE: usize = 1000;
/// What is read and thrown away after that, so that whoever is still sending sees the answer.
const LINGER: usize = 4 * MAX_BODY_LEN;

#[test]
fn plain_bodies_without_an_end_are_refused_at_the_limit() {
    let world = World::new();
    let pieces = || Bytes::from_static(&[b' '; PIECE]);

    let (body, read) = Endless::body(pieces);
    let opening = Request::post(session_path(DEFAULT_PREFIX))
        .header("host", AUTHORITY)
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    assert_refused(world.measured(opening, 64 * 1024), Code::TooLarge);
    assert!(read.load(Ordering::Relaxed) <= MAX_OPENING_LEN + LINGER + 2 * PIECE);

    let (body, read) = Endless::body(pieces);
    let signed = world
        .client
        .signed(&world.device, ProofKind::Device, ECHO, b"");
    assert_refused(world.ask(signed.map(|_| body)), Code::TooLarge);
    assert!(read.load(Ordering::Relaxed) <= MAX_BODY_LEN + LINGER + 2 * PIECE);
    assert_eq!(world.seen(), []);
}

/// A body of which a byte comes in each second, for ever, after a beginning that is there at once.
struct Trickle {
    clock: TestClock,
    start: Bytes,
    is_awaited: bool,
    read: usize,
}

impl HttpBody for Trickle {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let start = std::mem::take(&mut self.start);
        if !start.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(start))));
        }
        if !std::mem::replace(&mut self.is_awaited, true) {
            self.clock.advance(1);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.is_awaited = false;
        self.read += 1;
        assert!(self.read < 100, "it is waited for without end");
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b" ")))))
    }
}

#[test]
fn bodies_that_hardly_go_on_are_refused_in_time() {
    let world = World::new();
    let trickle = |start: &[u8]| {
        let body = Trickle {
            clock: world.server.clock.clone(),
            start: Bytes::copy_from_slice(start),
            is_awaited: false,
            read: 0,
        };
        body.boxed_unsync()
    };
    let opening = Request::post(session_path(DEFAULT_PREFIX))
        .header("host", AUTHORITY)
        .header("content-type", "application/json");
    let opening = opening.body(trickle(b"{")).unwrap();
    let kind = ProofKind::Device;
    let signed = world.client.signed(&world.device, kind, ECHO, b"");
    let sealed = world.client.sealed(&world.device, kind, ECHO, b"");
    let stream = world
        .client
        .sealed_stream(&world.device, ECHO, &[b'x'; 1000], &[]);
    let at = |sealed: &[u8], at| concealed(b"").map(|_| trickle(&sealed[..at]));
    for request in [
        opening,
        signed.map(|_| trickle(b"x")),
        at(&sealed.bytes, 20),
        at(&sealed.bytes, 300),
        at(&stream.bytes, 300),
    ] {
        assert_refused(world.measured(request, 64 * 1024), Code::TooSlow);
    }
    assert_eq!(world.seen(), []);
}

/// Whoever has a session can seal what he likes, for as long as he likes.
#[test]
fn sealed_bodies_without_an_end_are_refused_at_the_limit() {
    let world = World::new();
    let head = |fields| {
        let head = Head {
            control: Control::Request {
                method: "POST".into(),
                scheme: "https".into(),
                authority: AUTHORITY.into(),
                target: ECHO.1.into(),
            },
            fields,
        };
        message::head(head).unwrap()
    };
    let proof = |content: &[u8]| {
        let bound = crate::support::Bound::Content(content);
        let signed = world
            .client
            .signed_fields(&world.device, ProofKind::Device, ECHO, bound, &[]);
        let mut fields = signed.0;
        fields.retain(|(name, _)| name != bulla_protocol::field::TICKET);
        fields
    };
    // A head that claims to be long, and goes on in one field.
    let field = [
        &head(Vec::new())[..1],
        b"\x04POST\x05https\x0cbank.example\x01/\x01a\xbf\xff\xff\xff",
    ]
    .concat();
    let whole = [
        head(proof(b"x")),
        message::chunk(b"x"),
        message::END.to_vec(),
    ]
    .concat();
    let goes_on = [head(proof(b"")), vec![0xbf, 0xff, 0xff, 0xff]].concat();
    let cases = [
        ("content", goes_on, Some(b'x'), MAX_BODY_LEN, Code::TooLarge),
        (
            "nothing, after the head",
            head(proof(b"")),
            None,
            MAX_BODY_LEN,
            Code::TooLarge,
        ),
        ("padding", whole, Some(0), MAX_BODY_LEN, Code::TooLarge),
        ("a field", field, Some(b'x'), MAX_HEAD_LEN, Code::TooLarge),
        (
            "nothing, before the head",
            Vec::new(),
            None,
            MAX_HEAD_LEN,
            Code::TooLarge,
        ),
    ];
    for (what, start, more, limit, wanted) in cases {
        for size in [18, 100, MAX_RECORD_SIZE] {
            let (body, read) = Endless::body(sealed(&world, size, start.clone(), more));
            let fate = world.ask(concealed(b"").map(|_| body));
            assert_refused(fate, wanted);
            let read = read.load(Ordering::Relaxed);
            // Records cost something: a quarter more, and two whole ones; beside the first record, in
            // which the head is, and the one that is too much.
            let most = limit + limit / 4 + 4 * MAX_RECORD_SIZE as usize + LINGER;
            assert!(read <= most, "{what}: {read} bytes, {most} allowed");
        }
    }
    assert_eq!(world.seen(), []);
}

#[test]
fn a_body_that_is_collected_takes_three_times_its_length_at_most() {
    const LIMIT: usize = 2 << 20;
    let world = World::with_bodies_up_to(LIMIT);
    for (len, fits) in [(LIMIT, true), (LIMIT + 1, false)] {
        let (kind, content) = (ProofKind::Device, vec![b'x'; len]);
        let signed = world.client.signed(&world.device, kind, ECHO, &content);
        let sealed = world.client.sealed(&world.device, kind, ECHO, &content);
        for request in [signed, concealed(&sealed.bytes)] {
            match world.measured(request, 3 * LIMIT + OVERHEAD) {
                Fate::Answered(_) if fits => assert_eq!(world.seen().len(), 1),
                fate => assert_refused(fate, Code::TooLarge),
            }
        }
    }
    assert_eq!(world.seen(), []);
}

/// An envelope whose records hold `start` and then, for ever, a byte again and again, or nothing.
fn sealed(
    world: &World,
    record_size: u32,
    mut start: Vec<u8>,
    more: Option<u8>,
) -> impl FnMut() -> Bytes + Send + Unpin + 'static {
    let header = Header {
        salt: fresh_random(),
        record_size,
        keyid: world.client.ticket.as_bytes().to_vec(),
    };
    let key = MessageKey::derive(&world.client.request_key, &header.salt);
    let len = record_size as usize - 16;
    let mut piece = Some(Bytes::from(header.encode()));
    let mut number = 0;
    move || {
        if let Some(header) = piece.take() {
            return header;
        }
        let mut bytes: Vec<u8> = start.drain(..start.len().min(len - 1)).collect();
        if let Some(more) = more {
            bytes.resize(len - 1, more);
        }
        // Another one follows.
        bytes.push(1);
        bytes.resize(len, 0);
        number += 1;
        let record = Record {
            number: number - 1,
            bytes,
        };
        key.seal(record).unwrap().into()
    }
}

#[test]
fn lengths_that_are_only_claimed_take_no_memory() {
    const MEMORY: usize = 64 * 1024;
    const ABSURD: [&[u8]; 4] = [
        b"\x7f\xff",
        b"\xbf\xff\xff\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xc0\0\0\x01\0\0\0\0",
    ];
    let world = World::new();
    let head: [&[u8]; 7] = [
        b"\0",
        b"\x04POST",
        b"\x05https",
        b"\x0cbank.example",
        b"\x01/",
        b"\0",
        b"\x01x",
    ];
    for framing in [0, 2] {
        for at in 1..=head.len() {
            for absurd in ABSURD {
                let plain = [&[framing], &head[1..at].concat()[..], absurd, b"xx"].concat();
                let header = Header {
                    salt: fresh_random(),
                    record_size: MAX_RECORD_SIZE,
                    keyid: world.client.ticket.as_bytes().to_vec(),
                };
                let key = &world.client.request_key;
                let sealed = ece::seal_whole(key, &header, &plain).unwrap();
                let fate = world.measured(concealed(&sealed), MEMORY);
                assert!(matches!(fate, Fate::Refused(_)), "{plain:?}");
            }
        }
    }
    // Nobody can claim a longer record, whoever he is.
    for record_size in [0_u32, 17, MAX_RECORD_SIZE + 1, u32::MAX] {
        let claimed = [&[7; 16], &record_size.to_be_bytes()[..], &[255; 300]].concat();
        assert_refused(
            world.measured(concealed(&claimed), MEMORY),
            Code::SealBroken,
        );
    }
    for length in ["0", "99999999999999999999", "-1"] {
        let mut request = world
            .client
            .signed(&world.device, ProofKind::Device, ECHO, b"xx");
        request
            .headers_mut()
            .insert("content-length", length.parse().unwrap());
        // What is there counts, not what is said; the connection sees to that this does not come up.
        let _ = world.measured(request, MEMORY);
    }
    assert!(
        world
            .seen()
            .iter()
            .all(|seen| seen.content.as_deref() == Ok(b"xx"))
    );
}

fn assert_refused(fate: Fate, wanted: Code) {
    match fate {
        Fate::Refused(code) => assert_eq!(code, wanted),
        Fate::Answered(response) => panic!("{response:?}"),
    }
}

//! How far a request is read before it is refused.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::ready;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bulla_protocol::error::Code;
use bulla_protocol::field;
use bulla_protocol::limits::Limits;
use bulla_server::{BoxError, ProofKind, Refused};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::{mpsc, oneshot};
use tower::{Layer as _, service_fn};

use crate::support::{Body, Device, ECHO, Server, app, code, concealed};

/// Comes in small pieces and counts the bytes that are read.
struct Pieces {
    pieces: VecDeque<Bytes>,
    read: Arc<AtomicUsize>,
}

impl Pieces {
    const SIZE: usize = 100;

    fn of(bytes: &[u8]) -> (Body, Arc<AtomicUsize>) {
        let read = Arc::new(AtomicUsize::new(0));
        let pieces = bytes.chunks(Self::SIZE).map(Bytes::copy_from_slice);
        let body = Self {
            pieces: pieces.collect(),
            read: Arc::clone(&read),
        };
        (body.boxed_unsync(), read)
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let piece = self.pieces.pop_front();
        if let Some(piece) = &piece {
            self.read.fetch_add(piece.len(), Ordering::Relaxed);
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// Sends it with this body; returns the code of the refusal and how many bytes were read.
async fn refused(server: &Server, mut request: Request<Body>, bytes: &[u8]) -> (Code, usize) {
    let (body, read) = Pieces::of(bytes);
    *request.body_mut() = body;
    let response = server.send(request).await;
    (code(&response).unwrap(), read.load(Ordering::Relaxed))
}

#[tokio::test]
async fn garbage_and_forged_tickets_are_refused_by_the_envelopes_header() {
    let server = Server::new();
    let (device, other) = (Device::new(), Server::new());
    let client = device.open(&server, None).await.unwrap();
    let elsewhere = device.open(&other, None).await.unwrap();
    let content = vec![7; 100_000];
    let sealed = client
        .sealed(&device, ProofKind::Device, ECHO, &content)
        .bytes;
    let foreign = elsewhere
        .sealed(&device, ProofKind::Device, ECHO, &content)
        .bytes;
    let mut forged = sealed.clone();
    forged[60] ^= 1;

    let header = 16 + 4 + 1 + 255 + Pieces::SIZE;
    for (bytes, expected) in [
        (&vec![0xff; 100_000], Code::SealBroken),
        (&vec![0; 100_000], Code::SealBroken),
        (&forged, Code::TicketInvalid),
        (&foreign, Code::TicketInvalid),
    ] {
        let (code, read) = refused(&server, concealed(b""), bytes).await;
        assert_eq!(code, expected);
        assert!(read <= header, "{expected}: {read} bytes were read");
    }
    // The same in pieces passes.
    let (body, read) = Pieces::of(&sealed);
    let response = server.send(concealed(b"").map(|_| body)).await;
    assert_eq!(response.headers()["content-encoding"], field::AES128GCM);
    assert_eq!(read.load(Ordering::Relaxed), sealed.len());
    assert_eq!(server.handled(), 1);
}

#[tokio::test]
async fn the_proof_is_checked_before_the_body_is_read() {
    let server = Server::new();
    let (device, thief) = (Device::new(), Device::new());
    let mut client = device.open(&server, None).await.unwrap();
    let content = vec![b'x'; 100_000];

    let forged = client.signed(&thief, ProofKind::Device, ECHO, &content);
    let (code, read) = refused(&server, forged, &content).await;
    assert_eq!((code, read), (Code::ProofMismatch, 0));
    let mut uncovered = client.signed(&device, ProofKind::Device, ECHO, &content);
    uncovered
        .headers_mut()
        .insert("authorization", "Bearer x".parse().unwrap());
    let (code, read) = refused(&server, uncovered, &content).await;
    assert_eq!((code, read), (Code::CoverageMissing, 0));
    let nonce = std::mem::replace(&mut client.nonce, "stale".into());
    let stale = client.signed(&device, ProofKind::Device, ECHO, &content);
    let (code, read) = refused(&server, stale, &content).await;
    // Whoever is told to send it again must hear it: what he is sending is thrown away.
    assert_eq!((code, read), (Code::NonceStale, content.len()));
    client.nonce = nonce;

    // Under a seal too: the head is in the first record, and that is all that is read.
    let forged = client.sealed(&thief, ProofKind::Device, ECHO, &content);
    let (body, read) = Pieces::of(&forged.bytes);
    let response = server.send(concealed(b"").map(|_| body)).await;
    let (_, _, problem) = client.open_reply(&response, &forged.nonce);
    let problem = bulla_protocol::error::Problem::parse(&problem);
    assert_eq!(problem, Some(Code::ProofMismatch));
    let read = read.load(Ordering::Relaxed);
    assert!(read < 66_000 && forged.bytes.len() > 100_000, "{read}");
    assert_eq!(server.handled(), 0);
}

#[tokio::test]
async fn bodies_that_are_collected_have_a_limit() {
    let server = Server::with(|builder| {
        builder.limits(Limits {
            max_body_len: 70_000,
            ..Limits::default()
        })
    });
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    for (len, fits) in [(70_000, true), (70_001, false), (900_000, false)] {
        let content = vec![b'x'; len];
        let (body, read) = Pieces::of(&content);
        let signed = client.signed(&device, ProofKind::Device, ECHO, &content);
        let response = server.send(signed.map(|_| body)).await;
        let expected = (!fits).then_some(Code::TooLarge);
        assert_eq!(code(&response), expected, "signed {len}");
        // Of what is too long some is thrown away, for its sender to hear it.
        let linger = 4 * 70_000 + Pieces::SIZE;
        assert!(read.load(Ordering::Relaxed) <= 70_000 + linger + Pieces::SIZE);

        let sealed = client.sealed(&device, ProofKind::Device, ECHO, &content);
        let (body, read) = Pieces::of(&sealed.bytes);
        let response = server.send(concealed(b"").map(|_| body)).await;
        let (_, _, content) = client.open_reply(&response, &sealed.nonce);
        let found = bulla_protocol::error::Problem::parse(&content);
        assert_eq!(found, expected, "sealed {len}");
        assert!(read.load(Ordering::Relaxed) <= 70_000 * 2 + 66_000 + linger);
    }
}

/// A connection that was used before hands on large pieces: the limit of the head is none of the body's.
#[tokio::test]
async fn a_head_may_come_in_one_piece_with_a_long_body() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    for at in [100, 500, 70_000] {
        let sealed = client.sealed(&device, ProofKind::Device, ECHO, &vec![b'x'; 900_000]);
        let (first, rest) = sealed.bytes.split_at(at);
        let pieces = [first, rest].map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))));
        let body = StreamBody::new(stream::iter(pieces)).boxed_unsync();
        let response = server.send(concealed(b"").map(|_| body)).await;
        let (status, _, content) = client.open_reply(&response, &sealed.nonce);
        assert!(status == 200 && content.len() >= 900_000, "{at}: {status}");
    }
}

#[tokio::test]
async fn a_copy_that_is_held_back_until_the_store_has_forgotten_it_is_stale() {
    // It is held back for longer than anybody waits for it.
    let server = Server::with(|builder| builder.pace(None));
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let content = b"pay once";
    let (parts, _) = client
        .signed(&device, ProofKind::Device, ECHO, content)
        .into_parts();
    let quick = Request::from_parts(parts.clone(), crate::support::body(content));
    let (sender, receiver) = mpsc::unbounded_channel();
    let frames = stream::unfold(receiver, async |mut receiver| {
        Some((Ok(receiver.recv().await?), receiver))
    });
    let held = Request::from_parts(parts, StreamBody::new(Box::pin(frames)).boxed_unsync());

    let (first, rest) = content.split_at(4);
    let holding = async {
        sender.send(Frame::data(Bytes::from_static(first))).unwrap();
        // By now the copy's head has been checked.
        assert_eq!(server.send(quick).await.status(), 200);
        server.clock.advance(600);
        sender.send(Frame::data(Bytes::from_static(rest))).unwrap();
        drop(sender);
    };
    let (response, ()) = tokio::join!(server.send(held), holding);
    assert_eq!(code(&response), Some(Code::NonceStale));
    assert_eq!(server.handled(), 1);
}

/// The handler has answered, and a task that it has left behind reads on.
#[tokio::test]
async fn what_somebody_still_reads_is_not_thrown_away() {
    let (told, read) = oneshot::channel();
    let told = Arc::new(Mutex::new(Some(told)));
    let server = Server::around(
        |builder| builder,
        |bulla| {
            let answers_first = service_fn(move |request: Request<bulla_server::Body>| {
                let told = told.lock().unwrap().take();
                tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    let content = request.into_body().collect().await;
                    let len = content.map(|content| content.to_bytes().len());
                    let _ = told.unwrap().send(len.ok());
                });
                let refused = Refused(Code::LoginRequired.because("not yet"));
                ready(Ok::<_, Infallible>(Response::from(refused)))
            });
            app(bulla.layer().layer(answers_first))
        },
    );
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let upload = client.sealed_stream(&device, ECHO, &vec![b'x'; 50_000], &[]);
    let (body, _) = Pieces::of(&upload.bytes);
    server.send(concealed(b"").map(|_| body)).await;
    assert_eq!(read.await, Ok(Some(50_000)));
}

//! Uploads that are too large to be digested before they are sent, and replies that come in pieces.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bulla_protocol::error::{Code, Problem};
use bulla_protocol::field;
use bulla_protocol::limits::{BULK_RECORD_SIZE, EVENT_RECORD_SIZE, Limits, STREAM_RECORD_SIZE};
use bulla_protocol::seal::Header;
use bulla_server::ProofKind;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::mpsc;
use tower::{Layer as _, service_fn};

use crate::support::{Body, Bound, Device, ECHO, Server, answer, app, concealed};

const LIMIT: usize = 10_000;

/// What happens to an envelope whose last record begins here.
type Spoil = fn(&mut Vec<u8>, usize);

/// A server that collects no more than [`LIMIT`] and counts what its handler reads of a stream: bytes,
/// and whether the stream ended well.
fn server() -> (Server, Arc<AtomicUsize>) {
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    let configure = |builder: bulla_server::Builder| {
        builder.limits(Limits {
            max_body_len: LIMIT,
            ..Limits::default()
        })
    };
    let server = Server::around(configure, |bulla| {
        let routes = service_fn(move |request: Request<bulla_server::Body>| {
            let count = Arc::clone(&count);
            async move {
                let mut body = request.into_body();
                while let Some(frame) = body.frame().await {
                    let Ok(frame) = frame else {
                        return Ok::<_, Infallible>(answer(400, "broken"));
                    };
                    count.fetch_add(frame.into_data().unwrap().len(), Ordering::SeqCst);
                }
                Ok(answer(200, "whole"))
            }
        });
        app(bulla.layer().layer(routes))
    });
    (server, read)
}

fn chunked(bytes: &[u8], size: usize) -> Request<Body> {
    let chunks: Vec<_> = bytes
        .chunks(size)
        .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    concealed(b"").map(|_| StreamBody::new(stream::iter(chunks)).boxed_unsync())
}

#[tokio::test]
async fn a_streamed_upload_is_read_as_it_comes() {
    let (server, read) = server();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let content = vec![b'x'; 20 * LIMIT];
    let sealed = client.sealed_stream(&device, ECHO, &content, &[]);
    let (sender, receiver) = mpsc::unbounded_channel();
    let frames = stream::unfold(receiver, async |mut receiver| {
        Some((Ok(receiver.recv().await?), receiver))
    });
    let body = StreamBody::new(Box::pin(frames)).boxed_unsync();
    let request = concealed(b"").map(|_| body);

    let (first, rest) = sealed.bytes.split_at(sealed.bytes.len() / 2);
    let sending = async {
        let frame = |bytes: &[u8]| Frame::data(Bytes::copy_from_slice(bytes));
        sender.send(frame(first)).unwrap();
        // The handler reads while the rest is not there yet.
        while read.load(Ordering::SeqCst) < content.len() / 2 - 1000 {
            tokio::task::yield_now().await;
        }
        sender.send(frame(rest)).unwrap();
        drop(sender);
    };
    let (response, ()) = tokio::join!(server.send(request), sending);
    let (status, _, whole) = client.open_reply(&response, &sealed.nonce);
    assert_eq!((status, &whole[..]), (200, &b"whole"[..]));
    assert_eq!(read.load(Ordering::SeqCst), content.len());
}

#[tokio::test]
async fn a_broken_or_cut_upload_ends_in_an_error() {
    let (server, read) = server();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let content = vec![b'x'; 5000];
    // A bit, the last record, half of the last record, two records swapped, one left out, one twice,
    // something behind the end. `None` is the control: nothing at all.
    let spoil: [(&str, Option<Spoil>); 8] = [
        ("nothing", None),
        ("a bit", Some(|bytes, _| bytes[3000] ^= 1)),
        ("the last record", Some(Vec::truncate)),
        ("a piece", Some(|bytes, _| bytes.truncate(bytes.len() - 5))),
        (
            "order",
            Some(|bytes, at| bytes[at - 200..at].rotate_left(100)),
        ),
        (
            "a record",
            Some(|bytes, at| drop(bytes.drain(at - 100..at))),
        ),
        (
            "one twice",
            Some(|bytes, at| {
                let record = bytes[at - 100..at].to_vec();
                bytes.splice(at..at, record);
            }),
        ),
        ("more", Some(|bytes, _| bytes.push(0))),
    ];
    for (name, spoil) in spoil {
        let mut sealed = client.sealed_stream(&device, ECHO, &content, &[]);
        let header = 21 + client.ticket.as_bytes().len();
        // Where the last record begins.
        let at = header + (sealed.bytes.len() - header - 1) / 100 * 100;
        if let Some(spoil) = spoil {
            spoil(&mut sealed.bytes, at);
        }
        read.store(0, Ordering::SeqCst);
        let response = server.send(chunked(&sealed.bytes, 700)).await;
        let (status, _, _) = client.open_reply(&response, &sealed.nonce);
        assert_eq!(status == 200, spoil.is_none(), "{name}");
        // What was true was read.
        assert!(read.load(Ordering::SeqCst) >= 1000, "{name}");
    }
}

#[tokio::test]
async fn an_upload_passes_once_and_under_its_own_salt_only() {
    let (server, read) = server();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let refused = async |bytes: &[u8], nonce: &str| {
        let response = server.send(concealed(bytes)).await;
        let (_, _, content) = client.open_reply(&response, nonce);
        Problem::parse(&content)
    };
    let sealed = client.sealed_stream(&device, ECHO, b"once", &[]);
    assert_eq!(refused(&sealed.bytes, &sealed.nonce).await, None);
    assert_eq!(read.swap(0, Ordering::SeqCst), 4);
    // Refused before the handler sees any of it.
    let again = refused(&sealed.bytes, &sealed.nonce).await;
    assert_eq!(again, Some(Code::Replayed));

    // The proof is for another envelope.
    let other = client.sealed_other_salt(&device, ECHO, b"twice");
    let mismatch = refused(&other.bytes, &other.nonce).await;
    assert_eq!(mismatch, Some(Code::ProofMismatch));
    // A digest that nobody would check.
    let digest = [(field::CONTENT_DIGEST, "sha-256=:AA==:")];
    let with_digest = client.sealed_stream(&device, ECHO, b"once", &digest);
    let digest = refused(&with_digest.bytes, &with_digest.nonce).await;
    assert_eq!(digest, Some(Code::FieldRefused));

    // Without a seal there is no salt to be bound by.
    let salt = Bound::Salt([1; 16]);
    let (fields, _) = client.signed_fields(&device, ProofKind::Device, ECHO, salt, &[]);
    let mut request = Request::post(ECHO.1).header("host", crate::support::AUTHORITY);
    for (name, value) in fields {
        request = request.header(name, value);
    }
    let request = request.body(crate::support::body(b"plain")).unwrap();
    let response: Response<Bytes> = server.send(request).await;
    assert_eq!(crate::support::code(&response), Some(Code::CoverageMissing));
    assert_eq!(read.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn records_are_large_where_the_length_is_known() {
    for (name, value, record_size) in [
        ("content-length", "300000", BULK_RECORD_SIZE),
        ("content-type", "text/event-stream", EVENT_RECORD_SIZE),
        ("content-type", "text/plain", STREAM_RECORD_SIZE),
    ] {
        let server = Server::around(
            |builder| builder,
            move |bulla| {
                let routes = service_fn(move |_: Request<bulla_server::Body>| async move {
                    // The body itself does not know how long it is.
                    let piece = || {
                        Ok::<_, bulla_server::BoxError>(Frame::data(Bytes::from(vec![
                            b'x';
                            100_000
                        ])))
                    };
                    let pieces = [piece(), piece(), piece()];
                    let mut response = Response::new(StreamBody::new(stream::iter(pieces)));
                    let value = http::HeaderValue::from_static(value);
                    response.headers_mut().insert(name, value);
                    Ok::<_, Infallible>(response.map(BodyExt::boxed_unsync))
                });
                app(bulla.layer().layer(routes))
            },
        );
        let device = Device::new();
        let client = device.open(&server, None).await.unwrap();
        let sealed = client.sealed(&device, ProofKind::Device, ECHO, b"");
        let response = server.send(concealed(&sealed.bytes)).await;
        let (header, _) = Header::parse(response.body()).unwrap().unwrap();
        assert_eq!(header.record_size, record_size, "{value}");
        let (status, _, content) = client.open_reply(&response, &sealed.nonce);
        assert_eq!((status, content), (200, vec![b'x'; 300_000]));
    }
}

/// For progress alone: nobody checks it, and the content ends where the message does.
#[tokio::test]
async fn a_sealed_reply_says_what_the_application_says_of_its_length() {
    for (status, stated, content) in [
        (200, Some("5"), "clay!"),
        (200, None, "clay!"),
        // As in a reply to `HEAD`.
        (200, Some("5"), ""),
        (304, Some("5"), ""),
        // Which no server sends.
        (204, Some("0"), ""),
        (200, Some("1000000"), "clay!"),
        (200, Some("1"), "clay!"),
    ] {
        let server = Server::around(
            |builder| builder,
            move |bulla| {
                let routes = service_fn(move |_: Request<bulla_server::Body>| async move {
                    let mut response = answer(status, content);
                    let headers = response.headers_mut();
                    headers.insert("connection", http::HeaderValue::from_static("close"));
                    if let Some(stated) = stated {
                        let stated = http::HeaderValue::from_static(stated);
                        headers.insert("content-length", stated);
                    }
                    Ok::<_, Infallible>(response)
                });
                app(bulla.layer().layer(routes))
            },
        );
        let device = Device::new();
        let client = device.open(&server, None).await.unwrap();
        let sealed = client.sealed(&device, ProofKind::Device, ECHO, b"");
        let response = server.send(concealed(&sealed.bytes)).await;
        // What is outside is as long as it is.
        assert!(!response.headers().contains_key("content-length"));
        let (found, fields, opened) = client.open_reply(&response, &sealed.nonce);
        assert_eq!((found, &*opened), (status, content.as_bytes()));
        let line = |name| {
            let field = fields.iter().find(|(field, _)| field == name);
            field.map(|(_, value)| &**value)
        };
        let stated = stated.filter(|_| status != 204);
        assert_eq!(line("content-length"), stated, "{status} {content}");
        assert_eq!(line("connection"), None);
    }
}

//! A server's clock that goes wrong, and is put right.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::task::Poll;

use bulla_protocol::error::Code;
use bulla_protocol::limits::DEFAULT_PREFIX;
use bulla_protocol::opening::session_path;
use bulla_protocol::proof::ProofKind;
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tower::{Layer as _, service_fn};

use crate::support::{Client, Device, ECHO, Server, app, code, fields_of};

const LONG: u64 = 13 * 3600;

/// Sends with the newest nonce, whatever the client had.
async fn echo(server: &Server, device: &Device, client: &mut Client) -> Option<Code> {
    client.nonce = Device::new().open(server, None).await.unwrap().nonce;
    let request = client.signed(device, ProofKind::Device, ECHO, b"");
    let reply = server.send(request).await;
    client.update(&fields_of(&reply));
    code(&reply)
}

async fn end(server: &Server, device: &Device, client: &Client) {
    let end = ("DELETE", &*session_path(DEFAULT_PREFIX));
    let out = client.signed(device, ProofKind::Device, end, b"");
    assert_eq!(server.send(out).await.status(), 204);
}

/// One session that was ended, and another one.
async fn two(server: &Server, device: &Device) -> (Client, Client) {
    let ended = device.open(server, None).await.unwrap();
    let kept = device.open(server, None).await.unwrap();
    end(server, device, &ended).await;
    (ended, kept)
}

#[tokio::test]
async fn what_was_forgotten_too_early_is_not_alive_again() {
    let server = Server::new();
    let device = Device::new();
    let (mut ended, mut kept) = two(&server, &device).await;
    server.clock.advance(LONG);
    let mut ahead = device.open(&server, None).await.unwrap();
    assert_eq!(echo(&server, &device, &mut ahead).await, None);
    server.clock.put_back(LONG);
    for client in [&mut ended, &mut kept, &mut ahead] {
        let after = echo(&server, &device, client).await;
        assert_eq!(after, Some(Code::TicketInvalid));
    }
    // From here on all is as ever, with nonces that go stale.
    let mut new = device.open(&server, None).await.unwrap();
    assert_eq!(echo(&server, &device, &mut new).await, None);
    server.clock.advance(121);
    let late = new.signed(&device, ProofKind::Device, ECHO, b"");
    let late = server.send(late).await;
    assert_eq!(code(&late), Some(Code::NonceStale));
    assert_eq!(echo(&server, &device, &mut new).await, None);
}

#[tokio::test]
async fn a_small_step_back_is_waited_for() {
    let server = Server::new();
    let device = Device::new();
    let (mut ended, mut kept) = two(&server, &device).await;
    for step in [1, 5, 60] {
        server.clock.advance(step);
        assert_eq!(echo(&server, &device, &mut kept).await, None);
        server.clock.put_back(step);
        assert_eq!(echo(&server, &device, &mut kept).await, None, "{step}");
        let revoked = echo(&server, &device, &mut ended).await;
        assert_eq!(revoked, Some(Code::SessionRevoked));
    }
    server.clock.advance(61);
    assert_eq!(echo(&server, &device, &mut kept).await, None);
    server.clock.put_back(61);
    let beyond = echo(&server, &device, &mut kept).await;
    assert_eq!(beyond, Some(Code::TicketInvalid));
}

#[tokio::test]
async fn open_streams_end_when_the_clock_is_put_right() {
    let server = Server::around(
        |builder| builder,
        |bulla| {
            let endless = service_fn(async |_: Request<_>| {
                let silent = stream::pending::<Result<Frame<Bytes>, Infallible>>();
                Ok::<_, Infallible>(Response::new(StreamBody::new(silent)))
            });
            app(bulla.layer().layer(endless))
        },
    );
    let device = Device::new();
    server.clock.advance(LONG);
    let client = device.open(&server, None).await.unwrap();
    let request = client.signed(&device, ProofKind::Device, ECHO, b"");
    let mut stream = server.start(request).await.into_body();
    let mut frame = Box::pin(stream.frame());
    let waits = poll_fn(|cx| Poll::Ready(frame.as_mut().poll(cx).is_pending()));
    assert!(waits.await);
    server.clock.put_back(LONG);
    device.open(&server, None).await.unwrap();
    // At once, or this would wait for ever.
    let frame = poll_fn(|cx| Poll::Ready(frame.as_mut().poll(cx))).await;
    let Poll::Ready(Some(Err(broken))) = frame else {
        panic!("{frame:?}");
    };
    assert!(broken.to_string().contains("past its life"), "{broken}");
}

#[cfg(feature = "embedded")]
#[tokio::test]
async fn nor_is_it_after_a_restart() {
    use bulla_server::{EmbeddedStore, Ring};

    let folder = tempfile::tempdir().unwrap();
    let (ring, store) = (
        folder.path().join("ring.json"),
        folder.path().join("store.redb"),
    );
    let start = |clock| {
        let ring = Ring::in_file(&ring).unwrap();
        let store = EmbeddedStore::open(&store).unwrap();
        let echo =
            service_fn(async |_: Request<_>| Ok::<_, Infallible>(Response::new(String::new())));
        Server::on(
            clock,
            |builder| builder.ring(ring).store(store),
            |bulla| app(bulla.layer().layer(echo)),
        )
    };
    let device = Device::new();
    let first = start(Server::new().clock);
    let clock = first.clock.clone();
    let (mut ended, mut kept) = two(&first, &device).await;
    drop(first);
    // An honest restart, with a step of some seconds.
    clock.put_back(5);
    let second = start(clock.clone());
    assert_eq!(echo(&second, &device, &mut kept).await, None);
    let revoked = echo(&second, &device, &mut ended).await;
    assert_eq!(revoked, Some(Code::SessionRevoked));
    drop(second);
    // While the clock is ahead a session ends, and the disk is swept.
    clock.advance(LONG);
    let third = start(clock.clone());
    let (mut ahead, _) = two(&third, &device).await;
    drop(third);
    clock.put_back(LONG);
    let fourth = start(clock.clone());
    for client in [&mut ended, &mut kept, &mut ahead] {
        let after = echo(&fourth, &device, client).await;
        assert_eq!(after, Some(Code::TicketInvalid));
    }
    let (_, mut new) = two(&fourth, &device).await;
    drop(fourth);
    // Once is enough.
    let fifth = start(clock);
    assert_eq!(echo(&fifth, &device, &mut new).await, None);
}

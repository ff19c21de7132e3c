//! How often anybody may come.

use std::net::SocketAddr;
use std::time::Duration;

use bulla_protocol::error::Code;
use bulla_server::{BoxError, ProofKind, Rate, Rates};
use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use crate::support::{AUTHORITY, Body, Client, Device, ECHO, Server, body, code};

/// Two in ten seconds.
const TWO: Option<Rate> = Some(Rate::new(2, Duration::from_secs(10)));

fn server(rates: Rates) -> Server {
    Server::with(|builder| builder.rates(rates))
}

fn from(mut request: Request<Body>, last: u8) -> Request<Body> {
    let peer = SocketAddr::from(([192, 0, 2, last], 1234));
    request.extensions_mut().insert(peer);
    request
}

async fn echo(server: &Server, client: &Client, device: &Device) -> Response<Bytes> {
    let request = client.signed(device, ProofKind::Device, ECHO, b"");
    server.send(request).await
}

/// Whether each of them passed.
async fn passed(server: &Server, client: &Client, device: &Device, times: usize) -> Vec<bool> {
    let mut passed = Vec::new();
    for _ in 0..times {
        let reply = echo(server, client, device).await;
        assert!(matches!(code(&reply), None | Some(Code::RateLimited)));
        passed.push(reply.status() == 200);
    }
    passed
}

#[tokio::test]
async fn a_session_has_its_rate_and_is_told_when_to_come_again() {
    let server = server(Rates {
        session: TWO,
        ..Rates::default()
    });
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    assert_eq!(passed(&server, &client, &device, 2).await, [true, true]);
    let refused = echo(&server, &client, &device).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "5");
    server.clock.advance(3);
    let refused = echo(&server, &client, &device).await;
    assert_eq!(refused.headers()["retry-after"], "2");
    server.clock.advance(2);
    assert_eq!(passed(&server, &client, &device, 2).await, [true, false]);
    // Another one, of the same device, has its own.
    let other = device.open(&server, None).await.unwrap();
    assert_eq!(passed(&server, &other, &device, 1).await, [true]);
}

#[tokio::test]
async fn a_device_and_a_user_have_theirs_over_all_their_sessions() {
    for of_user in [false, true] {
        let server = server(if of_user {
            Rates {
                subject: TWO,
                ..Rates::default()
            }
        } else {
            Rates {
                device: TWO,
                ..Rates::default()
            }
        });
        let mut devices = vec![Device::new()];
        if of_user {
            devices.push(Device::new());
        }
        let mut clients = Vec::new();
        for number in 0..2 {
            let device = &devices[number % devices.len()];
            let mut client = device.open(&server, None).await.unwrap();
            if of_user {
                let login = ("POST", "/api/login");
                let login = client.signed(device, ProofKind::Device, login, b"ann");
                let reply = server.send(login).await;
                let ticket = client.update(&crate::support::fields_of(&reply));
                client = device.open(&server, ticket).await.unwrap();
            }
            clients.push((client, device));
        }
        let mut seen = Vec::new();
        for round in 0..4 {
            let (client, device) = &clients[round % 2];
            seen.extend(passed(&server, client, device, 1).await);
        }
        assert_eq!(seen, [true, true, false, false], "{of_user}");
        let stranger = Device::new();
        let client = stranger.open(&server, None).await.unwrap();
        assert_eq!(passed(&server, &client, &stranger, 1).await, [true]);
    }
}

#[tokio::test]
async fn a_network_has_its_before_anything_else_is_done() {
    let server = server(Rates {
        network: TWO,
        ..Rates::default()
    });
    let garbage = |last| {
        let request = Request::post("/x").header("host", AUTHORITY);
        from(request.body(body(b"")).unwrap(), last)
    };
    for expected in [Code::ProofMissing, Code::ProofMissing, Code::RateLimited] {
        assert_eq!(code(&server.send(garbage(1)).await), Some(expected));
    }
    assert_eq!(
        code(&server.send(garbage(2)).await),
        Some(Code::ProofMissing)
    );
    // Whoever's network is not known is not counted.
    for _ in 0..3 {
        let request = Request::post("/x").header("host", AUTHORITY);
        let reply = server.send(request.body(body(b"")).unwrap()).await;
        assert_eq!(code(&reply), Some(Code::ProofMissing));
    }
}

/// Others are read on for a while, so that they see why they were refused.
#[tokio::test]
async fn whoever_comes_too_often_from_one_place_is_not_heard_out() {
    let server = server(Rates {
        network: Some(Rate::new(1, Duration::from_mins(1))),
        ..Rates::default()
    });
    let endless = || {
        let silence = stream::pending::<Result<Frame<Bytes>, BoxError>>();
        let request = Request::post("/x").header("host", AUTHORITY);
        from(
            request
                .body(StreamBody::new(silence).boxed_unsync())
                .unwrap(),
            1,
        )
    };
    let refused = server.start(endless()).await;
    assert_eq!(refused.status(), 401);
    let limited = server.start(endless()).now_or_never();
    assert_eq!(limited.map(|reply| reply.status().as_u16()), Some(429));
}

/// He has a ticket, and copies of requests that were carried out.
#[tokio::test]
async fn a_thief_uses_up_nothing_that_is_its_owners() {
    let server = server(Rates {
        session: TWO,
        device: TWO,
        subject: TWO,
        ..Rates::default()
    });
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let sent = client.signed(&device, ProofKind::Device, ECHO, b"");
    let fields = sent.headers().clone();
    assert_eq!(server.send(sent).await.status(), 200);
    for _ in 0..5 {
        let forged = client.signed(&Device::new(), ProofKind::Device, ECHO, b"");
        assert_eq!(code(&server.send(forged).await), Some(Code::ProofMismatch));
        let mut copy = Request::post(ECHO.1).body(body(b"")).unwrap();
        *copy.headers_mut() = fields.clone();
        assert_eq!(code(&server.send(copy).await), Some(Code::Replayed));
    }
    assert_eq!(passed(&server, &client, &device, 2).await, [true, false]);
}

//! Openings, where there are too many of them.

use std::net::SocketAddr;
use std::time::Duration;

use bulla_keys::{AgreementKey, SystemRandom, verify};
use bulla_protocol::error::{Code, Problem};
use bulla_protocol::field;
use bulla_protocol::limits::{DEFAULT_PREFIX, VERSION};
use bulla_protocol::opening::{Open, Opening, SentOpening};
use bulla_server::{Builder, Openings, Rate};
use bytes::Bytes;
use http::{Request, Response};

use crate::support::{AUTHORITY, Body, Device, Server, body, code, fields_of};

fn server(openings: Openings) -> Server {
    Server::with(|builder: Builder| builder.openings(openings))
}

/// One for nothing in a minute.
fn one() -> Openings {
    Openings {
        in_all: Some(Rate::new(1, Duration::from_mins(1))),
        network: None,
        bits: 8,
    }
}

fn begin(device: &Device, random: u8) -> SentOpening {
    let open = Open {
        version: VERSION,
        device: *device.0.public(),
        agreement: *AgreementKey::generate(&SystemRandom).unwrap().public(),
        identity: None,
        random: [random; 32],
        ticket: None,
        work: None,
    };
    sign(
        device,
        Opening::new(open, None, AUTHORITY, DEFAULT_PREFIX, 0).unwrap(),
    )
}

fn sign(device: &Device, opening: Opening) -> SentOpening {
    let signature = device.0.sign(opening.base().as_bytes()).unwrap();
    opening.signed(&signature, None)
}

fn request(sent: &SentOpening, from: u8) -> Request<Body> {
    let mut request = Request::post(sent.path()).header("host", AUTHORITY);
    for (name, value) in sent.fields() {
        request = request.header(name, value);
    }
    let mut request = request.body(body(sent.body())).unwrap();
    let peer = SocketAddr::from(([192, 0, 2, from], 1234));
    request.extensions_mut().insert(peer);
    request
}

async fn send(server: &Server, sent: &SentOpening) -> Response<Bytes> {
    server.send(request(sent, 1)).await
}

/// The opening that shows the work which a refusal asks for.
fn worked(device: &Device, sent: &SentOpening, refusal: &Response<Bytes>) -> Option<SentOpening> {
    let status = refusal.status().as_u16();
    let mut work = sent.work(status, &fields_of(refusal), refusal.body())?;
    loop {
        if let Some(opening) = work.run(1000).unwrap() {
            return Some(sign(device, opening));
        }
    }
}

#[tokio::test]
async fn one_too_many_does_some_work_and_gets_its_session() {
    let server = server(one());
    let device = Device::new();
    assert_eq!(send(&server, &begin(&device, 1)).await.status(), 200);
    let second = begin(&device, 2);
    let refusal = send(&server, &second).await;
    assert_eq!(code(&refusal), Some(Code::WorkRequired));
    assert_eq!(refusal.headers()[field::WORK], "8");
    assert!(refusal.headers().contains_key("retry-after"));
    let shown = worked(&device, &second, &refusal).unwrap();
    let answer = send(&server, &shown).await;
    let opened = shown.read(200, &fields_of(&answer), answer.body()).unwrap();
    opened
        .verify(|key, base, signature| verify(key, base, signature).is_ok())
        .unwrap();

    // Once, however often it is sent; and for nothing else.
    assert_eq!(code(&send(&server, &shown).await), Some(Code::Replayed));
    let text = String::from_utf8(shown.body().to_vec()).unwrap();
    let open: Open = serde_json::from_str(&text).unwrap();
    for other in [
        Open {
            random: [3; 32],
            ..open.clone()
        },
        Open {
            work: None,
            ..open.clone()
        },
    ] {
        let other = sign(
            &device,
            Opening::new(other, None, AUTHORITY, DEFAULT_PREFIX, 0).unwrap(),
        );
        assert_eq!(code(&send(&server, &other).await), Some(Code::WorkRequired));
    }
    // Nor is anybody asked twice, or can be had to work for long.
    let again = send(&server, &begin(&device, 4)).await;
    assert!(shown.work(429, &fields_of(&again), again.body()).is_none());
    let mut fields = fields_of(&again);
    for (asked, works) in [
        ("20", true),
        ("21", false),
        ("-1", false),
        ("", false),
        ("8;a", false),
    ] {
        let at = fields
            .iter()
            .position(|(name, _)| name == field::WORK)
            .unwrap();
        fields[at].1 = asked.to_owned();
        let work = second.work(429, &fields, again.body());
        assert_eq!(work.is_some(), works, "{asked}");
    }
    server.clock.advance(61);
    assert_eq!(send(&server, &begin(&device, 5)).await.status(), 200);
}

#[tokio::test]
async fn work_is_as_fresh_as_its_nonce() {
    let server = server(one());
    let device = Device::new();
    send(&server, &begin(&device, 1)).await;
    let second = begin(&device, 2);
    let refusal = send(&server, &second).await;
    let shown = worked(&device, &second, &refusal).unwrap();
    server.clock.advance(200);
    send(&server, &begin(&device, 3)).await;
    assert_eq!(code(&send(&server, &shown).await), Some(Code::WorkRequired));
}

#[tokio::test]
async fn a_flood_from_one_network_costs_the_others_nothing() {
    let server = server(Openings {
        in_all: Some(Rate::new(100, Duration::from_mins(1))),
        network: Some(Rate::new(3, Duration::from_mins(1))),
        bits: 20,
    });
    let flood = Device::new();
    let mut free = 0;
    for number in 0..100 {
        let reply = server.send(request(&begin(&flood, number), 1)).await;
        match Problem::parse(reply.body()) {
            None => free += 1,
            Some(code) => assert_eq!(code, Code::WorkRequired),
        }
    }
    assert_eq!(free, 3);
    for number in 0..3 {
        let reply = server
            .send(request(&begin(&Device::new(), number), 2))
            .await;
        assert_eq!(reply.status(), 200);
    }
}

/// It is cheaper than a signature, and so it comes before.
#[tokio::test]
async fn work_comes_first_and_nothing_is_remembered_of_what_is_not_signed() {
    let server = server(one());
    let device = Device::new();
    send(&server, &begin(&device, 1)).await;
    let second = begin(&device, 2);
    let forged = |sent: &SentOpening| {
        let mut request = request(sent, 1);
        let signature = format!("bulla=:{}:", "A".repeat(86) + "==");
        request
            .headers_mut()
            .insert(field::SIGNATURE, signature.parse().unwrap());
        request
    };
    let refusal = server.send(forged(&second)).await;
    assert_eq!(code(&refusal), Some(Code::WorkRequired));
    let shown = worked(&device, &second, &refusal).unwrap();
    assert_eq!(
        code(&server.send(forged(&shown)).await),
        Some(Code::ProofMismatch)
    );
    assert_eq!(send(&server, &shown).await.status(), 200);
}

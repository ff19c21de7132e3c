//! A security event for every refusal, whoever refuses.

use std::sync::{Arc, Mutex};

use bulla_protocol::error::Code;
use bulla_server::{ProofKind, SecurityEvent};
use http::Request;

use crate::support::{AUTHORITY, Device, ECHO, Server, body, concealed};

type Events = Arc<Mutex<Vec<SecurityEvent>>>;

fn server() -> (Server, Events) {
    let events = Events::default();
    let listener = Arc::clone(&events);
    let server = Server::with(|builder| {
        builder
            .unsigned("/public")
            .on_event(move |event| listener.lock().unwrap().push(event.clone()))
    });
    (server, events)
}

#[tokio::test]
async fn every_refusal_makes_one_event() {
    let (server, events) = server();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let taken = || std::mem::take(&mut *events.lock().unwrap());
    assert_eq!(taken(), []);
    let known = (Some(client.id), Some(device.0.thumbprint()));
    let check = |code: Code, session: bool, device: bool, path: &str| {
        let events = taken();
        let [event] = &events[..] else {
            panic!("{code}: {events:?}")
        };
        assert_eq!(event.refusal.code, code);
        assert_eq!(event.session, known.0.filter(|_| session), "{code}");
        assert_eq!(event.device, known.1.filter(|_| device), "{code}");
        assert_eq!(event.path.as_deref(), Some(path), "{code}");
        assert_eq!(event.time, 1_800_000_000);
    };

    let request = Request::post(ECHO.1).header("host", AUTHORITY);
    server.send(request.body(body(b"")).unwrap()).await;
    check(Code::ProofMissing, false, false, ECHO.1);
    server.send(concealed(&[0xff; 500])).await;
    check(Code::SealBroken, false, false, "/.well-known/bulla/sealed");

    let thief = Device::new();
    let forged = client.sealed(&thief, ProofKind::Device, ECHO, b"");
    server.send(concealed(&forged.bytes)).await;
    check(Code::ProofMismatch, true, true, ECHO.1);

    // By `Require`.
    let secret = client.signed(&device, ProofKind::Device, ("GET", "/api/secret"), b"");
    server.send(secret).await;
    check(Code::SealRequired, true, true, "/api/secret");
    let secret = client.sealed(&device, ProofKind::Device, ("GET", "/api/secret"), b"");
    server.send(concealed(&secret.bytes)).await;
    check(Code::LoginRequired, true, true, "/api/secret");

    // By a handler: the subject does not fit.
    let login = client.sealed(&device, ProofKind::Device, ("POST", "/api/login"), b"");
    server.send(concealed(&login.bytes)).await;
    check(Code::Internal, true, true, "/api/login");

    // An upload that breaks when the handler has it already.
    let mut upload = client.sealed_stream(&device, ECHO, &[b'x'; 5000], &[]);
    upload.bytes[3000] ^= 1;
    server.send(concealed(&upload.bytes)).await;
    let broken = taken();
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].refusal.code, Code::SealBroken);

    // What passes, and what the application itself answers, is none.
    let echo = client.signed(&device, ProofKind::Device, ECHO, b"");
    assert_eq!(server.send(echo).await.status(), 200);
    let missing = client.signed(&device, ProofKind::Device, ("GET", "/nowhere"), b"");
    assert_eq!(server.send(missing).await.status(), 404);
    assert_eq!(taken(), []);
}

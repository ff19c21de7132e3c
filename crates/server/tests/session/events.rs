//! A security event for every refusal, whoever refuses.

use std::sync::{Arc, Mutex};

use bulla_protocol::error::Code;
use bulla_server::{EventKind, Missed, ProofKind, Pseudonym, Revocation, Rule, SecurityEvent};
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
    let names = server.bulla.pseudonyms();
    let known = (
        Some(names.session(client.id)),
        Some(names.device(device.0.thumbprint())),
    );
    let opened = taken();
    let [opened] = &opened[..] else {
        panic!("{opened:?}")
    };
    assert_eq!(opened.kind, EventKind::Opened);
    assert_eq!((opened.session, opened.device), known);
    let check = |code: Code, session: bool, device: bool, path: &str| {
        let events = taken();
        let [event] = &events[..] else {
            panic!("{code}: {events:?}")
        };
        assert!(matches!(event.kind, EventKind::Refused(error) if error.code == code));
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
    *upload.bytes.last_mut().unwrap() ^= 1;
    server.send(concealed(&upload.bytes)).await;
    let broken = taken();
    assert_eq!(broken.len(), 1);
    assert!(
        matches!(broken[0].kind, EventKind::UploadBroken(error) if error.code == Code::SealBroken)
    );

    // What passes, and what the application itself answers, is none.
    let echo = client.signed(&device, ProofKind::Device, ECHO, b"");
    assert_eq!(server.send(echo).await.status(), 200);
    let missing = client.signed(&device, ProofKind::Device, ("GET", "/nowhere"), b"");
    assert_eq!(server.send(missing).await.status(), 404);
    assert_eq!(taken(), []);
}

/// Who has logged in, and what has ended, by whom.
#[tokio::test]
async fn logins_and_ends_are_events() {
    let (server, events) = server();
    let taken = || std::mem::take(&mut *events.lock().unwrap());
    let names = server.bulla.pseudonyms();
    let device = Device::new();
    let of_device = Some(names.device(device.0.thumbprint()));
    let ann = Some(names.subject("ann"));

    let mut client = device.open(&server, None).await.unwrap();
    let before = Some(names.session(client.id));
    let login = client.sealed(&device, ProofKind::Device, ("POST", "/api/login"), b"ann");
    let response = server.send(concealed(&login.bytes)).await;
    let (_, fields, _) = client.open_reply(&response, &login.nonce);
    let ticket = client.update(&fields).unwrap();
    let client = device.open(&server, Some(ticket)).await.unwrap();
    let after = Some(names.session(client.id));
    let seen: Vec<_> = taken().iter().map(summary).collect();
    assert_eq!(
        seen,
        [
            (EventKind::Opened, before, of_device, None),
            (EventKind::LoggedIn, before, of_device, ann),
            (EventKind::Opened, after, of_device, ann),
        ]
    );

    let logout = client.sealed(&device, ProofKind::Device, ("POST", "/api/logout"), b"");
    server.send(concealed(&logout.bytes)).await;
    server
        .bulla
        .revoke(Revocation::Session(client.id.into()))
        .await
        .unwrap();
    let subject = Revocation::Subject("ann".parse().unwrap(), u32::MAX);
    server.bulla.revoke(subject).await.unwrap();
    let stolen = Revocation::Device(device.0.thumbprint());
    server.bulla.revoke(stolen).await.unwrap();
    server.bulla.end_all().await.unwrap();
    let seen: Vec<_> = taken().iter().map(summary).collect();
    assert_eq!(
        seen,
        [
            (EventKind::SessionEnded, after, of_device, ann),
            (EventKind::SessionEnded, after, None, None),
            (EventKind::SubjectEnded, None, None, ann),
            (EventKind::DeviceEnded, None, of_device, None),
            (EventKind::AllEnded, None, None, None),
        ]
    );
}

/// The application's own stand beside the verifier's, about the same session.
#[tokio::test]
async fn what_the_application_notices_is_an_event() {
    let (server, events) = server();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    events.lock().unwrap().clear();
    let odd = client.sealed(&device, ProofKind::Device, ("POST", "/api/notice"), b"");
    assert_eq!(server.send(concealed(&odd.bytes)).await.status(), 200);
    let seen: Vec<_> = events.lock().unwrap().iter().map(summary).collect();
    let names = server.bulla.pseudonyms();
    let session = Some(names.session(client.id));
    let of_device = Some(names.device(device.0.thumbprint()));
    assert_eq!(
        seen,
        [(EventKind::Noticed("odd"), session, of_device, None)]
    );
    assert_eq!(seen[0].0.noticed(), Some("odd"));
    assert_eq!(seen[0].0.code(), None);
}

type Summary = (
    EventKind,
    Option<Pseudonym>,
    Option<Pseudonym>,
    Option<Pseudonym>,
);

fn summary(event: &SecurityEvent) -> Summary {
    (event.kind, event.session, event.device, event.subject)
}

/// Whoever has copied a ticket can have it carried over by nobody but its device; and is noticed.
#[tokio::test]
async fn a_ticket_that_another_device_shows_is_an_event() {
    let (server, events) = server();
    let (victim, thief) = (Device::new(), Device::new());
    let client = victim.open(&server, None).await.unwrap();
    events.lock().unwrap().clear();
    let refused = thief.open(&server, Some(client.ticket.clone())).await;
    assert_eq!(refused.err(), Some(Code::TicketInvalid));
    let names = server.bulla.pseudonyms();
    let seen = std::mem::take(&mut *events.lock().unwrap());
    let [noticed, rule, refused] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(noticed.kind, EventKind::ForeignTicket);
    assert_eq!(rule.kind, EventKind::Rule(Rule::ForeignTicket));
    assert_eq!(refused.kind.code(), Some(Code::TicketInvalid));
    for event in [noticed, rule, refused] {
        assert_eq!(event.session, Some(names.session(client.id)));
        assert_eq!(event.device, Some(names.device(thief.0.thumbprint())));
    }
}

#[tokio::test]
async fn a_task_of_its_own_reads_them_and_learns_what_it_missed() {
    let (server, _) = server();
    let mut events = server.bulla.events();
    let unknown = async |path: &str| {
        let request = Request::post(path).header("host", AUTHORITY);
        server.send(request.body(body(b"")).unwrap()).await;
    };
    unknown("/first").await;
    let first = events.next().await.unwrap().unwrap();
    assert_eq!(first.path.as_deref(), Some("/first"));
    // A path is as long as whoever makes it up likes.
    unknown(&format!("/{}", "x".repeat(5000))).await;
    let long = events.next().await.unwrap().unwrap();
    assert_eq!(long.path.as_ref().map(String::len), Some(256));
    for _ in 0..1030 {
        unknown("/").await;
    }
    assert_eq!(events.next().await.unwrap(), Err(Missed(6)));
    for _ in 0..1024 {
        assert!(events.next().await.unwrap().is_ok());
    }
    drop(server);
    assert_eq!(events.next().await, None);
}

/// Whoever asks decides what is in it.
#[tokio::test]
async fn a_path_breaks_no_line_and_no_quotes() {
    let (server, events) = server();
    for (path, expected) in [
        ("/a%0Ab", "/a%0Ab"),
        ("/\"x\"", "/%22x%22"),
        ("/d'or\\", "/d%27or%5C"),
        ("/ü\u{2028}", "/%C3%BC%E2%80%A8"),
    ] {
        events.lock().unwrap().clear();
        let request = Request::post(path).header("host", AUTHORITY);
        server.send(request.body(body(b"")).unwrap()).await;
        let told = events.lock().unwrap()[0].path.clone();
        assert_eq!(told.as_deref(), Some(expected));
    }
    // What is no path at all does not get that far.
    for bytes in ["/a\nb", "/a\u{7f}", "/a b"] {
        assert!(Request::post(bytes).body(()).is_err(), "{bytes:?}");
    }
    let long = format!("/{}ü", "x".repeat(254));
    let request = Request::post(long).header("host", AUTHORITY);
    server.send(request.body(body(b"")).unwrap()).await;
    let told = events.lock().unwrap().last().unwrap().path.clone();
    assert_eq!(told.map(|path| path.len()), Some(255));
}

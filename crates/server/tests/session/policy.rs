//! What is asked for at which paths, and what passes where nothing is enforced yet.

use std::sync::{Arc, Mutex};

use bulla_protocol::error::Code;
use bulla_protocol::field;
use bulla_server::{
    Assurance, Builder, ConfigError, Cookies, EventKind, MemoryStore, Paths, ProofKind, Refused,
    Require, Session,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tower::service_fn;

use crate::support::{
    AUTHORITY, Body, Client, Device, Server, answer, app, body, code, concealed, erase,
};

type Events = Arc<Mutex<Vec<EventKind>>>;

/// An application that says what it was given, whoever asks.
fn server(configure: impl FnOnce(Builder) -> Builder) -> (Server, Events) {
    let events = Events::default();
    let listener = Arc::clone(&events);
    let server = Server::around(
        |builder| {
            configure(builder.on_event(move |event| listener.lock().unwrap().push(event.kind)))
        },
        |bulla| app(bulla.layer().layer(service_fn(tell))),
    );
    (server, events)
}

use tower::Layer as _;

async fn tell(
    request: Request<bulla_server::Body>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let (parts, content) = request.into_parts();
    let content = content
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let content = content.unwrap_or(Bytes::from_static(b"broken"));
    let session = parts.extensions.get::<Session>();
    for ours in [field::SIGNATURE, field::SIGNATURE_INPUT, field::TICKET] {
        assert!(!parts.headers.contains_key(ours), "{ours}");
    }
    if let (Some(session), "/login") = (session, parts.uri.path()) {
        let level = Assurance::new(content.first().map_or(0, |digit| digit - b'0')).unwrap();
        return Ok(match session.login_with("ann", level).await {
            Ok(()) => answer(200, ""),
            Err(error) => erase(Response::from(Refused(error))),
        });
    }
    let cookie = parts
        .headers
        .get("cookie")
        .map_or("-", |line| line.to_str().unwrap());
    let text = format!(
        "{} {} {cookie}",
        if session.is_some() {
            "session"
        } else {
            "nobody"
        },
        String::from_utf8_lossy(&content)
    );
    let mut answer = answer(200, &text);
    let set = http::HeaderValue::from_static("sid=1; HttpOnly");
    answer.headers_mut().insert("set-cookie", set);
    Ok(answer)
}

/// What came back for a sealed request: the status, and the refusal's code or the text.
async fn sealed(server: &Server, client: &Client, device: &Device, path: &str) -> (u16, String) {
    let sent = client.sealed(device, ProofKind::Device, ("POST", path), b"x");
    let reply = server.send(concealed(&sent.bytes)).await;
    let (status, _, content) = client.open_reply(&reply, &sent.nonce);
    let text = bulla_protocol::error::Problem::parse(&content).map_or_else(
        || String::from_utf8(content).unwrap(),
        |code| code.to_string(),
    );
    (status, text)
}

fn plain(path: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::post(path).header("host", AUTHORITY);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(body(b"x")).unwrap()
}

#[tokio::test]
async fn a_path_asks_for_more_by_rule() {
    let (server, _) = server(|builder| {
        builder
            .require("/", Require::session().sealed())
            .require("/hidden", Require::session().concealed())
            .require(
                "/money",
                Require::session().assurance(Assurance::new(2).unwrap()),
            )
    });
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    let ok = |text: &str| (200, text.to_owned());
    let refused = |code: Code| (code.status(), code.to_string());
    assert_eq!(
        sealed(&server, &client, &device, "/a").await,
        ok("session x -")
    );
    assert_eq!(
        sealed(&server, &client, &device, "/hidden").await,
        ok("session x -")
    );
    let weak = refused(Code::LoginRequired);
    for money in ["/money", "//money/1", "/mone%79", "/money;a=b"] {
        assert_eq!(
            sealed(&server, &client, &device, money).await,
            weak,
            "{money}"
        );
    }
    let signed = client.signed(&device, ProofKind::Device, ("POST", "/a"), b"x");
    assert_eq!(code(&server.send(signed).await), Some(Code::SealRequired));
    // Sealed, and everybody on the way sees the path.
    let sent = client.sealed(&device, ProofKind::Device, ("POST", "/hidden"), b"x");
    let mut visible = concealed(&sent.bytes);
    *visible.uri_mut() = "/hidden".parse().unwrap();
    let reply = server.send(visible).await;
    let (status, ..) = client.open_reply(&reply, &sent.nonce);
    assert_eq!(status, Code::SealRequired.status());

    for (level, expected) in [
        ("1", refused(Code::InsufficientUserAuthentication)),
        ("2", ok("session x -")),
        ("9", ok("session x -")),
        ("0", refused(Code::InsufficientUserAuthentication)),
    ] {
        let login = client.sealed(
            &device,
            ProofKind::Device,
            ("POST", "/login"),
            level.as_bytes(),
        );
        let reply = server.send(concealed(&login.bytes)).await;
        let (_, fields, _) = client.open_reply(&reply, &login.nonce);
        let ticket = client.update(&fields).unwrap();
        client = device.open(&server, Some(ticket)).await.unwrap();
        assert_eq!(
            sealed(&server, &client, &device, "/money").await,
            expected,
            "{level}"
        );
        // And in the session that takes its place.
        client = device
            .open(&server, Some(client.ticket.clone()))
            .await
            .unwrap();
        assert_eq!(
            sealed(&server, &client, &device, "/money").await,
            expected,
            "{level}"
        );
    }
}

/// What needs no proof in general may need one in part.
#[tokio::test]
async fn a_path_that_asks_for_more_is_not_open_with_the_rest() {
    let (server, _) = server(|builder| {
        builder
            .unsigned("/")
            .require("/admin", Require::session().logged_in())
    });
    for path in ["/admin", "/admin/x", "//admin", "/adm%69n"] {
        let reply = server.send(plain(path, &[])).await;
        assert_eq!(code(&reply), Some(Code::ProofMissing), "{path}");
    }
    assert_eq!(server.send(plain("/a", &[])).await.status(), 200);
}

#[tokio::test]
async fn what_is_asked_for_changes_while_the_verifier_runs() {
    let (server, _) = server(|builder| builder.monitor("/"));
    let status = async || server.send(plain("/a", &[])).await.status().as_u16();
    assert_eq!(status().await, 200);
    let wrong = server
        .bulla
        .set_paths(Paths::default().require("a", Require::session()));
    assert!(matches!(wrong, Err(ConfigError::Path(path)) if path == "a"));
    assert_eq!(status().await, 200);
    server.bulla.set_paths(Paths::default()).unwrap();
    assert_eq!(status().await, 401);
    server
        .bulla
        .set_paths(Paths::default().unsigned("/a"))
        .unwrap();
    assert_eq!(status().await, 200);
    let both = Paths::default()
        .unsigned("/")
        .require("/a", Require::session());
    server.bulla.set_paths(both).unwrap();
    assert_eq!(status().await, 401);
}

/// Everything that the application can be given, it is given; and nothing of it as a session.
#[tokio::test]
async fn what_is_only_monitored_passes_and_is_recorded() {
    let (server, events) = server(|builder| builder.monitor("/old/"));
    let (device, thief) = (Device::new(), Device::new());
    let client = device.open(&server, None).await.unwrap();
    let taken = || std::mem::take(&mut *events.lock().unwrap());
    let recorded = || {
        let codes = taken().into_iter().map(|kind| match kind {
            EventKind::LetPass(error) => Ok(error.code),
            other => Err(other),
        });
        codes.collect::<Vec<_>>()
    };
    taken();

    let reply = server.send(plain("/old/a", &[("cookie", "sid=1")])).await;
    assert_eq!(reply.body(), "nobody x sid=1");
    assert_eq!(reply.headers()["set-cookie"], "sid=1; HttpOnly");
    assert_eq!(recorded(), [Ok(Code::ProofMissing)]);

    // A proof that does not hold, a body that was changed, a ticket that is none.
    let forged = client.signed(&thief, ProofKind::Device, ("POST", "/old/a"), b"x");
    assert_eq!(server.send(forged).await.body(), "nobody x -");
    assert_eq!(recorded(), [Ok(Code::ProofMismatch)]);
    let changed = client.signed(&device, ProofKind::Device, ("POST", "/old/a"), b"x");
    let changed = changed.map(|_| body(b"y"));
    assert_eq!(server.send(changed).await.body(), "nobody y -");
    assert_eq!(recorded(), [Ok(Code::DigestMismatch)]);
    let odd = plain("/old/a", &[("bulla-ticket", "odd")]);
    assert_eq!(server.send(odd).await.body(), "nobody x -");
    assert_eq!(recorded(), [Ok(Code::Malformed)]);

    // One that was used before, sealed or not.
    let once = || client.signed_with(&device, ProofKind::Device, ("POST", "/old/a"), b"x", &[]);
    let (first, copy) = {
        let first = once();
        let mut copy = plain("/old/a", &[]);
        *copy.headers_mut() = first.headers().clone();
        (first, copy)
    };
    assert_eq!(server.send(first).await.body(), "session x -");
    assert_eq!(recorded(), []);
    assert_eq!(server.send(copy).await.body(), "nobody x -");
    assert_eq!(recorded(), [Ok(Code::Replayed)]);
    let sent = client.sealed(&device, ProofKind::Device, ("POST", "/old/a"), b"x");
    for (who, seen) in [("session", vec![]), ("nobody", vec![Ok(Code::Replayed)])] {
        let reply = server.send(concealed(&sent.bytes)).await;
        let (status, _, content) = client.open_reply(&reply, &sent.nonce);
        assert_eq!((status, content), (200, format!("{who} x -").into_bytes()));
        assert_eq!(recorded(), seen);
    }
    let forged = client.sealed(&thief, ProofKind::Device, ("POST", "/old/a"), b"x");
    let mut outer = concealed(&forged.bytes);
    outer
        .headers_mut()
        .insert("cookie", "sid=1".parse().unwrap());
    let reply = server.send(outer).await;
    let (status, _, content) = client.open_reply(&reply, &forged.nonce);
    // Its own session still is the application's.
    assert_eq!((status, &content[..]), (200, &b"nobody x sid=1"[..]));
    assert_eq!(recorded(), [Ok(Code::ProofMismatch)]);

    // What came sealed and cannot be answered so is not answered in the open, and not served.
    let unproven = client.sealed_unproven(("POST", "/old/a"), b"x");
    let reply = server.send(concealed(&unproven)).await;
    assert_eq!(code(&reply), Some(Code::ProofMissing));
    assert!(matches!(recorded()[..], [Err(EventKind::Refused(_))]));

    // What is enforced elsewhere is enforced.
    let reply = server.send(plain("/old", &[])).await;
    assert_eq!(code(&reply), Some(Code::ProofMissing));
    let reply = server.send(plain("/old/%2e%2e/new", &[])).await;
    assert_eq!(code(&reply), Some(Code::PathRefused));
}

/// The client opens anew, or tries again; so nobody learns from monitoring that it had to.
#[tokio::test]
async fn what_the_client_puts_right_is_refused_where_it_is_only_monitored() {
    let (server, _) = server(|builder| builder.monitor("/"));
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let send = async || {
        let request = client.signed(&device, ProofKind::Device, ("POST", "/a"), b"x");
        code(&server.send(request).await)
    };
    assert_eq!(send().await, None);
    server.clock.advance(130);
    assert_eq!(send().await, Some(Code::NonceStale));
    server.clock.advance(3600);
    assert_eq!(send().await, Some(Code::TicketExpired));
    let broken = concealed(&[0xff; 500]);
    assert_eq!(code(&server.send(broken).await), Some(Code::SealBroken));
}

/// A store that is away is no outage yet, either.
#[tokio::test]
async fn requirements_and_a_store_that_fails_are_only_recorded() {
    let (server, events) = server(|builder| {
        let store = MemoryStore::new().unwrap().with_capacity(0);
        let builder = builder.store(store).monitor("/old/");
        builder.require("/", Require::session().logged_in())
    });
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let (status, text) = sealed(&server, &client, &device, "/old/a").await;
    assert_eq!((status, text.as_str()), (200, "nobody x -"));
    let (status, _) = sealed(&server, &client, &device, "/new").await;
    assert_eq!(status, Code::StoreUnavailable.status());
    let seen = events
        .lock()
        .unwrap()
        .iter()
        .filter_map(EventKind::code)
        .collect::<Vec<_>>();
    assert_eq!(seen, [Code::StoreUnavailable; 2]);
}

/// Cookies from before: they work until they are bound, and whoever keeps watch sees how many there are.
#[tokio::test]
async fn cookies_are_let_alone_where_it_is_only_monitored() {
    let (server, events) = server(|builder| {
        let builder = builder
            .monitor("/old/")
            .require("/old/", Require::session().logged_in());
        builder.cookies(Cookies::HttpOnly { readable: vec![] })
    });
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    events.lock().unwrap().clear();
    let mut lines = Vec::new();
    for (path, cookie, seen) in [("/old/a", "sid=1", "sid=1"), ("/new", "sid=1", "-")] {
        let request = client.sealed(&device, ProofKind::Device, ("POST", path), b"x");
        let mut outer = concealed(&request.bytes);
        outer
            .headers_mut()
            .insert("cookie", cookie.parse().unwrap());
        let reply = server.send(outer).await;
        let line = reply.headers()["set-cookie"].to_str().unwrap().to_owned();
        let (_, _, content) = client.open_reply(&reply, &request.nonce);
        assert_eq!(content, format!("session x {seen}").as_bytes(), "{path}");
        lines.push(line);
    }
    assert!(
        lines[0].starts_with("sid=1;") && lines[1].starts_with("sid=bulla."),
        "{lines:?}"
    );
    let codes: Vec<_> = events
        .lock()
        .unwrap()
        .iter()
        .filter_map(EventKind::code)
        .collect();
    assert_eq!(codes, [Code::FieldRefused, Code::LoginRequired]);
    // One that is bound is nothing without a proof, also here.
    let bound = lines[1].split(';').next().unwrap();
    let reply = server.send(plain("/old/a", &[("cookie", bound)])).await;
    assert_eq!(reply.body(), "nobody x -");
}

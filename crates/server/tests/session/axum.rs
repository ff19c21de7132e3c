//! The extractors and `Bulla::protect`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bulla_protocol::error::Code;
use bulla_server::{EventKind, ProofKind, Refused, Require, Session};

use crate::support::{Client, Device, Server, app, code, concealed, fields_of};

fn server() -> (Server, Arc<Mutex<Vec<EventKind>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&events);
    let server = Server::around(
        |builder| {
            builder
                .unsigned("/public")
                .on_event(move |event| listener.lock().unwrap().push(event.kind))
        },
        |bulla| {
            let routes = Router::new()
                .route(
                    "/api/echo",
                    post(|session: Session, body: String| async move {
                        format!("{}:{body}", session.subject().unwrap_or("-"))
                    }),
                )
                .route(
                    "/api/login",
                    post(|session: Session, body: String| async move {
                        session.login(&body).await.map_err(Refused)
                    }),
                )
                .route(
                    "/api/secret",
                    get(|| async { "secret" }).layer(Require::session().sealed().logged_in()),
                )
                .route(
                    "/public",
                    get(|session: Option<Session>| async move { session.is_some().to_string() }),
                )
                .route("/public/me", get(|_: Session| async { "me" }));
            app(bulla.protect(routes))
        },
    );
    (server, events)
}

#[tokio::test]
async fn extractors_and_requirements() {
    let (server, events) = server();
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();

    let login = client.sealed(&device, ProofKind::Device, ("POST", "/api/login"), b"ann");
    let response = server.send(concealed(&login.bytes)).await;
    let (status, fields, _) = client.open_reply(&response, &login.nonce);
    assert_eq!(status, 200);
    let carry = client.update(&fields).unwrap();
    let client = device.open(&server, Some(carry)).await.unwrap();

    let echo = client.sealed(&device, ProofKind::Device, ("POST", "/api/echo"), b"hi");
    let response = server.send(concealed(&echo.bytes)).await;
    assert_eq!(client.open_reply(&response, &echo.nonce).2, b"ann:hi");
    let plain = client.signed(&device, ProofKind::Device, ("GET", "/api/secret"), b"");
    assert_eq!(code(&server.send(plain).await), Some(Code::SealRequired));

    let with = client.signed(&device, ProofKind::Device, ("GET", "/public"), b"");
    assert_eq!(server.send(with).await.body(), "true");
    let get = |path| {
        http::Request::get(path)
            .header("host", crate::support::AUTHORITY)
            .body(crate::support::body(b""))
            .unwrap()
    };
    assert_eq!(server.send(get("/public")).await.body(), "false");
    let refused = server.send(get("/public/me")).await;
    assert_eq!(code(&refused), Some(Code::ProofMissing));
    assert!(refused.headers().contains_key("bulla-nonce"));
    assert!(
        fields_of(&refused)
            .iter()
            .any(|(name, _)| name == "www-authenticate")
    );
    // The route's requirement and the extractor are seen.
    let refused = |event: &EventKind| matches!(event, EventKind::Refused(_)).then(|| event.code());
    let refused: Vec<_> = events.lock().unwrap().iter().filter_map(refused).collect();
    assert_eq!(
        refused,
        [Some(Code::SealRequired), Some(Code::ProofMissing)]
    );
}

/// Each by itself, where the verifier takes session proofs and lets anyone through.
#[tokio::test]
async fn a_route_gets_what_it_asks_for() {
    let server = Server::around(
        |builder| builder.proof(ProofKind::Session).unsigned("/"),
        |bulla| {
            let guarded = |require: Require| get(|| async { "passed" }).layer(require);
            let login =
                |session: Session| async move { session.login("ann").await.map_err(Refused) };
            let routes = Router::new()
                .route("/session", guarded(Require::session()))
                .route("/sealed", guarded(Require::session().sealed()))
                .route("/device", guarded(Require::session().device_proof()))
                .route("/user", guarded(Require::session().logged_in()))
                .route("/recent", guarded(Require::session().recent_login(AGE)))
                .route("/login", post(login));
            app(bulla.protect(routes))
        },
    );
    let paths = ["/session", "/sealed", "/device", "/user", "/recent"];
    for path in paths {
        let request = http::Request::get(path).header("host", crate::support::AUTHORITY);
        let refused = server.send(request.body(crate::support::body(b"")).unwrap());
        assert_eq!(code(&refused.await), Some(Code::ProofMissing), "{path}");
    }
    let device = Device::new();
    let confirmed = async |ticket| {
        let mut client = device.open(&server, ticket).await.unwrap();
        let first = client.signed(&device, ProofKind::Device, ("GET", "/session"), b"");
        client.update(&fields_of(&server.send(first).await));
        client
    };
    let mut client = confirmed(None).await;
    for of_user in [Some(Code::LoginRequired), None] {
        if of_user.is_none() {
            let login = client.signed(&device, ProofKind::Device, ("POST", "/login"), b"");
            let carry = client.update(&fields_of(&server.send(login).await));
            client = confirmed(carry).await;
        }
        for (kind, of_device) in [
            (ProofKind::Device, None),
            (ProofKind::Session, Some(Code::ProofWeak)),
        ] {
            let of_open = Some(Code::SealRequired);
            for (path, in_the_open, under_seal) in [
                ("/session", None, None),
                ("/sealed", of_open, None),
                ("/device", of_device, of_device),
                ("/user", of_user, of_user),
                ("/recent", of_user, of_user),
            ] {
                let signed = server.send(client.signed(&device, kind, ("GET", path), b""));
                assert_eq!(code(&signed.await), in_the_open, "{path} {kind:?}");
                let sealed = client.sealed(&device, kind, ("GET", path), b"");
                let reply = server.send(concealed(&sealed.bytes)).await;
                let (_, _, content) = client.open_reply(&reply, &sealed.nonce);
                let found = bulla_protocol::error::Problem::parse(&content);
                assert_eq!(found, under_seal, "{path} {kind:?}");
            }
        }
    }
}

const AGE: Duration = Duration::from_mins(10);

/// What a login is worth in time, and that the next one is a session of its own.
#[tokio::test]
async fn a_login_that_is_too_long_ago_is_renewed_by_a_login() {
    let guarded = |require: Require| get(|| async { "in" }).layer(require);
    let login = async |session: Session| session.login("ann").await.map_err(Refused);
    let server = Server::around(
        |builder| builder,
        |bulla| {
            let routes = Router::new()
                .route("/user", guarded(Require::session().logged_in()))
                .route("/recent", guarded(Require::session().recent_login(AGE)))
                .route("/login", post(login));
            app(bulla.protect(routes))
        },
    );
    let device = Device::new();
    let ask = async |client: &mut Client, path| {
        let request = client.signed(&device, ProofKind::Device, ("GET", path), b"");
        let reply = server.send(request).await;
        client.update(&fields_of(&reply));
        code(&reply)
    };
    let renewed = async |client: &mut Client| {
        let login = client.signed(&device, ProofKind::Device, ("POST", "/login"), b"");
        let carry = client.update(&fields_of(&server.send(login).await));
        device.open(&server, carry).await.unwrap()
    };
    let mut first = device.open(&server, None).await.unwrap();
    assert_eq!(ask(&mut first, "/recent").await, Some(Code::LoginRequired));
    let mut client = renewed(&mut first).await;
    assert_eq!(ask(&mut client, "/recent").await, None);
    server.clock.advance(AGE.as_secs());
    // The nonce has gone stale meanwhile.
    assert_eq!(ask(&mut client, "/user").await, Some(Code::NonceStale));
    assert_eq!(ask(&mut client, "/recent").await, None);
    server.clock.advance(1);
    let refused = ask(&mut client, "/recent").await;
    assert_eq!(refused, Some(Code::InsufficientUserAuthentication));
    assert_eq!(ask(&mut client, "/user").await, None);
    let mut again = renewed(&mut client).await;
    assert_ne!(again.id, client.id);
    assert_eq!(ask(&mut again, "/recent").await, None);
    assert_eq!(ask(&mut client, "/user").await, Some(Code::SessionRevoked));
}

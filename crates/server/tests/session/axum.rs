//! The extractors and `Bulla::protect`.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::{get, post};
use bulla_protocol::error::Code;
use bulla_server::{ProofKind, Refused, Require, Session};

use crate::support::{Device, Server, app, code, concealed, fields_of};

fn server() -> (Server, Arc<Mutex<Vec<Code>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&events);
    let server = Server::around(
        |builder| {
            builder
                .unsigned("/public")
                .on_event(move |event| listener.lock().unwrap().push(event.refusal.code))
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
    assert!(
        fields_of(&refused)
            .iter()
            .any(|(name, _)| name == "www-authenticate")
    );
    // The route's requirement and the extractor are seen.
    let expected = [Code::SealRequired, Code::ProofMissing];
    assert_eq!(*events.lock().unwrap(), expected);
}

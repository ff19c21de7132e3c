//! The example programs, run as anybody would, and how a protected router may be mounted.
#![allow(clippy::unwrap_used)] // in tests a surprise may panic

mod support;

use axum::Router;
use axum::extract::OriginalUri;
use axum::routing::get;
use bulla_client::{Client, Code, Session};
use bulla_server::{Bulla, Identity, MemoryStore, SystemRandom};
use http::{Request, StatusCode};
use support::Program;
use tokio::net::TcpListener;

async fn open(origin: &str) -> Session {
    Client::builder(origin)
        .build()
        .unwrap()
        .open()
        .await
        .unwrap()
}

async fn text(session: &Session, request: Request<&'static str>) -> String {
    let body = session.fetch(request).await.unwrap().into_body();
    String::from_utf8(body.bytes().await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn with_axum() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let server = Program::start(env!("CARGO_BIN_EXE_with-axum"), &[folder]);
    let origin = &server.origin;
    let session = open(origin).await;

    let read = || Request::get("/notes").body("").unwrap();
    let refused = session.fetch(read()).await.unwrap_err();
    assert_eq!(refused.code, Code::LoginRequired);
    let login = Request::post("/login").header("content-type", "application/json");
    let login = login.body(r#"{"name":"ann"}"#).unwrap();
    assert_eq!(
        session.fetch(login).await.unwrap().status(),
        StatusCode::NO_CONTENT
    );
    let write = Request::post("/notes").body("buy clay").unwrap();
    assert_eq!(
        session.fetch(write).await.unwrap().status(),
        StatusCode::CREATED
    );
    assert_eq!(text(&session, read()).await, r#"["buy clay"]"#);
    let logout = Request::post("/logout").body("").unwrap();
    session.fetch(logout).await.unwrap();
    let refused = session.fetch(read()).await.unwrap_err();
    assert_eq!(refused.code, Code::LoginRequired);

    // What was merged in afterwards is not protected, and all else is.
    let plain = Client::builder(origin).build().unwrap();
    for (path, status) in [("/health", 200), ("/notes", 401)] {
        let request = Request::get(format!("{origin}{path}"));
        let request = request.body(bytes::Bytes::new()).unwrap();
        let reply = plain.send_unverified(request).await.unwrap();
        assert_eq!(reply.status(), status, "{path}");
    }
}

#[tokio::test]
async fn with_tower() {
    let server = Program::start(env!("CARGO_BIN_EXE_with-tower"), &[]);
    let session = open(&server.origin).await;
    let request = Request::post("/any/path").body("hello").unwrap();
    let reply = session.fetch(request).await.unwrap();
    let id = session.id().unwrap().to_string();
    assert_eq!(reply.headers()["x-session"], id.as_str());
    assert_eq!(reply.into_body().bytes().await.unwrap(), "hello");
}

/// Serves a router that is made around a verifier.
async fn serve(mount: impl FnOnce(&Bulla) -> Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let bulla = Bulla::builder()
        .origin(&origin)
        .identity(Identity::generate(&SystemRandom).unwrap())
        .store(MemoryStore::new().unwrap())
        .build()
        .unwrap();
    let app = mount(&bulla);
    tokio::spawn(async move { axum::serve(listener, app).await });
    origin
}

/// Extractors of axum see the request as it was made, not as it came.
#[tokio::test]
async fn the_original_uri_is_the_inner_one() {
    let routes = Router::new().route(
        "/a",
        get(|OriginalUri(uri): OriginalUri| async move { uri.to_string() }),
    );
    let origin = serve(|bulla| bulla.protect(routes)).await;
    let session = open(&origin).await;
    let request = Request::get("/a?b=c").body("").unwrap();
    assert_eq!(text(&session, request).await, "/a?b=c");
}

/// As the docs say: the one way works, the others do not.
#[tokio::test]
async fn a_layer_within_a_router_comes_too_late() {
    let routes = || Router::new().route("/a", get(|| async { "here" }));
    let request = || Request::get("/a").body("").unwrap();
    let origin = serve(|bulla| bulla.protect(routes())).await;
    assert_eq!(text(&open(&origin).await, request()).await, "here");

    let origin = serve(|bulla| routes().layer(bulla.layer())).await;
    let reply = open(&origin).await.fetch(request()).await.unwrap();
    assert_eq!(reply.status(), StatusCode::NOT_FOUND);

    let origin = serve(|bulla| Router::new().nest("/app", bulla.protect(routes()))).await;
    let client = Client::builder(&origin).prefix("/app/.well-known/bulla");
    let opened = client.build().unwrap().open().await;
    assert!(opened.is_err(), "another path was signed");
}

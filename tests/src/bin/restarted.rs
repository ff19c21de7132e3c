//! A bank in a process of its own, to be killed and started again over the same files.
//!
//! `restarted FOLDER PORT` serves `http://localhost:PORT`, port 0 being any free one, and prints the
//! port once it listens. The page is that of the tests' bank. The unprotected twin remembers who has
//! logged out, as long as the process lives.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use bulla_server::{Bulla, EmbeddedStore, Identity, Refused, Require, Ring, Session};
use bulla_tests::bank::{package, page};
use serde_json::{Value, json};
use tokio::net::TcpListener;

type LoggedOut = Arc<Mutex<HashSet<String>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("a folder is needed")?);
    let port: u16 = args.next().ok_or("a port is needed")?.parse()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let port = listener.local_addr()?.port();
    let bulla = Bulla::builder()
        .origin(format!("http://localhost:{port}"))
        .identity(Identity::load_or_create(folder.join("identity.pem"))?)
        .ring(Ring::in_file(folder.join("ring.json"))?)
        .store(EmbeddedStore::open(folder.join("store.redb"))?)
        .unsigned("/twin/")
        .build()?;
    let pages = package()?.route("/page", page());
    println!("{port}");
    axum::serve(listener, bulla.protect(routes()).merge(pages)).await?;
    Ok(())
}

fn routes() -> Router {
    Router::new()
        .route("/api/me", get(me))
        .route("/api/login", post(login))
        .route("/api/everywhere", post(logout_everywhere))
        .route(
            "/api/transfer",
            post(async || Json(json!({ "paid": true }))).layer(Require::session().logged_in()),
        )
        .route("/twin/me", get(twin_me))
        .route("/twin/logout", post(twin_logout))
        .with_state(LoggedOut::default())
}

async fn me(session: Session) -> Json<Value> {
    Json(json!({ "subject": session.subject() }))
}

async fn login(session: Session, Json(who): Json<Value>) -> Result<(), Refused> {
    Ok(session
        .login(who["user"].as_str().unwrap_or_default())
        .await?)
}

async fn logout_everywhere(session: Session) -> Result<(), Refused> {
    Ok(session.logout_everywhere().await?)
}

async fn twin_me(State(gone): State<LoggedOut>, headers: HeaderMap) -> StatusCode {
    let gone = gone.lock().unwrap_or_else(PoisonError::into_inner);
    match token(&headers) {
        Some(token) if !gone.contains(&token) => StatusCode::OK,
        _ => StatusCode::UNAUTHORIZED,
    }
}

async fn twin_logout(State(gone): State<LoggedOut>, headers: HeaderMap) {
    let mut gone = gone.lock().unwrap_or_else(PoisonError::into_inner);
    gone.extend(token(&headers));
}

fn token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("authorization")?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::to_owned)
}

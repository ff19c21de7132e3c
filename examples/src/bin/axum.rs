//! Notes behind Bulla, with axum: `cargo run -p bulla-examples --bin with-axum -- 8080 data`.
//!
//! A third argument is a folder of pages that are served beside it: those of `examples/npm`, for instance.
//! A name is all that its login asks for, since it shows how to mount; the demo in `www/` checks
//! passwords.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::error::Error;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::http::{HeaderValue, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use bulla_server::{
    Bulla, ConfigError, EmbeddedStore, Identity, Refused, Require, Ring, SecurityEvent, Session,
};
use serde::Deserialize;
use tokio::net::TcpListener;
use tower_http::services::{ServeDir, ServeFile};
use tower_http::set_header::SetResponseHeaderLayer;

/// What the pages may do: no more than they need.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; \
                      require-trusted-types-for 'script'";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().ok_or("a port is needed")?.parse()?;
    let folder = arguments.next().ok_or("a folder for keys is needed")?;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let here = format!("http://localhost:{}", listener.local_addr()?.port());
    // Behind a proxy browsers know it by another name.
    let origin = std::env::var("ORIGIN").unwrap_or_else(|_| here.clone());
    let mut app = app(&origin, folder.as_ref())?;
    if let Some(folder) = arguments.next() {
        app = app.merge(pages(folder.as_ref()));
    }
    println!("{here}");
    axum::serve(listener, app).await?;
    Ok(())
}

/// The whole server: what stands behind the verifier, and what does not.
fn app(origin: &str, folder: &Path) -> Result<Router, ConfigError> {
    let bulla = Bulla::builder()
        .origin(origin)
        .identity(Identity::load_or_create(folder.join("identity.pem"))?)
        .ring(Ring::in_file(folder.join("ring.json"))?)
        .store(EmbeddedStore::open(folder.join("store.redb"))?)
        .on_event(|event: &SecurityEvent| eprintln!("{:?}", event.kind))
        .build()?;
    let personal = Require::session().logged_in().sealed();
    let notes = Router::new()
        .route("/login", post(login).layer(Require::session().sealed()))
        .route("/logout", post(logout))
        .route("/notes", get(read).post(write).layer(personal))
        .with_state(Notes::default());
    // A probe comes without a session, and by another name.
    let outside = Router::new().route("/health", get(|| async { "well" }));
    Ok(bulla.protect(notes).merge(outside))
}

/// A page, and what lies in its folder `assets`. Browsers fetch these without a session.
fn pages(folder: &Path) -> Router {
    let policy = HeaderValue::from_static(POLICY);
    Router::new()
        .route_service("/", ServeFile::new(folder.join("index.html")))
        // A service worker sees what is asked for beside its script, and below.
        .route_service("/sw.js", ServeFile::new(folder.join("sw.js")))
        .nest_service("/assets", ServeDir::new(folder.join("assets")))
        .layer(SetResponseHeaderLayer::overriding(
            CONTENT_SECURITY_POLICY,
            policy,
        ))
}

/// Notes by user.
type Notes = Arc<Mutex<HashMap<String, Vec<String>>>>;

#[derive(Deserialize)]
struct Who {
    name: String,
}

async fn login(session: Session, Json(who): Json<Who>) -> Result<StatusCode, Refused> {
    session.login(&who.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn logout(session: Session) -> Result<StatusCode, Refused> {
    session.logout().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn write(State(notes): State<Notes>, session: Session, note: String) -> StatusCode {
    let user = session.subject().unwrap_or_default().to_owned();
    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
    notes.entry(user).or_default().push(note);
    StatusCode::CREATED
}

async fn read(State(notes): State<Notes>, session: Session) -> Json<Vec<String>> {
    let user = session.subject().unwrap_or_default();
    let notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
    Json(notes.get(user).cloned().unwrap_or_default())
}

//! One of several nodes of a bank, in a process of its own.
//!
//! `node FOLDER ORIGIN REDIS folder|redis NAME` serves the public origin ORIGIN on any free port, and prints the port
//! once it listens. The nodes share the Redis server at this URL, their ring in the folder or there, and what is
//! in the folder: the identity, the key that the ring is wrapped under, and a ledger.

use std::fs::OpenOptions;
use std::future::pending;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use bulla_server::{
    Action, Bulla, Identity, RedisStore, Refused, Require, Ring, Rule, Rules, Session, Threshold,
    WrappingKey,
};
use futures_util::stream;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::interval;

const HOUR: Duration = Duration::from_hours(1);

type Node = Arc<(String, PathBuf)>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, origin, redis, ring, name] = &arguments[..] else {
        return Err("node FOLDER ORIGIN REDIS folder|redis NAME".into());
    };
    let folder = PathBuf::from(folder);
    let store = RedisStore::connect(redis).await?;
    let ring = match ring.as_str() {
        "folder" => Ring::in_folder(folder.join("ring"))?,
        "redis" => {
            store
                .ring(WrappingKey::load(folder.join("wrapping.key"))?)
                .await?
        }
        _ => return Err("the ring is in a folder or in redis".into()),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let bulla = Bulla::builder()
        .origin(origin)
        .identity(Identity::load_or_create(folder.join("identity.pem"))?)
        .ring(ring)
        .store(store)
        .rules(Rules::default().on(Rule::ForeignTicket, Threshold::new(1, HOUR), Action::StepUp))
        .build()?;
    let node = Arc::new((name.clone(), folder.join("ledger")));
    let app = bulla.protect(routes().with_state(node));
    println!("{port}");
    axum::serve(listener, app).await?;
    Ok(())
}

fn routes() -> Router<Node> {
    Router::new()
        .route("/api/me", get(me))
        .route("/api/login", post(login))
        .route("/api/logout", post(logout))
        .route(
            "/api/transfer",
            post(transfer).layer(Require::session().recent_login(HOUR)),
        )
        .route("/api/hang", post(hang))
        .route("/api/ticks", get(ticks))
}

async fn me(session: Session, State(node): State<Node>) -> Json<Value> {
    Json(json!({ "subject": session.subject(), "node": node.0 }))
}

async fn login(session: Session, Json(who): Json<Value>) -> Result<(), Refused> {
    let user = who["user"].as_str().unwrap_or_default();
    Ok(session.login(user).await?)
}

async fn logout(session: Session) -> Result<(), Refused> {
    Ok(session.logout().await?)
}

async fn transfer(State(node): State<Node>, order: String) -> Result<Json<Value>, StatusCode> {
    note(&node, &order)?;
    Ok(Json(json!({ "node": node.0 })))
}

/// Carries an order out and never says so.
async fn hang(State(node): State<Node>, order: String) -> Result<(), StatusCode> {
    note(&node, &order)?;
    pending().await
}

async fn ticks(_: Session) -> Body {
    let ticks = stream::unfold(interval(Duration::from_millis(20)), async |mut ticks| {
        ticks.tick().await;
        Some((
            Ok::<_, std::io::Error>(Bytes::from_static(b"tick\n")),
            ticks,
        ))
    });
    Body::from_stream(ticks)
}

fn note(node: &Node, order: &str) -> Result<(), StatusCode> {
    let file = OpenOptions::new().create(true).append(true).open(&node.1);
    let written = file.and_then(|mut file| {
        file.write_all(format!("{order}\n").as_bytes())?;
        file.sync_all()
    });
    written.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

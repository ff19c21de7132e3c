//! An application whose users see where they are logged in, and its unprotected twin.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use bulla_client::{Client, Code, Loot, Session as ClientSession};
use bulla_server::{
    Builder, Bulla, Identity, ListedDevice, ListedSession, MemoryRegistry, MemoryStore, Refused,
    Require, RevocationId, Session,
};
use futures_util::stream;
use http::Request;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use crate::attack::{Outcome, error_code, post as order};
use crate::bank::MovedClock;
use crate::serve::Server;

/// How long ago a login may be where something is at stake.
pub const RECENT: Duration = Duration::from_mins(10);

/// A running application.
pub struct Members {
    /// Where it is served.
    pub server: Server,
    /// The verifier.
    pub bulla: Bulla,
    /// The verifier's clock, and that of its clients.
    pub clock: MovedClock,
}

impl Members {
    /// Starts one on a free port, with a store and a registry in memory.
    ///
    /// # Errors
    ///
    /// If no port can be had, or the verifier is not configured well.
    pub async fn start(configure: impl FnOnce(Builder) -> Builder) -> io::Result<Self> {
        let clock = MovedClock::default();
        let mut built = None;
        let server = Server::start_with(|origin| {
            let identity = Identity::generate(&bulla_keys::SystemRandom);
            let builder = Bulla::builder()
                .origin(origin)
                .clock(clock.clone())
                .unsigned("/twin/")
                .identity(identity.map_err(io::Error::other)?)
                .store(MemoryStore::new().map_err(io::Error::other)?)
                .registry(MemoryRegistry::new());
            let bulla = configure(builder).build().map_err(io::Error::other)?;
            let app = bulla.protect(routes().merge(twin()));
            built = Some(bulla);
            Ok(app)
        })
        .await?;
        let bulla = built.ok_or_else(|| io::Error::other("the verifier was not built"))?;
        Ok(Self {
            server,
            bulla,
            clock,
        })
    }

    /// A client on a device of its own.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn device(&self) -> Outcome<Client> {
        let builder = Client::builder(self.server.origin()).identity(self.bulla.identity());
        Ok(builder.clock(self.clock.clone()).build()?)
    }

    /// A session that this user has logged in to, on a device of its own.
    ///
    /// # Errors
    ///
    /// If he is refused.
    pub async fn log_in(&self, user: &str) -> Outcome<ClientSession> {
        let session = self.device()?.open().await?;
        log_in(&session, user).await?;
        Ok(session)
    }
}

/// Logs a user in, and shows the first proof of the session that comes of it.
///
/// # Errors
///
/// What the client fails with.
pub async fn log_in(session: &ClientSession, user: &str) -> Result<(), bulla_client::Error> {
    call(session, "POST", "/api/login", &json!(user)).await?;
    who(session).await.map(drop)
}

/// Whom the application takes a session for. The client does not ask again in another session where this one has ended.
///
/// # Errors
///
/// What the client fails with.
pub async fn who(session: &ClientSession) -> Result<Value, bulla_client::Error> {
    call(session, "POST", "/api/me", &Value::Null).await
}

/// The code with which a session is refused, if it is.
pub async fn refusal(session: &ClientSession) -> Option<Code> {
    error_code(who(session).await)
}

/// The code with which somebody is refused who comes back to a session with all that he had of it, on its own device.
///
/// # Errors
///
/// If nothing can be opened there.
pub async fn refusal_of(client: &Client, mut loot: Loot) -> Outcome<Option<Code>> {
    let session = client.open().await?;
    loot.nonce = session.dangerous_loot()?.nonce;
    Ok(refusal(&session.dangerous_with_loot(loot)?).await)
}

/// Reads a stream until it breaks off.
///
/// # Errors
///
/// If it ends as if it were whole, or goes on for half a minute.
pub async fn until_cut(mut stream: bulla_client::Body) -> Outcome {
    let cut = async {
        loop {
            match stream.frame().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return Ok(()),
                None => return Err("it seems to be whole".into()),
            }
        }
    };
    timeout(Duration::from_secs(30), cut).await?
}

/// What a session is answered to a request.
///
/// # Errors
///
/// What the client fails with.
///
/// # Panics
///
/// If the path is none.
pub async fn call(
    session: &ClientSession,
    method: &str,
    path: &str,
    body: &Value,
) -> Result<Value, bulla_client::Error> {
    let request = order(path, body).map(|mut request| {
        *request.method_mut() = method.parse().unwrap_or_default();
        if body.is_null() {
            *request.body_mut() = Bytes::new();
        }
        request
    });
    #[allow(clippy::expect_used)]
    let request: Request<Bytes> = request.expect("a path");
    let reply = session.fetch(request).await?.into_body().bytes().await?;
    Ok(serde_json::from_slice(&reply).unwrap_or(Value::Null))
}

/// The same, as what it is.
///
/// # Errors
///
/// What the client fails with, or if the answer is something else.
pub async fn get_as<T: DeserializeOwned>(session: &ClientSession, path: &str) -> Outcome<T> {
    Ok(serde_json::from_value(
        call(session, "GET", path, &Value::Null).await?,
    )?)
}

/// A stream that goes on until somebody ends it.
///
/// # Errors
///
/// What the client fails with, or if nothing comes.
pub async fn ticks(session: &ClientSession) -> Outcome<bulla_client::Body> {
    let request = Request::get("/api/ticks").body(Bytes::new())?;
    let mut stream = session.fetch(request).await?.into_body();
    match stream.frame().await {
        Some(Ok(_)) => Ok(stream),
        _ => Err("nothing comes".into()),
    }
}

fn routes() -> Router {
    let recent = Require::session().recent_login(RECENT);
    Router::new()
        .route("/api/me", get(me).post(me))
        .route("/api/login", post(login))
        .route("/api/logout", post(logout))
        .route("/api/pay", post(|| async { Json("paid") }).layer(recent))
        .route("/api/ticks", get(ticking))
        .route("/api/sessions", get(sessions))
        .route("/api/sessions/{id}", delete(end))
        .route("/api/password", put(change_password))
        .route("/api/devices", get(devices))
        .route("/api/devices/{device}", delete(end_device))
        .route("/api/device", put(name_device))
}

async fn me(session: Session) -> Json<Value> {
    let login = session.login_time();
    Json(json!({ "id": session.id().to_string(), "subject": session.subject(), "login": login }))
}

async fn login(session: Session, Json(user): Json<String>) -> Result<(), Refused> {
    Ok(session.login(&user).await?)
}

async fn logout(session: Session) -> Result<(), Refused> {
    Ok(session.logout().await?)
}

async fn sessions(session: Session) -> Result<Json<Vec<ListedSession>>, Refused> {
    Ok(Json(session.sessions().await?))
}

async fn end(session: Session, Path(id): Path<String>) -> Result<Json<bool>, Refused> {
    Ok(Json(session.end_session(id.parse()?).await?))
}

/// A factor is changed, and the others are offered to be ended.
async fn change_password(
    session: Session,
    Json(end_others): Json<bool>,
) -> Result<Json<usize>, Refused> {
    Ok(Json(if end_others {
        session.end_others().await?
    } else {
        0
    }))
}

async fn devices(session: Session) -> Result<Json<Vec<ListedDevice>>, Refused> {
    Ok(Json(session.devices().await?))
}

async fn end_device(
    session: Session,
    Path(device): Path<String>,
) -> Result<Result<Json<bool>, Refused>, StatusCode> {
    let device = device.parse().map_err(|_| StatusCode::NOT_FOUND)?;
    let ended = session.end_device(device).await;
    Ok(ended.map(Json).map_err(Refused))
}

async fn name_device(session: Session, Json(name): Json<String>) -> Result<(), Refused> {
    Ok(session.name_device(&name).await?)
}

async fn ticking(_: Session) -> impl IntoResponse {
    let ticks = stream::unfold(interval(Duration::from_millis(10)), async |mut ticks| {
        ticks.tick().await;
        let event = Ok::<_, io::Error>(Bytes::from_static(b"data: tick\n\n"));
        Some((event, ticks))
    });
    (
        [(CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(ticks),
    )
}

/// The sessions of the twin, which are whoever's token it is, by number.
#[derive(Clone, Default)]
struct Tokens(Arc<Mutex<Vec<Option<String>>>>);

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user(&self, headers: &HeaderMap) -> Option<String> {
        let token = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let number: usize = token.strip_prefix("Bearer ")?.parse().ok()?;
        self.lock().get(number).cloned().flatten()
    }
}

/// As it is often done: a token is all that a request needs, and what is named is ended, whosever it is.
fn twin() -> Router {
    Router::new()
        .route(
            "/twin/login",
            post(async |State(tokens): State<Tokens>, user: String| {
                let mut all = tokens.lock();
                all.push(Some(user));
                (all.len() - 1).to_string()
            }),
        )
        .route(
            "/twin/sessions",
            get(async |State(tokens): State<Tokens>, headers: HeaderMap| {
                let user = tokens.user(&headers).ok_or(StatusCode::UNAUTHORIZED)?;
                let all = tokens.lock();
                let own = all
                    .iter()
                    .filter(|other| other.as_deref() == Some(&*user))
                    .count();
                Ok::<_, StatusCode>(own.to_string())
            }),
        )
        .route(
            "/twin/sessions/{id}",
            delete(
                async |State(tokens): State<Tokens>, headers: HeaderMap, Path(id): Path<usize>| {
                    tokens.user(&headers).ok_or(StatusCode::UNAUTHORIZED)?;
                    if let Some(ended) = tokens.lock().get_mut(id) {
                        *ended = None;
                    }
                    Ok::<_, StatusCode>(())
                },
            ),
        )
        .with_state(Tokens::default())
}

/// The id of a session that a list calls so.
///
/// # Errors
///
/// If the list has no such thing.
pub fn id_of(listed: &Value) -> Outcome<RevocationId> {
    Ok(listed["id"].as_str().ok_or("no id")?.parse()?)
}

//! The bank's back office: a clerk sees where customers are signed in, and ends it (OWASP ASVS 5.0, 7.4.5).

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use bulla_server::{Bulla, ListedDevice, ListedSession, Refused, Revocation, Session};
use serde::{Deserialize, Serialize};

use crate::bank;
use crate::counter::sorry;

/// The routes, none of which is reached but by a clerk. What else is asked for is the caller's to say.
pub(crate) fn routes(bulla: Bulla) -> Router {
    Router::new()
        .route("/", get(overview))
        .route("/end", post(end))
        .route_layer(middleware::from_extractor::<Clerk>())
        .with_state(bulla)
}

/// Somebody who works here. Which user may do what is the application's to know, not Bulla's.
struct Clerk;

impl<S: Send + Sync> FromRequestParts<S> for Clerk {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let session = Session::from_request_parts(parts, state).await;
        match session.map_err(Refused::into_response)?.subject() {
            Some(user) if bank::is_clerk(user) => Ok(Self),
            _ => Err(sorry(StatusCode::FORBIDDEN, "Only for the bank's clerks.")),
        }
    }
}

/// Where one customer is signed in, and has been.
#[derive(Serialize)]
struct Whereabouts {
    name: &'static str,
    user: &'static str,
    sessions: Vec<ListedSession>,
    devices: Vec<ListedDevice>,
}

async fn overview(State(bulla): State<Bulla>) -> Result<Json<Vec<Whereabouts>>, Refused> {
    let mut all = Vec::new();
    for (name, user) in bank::customers() {
        let subject = user.parse()?;
        all.push(Whereabouts {
            name,
            user,
            sessions: bulla.sessions_of(subject).await?,
            devices: bulla.devices_of(subject).await?,
        });
    }
    Ok(Json(all))
}

/// What is to end.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum End {
    /// One session, by what the list calls it.
    Session(String),
    /// All that this user has logged in to.
    User(String),
    /// All that there are, the clerk's own too.
    Everything,
}

async fn end(State(bulla): State<Bulla>, Json(end): Json<End>) -> Result<StatusCode, Refused> {
    match end {
        End::Session(id) => bulla.revoke(Revocation::Session(id.parse()?)).await?,
        End::User(user) => bulla.end_all_of(user.parse()?).await?,
        End::Everything => bulla.end_all().await?,
    }
    Ok(StatusCode::NO_CONTENT)
}

//! The bank behind Bulla. No handler here runs before the request has been verified.

use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bulla_server::{Bulla, Code, ListedDevice, ListedSession, Refused, Require, Session};
use serde::{Deserialize, Serialize};

use crate::bank;
use crate::counter::{self, Counter, Credentials, Customer, sorry};
use crate::office;

/// After that it takes another login to move money, or to end a session (OWASP ASVS 5.0, 7.5.2).
const RECENT: Duration = Duration::from_hours(1);

/// The same for what ends other people's.
const VERY_RECENT: Duration = Duration::from_mins(15);

/// The customer whom the session belongs to.
struct Sealed(String);

impl Customer for Sealed {
    fn user(&self) -> &str {
        &self.0
    }
}

impl FromRequestParts<Counter> for Sealed {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, counter: &Counter) -> Result<Self, Refused> {
        let session =
            <Session as FromRequestParts<Counter>>::from_request_parts(parts, counter).await?;
        let user = session.subject().map(str::to_owned);
        let user = user.ok_or(Code::LoginRequired.because("nobody is logged in"))?;
        Ok(Self(user))
    }
}

/// The bank, below `/api`.
pub(crate) fn routes(bulla: &Bulla, counter: Counter) -> Router {
    let known = Require::session().logged_in().sealed().device_proof();
    let looking = counter::inquiries::<Sealed>()
        .route("/me", get(me))
        .route("/sessions", get(sessions))
        .route("/devices", get(devices))
        .route("/devices/name", post(name_device))
        .route_layer(known);
    let acting = counter::payments::<Sealed>()
        .route("/sessions/end", post(end_session))
        .route("/devices/end", post(end_device))
        .route_layer(known.recent_login(RECENT));
    let office = office::routes(bulla.clone()).route_layer(known.recent_login(VERY_RECENT));
    let login = post(login).layer(Require::session().sealed());
    let bank = looking.merge(acting).route("/login", login);
    bulla.protect(
        Router::new()
            .nest("/api", bank)
            .with_state(counter)
            .nest("/api/office", office),
    )
}

/// Who has logged in, as the page needs to know it.
#[derive(Serialize)]
struct Me {
    user: String,
    is_clerk: bool,
    /// A rule wants another login.
    must_step_up: bool,
}

async fn me(session: Session, Sealed(user): Sealed) -> Json<Me> {
    Json(Me {
        is_clerk: bank::is_clerk(&user),
        must_step_up: session.must_step_up(),
        user,
    })
}

async fn sessions(session: Session) -> Result<Json<Vec<ListedSession>>, Refused> {
    Ok(Json(session.sessions().await?))
}

async fn devices(session: Session) -> Result<Json<Vec<ListedDevice>>, Refused> {
    Ok(Json(session.devices().await?))
}

/// What the customer calls the device that he asks from.
#[derive(Deserialize)]
struct Named {
    name: String,
}

async fn name_device(session: Session, Json(named): Json<Named>) -> Result<StatusCode, Refused> {
    session.name_device(&named.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which session is to end.
#[derive(Deserialize)]
struct EndSession {
    id: String,
}

async fn end_session(
    session: Session,
    Json(EndSession { id }): Json<EndSession>,
) -> Result<Json<bool>, Refused> {
    Ok(Json(session.end_session(id.parse()?).await?))
}

/// Which device the customer is to be signed out on.
#[derive(Deserialize)]
struct EndDevice {
    device: String,
}

async fn end_device(
    session: Session,
    Json(EndDevice { device }): Json<EndDevice>,
) -> Result<Json<bool>, Refused> {
    let nameless = |_| Code::Malformed.because("this names no device");
    let device = device.parse().map_err(nameless)?;
    Ok(Json(session.end_device(device).await?))
}

async fn login(
    State(counter): State<Counter>,
    session: Session,
    Json(credentials): Json<Credentials>,
) -> Result<Response, Refused> {
    match counter.check(credentials).await {
        Some(user) => {
            session.login(&user).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        None => Ok(sorry(
            StatusCode::FORBIDDEN,
            "The name or the password is wrong.",
        )),
    }
}

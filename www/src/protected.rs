//! The bank behind Bulla. No handler here runs before the request has been verified.

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bulla_server::{Bulla, Code, ListedSession, Refused, Require, Session};
use serde::Deserialize;

use crate::counter::{self, Counter, Credentials, Customer, sorry};

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
    let customers = counter::routes::<Sealed>()
        .route("/sessions", get(sessions))
        .route("/sessions/end", post(end))
        .route_layer(Require::session().logged_in().sealed().device_proof());
    let login = post(login).layer(Require::session().sealed());
    let bank = Router::new()
        .nest("/api", customers.route("/login", login))
        .with_state(counter);
    bulla.protect(bank)
}

async fn sessions(session: Session) -> Result<Json<Vec<ListedSession>>, Refused> {
    Ok(Json(session.sessions().await?))
}

/// Which session is to end.
#[derive(Deserialize)]
struct Ended {
    id: String,
}

async fn end(session: Session, Json(ended): Json<Ended>) -> Result<Json<bool>, Refused> {
    Ok(Json(session.end_session(ended.id.parse()?).await?))
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

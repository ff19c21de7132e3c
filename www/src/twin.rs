//! The same bank without Bulla, as most are built today: whoever has the bearer token is the customer.

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Extension, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use bulla_client::{Random as _, SystemRandom};
use serde_json::json;

use crate::counter::{self, Counter, Credentials, Customer, sorry};

/// How many tokens are remembered; the demo needs a few.
const MAX_TOKENS: usize = 1000;

/// Who logged in with which token. 128 random bits each: they are not to be guessed, only copied.
#[derive(Clone, Default)]
struct Tokens(Arc<Mutex<HashMap<String, String>>>);

impl Tokens {
    fn issue(&self, user: String) -> Option<String> {
        let mut random = [0; 16];
        SystemRandom.fill(&mut random).ok()?;
        let token = format!("{:032x}", u128::from_be_bytes(random));
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        tokens.insert(token.clone(), user);
        Some(token)
    }

    fn user(&self, token: &str) -> Option<String> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(token).cloned()
    }
}

/// The customer whom the token belongs to.
struct Bearer(String);

impl Customer for Bearer {
    fn user(&self) -> &str {
        &self.0
    }
}

impl FromRequestParts<Counter> for Bearer {
    type Rejection = Response;

    fn from_request_parts(
        parts: &mut Parts,
        _: &Counter,
    ) -> impl Future<Output = Result<Self, Response>> {
        let token = parts.headers.get(AUTHORIZATION);
        let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let tokens = parts.extensions.get::<Tokens>();
        let user = tokens.zip(token).and_then(|(all, token)| all.user(token));
        ready(
            user.map(Self)
                .ok_or_else(|| sorry(StatusCode::UNAUTHORIZED, "Please sign in.")),
        )
    }
}

/// The bank, below `/twin`.
pub(crate) fn routes(counter: Counter) -> Router {
    let bank = counter::inquiries::<Bearer>()
        .merge(counter::payments::<Bearer>())
        .route("/login", post(login));
    Router::new()
        .nest("/twin", bank)
        .layer(Extension(Tokens::default()))
        .with_state(counter)
}

async fn login(
    State(counter): State<Counter>,
    Extension(tokens): Extension<Tokens>,
    Json(credentials): Json<Credentials>,
) -> Response {
    match counter.check(credentials).await {
        Some(user) => match tokens.issue(user) {
            Some(token) => Json(json!({ "token": token })).into_response(),
            None => sorry(StatusCode::SERVICE_UNAVAILABLE, "No token could be made."),
        },
        None => sorry(StatusCode::FORBIDDEN, "The name or the password is wrong."),
    }
}

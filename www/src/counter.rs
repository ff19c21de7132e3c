//! The bank's counter: the same handlers for both banks. Only how a customer is known differs.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::bank::{Bank, Customers, Declined, Order, Payee, Receipt, Statement};

/// Somebody who has logged in, taken from a request.
pub(crate) trait Customer: FromRequestParts<Counter> + Send + 'static {
    /// The user id.
    fn user(&self) -> &str;
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Counter {
    pub(crate) bank: Bank,
    pub(crate) customers: Arc<Customers>,
}

/// What a customer logs in with.
#[derive(Deserialize)]
pub(crate) struct Credentials {
    user: String,
    password: String,
}

impl Counter {
    /// The customer whose credentials these are.
    pub(crate) async fn check(&self, credentials: Credentials) -> Option<String> {
        let customers = Arc::clone(&self.customers);
        let Credentials { user, password } = credentials;
        tokio::task::spawn_blocking(move || customers.verify(&user, &password).then_some(user))
            .await
            .ok()
            .flatten()
    }
}

/// What customers who have logged in can look at.
pub(crate) fn inquiries<C: Customer>() -> Router<Counter> {
    Router::new()
        .route("/account", get(account::<C>))
        .route("/payees/{name}", get(payee::<C>))
}

/// What they can pay.
pub(crate) fn payments<C: Customer>() -> Router<Counter> {
    Router::new().route("/transfer", post(transfer::<C>))
}

async fn account<C: Customer>(
    State(counter): State<Counter>,
    customer: C,
) -> Result<Json<Statement>, Declined> {
    counter.bank.statement(customer.user()).map(Json)
}

async fn payee<C: Customer>(
    _customer: C,
    Path(name): Path<String>,
) -> Result<Json<Payee>, Declined> {
    Bank::payee(&name).map(Json)
}

async fn transfer<C: Customer>(
    State(counter): State<Counter>,
    customer: C,
    Json(order): Json<Order>,
) -> Result<Json<Receipt>, Declined> {
    counter.bank.pay(customer.user(), order).map(Json)
}

/// An answer with a sentence for people.
pub(crate) fn sorry(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

impl IntoResponse for Declined {
    fn into_response(self) -> Response {
        sorry(StatusCode::UNPROCESSABLE_ENTITY, &self.to_string())
    }
}

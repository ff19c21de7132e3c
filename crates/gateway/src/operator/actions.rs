//! What the page asks for, and what it can do.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use bulla_server::{Clock as _, Error, Revocation, SystemClock};
use futures_util::{Stream, StreamExt as _};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Operator;
use super::guard::By;
use crate::config::Mode;
use crate::{fields, inventory};

/// How often it is looked whether whoever follows the feed is still logged in.
const LOOK: Duration = Duration::from_secs(5);

/// All but the feed.
pub(super) async fn overview(State(operator): State<Operator>) -> Json<Value> {
    let gateway = &operator.0.gateway;
    let (desk, config) = (gateway.desk(), gateway.config());
    let rules = config.paths.iter();
    let rules = rules.map(|rule| json!({ "prefix": rule.prefix, "access": rule.access.name() }));
    let upstreams = gateway.upstreams().into_iter();
    let upstreams = upstreams.map(|(url, is_well)| json!({ "url": url, "well": is_well }));
    Json(json!({
        "now": SystemClock.now(),
        "identity": gateway.identity().to_string(),
        "origins": config.origins,
        "mode": config.mode.name(),
        "stopped": desk.stop.is_on(),
        "upstreams": upstreams.collect::<Vec<_>>(),
        "access": config.access.name(),
        "rules": rules.collect::<Vec<_>>(),
        "bound_cookies": config.bound_cookies,
        "learnt_cookies": gateway.learnt_cookies(),
        "unbound_cookies": gateway.unbound_cookies(),
        "pulse": desk.pulse.report(desk.passed()),
        "sessions": desk.visitors.list(),
        "scripts": gateway.known_scripts(),
        "fields": gateway.known_fields(),
    }))
}

/// The scripts that pages were seen to run.
pub(super) async fn scripts(State(operator): State<Operator>) -> Json<Value> {
    let gateway = &operator.0.gateway;
    let current = gateway.current();
    let scripts = gateway.scripts().into_iter().map(|script| {
        let grant = current.authorised().grant(&script);
        let why = grant.map(|grant| grant.to_string());
        json!({ "script": script, "justification": why })
    });
    Json(scripts.collect())
}

/// The same, as a file.
pub(super) async fn scripts_table(State(operator): State<Operator>) -> Response {
    let gateway = &operator.0.gateway;
    let current = gateway.current();
    let table = inventory::table(&gateway.scripts(), current.authorised());
    file("attachment; filename=\"scripts.csv\"", table)
}

/// The fields that pages had.
pub(super) async fn fields(State(operator): State<Operator>) -> Json<Value> {
    let gateway = &operator.0.gateway;
    let rules = gateway.config().fields;
    let all = gateway.page_fields().into_iter().map(|one| {
        let rule = fields::grant(&rules, &one.page, &one.hash);
        let why = rule.map(|rule| &rule.justification);
        json!({ "set": one, "justification": why })
    });
    Json(all.collect())
}

/// The same, as a file.
pub(super) async fn fields_table(State(operator): State<Operator>) -> Response {
    let gateway = &operator.0.gateway;
    let table = fields::table(&gateway.page_fields(), &gateway.config().fields);
    file("attachment; filename=\"fields.csv\"", table)
}

/// A table that is kept, and not shown.
fn file(disposition: &'static str, table: String) -> Response {
    let fields = [
        (CONTENT_TYPE, "text/csv; charset=utf-8"),
        (CONTENT_DISPOSITION, disposition),
    ];
    (fields, table).into_response()
}

/// The feed, as server-sent events, from where the page had it.
pub(super) async fn events(
    State(operator): State<Operator>,
    Extension(By(name)): Extension<By>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let last = headers.get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok()?.parse().ok());
    let items = operator.0.feed.after(last.unwrap_or(0));
    let out = async move {
        let is_in = || {
            let now = operator.0.gateway.desk().passed();
            operator.0.logins.is_there(&name, now)
        };
        while is_in() {
            sleep(LOOK).await;
        }
    };
    let events = items.take_until(Box::pin(out)).map(|item| {
        let data = serde_json::to_string(&*item).unwrap_or_default();
        Ok(Event::default().id(item.number.to_string()).data(data))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

#[derive(Deserialize)]
pub(super) struct SetMode {
    mode: String,
}

pub(super) async fn set_mode(
    State(operator): State<Operator>,
    Extension(By(name)): Extension<By>,
    Json(SetMode { mode }): Json<SetMode>,
) -> Response {
    let Some(mode) = Mode::ALL.into_iter().find(|known| known.name() == mode) else {
        return problem(StatusCode::BAD_REQUEST, "mode_unknown");
    };
    if let Err(error) = operator.0.gateway.set_mode(mode) {
        tracing::error!(target: "bulla_gateway::operator", "the mode stays as it was: {error}");
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "internal");
    }
    let detail = format!("the mode is {} until the file is read again", mode.name());
    operator.did(&name, "mode", detail);
    done()
}

#[derive(Deserialize)]
pub(super) struct SetStop {
    stopped: bool,
}

pub(super) async fn stop(
    State(operator): State<Operator>,
    Extension(By(name)): Extension<By>,
    Json(SetStop { stopped }): Json<SetStop>,
) -> Response {
    operator.0.gateway.desk().stop.set(stopped);
    let (action, detail) = if stopped {
        ("stop", "everything is stopped")
    } else {
        ("go", "everything goes on")
    };
    operator.did(&name, action, detail.to_owned());
    done()
}

#[derive(Deserialize)]
pub(super) struct Named {
    name: String,
}

pub(super) async fn end_session(
    State(operator): State<Operator>,
    Extension(by): Extension<By>,
    Json(Named { name }): Json<Named>,
) -> Response {
    let session = operator.0.gateway.desk().visitors.session(&name);
    let revocation = session.map(|id| Revocation::Session(id.into()));
    let detail = format!("session {name} has ended");
    operator
        .revoke(&by, revocation, "end_session", detail)
        .await
}

pub(super) async fn lock_device(
    State(operator): State<Operator>,
    Extension(by): Extension<By>,
    Json(Named { name }): Json<Named>,
) -> Response {
    let device = operator.0.gateway.desk().visitors.device(&name);
    let revocation = device.map(Revocation::Device);
    let detail = format!("device {name} is locked out");
    operator
        .revoke(&by, revocation, "lock_device", detail)
        .await
}

pub(super) async fn end_all(
    State(operator): State<Operator>,
    Extension(By(name)): Extension<By>,
) -> Response {
    if let Err(error) = operator.0.gateway.bulla().end_all().await {
        return refused(error);
    }
    operator.did(&name, "end_all", "all sessions have ended".to_owned());
    done()
}

impl Operator {
    async fn revoke(
        &self,
        By(name): &By,
        revocation: Option<Revocation>,
        action: &'static str,
        detail: String,
    ) -> Response {
        let Some(revocation) = revocation else {
            return problem(StatusCode::NOT_FOUND, "not_seen");
        };
        if let Err(error) = self.0.gateway.bulla().revoke(revocation).await {
            return refused(error);
        }
        self.did(name, action, detail);
        done()
    }
}

fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn refused(error: Error) -> Response {
    tracing::error!(target: "bulla_gateway::operator", code = error.code.as_str(), "{}", error.detail);
    problem(StatusCode::SERVICE_UNAVAILABLE, error.code.as_str())
}

/// Problem Details (RFC 9457).
pub(super) fn problem(status: StatusCode, code: &'static str) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let problem = json!({ "title": title, "status": status.as_u16(), "code": code });
    let kind = [(CONTENT_TYPE, "application/problem+json")];
    (status, kind, problem.to_string()).into_response()
}

//! The operator's page: what is going on, and switches for the worst day.
//!
//! It is served at an address of its own, by [`Server::operator`](crate::serve::Server::operator). Whoever shows the token
//! there gets a cookie for an hour; nothing that changes anything is done for another site's pages, whatever cookies they
//! bring. Sessions, devices and users are called by their pseudonyms: no id, ticket or cookie is on the page.

mod actions;
mod desk;
mod feed;
mod guard;
mod logins;
mod page;
mod pulse;
mod stop;
mod token;
mod visitors;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use bulla_server::{Clock as _, EventKind, SecurityEvent, SystemClock, SystemRandom};

use self::feed::{Feed, What};
use self::logins::Logins;
pub use self::token::{Token, TokenError};
pub(crate) use self::{desk::Desk, guard::take_off_cookie, stop::Stop};
use crate::gateway::Gateway;

/// What an operator sees of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Operator(Arc<Inner>);

struct Inner {
    gateway: Gateway,
    logins: Logins,
    feed: Feed,
}

impl Operator {
    /// For whoever has this token.
    pub fn new(gateway: &Gateway, token: Token) -> Self {
        Self(Arc::new(Inner {
            gateway: gateway.clone(),
            logins: Logins::new(token, SystemRandom),
            feed: Feed::default(),
        }))
    }

    /// The page and all that it asks for, to be served with the peers' addresses
    /// ([`ConnectInfo`](axum::extract::ConnectInfo) of a `SocketAddr`), by which failed tries are counted.
    pub fn router(&self) -> Router {
        let inside = Router::new()
            .route("/", get(page::page))
            .route("/logout", post(guard::log_out))
            .route("/api/overview", get(actions::overview))
            .route("/api/events", get(actions::events))
            .route("/api/scripts", get(actions::scripts))
            .route("/api/scripts.csv", get(actions::scripts_table))
            .route("/api/fields", get(actions::fields))
            .route("/api/fields.csv", get(actions::fields_table))
            .route("/api/mode", post(actions::set_mode))
            .route("/api/stop", post(actions::stop))
            .route("/api/sessions/end", post(actions::end_session))
            .route("/api/sessions/end-all", post(actions::end_all))
            .route("/api/devices/lock", post(actions::lock_device))
            .layer(from_fn_with_state(self.clone(), guard::logged_in));
        Router::new()
            .route("/login", get(page::login).post(guard::log_in))
            .route("/style.css", get(page::style))
            .route("/script.js", get(page::script))
            .route("/plot.js", get(page::plot))
            .merge(inside)
            .layer(axum::middleware::from_fn(guard::own_pages_only))
            .with_state(self.clone())
    }

    /// Follows what happens, for as long as it is polled.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + 'static {
        let operator = self.clone();
        let mut events = self.0.gateway.bulla().events();
        async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => operator.note(&event),
                    Err(missed) => operator.0.feed.push(What {
                        time: SystemClock.now(),
                        kind: "missed",
                        detail: Some(missed.to_string()),
                        ..What::default()
                    }),
                }
            }
        }
    }

    fn note(&self, event: &SecurityEvent) {
        let Inner { gateway, feed, .. } = &*self.0;
        let desk = gateway.desk();
        match event.kind {
            EventKind::Refused(error) | EventKind::LetPass(error) => {
                desk.pulse.refused(desk.passed(), error.code.as_str());
            }
            EventKind::SessionEnded | EventKind::LoggedIn => {
                desk.visitors.ended(event.session, None);
            }
            EventKind::DeviceEnded => desk.visitors.ended(None, event.device),
            EventKind::SubjectEnded => desk.visitors.all_ended(event.subject),
            EventKind::AllEnded => desk.visitors.all_ended(None),
            _ => {}
        }
        feed.push(What::from(event));
    }

    /// Tells the log and the feed what an operator has done.
    fn did(&self, by: &str, action: &'static str, detail: String) {
        tracing::warn!(target: "bulla_gateway::operator", operator = by, action, "{detail}");
        self.0.feed.push(What {
            time: SystemClock.now(),
            kind: "operator",
            code: Some(action),
            detail: Some(detail),
            by: Some(by.to_owned()),
            ..What::default()
        });
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator")
            .field("gateway", &self.0.gateway)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

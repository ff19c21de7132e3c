//! What pages, and the service worker before them, report of themselves.
//!
//! A report is a request like any other: it came with a verified session, so it is about that session and no other. It
//! becomes a security event of the verifier's (`noticed`), and a line of the log with what was reported. Scripts go into the
//! [inventory]. What becomes of the session then is the operator's to say ([`Reaction`]).

pub mod inventory;
mod meter;
mod report;

use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use bulla_protocol::target::Origin;
use bulla_server::{Clock as _, Code, Error, Refused, Session, SystemClock};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};

use self::inventory::{Authorised, Noted, Script};
pub(crate) use self::inventory::{Inventory, InventoryError};
use self::meter::Meter;
use self::report::{Address, Report, Word};
use crate::config::{self, Config, Mode, Reaction};

/// Where reports go. It is not one of the protocol's own paths, so the verifier passes on what comes there, and the
/// service worker has to take it although it stands below the protocol's prefix.
pub(crate) const PATH: &str = "/.well-known/bulla/gateway/report";

/// As large is the content of a request at most, in bytes.
const MOST_LEN: usize = 16 * 1024;

/// Takes reports.
#[derive(Debug, Default)]
pub(crate) struct Runtime {
    meter: Mutex<Meter>,
    pub(crate) inventory: Inventory,
}

/// By what reports are judged.
#[derive(Clone, Copy)]
pub(crate) struct Judged<'a> {
    pub(crate) config: &'a Config,
    pub(crate) authorised: Authorised<'a>,
    /// Of the pages that report.
    pub(crate) origin: Option<&'a Origin>,
}

impl Runtime {
    pub(crate) fn new(inventory: Inventory) -> Self {
        Self {
            inventory,
            ..Self::default()
        }
    }

    /// Answers what has come to a path below the protocol's prefix, and has passed the verifier. None of them are the
    /// application's.
    pub(crate) async fn answer(
        &self,
        request: Request<bulla_server::Body>,
        judged: Judged<'_>,
    ) -> Response<Body> {
        let taken = match (request.uri().path(), request.method()) {
            (PATH, &Method::POST) => self.take(request, judged).await,
            (PATH, _) => return empty(StatusCode::METHOD_NOT_ALLOWED),
            _ => return empty(StatusCode::NOT_FOUND),
        };
        match taken {
            Ok(Reaction::Record) => empty(StatusCode::NO_CONTENT),
            Ok(Reaction::StepUp | Reaction::End) => logged_out(&judged.config.bound_cookies),
            Err(refusal) => Response::from(Refused(refusal)).map(Body::new),
        }
    }

    /// # Errors
    ///
    /// [`Code::ProofMissing`] without a session, [`Code::Malformed`] and [`Code::TooLarge`] for what is no report,
    /// [`Code::RateLimited`] if this session reports too much, and those of [`Session::logout`].
    async fn take(
        &self,
        request: Request<bulla_server::Body>,
        judged: Judged<'_>,
    ) -> Result<Reaction, Error> {
        let (parts, body) = request.into_parts();
        let session = parts.extensions.get::<Session>();
        let session = session.ok_or(Code::ProofMissing.because("a report carries no proof"))?;
        let kind = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !kind.is_some_and(is_json) {
            return Err(Code::Malformed.because("a report is application/json"));
        }
        let body = Limited::new(body, MOST_LEN).collect().await;
        let too_large = Code::TooLarge.because("a report is too large, or broke off");
        let reports = report::read(&body.map_err(|_| too_large)?.to_bytes())?;
        let now = SystemClock.now();
        self.meter().count(session.id(), reports.len(), now)?;
        let reaction = self.tell(session, &reports, judged, now);
        match reaction {
            Reaction::Record => {}
            Reaction::StepUp => session.notice(reaction.name()),
            Reaction::End => session.logout().await?,
        }
        Ok(reaction)
    }

    /// One event for each kind that was reported, and a line for each report. Gives the sternest reaction that any of them
    /// asks for.
    fn tell(
        &self,
        session: &Session,
        reports: &[Report],
        judged: Judged<'_>,
        now: u64,
    ) -> Reaction {
        let (mut told, mut sternest) = (Vec::new(), Reaction::Record);
        for report in reports {
            let reaction = match judged.config.mode {
                Mode::Enforce => reaction_to(report, &judged.config.runtime),
                Mode::Monitor => Reaction::Record,
            };
            if let Report::Script { url, hash, page } = report
                && !self.is_alarming((url, hash, page), session, judged, now, reaction)
            {
                continue;
            }
            sternest = sternest.max(reaction);
            let kind = report.kind();
            tracing::warn!(target: "bulla_gateway::runtime", kind, report = %report, "a page reports");
            if !told.contains(&kind) {
                told.push(kind);
                session.notice(kind);
            }
        }
        sternest
    }

    /// Puts a script into the inventory. Whether that is anything to tell of: it is not authorised, and is new, or has
    /// consequences.
    fn is_alarming(
        &self,
        (url, hash, page): (&Address, &Word, &Address),
        session: &Session,
        judged: Judged<'_>,
        now: u64,
        reaction: Reaction,
    ) -> bool {
        let url = url.within(judged.origin);
        let script = Script::reported(url, hash.as_str(), page.as_str(), now);
        let is_authorised = judged.authorised.grant(&script).is_some();
        let may_be_new = self.meter().may_add(session.id());
        let noted = self.inventory.note(script, may_be_new);
        if noted == Noted::New {
            self.meter().added(session.id());
        }
        !is_authorised && (noted != Noted::Known || reaction > Reaction::Record)
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the operator has said of reports like this one.
fn reaction_to(report: &Report, said: &config::Runtime) -> Reaction {
    match report {
        Report::Integrity { .. } => said.integrity,
        Report::Patched { .. } => said.patched,
        Report::Policy { .. } => said.policy,
        Report::Script { .. } => said.script,
    }
}

/// Has the browser forget the cookies that are bound to it: the application asks its user to log in again. Whoever
/// has reported wants that, so nobody has to be forced.
fn logged_out(bound_cookies: &[String]) -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    for name in bound_cookies {
        let line = format!("{name}=; Path=/; Max-Age=0; HttpOnly");
        if let Ok(line) = HeaderValue::try_from(line) {
            response.headers_mut().append(SET_COOKIE, line);
        }
    }
    response
}

fn is_json(kind: &[u8]) -> bool {
    let essence = kind.split(|&byte| byte == b';').next().unwrap_or_default();
    essence
        .trim_ascii()
        .eq_ignore_ascii_case(b"application/json")
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::PREFIX;

    #[test]
    fn the_path_is_below_the_prefix() {
        let rest = PATH.strip_prefix(PREFIX).unwrap();
        assert!(rest.starts_with('/'));
        assert!(!["/session", "/sealed"].contains(&rest));
    }

    #[test]
    fn json_is_told_by_its_type() {
        for kind in ["application/json", "Application/JSON ; charset=utf-8"] {
            assert!(is_json(kind.as_bytes()), "{kind}");
        }
        for kind in ["", "text/plain", "application/jsonp", "text/json"] {
            assert!(!is_json(kind.as_bytes()), "{kind}");
        }
    }
}

//! What pages, and the service worker before them, report of themselves.
//!
//! A report is a request like any other: it came with a verified session, so it is about that session and no other. It
//! becomes a security event of the verifier's (`noticed`), and a line of the log with what was reported. Scripts go into the
//! [inventory](crate::inventory). What becomes of the session then is the operator's to say ([`Reaction`]).

mod meter;
mod report;

use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use bulla_protocol::target::Origin;
use bulla_server::{Clock as _, Code, Error, Refused, Session, SystemClock};
use http::header::SET_COOKIE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};

use self::meter::Meter;
use self::report::Report;
use crate::config::{self, Config, Mode, Reaction};
use crate::edge::empty;
use crate::inventory::{Authorised, Inventory, Noted, Script};
use crate::media;

/// Where reports go. It is not one of the protocol's own paths, so the verifier passes on what comes there, and the
/// service worker has to take it although it stands below the protocol's prefix.
pub(crate) const PATH: &str = "/.well-known/bulla/gateway/report";

/// As large is the content of a request at most, in bytes.
const MOST_LEN: usize = 64 * 1024;

/// What the verifier is told where the browser forgets its cookies, and the session goes on.
const LOGGED_OUT: &str = "cookies-forgotten";

/// Takes reports.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    meter: Mutex<Meter>,
    pub(crate) inventory: Inventory,
}

/// By what reports are judged.
#[derive(Clone, Copy)]
pub(crate) struct Criteria<'a> {
    pub(crate) config: &'a Config,
    pub(crate) bound_cookies: &'a (dyn Fn() -> Vec<String> + Sync),
    pub(crate) authorised: Authorised<'a>,
    /// Of the pages that report.
    pub(crate) origin: Option<&'a Origin>,
}

impl Reports {
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
        criteria: Criteria<'_>,
    ) -> Response<Body> {
        let taken = match (request.uri().path(), request.method()) {
            (PATH, &Method::POST) => self.take(request, criteria).await,
            (PATH, _) => return empty(StatusCode::METHOD_NOT_ALLOWED),
            _ => return empty(StatusCode::NOT_FOUND),
        };
        match taken {
            Ok(Reaction::Record) => empty(StatusCode::NO_CONTENT),
            Ok(Reaction::StepUp | Reaction::End) => logged_out(&(criteria.bound_cookies)()),
            Err(refusal) => Response::from(Refused(refusal)).map(Body::new),
        }
    }

    /// # Errors
    ///
    /// [`Code::ProofMissing`] without a session, [`Code::Malformed`] and [`Code::TooLarge`] for what is no report.
    async fn take(
        &self,
        request: Request<bulla_server::Body>,
        criteria: Criteria<'_>,
    ) -> Result<Reaction, Error> {
        let (parts, body) = request.into_parts();
        let session = parts.extensions.get::<Session>();
        let session = session.ok_or(Code::ProofMissing.because("a report carries no proof"))?;
        if !media::is(&parts.headers, "application/json") {
            return Err(Code::Malformed.because("a report is application/json"));
        }
        let body = Limited::new(body, MOST_LEN).collect().await;
        let too_large = Code::TooLarge.because("a report is too large, or broke off");
        let reports = report::read(&body.map_err(|_| too_large)?.to_bytes())?;
        let now = SystemClock.now();
        let reaction = self.tell(session, &reports, criteria, now);
        match reaction {
            Reaction::Record => {}
            Reaction::StepUp => session.notice(LOGGED_OUT),
            Reaction::End => {
                // Its cookies are forgotten all the same.
                if let Err(error) = session.logout().await {
                    let code = error.code.as_str();
                    tracing::error!(target: "bulla_gateway::runtime", code, "a session that was to end goes on: {}", error.detail);
                }
            }
        }
        Ok(reaction)
    }

    /// One event for each kind that was reported, and a line for each report, as far as the session may have any
    /// written. Gives the sternest reaction that any of them asks for, written or not.
    fn tell(
        &self,
        session: &Session,
        reports: &[Report],
        criteria: Criteria<'_>,
        now: u64,
    ) -> Reaction {
        let (mut told, mut sternest) = (Vec::new(), Reaction::Record);
        for report in reports {
            let reaction = match criteria.config.mode {
                Mode::Enforce => reaction_to(report, &criteria.config.runtime),
                Mode::Monitor => Reaction::Record,
            };
            let mut is_new = false;
            if let Some(script) = script(report, criteria.origin, now) {
                let is_authorised = criteria.authorised.grant(&script).is_some();
                let noted = self.take_stock(script, is_authorised, session, now);
                let is_news = noted != Noted::Known;
                if is_authorised || (!is_news && reaction == Reaction::Record) {
                    continue;
                }
                is_new = noted == Noted::New;
            }
            sternest = sternest.max(reaction);
            let kind = report.kind();
            // What is new is told now or never, and there is an end of it anyhow.
            if !is_new && !self.meter().may_tell(session.id(), kind, now) {
                continue;
            }
            tracing::warn!(target: "bulla_gateway::runtime", kind, report = %report, "a page reports");
            if !told.contains(&kind) {
                told.push(kind);
                session.notice(kind);
            }
        }
        sternest
    }

    /// Puts a script into the inventory, if the session may add it.
    fn take_stock(
        &self,
        script: Script,
        is_authorised: bool,
        session: &Session,
        now: u64,
    ) -> Noted {
        let mut meter = self.meter();
        let may_be_new = is_authorised || meter.may_add(session.id(), now);
        let noted = self.inventory.note(script, is_authorised, may_be_new);
        if noted == Noted::New && !is_authorised {
            meter.added(session.id());
        }
        noted
    }

    fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The script that a report is about, if it is about one.
fn script(report: &Report, origin: Option<&Origin>, now: u64) -> Option<Script> {
    let Report::Script { url, hash, page } = report else {
        return None;
    };
    let url = url.relative_to(origin);
    Some(Script::reported(url, hash.as_str(), page.as_str(), now))
}

/// What the operator has said of reports like this one. What a policy would have refused, and has not, is nothing but told: the
/// gateway itself tells pages such policies.
fn reaction_to(report: &Report, said: &config::Runtime) -> Reaction {
    match report {
        Report::Transit { .. } => said.transit,
        Report::Integrity { .. } => said.integrity,
        Report::Patched { .. } => said.patched,
        Report::Policy {
            report_only: true, ..
        } => Reaction::Record,
        Report::Policy { .. } => said.policy,
        Report::Script { .. } => said.script,
    }
}

/// Has the browser forget the cookies that are bound to it: the application asks its user to log in again. The verifier gives these
/// lines the attributes of its own. By its status the worker knows that what it has told counts anew: the next login is
/// another one.
fn logged_out(bound_cookies: &[String]) -> Response<Body> {
    let mut response = empty(StatusCode::RESET_CONTENT);
    for name in bound_cookies {
        // A partitioned one is another one of that name.
        for more in ["", "; Secure; Partitioned"] {
            let line = format!("{name}=; Path=/; Max-Age=0; HttpOnly{more}");
            if let Ok(line) = HeaderValue::try_from(line) {
                response.headers_mut().append(SET_COOKIE, line);
            }
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::PREFIX;

    #[test]
    fn what_is_only_reported_by_a_policy_has_no_consequences() {
        let said = config::Runtime {
            policy: Reaction::End,
            ..config::Runtime::default()
        };
        for (report_only, reaction) in [(true, Reaction::Record), (false, Reaction::End)] {
            let report = format!(
                r#"{{"kind":"policy","directive":"script-src","report_only":{report_only}}}"#
            );
            let reports = report::read(report.as_bytes()).unwrap();
            assert_eq!(reaction_to(&reports[0], &said), reaction);
        }
    }

    /// Else the worker would send what is refused.
    #[test]
    fn worker_and_gateway_have_the_same_limits() {
        let script = include_str!("../../page/reports.js");
        for line in [
            format!("export const REPORT = {PATH:?};"),
            format!("export const MOST_REPORTS = {};", report::MOST),
            format!("export const MOST_LEN = {MOST_LEN};"),
            format!(
                "export const RESET = {};",
                StatusCode::RESET_CONTENT.as_u16()
            ),
        ] {
            assert!(script.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn the_path_is_below_the_prefix() {
        let rest = PATH.strip_prefix(PREFIX).unwrap();
        assert!(rest.starts_with('/'));
        assert!(!["/session", "/sealed"].contains(&rest));
    }
}

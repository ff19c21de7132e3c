//! What pages, and the service worker before them, report of themselves.
//!
//! A report is a request like any other: it came with a verified session, so it is about that session and no other. It
//! becomes a security event of the verifier's (`noticed`), and a line of the log with what was reported.

mod meter;
mod report;

use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use bulla_server::{Clock as _, Code, Error, Refused, Session, SystemClock};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};

use self::meter::Meter;
use self::report::Report;

/// Where reports go. It is not one of the protocol's own paths, so the verifier passes on what comes there, and the
/// service worker has to take it although it stands below the protocol's prefix.
pub(crate) const PATH: &str = "/.well-known/bulla/gateway/report";

/// As large is the content of a request at most, in bytes.
const MOST_LEN: usize = 16 * 1024;

/// Takes reports.
#[derive(Debug, Default)]
pub(crate) struct Runtime {
    meter: Mutex<Meter>,
}

impl Runtime {
    /// Answers what has come to a path below the protocol's prefix, and has passed the verifier. None of them are the
    /// application's.
    pub(crate) async fn answer(&self, request: Request<bulla_server::Body>) -> Response<Body> {
        let taken = match (request.uri().path(), request.method()) {
            (PATH, &Method::POST) => self.take(request).await,
            (PATH, _) => return empty(StatusCode::METHOD_NOT_ALLOWED),
            _ => return empty(StatusCode::NOT_FOUND),
        };
        match taken {
            Ok(()) => empty(StatusCode::NO_CONTENT),
            Err(refusal) => Response::from(Refused(refusal)).map(Body::new),
        }
    }

    /// # Errors
    ///
    /// [`Code::ProofMissing`] without a session, [`Code::Malformed`] and [`Code::TooLarge`] for what is no report, and
    /// [`Code::RateLimited`] if this session reports too much.
    async fn take(&self, request: Request<bulla_server::Body>) -> Result<(), Error> {
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
        self.meter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count(session.id(), reports.len(), SystemClock.now())?;
        tell(session, &reports);
        Ok(())
    }
}

/// One event for each kind that was reported, and a line for each report.
fn tell(session: &Session, reports: &[Report]) {
    let mut told = Vec::new();
    for report in reports {
        let kind = report.kind();
        tracing::warn!(target: "bulla_gateway::runtime", kind, report = %report, "a page reports");
        if !told.contains(&kind) {
            told.push(kind);
            session.notice(kind);
        }
    }
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

//! What a client is told if there is no reply.

use axum::body::Body;
use bulla_server::Error as Refusal;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};

use super::TARGET;

/// Why there is no reply from the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Unreachable,
    Broke,
    NoUpstream,
    Timeout,
    /// The client's content, by what the verifier says of it.
    Content(Refusal),
    TooLarge,
    Misdirected,
    BadTarget,
}

impl Failure {
    pub(super) fn parts(self) -> (StatusCode, &'static str) {
        match self {
            Self::Unreachable => (StatusCode::BAD_GATEWAY, "upstream_unreachable"),
            Self::Broke => (StatusCode::BAD_GATEWAY, "upstream_broke"),
            Self::NoUpstream => (StatusCode::SERVICE_UNAVAILABLE, "no_upstream"),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout"),
            Self::Content(refusal) => {
                let status = StatusCode::from_u16(refusal.code.status());
                (
                    status.unwrap_or(StatusCode::BAD_REQUEST),
                    refusal.code.as_str(),
                )
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Misdirected => (StatusCode::MISDIRECTED_REQUEST, "authority_mismatch"),
            Self::BadTarget => (StatusCode::BAD_REQUEST, "target_refused"),
        }
    }

    /// Problem Details (RFC 9457). Where the application is, is nobody's business.
    pub(super) fn response(self, reason: &str) -> Response<Body> {
        let (status, code) = self.parts();
        tracing::warn!(target: TARGET, code, reason, "a request was not answered by the application");
        let title = status.canonical_reason().unwrap_or_default();
        let status_code = status.as_u16();
        let problem = format!(r#"{{"title":"{title}","status":{status_code},"code":"{code}"}}"#);
        let mut response = Response::new(problem.into());
        *response.status_mut() = status;
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        if let Self::Content(refusal) = self {
            // The verifier makes an event of it on the way out.
            response.extensions_mut().insert(refusal);
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            // RFC 9110 section 15.5.9: the rest of the content stands in the way of whatever comes next.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}

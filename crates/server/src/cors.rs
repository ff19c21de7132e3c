//! Pages of other origins (CORS, Fetch standard section 3.3).

use bulla_protocol::target::Origin;
use bulla_protocol::{dpop, field};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};

use crate::body::{self, Body};
use crate::bulla::Bulla;

impl Bulla {
    /// The CORS fields for a page of an allowed origin.
    pub(crate) fn cors_fields(&self, headers: &HeaderMap) -> Option<HeaderMap> {
        let origin = headers.get(header::ORIGIN)?;
        let known = |allowed: &Origin| allowed.as_str().as_bytes() == origin.as_bytes();
        if !self.0.cors.iter().any(known) {
            return None;
        }
        let own = [
            field::NONCE,
            field::WORK,
            field::TICKET,
            field::CARRY_OVER,
            field::ROTATE,
            field::ENDED,
            dpop::NONCE_FIELD,
        ];
        let exposed = own.join(", ")
            + ", content-digest, signature-input, signature, www-authenticate, retry-after";
        let mut fields = HeaderMap::new();
        fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        fields.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        fields.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_str(&exposed).ok()?,
        );
        if let Some(asked) = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD) {
            fields.insert(header::ACCESS_CONTROL_ALLOW_METHODS, asked.clone());
            fields.insert(
                header::ACCESS_CONTROL_MAX_AGE,
                HeaderValue::from_static("600"),
            );
        }
        if let Some(asked) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            fields.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        Some(fields)
    }

    /// Says so on the reply.
    pub(crate) fn add_cors(&self, cors: Option<&HeaderMap>, headers: &mut HeaderMap) {
        if !self.0.cors.is_empty() {
            // On every reply, and beside what the application says: a cache may hand it to any page.
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        for (name, value) in cors.into_iter().flatten() {
            if *name == header::ACCESS_CONTROL_EXPOSE_HEADERS {
                // A list, to which the application may have added its own.
                headers.append(name, value.clone());
            } else {
                headers.insert(name, value.clone());
            }
        }
    }
}

/// The answer to a preflight, which no handler sees.
pub(crate) fn preflighted() -> Response<Body> {
    let mut response = Response::new(body::full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

pub(crate) fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

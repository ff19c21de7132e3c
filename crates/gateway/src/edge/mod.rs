//! Around the verifier: the gateway's own files, a page for the first visit, and silence where a path does not exist for
//! whoever asks.

use axum::body::Body;
use bulla_server::{Code, Error};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};

use crate::access::Rules;
use crate::config::Access;

pub(crate) use self::files::{Files, MANIFEST, PREFIX};

mod files;

/// What a request is, as far as that decides how it is refused.
#[derive(Debug)]
pub(crate) struct Asked {
    uri: Uri,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A page for somebody to look at.
    Page,
    /// The same, by a form.
    Form,
    Other,
}

impl Asked {
    pub(crate) fn by(request: &Request<Body>) -> Self {
        let uri = request.uri().clone();
        let kind = match (is_navigation(request.headers()), request.method()) {
            (true, &Method::GET) => Kind::Page,
            (true, &Method::POST) => Kind::Form,
            _ => Kind::Other,
        };
        Self { uri, kind }
    }

    /// What a refusal of this request becomes: for whoever has no session yet, the page that gets one.
    pub(crate) fn refused(
        &self,
        response: Response<Body>,
        rules: &Rules,
        files: &Files,
    ) -> Response<Body> {
        let refusal = response.extensions().get::<Error>();
        let Some(code) = refusal
            .map(|refusal| refusal.code)
            .filter(|_| is_plain(&response))
        else {
            return response;
        };
        let path = self.uri.path();
        if is_own(path) || is_about_the_server(code) {
            return response;
        }
        match (self.kind, rules.at(path)) {
            (Kind::Page, _) if code == Code::ProofMissing => files.first_visit(),
            (Kind::Page, Access::Concealed) => files.first_visit(),
            (_, Access::Concealed) => nothing(),
            (Kind::Form, _) if code == Code::ProofMissing => files.not_sent(),
            _ => response,
        }
    }
}

/// Whether a path is the protocol's or the gateway's own, and so never the application's.
pub(crate) fn is_own(path: &str) -> bool {
    let rest = path.strip_prefix(PREFIX);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a refusal says something of the server as a whole, or of who is asking, and nothing of the path.
fn is_about_the_server(code: Code) -> bool {
    matches!(
        code,
        Code::AuthorityMismatch
            | Code::Internal
            | Code::RateLimited
            | Code::StoreUnavailable
            | Code::TooSlow
    )
}

/// Whether a refusal goes out as it is, not under a seal.
fn is_plain(response: &Response<Body>) -> bool {
    response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/problem+json")
}

static SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Whether a page is asked for (Fetch Metadata). Browsers say so to secure contexts only; others by what they accept.
pub(crate) fn is_navigation(fields: &HeaderMap) -> bool {
    let field = |name: &HeaderName| fields.get(name).and_then(|value| value.to_str().ok());
    match field(&SEC_FETCH_MODE) {
        Some(mode) => mode == "navigate",
        None => {
            field(&ACCEPT).is_some_and(|kinds| kinds.to_ascii_lowercase().contains("text/html"))
        }
    }
}

/// An answer that is nothing but its status.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

/// What is said of every path that is concealed.
fn nothing() -> Response<Body> {
    let mut response = Response::new(Body::from("Not found\n"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

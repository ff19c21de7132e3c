//! A question, and the request that it is about.

use axum::body::Body;
use bulla_server::{Code, Elsewhere, Error};
use http::header::{CONTENT_LENGTH, COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Request, Uri};
use http_body::Body as _;

use crate::config::Content;
use crate::edge::{PREFIX, is_own};

const METHOD: HeaderName = HeaderName::from_static("x-original-method");
const TARGET: HeaderName = HeaderName::from_static("x-original-uri");

/// The request that a question is about.
pub(super) struct Asked(pub(super) Request<Body>);

/// In which form somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// nginx's `auth_request`: a GET without content, with the fields of the request, and method and target in two more. It
    /// passes on nothing of an answer but 401 and 403.
    Fields,
    /// Envoy's `ext_authz`: the request itself, below the endpoint's path. It passes on whatever is answered.
    Whole,
}

impl Form {
    pub(super) fn of(request: &Request<Body>) -> Self {
        let below = request.uri().path().strip_prefix(PREFIX);
        if below == Some("/decision") {
            Self::Fields
        } else {
            Self::Whole
        }
    }

    /// # Errors
    ///
    /// [`Code::Malformed`] if the proxy does not say what it asks about, [`Code::PathRefused`] for a target that is none, or the
    /// protocol's own, of which there is nothing to be asked.
    pub(super) fn read(self, question: Request<Body>, content: Content) -> Result<Asked, Error> {
        let (mut parts, body) = question.into_parts();
        let body = match self {
            Self::Fields => {
                parts.method = only(&parts.headers, &METHOD)?.parse().map_err(|_| UNSAID)?;
                parts.uri = target(only(&parts.headers, &TARGET)?)?;
                Body::empty()
            }
            Self::Whole => {
                let whole = parts
                    .uri
                    .path_and_query()
                    .map_or("", |whole| whole.as_str());
                let below = whole.strip_prefix(PREFIX);
                let below = below.and_then(|below| below.strip_prefix("/decision"));
                parts.uri = target(below.unwrap_or_default())?;
                body
            }
        };
        if is_own(parts.uri.path()) {
            return Err(OWN);
        }
        // Of the question, not of the request. And cookies pass by whoever asks: none is bound, so none can be told from a
        // stolen one.
        for name in [METHOD, TARGET, CONTENT_LENGTH, TRANSFER_ENCODING, COOKIE] {
            parts.headers.remove(name);
        }
        if body.is_end_stream() {
            parts.extensions.insert(match content {
                Content::Compared => Elsewhere::MustBeEmpty,
                Content::Unchecked => Elsewhere::DangerouslyUnchecked,
            });
        }
        Ok(Asked(Request::from_parts(parts, body)))
    }
}

const UNSAID: Error = Code::Malformed.because("the proxy does not say what it asks about");
const OWN: Error = Code::PathRefused.because("the protocol's own paths are no application's");

/// The value of a field that stands on one line, and on no other.
fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Error> {
    let mut lines = fields.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().map_err(|_| UNSAID),
        _ => Err(UNSAID),
    }
}

/// A target as it came, byte for byte, or none.
fn target(text: &str) -> Result<Uri, Error> {
    const NONE: Error = Code::PathRefused.because("the target is not an absolute path");
    let uri: Uri = text.parse().map_err(|_| NONE)?;
    // A fragment, say, is lost when it is read.
    let is_as_it_came = uri.path_and_query().is_some_and(|read| read == text);
    if is_as_it_came && text.starts_with('/') {
        Ok(uri)
    } else {
        Err(NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(uri: &str, fields: &[(&str, &str)]) -> Result<Request<Body>, Code> {
        let mut question = Request::get(uri);
        for (name, value) in fields {
            question = question.header(*name, *value);
        }
        let question = question.body(Body::empty()).unwrap();
        let asked = Form::of(&question).read(question, Content::Compared);
        asked
            .map(|Asked(request)| request)
            .map_err(|error| error.code)
    }

    #[test]
    fn both_forms_say_which_request_it_is() {
        let fields = [
            ("x-original-method", "PUT"),
            ("x-original-uri", "//a/%61?b=/../c"),
            ("cookie", "a=b"),
            ("x-app", "1"),
        ];
        let asked = ask("/.well-known/bulla/decision", &fields).unwrap();
        assert_eq!(asked.method(), "PUT");
        assert_eq!(asked.uri(), "//a/%61?b=/../c");
        let names: Vec<_> = asked.headers().keys().collect();
        assert_eq!(names, ["x-app"]);
        let elsewhere = asked.extensions().get();
        assert_eq!(elsewhere, Some(&Elsewhere::MustBeEmpty));

        let asked = ask("/.well-known/bulla/decision//a/%61?b=/../c", &[]).unwrap();
        assert_eq!(asked.uri(), "//a/%61?b=/../c");
        assert_eq!(asked.method(), "GET");
    }

    #[test]
    fn what_is_not_said_once_is_not_asked() {
        let method = ("x-original-method", "GET");
        let endpoint = "/.well-known/bulla/decision";
        for fields in [
            &[][..],
            &[method],
            &[("x-original-uri", "/a")],
            &[method, ("x-original-uri", "/a"), ("x-original-uri", "/b")],
            &[method, method, ("x-original-uri", "/a")],
            &[("x-original-method", "G T"), ("x-original-uri", "/a")],
        ] {
            assert_eq!(ask(endpoint, fields).unwrap_err(), Code::Malformed);
        }
        for target in [
            "",
            "a",
            "*",
            "/a#b",
            "http://bank.example/a",
            "/.well-known/bulla",
            "/.well-known/bulla/session",
            "/.well-known/bulla?a",
        ] {
            let fields = [method, ("x-original-uri", target)];
            let refused = ask(endpoint, &fields).unwrap_err();
            assert_eq!(refused, Code::PathRefused, "{target}");
        }
        let own = format!("{endpoint}/.well-known/bulla/session");
        assert_eq!(ask(&own, &[]).unwrap_err(), Code::PathRefused);
    }
}

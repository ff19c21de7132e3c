//! Bound bearer tokens: what the application hands out in JSON leaves sealed for the device that asked for it, and comes
//! back as it was from that device only.
//!
//! How a token is sealed is `bulla-server`'s to say. Here is where tokens are: in replies by the configuration, in requests in
//! `Authorization` (RFC 6750 section 2.1).

mod credentials;
mod member;
mod reply;

use std::sync::Arc;

use axum::body::Body;
use bulla_protocol::target::plain;
use bulla_server::{Code, Error, Refused, Session, is_bound_token};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, Request};
use zeroize::Zeroizing;

use self::credentials::Credentials;
pub use self::member::Member;
pub(crate) use self::reply::Binding;
use crate::access::is_under;
use crate::config::{Config, Mode, TokenRule, Unbound};
use crate::site::Site;

const UNPROVEN: Error = Code::ProofMissing
    .because("the bearer token is bound to a device, and nothing proves which this is");
const UNBOUND: Error = Code::LoginRequired.because("the bearer token is bound to no device");
const UNCLEAR: Error =
    Code::FieldRefused.because("the Authorization field is not one bearer token and nothing else");

/// What is done about bearer tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens<'a>(pub(crate) &'a Config);

impl Tokens<'_> {
    /// Puts the application's own token in the place of a bound one. `is_public` says whether anybody may ask for the path.
    ///
    /// # Errors
    ///
    /// The refusal of a token that is bound to another device, or to none where one is wanted.
    pub(crate) fn open(self, request: &mut Request<Body>, is_public: bool) -> Result<(), Refused> {
        if self.0.tokens.is_empty() {
            return Ok(());
        }
        let Err(refusal) = self.opened(request, is_public) else {
            return Ok(());
        };
        if self.0.mode == Mode::Enforce && !self.members(request.uri().path()).is_empty() {
            // Whoever asks for a new token may still have an old one, and must not be stuck with it.
            request.headers_mut().remove(AUTHORIZATION);
            return Ok(());
        }
        Refused::unless_monitored(refusal, request.extensions())
    }

    fn opened(self, request: &mut Request<Body>, is_public: bool) -> Result<(), Error> {
        let Some(session) = request.extensions().get::<Session>() else {
            let is_bound = has_bound(request.headers());
            return if is_bound { Err(UNPROVEN) } else { Ok(()) };
        };
        let token = match Credentials::of(request.headers()) {
            Credentials::Other => return Ok(()),
            Credentials::Unclear => return Err(UNCLEAR),
            Credentials::Bearer(token) => token,
        };
        let Some(site) = request.extensions().get::<Arc<Site>>() else {
            return Err(UNPROVEN);
        };
        let Some(token) = session.open_token(&site.origin, token)? else {
            let passes = is_public || self.0.unbound_tokens == Unbound::Pass;
            return if passes { Ok(()) } else { Err(UNBOUND) };
        };
        let value = Zeroizing::new(["Bearer ", &token].concat());
        let mut value = HeaderValue::from_str(&value).map_err(|_| UNCLEAR)?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        Ok(())
    }

    /// What has to be bound in the reply to a request, if anything has. The reply has to come whole and plain for that,
    /// so the request is made to ask for such a one.
    pub(crate) fn due(self, request: &mut Request<Body>) -> Option<Binding> {
        let members = self.members(request.uri().path());
        if members.is_empty() || self.0.mode == Mode::Monitor || request.method() == Method::HEAD {
            return None;
        }
        for name in [
            ACCEPT_ENCODING,
            RANGE,
            IF_RANGE,
            IF_NONE_MATCH,
            IF_MODIFIED_SINCE,
        ] {
            request.headers_mut().remove(name);
        }
        let site = request.extensions().get::<Arc<Site>>();
        let session = request.extensions().get::<Session>();
        Some(Binding {
            members,
            holder: session.cloned().zip(site.map(|site| site.origin.clone())),
        })
    }

    /// Where tokens are in what is answered at a path, each place once.
    fn members(self, path: &str) -> Vec<Member> {
        let mut members: Vec<Member> = Vec::new();
        for TokenRule { path: rule, member } in &self.0.tokens {
            if is_under(&read(path), &read(rule)) && !members.contains(member) {
                members.push(member.clone());
            }
        }
        members
    }
}

/// A path as a lenient application may read it. Many take no notice of case.
fn read(path: &str) -> String {
    plain(path).to_ascii_lowercase()
}

/// Whether there is a bound token in any field of credentials, in whatever form.
fn has_bound(fields: &HeaderMap) -> bool {
    let lines = fields.get_all(AUTHORIZATION).iter();
    lines.flat_map(credentials::words).any(is_bound_token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TokenRule;

    fn config(rules: &[(&str, &str)]) -> Config {
        let mut config = Config::for_upstream("http://127.0.0.1:8000".parse().unwrap());
        config.tokens = rules
            .iter()
            .map(|&(path, member)| TokenRule {
                path: path.to_owned(),
                member: member.parse().unwrap(),
            })
            .collect();
        config
    }

    #[test]
    fn rules_are_for_what_an_application_may_read_as_their_paths() {
        let config = config(&[
            ("/api/login", "token"),
            ("/api/", "/token"),
            ("/api/", "id"),
        ]);
        for (path, count) in [
            ("/api/login", 2),
            ("/API//login;x", 2),
            ("/%61pi/login/", 2),
            ("/api/logins", 2),
            ("/api/x", 2),
            ("/api", 0),
            ("/apis", 0),
            ("/", 0),
        ] {
            assert_eq!(Tokens(&config).members(path).len(), count, "{path}");
        }
    }

    #[test]
    fn replies_are_asked_for_whole_and_plain_where_something_is_to_be_bound() {
        let request = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path);
            let request = request.header(ACCEPT_ENCODING, "br");
            request
                .header(RANGE, "bytes=0-")
                .body(Body::empty())
                .unwrap()
        };
        let mut config = config(&[("/login", "token")]);
        let tokens = Tokens(&config);
        let mut due = request(Method::POST, "/login");
        assert!(tokens.due(&mut due).is_some());
        assert!(due.headers().is_empty());
        for (method, path) in [(Method::POST, "/other"), (Method::HEAD, "/login")] {
            let mut other = request(method, path);
            assert!(tokens.due(&mut other).is_none());
            assert_eq!(other.headers().len(), 2);
        }
        config.mode = Mode::Monitor;
        let mut monitored = request(Method::POST, "/login");
        assert!(Tokens(&config).due(&mut monitored).is_none());
    }

    #[test]
    fn a_bound_token_is_found_without_a_session_in_whatever_form() {
        let config = config(&[("/login", "token")]);
        for line in [
            "Bearer bulla-t1AAAA",
            "bearer  a.b.bulla-t1AAAA",
            "Token bulla-t1AAAA",
            "bulla-t1AAAA",
            "Basic x, Bearer bulla-t1AAAA",
            "Bearer token=\"bulla-t1AAAA\"",
        ] {
            let mut request = Request::get("/public").body(Body::empty()).unwrap();
            let headers = request.headers_mut();
            headers.append(AUTHORIZATION, HeaderValue::from_static("Basic x"));
            headers.append(AUTHORIZATION, HeaderValue::from_static(line));
            let refused = Tokens(&config).open(&mut request, true);
            assert_eq!(refused, Err(Refused(UNPROVEN)), "{line}");
        }
        let mut request = Request::get("/public").body(Body::empty()).unwrap();
        let raw = HeaderValue::from_static("Bearer 9f2c");
        request.headers_mut().insert(AUTHORIZATION, raw);
        let refused = Tokens(&config).open(&mut request, true);
        assert_eq!(refused, Ok(()));
    }
}

//! A reply with a token in it.

use axum::body::Body;
use bulla_protocol::target::Origin;
use bulla_server::{Code, Error, Refused, Session};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};
use zeroize::Zeroizing;

use super::member::{Member, NotJson};
use crate::media;
use crate::rewritten;

/// How long such a reply may be, in bytes.
const MOST: usize = 256 * 1024;

const REFUSED: Error = Code::Internal.because("a bearer token in the reply could not be bound");

/// What is to be bound in a reply, and for whom.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(super) members: Vec<Member>,
    /// Who asked; nobody if nothing proves who it was.
    pub(super) holder: Option<(Session, Origin)>,
}

/// Why a reply goes to nobody. What could be a token must not go out as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Unbindable {
    #[error("it is a part only")]
    Part,
    #[error("it is compressed, which was not asked for")]
    Compressed,
    #[error("it is longer than 256 KiB, or broke off")]
    TooLong,
    #[error("it is no JSON, or has a name twice")]
    NotJson,
    #[error("what is there is no string")]
    NoString,
    #[error("the request came without a session")]
    NoHolder,
    #[error("{0}")]
    Seal(Error),
}

impl From<NotJson> for Unbindable {
    fn from(NotJson: NotJson) -> Self {
        Self::NotJson
    }
}

impl Binding {
    /// The reply, with its tokens bound; a refusal if that cannot be done. What is no JSON passes.
    pub(crate) async fn bind(self, response: Response<Body>) -> Response<Body> {
        if !is_json(response.headers()) || response.body().is_end_stream() {
            return response;
        }
        match self.bound(response).await {
            Ok(response) => response,
            Err(why) => {
                tracing::error!(
                    target: "bulla_gateway::tokens",
                    %why,
                    "a reply that may have a token in it was held back"
                );
                Response::from(Refused(REFUSED)).map(Body::new)
            }
        }
    }

    async fn bound(self, response: Response<Body>) -> Result<Response<Body>, Unbindable> {
        if response.status() == StatusCode::PARTIAL_CONTENT {
            return Err(Unbindable::Part);
        }
        let coding = response.headers().get(CONTENT_ENCODING);
        if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Unbindable::Compressed);
        }
        let (mut parts, body) = response.into_parts();
        let content = Limited::new(body, MOST).collect().await;
        let content = content.map_err(|_| Unbindable::TooLong)?.to_bytes();
        if content.is_empty() {
            return Ok(Response::from_parts(parts, Body::empty()));
        }
        let text = std::str::from_utf8(&content).map_err(|_| Unbindable::NotJson)?;
        let Some(text) = self.edited(text)? else {
            return Ok(Response::from_parts(parts, content.into()));
        };
        rewritten::take_off(&mut parts.headers);
        Ok(Response::from_parts(parts, text.into()))
    }

    /// A text in which what is to be bound is; `None` if there is nothing.
    fn edited(&self, text: &str) -> Result<Option<String>, Unbindable> {
        self.edit(text, |token| {
            let (session, origin) = self.holder.as_ref().ok_or(Unbindable::NoHolder)?;
            session.bind_token(origin, token).map_err(Unbindable::Seal)
        })
    }

    fn edit(
        &self,
        text: &str,
        bind: impl Fn(&str) -> Result<Zeroizing<String>, Unbindable>,
    ) -> Result<Option<String>, Unbindable> {
        let mut edited: Option<String> = None;
        for member in &self.members {
            let text = edited.as_deref().unwrap_or(text);
            let Some(at) = member.find(text)? else {
                continue;
            };
            let value = text.get(at.clone()).unwrap_or_default();
            if value == "null" {
                continue;
            }
            let token: Zeroizing<String> =
                Zeroizing::new(serde_json::from_str(value).map_err(|_| Unbindable::NoString)?);
            if token.is_empty() {
                continue;
            }
            let bound = bind(&token)?;
            // It is of characters that need no escape.
            let (before, after) = (text.get(..at.start), text.get(at.end..));
            let parts = [
                before.unwrap_or_default(),
                "\"",
                &bound,
                "\"",
                after.unwrap_or_default(),
            ];
            edited = Some(parts.concat());
        }
        Ok(edited)
    }
}

/// Whether pages may read it as JSON: `application/json`, what ends so (RFC 6839 section 3.1), and what says nothing of itself.
fn is_json(fields: &HeaderMap) -> bool {
    !fields.contains_key(CONTENT_TYPE) || media::essence(fields).ends_with("json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(members: &[&str]) -> Binding {
        Binding {
            members: members
                .iter()
                .map(|member| member.parse().unwrap())
                .collect(),
            holder: None,
        }
    }

    fn edited(members: &[&str], text: &str) -> Result<Option<String>, Unbindable> {
        let bind = |token: &str| Ok(Zeroizing::new(token.to_uppercase()));
        binding(members).edit(text, bind)
    }

    #[test]
    fn nothing_but_the_token_changes() {
        let text = " {\"b\":1.10,\r\n \"big\":123456789012345678901234567890, \"token\" : \"\\u0061bc\",\"a\":{\"b\":\"\\/\"},\"id\":[\"x\"]}\n";
        let both = text.replace("\"\\u0061bc\"", "\"ABC\"");
        assert_eq!(edited(&["token"], text), Ok(Some(both.clone())));
        let both = both.replace("\"x\"", "\"X\"");
        assert_eq!(edited(&["token", "/id/0"], text), Ok(Some(both)));
        assert_eq!(edited(&["no", "/a/c"], text), Ok(None));
    }

    #[test]
    fn what_is_no_string_is_held_back_unless_it_is_nothing() {
        for nothing in ["{\"token\":null}", "{\"token\":\"\"}", "[]"] {
            assert_eq!(edited(&["token"], nothing), Ok(None), "{nothing}");
        }
        for wrong in ["1", "true", "[\"a\"]", "{\"a\":\"b\"}", "\"\\ud800\""] {
            let text = format!("{{\"token\":{wrong}}}");
            assert_eq!(
                edited(&["token"], &text),
                Err(Unbindable::NoString),
                "{wrong}"
            );
        }
        assert_eq!(edited(&["token"], "{\"token\":"), Err(Unbindable::NotJson));
    }

    async fn bound(kind: &str, status: u16, coding: &str, content: Vec<u8>) -> Response<Body> {
        let mut response = Response::builder().status(status);
        for (name, value) in [("content-type", kind), ("content-encoding", coding)] {
            if !value.is_empty() {
                response = response.header(name, value);
            }
        }
        let response = response.body(Body::from(content)).unwrap();
        binding(&["token"]).bind(response).await
    }

    #[tokio::test]
    async fn what_could_be_a_token_never_goes_out_as_it_is() {
        let token = b"{\"token\":\"t\"}".to_vec();
        let long = [
            b"{\"token\":\"t\",\"x\":\"".as_slice(),
            &vec![b'x'; MOST],
            b"\"}",
        ]
        .concat();
        let latin = b"{\"token\":\"t\",\"x\":\"\xe9\"}".to_vec();
        for (kind, status, coding, content) in [
            // Nobody is there to bind it for.
            ("application/json", 200, "", &token),
            ("Application/JSON ; charset=utf-8", 400, "identity", &token),
            ("application/vnd.example+json", 200, "", &token),
            ("text/json", 200, "", &token),
            ("", 200, "", &token),
            ("application/json", 206, "", &token),
            ("application/json", 200, "gzip", &token),
            ("application/json", 200, "", &long),
            ("application/json", 200, "", &latin),
        ] {
            let response = bound(kind, status, coding, content.clone()).await;
            assert_eq!(response.status(), 500, "{kind} {status} {coding}");
            assert_eq!(response.extensions().get(), Some(&REFUSED));
        }
        for (kind, status, content) in [
            ("text/html", 200, &token),
            ("application/json", 204, &Vec::new()),
            ("application/json", 401, &b"{ \"error\": \"no\" }".to_vec()),
        ] {
            let response = bound(kind, status, "", content.clone()).await;
            assert_eq!(response.status().as_u16(), status);
            let passed = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(passed, content);
        }
    }
}

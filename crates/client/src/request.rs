//! A request as the application made it, and how it leaves: signed, and sealed.

use core::fmt;

use bulla_keys::body::Sealing;
use bulla_keys::ece;
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::error::Code;
use bulla_protocol::field;
use bulla_protocol::limits::{BULK_RECORD_SIZE, STREAM_RECORD_SIZE};
use bulla_protocol::message::{self, Control, Head};
use bulla_protocol::opening::sealed_path;
use bulla_protocol::proof::{Binding, ProofKind, ProofNonce, prove};
use bulla_protocol::seal::Header;
use bulla_protocol::signature;
use bulla_protocol::structured;
use bulla_protocol::target::{Origin, Target, check_method};
use bytes::Bytes;
use http::{Method, Request, Response, request};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};

use crate::client;
use crate::error::Error;
use crate::live::Live;
use crate::reply::{Answer, ReplyReader};
use crate::transport::{Outbound, Upload};

/// How a request leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sealed, method, path and fields too.
    Sealed,
    /// Sealed, but sent to its own path.
    SealedAtPath,
    /// Signed only: readable on the way, and the reply authenticated by nothing but TLS.
    Signed,
}

/// A request as it leaves. Made by [`Session::prepare`](crate::Session::prepare).
pub struct Prepared {
    /// The request, with an absolute URI.
    pub request: Request<Bytes>,
    /// The proof's nonce, which a sealed reply must name.
    pub nonce: ProofNonce,
    pub(crate) reply: ReplyReader,
}

impl Prepared {
    /// Opens and checks a reply. What comes out still has the fields that the server meant for the
    /// client.
    ///
    /// # Errors
    ///
    /// The server's refusal, sealed or, before it could unseal, plain. Otherwise what is wrong with
    /// the reply: [`Code::ReplyUnsealed`], [`Code::ReplyMismatch`], [`Code::ReplyTruncated`],
    /// [`Code::ReplyBroken`], [`Code::ReplyInvalid`].
    pub async fn open_reply(&self, response: Response<Bytes>) -> Result<Response<Bytes>, Error> {
        let response = response.map(|body| Full::new(body).map_err(|never| match never {}).boxed());
        match self.reply.read(response).await? {
            Answer::Reply(response, _) => {
                let (parts, body) = response.into_parts();
                Ok(Response::from_parts(parts, body.bytes().await?))
            }
            Answer::Refused { refusal, .. } => Err(refusal.into()),
        }
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("uri", self.request.uri())
            .finish_non_exhaustive()
    }
}

/// A request that may be sent: same origin, no field that the server would refuse.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    /// Path and query as they are signed and sent.
    target: String,
    /// The application's fields.
    fields: Vec<(String, String)>,
}

/// What a request carries.
pub(crate) enum Content {
    Whole(Bytes),
    /// Made anew each time that the request is sent.
    Stream(Box<dyn Fn() -> Upload + Send + Sync>),
}

/// A request that waits to be sent, and how to read the reply.
pub(crate) struct Ready {
    pub(crate) request: Request<Outbound>,
    pub(crate) reply: ReplyReader,
}

impl Outgoing {
    pub(crate) fn new(parts: &request::Parts, origin: &Origin) -> Result<Self, Error> {
        check_method(parts.method.as_str()).map_err(Error::request)?;
        let target = target_of(&parts.uri, origin)?;
        let mut fields: Vec<(String, String)> = Vec::with_capacity(parts.headers.len());
        for (name, value) in &parts.headers {
            let name = name.as_str();
            let value = field::of_application(name, value.as_bytes()).map_err(Error::request)?;
            if fields.iter().any(|(known, _)| known == name) {
                return Err(Code::RequestInvalid
                    .because("a header field stands on more than one line")
                    .into());
            }
            fields.push((name.to_owned(), value.to_owned()));
        }
        Ok(Self {
            method: parts.method.clone(),
            target,
            fields,
        })
    }

    /// Signs it, and seals it: with its content as a stream, whatever `client` says of other requests.
    pub(crate) fn ready(
        &self,
        client: &client::Inner,
        live: &Live,
        kind: ProofKind,
        nonce: ProofNonce,
        content: &Content,
    ) -> Result<Ready, Error> {
        let make = match content {
            Content::Whole(body) => {
                let prepared = self.prepare(client, live, client.mode, kind, nonce, body)?;
                return Ok(Ready {
                    request: prepared.request.map(Outbound::Whole),
                    reply: prepared.reply,
                });
            }
            Content::Stream(make) => make,
        };
        let body = make();
        let mut salt = [0; 16];
        client.random.fill(&mut salt)?;
        let header = Header {
            salt,
            record_size: match body.size_hint().exact() {
                Some(_) => BULK_RECORD_SIZE,
                None => STREAM_RECORD_SIZE,
            },
            keyid: live.ticket().as_bytes().to_vec(),
        };
        let mut fields = self.sign(client, live, kind, &nonce, Bound::Salt(salt))?;
        // The verifier takes the ticket and the salt from the envelope.
        fields.retain(|(name, _)| name != field::TICKET && name != field::SALT);
        let head = self.head(client, fields);
        let sealing =
            Sealing::new(&live.request_key, &header, head, body).map_err(Error::request)?;
        let path = match client.mode {
            Mode::SealedAtPath => self.path().to_owned(),
            _ => sealed_path(&client.prefix),
        };
        let request = http_request(
            "POST",
            &client.origin,
            &path,
            &envelope_fields(),
            Outbound::Stream(sealing.boxed()),
        )?;
        let is_head = self.method == Method::HEAD;
        Ok(Ready {
            request,
            reply: ReplyReader::sealed(live.response_key.clone(), nonce.to_param(), is_head),
        })
    }

    /// Signs it, and seals it if that is wanted.
    pub(crate) fn prepare(
        &self,
        client: &client::Inner,
        live: &Live,
        mode: Mode,
        kind: ProofKind,
        nonce: ProofNonce,
        body: &Bytes,
    ) -> Result<Prepared, Error> {
        let mut fields = self.sign(client, live, kind, &nonce, Bound::Content(body))?;
        let is_head = self.method == Method::HEAD;
        if mode == Mode::Signed {
            let request = http_request(
                self.method.as_str(),
                &client.origin,
                &self.target,
                &fields,
                body.clone(),
            )?;
            return Ok(Prepared {
                request,
                nonce,
                reply: ReplyReader::plain(is_head),
            });
        }
        // The verifier takes the ticket from the envelope.
        fields.retain(|(name, _)| name != field::TICKET);
        let inner = message::whole(self.head(client, fields), body).map_err(Error::request)?;
        let outer_path = match mode {
            Mode::SealedAtPath => self.path().to_owned(),
            _ => sealed_path(&client.prefix),
        };
        Ok(Prepared {
            request: seal(client, live, &outer_path, &inner)?,
            reply: ReplyReader::sealed(live.response_key.clone(), nonce.to_param(), is_head),
            nonce,
        })
    }

    /// All its fields, the proof among them.
    fn sign(
        &self,
        client: &client::Inner,
        live: &Live,
        kind: ProofKind,
        nonce: &ProofNonce,
        bound: Bound<'_>,
    ) -> Result<Vec<(String, String)>, Error> {
        let (binding, name, value) = match bound {
            Bound::Content(body) => {
                let digest = ContentDigest::of(body).to_field();
                (Binding::Digest, field::CONTENT_DIGEST, digest)
            }
            Bound::Salt(salt) => (Binding::Salt, field::SALT, structured::from_bytes(&salt)),
        };
        let mut fields = self.fields.clone();
        fields.push((name.to_owned(), value));
        fields.push((field::TICKET.to_owned(), live.ticket().to_field()));
        let target = Target::parse(&self.target).map_err(Error::request)?;
        let to_sign = prove(
            kind,
            live.id,
            &signature::Request {
                method: self.method.as_str(),
                authority: client.origin.authority(),
                path: target.path,
                query: target.query,
                fields: &fields,
            },
            self.fields.iter().map(|(name, _)| name.as_str()),
            binding,
            nonce,
            client.clock.unix_seconds(),
        )
        .map_err(Error::request)?;
        let base = to_sign.base.as_bytes();
        let signed = match kind {
            ProofKind::Device => to_sign.fields(&client.device.sign(base)?),
            ProofKind::Session => to_sign.fields(&live.mac.sign(base)),
        };
        fields.extend(signed.map(|(name, value)| (name.to_owned(), value)));
        Ok(fields)
    }

    fn head(&self, client: &client::Inner, fields: Vec<(String, String)>) -> Head {
        Head {
            control: Control::Request {
                method: self.method.as_str().to_owned(),
                scheme: client.origin.scheme().to_owned(),
                authority: client.origin.authority().to_owned(),
                target: self.target.clone(),
            },
            fields,
        }
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// What the proof binds the content by.
#[derive(Clone, Copy)]
enum Bound<'a> {
    Content(&'a [u8]),
    Salt([u8; 16]),
}

fn envelope_fields() -> [(String, String); 2] {
    [
        ("content-type", field::BHTTP),
        ("content-encoding", field::AES128GCM),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// Seals any inner text under the session's request key and ticket.
pub(crate) fn seal(
    client: &client::Inner,
    live: &Live,
    path: &str,
    inner: &[u8],
) -> Result<Request<Bytes>, Error> {
    let mut salt = [0; 16];
    client.random.fill(&mut salt)?;
    let header = Header {
        salt,
        record_size: BULK_RECORD_SIZE,
        keyid: live.ticket().as_bytes().to_vec(),
    };
    let sealed = ece::seal_whole(&live.request_key, &header, inner).map_err(Error::request)?;
    http_request(
        "POST",
        &client.origin,
        path,
        &envelope_fields(),
        sealed.into(),
    )
}

/// A request with an absolute URI.
pub(crate) fn http_request<B>(
    method: &str,
    origin: &Origin,
    target: &str,
    fields: &[(String, String)],
    body: B,
) -> Result<Request<B>, Error> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{origin}{target}"));
    for (name, value) in fields {
        request = request.header(name, value);
    }
    request.body(body).map_err(|_| {
        Code::RequestInvalid
            .because("the request cannot be written as HTTP")
            .into()
    })
}

/// Path and query, as the HTTP client will send them.
fn target_of(uri: &http::Uri, origin: &Origin) -> Result<String, Error> {
    const ELSEWHERE: bulla_protocol::error::Error =
        Code::RequestInvalid.because("a session reaches its own server's origin only");
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => {}
        (Some(scheme), Some(authority))
            if scheme == origin.scheme() && origin.has_authority(authority.as_str()) => {}
        _ => return Err(ELSEWHERE.into()),
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    Target::parse(target).map_err(Error::request)?;
    // What is signed must be what is sent, and URLs are written anew on the way out.
    let url = reqwest::Url::parse(&format!("{origin}{target}")).map_err(|_| ELSEWHERE)?;
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    Target::parse(&target).map_err(Error::request)?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(request: http::request::Builder) -> Result<Outgoing, Error> {
        let origin = Origin::parse("https://bank.example").unwrap();
        Outgoing::new(&request.body(()).unwrap().into_parts().0, &origin)
    }

    #[test]
    fn only_the_own_origin_is_reached() {
        for (uri, target) in [
            ("/a?b=c", "/a?b=c"),
            ("https://bank.example/a", "/a"),
            ("https://BANK.example:443/?", "/?"),
            ("https://bank.example", "/"),
            ("/a?q='x'", "/a?q=%27x%27"),
        ] {
            let found = outgoing(Request::get(uri)).ok().map(|out| out.target);
            assert_eq!(found.as_deref(), Some(target), "{uri}");
        }
        for uri in [
            "http://bank.example/a",
            "https://evil.example/a",
            "https://bank.example:8443/a",
            "/a/../b",
            "/a%2fb",
        ] {
            let error = outgoing(Request::get(uri)).err().unwrap();
            assert_eq!(error.code, Code::RequestInvalid, "{uri}");
        }
    }

    #[test]
    fn fields_that_cannot_travel_are_refused_at_once() {
        let with = |name, value| outgoing(Request::get("/").header(name, value));
        assert!(with("x-app", "1").is_ok());
        for (name, value) in [
            ("bulla-ticket", ":AA==:"),
            ("signature", "a=:AA==:"),
            ("content-digest", "sha-256=:AA==:"),
            ("cookie", "a=b"),
            ("host", "bank.example"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-app", "caf\u{e9}"),
        ] {
            let error = with(name, value).err().unwrap();
            assert_eq!(error.code, Code::RequestInvalid, "{name}");
        }
        let twice = Request::get("/").header("x-app", "1").header("x-app", "2");
        assert!(outgoing(twice).is_err());
        assert!(outgoing(Request::builder().method("TRACE").uri("/")).is_err());
    }
}

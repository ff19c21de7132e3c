//! A request as the application made it, and how it leaves: signed, and sealed.

use core::fmt;

use bulla_keys::body::Sealing;
use bulla_keys::ece;
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::error::Code;
use bulla_protocol::field;
use bulla_protocol::limits::{BULK_RECORD_SIZE, STREAM_RECORD_SIZE};
use bulla_protocol::message;
use bulla_protocol::opening::sealed_path;
use bulla_protocol::proof::{ProofKind, ProofNonce};
use bulla_protocol::request::{self as rules, Bound, Proof};
use bulla_protocol::seal::Header;
use bulla_protocol::target::{Origin, Target};
use bytes::Bytes;
use http::{Request, Response, request};
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
pub(crate) struct Outgoing(rules::Outgoing);

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
        let method = parts.method.as_str().to_owned();
        let target = target_of(&parts.uri, origin)?;
        if parts.headers.len() > parts.headers.keys_len() {
            return Err(Code::RequestInvalid
                .because("a header field stands on more than one line")
                .into());
        }
        let fields = parts.headers.iter().map(|(name, value)| {
            let value = field::check_value(value.as_bytes())?;
            Ok((name.as_str().to_owned(), value.to_owned()))
        });
        let fields = fields.collect::<Result<_, _>>().map_err(Error::request)?;
        rules::Outgoing::new(origin.clone(), method, target, fields)
            .map(Self)
            .map_err(Error::request)
    }

    pub(crate) fn is_safe(&self) -> bool {
        self.0.is_safe()
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
        let (proof, signature) = self.sign(client, live, kind, &nonce, Bound::Salt(salt))?;
        let head = proof.sealed(&self.0, &signature);
        let sealing =
            Sealing::new(&live.request_key, &header, head, body).map_err(Error::request)?;
        let request = http_request(
            "POST",
            &client.origin,
            &sealed_path(&client.prefix),
            &envelope_fields(),
            Outbound::Stream(sealing.boxed()),
        )?;
        Ok(Ready {
            request,
            reply: self.sealed_reply(live, &nonce),
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
        let (proof, signature) = self.sign(
            client,
            live,
            kind,
            &nonce,
            Bound::Digest(ContentDigest::of(body)),
        )?;
        let outer_path = match mode {
            Mode::Signed => {
                let (method, target) = (self.0.method(), self.0.target());
                let fields = proof.signed(&signature);
                return Ok(Prepared {
                    request: http_request(method, &client.origin, target, &fields, body.clone())?,
                    nonce,
                    reply: ReplyReader::plain(self.is_head()),
                });
            }
            Mode::Sealed => sealed_path(&client.prefix),
            Mode::SealedAtPath => self.0.path().to_owned(),
        };
        let head = proof.sealed(&self.0, &signature);
        let inner = message::whole(head, body).map_err(Error::request)?;
        Ok(Prepared {
            request: seal(client, live, &outer_path, &inner)?,
            reply: self.sealed_reply(live, &nonce),
            nonce,
        })
    }

    /// The proof and its signature.
    fn sign(
        &self,
        client: &client::Inner,
        live: &Live,
        kind: ProofKind,
        nonce: &ProofNonce,
        content: Bound,
    ) -> Result<(Proof, Vec<u8>), Error> {
        let created = client.clock.unix_seconds();
        let proof = self
            .0
            .prove(kind, live.id, &live.ticket(), nonce, content, created)
            .map_err(Error::request)?;
        let signature = match kind {
            ProofKind::Device => client.device.sign(proof.base())?.to_vec(),
            ProofKind::Session => live.mac.sign(proof.base()).to_vec(),
        };
        Ok((proof, signature))
    }

    fn sealed_reply(&self, live: &Live, nonce: &ProofNonce) -> ReplyReader {
        ReplyReader::sealed(live.response_key.clone(), nonce.to_param(), self.is_head())
    }

    fn is_head(&self) -> bool {
        self.0.method() == "HEAD"
    }
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
            let found = outgoing(Request::get(uri)).unwrap();
            assert_eq!(found.0.target(), target, "{uri}");
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

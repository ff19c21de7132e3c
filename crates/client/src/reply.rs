//! A reply: what it may be, and opening it as it comes.

use bulla_keys::ece::MessageKey;
use bulla_protocol::error::Error as Refusal;
use bulla_protocol::field::{self, Fields};
use bulla_protocol::limits::MAX_PROBLEM_LEN;
use bulla_protocol::reply::{self, BROKEN, Handout, INVALID, Part, UNSEALED};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use zeroize::Zeroizing;

use crate::body::Body;
use crate::error::Error;
use crate::transport::Incoming;

/// What a reply to one request must be, and how to read it.
#[derive(Clone)]
pub(crate) struct ReplyReader {
    seal: Option<Seal>,
    /// The request was a HEAD request.
    is_head: bool,
}

#[derive(Clone)]
struct Seal {
    key: Zeroizing<[u8; 32]>,
    /// The `nonce` parameter of the request.
    nonce: String,
}

/// A reply that has been checked as far as it has come.
pub(crate) enum Answer {
    Reply(Response<Body>, Handout),
    Refused {
        refusal: Refusal,
        handout: Handout,
        /// It came sealed.
        sealed: bool,
    },
}

impl ReplyReader {
    /// For a request that was signed only.
    pub(crate) fn plain(is_head: bool) -> Self {
        Self {
            seal: None,
            is_head,
        }
    }

    pub(crate) fn sealed(key: Zeroizing<[u8; 32]>, nonce: String, is_head: bool) -> Self {
        Self {
            seal: Some(Seal { key, nonce }),
            is_head,
        }
    }

    /// Reads the head of a reply, and the whole reply if it is a refusal.
    pub(crate) async fn read(&self, response: Response<Incoming>) -> Result<Answer, Error> {
        let mut response = match &self.seal {
            None => response.map(Body::plain),
            Some(seal) if is_sealed(&response) => seal.open(response).await?,
            Some(_) => return read_unsealed(response).await,
        };
        let status = response.status().as_u16();
        let handout = Handout::read(&Headers(response.headers()))?;
        if reply::is_problem(status, &Headers(response.headers())) {
            let content = response.body_mut().peek(MAX_PROBLEM_LEN).await?;
            let content = content.unwrap_or_default();
            if let Some(refusal) = reply::refusal(status, &Headers(response.headers()), &content) {
                return Ok(Answer::Refused {
                    refusal,
                    handout,
                    sealed: self.seal.is_some(),
                });
            }
        }
        if self.seal.is_some() && (self.is_head || has_no_content(response.status())) {
            // The final record must be there all the same.
            let body = core::mem::take(response.body_mut());
            body.bytes().await?;
        }
        Ok(Answer::Reply(response, handout))
    }
}

impl Seal {
    async fn open(&self, response: Response<Incoming>) -> Result<Response<Body>, Error> {
        let unsealer = Unsealer::new(self.key.clone());
        let (status, fields, body) = Body::sealed(response.into_body(), unsealer).await?;
        let (status, headers) = inner_head(status, &fields).ok_or(INVALID)?;
        reply::check_in_reply_to(&Headers(&headers), &self.nonce)?;
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// Opens a sealed reply: cipher text in, parts of the inner message out.
pub(crate) struct Unsealer {
    ikm: Zeroizing<[u8; 32]>,
    key: Option<MessageKey>,
    reply: reply::Unsealer,
}

impl Unsealer {
    pub(crate) fn new(ikm: Zeroizing<[u8; 32]>) -> Self {
        Self {
            ikm,
            key: None,
            reply: reply::Unsealer::new(),
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Part>, Refusal> {
        self.reply.push(bytes)?;
        self.open()
    }

    /// The cipher text is at its end. What comes out are the last parts; nothing is missing then.
    pub(crate) fn finish(&mut self) -> Result<Vec<Part>, Refusal> {
        self.reply.end()?;
        let events = self.open()?;
        self.reply.finish()?;
        Ok(events)
    }

    fn open(&mut self) -> Result<Vec<Part>, Refusal> {
        let Some(salt) = self.reply.salt() else {
            return Ok(Vec::new());
        };
        let key = &*self
            .key
            .get_or_insert_with(|| MessageKey::derive(&self.ikm, salt));
        let mut events = Vec::new();
        while let Some(record) = self.reply.record() {
            events.extend(self.reply.opened(key.open(record).map_err(|_| BROKEN)?)?);
        }
        Ok(events)
    }
}

/// A reply to a sealed request that is not sealed can only be a refusal.
async fn read_unsealed(response: Response<Incoming>) -> Result<Answer, Error> {
    let (parts, body) = response.into_parts();
    let (status, fields) = (parts.status.as_u16(), Headers(&parts.headers));
    if !reply::is_problem(status, &fields) {
        return Err(UNSEALED.into());
    }
    let content = Body::plain(body).peek(MAX_PROBLEM_LEN).await?;
    let refusal = reply::refusal(status, &fields, &content.unwrap_or_default());
    Ok(Answer::Refused {
        refusal: refusal.ok_or(UNSEALED)?,
        handout: Handout::read_unsealed(&fields)?,
        sealed: false,
    })
}

fn is_sealed(response: &Response<Incoming>) -> bool {
    reply::is_sealed(response.status().as_u16(), &Headers(response.headers()))
}

fn has_no_content(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    )
}

fn inner_head(status: u16, fields: &[(String, String)]) -> Option<(StatusCode, HeaderMap)> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_str(value).ok()?);
    }
    Some((StatusCode::from_u16(status).ok()?, headers))
}

/// The fields of an HTTP message, as the rules want to see them.
pub(crate) struct Headers<'a>(pub(crate) &'a HeaderMap);

impl Fields for Headers<'_> {
    fn line(&self, name: &str) -> Result<Option<&str>, Refusal> {
        line(self.0, name)
    }
}

fn line<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    field::single(headers.get_all(name).iter().map(HeaderValue::as_bytes))
}

//! A reply: what it may be, and opening it as it comes.

use bulla_keys::ece::MessageKey;
use bulla_protocol::error::{Code, Error as Refusal, Problem};
use bulla_protocol::field::{self, Fields};
use bulla_protocol::limits::{Limits, MAX_PROBLEM_LEN};
use bulla_protocol::message::{Control, Event, Head, Reader};
use bulla_protocol::seal::{Header, Joiner};
use bulla_protocol::structured;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use zeroize::Zeroizing;

use crate::body::Body;
use crate::error::Error;
use crate::transport::Incoming;

const INVALID: Refusal = Code::ReplyInvalid.because("the sealed reply is not valid");
const TRUNCATED: Refusal = Code::ReplyTruncated.because("the reply ends before its final record");

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
    /// The request's nonce, whole.
    nonce: String,
}

/// A reply that has been checked as far as it has come.
pub(crate) enum Answer {
    Reply(Response<Body>),
    Refused {
        refusal: Refusal,
        headers: HeaderMap,
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
        if is_problem(response.status(), response.headers()) {
            let content = response.body_mut().peek(MAX_PROBLEM_LEN).await?;
            let content = content.unwrap_or_default();
            if let Some(refusal) = refusal(response.status(), response.headers(), &content) {
                let headers = response.into_parts().0.headers;
                return Ok(Answer::Refused {
                    refusal,
                    headers,
                    sealed: self.seal.is_some(),
                });
            }
        }
        if self.seal.is_some() && (self.is_head || has_no_content(response.status())) {
            // The final record must be there all the same.
            let body = core::mem::take(response.body_mut());
            body.bytes().await?;
        }
        Ok(Answer::Reply(response))
    }
}

impl Seal {
    async fn open(&self, response: Response<Incoming>) -> Result<Response<Body>, Error> {
        const MISMATCH: Refusal = Code::ReplyMismatch.because("the reply answers another request");
        let unsealer = Unsealer::new(self.key.clone());
        let (head, body) = Body::sealed(response.into_body(), unsealer).await?;
        let (status, headers) = inner_head(&head).ok_or(INVALID)?;
        let in_reply_to = line(&headers, field::IN_REPLY_TO)
            .map_err(Error::reply)?
            .ok_or(MISMATCH)?;
        if structured::string(in_reply_to).map_err(Error::reply)? != self.nonce {
            return Err(MISMATCH.into());
        }
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// Opens a sealed reply: cipher text in, parts of the inner message out.
pub(crate) struct Unsealer {
    key: Zeroizing<[u8; 32]>,
    /// Bytes of a header that is not complete.
    pending: Vec<u8>,
    records: Option<(MessageKey, Joiner)>,
    message: Reader,
}

impl Unsealer {
    pub(crate) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self {
            key,
            pending: Vec::new(),
            records: None,
            message: Reader::new(Limits::default()),
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Refusal> {
        let Some((key, joiner)) = &mut self.records else {
            self.pending.extend_from_slice(bytes);
            let pending = core::mem::take(&mut self.pending);
            let Some((header, rest)) = Header::parse(&pending)? else {
                self.pending = pending;
                return Ok(Vec::new());
            };
            if !header.keyid.is_empty() {
                return Err(INVALID);
            }
            let key = MessageKey::derive(&self.key, &header.salt);
            self.records = Some((key, Joiner::new(header.record_size)));
            return self.push(rest);
        };
        let mut events = Vec::new();
        for record in joiner.push(bytes)? {
            let mut plain = key.open(record)?;
            joiner.opened(&mut plain)?;
            events.extend(self.message.push(plain).map_err(|_| INVALID)?);
        }
        Ok(events)
    }

    /// The cipher text is at its end. What comes out are the last parts; nothing is missing then.
    pub(crate) fn finish(&mut self) -> Result<Vec<Event>, Refusal> {
        let (key, joiner) = self.records.as_mut().ok_or(TRUNCATED)?;
        // Less than a tag is left: the last record was cut.
        let last = joiner.finish().map_err(|_| TRUNCATED)?;
        let was_complete = joiner.is_complete();
        let mut events = Vec::new();
        if let Some(record) = last {
            let mut plain = key.open(record)?;
            joiner.opened(&mut plain).map_err(|error| {
                // A short record that is not the final one is what is left of a longer reply.
                if was_complete { error } else { TRUNCATED }
            })?;
            events = self.message.push(plain).map_err(|_| INVALID)?;
        }
        if !joiner.is_complete() {
            return Err(TRUNCATED);
        }
        self.message.finish().map_err(|_| INVALID)?;
        Ok(events)
    }
}

/// The refusal that a reply is, if it is one of the server's. Codes that only clients use are not.
pub(crate) fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Refusal> {
    if !is_problem(status, headers) || body.len() > MAX_PROBLEM_LEN {
        return None;
    }
    Problem::parse(body)
        .filter(|code| code.status() != 0)
        .map(|code| code.because(code.title()))
}

/// A reply to a sealed request that is not sealed can only be a refusal.
async fn read_unsealed(response: Response<Incoming>) -> Result<Answer, Error> {
    const UNSEALED: Refusal =
        Code::ReplyUnsealed.because("the reply to a sealed request is not sealed");
    let (mut parts, body) = response.into_parts();
    if !is_problem(parts.status, &parts.headers) {
        return Err(UNSEALED.into());
    }
    let content = Body::plain(body).peek(MAX_PROBLEM_LEN).await?;
    let refusal = content.and_then(|content| refusal(parts.status, &parts.headers, &content));
    let refusal = refusal.ok_or(UNSEALED)?;
    // Nobody vouches for this answer: a nonce is all that is taken from it.
    let nonce = parts.headers.remove(field::NONCE);
    let mut headers = HeaderMap::new();
    if let Some(nonce) = nonce {
        headers.insert(field::NONCE, nonce);
    }
    Ok(Answer::Refused {
        refusal,
        headers,
        sealed: false,
    })
}

fn is_sealed(response: &Response<Incoming>) -> bool {
    let kind = line(response.headers(), CONTENT_TYPE.as_str());
    response.status() == StatusCode::OK && kind == Ok(Some(field::BHTTP))
}

/// Whether a reply may be a refusal.
fn is_problem(status: StatusCode, headers: &HeaderMap) -> bool {
    let kind = line(headers, CONTENT_TYPE.as_str()).ok().flatten();
    let kind = kind.and_then(|kind| kind.split(';').next());
    status.as_u16() >= 400
        && kind.is_some_and(|kind| kind.trim_end().eq_ignore_ascii_case(Problem::MEDIA_TYPE))
}

fn has_no_content(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    )
}

fn inner_head(head: &Head) -> Option<(StatusCode, HeaderMap)> {
    let Control::Response(status) = head.control else {
        return None;
    };
    let mut headers = HeaderMap::with_capacity(head.fields.len());
    for (name, value) in &head.fields {
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

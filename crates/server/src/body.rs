//! Bodies: as they come, sealed or not, and as they leave.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bulla_keys::ece::Opener;
use bulla_protocol::error::{Code, Error};
use bulla_protocol::limits::{Limits, MAX_RECORD_SIZE};
use bulla_protocol::message::{Event, Head, Reader};
use bulla_protocol::seal::Header;
use bytes::{Bytes, BytesMut};
use http::Request;
use http::header::EXPECT;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;

use crate::alarm::{Alarm, Time};
use crate::bulla::Bulla;

/// Any error of an inner body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a body fails with: an error of its own, or of the body that it is made of. It is the
/// [`source`](std::error::Error::source): an [`Error`] where Bulla cut it off.
///
/// A type of its own, since futures over a bare `dyn Error` are not `Send` for every lifetime.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(#[source] BoxError);

impl From<Error> for BodyError {
    fn from(error: Error) -> Self {
        Self(error.into())
    }
}

/// The body of every request that reaches the inner service, and of every response that leaves.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

const CUT: Error = Code::Malformed.because("the body did not arrive whole");
const TOO_LARGE: Error = Code::TooLarge.because("the body is larger than this server takes");

/// Why a body did not arrive whole: it was too slow, or whoever sent it has gone.
fn cut(error: &BodyError) -> Error {
    match error.0.downcast_ref::<Error>() {
        Some(own) if own.code == Code::TooSlow => *own,
        _ => CUT,
    }
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(crate) fn boxed<B>(body: B) -> Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(|error| BodyError(error.into())).boxed_unsync()
}

/// How much of a request that was refused is read all the same, as a multiple of the largest body that is
/// collected, and for how long. Whoever is still sending when the connection is closed often never sees
/// the answer (RFC 9112 section 9.6).
const LINGER: (usize, Duration) = (4, Duration::from_secs(3));

/// What is left of a body that somebody else reads.
pub(crate) struct Rest(Arc<Mutex<Shared>>);

struct Shared {
    body: Body,
    has_ended: bool,
}

/// Keeps a hold on what is left of a request's body, if there is anything.
pub(crate) fn with_rest(request: Request<Body>) -> (Request<Body>, Option<Rest>) {
    // Whoever waits to be asked for the body has not begun to send it.
    let waits = request.headers().contains_key(EXPECT);
    if waits || request.body().is_end_stream() {
        return (request, None);
    }
    let (parts, body) = request.into_parts();
    let shared = Arc::new(Mutex::new(Shared {
        body,
        has_ended: false,
    }));
    let read = Read(Arc::clone(&shared)).boxed_unsync();
    (Request::from_parts(parts, read), Some(Rest(shared)))
}

impl Rest {
    /// Reads on, and throws away what comes; unless somebody may still read it, such as a task that the handler
    /// has left behind.
    pub(crate) async fn discard(self, bulla: &Bulla) {
        if Arc::strong_count(&self.0) > 1 {
            return;
        }
        let (most, how_long) = LINGER;
        let mut left = bulla.0.limits.max_body_len.saturating_mul(most);
        let over = bulla.0.clock.monotonic().saturating_add(how_long);
        let mut late = Alarm::new(bulla, Time::Passed(over));
        let mut body = Read(self.0);
        poll_fn(|cx| {
            if Pin::new(&mut late).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            while let Some(Ok(frame)) = ready!(Pin::new(&mut body).poll_frame(cx)) {
                let len = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(len) {
                    Some(less) => left = less,
                    None => break,
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// Reads a body that is shared.
struct Read(Arc<Mutex<Shared>>);

impl Read {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        // One that panics while it is polled is not read on.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Read {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut shared = self.shared();
        if shared.has_ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut shared.body).poll_frame(cx));
        shared.has_ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.shared();
        shared.has_ended || shared.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.shared().body.size_hint()
    }
}

/// Collects a body of at most `limit` bytes.
pub(crate) async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Error> {
    let mut content = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| cut(&error))?.into_data() {
            join(&mut content, data, limit)?;
        }
    }
    Ok(content.freeze())
}

/// Joins what comes in pieces: a list of them would take far more than they hold, where they are small.
fn join(content: &mut BytesMut, more: Bytes, limit: usize) -> Result<(), Error> {
    if content.len() + more.len() > limit {
        return Err(TOO_LARGE);
    }
    if content.is_empty() {
        // Without a copy, if it is all that comes.
        *content = more.into();
    } else {
        content.extend_from_slice(&more);
    }
    Ok(())
}

/// How much cipher text may come for so many bytes inside. Padding and records with nothing in them
/// cost time, not memory; they have an end too.
fn room(limit: usize) -> usize {
    limit.saturating_add(limit / 4 + 2 * MAX_RECORD_SIZE as usize)
}

/// A sealed body of which the envelope's header has been read, and hardly more.
pub(crate) struct Envelope {
    pub(crate) header: Header,
    records: Bytes,
    incoming: Body,
}

impl Envelope {
    /// Reads the header, at most 276 bytes, and what came in one piece with it.
    pub(crate) async fn read(mut incoming: Body) -> Result<Self, Error> {
        const SHORT: Error = Code::SealBroken.because("the envelope is too short");
        let mut read = Bytes::new();
        loop {
            if let Some((header, rest)) = Header::parse(&read)? {
                let records = read.slice_ref(rest);
                return Ok(Self {
                    header,
                    records,
                    incoming,
                });
            }
            let frame = incoming
                .frame()
                .await
                .ok_or(SHORT)?
                .map_err(|error| cut(&error))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            read = if read.is_empty() {
                data
            } else {
                let mut joined = BytesMut::from(read);
                joined.extend_from_slice(&data);
                joined.freeze()
            };
        }
    }

    /// Opens records up to the end of the inner head. The content waits to be read.
    pub(crate) async fn unseal(
        self,
        key: &[u8; 32],
        limits: &Limits,
    ) -> Result<(Head, Unsealing), Error> {
        const EMPTY: Error = Code::Malformed.because("there is no message inside");
        let mut content = Unsealing {
            incoming: self.incoming,
            opener: Opener::new(key, &self.header),
            reader: Reader::new(*limits),
            head: None,
            ready: VecDeque::new(),
            has_ended: false,
            left: Some(room(limits.max_head_len)),
        };
        content.open(&self.records)?;
        loop {
            if let Some(head) = content.head.take() {
                content.left = None;
                return Ok((head, content));
            }
            if content.has_ended {
                return Err(EMPTY);
            }
            poll_fn(|cx| content.poll_more(cx)).await?;
        }
    }
}

/// The content of a sealed request, opened as it comes.
///
/// It ends in an error if a record is bad, if the last one is missing, or if anything follows: what was
/// read before that is true, but not the whole truth.
pub(crate) struct Unsealing {
    incoming: Body,
    opener: Opener,
    reader: Reader,
    head: Option<Head>,
    /// Opened, but not handed out.
    ready: VecDeque<Bytes>,
    /// At the end, and after an error.
    has_ended: bool,
    /// How many more bytes of cipher text may come, if that is limited.
    left: Option<usize>,
}

impl Unsealing {
    /// Collects the content, at most `limit` bytes.
    pub(crate) async fn collect_all(mut self, limit: usize) -> Result<Bytes, Error> {
        self.left = Some(room(limit));
        let mut content = BytesMut::new();
        while let Some(more) = poll_fn(|cx| self.poll_content(cx)).await {
            join(&mut content, more?, limit)?;
        }
        Ok(content.freeze())
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            if let Some(content) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(content)));
            }
            if self.has_ended {
                return Poll::Ready(None);
            }
            if let Err(error) = ready!(self.poll_more(cx)) {
                self.ready.clear();
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    /// Takes one more piece of cipher text, or its end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        // Nothing comes after an error.
        self.has_ended = true;
        let Some(frame) = frame else {
            let last = self.opener.finish()?;
            self.read(last)?;
            self.reader.finish()?;
            return Poll::Ready(Ok(()));
        };
        if let Ok(data) = frame.map_err(|error| cut(&error))?.into_data() {
            if let Some(left) = &mut self.left {
                // With the end of what is counted there may come, in one piece, the beginning of what is not.
                if *left == 0 && !data.is_empty() {
                    return Poll::Ready(Err(TOO_LARGE));
                }
                *left = left.saturating_sub(data.len());
            }
            self.open(&data)?;
        }
        self.has_ended = false;
        Poll::Ready(Ok(()))
    }

    fn open(&mut self, records: &[u8]) -> Result<(), Error> {
        let plain = self.opener.push(records)?;
        self.read(plain)
    }

    fn read(&mut self, plain: Vec<u8>) -> Result<(), Error> {
        for event in self.reader.push(plain)? {
            match event {
                Event::Head(head) => self.head = Some(head),
                Event::Content(content) => self.ready.push_back(content.into()),
            }
        }
        Ok(())
    }
}

impl HttpBody for Unsealing {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let content = ready!(self.poll_content(cx));
        Poll::Ready(content.map(|content| content.map(Frame::data)))
    }
}

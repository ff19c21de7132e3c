//! The content of a reply.

use core::fmt;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::collections::VecDeque;

use bulla_protocol::error::Code;
use bulla_protocol::reply::Part;
use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame};

use crate::error::Error;
use crate::reply::Unsealer;
use crate::transport::Incoming;

/// The content of a reply, opened as it comes.
///
/// A sealed body ends in an error if a record is bad or the last one is missing: what was read before
/// that is true, but not the whole truth.
#[derive(Default)]
pub struct Body {
    /// Read, but not handed out.
    ready: VecDeque<Bytes>,
    /// `None` at the end, and after an error.
    source: Option<Source>,
}

struct Source {
    incoming: Incoming,
    unsealer: Option<Box<Unsealer>>,
}

impl Body {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    ///
    /// `reply_broken`, `reply_truncated` or `reply_invalid` if the seal does not hold to the end, `network` if the
    /// connection breaks and nothing is sealed.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The whole content, however long it is. To bound it, read it piece by piece or wrap it in
    /// `http_body_util::Limited`.
    ///
    /// # Errors
    ///
    /// As [`Self::chunk`].
    pub async fn bytes(mut self) -> Result<Bytes, Error> {
        let mut content = BytesMut::new();
        while let Some(more) = self.chunk().await? {
            content.extend_from_slice(&more);
        }
        Ok(content.freeze())
    }

    /// Content that only TLS vouches for.
    pub(crate) fn plain(incoming: Incoming) -> Self {
        Self {
            ready: VecDeque::new(),
            source: Some(Source {
                incoming,
                unsealer: None,
            }),
        }
    }

    /// Reads up to the end of the inner head.
    pub(crate) async fn sealed(
        incoming: Incoming,
        unsealer: Unsealer,
    ) -> Result<(u16, Vec<(String, String)>, Self), Error> {
        const NO_HEAD: bulla_protocol::error::Error =
            Code::ReplyInvalid.because("there is no message inside");
        let mut body = Self {
            ready: VecDeque::new(),
            source: Some(Source {
                incoming,
                unsealer: Some(Box::new(unsealer)),
            }),
        };
        loop {
            let events = poll_fn(|cx| body.poll_source(cx)).await?.ok_or(NO_HEAD)?;
            let mut events = events.into_iter();
            match events.next() {
                None => {}
                Some(Part::Head(status, fields)) => {
                    body.take(events)?;
                    return Ok((status, fields, body));
                }
                Some(Part::Content(_)) => return Err(NO_HEAD.into()),
            }
        }
    }

    /// The whole content, if it is no longer than this; `None` if it is. Either way it is still there
    /// to be read.
    pub(crate) async fn peek(&mut self, limit: usize) -> Result<Option<Bytes>, Error> {
        let mut content = BytesMut::new();
        let mut is_whole = false;
        while content.len() <= limit && !is_whole {
            match self.chunk().await? {
                Some(more) => content.extend_from_slice(&more),
                None => is_whole = true,
            }
        }
        let content = content.freeze();
        if !content.is_empty() {
            self.ready.push_front(content.clone());
        }
        Ok((is_whole && content.len() <= limit).then_some(content))
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Ok(Some(bytes)));
            }
            match ready!(self.poll_source(cx))? {
                Some(events) => self.take(events)?,
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn take(&mut self, events: impl IntoIterator<Item = Part>) -> Result<(), Error> {
        for event in events {
            match event {
                Part::Content(content) => self.ready.push_back(content.into()),
                Part::Head(..) => {
                    self.source = None;
                    return Err(Code::ReplyInvalid.because("two messages are inside").into());
                }
            }
        }
        Ok(())
    }

    /// What comes next, if there is anything; nothing comes after an error.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Vec<Part>>, Error>> {
        let Some(mut source) = self.source.take() else {
            return Poll::Ready(Ok(None));
        };
        let frame = match Pin::new(&mut source.incoming).poll_frame(cx) {
            Poll::Pending => {
                self.source = Some(source);
                return Poll::Pending;
            }
            Poll::Ready(frame) => frame,
        };
        let events = match (frame, &mut source.unsealer) {
            (None, None) => return Poll::Ready(Ok(None)),
            (None, Some(unsealer)) => {
                return Poll::Ready(unsealer.finish().map(Some).map_err(Error::unsealing));
            }
            (Some(Err(error)), unsealer) => {
                return Poll::Ready(Err(Error::cut(error, unsealer.is_some())));
            }
            (Some(Ok(frame)), unsealer) => match (frame.into_data(), unsealer) {
                (Ok(data), Some(unsealer)) => unsealer.push(&data).map_err(Error::unsealing)?,
                (Ok(data), None) => vec![Part::Content(data.into())],
                // Trailers are not carried.
                (Err(_), _) => Vec::new(),
            },
        };
        self.source = Some(source);
        Poll::Ready(Ok(Some(events)))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let chunk = ready!(self.poll_chunk(cx));
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.source.is_none()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("is_end_stream", &self.is_end_stream())
            .finish_non_exhaustive()
    }
}

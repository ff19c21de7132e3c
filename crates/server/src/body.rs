//! Bodies: plain ones, and replies that are sealed as they come.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bulla_keys::ece::MessageKey;
use bulla_protocol::message;
use bulla_protocol::seal::{Record, Splitter};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;

/// Any error of an inner body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a body fails with: an error of its own, or of the body that it is made of.
///
/// A type of its own, since futures over a bare `dyn Error` are not `Send` for every lifetime.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct BodyError(BoxError);

/// The body of every request that reaches the inner service, and of every response that leaves.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

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

/// Seals a reply as it comes: a record is sent when it is full, or padded out when the inner body has
/// nothing more for now. An inner body that fails cuts the stream before its final record, which the
/// client notices.
pub(crate) struct Sealing {
    key: MessageKey,
    splitter: Option<Splitter>,
    inner: Body,
    ready: VecDeque<Bytes>,
}

impl Sealing {
    pub(crate) fn new(
        header: Vec<u8>,
        key: MessageKey,
        record_size: u32,
        head: &[u8],
        inner: Body,
    ) -> Result<Self, bulla_protocol::error::Error> {
        let mut splitter = Splitter::new(record_size);
        let mut ready = VecDeque::from([Bytes::from(header)]);
        for record in splitter.push(head) {
            ready.push_back(key.seal(record)?.into());
        }
        Ok(Self {
            key,
            splitter: Some(splitter),
            inner,
            ready,
        })
    }

    fn seal(&mut self, record: Record) -> Result<(), BodyError> {
        let sealed = self
            .key
            .seal(record)
            .map_err(|error| BodyError(error.into()))?;
        self.ready.push_back(sealed.into());
        Ok(())
    }
}

impl HttpBody for Sealing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let Some(mut splitter) = self.splitter.take() else {
                return Poll::Ready(None);
            };
            let mut records = Vec::new();
            match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are not carried.
                    if let Ok(data) = frame.into_data() {
                        records = splitter.push(&message::chunk(&data));
                    }
                    self.splitter = Some(splitter);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    records = splitter.push(&message::END);
                    records.push(splitter.finish_padded());
                }
                Poll::Pending => {
                    let flushed = splitter.flush();
                    self.splitter = Some(splitter);
                    match flushed {
                        Some(record) => records.push(record),
                        None => return Poll::Pending,
                    }
                }
            }
            for record in records {
                self.seal(record)?;
            }
        }
    }
}

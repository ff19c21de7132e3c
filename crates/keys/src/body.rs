//! A body that is sealed as it comes: what a streamed reply and a streamed request have in common.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::VecDeque;

use bulla_protocol::error::Error;
use bulla_protocol::message;
use bulla_protocol::seal::{Header, Record, Splitter};
use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame};

use crate::ece::MessageKey;

/// Any error of what lies below.
pub type BoxError = Box<dyn core::error::Error + Send + Sync>;

/// Seals a message of indeterminate length, whose content is another body.
///
/// A record is sent when it is full, or padded out when the inner body has nothing more for now. An
/// inner body that fails cuts the stream before its final record, which the other side notices.
pub struct Sealing<B> {
    key: MessageKey,
    /// `None` at the end, and after an error.
    splitter: Option<Splitter>,
    inner: B,
    /// Of the inner body, not sealed yet.
    content: Bytes,
    ready: VecDeque<Bytes>,
}

impl<B> Sealing<B> {
    /// Begins with the envelope's header and the inner head.
    pub fn new(
        ikm: &[u8; 32],
        header: &Header,
        head: message::Head,
        inner: B,
    ) -> Result<Self, Error> {
        let key = MessageKey::derive(ikm, &header.salt);
        let mut splitter = Splitter::new(header.record_size);
        let mut ready = VecDeque::from([Bytes::from(header.encode())]);
        for record in splitter.push(&message::head(head)?) {
            ready.push_back(key.seal(record)?.into());
        }
        Ok(Self {
            key,
            splitter: Some(splitter),
            inner,
            content: Bytes::new(),
            ready,
        })
    }

    fn seal(&mut self, record: Record) -> Result<(), Error> {
        self.ready.push_back(self.key.seal(record)?.into());
        Ok(())
    }
}

impl<B> Body for Sealing<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let Some(mut splitter) = self.splitter.take() else {
                return Poll::Ready(None);
            };
            let mut records = Vec::new();
            if self.content.is_empty() {
                match Pin::new(&mut self.inner).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        // Trailers are not carried.
                        if let Ok(data) = frame.into_data() {
                            records = splitter.push(&message::chunk_len(data.len()));
                            self.content = data;
                        }
                        self.splitter = Some(splitter);
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
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
            } else if let Some(piece) = splitter.cut(&self.content) {
                let (len, mut sealed) = (piece.data.len(), Vec::new());
                self.key.seal_piece(piece, &mut sealed)?;
                self.ready.push_back(sealed.into());
                self.content.advance(len);
                self.splitter = Some(splitter);
            } else {
                let len = splitter.room().min(self.content.len());
                records = splitter.push(&self.content.split_to(len));
                if !self.content.is_empty() {
                    // A full one: what comes after it need not be copied.
                    records.extend(splitter.flush());
                }
                self.splitter = Some(splitter);
            }
            for record in records {
                self.seal(record)?;
            }
        }
    }
}

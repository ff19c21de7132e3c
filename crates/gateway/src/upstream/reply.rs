//! A reply's content, as it comes: without trailers, and with an end to waiting.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::{BoxError, Error};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// Ends in an error if an upstream says nothing for so long: never cleanly, since what is missing may matter. Time counts
/// from when more was asked for, not while a client takes what there is. Trailers are dropped: nobody has looked at what
/// they say.
pub(super) struct Reply<B> {
    body: B,
    /// `None`: without end.
    quiet: Option<Duration>,
    /// Runs while more is awaited.
    until: Option<Pin<Box<Sleep>>>,
}

impl<B> Reply<B> {
    pub(super) fn new(body: B, quiet: Option<Duration>) -> Self {
        let until = None;
        Self { body, quiet, until }
    }
}

impl<B> http_body::Body for Reply<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            let Poll::Ready(polled) = Pin::new(&mut self.body).poll_frame(cx) else {
                let Some(quiet) = self.quiet else {
                    return Poll::Pending;
                };
                let until = self.until.get_or_insert_with(|| Box::pin(sleep(quiet)));
                ready!(until.as_mut().poll(cx));
                tracing::warn!(target: super::TARGET, code = "upstream_timeout", "an upstream hangs in a reply");
                return Poll::Ready(Some(Err(Error::new("the upstream hangs"))));
            };
            self.until = None;
            match polled {
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(Err(error)) => {
                    let error = Error::new(error);
                    tracing::warn!(target: super::TARGET, code = "upstream_broke", %error, "a reply broke off");
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! A request's content, lent to an exchange: it comes back if no upstream could be connected to. Trailers stay behind: no
//! proof covers them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::Error;
use axum::body::Body;
use bulla_server::{Code, Error as Refusal};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

#[derive(Clone)]
pub(super) struct Lent(Arc<Mutex<State>>);

struct State {
    body: Body,
    asked: u64,
    /// Whether the client has yet to send what was asked for.
    is_awaited: bool,
    broken: Option<Refusal>,
    /// How many bytes more there may be, if that is limited.
    room: Option<usize>,
    is_over: bool,
}

impl Lent {
    pub(super) fn new(body: Body, room: Option<usize>) -> Self {
        Self(Arc::new(Mutex::new(State {
            body,
            asked: 0,
            is_awaited: false,
            broken: None,
            room,
            is_over: false,
        })))
    }

    /// The content, for one exchange.
    pub(super) fn lend(&self) -> Body {
        if self.is_empty() {
            Body::empty()
        } else {
            Body::new(self.clone())
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    /// How often content was asked for. If never, none of it is lost.
    pub(super) fn asked(&self) -> u64 {
        self.state().asked
    }

    /// Whether the client has yet to send what was asked for last.
    pub(super) fn is_awaited(&self) -> bool {
        self.state().is_awaited
    }

    /// Why there is no more content, if that is not because it has ended.
    pub(super) fn broken(&self) -> Option<Refusal> {
        self.state().broken
    }

    /// Whether there was more than there may be.
    pub(super) fn is_over(&self) -> bool {
        self.state().is_over
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the verifier says of content, or else that it is none.
fn refusal(error: &Error) -> Refusal {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return *refusal;
        }
        cause = error.source();
    }
    Code::Malformed.because("the content broke off")
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut state = self.state();
        state.asked += 1;
        let mut polled = Pin::new(&mut state.body).poll_frame(cx);
        while matches!(&polled, Poll::Ready(Some(Ok(frame))) if frame.is_trailers()) {
            polled = Pin::new(&mut state.body).poll_frame(cx);
        }
        state.is_awaited = polled.is_pending();
        if let Poll::Ready(Some(Err(error))) = &polled {
            state.broken = Some(refusal(error));
        }
        if let (Poll::Ready(Some(Ok(frame))), Some(room)) = (&polled, state.room) {
            let len = frame.data_ref().map_or(0, Bytes::len);
            state.room = room.checked_sub(len);
            if state.room.is_none() {
                state.is_over = true;
                state.room = Some(0);
                return Poll::Ready(Some(Err(Error::new("the content is too large"))));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.state().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.state().body.size_hint()
    }
}

//! A request's content, lent to the engine: it comes back if no upstream could be connected to.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::Error;
use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

#[derive(Clone)]
pub(super) struct Lent(Arc<Mutex<State>>);

struct State {
    body: Body,
    asked: u64,
    /// How many bytes more there may be, if that is limited.
    room: Option<usize>,
    is_over: bool,
}

impl Lent {
    pub(super) fn new(body: Body, room: Option<usize>) -> Self {
        Self(Arc::new(Mutex::new(State {
            body,
            asked: 0,
            room,
            is_over: false,
        })))
    }

    /// How often content was asked for. If never, none of it is lost.
    pub(super) fn asked(&self) -> u64 {
        self.state().asked
    }

    /// Whether there was more than there may be.
    pub(super) fn is_over(&self) -> bool {
        self.state().is_over
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let polled = Pin::new(&mut state.body).poll_frame(cx);
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

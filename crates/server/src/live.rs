//! Streams that end when their session does.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bulla_protocol::error::{Code, Error};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::broadcast::error::RecvError;

use crate::alarm::{Alarm, Time};
use crate::body::{Body, BodyError};
use crate::bulla::Bulla;
#[cfg(feature = "metrics")]
use crate::event::meter::OpenStream;
use crate::store::{Revocation, SessionRef};

const REVOKED: Error = Code::SessionRevoked.because("the session has ended");
const EXPIRED: Error = Code::TicketExpired.because("the session is past its life");

/// What open streams are told.
#[derive(Clone)]
pub(crate) enum News {
    Ended(Revocation),
    /// Whatever else ended with it: the store could not say, or who asked for it has gone before it did.
    Unknown,
    /// The clock was set back, and all sessions have ended with the ring.
    SetBack,
}

/// How many revocations may be waiting for a stream to look at them. A stream that misses some looks
/// its own up in the store.
pub(crate) const BACKLOG: usize = 256;

/// A body that ends in an error as soon as its session has ended.
///
/// A revocation by this process wakes it up, and so does the end of the session's life, within a second. So does a
/// revocation by another process that shares the store, once the store tells of it
/// ([`Store::on_ended`](crate::Store::on_ended)). Beside that the store is asked when the body has data and a nonce life has
/// gone by: it may have told nothing.
pub(crate) struct Live {
    inner: Body,
    bulla: Bulla,
    session: SessionRef,
    /// Resolves when the session is over at the latest.
    over: Alarm,
    /// When the store is to be asked again, in seconds since 1970.
    ask_at: u64,
    /// Resolves when the session has been revoked. `None` at the end.
    end: Option<Pin<Box<dyn Future<Output = Error> + Send>>>,
    #[cfg(feature = "metrics")]
    _counted: OpenStream,
}

impl Live {
    /// `until` is when the session is over at the latest, in seconds since 1970.
    pub(crate) fn new(inner: Body, bulla: &Bulla, session: SessionRef, until: u32) -> Self {
        let mut live = Self {
            inner,
            bulla: bulla.clone(),
            session,
            over: Alarm::new(bulla, Time::Second(until)),
            ask_at: 0,
            end: None,
            #[cfg(feature = "metrics")]
            _counted: OpenStream::new(),
        };
        live.ask();
        live
    }

    fn ask(&mut self) {
        let life = self.bulla.0.lifetimes.nonce.as_secs().max(1);
        self.ask_at = u64::from(self.bulla.now()).saturating_add(life);
        let end = self.bulla.clone().end_of(self.session.clone());
        self.end = Some(Box::pin(end));
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        match self.end.as_mut()?.as_mut().poll(cx) {
            Poll::Ready(error) => Some(error),
            Poll::Pending => None,
        }
    }

    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.poll_end(cx) {
            return Poll::Ready(Some(Err(error.into())));
        }
        if Pin::new(&mut self.over).poll(cx).is_ready() {
            return Poll::Ready(Some(Err(EXPIRED.into())));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if frame.is_some() && u64::from(self.bulla.now()) >= self.ask_at {
            self.ask();
            if let Some(error) = self.poll_end(cx) {
                return Poll::Ready(Some(Err(error.into())));
            }
        }
        Poll::Ready(frame)
    }
}

impl HttpBody for Live {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.end.is_none() {
            return Poll::Ready(None);
        }
        let frame = ready!(self.poll_inner(cx));
        // Nothing comes after an error.
        if !matches!(frame, Some(Ok(_))) {
            self.end = None;
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Bulla {
    /// Waits until the session has been revoked. A store that cannot say that it has not, says so.
    async fn end_of(self, session: SessionRef) -> Error {
        let mut news = self.0.revoked.subscribe();
        loop {
            // After subscribing, so that nothing falls in between.
            match self.0.store.is_revoked(session.clone()).await {
                Ok(false) => {}
                Ok(true) => return REVOKED,
                Err(_) => {
                    return Code::StoreUnavailable.because("the session could not be looked up");
                }
            }
            loop {
                match news.recv().await {
                    Ok(News::Ended(revocation)) if revocation.ends(&session) => return REVOKED,
                    Ok(News::Ended(_)) => {}
                    Ok(News::SetBack) => return EXPIRED,
                    Ok(News::Unknown) | Err(RecvError::Lagged(_)) => break,
                    // The sender is as old as the verifier.
                    Err(RecvError::Closed) => return REVOKED,
                }
            }
        }
    }
}

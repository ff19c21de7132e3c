//! How slowly a body may come.
//!
//! Whoever sends a byte now and then could hold a request open for ever, and it would cost him next to nothing. So a
//! body is waited for so long as what has come of it has paid for.

use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bulla_protocol::error::{Code, Error};
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::alarm::{Alarm, Time};
use crate::body::{Body, BodyError};
use crate::bulla::Bulla;
use crate::layer::Inner;

/// How slowly the body of a request may come. Its client is waited for as long as `grace` says, all in all, and a second
/// longer for every `rate` bytes that have come.
///
/// Beyond, what the verifier reads itself is refused with `too_slow` (408), and nothing is remembered of it: the head
/// inside a seal, the body that it collects, an opening. What a handler reads breaks off with that
/// [`Error`] as its [source](crate::BodyError).
///
/// Only the time counts from when somebody has asked for more until something has come. A handler that reads slowly, or a
/// store that is slow, costs the client nothing. What has come does not pay for silence, either: no longer than a minute at once,
/// or `grace`, if that is longer.
///
/// On one HTTP/2 connection a stream that is read slowly can keep others from sending: give the connection a larger window
/// than its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Among [`Self::GRACES`]. Default 20 seconds.
    pub grace: Duration,
    /// Bytes in a second, among [`Self::RATES`], as they come, which is before they are unsealed. Default 500.
    pub rate: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(20),
            rate: 500,
        }
    }
}

impl Pace {
    /// What the grace may be. The verifier looks at the clock once a second, and whoever waits for more than an hour
    /// means no limit at all.
    pub const GRACES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

    /// What the rate may be. Beyond, it is one that clients on good lines do not keep up.
    pub const RATES: RangeInclusive<u32> = 1..=1_000_000;

    pub(crate) fn is_allowed(&self) -> bool {
        Self::GRACES.contains(&self.grace) && Self::RATES.contains(&self.rate)
    }

    /// For how long one waits, all in all, for a body of which so much has come.
    fn allows(&self, received: u64) -> Duration {
        let paid = received / u64::from(self.rate.max(1));
        self.grace.saturating_add(Duration::from_secs(paid))
    }

    /// For how long one waits for anything at all.
    fn longest_silence(&self) -> Duration {
        self.grace.max(Duration::from_mins(1))
    }
}

const TOO_SLOW: Error = Code::TooSlow.because("the body came too slowly");

impl Bulla {
    /// Holds the body of a request to the pace, whoever reads it; unless it is for a path that takes its time, and the
    /// inner service has it.
    pub(crate) fn paced<E: 'static>(
        &self,
        request: Request<Body>,
        inner: Inner<E>,
    ) -> (Request<Body>, Inner<E>) {
        let Some(pace) = self.0.pace else {
            return (request, inner);
        };
        if request.body().is_end_stream() {
            return (request, inner);
        }
        let is_free = Arc::<AtomicBool>::default();
        let free = Arc::clone(&is_free);
        let request = request.map(|body| {
            let paced = Paced {
                inner: Some(body),
                bulla: self.clone(),
                pace,
                is_free,
                received: 0,
                waited: Duration::ZERO,
                silent: Duration::ZERO,
                waiting: None,
                heard: Arc::new(Heard::new(self)),
            };
            paced.boxed_unsync()
        });
        let bulla = self.clone();
        let inner: Inner<E> = Box::new(move |request| {
            // By now the path is the inner one.
            let is_unpaced = bulla.paths().is_unpaced(request.uri().path());
            free.store(is_unpaced, Ordering::Relaxed);
            inner(request)
        });
        (request, inner)
    }
}

/// Tells a client that was too slow that its connection ends (RFC 9110 section 15.5.9): the rest of the body still stands in
/// the way of whatever it would send there. From HTTP/2 on only the stream ends.
pub(crate) fn hang_up(response: &mut Response<Body>, refusal: Error, version: Version) {
    if refusal.code == Code::TooSlow && version <= Version::HTTP_11 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
}

/// A body that ends in an error when it comes too slowly.
struct Paced {
    /// `None` after an error.
    inner: Option<Body>,
    bulla: Bulla,
    pace: Pace,
    /// Whether it may come as slowly as it likes.
    is_free: Arc<AtomicBool>,
    /// How many bytes have come.
    received: u64,
    /// For how long their client was waited for, all in all, and since anything has come.
    waited: Duration,
    silent: Duration,
    /// While it is: since when, by the monotonic clock, and what resolves when that is too long.
    waiting: Option<(Duration, Alarm)>,
    heard: Arc<Heard>,
}

/// Notes when something has come, which may be long before anybody looks again, and passes the word on.
struct Heard {
    bulla: Bulla,
    state: Mutex<Hearing>,
}

#[derive(Default)]
struct Hearing {
    at: Option<Duration>,
    reader: Option<Waker>,
}

impl Heard {
    fn new(bulla: &Bulla) -> Self {
        Self {
            bulla: bulla.clone(),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hearing> {
        // Nothing is left half done by whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When something has come since this was last asked. From now on this reader is told.
    fn listen(&self, reader: &Waker) -> Option<Duration> {
        let mut state = self.lock();
        let at = state.at.take();
        let before = state.reader.replace(reader.clone());
        // It may be a task's last: whatever goes with it must find no lock.
        drop(state);
        drop(before);
        at
    }
}

impl Wake for Heard {
    fn wake(self: Arc<Self>) {
        let now = self.bulla.0.clock.monotonic();
        let mut state = self.lock();
        state.at.get_or_insert(now);
        let reader = state.reader.clone();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Paced {
    /// Nobody has waited for longer than until now.
    fn wait_until(&mut self, now: Duration) {
        if let Some((since, _)) = self.waiting.take() {
            let waited = now.saturating_sub(since);
            self.waited = self.waited.saturating_add(waited);
            self.silent = self.silent.saturating_add(waited);
        }
    }

    /// Something has come, or its end.
    fn count(&mut self, frame: Option<&Frame<Bytes>>) {
        let len = frame.and_then(Frame::data_ref).map_or(0, Bytes::len);
        if len > 0 {
            self.silent = Duration::ZERO;
        }
        self.received = self.received.saturating_add(len as u64);
    }

    /// Nothing has come since it was asked for. Resolves when it should have.
    fn poll_late(&mut self, asked: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let (_, late) = self.waiting.get_or_insert_with(|| {
            let left = self.pace.allows(self.received).saturating_sub(self.waited);
            let silence = self.pace.longest_silence().saturating_sub(self.silent);
            let at = asked.saturating_add(left.min(silence));
            (asked, Alarm::new(&self.bulla, Time::Passed(at)))
        });
        Pin::new(late).poll(cx)
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        if this.is_free.load(Ordering::Relaxed) {
            this.waiting = None;
            return Pin::new(inner).poll_frame(cx);
        }
        let asked = this.bulla.0.clock.monotonic();
        let came = this.heard.listen(cx.waker());
        let waker = Waker::from(Arc::clone(&this.heard));
        // First of all: what has come is not late.
        let polled = Pin::new(inner).poll_frame(&mut Context::from_waker(&waker));
        if came.is_some() || polled.is_ready() {
            this.wait_until(came.unwrap_or(asked));
        }
        if let Poll::Ready(frame) = polled {
            this.count(frame.as_ref().and_then(|frame| frame.as_ref().ok()));
            return Poll::Ready(frame);
        }
        ready!(this.poll_late(asked, cx));
        this.waiting = None;
        this.inner = None;
        Poll::Ready(Some(Err(TOO_SLOW.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

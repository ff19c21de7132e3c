//! The switch that stops everything.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::watch;

/// When clients may ask again, in seconds.
const RETRY: HeaderValue = HeaderValue::from_static("60");

/// Resolves once the switch is thrown.
pub(crate) type Thrown = BoxFuture<'static, ()>;

/// Off until somebody throws it. What is read again while the gateway runs does not change it; a start does.
#[derive(Debug)]
pub(crate) struct Stop(watch::Sender<bool>);

impl Default for Stop {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stop {
    pub(crate) fn set(&self, is_on: bool) {
        self.0.send_replace(is_on);
    }

    pub(crate) fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves once it is thrown.
    pub(crate) fn thrown(&self) -> Thrown {
        let mut news = self.0.subscribe();
        Box::pin(async move {
            // Its sender is as old as the gateway.
            let _ = news.wait_for(|is_on| *is_on).await;
        })
    }

    /// A reply that breaks off when the switch is thrown.
    pub(crate) fn cut(response: Response<Body>, thrown: Thrown) -> Response<Body> {
        if response.body().is_end_stream() {
            return response;
        }
        response.map(|inner| Body::new(Cut { inner, thrown }))
    }

    /// What everybody is told while it is on.
    pub(crate) fn reply() -> Response<Body> {
        let mut response = Response::new(Body::from("This site has been stopped for now.\n"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let fields = response.headers_mut();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        fields.insert(CONTENT_TYPE, text);
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(RETRY_AFTER, RETRY);
        response
    }
}

struct Cut {
    inner: Body,
    thrown: Thrown,
}

impl HttpBody for Cut {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.thrown.as_mut().poll(cx).is_ready() {
            // Not asked for again after this.
            self.thrown = Box::pin(std::future::pending());
            self.inner = Body::empty();
            let stopped = io::Error::other("the operator has stopped everything");
            return Poll::Ready(Some(Err(axum::Error::new(stopped))));
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_under_way_breaks_off() {
        let stop = Stop::default();
        let first = stream::iter([Ok::<_, io::Error>("clay")]);
        let endless = Body::from_stream(first.chain(stream::pending()));
        let mut body = Stop::cut(Response::new(endless), stop.thrown()).into_body();
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(data, "clay");
        stop.set(true);
        assert!(body.frame().await.unwrap().is_err());
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn what_is_not_stopped_comes_to_its_end() {
        let stop = Stop::default();
        let body = Stop::cut(Response::new(Body::from("clay")), stop.thrown()).into_body();
        assert_eq!(body.size_hint().exact(), Some(4));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "clay");
    }
}

//! The length of what has no content.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode};
use http_body::{Body as HttpBody, Frame};

/// Where a reply has no content, only the application knows how much there would have been: axum says 0, which is the
/// wrong answer to HEAD and to a condition (RFC 9110 section 8.6).
pub(super) fn of_no_length(is_head: bool, mut response: Response<Body>) -> Response<Body> {
    let status = response.status();
    let has_none = is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !has_none || !response.body().is_end_stream() {
        return response;
    }
    if status == StatusCode::NO_CONTENT {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response.map(|_| Body::new(Nothing))
}

/// An empty body that does not say that it is.
struct Nothing;

impl HttpBody for Nothing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

//! The bytes of a connection, and whether it is at rest.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// A connection whose bytes can be looked at before HTTP takes them.
pub(super) struct Wire<S> {
    stream: S,
    /// What was read and is yet to be taken.
    unread: BytesMut,
    traffic: Arc<Traffic>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, traffic: Arc<Traffic>) -> Self {
        Self {
            stream,
            unread: BytesMut::new(),
            traffic,
        }
    }

    /// Puts back what was read before all else.
    pub(super) fn put_back(&mut self, bytes: &Bytes) {
        let behind = std::mem::replace(&mut self.unread, BytesMut::from(bytes.as_ref()));
        self.unread.extend_from_slice(&behind);
    }

    /// What was read and is yet to be taken.
    #[cfg(test)]
    pub(super) fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Waits until there is something to take, or all has come. Whether there is.
    pub(super) async fn hears(&mut self) -> io::Result<bool> {
        Ok(!self.unread.is_empty() || self.reads_on().await?)
    }

    /// Whether these are its first bytes. Waits only for as many as it takes to know.
    pub(super) async fn begins_with(&mut self, bytes: &[u8]) -> io::Result<bool> {
        loop {
            if let Some(begun) = self.unread.get(..bytes.len()) {
                return Ok(begun == bytes);
            }
            if !bytes.starts_with(&self.unread) || !self.reads_on().await? {
                return Ok(false);
            }
        }
    }

    /// Few at once: who is not at rest is read by HTTP, into buffers of its own.
    async fn reads_on(&mut self) -> io::Result<bool> {
        let mut few = [0; 32];
        let count = self.stream.read(&mut few).await?;
        self.unread
            .extend_from_slice(few.get(..count).unwrap_or_default());
        Ok(count > 0)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        if self.unread.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        } else {
            let count = self.unread.len().min(into.remaining());
            into.put_slice(&self.unread.split_to(count));
        }
        if into.filled().len() > before {
            self.traffic.has_heard.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.traffic.is_writing.store(true, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.traffic.is_writing.store(true, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.traffic.is_writing.swap(false, Ordering::Relaxed) {
            // What was heard has been answered. What has come behind it is given back.
            self.traffic.has_heard.store(false, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What goes on at a connection of HTTP/1.1, as seen from both of its sides. It may be taken from HTTP if it is at
/// rest: all that was asked for has been read to its end and answered, the answer is out, and nothing has been heard
/// since.
#[derive(Default)]
pub(super) struct Traffic {
    /// Requests, ever.
    begun: AtomicU64,
    /// Contents of requests, and requests that are not answered to the end.
    open: AtomicUsize,
    /// Content was left unread: where the next request begins only HTTP knows.
    is_adrift: AtomicBool,
    /// There may be the beginning of a request.
    has_heard: AtomicBool,
    is_writing: AtomicBool,
    settled: Notify,
}

impl Traffic {
    /// A request whose content and whose answer are yet to come.
    pub(super) fn begin(self: &Arc<Self>, content: Incoming) -> (Body, Open) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        if content.is_end_stream() {
            return (Body::empty(), self.open());
        }
        let open = self.open();
        let content = Content {
            inner: content,
            has_ended: false,
            open,
        };
        (Body::new(content), self.open())
    }

    fn open(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Waits until nothing is open.
    pub(super) async fn settles(&self) {
        // What was let go on another thread is seen with all that came before it.
        while self.open.load(Ordering::Acquire) > 0 {
            self.settled.notified().await;
        }
    }

    pub(super) fn is_at_rest(&self) -> bool {
        let any = [&self.is_adrift, &self.has_heard, &self.is_writing];
        self.open.load(Ordering::Acquire) == 0 && !any.iter().any(|it| it.load(Ordering::Relaxed))
    }
}

/// Something that is open until this is dropped.
pub(super) struct Open(Arc<Traffic>);

impl Open {
    /// An answer keeps it open to its end.
    pub(super) fn until_answered(self, content: Body) -> Answer {
        Answer {
            content,
            _open: self,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Release) == 1 {
            self.0.settled.notify_one();
        }
    }
}

/// An answer's content.
pub(super) struct Answer {
    content: Body,
    _open: Open,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.content).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

/// A request's content.
struct Content {
    inner: Incoming,
    has_ended: bool,
    open: Open,
}

impl HttpBody for Content {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.has_ended = polled.is_none();
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if !self.is_end_stream() {
            self.open.0.is_adrift.store(true, Ordering::Relaxed);
        }
    }
}

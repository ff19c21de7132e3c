//! One connection, from the first byte to the last.
//!
//! HTTP itself is hyper's. `axum-server` stood around it here: with it each connection of HTTP/1.1 keeps hyper's
//! buffers, some 24 KiB, for as long as it is there, and most connections of browsers are idle most of the time. So
//! hyper gives back those that are at rest, and gets them again with their next byte.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use bulla_server::Limits;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::{Service, ServiceExt as _};

use super::Unreadable;
use super::accept::Closing;
use super::tls::Certificate;
use super::wire::{Traffic, Wire};
use crate::config;

/// What answers.
pub(super) trait App:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> App for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The first bytes of a connection of HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A connection on which nothing was asked for so long is at rest. Long against the time from one answer to the next
/// request of who has more to ask.
const LULL: Duration = Duration::from_millis(250);

/// How connections are served.
pub(super) struct Serving<S> {
    pub(super) app: S,
    pub(super) certificate: Option<Certificate>,
    pub(super) unreadable: Unreadable,
    pub(super) limits: config::Limits,
}

impl<S: App> Serving<S> {
    /// Answers whatever is asked on a connection, until it is closed.
    pub(super) async fn serve(&self, stream: TcpStream, peer: SocketAddr, closing: Closing) {
        // Small answers go out at once.
        let ended = match stream.set_nodelay(true) {
            Ok(()) => self.shake_hands(stream, peer, closing).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error, "a connection broke off");
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        mut closing: Closing,
    ) -> Result<(), Failure> {
        let Some(certificate) = &self.certificate else {
            return self.speak(stream, peer, closing).await;
        };
        let acceptor = TlsAcceptor::from(certificate.config());
        let accepted = tokio::select! {
            accepted = timeout(self.limits.head, acceptor.accept(stream)) => accepted??,
            () = closing.begins() => return Ok(()),
        };
        // Small, while it is at rest.
        Box::pin(self.speak(accepted, peer, closing)).await
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        mut closing: Closing,
    ) -> Result<(), Failure> {
        let traffic = Arc::default();
        let mut wire = Wire::new(stream, Arc::clone(&traffic));
        let is_http2 = tokio::select! {
            is_http2 = timeout(self.limits.head, wire.begins_with(PREFACE)) => is_http2??,
            () = closing.begins() => return Ok(()),
        };
        if is_http2 {
            Box::pin(self.http2(wire, peer, closing)).await
        } else {
            self.http1(wire, peer, &traffic, closing).await
        }
    }

    async fn http1(
        &self,
        mut wire: Wire<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
        peer: SocketAddr,
        traffic: &Arc<Traffic>,
        mut closing: Closing,
    ) -> Result<(), Failure> {
        loop {
            let heard = tokio::select! {
                heard = timeout(self.limits.idle, wire.hears()) => heard,
                () = closing.begins() => return Ok(()),
            };
            // Nobody misses what was idle for too long.
            if !heard.unwrap_or(Ok(false))? {
                return Ok(());
            }
            let busy = Box::pin(self.busy(wire, peer, traffic, &mut closing));
            match busy.await? {
                Some(rested) => wire = rested,
                None => return Ok(()),
            }
        }
    }

    /// Answers until the connection is at rest, and gives it back, or until it is closed.
    async fn busy<I>(
        &self,
        wire: Wire<I>,
        peer: SocketAddr,
        traffic: &Arc<Traffic>,
        closing: &mut Closing,
    ) -> Result<Option<Wire<I>>, Failure>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let (head, content) = request.into_parts();
            let (content, open) = traffic.begin(content);
            let request = Request::from_parts(head, content);
            let answer = answer(self.app.clone(), request, peer);
            async move {
                let answer = answer.await;
                Ok::<_, Infallible>(answer.map(|content| open.until_answered(content)))
            }
        });
        // What is read ahead, and kept of an answer that nobody takes: a whole head, and what stands around its fields.
        let ahead = 2 * Limits::default().max_head_len;
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(ahead)
            .serve_connection(TokioIo::new(wire), service)
            .with_upgrades();
        let lull = LULL.min(self.limits.head / 4);
        let mut rest = pin!(rests(traffic, lull));
        let mut is_closing = false;
        loop {
            tokio::select! {
                biased;
                ended = &mut connection => {
                    if ended.as_ref().is_err_and(hyper::Error::is_parse) {
                        (self.unreadable)(peer);
                    }
                    return Ok(ended.map(|()| None)?);
                }
                () = &mut rest, if !is_closing => break,
                () = closing.begins(), if !is_closing => {
                    is_closing = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
        Ok(connection.into_parts().map(|parts| {
            let mut wire = parts.io.into_inner();
            wire.put_back(&parts.read_buf);
            wire
        }))
    }

    async fn http2(
        &self,
        wire: Wire<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
        peer: SocketAddr,
        mut closing: Closing,
    ) -> Result<(), Failure> {
        let app = self.app.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(app.clone(), request.map(Body::new), peer);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        // The verifier takes no more.
        let head = Limits::default().max_head_len;
        let head = u32::try_from(head).unwrap_or(u32::MAX);
        let mut connection = pin!(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(head)
                // Whoever does not answer is gone.
                .keep_alive_interval(self.limits.idle)
                .keep_alive_timeout(self.limits.head)
                .serve_connection(TokioIo::new(wire), service)
        );
        tokio::select! {
            biased;
            ended = &mut connection => return Ok(ended?),
            () = closing.begins() => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    }
}

fn answer<S: App>(
    app: S,
    mut request: Request<Body>,
    peer: SocketAddr,
) -> impl Future<Output = Response<Body>> {
    request.extensions_mut().insert(ConnectInfo(peer));
    async move {
        let Ok(response) = app.oneshot(request).await;
        response
    }
}

/// Waits until nothing has been asked for so long, and nothing is on its way.
async fn rests(traffic: &Traffic, lull: Duration) {
    loop {
        traffic.settles().await;
        let before = traffic.begun();
        sleep(lull).await;
        if traffic.begun() == before && traffic.is_at_rest() {
            return;
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[cfg(test)]
mod tests;

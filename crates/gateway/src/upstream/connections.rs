//! Connections to one upstream, and which of them are free.
//!
//! A connection is `hyper`'s. `hyper-util`'s client, which keeps connections to any number of hosts in both versions of
//! HTTP, stood here: for one host and HTTP/1.1 most of what it does with a request is for nothing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tower::ServiceExt as _;

use super::NoReply;
use super::lent::Lent;
use super::tls::Connector;

/// How long a connection is kept that nobody needs.
const KEPT: Duration = Duration::from_mins(1);

/// So many are kept at most.
const MOST_FREE: usize = 1024;

/// How long an upstream that has answered may leave lie what is left of the request.
const READS_ON: Duration = Duration::from_secs(5);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Connections(Arc<Inner>);

struct Inner {
    connector: Connector,
    upstream: Uri,
    /// How long connecting may take.
    within: Duration,
    free: Mutex<Vec<Free>>,
}

struct Connection {
    sender: SendRequest<Body>,
    task: AbortHandle,
}

struct Free {
    connection: Connection,
    since: Instant,
}

impl Free {
    fn is_kept(&self) -> bool {
        self.connection.sender.is_ready() && self.since.elapsed() < KEPT
    }
}

impl Connections {
    pub(super) fn new(connector: Connector, upstream: Uri, within: Duration) -> Self {
        let free = Mutex::default();
        Self(Arc::new(Inner {
            connector,
            upstream,
            within,
            free,
        }))
    }

    /// Sends a request by a connection that is free, or else by a new one. If the upstream turns out to have closed the
    /// one that was free before any of the request was sent, it goes by the next. `sent` is the request's content, if it
    /// has any.
    pub(super) async fn send(
        &self,
        mut request: Request<Body>,
        sent: Option<Lent>,
    ) -> Result<Response<Content>, NoReply> {
        let is_head = request.method() == Method::HEAD;
        while let Some(mut connection) = self.take() {
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok(self.replied(response, connection, is_head, sent)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(NoReply::broke(&error.into_error())),
                },
            }
        }
        // Large, and seldom done.
        Box::pin(self.send_anew(request, sent)).await
    }

    /// Sends a request by a new connection: whether one that was free has just been closed does not matter there.
    pub(super) async fn send_anew(
        &self,
        request: Request<Body>,
        sent: Option<Lent>,
    ) -> Result<Response<Content>, NoReply> {
        let is_head = request.method() == Method::HEAD;
        let mut connection = self.make().await?;
        match connection.sender.send_request(request).await {
            Ok(response) => Ok(self.replied(response, connection, is_head, sent)),
            Err(error) => Err(NoReply::broke(&error)),
        }
    }

    /// Makes a new one, and lets go of it.
    pub(super) async fn connect(&self) -> Result<(), NoReply> {
        self.make().await.map(drop)
    }

    async fn make(&self) -> Result<Connection, NoReply> {
        let connecting = self.0.connector.clone().oneshot(self.0.upstream.clone());
        let connected = timeout(self.0.within, connecting).await;
        let stream = connected
            .map_err(|late| NoReply::unreachable(&late))?
            .map_err(|error| NoReply::unreachable(&*error))?;
        let shaken = handshake(stream).await;
        let (sender, connection) = shaken.map_err(|error| NoReply::broke(&error))?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(target: super::TARGET, %error, "a connection to an upstream broke off");
            }
        });
        let task = task.abort_handle();
        Ok(Connection { sender, task })
    }

    /// Lets go of those that nobody has needed, and of those that are closed.
    pub(super) fn sweep(&self) {
        self.free().retain(Free::is_kept);
    }

    /// The one that was needed last: those that nobody needs grow old.
    fn take(&self) -> Option<Connection> {
        let mut free = self.free();
        while let Some(last) = free.pop() {
            if last.is_kept() {
                return Some(last.connection);
            }
        }
        None
    }

    fn give_back(&self, connection: Connection) {
        let since = Instant::now();
        let mut free = self.free();
        // The oldest stand first.
        let old = free.iter().take_while(|one| !one.is_kept()).count();
        free.drain(..old);
        if free.len() < MOST_FREE {
            free.push(Free { connection, since });
        }
    }

    fn replied(
        &self,
        response: Response<Incoming>,
        connection: Connection,
        is_head: bool,
        sent: Option<Lent>,
    ) -> Response<Content> {
        let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let busy = Busy {
            connection,
            sent,
            of: (!is_head && !leaves_something(&response)).then(|| self.clone()),
        };
        response.map(|incoming| {
            let mut content = Content {
                incoming,
                // One that is not HTTP's any more is not looked after here.
                busy: (!is_upgraded).then_some(busy),
            };
            if content.is_end_stream() {
                content.let_go();
            }
            content
        })
    }

    fn free(&self) -> MutexGuard<'_, Vec<Free>> {
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether content may stand where the next reply begins: `hyper` goes by the status alone, and reads none (RFC 9112
/// section 6.3). Who answers HEAD with content does not say so.
fn leaves_something(response: &Response<Incoming>) -> bool {
    let fields = response.headers();
    let length = fields.get(CONTENT_LENGTH);
    response.status() == StatusCode::NO_CONTENT
        && (fields.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != "0"))
}

/// A connection by which a reply comes.
struct Busy {
    connection: Connection,
    /// The content of the request.
    sent: Option<Lent>,
    /// Who has it next, if anybody may.
    of: Option<Connections>,
}

impl Busy {
    /// Whether the upstream is to take what there is of the request.
    fn is_at_upstream(&self) -> bool {
        self.sent.as_ref().is_none_or(|sent| !sent.is_awaited())
    }

    fn progress(&self) -> u64 {
        self.sent.as_ref().map_or(0, Lent::asked)
    }

    /// Waits until all of the request is out, as long as it goes on.
    async fn ends(mut self) {
        let mut before = self.progress();
        while timeout(READS_ON, self.connection.sender.ready())
            .await
            .is_err()
        {
            let now = self.progress();
            if now == before && self.is_at_upstream() {
                tracing::debug!(target: super::TARGET, "an upstream has answered, and leaves lie what it was sent");
                // It would be there for as long as the upstream likes.
                self.connection.task.abort();
                return;
            }
            before = now;
        }
        self.give_back();
    }

    fn give_back(self) {
        if let Some(of) = self.of.filter(|_| self.connection.sender.is_ready()) {
            of.give_back(self.connection);
        }
    }
}

/// A reply's content. Its connection is free once all of it has come, and closed if nobody takes it.
pub(super) struct Content {
    incoming: Incoming,
    busy: Option<Busy>,
}

impl Content {
    fn let_go(&mut self) {
        let Some(busy) = self.busy.take() else {
            return;
        };
        if busy.connection.sender.is_ready() {
            busy.give_back();
        } else if !busy.connection.sender.is_closed() {
            // The request may be under way still.
            tokio::spawn(busy.ends());
        }
    }
}

impl http_body::Body for Content {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if polled.is_none() || self.is_end_stream() {
            self.let_go();
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests;

//! One request to one upstream, and its reply: what an intermediary does by RFC 9110 section 7.

use std::error::Error;
use std::fmt::Write as _;

use axum::body::Body;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tungstenite::handshake::derive_accept_key;

use super::connections::{Connections, Content};
use super::fields::{elements, take_off_hop};
use super::lent::Lent;

/// Why there is no reply.
pub(super) struct NoReply {
    /// Nothing has been sent.
    pub(super) is_unreachable: bool,
    pub(super) reason: String,
}

impl NoReply {
    pub(super) fn unreachable(error: &(dyn Error + 'static)) -> Self {
        Self {
            is_unreachable: true,
            reason: with_sources(error),
        }
    }

    pub(super) fn broke(error: &hyper::Error) -> Self {
        Self {
            is_unreachable: false,
            reason: with_sources(error),
        }
    }
}

/// A `WebSocket` that a client asks for by HTTP/1.1 (RFC 6455 section 4.1). No other upgrade is passed on: who speaks
/// h2c to an application is past everything here.
pub(super) struct Wanted {
    key: HeaderValue,
    protocols: Vec<HeaderValue>,
    client: OnUpgrade,
}

impl Wanted {
    /// Whether a request asks for one.
    pub(super) fn by(request: &mut Request<Body>) -> Option<Self> {
        let fields = request.headers();
        let key = fields.get(SEC_WEBSOCKET_KEY)?.clone();
        let asks = names(fields, CONNECTION, "upgrade")
            && names(fields, UPGRADE, "websocket")
            && fields.contains_key(SEC_WEBSOCKET_VERSION);
        let protocols = fields.get_all(SEC_WEBSOCKET_PROTOCOL).iter().cloned();
        let protocols = protocols.collect();
        asks.then(|| Self {
            key,
            protocols,
            client: hyper::upgrade::on(request),
        })
    }

    /// Whether these are the fields of an answer that grants it (RFC 6455 section 4.2.2).
    fn is_granted(&self, fields: &HeaderMap) -> bool {
        let accepted = derive_accept_key(self.key.as_bytes());
        let is_offered = |chosen: &HeaderValue| {
            let mut offered = self.protocols.iter().flat_map(elements);
            offered.any(|one| one == chosen)
        };
        names(fields, CONNECTION, "upgrade")
            && names(fields, UPGRADE, "websocket")
            && fields
                .get(SEC_WEBSOCKET_ACCEPT)
                .is_some_and(|it| it == accepted.as_str())
            && fields.get(SEC_WEBSOCKET_PROTOCOL).is_none_or(is_offered)
    }
}

/// Whether a list has this element, in whichever case.
fn names(fields: &HeaderMap, name: HeaderName, element: &str) -> bool {
    let mut all = fields.get_all(name).iter().flat_map(elements);
    all.any(|one| one.eq_ignore_ascii_case(element))
}

/// Sends a request to an upstream. Among its fields there is none of one hop; among those of the
/// reply there is none either. A `WebSocket` that is granted is no longer wanted.
pub(super) async fn exchange(
    connections: &Connections,
    mut request: Request<Body>,
    sent: Option<Lent>,
    wanted: &mut Option<Wanted>,
) -> Result<Response<Content>, NoReply> {
    if wanted.is_some() {
        state_upgrade(request.headers_mut());
    }
    let mut response = connections.send(request, sent).await?;
    let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if is_upgraded {
        let granted = wanted.take_if(|wanted| wanted.is_granted(response.headers()));
        let granted = granted.ok_or_else(|| NoReply {
            is_unreachable: false,
            reason: "it switches to what nobody wanted".to_owned(),
        })?;
        let upstream = hyper::upgrade::on(&mut response);
        tokio::spawn(join(granted.client, upstream));
    }
    take_off_hop(response.headers_mut());
    if is_upgraded {
        state_upgrade(response.headers_mut());
    }
    Ok(response)
}

fn state_upgrade(fields: &mut HeaderMap) {
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Passes on whatever either end says, until both have said all. Whoever has said all may still hear.
async fn join(client: OnUpgrade, upstream: OnUpgrade) {
    let both = async {
        let (client, upstream) = tokio::try_join!(client, upstream)?;
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        copy_bidirectional(&mut client, &mut upstream).await?;
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    };
    if let Err(error) = both.await {
        tracing::debug!(target: super::TARGET, error, "a WebSocket broke off");
    }
}

/// An error with all that has caused it.
fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

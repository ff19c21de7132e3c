//! Whoever sits on the way between the browsers and the server, as a proxy that terminates TLS does.
//!
//! He does nothing until the thief sets him on a visitor. Visitors are told apart by a cookie of the
//! demo's own, which says nothing to either bank.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use serde::{Deserialize, Serialize};

use crate::attack::Attack;
use crate::counter::sorry;
use crate::thief::Thief;

/// The cookie that tells visitors apart.
pub(crate) const VISITOR: &str = "demo-visitor";

/// How many visitors can be watched at the same time, and how much of one message is recorded, in
/// bytes.
const MAX_WATCHED: usize = 64;
const MAX_MESSAGE: usize = 256 * 1024;

/// Another network: an address that is kept for examples (RFC 5737).
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)), 0);

const SEALED_PATH: &str = "/.well-known/bulla/sealed";

/// Which bank a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Protected,
    Twin,
}

impl Side {
    /// As far as the path tells. Inside the seal he sees nothing.
    fn of(path: &str) -> Option<Self> {
        match path {
            SEALED_PATH => Some(Self::Protected),
            path if path.starts_with("/twin/") => Some(Self::Twin),
            _ => None,
        }
    }
}

/// What he has of one visitor's traffic with one bank.
#[derive(Clone, Default)]
pub(crate) struct Catch {
    /// The request as it left the browser, without the visitor's cookie and what one connection only
    /// needs.
    pub(crate) request: Option<http::Request<Bytes>>,
    /// What he made of it and sent on, and what came back.
    pub(crate) changed: Option<(http::Request<Bytes>, http::Response<Bytes>)>,
    /// A reply that he keeps, to hand it out instead of another one.
    reply: Option<http::Response<Bytes>>,
    /// Whether he has done it.
    pub(crate) swapped: bool,
}

/// Who is watched, for what, and what has been caught.
#[derive(Clone)]
pub(crate) struct Watch {
    visitor: String,
    pub(crate) attack: Attack,
    /// What the thief had at both banks when it began.
    pub(crate) balances: [u64; 2],
    pub(crate) protected: Catch,
    pub(crate) twin: Catch,
}

impl Watch {
    fn catch(&mut self, side: Side) -> &mut Catch {
        match side {
            Side::Protected => &mut self.protected,
            Side::Twin => &mut self.twin,
        }
    }
}

/// What to do with one exchange.
enum Deed {
    /// Let it pass.
    Pass,
    /// Let it pass, and keep the reply.
    KeepReply,
    /// Let it pass, and answer with a reply to something else.
    Swap(http::Response<Bytes>),
    /// Keep the request from the server.
    Withhold,
    /// Change the request, and send it on.
    Change,
    /// Let it pass as if it came from another network.
    Relocate,
}

/// The one on the way.
#[derive(Clone)]
pub(crate) struct Tap {
    watched: Arc<Mutex<VecDeque<Watch>>>,
    thief: Thief,
}

impl Tap {
    pub(crate) fn new(thief: Thief) -> Self {
        Self {
            watched: Arc::default(),
            thief,
        }
    }

    /// Watches a visitor for one attack, from now on.
    pub(crate) fn watch(&self, visitor: &str, attack: Attack, balances: [u64; 2]) {
        let mut watched = self.watched();
        watched.retain(|watch| watch.visitor != visitor);
        if watched.len() == MAX_WATCHED {
            watched.pop_front();
        }
        watched.push_back(Watch {
            visitor: visitor.to_owned(),
            attack,
            balances,
            protected: Catch::default(),
            twin: Catch::default(),
        });
    }

    /// Leaves a visitor alone, and hands over what was caught.
    pub(crate) fn take(&self, visitor: &str) -> Option<Watch> {
        let mut watched = self.watched();
        let at = watched.iter().position(|watch| watch.visitor == visitor)?;
        watched.remove(at)
    }

    /// The middleware.
    pub(crate) async fn pass(State(tap): State<Self>, request: Request, next: Next) -> Response {
        let side = Side::of(request.uri().path());
        let visitor = visitor(request.headers()).filter(|visitor| tap.is_watched(visitor));
        let (Some(side), Some(visitor)) = (side, visitor) else {
            return next.run(request).await;
        };
        let (parts, body) = request.into_parts();
        let Ok(body) = whole(body).await else {
            return sorry(StatusCode::BAD_REQUEST, "The request is too large.");
        };
        let request = http::Request::from_parts(parts, body);
        match tap.see(&visitor, side, &request) {
            Deed::Pass => next.run(request.map(Body::from)).await,
            Deed::KeepReply => {
                let reply = collected(next.run(request.map(Body::from)).await).await;
                tap.note(&visitor, side, |catch| catch.reply = Some(reply.clone()));
                reply.map(Body::from)
            }
            Deed::Swap(reply) => {
                // The server's own answer is thrown away.
                next.run(request.map(Body::from)).await;
                reply.map(Body::from)
            }
            Deed::Relocate => {
                let mut request = request.map(Body::from);
                request.extensions_mut().insert(ConnectInfo(ELSEWHERE));
                next.run(request).await
            }
            Deed::Withhold => StatusCode::GATEWAY_TIMEOUT.into_response(),
            Deed::Change => {
                let changed = Thief::change(side, sendable(&request));
                let Ok(reply) = tap.thief.send(changed.clone()).await else {
                    return StatusCode::BAD_GATEWAY.into_response();
                };
                tap.note(&visitor, side, |catch| {
                    catch.changed = Some((changed, reply.clone()));
                });
                reply.map(Body::from)
            }
        }
    }

    /// Looks at a request, keeps it if it is of use, and decides what becomes of it.
    fn see(&self, visitor: &str, side: Side, request: &http::Request<Bytes>) -> Deed {
        let mut watched = self.watched();
        let Some(watch) = watched.iter_mut().find(|watch| watch.visitor == visitor) else {
            return Deed::Pass;
        };
        let attack = watch.attack;
        let catch = watch.catch(side);
        let is_first = catch.request.is_none();
        match attack {
            Attack::Token => Deed::Pass,
            Attack::Swap if catch.swapped => Deed::Pass,
            Attack::Swap => match catch.reply.take() {
                Some(reply) => {
                    catch.swapped = true;
                    Deed::Swap(reply)
                }
                None => Deed::KeepReply,
            },
            Attack::Keep | Attack::Change | Attack::Elsewhere if !is_first => Deed::Pass,
            Attack::Replay | Attack::Keep | Attack::Change | Attack::Elsewhere => {
                catch.request = Some(sendable(request));
                match attack {
                    Attack::Keep => Deed::Withhold,
                    Attack::Change => Deed::Change,
                    Attack::Elsewhere => Deed::Relocate,
                    _ => Deed::Pass,
                }
            }
        }
    }

    fn note(&self, visitor: &str, side: Side, note: impl FnOnce(&mut Catch)) {
        let mut watched = self.watched();
        if let Some(watch) = watched.iter_mut().find(|watch| watch.visitor == visitor) {
            note(watch.catch(side));
        }
    }

    fn is_watched(&self, visitor: &str) -> bool {
        let watched = self.watched();
        watched.iter().any(|watch| watch.visitor == visitor)
    }

    fn watched(&self) -> MutexGuard<'_, VecDeque<Watch>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The visitor's name in the demo's own cookie.
pub(crate) fn visitor(headers: &HeaderMap) -> Option<String> {
    cookie(headers, VISITOR)
}

/// A cookie of a request.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut lines = headers.get_all(COOKIE).iter();
    lines.find_map(|line| {
        let mut pairs = line.to_str().ok()?.split("; ");
        pairs.find_map(|pair| Some(pair.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
    })
}

/// A request as anyone can send it again.
fn sendable(request: &http::Request<Bytes>) -> http::Request<Bytes> {
    let mut copy = http::Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    let headers = copy.headers_mut();
    for name in [HOST, CONTENT_LENGTH, CONNECTION, COOKIE] {
        headers.remove(name);
    }
    copy
}

async fn collected(response: Response) -> http::Response<Bytes> {
    let (mut parts, body) = response.into_parts();
    for name in [CONTENT_LENGTH, CONNECTION, TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    // A reply that breaks off is handed on as far as it came.
    http::Response::from_parts(parts, whole(body).await.unwrap_or_default())
}

async fn whole(body: Body) -> Result<Bytes, axum::BoxError> {
    Ok(Limited::new(body, MAX_MESSAGE).collect().await?.to_bytes())
}

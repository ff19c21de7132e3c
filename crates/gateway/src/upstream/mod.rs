//! To the application and back.
//!
//! HTTP and upgrades are `hyper`'s, finding and reaching an upstream is `hyper-util`'s. Pingora brings its own runtime,
//! server and configuration, and takes no tower service, which is what the verifier is. `axum-reverse-proxy` was the
//! engine here: of what it adds the fields about forwarding, the trailers, the time-outs and the second tries had to be
//! this gateway's own, and what was left, fields of one hop and `WebSocket`, cost a fifth of what the gateway does with a
//! request.

mod connections;
mod exchange;
mod failure;
mod fields;
mod health;
mod lent;
mod reply;
mod tls;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bulla_server::{Code, Session};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as HttpBody;
use tokio::time::timeout;

use self::connections::{Connections, Content};
use self::exchange::{NoReply, Wanted, exchange};
use self::failure::Failure;
pub(crate) use self::fields::{Stated, state_session};
use self::lent::Lent;
use self::reply::Reply;
pub use self::tls::UpstreamError;
use self::tls::{Connector, connector};
use crate::config::{Config, stated_address};
use crate::media;
use crate::site::Site;

/// What is told of upstreams goes by this name.
const TARGET: &str = "bulla_gateway::upstream";

/// Where the application is. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Upstreams(Arc<Inner>);

struct Inner {
    config: Config,
    all: Vec<Upstream>,
    next: AtomicUsize,
}

struct Upstream {
    uri: Uri,
    host: HeaderValue,
    connections: Connections,
    is_well: AtomicBool,
}

/// What any of them is asked.
struct Asked {
    method: Method,
    target: PathAndQuery,
    fields: HeaderMap,
    wanted: Option<Wanted>,
}

impl Asked {
    fn request(&self, content: Body) -> Request<Body> {
        let mut request = Request::new(content);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone().into();
        *request.headers_mut() = self.fields.clone();
        request
    }
}

impl Upstream {
    /// `None` if that is nowhere.
    fn at(uri: &Uri, connector: Connector, within: Duration) -> Option<Self> {
        Some(Self {
            uri: uri.clone(),
            host: HeaderValue::from_str(uri.authority()?.as_str()).ok()?,
            connections: Connections::new(connector, uri.clone(), within),
            is_well: AtomicBool::new(true),
        })
    }

    fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }
}

impl Upstreams {
    pub(crate) fn new(config: &Config) -> Result<Self, UpstreamError> {
        let connector = connector(config)?;
        let within = config.limits.connect;
        let upstream = |uri| Upstream::at(uri, connector.clone(), within);
        Ok(Self(Arc::new(Inner {
            all: config.upstreams.iter().filter_map(upstream).collect(),
            config: config.clone(),
            next: AtomicUsize::new(0),
        })))
    }

    /// Whether it is these.
    pub(crate) fn are(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.0, &others.0)
    }

    /// `is_page` says whether a page is asked for.
    pub(crate) async fn forward(
        &self,
        mut request: Request<Body>,
        is_page: bool,
    ) -> Response<Body> {
        let target = request.uri().path_and_query().cloned();
        let Some(target) = target.filter(|target| target.as_str().starts_with('/')) else {
            return Failure::BadTarget.response("the target is no path");
        };
        let Some(site) = request.extensions().get::<Arc<Site>>().cloned() else {
            return Failure::Misdirected.response("the request is for none of the origins");
        };
        let wanted = Wanted::by(&mut request);
        let client = self.client_of(&request);
        let (
            Parts {
                method,
                mut headers,
                extensions,
                ..
            },
            body,
        ) = request.into_parts();
        let session = extensions.get::<Session>();
        fields::take_off(&mut headers, self.0.config.network.client_address.as_ref());
        site.stated.state(&mut headers, client);
        if let Some(session) = session {
            state_session(&mut headers, session);
        }
        let is_sealed = session.is_some_and(Session::is_sealed);
        fields::ask_for_plain(&mut headers, is_page, is_sealed);
        // What is verified has been measured there, and what is streamed sealed has no end.
        let room = session.is_none().then_some(self.0.config.limits.body);
        let asked = Asked {
            method,
            target,
            fields: headers,
            wanted,
        };
        match self.send(asked, body, room).await {
            Ok(response) if lies(&response) => {
                Failure::Broke.response("the reply has a length and is in chunks")
            }
            Ok(response) => received(response, self.0.config.limits.quiet),
            Err((failure, reason)) => failure.response(&reason),
        }
    }

    fn client_of(&self, request: &Request<Body>) -> Option<IpAddr> {
        if let Some(field) = &self.0.config.network.client_address {
            return stated_address(field, request.headers());
        }
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        peer.map(|ConnectInfo(peer)| peer.ip())
    }

    /// Tries one upstream after the other, as long as nothing has been sent to any. If none is well, one that was not may
    /// be by now. What is safe (RFC 9110 section 9.2.1) and has no content is sent once more if there is no reply: an upstream
    /// that goes away, or closes a connection that was idle, does not say whether it has seen a request.
    async fn send(
        &self,
        mut asked: Asked,
        body: Body,
        room: Option<usize>,
    ) -> Result<Response<Content>, (Failure, String)> {
        let exact = body.size_hint().exact();
        if let (Some(len), Some(room)) = (exact, room)
            && usize::try_from(len).map_or(true, |len| len > room)
        {
            return Err((Failure::TooLarge, "by its length".to_owned()));
        }
        if exact.is_none() {
            // Or content that nobody expects with a method is left out.
            let chunked = HeaderValue::from_static("chunked");
            asked.fields.insert(TRANSFER_ENCODING, chunked);
        }
        let body = Lent::new(body, room);
        let mut failure = (Failure::NoUpstream, "all are unwell".to_owned());
        let mut may_repeat = exact == Some(0) && asked.method.is_safe();
        let mut to_ask = self.in_turn();
        while let Some(upstream) = to_ask.pop_front() {
            let no_reply = match self.ask(upstream, &mut asked, &body).await? {
                Ok(response) => return Ok(response),
                Err(no_reply) => no_reply,
            };
            let reason = no_reply.reason;
            if body.is_over() {
                return Err((Failure::TooLarge, reason));
            }
            if let Some(refusal) = body.broken() {
                return Err((Failure::Content(refusal), reason));
            }
            if !no_reply.is_unreachable {
                failure = (Failure::Broke, reason);
                if !std::mem::take(&mut may_repeat) {
                    break;
                }
                // The others first.
                to_ask.push_back(upstream);
                continue;
            }
            upstream.is_well.store(false, Ordering::Relaxed);
            if failure.0 != Failure::Broke {
                failure = (Failure::Unreachable, reason);
            }
            if body.asked() > 0 {
                break;
            }
        }
        Err(failure)
    }

    /// Those that are well, each request beginning with another one, and then one that is not.
    fn in_turn(&self) -> VecDeque<&Upstream> {
        let all = &self.0.all;
        let first = self.0.next.fetch_add(1, Ordering::Relaxed);
        let first = first.checked_rem(all.len()).unwrap_or_default();
        let in_turn = || all.iter().cycle().skip(first).take(all.len());
        let mut to_ask: VecDeque<_> = in_turn().filter(|one| one.is_well()).collect();
        to_ask.extend(in_turn().find(|one| !one.is_well()));
        to_ask
    }

    /// Gives up once there has been neither a reply nor a call for more content for so long.
    async fn ask(
        &self,
        upstream: &Upstream,
        asked: &mut Asked,
        body: &Lent,
    ) -> Result<Result<Response<Content>, NoReply>, (Failure, String)> {
        let request = asked.request(body.lend());
        let sent = (!body.is_empty()).then(|| body.clone());
        let mut count = body.asked();
        let mut reply = std::pin::pin!(exchange(
            &upstream.connections,
            request,
            sent,
            &mut asked.wanted
        ));
        loop {
            if let Ok(reply) = timeout(self.0.config.limits.answer, &mut reply).await {
                return Ok(reply);
            }
            let now = body.asked();
            if now == count && body.is_awaited() {
                let refusal = Code::TooSlow.because("the client does not go on");
                return Err((Failure::Content(refusal), "no content in time".to_owned()));
            }
            if now == count {
                return Err((Failure::Timeout, "no reply in time".to_owned()));
            }
            count = now;
        }
    }

    /// Whether any upstream is well.
    pub(crate) fn is_ready(&self) -> bool {
        let mut all = self.0.all.iter();
        all.any(Upstream::is_well)
    }

    /// Where each is, and whether it is well.
    pub(crate) fn states(&self) -> Vec<(String, bool)> {
        let state = |one: &Upstream| (one.uri.to_string(), one.is_well());
        self.0.all.iter().map(state).collect()
    }
}

/// Whether a reply names a length, and yet has come in chunks: `hyper` goes by these, and whoever goes by the length
/// takes a part for the whole (RFC 9112 section 6.3).
fn lies(response: &Response<impl HttpBody>) -> bool {
    let names_a_length = response.headers().contains_key(CONTENT_LENGTH);
    names_a_length && response.body().size_hint().exact().is_none()
}

/// An upstream may be quiet for so long in the middle of a reply, or as long as it likes between events.
fn received<B>(mut response: Response<B>, quiet: Duration) -> Response<Body>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    fields::take_off_reply(response.headers_mut());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response.map(Body::new);
    }
    if response.status() == StatusCode::NO_CONTENT {
        // RFC 9110 section 8.6.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    let are_events = media::is(response.headers(), "text/event-stream");
    let quiet = (!are_events).then_some(quiet);
    response.map(|body| Body::new(Reply::new(body, quiet)))
}

#[cfg(test)]
mod tests;

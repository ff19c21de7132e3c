//! To the application and back.
//!
//! Connections to upstreams, HTTP and upgrades are `hyper-util`'s and `hyper`'s. Pingora brings its own runtime, server
//! and configuration, and takes no tower service, which is what the verifier is. `axum-reverse-proxy` was the engine
//! here: of what it adds to `hyper-util` the fields about forwarding, the trailers, the time-outs and the second tries
//! had to be this gateway's own, and what was left, fields of one hop and `WebSocket`, cost a fifth of what the gateway
//! does with a request.

mod exchange;
mod fields;
mod lent;
mod reply;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use bulla_server::{Code, Error as Refusal, Session};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use self::exchange::{NoReply, Wanted, exchange};
pub(crate) use self::fields::{Stated, state_session};
use self::lent::Lent;
use self::reply::Reply;
use crate::config::{Config, UpstreamTls, stated_address};
use crate::serve::{TlsError, certificates};
use crate::site::Site;

/// What is told of upstreams goes by this name.
const TARGET: &str = "bulla_gateway::upstream";

type Connector = HttpsConnector<HttpConnector>;

/// Where the application is. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Upstreams(Arc<Inner>);

struct Inner {
    config: Config,
    client: Client<Connector, Body>,
    all: Vec<Upstream>,
    next: AtomicUsize,
}

struct Upstream {
    uri: Uri,
    scheme: Scheme,
    authority: Authority,
    is_well: AtomicBool,
}

/// What any of them is asked.
struct Asked {
    method: Method,
    target: Option<PathAndQuery>,
    fields: HeaderMap,
    wanted: Option<Wanted>,
}

/// Why no upstream can be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The system's certificates, by which upstreams are known.
    #[error("the system's certificates cannot be read: {0}")]
    Roots(#[source] std::io::Error),
    /// The file of those who vouch for upstreams instead.
    #[error(transparent)]
    Authorities(TlsError),
    /// What is in that file.
    #[error("{} has a certificate that vouches for nobody: {}", .0.display(), .1)]
    Authority(PathBuf, #[source] rustls::Error),
    /// What is asked of TLS.
    #[error("TLS to upstreams cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why there is no reply from the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Unreachable,
    Broke,
    NoUpstream,
    Timeout,
    /// The client's content, by what the verifier says of it.
    Content(Refusal),
    TooLarge,
    Misdirected,
    BadTarget,
}

impl Failure {
    fn parts(self) -> (StatusCode, &'static str) {
        match self {
            Self::Unreachable => (StatusCode::BAD_GATEWAY, "upstream_unreachable"),
            Self::Broke => (StatusCode::BAD_GATEWAY, "upstream_broke"),
            Self::NoUpstream => (StatusCode::SERVICE_UNAVAILABLE, "no_upstream"),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "upstream_timeout"),
            Self::Content(refusal) => {
                let status = StatusCode::from_u16(refusal.code.status());
                (
                    status.unwrap_or(StatusCode::BAD_REQUEST),
                    refusal.code.as_str(),
                )
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Misdirected => (StatusCode::MISDIRECTED_REQUEST, "authority_mismatch"),
            Self::BadTarget => (StatusCode::BAD_REQUEST, "target_refused"),
        }
    }

    /// Problem Details (RFC 9457). Where the application is, is nobody's business.
    fn response(self, reason: &str) -> Response<Body> {
        let (status, code) = self.parts();
        tracing::warn!(target: TARGET, code, reason, "a request was not answered by the application");
        let title = status.canonical_reason().unwrap_or_default();
        let status_code = status.as_u16();
        let problem = format!(r#"{{"title":"{title}","status":{status_code},"code":"{code}"}}"#);
        let mut response = Response::new(problem.into());
        *response.status_mut() = status;
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        if let Self::Content(refusal) = self {
            // The verifier makes an event of it on the way out.
            response.extensions_mut().insert(refusal);
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            // RFC 9110 section 15.5.9: the rest of the content stands in the way of whatever comes next.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}

impl Upstream {
    /// `None` if that is nowhere.
    fn at(uri: &Uri) -> Option<Self> {
        Some(Self {
            uri: uri.clone(),
            scheme: uri.scheme()?.clone(),
            authority: uri.authority()?.clone(),
            is_well: AtomicBool::new(true),
        })
    }

    /// A request to this one.
    fn request(&self, asked: &Asked, body: Body) -> Option<Request<Body>> {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(asked.target.clone()?);
        let mut request = Request::new(body);
        *request.uri_mut() = uri.build().ok()?;
        *request.method_mut() = asked.method.clone();
        *request.headers_mut() = asked.fields.clone();
        Some(request)
    }

    fn is_well(&self) -> bool {
        self.is_well.load(Ordering::Relaxed)
    }
}

impl Upstreams {
    pub(crate) fn new(config: &Config) -> Result<Self, UpstreamError> {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_mins(1))
            .build(connector(config)?);
        Ok(Self(Arc::new(Inner {
            all: config.upstreams.iter().filter_map(Upstream::at).collect(),
            config: config.clone(),
            client,
            next: AtomicUsize::new(0),
        })))
    }

    pub(crate) async fn forward(&self, mut request: Request<Body>) -> Response<Body> {
        if !request.uri().path().starts_with('/') {
            return Failure::BadTarget.response("the target is no path");
        }
        let Some(site) = request.extensions().get::<Arc<Site>>().cloned() else {
            return Failure::Misdirected.response("the request is for none of the origins");
        };
        let wanted = Wanted::by(&mut request);
        let client = self.client_of(&request);
        let (
            Parts {
                method,
                uri,
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
        fields::ask_for_plain(&mut headers, session.is_some_and(Session::is_sealed));
        // What is verified has been measured there, and what is streamed sealed has no end.
        let room = session.is_none().then_some(self.0.config.limits.body);
        let asked = Asked {
            method,
            target: uri.into_parts().path_and_query,
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
    ) -> Result<Response<Body>, (Failure, String)> {
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
    ) -> Result<Result<Response<Body>, NoReply>, (Failure, String)> {
        let Some(request) = upstream.request(asked, Body::new(body.clone())) else {
            return Err((Failure::BadTarget, "the target is no URI".to_owned()));
        };
        let mut count = body.asked();
        let mut reply = std::pin::pin!(exchange(&self.0.client, request, &mut asked.wanted));
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

    /// Looks after the upstreams, without end.
    pub(crate) fn watch(&self) -> impl Future<Output = ()> + Send + use<> {
        let upstreams = self.clone();
        async move {
            loop {
                let checks = upstreams.0.all.iter().map(|one| upstreams.check(one));
                futures_util::future::join_all(checks).await;
                sleep(upstreams.0.config.health.interval).await;
            }
        }
    }

    async fn check(&self, upstream: &Upstream) {
        let within = self.0.config.health.timeout;
        let is_well = timeout(within, self.answers(upstream))
            .await
            .unwrap_or_default();
        if upstream.is_well.swap(is_well, Ordering::Relaxed) != is_well {
            tracing::warn!(target: TARGET, upstream = %upstream.uri, is_well, "an upstream has changed");
        }
    }

    async fn answers(&self, upstream: &Upstream) -> bool {
        let Some(path) = &self.0.config.health.path else {
            let is_tls = upstream.scheme == Scheme::HTTPS;
            let port = upstream
                .authority
                .port_u16()
                .unwrap_or(if is_tls { 443 } else { 80 });
            let host = upstream.authority.host().trim_matches(['[', ']']);
            return TcpStream::connect((host, port)).await.is_ok();
        };
        let mut uri = upstream.uri.clone().into_parts();
        uri.path_and_query = path.parse().ok();
        let Ok(uri) = Uri::from_parts(uri) else {
            return false;
        };
        let reply = self.0.client.get(uri).await;
        reply.is_ok_and(|reply| reply.status().as_u16() < 500)
    }
}

/// Whether a reply names a length, and yet has come in chunks: `hyper` goes by these, and whoever goes by the length
/// takes a part for the whole (RFC 9112 section 6.3).
fn lies(response: &Response<Body>) -> bool {
    let names_a_length = response.headers().contains_key(CONTENT_LENGTH);
    names_a_length && response.body().size_hint().exact().is_none()
}

/// An upstream may be quiet for so long in the middle of a reply, or as long as it likes between events.
fn received(mut response: Response<Body>, quiet: Duration) -> Response<Body> {
    fields::take_off_reply(response.headers_mut());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    if response.status() == StatusCode::NO_CONTENT {
        // RFC 9110 section 8.6.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    let kind = response.headers().get(CONTENT_TYPE);
    let are_events = kind.is_some_and(|kind| {
        let essence = kind.as_bytes().split(|&byte| byte == b';').next();
        essence.is_some_and(|it| it.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
    });
    let quiet = (!are_events).then_some(quiet);
    response.map(|body| Body::new(Reply::new(body, quiet)))
}

fn connector(config: &Config) -> Result<Connector, UpstreamError> {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(config.limits.connect));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let is_tls = |uri: &Uri| uri.scheme_str() == Some("https");
    let builder = hyper_rustls::HttpsConnectorBuilder::new();
    let named = config.upstream_tls.as_ref();
    let named = named.map(UpstreamTls::authorities).transpose()?;
    let builder = if named.is_none() && config.upstreams.iter().any(is_tls) {
        let builder = builder.with_provider_and_native_roots(provider);
        builder.map_err(UpstreamError::Roots)?
    } else {
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider));
        let tls = tls.with_safe_default_protocol_versions()?;
        let roots = named.unwrap_or_else(RootCertStore::empty);
        builder.with_tls_config(tls.with_root_certificates(roots).with_no_client_auth())
    };
    Ok(builder.https_or_http().enable_http1().wrap_connector(tcp))
}

impl UpstreamTls {
    /// Reads the file, as a gateway does that is built.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Authorities`], [`UpstreamError::Authority`].
    pub fn check(&self) -> Result<(), UpstreamError> {
        self.authorities().map(drop)
    }

    fn authorities(&self) -> Result<RootCertStore, UpstreamError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca).map_err(UpstreamError::Authorities)? {
            let unusable = |error| UpstreamError::Authority(self.ca.clone(), error);
            roots.add(certificate).map_err(unusable)?;
        }
        Ok(roots)
    }
}

#[cfg(test)]
mod tests;

//! The tower layer: every request is verified before the inner service sees it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bulla_protocol::error::{Code, Error};
use bulla_protocol::field;
use bulla_protocol::limits::MAX_OPENING_LEN;
use bulla_protocol::signature::Request as SignedRequest;
use bulla_protocol::target::{Origin, Target};
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderName, Method, Request, Response, StatusCode, Version};
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;
use tower::{Layer, Service, ServiceExt as _};

use crate::body::{self, Body, BoxError, Rest};
use crate::bulla::Bulla;
use crate::codes::{client_goes_on, is_for_honest};
use crate::cors;
#[cfg(feature = "metrics")]
use crate::event::meter;
use crate::event::{About, EventKind};
use crate::headers::{PROOF_FIELDS, View};
use crate::live::Live;
use crate::pace;
use crate::policy::Monitored;
use crate::reply::WHOLE;
use crate::session::{Outcome, Session};
use crate::verify::{Received, Rejected, ReplyTo, Verified};

/// Puts the verifier before a service. Made by [`Bulla::layer`].
#[derive(Clone, Debug)]
pub struct BullaLayer {
    bulla: Bulla,
}

impl BullaLayer {
    pub(crate) fn new(bulla: Bulla) -> Self {
        Self { bulla }
    }
}

impl<S> Layer<S> for BullaLayer {
    type Service = BullaService<S>;

    fn layer(&self, inner: S) -> BullaService<S> {
        BullaService {
            bulla: self.bulla.clone(),
            inner,
        }
    }
}

/// A service behind the verifier.
///
/// A request reaches the inner service
///
/// 1. with a [`Session`] in its extensions, if every check was passed, or
/// 2. without one, if it makes no claim to a session and its path was let through with
///    [`Builder::unsigned`](crate::Builder::unsigned).
///
/// Everything else is refused. Which cookies pass on verified requests is said by
/// [`Builder::cookies`](crate::Builder::cookies): none, unless they are bound to the device.
///
/// # Deployment caveat
///
/// The `Host` that reaches this service must be that of a configured origin. A proxy that rewrites it
/// makes every request an `authority_mismatch`; `X-Forwarded-Host` is never looked at.
#[derive(Clone, Debug)]
pub struct BullaService<S> {
    bulla: Bulla,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for BullaService<S>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ServiceFuture<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let bulla = self.bulla.clone();
        let inner = take_inner(&mut self.inner);
        let request = request.map(body::boxed);
        Box::pin(async move { bulla.handle(request, inner).await })
    }
}

pub(crate) type ServiceFuture<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

/// What is known of a request before anything is done about it.
pub(crate) struct Arrival {
    pub(crate) about: About,
    /// Whether its network has not come too often.
    pub(crate) is_welcome: Result<(), Error>,
    version: Version,
    rest: Option<Rest>,
}

/// The refusal that a response is, if it is one.
pub(crate) fn refusal_in(response: &Response<Body>) -> Option<Error> {
    response.extensions().get().copied()
}

/// The inner service, for one request.
pub(crate) type Inner<E> = Box<dyn FnOnce(Request<Body>) -> ServiceFuture<E> + Send>;

/// Takes the service that has been polled ready, and leaves a clone, which has not.
pub(crate) fn take_inner<S, R>(service: &mut S) -> Inner<S::Error>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let clone = service.clone();
    let inner = std::mem::replace(service, clone);
    // An `async` block would hold the inner future twice: as it was captured, and as it is awaited.
    let mut inner = inner.map_response(|response| response.map(body::boxed));
    Box::new(move |request| Box::pin(inner.call(request)))
}

impl Bulla {
    async fn handle<E: 'static>(
        &self,
        request: Request<Body>,
        inner: Inner<E>,
    ) -> Result<Response<Body>, E> {
        let cors = self.cors_fields(request.headers());
        let mut response = if cors.is_some() && cors::is_preflight(&request) {
            cors::preflighted()
        } else {
            let (request, inner, mut arrival) = self.arrive(request, inner);
            let served = match arrival.is_welcome {
                Ok(()) => self.route(request, inner, &mut arrival.about).await,
                Err(refusal) => Err(refusal),
            };
            let mut response = match served {
                Ok(served) => served?,
                Err(refusal) => self.refuse(refusal),
            };
            self.conclude(arrival, &mut response).await;
            response
        };
        self.add_cors(cors.as_ref(), response.headers_mut());
        Ok(response)
    }

    /// Holds a request to the pace, and finds out where it comes from and whether that is too often.
    pub(crate) fn arrive<E: 'static>(
        &self,
        request: Request<Body>,
        inner: Inner<E>,
    ) -> (Request<Body>, Inner<E>, Arrival) {
        let network = self.0.finder.find(request.headers(), request.extensions());
        let is_welcome = self.0.meters.of_network(network, self.now());
        let about = About::new(request.uri().clone(), network);
        let version = request.version();
        let (request, inner) = self.paced(request, inner);
        let (request, rest) = body::with_rest(request);
        let arrival = Arrival {
            about,
            is_welcome,
            version,
            // Who comes too often from one place is not heard out.
            rest: rest.filter(|_| is_welcome.is_ok()),
        };
        (request, inner, arrival)
    }

    /// Reports a refusal, whoever made it, does what the rules want done, and hears out whoever is still sending.
    pub(crate) async fn conclude(&self, arrival: Arrival, response: &mut Response<Body>) {
        let Arrival {
            about,
            version,
            rest,
            ..
        } = arrival;
        let refusal = refusal_in(response);
        if let Some(refusal) = refusal {
            pace::hang_up(response, refusal, version);
            self.report(EventKind::Refused(refusal), &about);
        }
        // Before anybody is heard out: it is not for him to say when others learn of it.
        self.carry_out().await;
        let is_heard = refusal.is_some_and(|refusal| is_for_honest(refusal.code));
        if let Some(rest) = rest.filter(|_| is_heard) {
            rest.discard(self).await;
        }
    }

    /// The outer error is a refusal that goes out in plain text; the inner one is the inner service's.
    async fn route<E>(
        &self,
        request: Request<Body>,
        inner: Inner<E>,
        about: &mut About,
    ) -> Result<Result<Response<Body>, E>, Error> {
        let origin = self.origin_of(&request)?.clone();
        let is_opening =
            request.uri().path() == self.0.session_path && request.method() == Method::POST;
        let (parts, body) = request.into_parts();
        let received = Received {
            origin,
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            body,
            extensions: parts.extensions,
        };
        if is_opening && !received.is_sealed() {
            return Box::pin(self.open(received, about)).await.map(Ok);
        }
        if !received.is_sealed() && !received.claims_proof() {
            return self.pass_unsigned(received, inner, about).await;
        }
        // Large, and nothing that whoever claims nothing should carry along.
        Box::pin(self.prove(received, inner, about)).await
    }

    /// Answers what is sealed, or claims to be signed.
    async fn prove<E>(
        &self,
        received: Received,
        inner: Inner<E>,
        about: &mut About,
    ) -> Result<Result<Response<Body>, E>, Error> {
        let mut reply_to = ReplyTo {
            origin: received.origin.clone(),
            seal: None,
        };
        let verified = self.admit(received, &mut reply_to, about).await;
        let served = match verified {
            Ok(verified) => self.serve(verified, inner, &reply_to, about).await,
            Err(rejected) => self.reject(rejected, inner, about).await,
        };
        let response = match served {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Ok(Err(error)),
            Err(refusal) => self.refuse(refusal),
        };
        match self.seal(&reply_to, response).await {
            // The content broke off, say. That is sealed, too, unless nothing can be.
            Err(refusal) => self.seal(&reply_to, self.refuse(refusal)).await,
            sealed => sealed,
        }
        .map(Ok)
    }

    /// All checks, one after another.
    async fn admit(
        &self,
        received: Received,
        reply_to: &mut ReplyTo,
        about: &mut About,
    ) -> Result<Verified, Rejected> {
        if let Err(refusal) = self.keep_ring().await {
            return Err(received.rejected(refusal));
        }
        let ticketed = received.open_ticket(self).await?;
        about.learn(&ticketed.state);
        let unsealed = ticketed.unseal(self).await?;
        about.uri = Some(unsealed.uri.clone());
        unsealed.verify(self, reply_to, about).await
    }

    /// Refuses, unless the path is only monitored.
    async fn reject<E>(
        &self,
        Rejected { refusal, request }: Rejected,
        inner: Inner<E>,
        about: &About,
    ) -> Result<Result<Response<Body>, E>, Error> {
        let passes = |request: &Request<Body>| {
            self.paths().is_monitored(request.uri().path()) && !client_goes_on(refusal.code)
        };
        match request.filter(passes) {
            Some(request) => self.pass(request, Some(refusal), inner, about).await,
            None => Err(refusal),
        }
    }

    async fn open(&self, received: Received, about: &mut About) -> Result<Response<Body>, Error> {
        self.keep_ring().await?;
        let body = body::collect(received.body, MAX_OPENING_LEN).await?;
        let view = View {
            headers: &received.headers,
            stated: None,
        };
        let request = SignedRequest {
            method: received.method.as_str(),
            authority: received.origin.authority(),
            path: received.uri.path(),
            query: received.uri.query(),
            fields: &view,
        };
        self.open_session(&received.origin, &request, &received.headers, &body, about)
            .await
    }

    async fn serve<E>(
        &self,
        verified: Verified,
        inner: Inner<E>,
        reply_to: &ReplyTo,
        about: &About,
    ) -> Result<Result<Response<Body>, E>, Error> {
        let Verified {
            mut request,
            facts,
            state,
            dead_cookies,
        } = verified;
        #[cfg(feature = "metrics")]
        meter::verified(&facts);
        let path = request.uri().path().to_owned();
        let is_end = path == self.0.session_path && request.method() == Method::DELETE;
        let mut response = if is_end {
            Session::new(facts.clone(), self.clone()).logout().await?;
            let mut response = Response::new(body::full(Bytes::new()));
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        } else {
            self.ask(&mut request, about)?;
            match inner(request).await {
                Ok(response) => response,
                Err(error) => return Ok(Err(error)),
            }
        };
        // What the handler did to the session itself does not cut its own answer.
        if is_stream(&response) && facts.outcome() == Outcome::Unchanged {
            let until = self.ends(&state);
            let session = facts.session_ref();
            response = response.map(|body| Live::new(body, self, session, until).boxed_unsync());
        }
        let fields = self.session_fields(state, &facts, reply_to).await?;
        let headers = response.headers_mut();
        self.cookies_out(headers, &reply_to.origin, &facts, &path, dead_cookies)?;
        // Nobody but the verifier speaks of the session, whatever answers an application passes on.
        let own = |name: &&HeaderName| field::is_ours(name.as_str());
        for name in headers.keys().filter(own).cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
        headers.extend(fields);
        Ok(Ok(response))
    }

    /// What its path asks for beyond the default.
    fn ask(&self, request: &mut Request<Body>, about: &About) -> Result<(), Error> {
        let (paths, path) = (self.paths(), request.uri().path());
        let asked = paths.check(path, request.extensions().get());
        let monitored = paths
            .is_monitored(path)
            .then(|| Monitored::new(self, about));
        request.extensions_mut().remove::<Monitored>();
        let Some(monitored) = monitored else {
            return asked;
        };
        if let Err(refusal) = asked {
            monitored.pass(refusal);
        }
        request.extensions_mut().insert(monitored);
        Ok(())
    }

    async fn pass_unsigned<E>(
        &self,
        received: Received,
        inner: Inner<E>,
        about: &About,
    ) -> Result<Result<Response<Body>, E>, Error> {
        let path = received.uri.path();
        Target::parse(path)?;
        let refusal = Code::ProofMissing.because(if received.method == Method::OPTIONS {
            "a preflight from an origin that the builder does not allow"
        } else {
            "the request carries no proof"
        });
        if self.paths().is_unsigned(path) {
            if let Err(refusal) = self.paths().check(path, None) {
                return self.reject(received.rejected(refusal), inner, about).await;
            }
            self.pass(received.into_request(), None, inner, about).await
        } else {
            self.notice_bound(&received.headers, &received.origin, about);
            self.reject(received.rejected(refusal), inner, about).await
        }
    }

    /// Hands over a request that nothing is known of, and without a session. If it would have been refused
    /// elsewhere, that is recorded.
    async fn pass<E>(
        &self,
        mut request: Request<Body>,
        refusal: Option<Error>,
        inner: Inner<E>,
        about: &About,
    ) -> Result<Result<Response<Body>, E>, Error> {
        let path = request.uri().path().to_owned();
        if let Some(refusal) = refusal {
            self.report(EventKind::LetPass(refusal), about);
            for name in &PROOF_FIELDS {
                request.headers_mut().remove(name);
            }
        }
        // Nobody but the verifier puts these here.
        let extensions = request.extensions_mut();
        extensions.remove::<Session>();
        extensions.remove::<Monitored>();
        if self.paths().is_monitored(&path) {
            extensions.insert(Monitored::new(self, about));
        }
        let bound = self.hide_bound(request.headers_mut(), &path);
        Ok(inner(request).await.map(|mut response| {
            self.spare_bound(&bound, response.headers_mut(), &path);
            if response.extensions().get::<Error>().is_some() {
                self.add_nonce(&mut response);
            }
            response
        }))
    }

    /// The configured origin that the request is for. `:authority` and `Host` must not differ.
    pub(crate) fn origin_of<B>(&self, request: &Request<B>) -> Result<&Origin, Error> {
        const WRONG: Error = Code::AuthorityMismatch
            .because("the authority is of no origin that the builder was given");
        let mut hosts = request.headers().get_all(HOST).iter();
        let host = hosts
            .next()
            .map(|host| host.to_str().map_err(|_| WRONG))
            .transpose()?;
        if hosts.next().is_some() {
            return Err(WRONG);
        }
        let authority = request.uri().authority().map(http::uri::Authority::as_str);
        let named = authority.or(host).ok_or(WRONG)?;
        let origin = self
            .0
            .origins
            .iter()
            .find(|origin| origin.has_authority(named))
            .ok_or(WRONG)?;
        let differs = |host| authority.is_some() && !origin.has_authority(host);
        if host.is_some_and(differs) {
            return Err(Code::AuthorityMismatch.because(":authority and Host differ"));
        }
        Ok(origin)
    }
}

/// Whether a reply takes its time: everything but what is there as a whole.
pub(crate) fn is_stream(response: &Response<Body>) -> bool {
    let exact = response.body().size_hint().exact();
    exact.is_none_or(|size| size > WHOLE)
}

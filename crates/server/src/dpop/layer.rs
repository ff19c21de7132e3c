//! The tower layer, and what its refusals say.

use std::task::{Context, Poll};

use bulla_protocol::dpop::{NONCE_FIELD, SCHEME};
use bulla_protocol::error::Code;
use bulla_protocol::jws::ALG;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;
use tower::{Layer, Service};

use super::token::AccessTokens;
use super::{Dpop, Freshness};
use crate::body::{self, Body, BoxError};
use crate::bulla::whole;
use crate::cors;
use crate::layer::{Inner, ServiceFuture, is_stream, refusal_in, take_inner};
use crate::live::Live;
use crate::refused::Refused;

/// Puts a [`Dpop`] before a service. Made by [`Dpop::layer`].
#[derive(Debug)]
pub struct DpopLayer<T> {
    dpop: Dpop<T>,
}

impl<T> DpopLayer<T> {
    pub(super) fn new(dpop: Dpop<T>) -> Self {
        Self { dpop }
    }
}

impl<T> Clone for DpopLayer<T> {
    fn clone(&self) -> Self {
        Self {
            dpop: self.dpop.clone(),
        }
    }
}

impl<S, T> Layer<S> for DpopLayer<T> {
    type Service = DpopService<S, T>;

    fn layer(&self, inner: S) -> DpopService<S, T> {
        DpopService {
            dpop: self.dpop.clone(),
            inner,
        }
    }
}

/// A service behind a [`Dpop`]. A request reaches the inner service with an [`Access`](super::Access) in its
/// extensions, if every check was passed; any other is refused.
///
/// # Deployment caveat
///
/// The path of the request must be the one that the client has asked for: below `Router::nest` it is not, and every
/// request is refused.
#[derive(Debug)]
pub struct DpopService<S, T> {
    dpop: Dpop<T>,
    inner: S,
}

impl<S: Clone, T> Clone for DpopService<S, T> {
    fn clone(&self) -> Self {
        Self {
            dpop: self.dpop.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<S, T, B, R> Service<Request<B>> for DpopService<S, T>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    T: AccessTokens,
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
        let dpop = self.dpop.clone();
        let inner = take_inner(&mut self.inner);
        let request = request.map(body::boxed);
        Box::pin(async move { dpop.handle(request, inner).await })
    }
}

impl<T: AccessTokens> Dpop<T> {
    async fn handle<E: 'static>(
        &self,
        request: Request<Body>,
        inner: Inner<E>,
    ) -> Result<Response<Body>, E> {
        let bulla = &self.bulla;
        let cors = bulla.cors_fields(request.headers());
        let mut response = if cors.is_some() && cors::is_preflight(&request) {
            cors::preflighted()
        } else {
            let (request, inner, mut arrival) = bulla.arrive(request, inner);
            let (head, body) = request.into_parts();
            let head = Request::from_parts(head, ());
            let verified = match arrival.is_welcome {
                Ok(()) => self.verify(&head, &mut arrival.about).await,
                Err(refusal) => Err(refusal),
            };
            let mut response = match verified {
                Ok(access) => {
                    let (until, session) = (access.expires(), access.session());
                    let mut request = head.map(|()| body);
                    request.extensions_mut().insert(access);
                    let response = inner(request).await?;
                    if is_stream(&response) {
                        let until = until.map_or(u32::MAX, whole);
                        response.map(|body| Live::new(body, bulla, session, until).boxed_unsync())
                    } else {
                        response
                    }
                }
                Err(refusal) => {
                    drop(body);
                    Refused(refusal).into()
                }
            };
            if let Some(refusal) = refusal_in(&response) {
                challenge(&mut response, refusal.code);
            }
            bulla.conclude(arrival, &mut response).await;
            self.add_nonce(&mut response);
            response
        };
        bulla.add_cors(cors.as_ref(), response.headers_mut());
        Ok(response)
    }

    /// Hands out the current nonce (RFC 9449 sections 8.2 and 9).
    fn add_nonce(&self, response: &mut Response<Body>) {
        if self.freshness != Freshness::Nonce {
            return;
        }
        // Without one the client cannot go on; but then nothing else works here either.
        if let Ok(nonce) = self.bulla.nonce(self.bulla.now()) {
            let headers = response.headers_mut();
            headers.insert(HeaderName::from_static(NONCE_FIELD), nonce.plain);
            // Out of a cache it would be an old one.
            headers
                .entry(CACHE_CONTROL)
                .or_insert(HeaderValue::from_static("no-store"));
        }
    }
}

/// Says what kind of proof is wanted, and what was wrong (RFC 9449 section 7.1), in place of what sealed sessions are
/// told.
fn challenge(response: &mut Response<Body>, code: Code) {
    if response.status() != StatusCode::UNAUTHORIZED {
        return;
    }
    let error = match code {
        // RFC 6750 section 3.1: whoever has shown no token is told of no error.
        Code::ProofMissing => None,
        Code::TicketInvalid | Code::TicketExpired | Code::SessionRevoked => Some("invalid_token"),
        Code::NonceStale => Some("use_dpop_nonce"),
        Code::ProofMismatch | Code::Replayed => Some("invalid_dpop_proof"),
        // What a handler asks for, such as a recent login (RFC 9470 section 3).
        other => Some(other.as_str()),
    };
    let error = error.map(|error| format!("error=\"{error}\", "));
    let challenge = format!("{SCHEME} {}algs=\"{ALG}\"", error.unwrap_or_default());
    if let Ok(challenge) = challenge.try_into() {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
}

//! For axum: [`Bulla::protect`], [`Dpop::protect`], and the extractors [`Session`] and [`Access`].

use std::future::ready;

use axum::Router;
use axum::extract::{FromRequestParts, OptionalFromRequestParts, OriginalUri};
use axum::response::{IntoResponse, Response};
use http::Request;
use http::request::Parts;
use tower::Layer as _;
use tower::util::MapRequest;

use crate::body::Body;
use crate::bulla::Bulla;
use crate::dpop::{Access, AccessTokens, Dpop};
use crate::refused::Refused;
use crate::session::{MISSING, Session};

impl Bulla {
    /// Puts the verifier before a router. What is merged into the result afterwards is not protected.
    ///
    /// The verifier is the result's fallback: merge routes into it, and give it no other fallback.
    pub fn protect(&self, router: Router) -> Router {
        // Not `Router::layer`: that runs after routing, and the path to route by is inside the seal.
        let router = MapRequest::new(router, |mut request: Request<Body>| {
            // The outer router has put the envelope's here. The inner one puts its own.
            request.extensions_mut().remove::<OriginalUri>();
            request
        });
        Router::new().fallback_service(self.layer().layer(router))
    }
}

impl<T: AccessTokens> Dpop<T> {
    /// Asks for an access token and a proof of its key before every route of a router, which can be merged into what
    /// [`Bulla::protect`] gives. It is not to be nested below a path: what was signed is the whole of it.
    pub fn protect(&self, router: Router) -> Router {
        router.layer(self.layer())
    }
}

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = Refused;

    fn from_request_parts(parts: &mut Parts, _: &S) -> impl Future<Output = Result<Self, Refused>> {
        ready(parts.extensions.get().cloned().ok_or(Refused(MISSING)))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = std::convert::Infallible;

    fn from_request_parts(
        parts: &mut Parts,
        _: &S,
    ) -> impl Future<Output = Result<Option<Self>, Self::Rejection>> {
        ready(Ok(parts.extensions.get().cloned()))
    }
}

impl<S: Sync, C: Send + Sync + 'static> FromRequestParts<S> for Access<C> {
    type Rejection = Refused;

    fn from_request_parts(parts: &mut Parts, _: &S) -> impl Future<Output = Result<Self, Refused>> {
        ready(parts.extensions.get().cloned().ok_or(Refused(MISSING)))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        http::Response::<Body>::from(self).map(axum::body::Body::new)
    }
}

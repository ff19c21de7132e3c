//! What a route asks for beyond the default.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bulla_protocol::error::{Code, Error};
use bulla_protocol::proof::ProofKind;
use http::{Request, Response};
use tower::{Layer, Service};

use crate::assurance::Assurance;
use crate::body::{self, Body, BoxError};
use crate::refused::Refused;
use crate::session::{MISSING, Session};

/// How much of a request the way must not have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Cover {
    #[default]
    Nothing,
    Content,
    /// The path, too.
    Everything,
}

/// A layer for one route that asks for more than the verifier's default, never for less: a request
/// without a verified session does not pass it at all.
///
/// ```
/// let transfers = bulla_server::Require::session().logged_in().sealed().device_proof();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Require {
    cover: Cover,
    logged_in: bool,
    device_proof: bool,
    assurance: Assurance,
    recent_login: Option<Duration>,
}

impl Require {
    /// A verified session, anonymous or not.
    pub fn session() -> Self {
        Self::default()
    }

    /// The request must have come sealed.
    pub fn sealed(self) -> Self {
        Self {
            cover: self.cover.max(Cover::Content),
            ..self
        }
    }

    /// It must have come by the endpoint that all sealed requests share, so that nobody on the way has seen its
    /// path.
    pub fn concealed(self) -> Self {
        Self {
            cover: Cover::Everything,
            ..self
        }
    }

    /// Somebody must be logged in.
    pub fn logged_in(self) -> Self {
        Self {
            logged_in: true,
            ..self
        }
    }

    /// The device key must have signed this very request.
    pub fn device_proof(self) -> Self {
        Self {
            device_proof: true,
            ..self
        }
    }

    /// Somebody must have logged in, and no longer ago than this, in whole seconds: for what whoever sits down at
    /// an open page must not do. To log in again is a login as any other, with a new id and fresh keys; so one by a
    /// remembered cookie makes it recent, too.
    pub fn recent_login(self, max_age: Duration) -> Self {
        Self {
            recent_login: Some(max_age),
            ..self
        }
    }

    /// Somebody must have [logged in](Session::login_with) with this level of assurance at least.
    pub fn assurance(self, least: Assurance) -> Self {
        Self {
            assurance: least,
            ..self
        }
    }

    /// Whether a request may pass.
    ///
    /// # Errors
    ///
    /// In this order: [`Code::ProofMissing`], [`Code::SealRequired`], [`Code::ProofWeak`],
    /// [`Code::LoginRequired`], [`Code::InsufficientUserAuthentication`].
    pub fn check(&self, session: Option<&Session>) -> Result<(), Error> {
        let session = session.ok_or(MISSING)?;
        if self.cover >= Cover::Content && !session.is_sealed() {
            return Err(Code::SealRequired.because("this route wants sealed requests"));
        }
        if self.cover == Cover::Everything && !session.is_concealed() {
            return Err(Code::SealRequired.because("this route wants concealed requests"));
        }
        if self.device_proof && session.proof() != ProofKind::Device {
            return Err(Code::ProofWeak.because("this route wants a device proof"));
        }
        let age = session.login_age();
        let wants_login =
            self.logged_in || self.recent_login.is_some() || self.assurance > Assurance::NONE;
        if wants_login && age.is_none() {
            return Err(Code::LoginRequired.because("this route wants a login"));
        }
        if (self.recent_login.is_some() || self.assurance > Assurance::NONE)
            && session.must_step_up()
        {
            let suspect = Code::InsufficientUserAuthentication;
            return Err(suspect.because("this session has to be logged in to again"));
        }
        if session.assurance() < self.assurance {
            let weak = Code::InsufficientUserAuthentication;
            return Err(weak.because("this route wants a login with more assurance"));
        }
        if let (Some(age), Some(max_age)) = (age, self.recent_login)
            && age > max_age
        {
            let old = Code::InsufficientUserAuthentication;
            return Err(old.because("this route wants a more recent login"));
        }
        Ok(())
    }
}

impl<S> Layer<S> for Require {
    type Service = Required<S>;

    fn layer(&self, inner: S) -> Required<S> {
        Required {
            require: *self,
            inner,
        }
    }
}

/// A service behind a [`Require`].
#[derive(Clone, Debug)]
pub struct Required<S> {
    require: Require,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Required<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let asked = self.require.check(request.extensions().get());
        let asked = asked.or_else(|error| Refused::unless_monitored(error, request.extensions()));
        if let Err(refused) = asked {
            return Box::pin(std::future::ready(Ok(refused.into())));
        }
        let response = self.inner.call(request);
        Box::pin(async move { Ok(response.await?.map(body::boxed)) })
    }
}

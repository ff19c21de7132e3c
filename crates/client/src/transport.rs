//! What carries HTTP messages. Tests put the verifier itself in this place.

use core::future::Future;
use core::pin::Pin;
use core::time::Duration;

use bulla_protocol::error::Code;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;

use crate::error::{BoxError, Error};

/// A body as it goes to the network.
pub(crate) enum Outbound {
    Whole(Bytes),
    Stream(Upload),
}

pub(crate) type Upload = BoxBody<Bytes, BoxError>;

/// A body as it comes from the network.
pub(crate) type Incoming = BoxBody<Bytes, BoxError>;

pub(crate) type Sending<'a> =
    Pin<Box<dyn Future<Output = Result<Response<Incoming>, Error>> + Send + 'a>>;

pub(crate) trait Transport: Send + Sync {
    /// Sends a request with an absolute URI, as it is.
    /// Its answer must be there as a whole within `limit`, if there is one.
    fn send(&self, request: Request<Outbound>, limit: Option<Duration>) -> Sending<'_>;
}

impl Transport for reqwest::Client {
    fn send(&self, request: Request<Outbound>, limit: Option<Duration>) -> Sending<'_> {
        Box::pin(async move {
            let request = request.map(|body| match body {
                Outbound::Whole(bytes) => reqwest::Body::from(bytes),
                Outbound::Stream(body) => reqwest::Body::wrap(body),
            });
            let mut request = reqwest::Request::try_from(request).map_err(Error::network)?;
            *request.timeout_mut() = limit;
            let url = request.url().clone();
            let response = self.execute(request).await.map_err(Error::network)?;
            // A client that was handed in may follow redirects; what it found there answers
            // something else than what was asked.
            if *response.url() != url {
                return Err(Code::Network
                    .because("there was an unexpected redirect")
                    .into());
            }
            Ok(
                Response::from(response)
                    .map(|body: reqwest::Body| body.map_err(Into::into).boxed()),
            )
        })
    }
}

//! To the application and back.

use axum::body::Body;
use axum_reverse_proxy::ReverseProxy;
use http::{Request, Response};
use hyper_util::client::legacy::connect::HttpConnector;

use crate::config::Config;

/// Where the application is.
#[derive(Clone)]
pub(crate) struct Upstreams(Vec<ReverseProxy<HttpConnector>>);

/// Why no upstream can be asked.
#[derive(Debug, thiserror::Error)]
#[error("no upstream can be asked")]
pub struct UpstreamError;

impl Upstreams {
    pub(crate) fn new(config: &Config) -> Result<Self, UpstreamError> {
        let proxy = |to: &http::Uri| ReverseProxy::new("/", to.to_string());
        Ok(Self(config.upstreams.iter().map(proxy).collect()))
    }

    pub(crate) async fn forward(&self, request: Request<Body>) -> Response<Body> {
        match self.0.first() {
            Some(proxy) => {
                let Ok(response) = proxy.proxy_request(request).await;
                response
            }
            None => Response::default(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) async fn watch(self) {
        std::future::pending().await
    }
}

//! Who vouches for upstreams that are asked by TLS.

use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::RootCertStore;

use crate::config::{Config, UpstreamTls};
use crate::serve::{TlsError, certificates};

pub(super) type Connector = HttpsConnector<HttpConnector>;

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

pub(super) fn connector(config: &Config) -> Result<Connector, UpstreamError> {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
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

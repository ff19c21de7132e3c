//! A public origin, and what the gateway hands to its pages.

use std::sync::Arc;

use axum::body::Body;
use bulla_protocol::target::Origin;
use http::Request;
use http::header::HOST;

use crate::access::Rules;
use crate::config::Config;
use crate::delivery::Delivery;
use crate::edge::Files;
use crate::html::Loader;
use crate::upstream::Stated;

/// A public origin. Stands in the extensions of a request that is for it: behind the verifier there is no `Host` any
/// more.
pub(crate) struct Site {
    pub(crate) origin: Origin,
    pub(crate) stated: Stated,
    pub(crate) files: Files,
    pub(crate) loader: Arc<Loader>,
}

impl Site {
    pub(crate) fn new(
        origin: Origin,
        identity: &str,
        rules: &Rules,
        delivery: Option<&Delivery>,
        config: &Config,
    ) -> Option<Self> {
        let (files, loader) = Files::new(origin.as_str(), identity, rules, delivery, config);
        Some(Self {
            stated: Stated::of(&origin)?,
            origin,
            files,
            loader: Arc::new(loader),
        })
    }
}

/// The site that a request says it is for. Whether it says so twice is the verifier's to find.
pub(crate) fn asked<'a>(sites: &'a [Arc<Site>], request: &Request<Body>) -> Option<&'a Arc<Site>> {
    let host = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let named = authority.or(host)?;
    sites.iter().find(|site| site.origin.has_authority(named))
}

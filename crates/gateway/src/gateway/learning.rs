//! Where the gateway makes the manifest itself: it looks at the application for what browsers have found missing in it,
//! or other than listed, before it tells them what it lists.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request};
use tokio::sync::{Mutex, Notify};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use url::form_urlencoded;

use super::{Current, Gateway, StartError};
use crate::config::Access;
use crate::delivery::{Found, found, may_be_listed};
use crate::edge::MANIFEST;

/// As many are looked at at once.
const LANES: usize = 16;

/// Who looks, and when.
#[derive(Default)]
pub(super) struct Learning {
    /// A path is always looked at in the same lane, one after the other. Each knows which was the last, and since when
    /// that was looked at.
    lanes: [Mutex<Option<(String, Instant)>>; LANES],
    /// By which nobody knows which paths share one.
    hasher: RandomState,
    again: Notify,
}

impl Learning {
    /// Has all that is listed looked at once more.
    pub(super) fn look_again(&self) {
        self.again.notify_one();
    }

    fn lane(&self, path: &str) -> &Mutex<Option<(String, Instant)>> {
        let lane = self.hasher.hash_one(path) % LANES as u64;
        // There are so many.
        let lane = usize::try_from(lane).unwrap_or_default();
        &self.lanes[lane]
    }
}

/// The path that a request for the manifest is about, if it is such a request.
pub(super) fn asked_about(request: &Request<Body>) -> Option<String> {
    let uri = request.uri();
    let is_one = uri.path() == MANIFEST && request.method() == Method::GET;
    let mut named = form_urlencoded::parse(uri.query().filter(|_| is_one)?.as_bytes());
    let (_, path) = named.find(|(name, _)| name == "path")?;
    Some(path.into_owned())
}

impl Current {
    /// What the application serves at a path, if that may be listed. It is asked as if by somebody of whom nothing is
    /// known, so nobody can have another reply taken for everybody's.
    async fn look(&self, path: &str) -> Option<Found> {
        let base = self.delivery.as_ref()?.learns()?;
        // The list is for everybody to see.
        if !may_be_listed(path, base) || self.rules.at(path) != Access::Public {
            return None;
        }
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = path.parse().ok()?;
        let site = Arc::clone(self.sites.first()?);
        request.extensions_mut().insert(site);
        let come = async { found(path, self.upstreams.forward(request).await).await };
        timeout(self.config.limits.answer, come).await.ok()?
    }
}

impl Gateway {
    /// Looks for what is at a path.
    pub(super) async fn learn(&self, path: String) {
        let asked = Instant::now();
        let mut last = self.0.learning.lane(&path).lock().await;
        // Who has waited here need not look once more.
        let is_known = |(last, since): &(String, Instant)| *last == path && *since >= asked;
        if last.as_ref().is_some_and(is_known) {
            return;
        }
        *last = None;
        let since = Instant::now();
        if let Some(found) = self.current().look(&path).await {
            self.list(vec![(path.clone(), found)]).await;
            *last = Some((path, since));
        }
    }

    /// Looks at all that is listed, whenever it is told to, for as long as it is polled.
    pub(super) async fn keep_looking(&self) {
        loop {
            self.0.learning.again.notified().await;
            let current = self.current();
            let Some(delivery) = &current.delivery else {
                continue;
            };
            let mut all = Vec::new();
            for path in delivery.manifest.hashes.keys() {
                let found = current.look(path).await;
                all.extend(found.map(|found| (path.clone(), found)));
            }
            self.list(all).await;
        }
    }

    async fn list(&self, found: Vec<(String, Found)>) {
        let gateway = self.clone();
        let listed = spawn_blocking(move || gateway.list_now(&found)).await;
        let listed = listed.map_err(io::Error::other);
        let listed = listed.and_then(|listed| listed.map_err(io::Error::other));
        if let Err(error) = listed {
            tracing::error!(target: "bulla_gateway::delivery", "what was found is not listed: {error}");
        }
    }

    fn list_now(&self, found: &[(String, Found)]) -> Result<(), StartError> {
        let _changes = self.lock_changes();
        let current = self.current();
        // Meanwhile it may be that another configuration counts.
        let learns = current.delivery.as_ref().and_then(|delivery| {
            let base = delivery.learns()?;
            let is_below = |(path, _): &(String, Found)| path.starts_with(base);
            found.iter().all(is_below).then_some(delivery)
        });
        let Some(delivery) = learns else {
            return Ok(());
        };
        let Some(next) = delivery.with(found, &self.0.signer)? else {
            return Ok(());
        };
        let (version, files) = (next.manifest.version, next.manifest.hashes.len());
        tracing::info!(target: "bulla_gateway::delivery", version, files, "the application has come to serve other code");
        self.publish(current.with_delivery(next, self.identity()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_for_the_manifest_may_ask_about_a_path() {
        let about = |method, uri: &str| {
            let request = Request::builder().method(method).uri(uri);
            asked_about(&request.body(Body::empty()).unwrap())
        };
        let asked = format!("{MANIFEST}?path=%2Fa%25%2B.js");
        assert_eq!(about(Method::GET, &asked), Some("/a%+.js".to_owned()));
        assert_eq!(about(Method::POST, &asked), None);
        for query in ["", "?", "?paths=/a"] {
            let asked = format!("{MANIFEST}{query}");
            assert_eq!(about(Method::GET, &asked), None, "{asked}");
        }
        assert_eq!(about(Method::GET, "/m?path=/a"), None);
    }
}

//! Where the gateway makes the manifest itself: it looks at the application for what browsers have found missing in it,
//! or other than listed, before it tells them what it lists.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::mem;
use std::sync::{self, Arc, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request};
use tokio::sync::{Mutex, Notify};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use url::form_urlencoded;

use super::{Current, Gateway, StartError};
use crate::config::Access;
use crate::delivery::{Found, found, may_be_listed};
use crate::edge::MANIFEST;

/// As many are looked at at once.
const LANES: usize = 16;

/// A look takes so long at most: browsers wait no longer, and others wait behind it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Versions are seconds of the clock. They may be ahead of it by so many, where much is new: whoever can have always more listed
/// has every browser get a new list each second, and no more often.
const AHEAD: u64 = 60;
const SECOND: Duration = Duration::from_secs(1);

/// Who looks, and when.
#[derive(Default)]
pub(super) struct Learning {
    /// A path is always looked at in the same lane, one after the other. Each knows which was the last, and since when
    /// that was looked at.
    lanes: [Mutex<Option<(String, Instant)>>; LANES],
    /// By which nobody knows which paths share one.
    hasher: RandomState,
    found: sync::Mutex<Queue>,
    /// How much of all that was ever found has been listed. Held by whoever lists.
    listed: Mutex<u64>,
    again: Notify,
}

/// What was found and is yet to be listed: all of it in one version.
#[derive(Default)]
struct Queue {
    waiting: Vec<(String, Found)>,
    /// How much was ever found.
    count: u64,
}

impl Learning {
    /// Has all that is listed looked at once more.
    pub(super) fn look_again(&self) {
        self.again.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it listed next. Gives the number of the last that there is.
    fn put(&self, found: impl IntoIterator<Item = (String, Found)>) -> u64 {
        let mut queue = self.queue();
        for one in found {
            queue.waiting.push(one);
            queue.count += 1;
        }
        queue.count
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
    /// Whether what is at a path may be listed. The list is for everybody to see.
    fn may_list(&self, path: &str) -> bool {
        let base = self
            .delivery
            .as_ref()
            .and_then(|delivery| delivery.learns());
        let may_be = base.is_some_and(|base| may_be_listed(path, base));
        may_be && self.rules.at(path) == Access::Public
    }

    /// What the application serves at a path, if that may be listed. It is asked as if by somebody of whom nothing is
    /// known, so nobody can have another reply taken for everybody's.
    async fn look(&self, path: &str) -> Option<Found> {
        if !self.may_list(path) {
            return None;
        }
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = path.parse().ok()?;
        let site = Arc::clone(self.sites.first()?);
        request.extensions_mut().insert(site);
        let come = async { found(path, self.upstreams.forward(request).await).await };
        timeout(PATIENCE, come).await.ok()?
    }
}

impl Gateway {
    /// Looks for what is at a path.
    pub(super) async fn learn(&self, path: String) {
        if !self.current().may_list(&path) {
            return;
        }
        let learning = &self.0.learning;
        let asked = Instant::now();
        let mut last = learning.lane(&path).lock().await;
        // Who has waited here need not look once more.
        let is_known = |(last, since): &(String, Instant)| *last == path && *since >= asked;
        let mut found = None;
        if !last.as_ref().is_some_and(is_known) {
            *last = None;
            let since = Instant::now();
            found = self.current().look(&path).await;
            *last = found.map(|_| (path.clone(), since));
        }
        let number = learning.put(found.map(|found| (path, found)));
        drop(last);
        self.list(number).await;
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
            let number = self.0.learning.put(all);
            self.list(number).await;
        }
    }

    /// Lists what was found, up to this number, or waits until that was done.
    async fn list(&self, number: u64) {
        let gateway = self.clone();
        // Whoever goes away meanwhile leaves nothing behind.
        let listed = tokio::spawn(async move { gateway.list_in_time(number).await }).await;
        let listed = listed.map_err(io::Error::other).flatten();
        if let Err(error) = listed {
            tracing::error!(target: "bulla_gateway::delivery", "what was found is not listed: {error}");
        }
    }

    async fn list_in_time(&self, number: u64) -> io::Result<()> {
        let mut listed = self.0.learning.listed.lock().await;
        if *listed >= number {
            return Ok(());
        }
        if self.has_news() && self.0.signer.is_ahead(AHEAD) {
            sleep(SECOND).await;
        }
        *listed = self.0.learning.queue().count;
        let gateway = self.clone();
        let done = spawn_blocking(move || gateway.list_now()).await;
        done.map_err(io::Error::other)?.map_err(io::Error::other)
    }

    /// Whether any of what was found is not listed like that.
    fn has_news(&self) -> bool {
        let current = self.current();
        let is_news = |(path, found): &(String, Found)| {
            let delivery = current.delivery.as_ref();
            delivery.is_some_and(|delivery| delivery.manifest.lacks(path, *found))
        };
        self.0.learning.queue().waiting.iter().any(is_news)
    }

    fn list_now(&self) -> Result<(), StartError> {
        let _changes = self.lock_changes();
        let mut found = mem::take(&mut self.0.learning.queue().waiting);
        let current = self.current();
        // Meanwhile it may be that another configuration counts.
        found.retain(|(path, _)| current.may_list(path));
        let Some(delivery) = &current.delivery else {
            return Ok(());
        };
        let Some(next) = delivery.with(&found, &self.0.signer)? else {
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

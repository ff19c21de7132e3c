//! Where the gateway makes the manifest itself: it looks at the application for what browsers have found missing in it,
//! or other than listed, before it tells them what it lists.

use std::collections::HashMap;
use std::io;
use std::mem;
use std::sync::{self, Arc, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request};
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use url::form_urlencoded;

use super::{Current, Gateway, StartError};
use crate::config::Access;
use crate::delivery::{Found, Looked, Validator, found, may_be_listed};
use crate::edge::MANIFEST;

/// As many are looked at at once.
const AT_ONCE: usize = 16;

/// A look takes so long at most: browsers wait no longer, and others wait behind it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Versions are seconds of the clock. They may be ahead of it by so many, where much is new: whoever can have always more listed
/// has every browser get a new list each second, and no more often.
const AHEAD: u64 = 60;
const SECOND: Duration = Duration::from_secs(1);

/// Who looks, and when.
pub(super) struct Learning {
    lanes: Semaphore,
    /// The paths that anybody wants to be looked at, one look after the other.
    wanted: sync::Mutex<HashMap<String, Wanted>>,
    /// What is listed, and by what it is known again.
    known: sync::Mutex<HashMap<String, Looked>>,
    found: sync::Mutex<Queue>,
    /// How much of all that was ever found has been listed. Held by whoever lists.
    listed: Mutex<u64>,
    again: Notify,
}

/// A path that somebody wants to be looked at.
#[derive(Default)]
struct Wanted {
    /// By so many.
    count: usize,
    /// Since when the last of them has looked. Held by whoever looks.
    since: Arc<Mutex<Option<Instant>>>,
}

/// Whether the application is believed that a file is what it was.
#[derive(Clone, Copy)]
enum Trust {
    InWhatIsKnown,
    /// It is read once more.
    InNothing,
}

/// Somebody who wants a path to be looked at. Of a path that nobody wants, nothing is kept.
struct Wish<'a> {
    learning: &'a Learning,
    path: &'a str,
    since: Arc<Mutex<Option<Instant>>>,
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        let mut wanted = lock(&self.learning.wanted);
        if let Some(one) = wanted.get_mut(self.path) {
            one.count -= 1;
            if one.count == 0 {
                wanted.remove(self.path);
            }
        }
    }
}

/// What was found and is yet to be listed: all of it in one version.
#[derive(Default)]
struct Queue {
    waiting: Vec<(String, Found)>,
    /// How much was ever found.
    count: u64,
}

impl Default for Learning {
    fn default() -> Self {
        Self {
            lanes: Semaphore::new(AT_ONCE),
            wanted: sync::Mutex::default(),
            known: sync::Mutex::default(),
            found: sync::Mutex::default(),
            listed: Mutex::default(),
            again: Notify::default(),
        }
    }
}

impl Learning {
    /// Has all that is listed looked at once more, as if nothing were known of it: it may come from another application
    /// by now.
    pub(super) fn look_again(&self) {
        lock(&self.known).clear();
        self.again.notify_one();
    }

    fn wish<'a>(&'a self, path: &'a str) -> Wish<'a> {
        let mut wanted = lock(&self.wanted);
        let one = wanted.entry(path.to_owned()).or_default();
        one.count += 1;
        Wish {
            learning: self,
            path,
            since: Arc::clone(&one.since),
        }
    }

    /// Remembers by what a file is known again, if it is by anything.
    fn remember(&self, path: &str, looked: Looked) {
        let mut known = lock(&self.known);
        if looked.validator.is_some() {
            known.insert(path.to_owned(), looked);
        } else {
            known.remove(path);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.found)
    }

    /// Has it listed next. Gives the number of the last that there is.
    fn put(&self, found: Option<(String, Found)>) -> u64 {
        let mut queue = self.queue();
        if let Some(found) = found {
            queue.waiting.push(found);
            queue.count += 1;
        }
        queue.count
    }
}

fn lock<T>(mutex: &sync::Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done by whoever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn has_upstreams_of(&self, other: &Self) -> bool {
        self.upstreams.are(&other.upstreams)
    }

    /// What the application serves at a path, if that may be listed. It is asked as if by somebody of whom nothing is
    /// known, so nobody can have another reply taken for everybody's; and whether that is what was there before, if it is
    /// known.
    async fn look(&self, path: &str, before: Option<Looked>) -> Option<Looked> {
        if !self.may_list(path) {
            return None;
        }
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = path.parse().ok()?;
        let site = Arc::clone(self.sites.first()?);
        request.extensions_mut().insert(site);
        let validator = before.as_ref().and_then(|before| before.validator.as_ref());
        let precondition = validator.map(Validator::precondition);
        request.headers_mut().extend(precondition);
        let come = async {
            let response = self.upstreams.forward(request, false).await;
            found(path, response, before.as_ref()).await
        };
        timeout(PATIENCE, come).await.ok()?
    }
}

impl Gateway {
    /// Looks for what is at a path.
    pub(super) async fn learn(&self, path: String) {
        if self.current().may_list(&path) {
            // Others may have asked about many paths before; then the list is as it is.
            let look = self.look(&path, Trust::InWhatIsKnown);
            if let Ok(number) = timeout(PATIENCE, look).await {
                self.list(number).await;
            }
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
            let mut number = 0;
            for path in delivery.manifest.hashes.keys() {
                number = self.look(path, Trust::InNothing).await;
            }
            self.list(number).await;
        }
    }

    /// Looks at a path, unless somebody else does who began after this was called: nobody looks at the same path meanwhile,
    /// so what is found later is put later. Gives the number of the last that there is to list.
    async fn look(&self, path: &str, trust: Trust) -> u64 {
        let learning = &self.0.learning;
        let asked = Instant::now();
        let wish = learning.wish(path);
        let mut since = wish.since.lock().await;
        if since.is_some_and(|since| since >= asked) {
            return learning.put(None);
        }
        // It is never closed.
        let lane = learning.lanes.acquire().await;
        let begun = Instant::now();
        let before = match trust {
            Trust::InWhatIsKnown => lock(&learning.known).get(path).cloned(),
            Trust::InNothing => None,
        };
        let mut current = self.current();
        let mut looked = current.look(path, before).await;
        // Another application may have taken its place meanwhile.
        while !self.current().has_upstreams_of(&current) {
            current = self.current();
            looked = current.look(path, None).await;
        }
        drop(lane);
        *since = Some(begun);
        let found = looked.map(|looked| {
            let found = looked.found;
            learning.remember(path, looked);
            (path.to_owned(), found)
        });
        learning.put(found)
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
        let current = self.current();
        let listed = current.delivery.as_ref();
        let listed = listed.map(|delivery| &delivery.manifest.hashes);
        let is_listed = |path: &String| listed.is_some_and(|listed| listed.contains_key(path));
        lock(&self.0.learning.known).retain(|path, _| is_listed(path));
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
    fn of_a_path_that_nobody_wants_nothing_is_kept() {
        let learning = Learning::default();
        let wishes = ["/a", "/b", "/a"].map(|path| learning.wish(path));
        assert_eq!(lock(&learning.wanted).len(), 2);
        let [one, other, last] = wishes;
        assert!(Arc::ptr_eq(&one.since, &last.since));
        drop((one, other));
        assert_eq!(lock(&learning.wanted).len(), 1);
        drop(last);
        assert!(lock(&learning.wanted).is_empty());
    }

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

//! A gateway that lists what the application serves, and somebody who has ever more listed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bulla_gateway::Gateway;
use bulla_gateway::config::{Access, Config, Delivery, PathRule, Source};
use bulla_gateway::delivery::Hash;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, Request, StatusCode, Uri, header};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::ServiceExt as _;

/// More than versions may be ahead of the clock.
const MANY: usize = 200;

/// Longer than anything takes that comes.
const PATIENCE: Duration = Duration::from_mins(1);

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// An application whose files the test changes, and holds back.
#[derive(Clone, Default)]
struct Application(Arc<Inner>);

#[derive(Default)]
struct Inner {
    files: Mutex<HashMap<String, File>>,
    /// What has come, with the validator that was in it.
    asked: Mutex<Vec<(String, Option<String>)>>,
    /// As many have come.
    come: Counter,
}

struct Counter(Semaphore);

impl Default for Counter {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

#[derive(Clone)]
struct File {
    content: &'static str,
    fields: Vec<(HeaderName, &'static str)>,
    /// Nobody gets it before there is a permit.
    gate: Option<Arc<Semaphore>>,
}

impl Application {
    /// Starts it, and a gateway before it that lists what is below `/static/`.
    async fn start(&self) -> Outcome<(Gateway, Config)> {
        let router = Router::new().fallback(answer).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let uri = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut config = Config::for_upstream(uri.parse()?);
        config.origins = vec!["http://localhost".to_owned()];
        config.paths.push(PathRule {
            prefix: "/static/".to_owned(),
            access: Access::Public,
        });
        config.delivery = Some(Delivery::of(Source::Learnt("/static/".to_owned())));
        Ok((Gateway::build_in_memory(&config)?, config))
    }

    fn put(&self, path: &str, content: &'static str, fields: &[(HeaderName, &'static str)]) {
        let file = File {
            content,
            fields: fields.to_vec(),
            gate: None,
        };
        lock(&self.0.files).insert(path.to_owned(), file);
    }

    /// Holds a file back until there is a permit.
    fn hold(&self, path: &str) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        if let Some(file) = lock(&self.0.files).get_mut(path) {
            file.gate = Some(Arc::clone(&gate));
        }
        gate
    }

    /// How often it was asked for something.
    fn count(&self, path: &str) -> usize {
        let asked = lock(&self.0.asked);
        asked.iter().filter(|(it, _)| it == path).count()
    }

    /// The validator of the last request for something.
    fn last(&self, path: &str) -> Option<String> {
        let asked = lock(&self.0.asked);
        let last = asked.iter().rfind(|(it, _)| it == path);
        last.and_then(|(_, validator)| validator.clone())
    }

    /// Waits until so many more requests have come.
    async fn has_come(&self, count: u32) -> Outcome {
        let come = timeout(PATIENCE, self.0.come.0.acquire_many(count)).await??;
        come.forget();
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(application): State<Application>, uri: Uri, fields: HeaderMap) -> Response {
    let path = uri.path().to_owned();
    let said = |name| fields.get(name).and_then(|value| value.to_str().ok());
    let validator = said(header::IF_NONE_MATCH).or_else(|| said(header::IF_MODIFIED_SINCE));
    let file = lock(&application.0.files).get(&path).cloned();
    lock(&application.0.asked).push((path, validator.map(str::to_owned)));
    application.0.come.0.add_permits(1);
    let Some(file) = file else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if let Some(gate) = &file.gate {
        // The test ends it otherwise.
        let _ = gate.acquire().await;
    }
    let is_same = |(_, value): &(HeaderName, &str)| Some(*value) == validator;
    let mut response = if file.fields.iter().any(is_same) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        file.content.into_response()
    };
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, SCRIPT);
    for (name, value) in file.fields {
        fields.insert(name, header::HeaderValue::from_static(value));
    }
    response
}

const SCRIPT: header::HeaderValue = header::HeaderValue::from_static("text/javascript");

/// The manifest, after a path was asked about.
async fn manifest(gateway: Gateway, path: String) -> Outcome<Value> {
    let uri = format!("/.well-known/bulla/gateway/manifest?path={path}");
    let request = Request::get(uri).header(header::HOST, "localhost");
    let response = gateway.oneshot(request.body(Body::empty())?).await?;
    let text = to_bytes(response.into_body(), 1 << 20).await?;
    let json = text.split(|&byte| byte == b'\n').next();
    Ok(serde_json::from_slice(json.unwrap_or_default())?)
}

/// The version, and how many files are listed, after a path was asked about.
async fn listed(gateway: Gateway, path: String) -> Outcome<(Option<u64>, Option<usize>)> {
    let manifest = manifest(gateway, path).await?;
    let files = manifest["hashes"].as_object().map(Map::len);
    Ok((manifest["version"].as_u64(), files))
}

/// Whether a manifest lists this text at a path.
fn lists(manifest: &Value, path: &str, content: &str) -> bool {
    let hash = serde_json::to_value(Hash::of(content.as_bytes()));
    hash.is_ok_and(|hash| manifest["hashes"][path] == hash)
}

/// Each version is a list for every browser to get, and a file to write.
#[tokio::test]
async fn whoever_has_much_listed_at_once_makes_few_versions() {
    let application = Application::default();
    let path = |number| format!("/static/{number}.js");
    for number in 0..MANY {
        application.put(&path(number), "clay", &[]);
    }
    let (gateway, _) = application.start().await.unwrap();
    let ask = |number| listed(gateway.clone(), path(number));

    join_all((0..MANY).map(ask)).await;
    let (version, files) = ask(0).await.unwrap();
    assert_eq!(files, Some(MANY));
    // They are times.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(version.unwrap() <= now + 60, "{version:?} at {now}");
}

/// A round that looks at all that is listed takes its time, and meanwhile the application changes.
#[tokio::test]
async fn what_was_found_later_is_not_put_back_by_a_look_at_everything() {
    let application = Application::default();
    let (first, second) = ("/static/a.js", "/static/b.js");
    for path in [first, second] {
        application.put(path, "old", &[]);
    }
    let (gateway, config) = application.start().await.unwrap();
    let ask = async |path: &str| manifest(gateway.clone(), path.to_owned()).await.unwrap();
    for path in [first, second] {
        assert!(lists(&ask(path).await, path, "old"), "{path}");
    }
    application.has_come(2).await.unwrap();

    tokio::spawn(gateway.upkeep());
    application.put(second, "new", &[]);
    let gate = application.hold(second);
    gateway.reload(&config).unwrap();
    // It has the first, as that was, and waits for the second.
    application.has_come(2).await.unwrap();
    application.put(first, "new", &[]);
    assert!(lists(&ask(first).await, first, "new"));
    gate.add_permits(1);
    let over = async {
        loop {
            // Nothing is there, so nothing else changes.
            let manifest = ask("/static/none.js").await;
            if lists(&manifest, second, "new") {
                break manifest;
            }
        }
    };
    let manifest = timeout(PATIENCE, over).await.unwrap();
    assert!(lists(&manifest, first, "new"), "{manifest}");
}

/// Whoever asks while it is looked has one more look at most, with all others who do.
#[tokio::test]
async fn those_who_ask_for_the_same_share_what_is_found() {
    let application = Application::default();
    let path = |number| format!("/static/{number}.js");
    let paths = 40;
    for number in 0..paths {
        application.put(&path(number), "clay", &[]);
    }
    let (gateway, _) = application.start().await.unwrap();
    // Each after the other, over and over.
    let asks = (0..10 * paths).map(|number| listed(gateway.clone(), path(number % paths)));
    for reply in join_all(asks).await {
        assert!(reply.is_ok());
    }
    for number in 0..paths {
        let count = application.count(&path(number));
        assert!((1..=2).contains(&count), "{count} of {number}");
    }
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let application = Application::default();
    let (gateway, config) = application.start().await.unwrap();
    let path = "/static/a.js";
    let ask = async || manifest(gateway.clone(), path.to_owned()).await.unwrap();
    let old = (header::LAST_MODIFIED, "Sun, 06 Nov 1994 08:49:37 GMT");
    let date = (header::DATE, "Sun, 06 Nov 1994 08:50:37 GMT");
    let soon = (header::DATE, "Sun, 06 Nov 1994 08:50:36 GMT");
    let strong = (header::ETAG, "\"clay\"");
    let weak = (header::ETAG, "W/\"clay\"");
    for (fields, asked) in [
        (vec![strong.clone()], Some(strong.1)),
        (
            vec![strong.clone(), old.clone(), date.clone()],
            Some(strong.1),
        ),
        (vec![weak.clone(), old.clone(), date.clone()], Some(old.1)),
        (vec![old.clone(), date], Some(old.1)),
        // By these nobody knows whether each byte is the same.
        (vec![], None),
        (vec![weak], None),
        (vec![old.clone(), soon.clone()], None),
        (vec![strong, old, soon], None),
    ] {
        application.put(path, "clay", &fields);
        // What was known of it is not of this one.
        gateway.reload(&config).unwrap();
        assert!(lists(&ask().await, path, "clay"), "{fields:?}");
        assert_eq!(application.last(path), None, "{fields:?}");
        assert!(lists(&ask().await, path, "clay"), "{fields:?}");
        assert_eq!(application.last(path).as_deref(), asked, "{fields:?}");
    }
}

#[tokio::test]
async fn what_is_sent_again_after_all_is_listed_as_it_is() {
    let application = Application::default();
    let (gateway, _) = application.start().await.unwrap();
    let path = "/static/a.js";
    let ask = async || manifest(gateway.clone(), path.to_owned()).await.unwrap();
    application.put(path, "old", &[(header::ETAG, "\"1\"")]);
    assert!(lists(&ask().await, path, "old"));
    application.put(path, "new", &[(header::ETAG, "\"2\"")]);
    assert!(lists(&ask().await, path, "new"));
    assert_eq!(application.last(path).as_deref(), Some("\"1\""));
    // As it was, but no more for everybody.
    let private = (header::CACHE_CONTROL, "private");
    application.put(path, "new", &[(header::ETAG, "\"2\""), private]);
    assert!(ask().await["hashes"][path].is_null());
    assert_eq!(application.last(path).as_deref(), Some("\"2\""));
}

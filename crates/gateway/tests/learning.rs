//! A gateway that lists what the application serves, and somebody who has ever more listed.

use std::time::SystemTime;

use axum::Router;
use axum::body::{Body, to_bytes};
use bulla_gateway::Gateway;
use bulla_gateway::config::{Access, Config, Delivery, PathRule, Source};
use futures_util::future::join_all;
use http::{Request, header};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

/// More than versions may be ahead of the clock.
const MANY: usize = 200;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The version, and how many files are listed, after a path was asked about.
async fn listed(gateway: Gateway, path: String) -> Outcome<(Option<u64>, Option<usize>)> {
    let uri = format!("/.well-known/bulla/gateway/manifest?path={path}");
    let request = Request::get(uri).header(header::HOST, "localhost");
    let response = gateway.oneshot(request.body(Body::empty())?).await?;
    let text = to_bytes(response.into_body(), 1 << 20).await?;
    let json = text.split(|&byte| byte == b'\n').next();
    let manifest: Value = serde_json::from_slice(json.unwrap_or_default())?;
    let files = manifest["hashes"].as_object().map(Map::len);
    Ok((manifest["version"].as_u64(), files))
}

/// Each version is a list for every browser to get, and a file to write.
#[tokio::test]
async fn whoever_has_much_listed_at_once_makes_few_versions() {
    let script = ([(header::CONTENT_TYPE, "text/javascript")], "clay");
    let application = Router::new().fallback(move || async move { script });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, application).await });

    let mut config = Config::for_upstream(uri.parse().unwrap());
    config.origins = vec!["http://localhost".to_owned()];
    config.paths.push(PathRule {
        prefix: "/static/".to_owned(),
        access: Access::Public,
    });
    config.delivery = Some(Delivery::of(Source::Learnt("/static/".to_owned())));
    let gateway = Gateway::build_in_memory(&config).unwrap();
    let ask = |number| listed(gateway.clone(), format!("/static/{number}.js"));

    join_all((0..MANY).map(ask)).await;
    let (version, files) = ask(0).await.unwrap();
    assert_eq!(files, Some(MANY));
    // They are times.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(version.unwrap() <= now + 60, "{version:?} at {now}");
}

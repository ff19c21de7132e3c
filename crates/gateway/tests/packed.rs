//! An application that compresses what it was asked for as it is.

use async_compression::tokio::write::GzipEncoder;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Path;
use bulla_gateway::Gateway;
use bulla_gateway::config::{Access, Config, Mode};
use http::{Request, StatusCode, header};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

const PAGE: &str = "<!doctype html><title>The shop</title><p>clay";

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Answers `/CODING` with a page that says it is compressed so. It always is by gzip.
async fn application() -> Outcome<String> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(PAGE.as_bytes()).await?;
    encoder.shutdown().await?;
    let packed = encoder.into_inner();
    let page = move |Path(coding): Path<String>| {
        let kind = (header::CONTENT_TYPE, "text/html".to_owned());
        let fields = [kind, (header::CONTENT_ENCODING, coding)];
        let packed = packed.clone();
        async move { (fields, packed) }
    };
    let application = Router::new().route("/{coding}", axum::routing::get(page));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, application).await });
    Ok(uri)
}

/// What a browser gets that goes to a page.
async fn shown(config: &Config, path: &str) -> Outcome<(StatusCode, Vec<u8>)> {
    let gateway = Gateway::build_in_memory(config)?;
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .header(header::ACCEPT, "text/html");
    let request = request.body(Body::empty())?;
    let response = gateway.clone().oneshot(request).await?;
    let status = response.status();
    let content = to_bytes(response.into_body(), 1 << 20).await?;
    Ok((status, content.to_vec()))
}

#[tokio::test]
async fn a_page_that_comes_compressed_has_its_loader() {
    let uri = application().await.unwrap();
    let mut config = Config::for_upstream(uri.parse().unwrap());
    config.origins = vec!["http://localhost".to_owned()];
    config.access = Access::Public;
    let (status, page) = shown(&config, "/gzip").await.unwrap();
    let page = String::from_utf8(page).unwrap();
    assert_eq!(status, StatusCode::OK);
    let (before, rest) = page.split_once("<script src=").unwrap();
    assert_eq!(before, "<!doctype html>");
    assert!(rest.ends_with("</script><title>The shop</title><p>clay"));

    let (status, said) = shown(&config, "/zstd").await.unwrap();
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(said.starts_with(b"{\"title\""));
    // Where it only watches, nothing breaks that did not before.
    config.mode = Mode::Monitor;
    let (status, page) = shown(&config, "/zstd").await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(page[..2], [0x1f, 0x8b]);
}

//! What the gateway holds while much goes through it.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use bulla_client::Session;
use bulla_tests::serve::Server;
use futures_util::stream;
use http::Request;
use http_body_util::{BodyExt as _, StreamBody};

use super::Running;
use crate::Outcome;
use crate::report::{Entry, Goal};

/// What has gone through before, so that whatever grows once has grown.
const FIRST: usize = 64 << 20;
const MUCH: usize = 1 << 30;
const BLOCK: usize = 64 << 10;
/// It is a queue here and a record there, and not the content.
const MOST: f64 = 8.0 * 1024.0 * 1024.0;

pub(super) fn run() -> Outcome<Vec<Entry>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let routes = Router::new()
            .route("/download", get(async || Body::new(blocks(MUCH))))
            .route("/first", get(async || Body::new(blocks(FIRST))))
            .route("/upload", post(swallow));
        let application = Server::start(routes).await?;
        let upstream = format!("http://127.0.0.1:{}", application.port());
        let mut entries = Vec::new();
        for (id, first, much) in [
            ("gateway/download-1gib/growth", "/first", "/download"),
            ("gateway/upload-1gib/growth", "", ""),
        ] {
            let gateway = Running::start(&upstream, "device")?;
            let session = gateway.session().await?;
            transfer(&session, first, FIRST).await?;
            let before = gateway.memory("VmHWM:")?;
            transfer(&session, much, MUCH).await?;
            let grown = gateway.memory("VmHWM:")? - before;
            entries.push(Entry::absolute(id, "bytes", grown, Goal::AtMost(MOST)));
        }
        Ok(entries)
    })
}

/// Reads so much from a path, or without one sends it.
async fn transfer(session: &Session, path: &str, length: usize) -> Outcome {
    if path.is_empty() {
        let request = Request::post("/upload").body(move || blocks(length))?;
        let said = session.upload(request).await?.into_body().bytes().await?;
        if said != length.to_string() {
            return Err("not all of it came to the application".into());
        }
        return Ok(());
    }
    let reply = session.fetch(Request::get(path).body("")?).await?;
    let (mut body, mut read) = (reply.into_body(), 0);
    while let Some(chunk) = body.chunk().await? {
        read += chunk.len();
    }
    if read != length {
        return Err(format!("{read} bytes of {length} came").into());
    }
    Ok(())
}

fn blocks(length: usize) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync {
    let block = Bytes::from(vec![b'x'; BLOCK]);
    let blocks = (0..length / BLOCK).map(move |_| Ok(http_body::Frame::data(block.clone())));
    StreamBody::new(stream::iter(blocks))
}

/// How much has come.
async fn swallow(mut body: Body) -> String {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
    read.to_string()
}

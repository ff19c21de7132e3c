//! Connections that have asked once and are kept.

use axum::Router;
use axum::routing::get;
use bulla_tests::serve::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{PUBLIC, Running};
use crate::Outcome;
use crate::report::{Entry, Goal};

const CONNECTIONS: usize = 10_000;
/// So many are made at once.
const AT_ONCE: usize = 100;
const MOST: f64 = 200.0;

/// The whole memory of the gateway, with all of them open.
pub(super) fn run() -> Outcome<Entry> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let path = format!("{PUBLIC}x");
        let application = Server::start(Router::new().route(&path, get("well"))).await?;
        let upstream = format!("http://127.0.0.1:{}", application.port());
        let gateway = Running::start(&upstream, "device")?;
        let authority = gateway.origin.trim_start_matches("http://").to_owned();
        let mut kept = Vec::with_capacity(CONNECTIONS);
        while kept.len() < CONNECTIONS {
            let asked = (0..AT_ONCE).map(|_| ask(&authority, &path));
            kept.extend(futures_util::future::try_join_all(asked).await?);
        }
        // All of them are there still: each is answered once more.
        for connection in &mut kept {
            answered(connection, &authority, &path).await?;
        }
        let mebibytes = gateway.memory("VmRSS:")? / 1024.0 / 1024.0;
        let id = "gateway/idle-10000";
        Ok(Entry::absolute(id, "MiB", mebibytes, Goal::AtMost(MOST)))
    })
}

async fn ask(authority: &str, path: &str) -> Outcome<TcpStream> {
    let mut connection = TcpStream::connect(authority).await?;
    answered(&mut connection, authority, path).await?;
    Ok(connection)
}

/// Asks, and reads the answer to its end.
async fn answered(connection: &mut TcpStream, authority: &str, path: &str) -> Outcome {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    while !said.ends_with(b"\r\n\r\nwell") {
        let count = connection.read(&mut buffer).await?;
        if count == 0 {
            return Err("a connection was not kept".into());
        }
        said.extend_from_slice(&buffer[..count]);
    }
    Ok(())
}

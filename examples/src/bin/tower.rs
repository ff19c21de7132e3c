//! An echo behind Bulla, with hyper and no framework: the verifier as a plain tower layer.
//! `cargo run -p bulla-examples --bin with-tower -- 8080`.
#![forbid(unsafe_code)]

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bulla_server::{Body, BodyError, Bulla, Identity, MemoryStore, Require, Session, SystemRandom};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tower::{Layer as _, service_fn};

/// As many at once. The next one waits in the system's queue.
const CONNECTIONS: usize = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("a port is needed")?.parse()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let origin = format!("http://localhost:{}", listener.local_addr()?.port());

    let bulla = Bulla::builder()
        .origin(&origin)
        .identity(Identity::generate(&SystemRandom)?)
        .store(MemoryStore::new()?)
        .build()?;
    // The verifier outermost; what a route asks for beyond it, around the route.
    let echo = Require::session().sealed().layer(service_fn(echo));
    let service = bulla.layer().layer(echo);
    println!("{origin}");
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        let Ok((stream, _)) = listener.accept().await else {
            // It has gone again, or there are no descriptors left for it now.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let mut connections = auto::Builder::new(TokioExecutor::new()).http1_only();
            // Bodies that hardly come are the verifier's to cut off, heads are not.
            connections
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10));
            // A connection that breaks is nobody's error.
            let _ = connections
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }
}

/// Answers with what was sent, and with the name of the session that it came through.
async fn echo(request: Request<Body>) -> Result<Response<Full<Bytes>>, BodyError> {
    let session = request.extensions().get::<Session>().map(Session::id);
    let content = request.into_body().collect().await?.to_bytes();
    let mut response = Response::new(Full::new(content));
    if let Some(session) = session
        && let Ok(session) = session.to_string().parse()
    {
        response.headers_mut().insert("x-session", session);
    }
    Ok(response)
}

//! What `docs/operations.md` says of hyper and of heads that hardly come. Time passes by itself here, as soon as nobody has
//! anything else to do.
#![allow(clippy::unwrap_used)] // in tests a surprise may panic

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::time::{sleep, timeout};
use tower::service_fn;

const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nhost: bank.example\r\n\r\n";

fn plain() -> auto::Builder<TokioExecutor> {
    auto::Builder::new(TokioExecutor::new())
}

fn timed(mut connections: auto::Builder<TokioExecutor>) -> auto::Builder<TokioExecutor> {
    connections
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10));
    connections
}

/// Whether such a connection is closed within a day on which this comes first, and then a byte in each second, or nothing.
async fn is_closed(
    connections: auto::Builder<TokioExecutor>,
    first: &[u8],
    trickles: bool,
) -> bool {
    let (server, mut client) = duplex(1 << 20);
    tokio::spawn(async move {
        let hello = service_fn(async |_: Request<_>| {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        });
        let service = TowerToHyperService::new(hello);
        let _ = connections
            .serve_connection(TokioIo::new(server), service)
            .await;
    });
    client.write_all(first).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(client);
    tokio::spawn(async move {
        while trickles && writing.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    });
    let (day, mut answers) = (Duration::from_hours(24), Vec::new());
    let closed = timeout(day, reading.read_to_end(&mut answers));
    closed.await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_made_as_the_page_says_do_not_wait_for_heads() {
    for first in [&b""[..], b"P", b"GET / HTTP/1.1\r\nx: ", WHOLE] {
        assert!(is_closed(timed(plain().http1_only()), first, false).await);
    }
    let head = b"GET / HTTP/1.1\r\nx: ";
    assert!(is_closed(timed(plain().http1_only()), head, true).await);
    // And others do; `axum::serve` makes them by nothing but `new`.
    assert!(!is_closed(timed(plain()), b"", false).await);
    assert!(!is_closed(timed(plain()), b"P", false).await);
    assert!(!is_closed(plain(), head, false).await);
    assert!(!is_closed(plain().http1_only(), WHOLE, false).await);
}

#[test]
fn the_page_has_what_is_tried_here() {
    const PAGE: &str = include_str!("../../docs/operations.md");
    for line in [
        "auto::Builder::new(TokioExecutor::new()).http1_only();",
        ".timer(TokioTimer::new())",
        ".header_read_timeout(Duration::from_secs(10));",
    ] {
        assert!(PAGE.contains(line), "{line}");
    }
}

use std::io;

use axum::body::to_bytes;
use bytes::Bytes;
use futures_util::stream;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tower::service_fn;

use super::super::accept::Door;
use super::*;

/// Longer than any limit here.
const DAY: Duration = Duration::from_hours(24);
/// What fits into a connection that nobody reads.
const PIPE: usize = 1024;
const HEAD: &str = "HTTP/1.1\r\nHost: localhost\r\n";

async fn answered(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let content = match &*path {
        "/never" => std::future::pending().await,
        "/long" => Body::from(vec![b'x'; 2 * PIPE]),
        "/endless" => Body::from_stream(stream::pending::<Result<Bytes, io::Error>>()),
        "/unread" => Body::from("all"),
        _ => to_bytes(request.into_body(), PIPE).await.unwrap().into(),
    };
    Ok(Response::new(content))
}

fn serving() -> Serving<impl App> {
    let config = crate::config::Config::for_upstream("http://localhost".parse().unwrap());
    Serving {
        app: service_fn(answered),
        certificate: None,
        unreadable: Arc::new(|_| ()),
        limits: config.limits,
    }
}

fn peer() -> SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

/// What becomes of a connection on which this was sent.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It is at rest. With what was read, and is no request yet.
    Rests(String),
    /// HTTP has it until its end.
    Ends,
    /// HTTP has it for longer than a day.
    Goes,
}

async fn fate(sent: &str) -> (Fate, DuplexStream) {
    let serving = serving();
    let (mut client, server) = duplex(PIPE);
    let traffic = Arc::default();
    let wire = Wire::new(server, Arc::clone(&traffic));
    let door = Door::new();
    let mut closing = door.closing();
    client.write_all(sent.as_bytes()).await.unwrap();
    let busy = serving.busy(wire, peer(), &traffic, &mut closing);
    let fate = match timeout(DAY, busy).await {
        Err(_) => Fate::Goes,
        Ok(Ok(Some(wire))) => Fate::Rests(String::from_utf8_lossy(wire.unread()).into_owned()),
        Ok(_) => Fate::Ends,
    };
    (fate, client)
}

#[tokio::test(start_paused = true)]
async fn a_connection_rests_once_all_is_answered() {
    let rests = || Fate::Rests(String::new());
    for (sent, expected) in [
        (format!("GET / {HEAD}\r\n"), rests()),
        (format!("HEAD / {HEAD}\r\n"), rests()),
        (format!("GET / {HEAD}\r\n").repeat(3), rests()),
        (
            format!("POST / {HEAD}Content-Length: 4\r\n\r\nclay"),
            rests(),
        ),
        (
            format!("POST / {HEAD}Transfer-Encoding: chunked\r\n\r\n4\r\nclay\r\n0\r\n\r\n"),
            rests(),
        ),
        // What begins the next one is not lost.
        (
            format!("GET / {HEAD}\r\nGET /x HT"),
            Fate::Rests("GET /x HT".to_owned()),
        ),
        (format!("GET / {HEAD}Connection: close\r\n\r\n"), Fate::Ends),
    ] {
        assert_eq!(fate(&sent).await.0, expected, "{sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_in_use_does_not_rest() {
    for (sent, expected) in [
        // Not all of a head has come.
        ("GE".to_owned(), Fate::Ends),
        (format!("GET / {HEAD}"), Fate::Ends),
        // There is no answer, or not all of it.
        (format!("GET /never {HEAD}\r\n"), Fate::Goes),
        (format!("GET /endless {HEAD}\r\n"), Fate::Goes),
        // There is content to come.
        (
            format!("POST / {HEAD}Content-Length: 9\r\n\r\nclay"),
            Fate::Goes,
        ),
        // Nobody reads the answer.
        (format!("GET /long {HEAD}\r\n"), Fate::Goes),
    ] {
        assert_eq!(fate(&sent).await.0, expected, "{sent}");
    }
}

/// Else requests would be made of pieces in another order.
#[tokio::test]
async fn what_is_put_back_comes_before_what_was_read_since() {
    let (mut client, server) = duplex(PIPE);
    let mut wire = Wire::new(server, Arc::default());
    client.write_all(b"/x HTTP/1.1").await.unwrap();
    assert!(wire.hears().await.unwrap());
    wire.put_back(&Bytes::from("GET "));
    assert_eq!(wire.unread(), b"GET /x HTTP/1.1");
}

/// Else its rest would be read as a request that nobody has sent.
#[tokio::test(start_paused = true)]
async fn content_that_nobody_has_read_is_not_the_beginning_of_a_request() {
    for content in [
        "Content-Length: 99\r\n\r\n",
        "Content-Length: 99\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n63\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        let (fate, _client) = fate(&format!("POST /unread {HEAD}{content}")).await;
        assert_eq!(fate, Fate::Ends, "{content}");
    }
}

/// Whoever sends the beginning of a head together with a request before it may take twice as long for it, and no
/// longer.
#[tokio::test(start_paused = true)]
async fn a_head_that_nobody_finishes_ends_a_connection_that_has_rested() {
    let (mut client, server) = duplex(PIPE);
    let sent = format!("GET / {HEAD}\r\nGET / {HEAD}");
    client.write_all(sent.as_bytes()).await.unwrap();
    let (serving, door) = (serving(), Door::new());
    let spoken = serving.speak(server, peer(), door.closing());
    let limit = 2 * serving.limits.head + 4 * LULL;
    assert!(timeout(limit, spoken).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_rested_goes_on_and_is_closed_when_all_are() {
    let (mut client, server) = duplex(PIPE);
    let (serving, door) = (serving(), Door::new());
    let closing = door.closing();
    let spoken = tokio::spawn(async move { serving.speak(server, peer(), closing).await });
    for content in ["one", "two", "three"] {
        // In pieces.
        let sent = format!("POST / {HEAD}Content-Length: {}\r\n\r\n", content.len());
        let (first, second) = sent.split_at(10);
        for piece in [first, second, content] {
            client.write_all(piece.as_bytes()).await.unwrap();
            sleep(2 * LULL).await;
        }
        let mut said = Vec::new();
        while !said.ends_with(content.as_bytes()) {
            said.push(client.read_u8().await.unwrap());
        }
        sleep(3 * LULL).await;
    }
    assert!(!spoken.is_finished());
    door.close();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert!(spoken.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_idle_for_so_long_and_no_longer() {
    let (mut client, server) = duplex(PIPE);
    let (serving, door) = (serving(), Door::new());
    let sent = format!("GET / {HEAD}\r\n");
    client.write_all(sent.as_bytes()).await.unwrap();
    let mut spoken = std::pin::pin!(serving.speak(server, peer(), door.closing()));
    let idle = serving.limits.idle;
    assert!(timeout(idle, &mut spoken).await.is_err());
    assert!(timeout(4 * LULL, &mut spoken).await.is_ok());
}

/// Answers before it has read what there is, while it reads, or after.
async fn answered_somehow(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let said = format!("{} {path}", request.method());
    let content = request.into_body();
    match &*path {
        "/unread" => drop(content),
        "/held" => drop(tokio::spawn(async move {
            sleep(3 * LULL).await;
            drop(content);
        })),
        "/later" => drop(tokio::spawn(async move {
            sleep(LULL / 2).await;
            to_bytes(content, PIPE).await
        })),
        _ => {
            sleep(if path == "/slow" {
                2 * LULL
            } else {
                Duration::ZERO
            })
            .await;
            let read = to_bytes(content, PIPE).await.unwrap_or_default();
            return Ok(Response::new([said.as_bytes(), &read].concat().into()));
        }
    }
    Ok(Response::new(said.into()))
}

/// All that is answered to what is sent in these pieces, each with a pause behind it, but for the dates.
async fn said(pieces: &[(&[u8], Duration)], is_parked: bool) -> String {
    let (mut client, server) = duplex(64 * PIPE);
    let serving = Serving {
        app: service_fn(answered_somehow),
        certificate: None,
        unreadable: Arc::new(|_| ()),
        limits: serving().limits,
    };
    let door = Door::new();
    let closing = door.closing();
    let spoken = tokio::spawn(async move {
        if is_parked {
            return drop(serving.speak(server, peer(), closing).await);
        }
        let plain = |request: Request<Incoming>| answered_somehow(request.map(Body::new));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(serving.limits.head);
        let connection =
            http.serve_connection(TokioIo::new(server), hyper::service::service_fn(plain));
        drop(connection.await);
    });
    for (piece, pause) in pieces {
        // It may be closed already.
        let _ = client.write_all(piece).await;
        sleep(*pause).await;
    }
    sleep(30 * LULL).await;
    let _ = client.shutdown().await;
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    spoken.await.unwrap();
    let said = String::from_utf8_lossy(&said).into_owned();
    let lines = said.split("\r\n").filter(|line| !line.starts_with("date:"));
    lines.collect::<Vec<_>>().join("\n")
}

proptest! {
    /// Whatever is asked, however it comes and is answered, it is as if HTTP had had the connection all the time.
    #[test]
    fn rest_makes_no_difference(
        requests in prop::collection::vec((0..5_usize, 0..4, 0..40_usize, any::<bool>()), 1..6),
        cuts in prop::collection::vec((1..150_usize, 0..4_u32), 1..20),
    ) {
        let mut sent = String::new();
        for (path, kind, len, hides) in requests {
            let path = ["/", "/slow", "/unread", "/held", "/later"][path];
            let hidden = format!("GET /hidden {HEAD}\r\n");
            let content = if hides { hidden } else { "x".repeat(len) };
            let len = content.len();
            let request = match kind {
                0 => format!("GET {path} {HEAD}\r\n"),
                1 => format!("HEAD {path} {HEAD}\r\n"),
                2 => format!("POST {path} {HEAD}Content-Length: {len}\r\n\r\n{content}"),
                _ => format!(
                    "POST {path} {HEAD}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n\
                     {len:x}\r\n{content}\r\n0\r\n\r\n"
                ),
            };
            sent.push_str(&request);
        }
        let (mut pieces, mut rest) = (Vec::new(), sent.as_bytes());
        for (len, pause) in cuts {
            let (piece, more) = rest.split_at(len.min(rest.len()));
            pieces.push((piece, pause * LULL / 2));
            rest = more;
        }
        pieces.push((rest, Duration::ZERO));
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        let said = |is_parked| runtime.block_on(said(&pieces, is_parked));
        let (parked, plain) = (said(true), said(false));
        prop_assert_eq!(parked, plain);
    }
}

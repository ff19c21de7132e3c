use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::tls::connector;
use super::*;
use crate::config::Config;

const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

async fn upstream() -> (TcpListener, Connections) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: Uri = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let config = Config::for_upstream(uri.clone());
    let connector = connector(&config).unwrap();
    (
        listener,
        Connections::new(connector, uri, config.limits.connect),
    )
}

fn asked() -> Request<Body> {
    let request = Request::post("/").header("host", "bank.example");
    request.body(Body::from("all")).unwrap()
}

/// Reads one request, and answers it.
async fn answer(stream: &mut TcpStream, with: &str) {
    let mut came = Vec::new();
    while !came.ends_with(b"\r\n\r\nall") {
        assert_ne!(stream.read_buf(&mut came).await.unwrap(), 0);
    }
    stream.write_all(with.as_bytes()).await.unwrap();
}

async fn taken(reply: Result<Response<Content>, NoReply>) -> Bytes {
    let reply = reply.map_err(|no_reply| no_reply.reason).unwrap();
    reply.into_body().collect().await.unwrap().to_bytes()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0]).await.unwrap_or_default() == 0
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    let (listener, connections) = upstream().await;
    let asked = async {
        assert_eq!(taken(connections.send(asked(), None).await).await, "hi");
        assert_eq!(taken(connections.send(asked(), None).await).await, "hi");
    };
    let answered = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Nobody can connect again.
        drop(listener);
        answer(&mut stream, WHOLE).await;
        answer(&mut stream, WHOLE).await;
    };
    tokio::join!(asked, answered);
}

/// What is not safe is not sent twice, so it must not meet a connection that is gone.
#[tokio::test]
async fn one_that_the_upstream_has_closed_is_not_asked() {
    for ending in [
        WHOLE,
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\n\r\nhi",
    ] {
        let (listener, connections) = upstream().await;
        let answered = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, ending).await;
        };
        let asks = async { taken(connections.send(asked(), None).await).await };
        assert_eq!(tokio::join!(asks, answered).0, "hi");
        while connections.free().iter().any(Free::is_kept) {
            tokio::task::yield_now().await;
        }
        let answered = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, WHOLE).await;
        };
        let asks = async { taken(connections.send(asked(), None).await).await };
        assert_eq!(tokio::join!(asks, answered).0, "hi");
    }
}

/// What is left of a reply would be read as the beginning of the next.
#[tokio::test]
async fn one_whose_reply_nobody_takes_is_closed() {
    let (listener, connections) = upstream().await;
    let answered = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let half = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
        answer(&mut stream, half).await;
        stream
    };
    let asks = async { connections.send(asked(), None).await.map(drop) };
    let (asked, mut stream) = tokio::join!(asks, answered);
    assert!(asked.is_ok());
    assert!(is_closed(&mut stream).await);
    assert!(connections.free().is_empty());
}

/// The rest of the request would stand before the next.
#[tokio::test]
async fn one_is_free_only_when_all_of_the_request_is_out() {
    let (listener, connections) = upstream().await;
    let (rest, content) = tokio::sync::oneshot::channel();
    let content = futures_util::stream::once(content);
    let request = Request::post("/").header("host", "bank.example");
    let request = request.body(Body::from_stream(content)).unwrap();
    let answered = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut came = Vec::new();
        while !came.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut came).await.unwrap(), 0);
        }
        stream.write_all(WHOLE.as_bytes()).await.unwrap();
        stream
    };
    let asks = async { taken(connections.send(request, None).await).await };
    let (content, mut stream) = tokio::join!(asks, answered);
    assert_eq!(content, "hi");
    assert!(connections.take().is_none());
    rest.send("late").unwrap();
    let mut came = Vec::new();
    while !came.ends_with(b"0\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut came).await.unwrap(), 0);
    }
    while connections.free().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(connections.take().is_some());
}

/// Or it would be there for good, whether or not somebody else might have it.
#[tokio::test]
async fn one_whose_upstream_answers_and_never_reads_on_is_closed() {
    never_reads_on(WHOLE, "hi").await;
    never_reads_on("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", "").await;
}

async fn never_reads_on(reply: &'static str, expected: &'static str) {
    let (listener, connections) = upstream().await;
    // More than there is room for on the way.
    let content = Bytes::from(vec![0; 64 << 20]);
    let request = Request::post("/").header("host", "bank.example");
    let request = request.body(Body::from(content)).unwrap();
    let answered = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(reply.as_bytes()).await.unwrap();
        stream
    };
    let asks = async { taken(connections.send(request, None).await).await };
    let (content, mut stream) = tokio::join!(asks, answered);
    assert_eq!(content, expected);
    // Passes at once.
    tokio::time::pause();
    tokio::time::sleep(2 * READS_ON).await;
    tokio::time::resume();
    let mut came = Vec::new();
    let closes = async { while stream.read_buf(&mut came).await.unwrap_or_default() > 0 {} };
    timeout(Duration::from_secs(30), closes).await.unwrap();
    assert!(came.len() < 64 << 20);
    assert!(connections.free().is_empty());
}

/// Whoever has answered before all of an upload was there may want the rest all the same.
#[tokio::test]
async fn one_whose_upstream_has_answered_and_reads_on_takes_all_of_a_slow_request() {
    let (listener, connections) = upstream().await;
    let (rest, content) = tokio::sync::oneshot::channel();
    let content = futures_util::stream::once(content);
    let sent = Lent::new(Body::from_stream(content), None);
    let request = Request::post("/").header("host", "bank.example");
    let request = request.body(sent.lend()).unwrap();
    let answered = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut came = Vec::new();
        while !came.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut came).await.unwrap(), 0);
        }
        stream.write_all(WHOLE.as_bytes()).await.unwrap();
        stream
    };
    let asks = async { taken(connections.send(request, Some(sent)).await).await };
    let (content, mut stream) = tokio::join!(asks, answered);
    assert_eq!(content, "hi");
    tokio::time::pause();
    tokio::time::sleep(5 * READS_ON).await;
    tokio::time::resume();
    rest.send("late").unwrap();
    let mut came = Vec::new();
    while !came.ends_with(b"late\r\n0\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut came).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn those_that_nobody_needs_are_let_go() {
    let (listener, connections) = upstream().await;
    let answered = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer(&mut stream, WHOLE).await;
        stream
    };
    let asks = async { taken(connections.send(asked(), None).await).await };
    let (_, mut stream) = tokio::join!(asks, answered);
    connections.sweep();
    assert_eq!(connections.free().len(), 1);
    tokio::time::pause();
    tokio::time::advance(KEPT).await;
    connections.sweep();
    assert!(is_closed(&mut stream).await);
}

/// The content would be the reply to somebody else's request.
#[tokio::test]
async fn one_that_may_have_content_where_there_is_none_is_not_used_again() {
    for (method, reply) in [
        (
            Method::POST,
            "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n",
        ),
        (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
    ] {
        let (listener, connections) = upstream().await;
        let answered = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream, reply).await;
            stream
        };
        let mut request = asked();
        *request.method_mut() = method;
        let asks = async { taken(connections.send(request, None).await).await };
        let (content, mut stream) = tokio::join!(asks, answered);
        assert_eq!(content, "");
        assert!(connections.take().is_none());
        assert!(is_closed(&mut stream).await);
    }
}

#[tokio::test]
async fn a_check_of_health_makes_a_connection_of_its_own() {
    let (listener, connections) = upstream().await;
    let answered = async {
        let (mut first, _) = listener.accept().await.unwrap();
        answer(&mut first, WHOLE).await;
        let (mut second, _) = listener.accept().await.unwrap();
        answer(&mut second, WHOLE).await;
    };
    let asks = async {
        assert_eq!(taken(connections.send(asked(), None).await).await, "hi");
        assert_eq!(
            taken(connections.send_anew(asked(), None).await).await,
            "hi"
        );
    };
    tokio::join!(asks, answered);
}

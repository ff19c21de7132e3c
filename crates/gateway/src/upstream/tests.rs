use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

#[test]
fn failures_have_stable_codes() {
    let response = Failure::NoUpstream.response("10.0.0.1");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
}

async fn dead() -> Uri {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    format!("http://{address}").parse().unwrap()
}

/// Answers one request with these bytes, closes, and gives what came.
async fn upstream(answer: &'static str) -> (Uri, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let came = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut came = Vec::new();
        while !came.windows(4).any(|end| end == b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut came).await.unwrap(), 0);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(came).unwrap()
    });
    (format!("http://{address}").parse().unwrap(), came)
}

async fn get(upstreams: &Upstreams, target: &str) -> Result<Response<Body>, (Failure, String)> {
    let request = Request::builder()
        .uri(target)
        .header("host", "bank.example")
        .body(Body::empty());
    upstreams.send(request.unwrap(), Some(10)).await
}

#[tokio::test]
async fn the_next_one_is_asked_if_one_cannot_be_connected_to() {
    let (well, came) = upstream("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let mut config = Config::for_upstream(dead().await);
    config.upstreams.push(well);
    let upstreams = Upstreams::new(&config).unwrap();
    let target = "/a%2Fb/./%c3?x=%20&&y=+";
    assert_eq!(get(&upstreams, target).await.unwrap().status(), 200);
    let came = came.await.unwrap().to_lowercase();
    assert!(came.starts_with(&format!("get {} http/1.1\r\n", target.to_lowercase())));
    assert_eq!(came.matches("\r\nhost: ").count(), 1);
    assert!(came.contains("\r\nhost: bank.example\r\n"));
}

#[tokio::test]
async fn without_any_that_is_well_there_is_no_upstream() {
    let upstreams = Upstreams::new(&Config::for_upstream(dead().await)).unwrap();
    assert_eq!(
        get(&upstreams, "/").await.unwrap_err().0,
        Failure::Unreachable
    );
    assert!(!upstreams.is_ready());
    assert_eq!(
        get(&upstreams, "/").await.unwrap_err().0,
        Failure::NoUpstream
    );
}

#[tokio::test]
async fn replies_that_are_no_http_are_broken() {
    for answer in [
        "",
        "HTTP/1.1 200 O",
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let (uri, _) = upstream(answer).await;
        let upstreams = Upstreams::new(&Config::for_upstream(uri)).unwrap();
        assert_eq!(
            get(&upstreams, "/").await.unwrap_err().0,
            Failure::Broke,
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_reply_that_is_cut_never_ends_cleanly() {
    let (uri, _) = upstream("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi").await;
    let upstreams = Upstreams::new(&Config::for_upstream(uri)).unwrap();
    let response = received(get(&upstreams, "/").await.unwrap());
    assert!(
        axum::body::to_bytes(response.into_body(), 99)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn content_beyond_the_limit_is_refused() {
    let upstreams = Upstreams::new(&Config::for_upstream(dead().await)).unwrap();
    let request = Request::new(Body::from("12345678901"));
    let refused = upstreams.send(request, Some(10)).await.unwrap_err();
    assert_eq!(refused.0, Failure::TooLarge);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_hangs_ends_in_an_error() {
    let hanging = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let reply = received(Response::new(Body::from_stream(hanging)));
    assert!(axum::body::to_bytes(reply.into_body(), 9).await.is_err());
}

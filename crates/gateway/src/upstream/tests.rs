use bytes::Bytes;
use futures_util::StreamExt as _;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::*;

/// How long an upstream may be quiet here.
const PATIENCE: Duration = Duration::from_mins(5);

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
    let came = tokio::spawn(answer_one(listener, answer));
    (format!("http://{address}").parse().unwrap(), came)
}

async fn answer_one(listener: TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut came = Vec::new();
    while !came.windows(4).any(|end| end == b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut came).await.unwrap(), 0);
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(came).unwrap()
}

async fn get(upstreams: &Upstreams, target: &str) -> Result<Response<Body>, (Failure, String)> {
    let request = Request::builder()
        .uri(target)
        .header("host", "bank.example")
        .body(Body::empty());
    send(upstreams, request.unwrap()).await
}

async fn send(
    upstreams: &Upstreams,
    request: Request<Body>,
) -> Result<Response<Body>, (Failure, String)> {
    let (parts, body) = request.into_parts();
    let asked = Asked {
        method: parts.method,
        target: parts.uri.into_parts().path_and_query.unwrap(),
        fields: parts.headers,
        wanted: None,
    };
    let reply = upstreams.send(asked, body, Some(10)).await?;
    Ok(reply.map(Body::new))
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
async fn one_that_was_not_well_is_tried_if_there_is_no_other() {
    let uri = dead().await;
    let address = uri.authority().unwrap().to_string();
    let upstreams = Upstreams::new(&Config::for_upstream(uri)).unwrap();
    let refused = get(&upstreams, "/").await.unwrap_err();
    assert_eq!(refused.0, Failure::Unreachable);
    assert!(!upstreams.is_ready());

    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(answer_one(listener, "HTTP/1.1 204 No Content\r\n\r\n"));
    let answered = get(&upstreams, "/").await;
    assert_eq!(answered.unwrap().status(), 204);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_go_on_is_too_slow_and_an_upstream_is_late() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let upstreams = Upstreams::new(&Config::for_upstream(uri.parse().unwrap())).unwrap();
    let hanging = futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    for (content, failure) in [
        (
            Body::from_stream(hanging),
            (StatusCode::REQUEST_TIMEOUT, "too_slow"),
        ),
        (Body::from("all"), Failure::Timeout.parts()),
    ] {
        let request = Request::post("/").body(content).unwrap();
        let refused = send(&upstreams, request).await.unwrap_err();
        assert_eq!(refused.0.parts(), failure);
    }
}

#[tokio::test]
async fn content_that_breaks_off_is_not_the_upstreams_fault() {
    let (uri, _) = upstream("HTTP/1.1 200 OK\r\n\r\n").await;
    let upstreams = Upstreams::new(&Config::for_upstream(uri)).unwrap();
    let broken = [Ok(Bytes::from("hi")), Err(std::io::Error::other("gone"))];
    let content = Body::from_stream(futures_util::stream::iter(broken));
    let request = Request::post("/").body(content).unwrap();
    let refused = send(&upstreams, request).await.unwrap_err();
    assert_eq!(refused.0.parts(), (StatusCode::BAD_REQUEST, "malformed"));
}

#[tokio::test]
async fn what_stands_behind_content_is_not_passed_on() {
    let frames = [
        Frame::data(Bytes::from("hi")),
        Frame::trailers(HeaderMap::from_iter([(
            CONTENT_TYPE,
            HeaderValue::from_static("x"),
        )])),
    ];
    let frames = futures_util::stream::iter(frames.map(Ok::<_, std::io::Error>));
    let content = Lent::new(Body::new(StreamBody::new(frames)), None);
    let collected = content.collect().await.unwrap();
    assert!(collected.trailers().is_none());
    assert_eq!(collected.to_bytes(), "hi");
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

/// RFC 9110 section 7.6.1.
#[tokio::test]
async fn what_an_upstream_says_of_its_connection_is_not_passed_on() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Own\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
        Trailer: X-Late\r\nX-Own: 1\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nhi";
    let (uri, _) = upstream(answer).await;
    let upstreams = Upstreams::new(&Config::for_upstream(uri)).unwrap();
    let reply = get(&upstreams, "/").await.unwrap();
    let mut names: Vec<_> = reply
        .headers()
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "x-kept"]);
}

#[tokio::test]
async fn a_reply_that_is_cut_never_ends_cleanly() {
    let (uri, _) = upstream("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi").await;
    let upstreams = Upstreams::new(&Config::for_upstream(uri)).unwrap();
    let response = received(get(&upstreams, "/").await.unwrap(), PATIENCE);
    assert!(
        axum::body::to_bytes(response.into_body(), 99)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_reply_of_two_lengths_is_told_from_one_of_one() {
    for (answer, is_lying) in [
        (
            "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nlong\r\n0\r\n\r\n",
            true,
        ),
        ("Content-Length: 4\r\n\r\nlong", false),
        (
            "Transfer-Encoding: chunked\r\n\r\n4\r\nlong\r\n0\r\n\r\n",
            false,
        ),
        ("\r\nlong", false),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{answer}").leak();
        let (uri, _) = upstream(answer).await;
        let upstreams = Upstreams::new(&Config::for_upstream(uri)).unwrap();
        let reply = get(&upstreams, "/").await.unwrap();
        assert_eq!(lies(&reply), is_lying, "{answer}");
    }
}

#[tokio::test]
async fn content_beyond_the_limit_is_refused() {
    let upstreams = Upstreams::new(&Config::for_upstream(dead().await)).unwrap();
    let request = Request::new(Body::from("12345678901"));
    let refused = send(&upstreams, request).await.unwrap_err();
    assert_eq!(refused.0, Failure::TooLarge);
}

/// Says one thing after a while, and then nothing.
fn hanging(kind: &'static str) -> Response<Body> {
    let first = futures_util::stream::once(async {
        sleep(PATIENCE / 2).await;
        Ok::<_, std::io::Error>(Bytes::from("hi"))
    });
    let body = Body::from_stream(first.chain(futures_util::stream::pending()));
    let response = Response::builder().header(CONTENT_TYPE, kind).body(body);
    received(response.unwrap(), PATIENCE)
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_hangs_ends_in_an_error_unless_it_is_of_events() {
    let reply = hanging("text/html").into_body();
    assert!(axum::body::to_bytes(reply, 9).await.is_err());
    let reply = hanging("text/event-stream; charset=utf-8").into_body();
    assert!(timeout(PATIENCE * 9, reply.collect()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn time_does_not_count_while_a_client_takes_what_there_is() {
    let mut reply = hanging("text/html").into_body();
    assert!(reply.frame().await.unwrap().is_ok());
    sleep(PATIENCE * 9).await;
    // More is awaited from now on.
    assert!(timeout(PATIENCE / 2, reply.frame()).await.is_err());
    assert!(reply.frame().await.unwrap().is_err());
}

//! Requests that two servers could read in two ways, byte by byte: what the gateway passes on is what it has verified.

use std::time::Duration;

use bulla_server::Code;
use bulla_tests::attack::Name::{Api, Asvs};
use bulla_tests::attack::With::Held;
use bulla_tests::attack::{Attack, Shown, Twin};
use bulla_tests::gateway::Behind;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::attacks! {
    what_comes_behind_a_request_is_one_of_its_own: [BEHIND_A_REQUEST],
}

/// Longer than any answer takes here.
const PATIENCE: Duration = Duration::from_secs(20);

/// What nobody without a session may ask for, at the end of a request for what everybody may.
const HIDDEN: &str = "GET /echo?hidden HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n";

/// Sends these bytes, and gives the status of each answer until the connection ends.
async fn statuses(port: u16, request: &str) -> Outcome<Vec<u16>> {
    let host = format!("localhost:{port}");
    let request = request.replace("HIDDEN", HIDDEN).replace("HOST", &host);
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection.write_all(request.as_bytes()).await?;
    let mut said = Vec::new();
    timeout(PATIENCE, connection.read_to_end(&mut said)).await??;
    let said = String::from_utf8(said)?;
    let heads = said.split("HTTP/1.1 ").skip(1);
    let statuses = heads.map(|head| Ok(head.get(..3).ok_or("no status")?.parse()?));
    statuses.collect()
}

/// What has come to the application for this path, whatever its query.
fn at(behind: &Behind, path: &str) -> Vec<Value> {
    let mut all = behind.seen.all();
    all.retain(|seen| {
        let target = seen["target"].as_str().unwrap_or_default();
        target.split('?').next() == Some(path)
    });
    all
}

static BEHIND_A_REQUEST: Attack = Attack {
    has: "nothing",
    does: "sends a request for what is hidden behind one for what is public, on one connection",
    twin: Twin::App,
    without: "it is answered",
    with: Held("the second one is looked at by itself, and refused"),
    names: &[Api(8), Asvs("4.1.4")],
    shown: Shown::nothing(),
};

async fn what_comes_behind_a_request_is_one_of_its_own() -> Outcome {
    let request = "GET /static/x HTTP/1.1\r\nHost: HOST\r\n\r\nHIDDEN";
    let behind = Behind::start(|_| ()).await?;
    // Whoever looks at the first and passes bytes on has let both through.
    let answered = statuses(behind.application.port(), request).await?;
    assert_eq!(answered, [404, 200]);
    BEHIND_A_REQUEST.without(at(&behind, "/echo").len() == 1);

    let behind = Behind::start(|_| ()).await?;
    let answered = statuses(behind.server.port(), request).await?;
    assert_eq!(answered, [404, 401]);
    assert_eq!(at(&behind, "/static/x").len(), 1);
    BEHIND_A_REQUEST.with(at(&behind, "/echo").is_empty());
    Ok(())
}

/// RFC 9112 section 6.1: it may be answered by its transfer coding, if the connection ends then.
#[tokio::test]
async fn of_a_length_and_a_coding_one_goes_on_and_nothing_behind_it() -> Outcome {
    for lengths in [
        "Content-Length: 99\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 99",
    ] {
        let behind = Behind::start(|_| ()).await?;
        let request =
            format!("POST /static/x HTTP/1.1\r\nHost: HOST\r\n{lengths}\r\n\r\n0\r\n\r\nHIDDEN");
        assert_eq!(statuses(behind.server.port(), &request).await?, [404]);
        assert_eq!(at(&behind, "/echo"), Vec::<Value>::new());
        let passed = at(&behind, "/static/x");
        let [passed] = &*passed else {
            panic!("{passed:?}")
        };
        assert!(passed["fields"]["content-length"].is_null(), "{passed}");
    }
    Ok(())
}

#[tokio::test]
async fn what_has_no_one_meaning_is_refused_and_told_of_and_not_passed_on() -> Outcome {
    let behind = Behind::start(|_| ()).await?;
    let mut events = behind.gateway.bulla().events();
    let post = "POST /static/x HTTP/1.1\r\nHost: HOST\r\n";
    for (shape, rest) in [
        (
            "two lengths",
            "Content-Length: 0\r\nContent-Length: 44\r\n\r\nHIDDEN",
        ),
        (
            "two lengths in a list",
            "Content-Length: 0, 44\r\n\r\nHIDDEN",
        ),
        ("a signed length", "Content-Length: +0\r\n\r\nHIDDEN"),
        (
            "an endless length",
            "Content-Length: 99999999999999999999\r\n\r\nHIDDEN",
        ),
        (
            "an unknown coding",
            "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\nHIDDEN",
        ),
        (
            "a coding after chunked",
            "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nHIDDEN",
        ),
        (
            "a space before the colon",
            "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\nHIDDEN",
        ),
        (
            "obsolete folding",
            "X: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHIDDEN",
        ),
        ("a NUL in a field", "X: a\0b\r\n\r\nHIDDEN"),
        (
            "a bad chunk size",
            "Transfer-Encoding: chunked\r\n\r\nzz\r\nHIDDEN",
        ),
        (
            "an endless chunk size",
            "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nHIDDEN",
        ),
        (
            "a chunk longer than it says",
            "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\nHIDDEN",
        ),
    ] {
        let answered = statuses(behind.server.port(), &format!("{post}{rest}")).await?;
        assert!(matches!(*answered, [400]), "{shape}: {answered:?}");
        let told = timeout(PATIENCE, events.next())
            .await?
            .ok_or("no event")??;
        assert_eq!(told.kind.code(), Some(Code::Malformed), "{shape}");
        assert!(told.network.is_some(), "{shape}");
        assert_eq!(at(&behind, "/echo"), Vec::<Value>::new(), "{shape}");
    }
    Ok(())
}

#[tokio::test]
async fn a_head_without_end_is_refused_and_told_of() -> Outcome {
    let behind = Behind::start(|_| ()).await?;
    let mut events = behind.gateway.bulla().events();
    // As much as is read of a head: what is left unread could cost the answer.
    let mut head = "GET /static/x HTTP/1.1\r\nHost: HOST\r\n".to_owned();
    head = head.replace("HOST", &format!("localhost:{}", behind.server.port()));
    while head.len() < 64 * 1024 {
        head.push_str("X: clay\r\n");
    }
    head.truncate(64 * 1024);
    assert_eq!(statuses(behind.server.port(), &head).await?, [431]);
    let told = timeout(PATIENCE, events.next())
        .await?
        .ok_or("no event")??;
    assert_eq!(told.kind.code(), Some(Code::Malformed));
    assert_eq!(behind.seen.all(), Vec::<Value>::new());
    Ok(())
}

#[tokio::test]
async fn targets_that_lead_elsewhere_are_refused() -> Outcome {
    let behind = Behind::start(|_| ()).await?;
    let application = behind.application.port();
    for (target, host, expected) in [
        ("/static/../echo", "HOST", 400),
        ("/static/%2e%2e/echo", "HOST", 400),
        ("/static/..%2fecho", "HOST", 400),
        ("/static/..;/echo", "HOST", 400),
        ("http://elsewhere.example/static/x", "HOST", 421),
        ("/static/x", "elsewhere.example", 421),
        ("/static/x", "HOST\r\nHost: elsewhere.example", 421),
        ("*", "HOST", 400),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answered = statuses(behind.server.port(), &request).await?;
        assert_eq!(answered, [expected], "{target} {host}");
        assert_eq!(behind.seen.all(), Vec::<Value>::new(), "{target} {host}");
        // It answers whatever it is asked, by itself.
        assert!(!statuses(application, &request).await?.is_empty());
        behind.seen.forget();
    }

    // RFC 9110 section 4.2.3: a host is the same in any case.
    let request = format!(
        "GET /static/x HTTP/1.1\r\nHost: LocalHost:{}\r\nConnection: close\r\n\r\n",
        behind.server.port()
    );
    assert_eq!(statuses(behind.server.port(), &request).await?, [404]);
    let passed = behind.seen.at("/static/x");
    let own = format!("localhost:{}", behind.server.port());
    assert_eq!(passed[0]["fields"]["host"], own);
    Ok(())
}

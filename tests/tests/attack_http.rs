//! Requests written by hand, byte for byte or frame for frame, to a real HTTP server: whatever a target or a field may look
//! like, what a handler is given is what was signed, or what needs no signature.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::Request;
use axum::routing::{any, get};
use bulla_client::{Client, Code, Mode, Prepared, ProofKind, Session};
use bulla_keys::SystemRandom;
use bulla_server::{Bulla, Identity, MemoryStore, Require};
use bulla_tests::attack::Name::{Api, Asvs, Sess};
use bulla_tests::attack::With::{Held, Refused};
use bulla_tests::attack::{Attack, Outcome, Shown, Twin, code};
use bulla_tests::serve::Server;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

bulla_tests::attacks! {
    without_a_proof_no_spelling_reaches_a_handler: [SPELLS_PATHS],
    over_http2_a_request_is_for_one_authority: [TWO_AUTHORITIES],
}

/// What a handler was given: a line for the request, for each field and for the content.
type Seen = Arc<Mutex<Vec<String>>>;

struct House {
    server: Server,
    bulla: Bulla,
    seen: Seen,
}

impl House {
    /// All below `/public/` is open to anyone; all below `/api` wants a session, here and at its own
    /// door, however it is routed.
    async fn open() -> Outcome<Self> {
        let seen = Seen::default();
        let mut built = None;
        let server = Server::start_with(|origin| {
            let bulla = Bulla::builder()
                .origin(origin)
                .identity(Identity::generate(&SystemRandom).map_err(std::io::Error::other)?)
                .store(MemoryStore::new().map_err(std::io::Error::other)?)
                .unsigned("/public/")
                .allow_origin("https://app.example")
                .build()
                .map_err(std::io::Error::other)?;
            let router = bulla.protect(routes(&seen));
            built = Some(bulla);
            Ok(router)
        })
        .await?;
        Ok(Self {
            server,
            bulla: built.ok_or("no verifier")?,
            seen,
        })
    }

    fn host(&self) -> String {
        format!("localhost:{}", self.server.port())
    }

    /// Sends these bytes and returns the status of the first answer, and what handlers were given.
    async fn send(&self, request: &str) -> Outcome<(u16, Vec<String>)> {
        let request = request.replace("HOST", &self.host()).into_bytes();
        let status = send(self.server.port(), &request).await?;
        Ok((status, take(&self.seen)))
    }

    async fn session(&self) -> Outcome<Session> {
        let client = Client::builder(self.server.origin()).identity(self.bulla.identity());
        Ok(client.build()?.open().await?)
    }
}

fn take(seen: &Seen) -> Vec<String> {
    std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner))
}

fn routes(seen: &Seen) -> Router {
    let handler = || {
        let seen = Arc::clone(seen);
        move |request: Request| {
            let seen = Arc::clone(&seen);
            async move { note(&seen, request).await }
        }
    };
    let guarded = Router::new()
        .route("/secret", get(handler()).post(handler()))
        .fallback(handler())
        .layer(Require::session());
    Router::new()
        .nest("/api", guarded)
        .route("/public/{*rest}", any(handler()))
        .fallback(handler())
}

async fn note(seen: &Seen, request: Request) {
    let (parts, body) = request.into_parts();
    let target = parts
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    let mut lines = vec![format!("{} {target}", parts.method)];
    lines.extend(parts.headers.iter().map(|line| format!("{line:?}")));
    if let Ok(body) = body.collect().await {
        lines.extend(body.trailers().map(|trailers| format!("{trailers:?}")));
        lines.push(String::from_utf8_lossy(&body.to_bytes()).into_owned());
    }
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.extend(lines);
}

/// The status of the first answer; zero if the connection is closed without one.
async fn send(port: u16, request: &[u8]) -> Outcome<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n") {
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_) => break,
        }
    }
    let status = answer.get(9..12).unwrap_or(b"0");
    Ok(std::str::from_utf8(status)?.parse()?)
}

/// Heads of requests without a proof, without the empty line at their end.
const FOREIGN: [&str; 44] = [
    "GET /api/secret HTTP/1.1\r\nHost: HOST",
    "HEAD /api/secret HTTP/1.1\r\nHost: HOST",
    "POST /api/secret HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0",
    "TRACE /api/secret HTTP/1.1\r\nHost: HOST",
    "get /api/secret HTTP/1.1\r\nHost: HOST",
    "PROPFIND /api/secret HTTP/1.1\r\nHost: HOST",
    "OPTIONS /api/secret HTTP/1.1\r\nHost: HOST",
    "OPTIONS /api/secret HTTP/1.1\r\nHost: HOST\r\nAccess-Control-Request-Method: GET",
    "OPTIONS /api/secret HTTP/1.1\r\nHost: HOST\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: GET",
    "OPTIONS /api/secret HTTP/1.1\r\nHost: HOST\r\nOrigin: https://app.example",
    "OPTIONS /api/secret HTTP/1.1\r\nHost: HOST\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: GET",
    "OPTIONS * HTTP/1.1\r\nHost: HOST",
    "CONNECT HOST HTTP/1.1\r\nHost: HOST",
    "GET /public/../api/secret HTTP/1.1\r\nHost: HOST",
    "GET /public/%2e%2e/api/secret HTTP/1.1\r\nHost: HOST",
    "GET /public/.%2E/api/secret HTTP/1.1\r\nHost: HOST",
    "GET /public/..%2fapi/secret HTTP/1.1\r\nHost: HOST",
    "GET /public/..%5Capi/secret HTTP/1.1\r\nHost: HOST",
    "GET /public%2f..%2fapi/secret HTTP/1.1\r\nHost: HOST",
    "GET /public/%00/../api/secret HTTP/1.1\r\nHost: HOST",
    "GET /public/.. HTTP/1.1\r\nHost: HOST",
    "GET /public/..;/api/secret HTTP/1.1\r\nHost: HOST",
    "GET /public/.;a=b/..%3Ba=b/api/secret HTTP/1.1\r\nHost: HOST",
    "GET /public/..%3b/api/secret HTTP/1.1\r\nHost: HOST",
    "GET /public HTTP/1.1\r\nHost: HOST",
    "GET /PUBLIC/x HTTP/1.1\r\nHost: HOST",
    "GET //public/x HTTP/1.1\r\nHost: HOST",
    "GET /%70ublic/x HTTP/1.1\r\nHost: HOST",
    "GET /api/secret?/public/ HTTP/1.1\r\nHost: HOST",
    "GET /api//secret HTTP/1.1\r\nHost: HOST",
    "GET /api/secret/ HTTP/1.1\r\nHost: HOST",
    "GET /api/secret;/public/ HTTP/1.1\r\nHost: HOST",
    "GET http://HOST/api/secret HTTP/1.1\r\nHost: HOST",
    "GET http://HOST/public/../api/secret HTTP/1.1\r\nHost: HOST",
    "GET http://elsewhere.example/public/x HTTP/1.1\r\nHost: HOST",
    "GET http://HOST/public/x HTTP/1.1\r\nHost: elsewhere.example",
    "GET http://HOST@elsewhere.example/public/x HTTP/1.1\r\nHost: HOST",
    "GET /public/x HTTP/1.1\r\nHost: HOST\r\nHost: HOST",
    "GET /public/x HTTP/1.1\r\nHost: elsewhere.example\r\nX-Forwarded-Host: HOST",
    "GET /public/x HTTP/1.0",
    "GET /api/secret HTTP/1.1\r\nHost: HOST\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    "GET /api/secret HTTP/1.1\r\nHost: HOST\r\nX-Original-URL: /public/x\r\nX-Rewrite-URL: /public/x",
    "POST /public/x HTTP/1.1\r\nHost: HOST\r\nContent-Type: message/bhttp\r\nContent-Encoding: aes128gcm\r\nContent-Length: 0",
    "GET /public/x HTTP/1.1\r\nHost: HOST\r\nBulla-Ticket: :AA==:",
];

static SPELLS_PATHS: Attack = Attack {
    has: "nothing",
    does: "writes methods, targets and hosts in many ways that some server takes for another",
    twin: Twin::App,
    without: "handlers run",
    with: Held("no handler runs: refused, or nothing but a preflight is answered"),
    names: &[Sess(1), Api(8), Api(9), Asvs("4.1.4")],
    shown: Shown::nothing(),
};

async fn without_a_proof_no_spelling_reaches_a_handler() -> Outcome {
    let house = House::open().await?;
    for head in FOREIGN {
        let (status, seen) = house.send(&format!("{head}\r\n\r\n")).await?;
        // A preflight is answered by the verifier itself.
        let is_preflight = head.contains("app.example") && head.contains("Request-Method");
        let is_refused = is_preflight || status == 0 || status >= 400;
        assert!(is_refused && seen.is_empty(), "{status} {head}: {seen:?}");
        SPELLS_PATHS.with(seen.is_empty());
    }
    let open =
        "POST /public/a%20b/...;/c?d=/../e HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0\r\n\r\n";
    let (status, seen) = house.send(open).await?;
    assert_eq!(
        (status, &*seen[0]),
        (200, "POST /public/a%20b/...;/c?d=/../e")
    );

    // The twin without a verifier serves whoever asks, at any of these spellings.
    let seen = Seen::default();
    let twin = Server::start(routes(&seen)).await?;
    for path in [
        "/public/..%2fapi/secret",
        "/public/%2e%2e/api/secret",
        "/public/..;/api/secret",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: twin\r\n\r\n");
        let status = send(twin.port(), request.as_bytes()).await?;
        SPELLS_PATHS.without(status == 200 && !take(&seen).is_empty());
    }
    Ok(())
}

/// A request of the session's own, signed only.
fn prepare(session: &Session, target: &str) -> Outcome<Prepared> {
    let request = http::Request::post(target)
        .header("content-type", "text/plain")
        .header("x-app", "1")
        .body(Bytes::from_static(b"content"))?;
    let nonce = session.fresh_nonce()?;
    Ok(session.prepare(request, Mode::Signed, ProofKind::Device, nonce)?)
}

/// How a proven request is written, and its status. `FIELDS` are its own, with a line's end behind each;
/// `CONTENT` is its length, an empty line and itself.
const WAYS: [(u16, &str); 20] = [
    (200, "POST /api/secret?a=%2b HTTP/1.1\r\nFIELDSCONTENT"),
    (
        200,
        "POST http://HOST/api/secret?a=%2b HTTP/1.1\r\nFIELDSCONTENT",
    ),
    (
        200,
        "POST /api/secret?a=%2b HTTP/1.1\r\nFIELDSTransfer-Encoding: chunked\r\nTrailer: x-evil\r\n\r\n\
         7;x=\"y\"\r\ncontent\r\n0\r\nx-evil: 1\r\nauthorization: Bearer evil\r\n\r\n",
    ),
    (
        200,
        "POST /api/secret?a=%2b HTTP/1.1\r\nFIELDSX-Evil: 1\r\nCookie: evil=1\r\nExpect: evil\r\n\
         X-Forwarded-For: evil\r\nX-HTTP-Method-Override: EVIL\r\nForwarded: for=evil\r\nTE: evil\r\n\
         Bulla-Evil: 1\r\nProxy-Authorization: evil\r\nCONTENT",
    ),
    (
        200,
        "POST /api/secret?a=%2b HTTP/1.1\r\nFIELDSConnection: x-app, evil\r\nCONTENT",
    ),
    (
        200,
        "POST /api/secret?a=%2b HTTP/1.1\r\nFIELDSConnection: upgrade\r\nUpgrade: evil\r\nCONTENT",
    ),
    (
        200,
        "POST /api/secret?a=%2b HTTP/1.1\r\nFIELDSCONTENT\
         POST /api/evil?a=%2b HTTP/1.1\r\nFIELDSCONTENT",
    ),
    // Lengths that disagree, and less than was signed.
    (
        400,
        "POST /api/secret?a=%2b HTTP/1.1\r\nFIELDSContent-Length: 70\r\nCONTENT",
    ),
    (
        400,
        "POST /api/secret?a=%2b HTTP/1.1\r\nFIELDSContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         4\r\nevil\r\n0\r\n\r\n",
    ),
    (
        400,
        "POST /api/secret?a=%2b HTTP/1.1\r\nFIELDSContent-Length: 6\r\n\r\ncontent",
    ),
    // Other methods, and paths that some would take for the same.
    (401, "GET /api/secret?a=%2b HTTP/1.1\r\nFIELDSCONTENT"),
    (401, "POST /api/secret/?a=%2b HTTP/1.1\r\nFIELDSCONTENT"),
    (401, "POST //api/secret?a=%2b HTTP/1.1\r\nFIELDSCONTENT"),
    (401, "POST /api/%73ecret?a=%2b HTTP/1.1\r\nFIELDSCONTENT"),
    (401, "POST /api/secret?a=%2B HTTP/1.1\r\nFIELDSCONTENT"),
    (401, "POST /api/secret;x?a=%2b HTTP/1.1\r\nFIELDSCONTENT"),
    // Another host, a second one, a second signature, a folded field.
    (
        421,
        "POST http://evil.example/api/secret?a=%2b HTTP/1.1\r\nFIELDSCONTENT",
    ),
    (
        421,
        "POST /api/secret?a=%2b HTTP/1.1\r\nFIELDSHost: evil.example\r\nCONTENT",
    ),
    (
        400,
        "POST /api/secret?a=%2b HTTP/1.1\r\nFIELDSSignature: evil=:AA==:\r\nCONTENT",
    ),
    (
        400,
        "POST /api/secret?a=%2b HTTP/1.1\r\nFIELDS evil\r\nCONTENT",
    ),
];

#[tokio::test]
async fn a_handler_is_given_what_was_signed_however_it_is_written() -> Outcome {
    let house = House::open().await?;
    let session = house.session().await?;
    for (wanted, way) in WAYS {
        let prepared = prepare(&session, "/api/secret?a=%2b")?;
        let mut fields = String::from("Host: HOST\r\n");
        for (name, value) in prepared.request.headers() {
            write!(fields, "{name}: {}\r\n", value.to_str()?)?;
        }
        let request = way
            .replace("FIELDS", &fields)
            .replace("CONTENT", "Content-Length: 7\r\n\r\ncontent");
        let (status, seen) = house.send(&request).await?;
        assert_eq!(status, wanted, "{way}");
        if wanted != 200 {
            assert!(seen.is_empty(), "{way}: {seen:?}");
            continue;
        }
        // It passes, and nothing has come along.
        assert_eq!(seen[0], "POST /secret?a=%2b", "{way}");
        assert_eq!(seen.last().map(String::as_str), Some("content"), "{way}");
        let evil = seen
            .iter()
            .find(|line| line.to_lowercase().contains("evil"));
        assert_eq!(evil, None, "{way}");
    }
    Ok(())
}

/// The answer to a request that is sent over HTTP/2 with these trailers, without TLS.
async fn send_h2(
    port: u16,
    request: http::Request<Bytes>,
    trailers: http::HeaderMap,
) -> Outcome<http::Response<Bytes>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let (client, connection) = h2::client::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let (mut parts, content) = request.into_parts();
    parts.version = http::Version::HTTP_2;
    let head = http::Request::from_parts(parts, ());
    let (answer, mut sending) = client.ready().await?.send_request(head, false)?;
    sending.send_data(content, false)?;
    sending.send_trailers(trailers)?;
    let (parts, mut receiving) = answer.await?.into_parts();
    let mut content = Vec::new();
    while let Some(data) = receiving.data().await {
        content.extend_from_slice(&data?);
    }
    connection.abort();
    Ok(http::Response::from_parts(parts, content.into()))
}

static TWO_AUTHORITIES: Attack = Attack {
    has: "HTTP/2",
    does: "names two hosts, or another one, in `:authority` and `host`",
    twin: Twin::App,
    without: "it is served",
    with: Refused(&[Code::AuthorityMismatch]),
    names: &[Api(8), Asvs("4.1.3")],
    shown: Shown::nothing(),
};

async fn over_http2_a_request_is_for_one_authority() -> Outcome {
    const EVIL: &str = "evil.example";
    let house = House::open().await?;
    let session = house.session().await?;
    let host = house.host();
    for (authority, field, wanted) in [
        (&*host, None, 200),
        (&host, Some(&*host), 200),
        (&host, Some(EVIL), 421),
        (EVIL, Some(&host), 421),
        (EVIL, None, 421),
    ] {
        for mode in [Mode::Signed, Mode::Sealed] {
            let request =
                http::Request::post("/api/secret").body(Bytes::from_static(b"content"))?;
            let nonce = session.fresh_nonce()?;
            let prepared = session.prepare(request, mode, ProofKind::Device, nonce)?;
            let mut request = prepared.request.clone();
            let path = request.uri().path();
            *request.uri_mut() = format!("http://{authority}{path}").parse()?;
            if let Some(field) = field {
                request.headers_mut().insert("host", field.parse()?);
            }
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-evil", "1".parse()?);

            let answer = send_h2(house.server.port(), request, trailers).await?;
            let case = format!("{mode:?} {authority} {field:?}");
            let seen = take(&house.seen);
            assert_eq!(answer.status(), wanted, "{case}");
            if wanted == 200 {
                assert_eq!(prepared.open_reply(answer).await?.status(), 200, "{case}");
                assert_eq!(seen[0], "POST /secret", "{case}");
                assert!(!seen.iter().any(|line| line.contains("evil")), "{seen:?}");
            } else {
                assert!(seen.is_empty(), "{case}: {seen:?}");
                TWO_AUTHORITIES.refused(code(&answer));
            }
        }
    }
    // The twin serves whatever host it is said to be.
    let seen = Seen::default();
    let twin = Server::start(routes(&seen)).await?;
    let request = http::Request::get(format!("http://{EVIL}/public/x")).header("host", &host);
    let answer = send_h2(
        twin.port(),
        request.body(Bytes::new())?,
        http::HeaderMap::new(),
    )
    .await?;
    TWO_AUTHORITIES.without(answer.status() == 200 && !take(&seen).is_empty());
    Ok(())
}

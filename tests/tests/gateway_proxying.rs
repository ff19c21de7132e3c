//! What a reverse proxy does besides verifying: upgrades, replies without content, back-pressure, several upstreams, and
//! whoever goes away. Both ends are in the test's own hands, byte by byte; between them is the gateway's own server.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bulla_client::{Client, Session};
use bulla_gateway::config::{Access, Config, PathRule, UpstreamTls};
use bulla_tests::attack::Name::{Api, Asvs};
use bulla_tests::attack::With::Held;
use bulla_tests::attack::{Attack, Shown, Twin};
use bulla_tests::bank::PATIENCE;
use bulla_tests::certificate::Vouched;
use bulla_tests::gateway::Running;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, ETAG, LINK};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

bulla_tests::attacks! {
    a_websocket_without_a_session_reaches_nothing_that_is_not_public: [BARE_WEBSOCKET],
}

/// Nothing that is waited for here takes as long. It is what a test fails by that would hang.
async fn soon<T>(what: impl Future<Output = T>) -> Outcome<T> {
    Ok(timeout(PATIENCE, what).await?)
}

/// One end of a connection.
struct End<S = TcpStream>(BufReader<S>);

impl End {
    async fn connect(port: u16) -> Outcome<Self> {
        Ok(Self::of(
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?,
        ))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> End<S> {
    fn of(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    async fn say(&mut self, what: impl AsRef<[u8]>) -> Outcome {
        soon(self.0.write_all(what.as_ref())).await??;
        Ok(soon(self.0.flush()).await??)
    }

    /// Asks the gateway, as this method and with these lines of fields.
    async fn ask(&mut self, line: &str, gateway: &Running, fields: &str) -> Outcome {
        let host = format!("localhost:{}", gateway.port());
        let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        self.say(head).await
    }

    /// A head, up to its end, in small letters.
    async fn head(&mut self) -> Outcome<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.0.read_u8()).await??);
        }
        Ok(String::from_utf8(head)?.to_ascii_lowercase())
    }

    /// So much of what comes.
    async fn exactly(&mut self, count: usize) -> Outcome<Vec<u8>> {
        let mut read = vec![0; count];
        soon(self.0.read_exact(&mut read)).await??;
        Ok(read)
    }

    async fn hears(&mut self, what: impl AsRef<[u8]>) -> Outcome {
        let what = what.as_ref();
        assert_eq!(self.exactly(what.len()).await?, what);
        Ok(())
    }

    /// Whatever still comes until the other side has gone. How it goes does not matter.
    async fn rest(&mut self) -> Outcome<Vec<u8>> {
        let mut rest = Vec::new();
        let _ = soon(self.0.read_to_end(&mut rest)).await?;
        Ok(rest)
    }
}

/// An application whose connections the test takes one by one.
struct Application(TcpListener);

impl Application {
    async fn start() -> Outcome<Self> {
        Ok(Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?))
    }

    fn origin(&self) -> Outcome<String> {
        Ok(format!("http://{}", self.0.local_addr()?))
    }

    /// A gateway before it.
    async fn behind(&self, configure: impl FnOnce(&mut Config)) -> Outcome<Running> {
        Ok(Running::start(&[self.origin()?], configure).await?)
    }

    async fn accept(&self) -> Outcome<End> {
        Ok(End::of(soon(self.0.accept()).await??.0))
    }

    /// The head of the next request, on the connection that was kept or on another one.
    async fn asked(&self, mut kept: End) -> Outcome<(End, String)> {
        tokio::select! {
            biased;
            Ok(head) = kept.head() => Ok((kept, head)),
            accepted = self.accept() => {
                let mut accepted = accepted?;
                let head = accepted.head().await?;
                Ok((accepted, head))
            }
        }
    }
}

/// Nobody without a session may ask for this.
const HIDDEN: &str = "/account/socket";

/// The one of RFC 6455 section 1.3, and what is answered to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// "Hello" from a client and from a server, and the end, of section 5.7.
const FROM_CLIENT: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
const FROM_SERVER: &[u8] = b"\x81\x05Hello";
const CLOSE: &[u8] = b"\x88\x02\x03\xe8";

/// What asks for a `WebSocket`.
fn upgrade() -> String {
    format!(
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: clay\r\n"
    )
}

fn upgraded() -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: clay\r\n\r\n"
    )
}

/// Something is put into pages, so they have to come as they are, and whole.
#[tokio::test]
async fn pages_are_asked_for_plain_and_whole_and_other_files_as_clients_ask() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    for (kind, is_page) in [("text/html", true), ("image/*", false)] {
        let mut client = End::connect(gateway.port()).await?;
        let fields = format!(
            "Accept: {kind}\r\nAccept-Encoding: br\r\nIf-None-Match: \"a\"\r\nRange: bytes=0-\r\n"
        );
        client.ask("GET /static/a", &gateway, &fields).await?;
        let asked = application.accept().await?.head().await?;
        assert_eq!(asked.contains("\r\naccept-encoding: identity\r\n"), is_page);
        for field in [
            "accept-encoding: br",
            "if-none-match: \"a\"",
            "range: bytes=0-",
        ] {
            assert_ne!(
                asked.contains(&format!("\r\n{field}\r\n")),
                is_page,
                "{asked}"
            );
        }
    }
    Ok(())
}

/// Both ends of a `WebSocket` through a gateway.
async fn websocket(gateway: &Running, application: &Application) -> Outcome<(End, End)> {
    let mut client = End::connect(gateway.port()).await?;
    client
        .ask("GET /static/socket?a=b", gateway, &upgrade())
        .await?;
    let mut server = application.accept().await?;
    let asked = server.head().await?;
    assert!(
        asked.starts_with("get /static/socket?a=b http/1.1\r\n"),
        "{asked}"
    );
    for field in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        &format!("sec-websocket-key: {}", KEY.to_ascii_lowercase()),
        "sec-websocket-protocol: clay",
        "x-forwarded-for: 127.0.0.1",
    ] {
        assert!(
            asked.contains(&format!("\r\n{field}\r\n")),
            "{field}: {asked}"
        );
    }
    // With what an application may say at once.
    server
        .say([upgraded().as_bytes(), FROM_SERVER].concat())
        .await?;
    let answered = client.head().await?;
    assert!(answered.starts_with("http/1.1 101 "), "{answered}");
    for field in [
        "connection: upgrade",
        "upgrade: websocket",
        &format!("sec-websocket-accept: {}", ACCEPT.to_ascii_lowercase()),
        "sec-websocket-protocol: clay",
    ] {
        assert!(answered.contains(&format!("\r\n{field}\r\n")), "{answered}");
    }
    client.hears(FROM_SERVER).await?;
    Ok((client, server))
}

#[tokio::test]
async fn a_websocket_goes_both_ways_until_one_end_closes_it() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    for (says, answers) in [(FROM_CLIENT, FROM_SERVER), (CLOSE, CLOSE)] {
        let (mut client, mut server) = websocket(&gateway, &application).await?;
        client.say(says).await?;
        server.hears(says).await?;
        // Who has said all may still hear.
        soon(client.0.shutdown()).await??;
        assert_eq!(server.rest().await?, b"");
        server.say(answers).await?;
        client.hears(answers).await?;
        drop(server);
        assert_eq!(client.rest().await?, b"");
    }
    let (client, mut server) = websocket(&gateway, &application).await?;
    drop(client);
    assert_eq!(server.rest().await?, b"");
    Ok(())
}

#[tokio::test]
async fn a_websocket_that_an_application_refuses_is_refused() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    let mut client = End::connect(gateway.port()).await?;
    client
        .ask("GET /static/socket", &gateway, &upgrade())
        .await?;
    let mut server = application.accept().await?;
    server.head().await?;
    let refusal =
        "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 12\r\nContent-Length: 2\r\n\r\nno";
    server.say(refusal).await?;
    let answered = client.head().await?;
    assert!(answered.starts_with("http/1.1 426 "), "{answered}");
    assert!(
        answered.contains("\r\nsec-websocket-version: 12\r\n"),
        "{answered}"
    );
    client.hears("no").await?;

    // It is a connection as any other, on both sides.
    client.ask("GET /static/x", &gateway, "").await?;
    let (mut server, _) = application.asked(server).await?;
    server
        .say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")
        .await?;
    assert!(client.head().await?.starts_with("http/1.1 200 "));
    client.hears("yes").await
}

/// Neither is passed on: not the answer, and not what comes behind it.
#[tokio::test]
async fn what_is_no_answer_to_an_upgrade_is_none() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    let wrong_key = upgraded().replace(ACCEPT, KEY);
    let other_protocol = upgraded().replace("clay", "wax");
    let other_upgrade = upgraded().replace("websocket", "h2c");
    for (fields, answer) in [
        (upgrade(), wrong_key),
        (upgrade(), other_protocol),
        (upgrade(), other_upgrade),
        // Nobody has asked.
        (String::new(), upgraded()),
    ] {
        let mut client = End::connect(gateway.port()).await?;
        client.ask("GET /static/socket", &gateway, &fields).await?;
        // It asks once more, and is answered the same.
        for _ in 0..2 {
            let mut server = application.accept().await?;
            server.head().await?;
            server
                .say([answer.as_bytes(), FROM_SERVER].concat())
                .await?;
        }
        let refused = client.head().await?;
        assert!(refused.starts_with("http/1.1 502 "), "{answer}: {refused}");
        let said = client.exactly(length(&refused)?).await?;
        assert!(
            String::from_utf8(said)?.contains("upstream_broke"),
            "{answer}"
        );
    }
    Ok(())
}

/// How long the content is that a head announces.
fn length(head: &str) -> Outcome<usize> {
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    Ok(length.ok_or("no length")?.parse()?)
}

static BARE_WEBSOCKET: Attack = Attack {
    has: "no session",
    does: "asks for a WebSocket",
    twin: Twin::Weakened("a gateway where all is public"),
    without: "it is opened",
    with: Held("refused; nothing reaches the application"),
    names: &[Api(2), Api(8), Asvs("4.1.4")],
    shown: Shown::nothing(),
};

async fn a_websocket_without_a_session_reaches_nothing_that_is_not_public() -> Outcome {
    let application = Application::start().await?;
    for access in [Access::Signed, Access::Sealed, Access::Concealed] {
        let gateway = application.behind(|config| config.access = access).await?;
        let mut client = End::connect(gateway.port()).await?;
        client
            .ask(&format!("GET {HIDDEN}"), &gateway, &upgrade())
            .await?;
        let refused = client.head().await?;
        let status = if access == Access::Concealed {
            "404"
        } else {
            "401"
        };
        assert!(
            refused.starts_with(&format!("http/1.1 {status} ")),
            "{access:?}: {refused}"
        );
        // The first that comes to the application is somebody else's.
        let other = websocket(&gateway, &application).await;
        BARE_WEBSOCKET.with(other.is_ok());
    }

    // The twin, where all is public.
    let gateway = application
        .behind(|config| config.access = Access::Public)
        .await?;
    let mut client = End::connect(gateway.port()).await?;
    client
        .ask(&format!("GET {HIDDEN}"), &gateway, &upgrade())
        .await?;
    let mut server = application.accept().await?;
    let head = server.head().await?;
    BARE_WEBSOCKET.without(head.starts_with(&format!("get {HIDDEN} ")));
    Ok(())
}

/// Nobody would pass on one that comes as a stream of HTTP/2 (RFC 8441). So browsers are not told that it may, and come by
/// HTTP/1.1.
#[tokio::test]
async fn no_websocket_is_offered_by_http_2() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.port())).await?;
    let (client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let mut client = client.ready().await?;
    let request = Request::get(gateway.url("/account")).body(())?;
    let (reply, _) = client.send_request(request, true)?;
    // With the first reply its settings have come.
    assert_eq!(soon(reply).await??.status(), StatusCode::UNAUTHORIZED);
    assert!(!client.is_extended_connect_protocol_enabled());
    Ok(())
}

/// As long as the limits of requests and replies are here.
const SHORT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_websocket_may_be_silent_for_longer_than_any_reply() -> Outcome {
    let application = Application::start().await?;
    let gateway = application
        .behind(|config| {
            let limits = &mut config.limits;
            limits.answer = SHORT;
            limits.quiet = SHORT;
            limits.head = SHORT;
            limits.idle = SHORT;
        })
        .await?;
    let (mut client, mut server) = websocket(&gateway, &application).await?;

    // Each of these comes to its end after that time.
    let mut late = End::connect(gateway.port()).await?;
    late.ask("GET /static/late", &gateway, "").await?;
    let mut silent = application.accept().await?;
    silent.head().await?;
    let mut cut = End::connect(gateway.port()).await?;
    cut.ask("GET /static/cut", &gateway, "").await?;
    let mut hanging = application.accept().await?;
    hanging.head().await?;
    hanging
        .say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi")
        .await?;
    let mut idle = End::connect(gateway.port()).await?;
    let refused = late.head().await?;
    assert!(refused.starts_with("http/1.1 504 "), "{refused}");
    cut.head().await?;
    assert_eq!(cut.rest().await?, b"hi");
    assert_eq!(idle.rest().await?, b"");

    client.say(FROM_CLIENT).await?;
    server.hears(FROM_CLIENT).await?;
    server.say(FROM_SERVER).await?;
    client.hears(FROM_SERVER).await
}

#[tokio::test]
async fn an_upgrade_that_is_not_answered_is_late_as_anything_else() -> Outcome {
    let application = Application::start().await?;
    let short = Duration::from_millis(100);
    let gateway = application
        .behind(|config| config.limits.answer = short)
        .await?;
    let mut client = End::connect(gateway.port()).await?;
    client
        .ask("GET /static/socket", &gateway, &upgrade())
        .await?;
    let _silent = application.accept().await?;
    let refused = client.head().await?;
    assert!(refused.starts_with("http/1.1 504 "), "{refused}");
    let said = client.exactly(length(&refused)?).await?;
    assert!(String::from_utf8(said)?.contains("upstream_timeout"));
    Ok(())
}

/// A certificate, and what trusts its authority in place of the system's.
struct Trust {
    vouched: Vouched,
    folder: tempfile::TempDir,
}

impl Trust {
    fn new() -> Outcome<Self> {
        let (vouched, folder) = (Vouched::new()?, tempfile::tempdir()?);
        std::fs::write(folder.path().join("ca.pem"), &vouched.authority)?;
        Ok(Self { vouched, folder })
    }

    fn ca(&self) -> UpstreamTls {
        UpstreamTls {
            ca: self.folder.path().join("ca.pem"),
        }
    }

    fn acceptor(&self) -> Outcome<tokio_rustls::TlsAcceptor> {
        use tokio_rustls::rustls::ServerConfig;
        use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
        use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

        let key = PrivatePkcs8KeyDer::from(self.vouched.key.serialize_der());
        let chain = vec![self.vouched.certificate.der().clone()];
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key))?;
        Ok(Arc::new(config).into())
    }
}

#[tokio::test]
async fn an_application_by_tls_is_told_something_only_if_who_vouches_for_it_is_trusted() -> Outcome
{
    let (own, other) = (Trust::new()?, Trust::new()?);
    let application = Application::start().await?;
    let port = application.0.local_addr()?.port();
    let acceptor = own.acceptor()?;
    for (host, ca, is_trusted) in [
        ("localhost", Some(own.ca()), true),
        // By another authority, by none that the system knows, and by another name.
        ("localhost", Some(other.ca()), false),
        ("localhost", None, false),
        ("127.0.0.1", Some(own.ca()), false),
    ] {
        let upstreams = [format!("https://{host}:{port}")];
        let gateway = Running::start(&upstreams, |config| config.upstream_tls = ca.clone()).await?;
        let mut client = End::connect(gateway.port()).await?;
        client.ask("GET /static/x", &gateway, "").await?;
        let (stream, _) = soon(application.0.accept()).await??;
        let accepted = soon(acceptor.accept(stream)).await?;
        if is_trusted {
            let mut server = End::of(accepted?);
            assert!(server.head().await?.starts_with("get /static/x "));
            server
                .say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                .await?;
            assert!(client.head().await?.starts_with("http/1.1 200 "));
            client.hears("hi").await?;

            // An upgrade goes the same way.
            let mut socket = End::connect(gateway.port()).await?;
            drop(server);
            socket
                .ask("GET /static/socket", &gateway, &upgrade())
                .await?;
            let (stream, _) = soon(application.0.accept()).await??;
            let mut server = End::of(soon(acceptor.accept(stream)).await??);
            server.head().await?;
            server.say(upgraded()).await?;
            assert!(socket.head().await?.starts_with("http/1.1 101 "));
            socket.say(FROM_CLIENT).await?;
            server.hears(FROM_CLIENT).await?;
        } else {
            // Whatever it may have sent, it was no request.
            let nothing = match accepted {
                Err(_) => Vec::new(),
                Ok(stream) => End::of(stream).rest().await?,
            };
            assert_eq!(nothing, b"", "{host} {ca:?}");
            let refused = client.head().await?;
            assert!(
                refused.starts_with("http/1.1 502 "),
                "{host} {ca:?}: {refused}"
            );
            let said = client.exactly(length(&refused)?).await?;
            assert!(String::from_utf8(said)?.contains("upstream_unreachable"));
        }
    }
    Ok(())
}

/// What an application answers, by its name.
fn answer(method: &str, path: &str) -> &'static str {
    match (method, path.rsplit('/').next().unwrap_or_default()) {
        ("head", "length") => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n",
        ("head", "chunks") => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ("head", "none") => "HTTP/1.1 200 OK\r\n\r\n",
        ("head", "page") => {
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n"
        }
        (_, "nothing") => "HTTP/1.1 204 No Content\r\nETag: \"a\"\r\n\r\n",
        (_, "zero") => "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        (_, "same") => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
        (_, "same-length") => "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        (_, "hints") => {
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n\
             HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        }
        (_, "continue") => {
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        }
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    }
}

/// What a client gets of it: the status, the length if one is to be said, and the content.
const ANSWERED: [(&str, &str, u16, Option<&str>, &str); 11] = [
    ("HEAD", "length", 200, Some("5"), ""),
    // How long it would be nobody knows: surely not 0.
    ("HEAD", "chunks", 200, None, ""),
    ("HEAD", "none", 200, None, ""),
    ("GET", "nothing", 204, None, ""),
    ("DELETE", "nothing", 204, None, ""),
    ("GET", "zero", 204, None, ""),
    ("GET", "same", 304, None, ""),
    ("HEAD", "same", 304, None, ""),
    ("GET", "hints", 200, Some("5"), "hello"),
    ("GET", "continue", 200, Some("5"), "hello"),
    ("GET", "else", 200, Some("5"), "hello"),
];

/// Answers by names, all on one connection as long as it lives.
fn answering(application: Application) -> JoinHandle<Outcome> {
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = application.0.accept().await?;
            connections.spawn(async move {
                let mut server = End::of(stream);
                while let Ok(head) = server.head().await {
                    let mut line = head.split(' ');
                    let (method, path) = (line.next(), line.next());
                    let (method, path) = (method.unwrap_or_default(), path.unwrap_or_default());
                    if server.say(answer(method, path)).await.is_err() {
                        break;
                    }
                }
            });
        }
    })
}

fn check(
    (method, path, status, length, content): (&str, &str, u16, Option<&str>, &str),
    how: &str,
    answered: (StatusCode, &HeaderMap, &[u8]),
) {
    let (got, headers, said) = answered;
    assert_eq!(got.as_u16(), status, "{method} {path} {how}");
    let got = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    assert_eq!(got, length.map(str::as_bytes), "{method} {path} {how}");
    assert_eq!(said, content.as_bytes(), "{method} {path} {how}");
    assert!(!headers.contains_key(LINK), "{method} {path} {how}");
    let has_tag = ["length", "nothing", "same"].contains(&path);
    assert_eq!(headers.contains_key(ETAG), has_tag, "{method} {path} {how}");
}

#[tokio::test]
async fn replies_without_content_and_those_before_the_last_come_as_they_should() -> Outcome {
    let application = Application::start().await?;
    let gateway = application
        .behind(|config| {
            config.paths.push(PathRule {
                prefix: "/signed/".to_owned(),
                access: Access::Signed,
            });
        })
        .await?;
    let _answering = answering(application);

    // By HTTP/1.1, all on one connection: what is too much of one is missing from the next.
    let mut client = End::connect(gateway.port()).await?;
    for case @ (method, path, _, length, content) in ANSWERED {
        client
            .ask(&format!("{method} /static/{path}"), &gateway, "")
            .await?;
        let head = client.head().await?;
        let (status, headers) = parsed(&head)?;
        let count = if content.is_empty() {
            0
        } else {
            length.unwrap_or_default().parse()?
        };
        let said = client.exactly(count).await?;
        check(case, "by HTTP/1.1", (status, &headers, &said));
        assert!(
            !headers.contains_key("transfer-encoding"),
            "{method} {path}"
        );
    }

    // By HTTP/2.
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.port())).await?;
    let (client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let mut client = client.ready().await?;
    for case @ (method, path, ..) in ANSWERED {
        let url = gateway.url(&format!("/static/{path}"));
        let request = Request::builder().method(method).uri(url).body(())?;
        let (reply, _) = client.send_request(request, true)?;
        let (head, mut body) = soon(reply).await??.into_parts();
        let mut said = Vec::new();
        while let Some(data) = soon(body.data()).await? {
            said.extend_from_slice(&data?);
        }
        check(case, "by HTTP/2", (head.status, &head.headers, &said));
    }

    // In a session, sealed and signed.
    for (seal, access) in [(true, "sealed"), (false, "signed")] {
        let session = session(&gateway, seal).await?;
        let folder = if seal { "/account" } else { "/signed" };
        for case @ (method, path, ..) in ANSWERED {
            let request = Request::builder()
                .method(method)
                .uri(format!("{folder}/{path}"));
            let reply = soon(session.fetch(request.body("")?)).await??;
            let (head, body) = reply.into_parts();
            let said = soon(body.bytes()).await??;
            check(case, access, (head.status, &head.headers, &said));
        }
    }
    Ok(())
}

/// The status and the fields of a head.
fn parsed(head: &str) -> Outcome<(StatusCode, HeaderMap)> {
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name: http::HeaderName = name.parse()?;
        headers.append(name, value.parse()?);
    }
    Ok((status.ok_or("no status")?.parse()?, headers))
}

async fn session(gateway: &Running, seal: bool) -> Outcome<Session> {
    let client = Client::builder(gateway.url("")).seal(seal).build()?;
    Ok(soon(client.open()).await??)
}

/// Of a page a GET gets another one, so HEAD does not tell of the application's.
#[tokio::test]
async fn head_says_nothing_of_the_bytes_of_what_the_gateway_changes() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    let _answering = answering(application);
    let mut client = End::connect(gateway.port()).await?;
    for (fields, is_changed) in [
        ("Accept: text/html\r\n", true),
        ("Accept: image/png\r\n", false),
    ] {
        client.ask("HEAD /static/page", &gateway, fields).await?;
        let (status, headers) = parsed(&client.head().await?)?;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            headers.contains_key(CONTENT_LENGTH),
            !is_changed,
            "{fields}"
        );
        assert_eq!(headers.contains_key(ETAG), !is_changed, "{fields}");
    }
    Ok(())
}

#[tokio::test]
async fn who_waits_to_be_asked_for_content_is_asked_if_it_is_wanted() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    let waits = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    let mut client = End::connect(gateway.port()).await?;
    client.ask("POST /static/x", &gateway, waits).await?;
    let mut server = application.accept().await?;
    let asked = server.head().await?;
    // This one waits for nothing: it sends what it gets.
    assert!(!asked.contains("\r\nexpect: "), "{asked}");
    assert_eq!(client.head().await?, "http/1.1 100 continue\r\n\r\n");
    client.say("hello").await?;
    server.hears("hello").await?;
    server
        .say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        .await?;
    assert!(client.head().await?.starts_with("http/1.1 200 "));
    client.hears("hi").await?;

    let mut client = End::connect(gateway.port()).await?;
    client.ask("POST /account", &gateway, waits).await?;
    let refused = client.head().await?;
    assert!(refused.starts_with("http/1.1 401 "), "{refused}");
    Ok(())
}

/// How much is sent where an end is not reading, and how much of it may be on its way: what the kernel's buffers take on two
/// connections, and more than that.
const WHOLE: usize = 96 * 1024 * 1024;
const ON_THE_WAY: u64 = 32 * 1024 * 1024;

/// What is sent, piece by piece: no two are the same.
const PIECE: usize = 64 * 1024;

fn piece(index: usize) -> Bytes {
    let start = index.to_le_bytes();
    start.repeat(PIECE / start.len()).into()
}

/// Compares what comes with what was sent.
#[derive(Default)]
struct Compared(usize);

impl Compared {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let piece = piece(self.0 / PIECE);
            let rest = &piece[self.0 % PIECE..];
            let count = rest.len().min(bytes.len());
            assert!(rest[..count] == bytes[..count], "at {}", self.0);
            bytes = &bytes[count..];
            self.0 += count;
        }
    }
}

/// Sends all of it, and counts what has been taken.
async fn pour(into: &mut (impl AsyncWrite + Unpin), poured: &AtomicU64) -> Outcome {
    for index in 0..WHOLE / PIECE {
        let piece = piece(index);
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let count = into.write(rest).await?;
            poured.fetch_add(count as u64, Ordering::Relaxed);
            rest = &rest[count..];
        }
    }
    Ok(())
}

/// Reads all of it.
async fn drain(from: &mut (impl AsyncRead + Unpin)) -> Outcome {
    let mut compared = Compared::default();
    let mut buffer = vec![0; PIECE];
    while compared.0 < WHOLE {
        let count = soon(from.read(&mut buffer)).await??;
        assert_ne!(count, 0);
        compared.take(&buffer[..count]);
    }
    Ok(())
}

/// Waits until no more is taken, however often the gateway comes to do something else, and checks that it is not much.
async fn is_held_back(poured: &AtomicU64, gateway: &Running) -> Outcome {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let script = gateway.url("/.well-known/bulla/gateway/sw.js");
    let mut last = u64::MAX;
    loop {
        for _ in 0..50 {
            let served = client.get(&script).send().await?.error_for_status()?;
            served.bytes().await?;
        }
        let now = poured.load(Ordering::Relaxed);
        if now == last && now > 0 {
            break;
        }
        last = now;
    }
    assert!(
        last < ON_THE_WAY,
        "{last} bytes were taken of what nobody reads"
    );
    Ok(())
}

/// Answers a request with all of it.
fn pouring(application: Application, poured: Arc<AtomicU64>) -> JoinHandle<Outcome> {
    tokio::spawn(async move {
        let mut server = application.accept().await?;
        server.head().await?;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {WHOLE}\r\n\r\n");
        server.say(head).await?;
        pour(&mut server.0, &poured).await?;
        Ok(server.0.flush().await?)
    })
}

#[tokio::test]
async fn an_application_waits_for_a_client_that_does_not_read() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    let poured = Arc::<AtomicU64>::default();
    let sent = pouring(application, Arc::clone(&poured));
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(64 * 1024)?;
    let stream = socket
        .connect((Ipv4Addr::LOCALHOST, gateway.port()).into())
        .await?;
    let mut client = End::of(stream);
    client.ask("GET /static/large", &gateway, "").await?;
    is_held_back(&poured, &gateway).await?;
    assert_eq!(length(&client.head().await?)?, WHOLE);
    drain(&mut client.0).await?;
    soon(sent).await??
}

#[tokio::test]
async fn an_application_waits_for_a_client_of_http_2_that_does_not_read() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    let poured = Arc::<AtomicU64>::default();
    let sent = pouring(application, Arc::clone(&poured));
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.port())).await?;
    let (client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let request = Request::get(gateway.url("/static/large")).body(())?;
    let (reply, _) = client.ready().await?.send_request(request, true)?;
    let mut body = soon(reply).await??.into_body();
    is_held_back(&poured, &gateway).await?;
    let mut compared = Compared::default();
    while let Some(data) = soon(body.data()).await? {
        let data = data?;
        compared.take(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    assert_eq!(compared.0, WHOLE);
    soon(sent).await??
}

#[tokio::test]
async fn an_application_waits_for_a_session_that_does_not_read() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    let poured = Arc::<AtomicU64>::default();
    let sent = pouring(application, Arc::clone(&poured));
    let session = session(&gateway, true).await?;
    let request = Request::get("/large").body("")?;
    let mut body = soon(session.fetch(request)).await??.into_body();
    is_held_back(&poured, &gateway).await?;
    let mut compared = Compared::default();
    while let Some(data) = soon(body.chunk()).await?? {
        compared.take(&data);
    }
    assert_eq!(compared.0, WHOLE);
    soon(sent).await??
}

/// Takes a head, and the content not before it is told to.
fn reluctant(application: Application, reads: Arc<Semaphore>) -> JoinHandle<Outcome> {
    tokio::spawn(async move {
        let mut server = application.accept().await?;
        let head = server.head().await?;
        let _reads = soon(reads.acquire()).await??;
        if head.contains("\r\ntransfer-encoding: chunked\r\n") {
            let mut compared = Compared::default();
            loop {
                let mut size = Vec::new();
                while !size.ends_with(b"\r\n") {
                    size.push(soon(server.0.read_u8()).await??);
                }
                let size = usize::from_str_radix(std::str::from_utf8(&size)?.trim_end(), 16)?;
                compared.take(&server.exactly(size).await?);
                server.hears("\r\n").await?;
                if size == 0 {
                    break;
                }
            }
            assert_eq!(compared.0, WHOLE);
        } else {
            assert_eq!(length(&head)?, WHOLE);
            drain(&mut server.0).await?;
        }
        server
            .say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nread")
            .await
    })
}

#[tokio::test]
async fn a_client_waits_for_an_application_that_does_not_read() -> Outcome {
    let application = Application::start().await?;
    let gateway = application
        .behind(|config| config.limits.body = WHOLE)
        .await?;
    let (poured, reads) = (Arc::<AtomicU64>::default(), Arc::new(Semaphore::new(0)));
    let read = reluctant(application, Arc::clone(&reads));
    let mut client = End::connect(gateway.port()).await?;
    let fields = format!("Content-Length: {WHOLE}\r\n");
    client.ask("PUT /static/large", &gateway, &fields).await?;
    let counted = Arc::clone(&poured);
    let sending = tokio::spawn(async move {
        pour(&mut client.0, &counted).await?;
        client.0.flush().await?;
        Outcome::Ok(client)
    });
    is_held_back(&poured, &gateway).await?;
    reads.add_permits(1);
    let mut client = soon(sending).await???;
    soon(read).await???;
    assert!(client.head().await?.starts_with("http/1.1 200 "));
    client.hears("read").await
}

#[tokio::test]
async fn a_session_waits_for_an_application_that_does_not_read() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    let (poured, reads) = (Arc::<AtomicU64>::default(), Arc::new(Semaphore::new(0)));
    let read = reluctant(application, Arc::clone(&reads));
    let session = session(&gateway, true).await?;
    let counted = Arc::clone(&poured);
    let content = move || {
        let counted = Arc::clone(&counted);
        let pieces = (0..WHOLE / PIECE).map(move |index| {
            counted.fetch_add(PIECE as u64, Ordering::Relaxed);
            Ok::<_, std::io::Error>(piece(index))
        });
        reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))
    };
    let request = Request::put("/large").body(content)?;
    let sending = tokio::spawn(async move { session.upload(request).await });
    is_held_back(&poured, &gateway).await?;
    reads.add_permits(1);
    let reply = soon(sending).await???;
    soon(read).await???;
    assert_eq!(soon(reply.into_body().bytes()).await??, "read");
    Ok(())
}

/// One of several upstreams, which can die with all its connections, and come back where it was.
struct Node {
    address: std::net::SocketAddr,
    served: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Node {
    async fn start() -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let served = Arc::<AtomicUsize>::default();
        let serving = Self::serve(listener, Arc::clone(&served));
        Ok(Self {
            address,
            served,
            serving,
        })
    }

    fn serve(listener: TcpListener, counted: Arc<AtomicUsize>) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                connections.spawn(async move {
                    let mut server = End::of(stream);
                    while server.head().await.is_ok() {
                        counted.fetch_add(1, Ordering::Relaxed);
                        // In between it may be killed.
                        tokio::task::yield_now().await;
                        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
                        if server.say(answer).await.is_err() {
                            break;
                        }
                    }
                });
            }
        })
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    async fn die(&mut self) {
        self.serving.abort();
        // It is gone with all that it had.
        let _ = (&mut self.serving).await;
    }

    async fn come_back(&mut self) -> Outcome {
        let listener = TcpListener::bind(self.address).await?;
        self.serving = Self::serve(listener, Arc::clone(&self.served));
        Ok(())
    }
}

#[tokio::test]
async fn load_is_spread_over_those_that_live_and_nobody_notices_who_dies() -> Outcome {
    let (mut first, mut second) = (Node::start().await?, Node::start().await?);
    let upstreams = [first.origin(), second.origin()];
    let gateway = Running::start(&upstreams, |config| {
        config.health.interval = Duration::from_millis(10);
    })
    .await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = gateway.url("/static/x");
    let get = async || Outcome::Ok(soon(client.get(&url).send()).await??.status());
    for _ in 0..20 {
        assert_eq!(get().await?, StatusCode::OK);
    }
    assert_eq!((first.served(), second.served()), (10, 10));

    // Some are always asking. Those that were being answered by it are answered by the other one.
    let failed = Arc::<AtomicUsize>::default();
    let mut asking = JoinSet::new();
    let answered = Arc::<AtomicUsize>::default();
    for _ in 0..8 {
        let (client, url) = (client.clone(), url.clone());
        let (failed, answered) = (Arc::clone(&failed), Arc::clone(&answered));
        asking.spawn(async move {
            loop {
                let status = client.get(&url).send().await.map(|reply| reply.status());
                let is_ok = matches!(status, Ok(StatusCode::OK));
                failed.fetch_add(usize::from(!is_ok), Ordering::Relaxed);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let until = async |count: usize| {
        let enough = answered.load(Ordering::Relaxed) + count;
        soon(async {
            while answered.load(Ordering::Relaxed) < enough {
                tokio::task::yield_now().await;
            }
        })
        .await
    };
    until(100).await?;
    tokio::spawn(gateway.gateway.upkeep());
    for _ in 0..3 {
        first.die().await;
        let dead = first.served();
        until(100).await?;
        assert_eq!(first.served(), dead);
        assert!(gateway.gateway.is_ready());
        first.come_back().await?;
        soon(async {
            while first.served() == dead {
                tokio::task::yield_now().await;
            }
        })
        .await?;
    }
    until(100).await?;
    asking.shutdown().await;
    assert_eq!(failed.load(Ordering::Relaxed), 0);

    first.die().await;
    second.die().await;
    let refused = soon(client.get(&url).send()).await??;
    assert_eq!(refused.status(), StatusCode::BAD_GATEWAY);
    let said = refused.text().await?;
    assert!(said.contains(r#""code":"upstream_unreachable""#), "{said}");
    assert!(!gateway.gateway.is_ready());
    second.come_back().await?;
    soon(async { while get().await.ok() != Some(StatusCode::OK) {} }).await
}

/// An application closes connections that are idle whenever it likes, and so it may just have done when a request comes.
#[tokio::test]
async fn a_request_that_was_not_answered_is_sent_again_if_that_does_no_harm() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    let hi = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let mut client = End::connect(gateway.port()).await?;
    client.ask("GET /static/1", &gateway, "").await?;
    let mut server = application.accept().await?;
    server.head().await?;
    server.say(hi).await?;
    client.head().await?;
    client.hears("hi").await?;

    // On the connection that was kept, and then on another one.
    client.ask("GET /static/2", &gateway, "").await?;
    let (server, asked) = application.asked(server).await?;
    assert!(asked.starts_with("get /static/2 "), "{asked}");
    drop(server);
    let mut server = application.accept().await?;
    assert!(server.head().await?.starts_with("get /static/2 "));
    server.say(hi).await?;
    assert!(client.head().await?.starts_with("http/1.1 200 "));
    client.hears("hi").await?;

    // So it is with what has come sealed: the proof is good once, and so is what it was good for.
    let session = session(&gateway, true).await?;
    let fetching = tokio::spawn(async move {
        let request = Request::get("/account").body("")?;
        let reply = session.fetch(request).await?;
        Outcome::Ok(reply.status())
    });
    let (server, asked) = application.asked(server).await?;
    assert!(asked.starts_with("get /account "), "{asked}");
    drop(server);
    let mut server = application.accept().await?;
    assert!(server.head().await?.starts_with("get /account "));
    server.say(hi).await?;
    assert_eq!(soon(fetching).await???, StatusCode::OK);

    // What does something is sent once, whatever becomes of it, and what is not answered twice is not sent again.
    for (method, fields, times) in [
        ("POST", "Content-Length: 0\r\n", 1),
        ("DELETE", "", 1),
        ("GET", "", 2),
    ] {
        let mut client = End::connect(gateway.port()).await?;
        client
            .ask(&format!("{method} /static/3"), &gateway, fields)
            .await?;
        let line = format!("{} /static/3 ", method.to_ascii_lowercase());
        for _ in 0..times {
            let (mut asked, head) = application.asked(server).await?;
            assert!(head.starts_with(&line), "{head}");
            soon(asked.0.shutdown()).await??;
            server = asked;
        }
        let refused = client.head().await?;
        assert!(refused.starts_with("http/1.1 502 "), "{method}: {refused}");
        let said = client.exactly(length(&refused)?).await?;
        assert!(String::from_utf8(said)?.contains("upstream_broke"));
        // What comes next is the next one.
        client.ask("GET /static/4", &gateway, "").await?;
        server = application.accept().await?;
        assert!(
            server.head().await?.starts_with("get /static/4 "),
            "{method}"
        );
        server.say(hi).await?;
        client.head().await?;
        client.hears("hi").await?;
    }
    Ok(())
}

/// How an application may be answering when its client goes away.
const BEGUN: [&str; 3] = [
    // Not yet.
    "",
    "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: hi\n\n",
];

#[tokio::test]
async fn an_application_learns_that_a_client_has_gone_away() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    for begun in BEGUN {
        let mut client = End::connect(gateway.port()).await?;
        client.ask("GET /static/slow", &gateway, "").await?;
        let mut server = application.accept().await?;
        server.head().await?;
        server.say(begun).await?;
        if !begun.is_empty() {
            client.head().await?;
        }
        drop(client);
        assert_eq!(server.rest().await?, b"", "{begun}");
    }

    // By HTTP/2 it is one of the connection's streams that ends.
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.port())).await?;
    let (client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let mut client = client.ready().await?;
    for begun in BEGUN {
        let request = Request::get(gateway.url("/static/slow")).body(())?;
        let (mut reply, stream) = client.send_request(request, true)?;
        let mut server = application.accept().await?;
        server.head().await?;
        server.say(begun).await?;
        if !begun.is_empty() {
            soon(&mut reply).await??;
        }
        drop((reply, stream));
        assert_eq!(server.rest().await?, b"", "{begun}");
    }

    let session = session(&gateway, true).await?;
    for begun in BEGUN {
        let request = Request::get("/slow").body("")?;
        let asking = session.clone();
        let (told, mut tells) = tokio::sync::mpsc::channel(1);
        let fetching = tokio::spawn(async move {
            let reply = asking.fetch(request).await;
            // Kept until the task is ended.
            let _ = told.send(reply.is_ok()).await;
            std::future::pending::<()>().await;
            drop(reply);
        });
        let mut server = application.accept().await?;
        server.head().await?;
        server.say(begun).await?;
        // A seal shows nothing before a record is full, but for events.
        if begun.contains("event-stream") {
            assert_eq!(soon(tells.recv()).await?, Some(true));
        }
        fetching.abort();
        assert_eq!(server.rest().await?, b"", "{begun}");
    }
    Ok(())
}

/// A part must not be taken for the whole.
#[tokio::test]
async fn content_of_a_client_that_has_gone_away_never_ends_cleanly() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    for (fields, content) in [
        ("Content-Length: 9\r\n", "hi"),
        ("Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n"),
    ] {
        let mut client = End::connect(gateway.port()).await?;
        client.ask("POST /static/x", &gateway, fields).await?;
        client.say(content).await?;
        let mut server = application.accept().await?;
        let head = server.head().await?;
        server.hears(content).await?;
        drop(client);
        assert_eq!(server.rest().await?, b"", "{head}");
    }
    Ok(())
}

/// `{"token":"clay"}`, by gzip.
const PACKED: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff\xabV*\xc9\xcfN\xcdS\xb2RJ\xceI\xacT\xaa\x05\0\xf1\x0b^G\x10\0\0\0";

/// Who asks for something in a seal could not unpack it, and asks for nothing that is compressed.
#[tokio::test]
async fn what_comes_compressed_is_plain_under_a_seal_and_as_it_was_elsewhere() -> Outcome {
    let application = Application::start().await?;
    let gateway = application.behind(|_| ()).await?;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\
         etag: \"packed\"\r\ncontent-length: {}\r\n\r\n",
        PACKED.len()
    );
    let answer = async || {
        let mut server = application.accept().await?;
        let asked = server.head().await?;
        server.say(&head).await?;
        server.say(PACKED).await?;
        Outcome::Ok((asked, server))
    };

    let session = session(&gateway, true).await?;
    let request = Request::get("/api/token").body("")?;
    let (reply, answered) = tokio::join!(session.fetch(request), answer());
    let (asked, _) = answered?;
    assert!(
        asked.contains("\r\naccept-encoding: identity\r\n"),
        "{asked}"
    );
    let reply = reply?;
    assert_eq!(reply.headers().get("content-encoding"), None);
    assert_eq!(reply.headers().get(ETAG), None);
    let content = soon(reply.into_body().bytes()).await??;
    assert_eq!(content, r#"{"token":"clay"}"#);

    let mut client = End::connect(gateway.port()).await?;
    let fields = "Accept-Encoding: gzip\r\n";
    client.ask("GET /static/x", &gateway, fields).await?;
    let (asked, _) = answer().await?;
    assert!(asked.contains("\r\naccept-encoding: gzip\r\n"), "{asked}");
    let said = client.head().await?;
    assert!(said.contains("\r\ncontent-encoding: gzip\r\n"), "{said}");
    client.hears(PACKED).await?;
    Ok(())
}

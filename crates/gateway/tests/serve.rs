//! Connections, by real processes and real sockets.
#![allow(clippy::unwrap_used)] // in tests a surprise may panic

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use bulla_gateway::config::{Config, Overrides};
use bulla_gateway::serve::Server;
use http::Version;
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
    Lines,
};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Where the process under test finds its configuration.
const CONFIG: &str = "BULLA_TEST_CONFIG";

/// What the others start as a process of its own. It says where it listens, and what has become of each SIGHUP.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is a server and no test"]
async fn served() {
    let file = std::env::var(CONFIG).unwrap();
    let config = Config::load(Some(Path::new(&file)), &Overrides::default()).unwrap();
    let server = Server::bind(&config).await.unwrap();
    let certificate = server.certificate();
    let tls = config.tls.clone();
    eprintln!("public {}", server.address());
    if let Some(address) = server.operator_address() {
        eprintln!("operator {address}");
    }
    eprintln!("listens");
    let is_well = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&is_well);
    let app = Router::new()
        .route("/", get(said))
        // A reply that takes as long as its request.
        .route("/echo", post(async |body: Body| body))
        .route(
            "/fail",
            post(async move || fails.store(false, Ordering::SeqCst)),
        );
    server
        .operator(Router::new().route("/page", get(async || "the operator's")))
        .ready(move || is_well.load(Ordering::SeqCst))
        .on_reload(move || {
            let done = match (&certificate, &tls) {
                (Some(certificate), Some(tls)) => certificate.reload(tls),
                _ => Ok(()),
            };
            async move {
                match done {
                    Ok(()) => eprintln!("reloaded"),
                    Err(error) => eprintln!("not reloaded: {error}"),
                }
            }
        })
        .run(app)
        .await
        .unwrap();
}

/// Says what is known of the connection.
async fn said(version: Version, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
    format!("{version:?} from {peer}")
}

/// A process that serves.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    public: SocketAddr,
    operator: Option<SocketAddr>,
    folder: TempDir,
}

impl Process {
    /// Starts one with these lines of configuration besides those that all have.
    async fn start(lines: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), lines).await
    }

    async fn start_in(folder: TempDir, lines: &str) -> Self {
        let config = folder.path().join("bulla.toml");
        let common = "listen = \"127.0.0.1:0\"\norigins = [\"http://localhost\"]\nupstreams = [\"http://localhost\"]";
        fs::write(&config, format!("{common}\n{lines}")).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "served", "--ignored", "--nocapture"])
            .env(CONFIG, &config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut public, mut operator) = (None, None);
        loop {
            let line = soon(lines.next_line()).await.unwrap().unwrap();
            match line.split_once(' ') {
                Some(("public", address)) => public = Some(address.parse().unwrap()),
                Some(("operator", address)) => operator = Some(address.parse().unwrap()),
                _ if line == "listens" => break,
                _ => panic!("{line}"),
            }
        }
        Self {
            child,
            lines,
            public: public.unwrap(),
            operator,
            folder,
        }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Sends SIGHUP, and waits for what becomes of it.
    async fn reload(&mut self) -> String {
        self.signal(Signal::HUP);
        soon(self.lines.next_line()).await.unwrap().unwrap()
    }

    /// Asks for the end, and waits until nobody new is let in.
    async fn end(&self) {
        self.signal(Signal::TERM);
        self.refused().await;
    }

    /// Waits until nobody new is let in.
    async fn refused(&self) {
        let refused = async {
            loop {
                match TcpStream::connect(self.public).await {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => break,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        soon(refused).await;
    }

    async fn ended(&mut self) -> ExitStatus {
        soon(self.child.wait()).await.unwrap()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.public).await.unwrap()
    }
}

/// Nothing that is waited for here takes as long. It is what a test fails by that would hang.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_mins(1), what).await.unwrap()
}

/// Asks for something that has a short answer, and keeps the connection.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_through(stream, "\r\n\r\n").await;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut content = vec![0; length.unwrap().parse().unwrap()];
    soon(stream.read_exact(&mut content)).await.unwrap();
    head + &String::from_utf8(content).unwrap()
}

/// Reads as far as the end of this text.
async fn read_through(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        text.push(soon(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

/// Whatever still comes until the connection is closed. How it is closed does not matter.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    let _ = soon(stream.read_to_end(&mut text)).await;
    String::from_utf8(text).unwrap()
}

/// Begins a request whose reply has begun, too.
async fn in_flight(process: &Process) -> TcpStream {
    let mut stream = process.connect().await;
    let head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"3\r\none\r\n").await.unwrap();
    let begun = read_through(&mut stream, "3\r\none\r\n").await;
    assert!(begun.starts_with("HTTP/1.1 200 "), "{begun}");
    stream
}

#[tokio::test]
async fn what_is_in_flight_at_the_end_is_finished_and_nobody_new_is_let_in() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut process = Process::start("[limits]\nshutdown = \"24h\"").await;
        let mut idle = process.connect().await;
        assert!(ask(&mut idle, "/").await.contains("HTTP/1.1 from"));
        let mut stream = in_flight(&process).await;
        process.signal(signal);
        // It is closed while the other one goes on.
        assert_eq!(rest(&mut idle).await, "");
        process.refused().await;
        stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
        assert_eq!(rest(&mut stream).await, "3\r\ntwo\r\n0\r\n\r\n");
        assert!(process.ended().await.success());
    }
}

#[tokio::test]
async fn a_request_of_http_2_in_flight_at_the_end_is_finished() {
    let mut process = Process::start("[limits]\nshutdown = \"24h\"").await;
    let mut client = http2(process.connect().await).await;
    let (reply, mut request) = client.send_request(echo(), false).unwrap();
    request.send_data("one".into(), false).unwrap();
    let mut body = soon(reply).await.unwrap().into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "one");
    process.end().await;
    request.send_data("two".into(), true).unwrap();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "two");
    assert!(soon(body.data()).await.is_none());
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn what_takes_too_long_at_the_end_is_cut() {
    let mut process = Process::start("[limits]\nshutdown = \"1ms\"").await;
    let mut stream = in_flight(&process).await;
    process.end().await;
    assert_eq!(rest(&mut stream).await, "");
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn who_asks_again_ends_it_at_once() {
    let mut process = Process::start("[limits]\nshutdown = \"24h\"").await;
    let mut stream = in_flight(&process).await;
    process.end().await;
    process.signal(Signal::TERM);
    assert_eq!(rest(&mut stream).await, "");
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn who_never_finishes_a_head_is_cut_off() {
    let limits = "[limits]\nhead = \"50ms\"\nidle = \"24h\"";
    let process = Process::start(limits).await;
    for begun in [
        "",
        "G",
        "GET / HTTP/1.1\r\nHost: localhost\r\n",
        "PRI * HTTP/2.0\r\n\r\n",
    ] {
        let mut stream = process.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        assert_eq!(rest(&mut stream).await, "", "{begun}");
    }
    // What is in flight has nothing to do with it.
    let mut stream = in_flight(&process).await;
    assert_eq!(rest(&mut process.connect().await).await, "");
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(read_through(&mut stream, "\r\n\r\n").await, "0\r\n\r\n");
}

#[tokio::test]
async fn who_never_finishes_the_next_head_is_cut_off() {
    let process = Process::start("[limits]\nhead = \"5s\"\nidle = \"24h\"").await;
    let mut stream = process.connect().await;
    ask(&mut stream, "/").await;
    let begun = "GET / HTTP/1.1\r\nHost: localhost\r\n";
    stream.write_all(begun.as_bytes()).await.unwrap();
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn who_asks_for_nothing_more_is_cut_off() {
    let process = Process::start("[limits]\nhead = \"24h\"\nidle = \"50ms\"").await;
    let mut stream = process.connect().await;
    ask(&mut stream, "/").await;
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn who_never_finishes_tls_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    Vouched::new().write(folder.path());
    let limits = "[limits]\nhead = \"50ms\"\nidle = \"24h\"";
    let process = Process::start_in(folder, &format!("{TLS}{limits}")).await;
    for begun in [&b""[..], b"\x16\x03\x01"] {
        let mut stream = process.connect().await;
        stream.write_all(begun).await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
    }
}

#[tokio::test]
async fn both_versions_of_http_answer_and_know_their_peer() {
    let process = Process::start("").await;
    let mut stream = process.connect().await;
    let own = stream.local_addr().unwrap();
    let reply = ask(&mut stream, "/").await;
    assert!(
        reply.ends_with(&format!("\r\n\r\nHTTP/1.1 from {own}")),
        "{reply}"
    );
    let stream = process.connect().await;
    let own = stream.local_addr().unwrap();
    let reply = ask_http2(stream).await;
    assert_eq!(reply, format!("HTTP/2.0 from {own}"));
}

#[tokio::test]
async fn both_versions_of_http_and_of_tls_answer() {
    let folder = tempfile::tempdir().unwrap();
    let vouched = Vouched::new();
    vouched.write(folder.path());
    let process = Process::start_in(folder, TLS).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = vouched
            .connect(&process, version, "http/1.1")
            .await
            .unwrap();
        assert!(ask(&mut stream, "/").await.contains("HTTP/1.1 from"));
        let stream = vouched.connect(&process, version, "h2").await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert!(ask_http2(stream).await.starts_with("HTTP/2.0 from"));
    }
}

#[tokio::test]
async fn a_new_certificate_is_seen_by_new_connections_while_old_ones_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Vouched::new(), Vouched::new());
    old.write(folder.path());
    let mut process = Process::start_in(folder, TLS).await;
    let version = &rustls::version::TLS13;
    let mut kept = old.connect(&process, version, "http/1.1").await.unwrap();
    ask(&mut kept, "/").await;

    new.write(process.folder.path());
    assert_eq!(process.reload().await, "reloaded");
    new.connect(&process, version, "http/1.1").await.unwrap();
    assert!(old.connect(&process, version, "http/1.1").await.is_err());
    assert!(ask(&mut kept, "/").await.contains("HTTP/1.1 from"));

    // The certificate of one and the key of another.
    let certificate = process.folder.path().join("bank.pem");
    fs::write(&certificate, &old.certificate).unwrap();
    let said = process.reload().await;
    assert!(said.starts_with("not reloaded: "), "{said}");
    fs::remove_file(&certificate).unwrap();
    let said = process.reload().await;
    assert!(
        said.contains("bank.pem cannot be read: No such file"),
        "{said}"
    );
    new.connect(&process, version, "http/1.1").await.unwrap();
    assert!(ask(&mut kept, "/").await.contains("HTTP/1.1 from"));
}

#[tokio::test]
async fn who_looks_after_it_is_told_until_the_end_and_nobody_else_is() {
    let mut process = Process::start("[operator]\nlisten = \"127.0.0.1:0\"").await;
    let operator = process.operator.unwrap();
    let asked = async |path: &str| {
        let mut stream = TcpStream::connect(operator).await.unwrap();
        ask(&mut stream, path).await
    };
    let live = asked("/health/live").await;
    assert!(
        live.starts_with("HTTP/1.1 200 ") && live.ends_with("\r\n\r\nlive\n"),
        "{live}"
    );
    assert!(live.contains("\r\ncache-control: no-store\r\n"), "{live}");
    assert!(asked("/health/ready").await.starts_with("HTTP/1.1 200 "));
    assert!(asked("/page").await.ends_with("the operator's"));
    for path in ["/health/live", "/health/ready", "/page"] {
        let reply = ask(&mut process.connect().await, path).await;
        assert!(reply.starts_with("HTTP/1.1 404 "), "{reply}");
    }

    let mut stream = in_flight(&process).await;
    process.end().await;
    let ready = asked("/health/ready").await;
    assert!(
        ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("ending\n"),
        "{ready}"
    );
    assert!(asked("/health/live").await.starts_with("HTTP/1.1 200 "));
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    rest(&mut stream).await;
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn it_is_not_ready_without_an_upstream() {
    let process = Process::start("[operator]\nlisten = \"127.0.0.1:0\"").await;
    let mut stream = process.connect().await;
    let fail = "POST /fail HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(fail.as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 "));
    let mut stream = TcpStream::connect(process.operator.unwrap()).await.unwrap();
    let ready = ask(&mut stream, "/health/ready").await;
    assert!(
        ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("no upstream is well\n"),
        "{ready}"
    );
    assert!(
        ask(&mut stream, "/health/live")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = Config::for_upstream("http://localhost".parse().unwrap());
    config.listen = address;
    let error = Server::bind(&config).await.unwrap_err();
    let said = format!("it cannot listen at {address}: Address already in use (os error 98)");
    assert_eq!(error.to_string(), said);
}

fn echo() -> http::Request<()> {
    let uri = "http://localhost/echo";
    http::Request::post(uri).body(()).unwrap()
}

/// A client of HTTP/2 that knows that the server speaks it.
async fn http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> h2::client::SendRequest<bytes::Bytes> {
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

async fn ask_http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> String {
    let mut client = http2(stream).await;
    let request = http::Request::get("http://localhost/").body(()).unwrap();
    let (reply, _) = client.send_request(request, true).unwrap();
    let mut body = soon(reply).await.unwrap().into_body();
    let data = soon(body.data()).await.unwrap().unwrap();
    String::from_utf8(data.to_vec()).unwrap()
}

/// How the configuration names the files of a certificate.
const TLS: &str = "[tls]\ncertificate = \"bank.pem\"\nkey = \"bank.key\"\n";

/// A certificate for `localhost` that vouches for itself.
struct Vouched {
    certificate: String,
    der: CertificateDer<'static>,
    key: String,
}

impl Vouched {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.pem(),
            der: certificate.der().clone(),
            key: key.serialize_pem(),
        }
    }

    fn write(&self, folder: &Path) {
        fs::write(folder.join("bank.pem"), &self.certificate).unwrap();
        fs::write(folder.join("bank.key"), &self.key).unwrap();
    }

    /// Connects as a client that trusts this certificate only.
    async fn connect(
        &self,
        process: &Process,
        version: &'static SupportedProtocolVersion,
        protocol: &str,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = soon(connector.connect(name, process.connect().await)).await?;
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            Some(protocol.as_bytes())
        );
        Ok(stream)
    }
}

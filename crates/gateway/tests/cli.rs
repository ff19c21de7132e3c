//! The program, as an operator starts it.
#![allow(clippy::unwrap_used)] // in tests a surprise may panic

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const UPSTREAM: &str = "upstreams = [\"http://127.0.0.1:8000\"]\n";

fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bulla-gateway"));
    command.current_dir(folder).env_remove("RUST_LOG");
    command
}

/// What comes of a call: its code, and what it has said.
fn call<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) -> (i32, String, String) {
    let output = program(folder).args(arguments).output().unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A certificate and its key, written as these files.
fn write_certificate(certificate: &Path, key: &Path) {
    let pair = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    fs::write(certificate, params.self_signed(&pair).unwrap().pem()).unwrap();
    fs::write(key, pair.serialize_pem()).unwrap();
}

#[test]
fn who_calls_it_wrongly_is_told_how_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let nothing: [&str; 0] = [];
    let where_it_is = "Say where the application is: by --upstream http://127.0.0.1:8000, or by a bulla.toml in this folder.\n";
    assert_eq!(
        call(folder, &nothing),
        (2, String::new(), where_it_is.to_owned())
    );
    assert_eq!(
        call(folder, &["check"]),
        (2, String::new(), where_it_is.to_owned())
    );
    for (arguments, says) in [
        (
            &["--upstream", "127.0.0.1:8000"][..],
            "is no upstream such as http://127.0.0.1:8000",
        ),
        (&["--listen", "8080"], "is no address with a port"),
        (
            &["--upstream", "http://a", "--origin", "bank.example"],
            "is no origin such as https://bank.example",
        ),
        (&["--upstrem", "http://a"], "--upstrem"),
        (&["serve"], "serve"),
        (&["--config", "a.toml", "check"], "check"),
        (&["keygen", "--state", "a", "--config", "b"], "--config"),
    ] {
        let (code, out, error) = call(folder, arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(error.contains(says), "{error}");
    }
    // Nothing of it has left anything.
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn check_says_what_it_would_do() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let said = "\
        it listens at 127.0.0.1:8080, for http://localhost:8080\n\
        it stands before http://127.0.0.1:8000\n\
        it asks for a sealed request\n\
        it has no identity yet, and will make one: bulla/identity.pem\n";
    let upstream = ["check", "--upstream", "http://127.0.0.1:8000"];
    assert_eq!(call(folder, &upstream), (0, said.to_owned(), String::new()));
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);

    write_certificate(&folder.join("bank.pem"), &folder.join("bank.key"));
    let text = "\
        listen = \"[::]:443\"\n\
        upstreams = [\"http://127.0.0.1:8000\", \"https://app.internal\"]\n\
        access = \"signed\"\n\
        mode = \"monitor\"\n\
        [tls]\n\
        certificate = \"bank.pem\"\n\
        key = \"bank.key\"\n\
        [[paths]]\n\
        prefix = \"/static/\"\n\
        access = \"public\"\n\
        [[paths]]\n\
        prefix = \"/api/\"\n\
        access = \"concealed\"\n";
    fs::write(folder.join("bulla.toml"), text).unwrap();
    let (_, thumbprint, _) = call(folder, &["keygen"]);
    let said = format!(
        "it listens at [::]:443 by TLS, for https://bank.example\n\
         it stands before http://127.0.0.1:8000, https://app.internal\n\
         it asks for a verified session\n\
         it asks for nothing below /static/\n\
         it asks for a sealed request with a concealed path below /api/\n\
         its identity is {thumbprint}\
         note: mode is monitor: refusals are only reported, and nothing is protected\n"
    );
    let checked = call(folder, &["check", "--origin", "https://bank.example"]);
    assert_eq!(checked, (0, said, String::new()));
}

#[test]
fn check_says_all_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let wrong = |text: &str| {
        fs::write(folder.join("bulla.toml"), text).unwrap();
        let (code, out, error) = call(folder, &["check"]);
        assert_eq!((code, out.as_str()), (1, ""), "{error}");
        error
    };
    assert_eq!(
        wrong("upstreams = [\"a\"]\nmode = \"off\""),
        "bulla.toml:1: upstreams[0]: \"a\" is no upstream such as http://127.0.0.1:8000: http or https, host and port, \
         with no path\n\
         bulla.toml:2: mode: \"off\" is not one of enforce, monitor\n"
    );
    let tls = format!("{UPSTREAM}[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"");
    let (certificate, key) = (folder.join("c.pem"), folder.join("k.pem"));
    assert_eq!(
        wrong(&tls),
        "c.pem cannot be read: No such file or directory (os error 2)\n"
    );
    fs::write(&certificate, "no PEM").unwrap();
    assert_eq!(wrong(&tls), "c.pem has no certificate in PEM\n");
    fs::write(
        &certificate,
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    assert_eq!(wrong(&tls), "c.pem cannot be read: it is no PEM\n");
    write_certificate(&certificate, &folder.join("other.pem"));
    assert_eq!(
        wrong(&tls),
        "k.pem cannot be read: No such file or directory (os error 2)\n"
    );
    fs::write(&key, fs::read(&certificate).unwrap()).unwrap();
    assert_eq!(
        wrong(&tls),
        "k.pem cannot be read: it has no private key in PEM\n"
    );
    write_certificate(&folder.join("other.pem"), &key);
    let error = wrong(&tls);
    assert!(
        error.starts_with("c.pem and k.pem do not go together: "),
        "{error}"
    );

    // Who vouches for upstreams is looked at as well.
    let ca = format!("{UPSTREAM}[upstream_tls]\nca = \"ca.pem\"");
    let file = folder.join("ca.pem");
    assert_eq!(
        wrong(&ca),
        "ca.pem cannot be read: No such file or directory (os error 2)\n"
    );
    fs::write(&file, "no PEM").unwrap();
    assert_eq!(wrong(&ca), "ca.pem has no certificate in PEM\n");
    let nobody = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(&file, nobody).unwrap();
    let error = wrong(&ca);
    assert!(
        error.starts_with("ca.pem has a certificate that vouches for nobody: "),
        "{error}"
    );

    // With the certificate, all is said of the identity, too.
    fs::create_dir(folder.join("bulla")).unwrap();
    fs::write(folder.join("bulla/identity.pem"), "secret").unwrap();
    let error = wrong(&tls);
    let lines: Vec<_> = error.lines().collect();
    assert!(lines[0].starts_with("c.pem and k.pem"), "{error}");
    assert!(lines[1].contains("bulla/identity.pem"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn an_identity_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (code, out, error) = call(folder, &["thumbprint"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(
        error,
        "bulla/identity.pem cannot be read: No such file or directory (os error 2); `bulla-gateway keygen` makes one\n"
    );
    assert!(!folder.join("bulla").exists());

    let (code, made, error) = call(folder, &["keygen"]);
    assert_eq!((code, made.len(), error.as_str()), (0, 44, ""));
    let file = folder.join("bulla/identity.pem");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let same = (0, made.clone(), String::new());
    assert_eq!(call(folder, &["keygen"]), same);
    assert_eq!(call(folder, &["thumbprint"]), same);

    // Where the configuration says that state is, and where the command line says.
    fs::write(folder.join("bulla.toml"), "state = \"there\"").unwrap();
    let (_, there, _) = call(folder, &["keygen"]);
    assert_ne!(there, made);
    assert!(folder.join("there/identity.pem").exists());
    assert_eq!(
        call(folder, &["thumbprint", "--config", "bulla.toml"]).1,
        there
    );
    assert_eq!(call(folder, &["thumbprint", "--state", "bulla"]), same);
    fs::write(folder.join("bulla.toml"), "state = 1").unwrap();
    let (code, _, error) = call(folder, &["keygen"]);
    assert_eq!(
        (code, error.as_str()),
        (1, "bulla.toml:1: state: is a number; write it in quotes\n")
    );
}

#[test]
fn what_is_signed_is_gone_by_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("dist")).unwrap();
    fs::write(folder.join("dist/app.js"), "1").unwrap();
    let (code, _, error) = call(folder, &["sign", "dist"]);
    assert_eq!(code, 1);
    assert!(
        error.contains("`bulla-gateway keygen` makes one"),
        "{error}"
    );
    assert!(!folder.join("bulla").exists());

    call(folder, &["keygen"]);
    let file = "dist/bulla-manifest.json";
    for version in [1, 2] {
        let said = format!("{file}: version {version}, 1 files below /static/\n");
        assert_eq!(call(folder, &["sign", "dist"]), (0, said, String::new()));
    }
    let jump = ["sign", "dist", "--number", "7", "--base", "/a/"];
    let said = format!("{file}: version 7, 1 files below /a/\n");
    assert_eq!(call(folder, &jump), (0, said, String::new()));
    let said = format!("{file} has version 7 already; versions only grow\n");
    assert_eq!(call(folder, &jump), (1, String::new(), said));
    let text = fs::read_to_string(folder.join(file)).unwrap();
    let json = r#"{"version":7,"base":"/a/","hashes":{"/a/app.js":"a4ayc_80_OGda4BO_1o_V0etpOqiLx1JwB5S3beHW0s"}}"#;
    assert_eq!(text.lines().next(), Some(json));

    let delivery = format!("{UPSTREAM}[delivery]\nmanifest = \"{file}\"\n");
    fs::write(folder.join("bulla.toml"), delivery).unwrap();
    let (code, said, _) = call(folder, &["check"]);
    assert_eq!(code, 0);
    let line = "it holds code below /a/ to version 7 of its manifest, 1 files\n";
    assert!(said.contains(line), "{said}");

    fs::write(folder.join(file), text.replace(":7", ":8")).unwrap();
    let refused = format!("{file}: this gateway's identity has not signed it\n");
    let nothing: [&str; 0] = [];
    for arguments in [&["check"][..], &["sign", "dist"], &nothing] {
        let (code, out, error) = call(folder, arguments);
        assert_eq!((code, out.as_str()), (1, ""), "{arguments:?}");
        assert!(error.ends_with(&refused), "{error}");
    }
}

/// A gateway that runs. It ends with the test.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::of(program(folder).args(arguments))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (said, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // After the test nobody listens.
                let _ = said.send(line);
            }
        });
        Self { child, lines }
    }

    /// Waits until it says something with this in it, and returns what follows.
    fn says(&self, what: &str) -> String {
        loop {
            // Nothing takes as long. It is what a test fails by that would hang.
            let line = self.lines.recv_timeout(Duration::from_mins(1)).unwrap();
            if let Some((_, rest)) = line.split_once(what) {
                return rest.to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The head of the answer to a request for the gateway's main page.
fn ask(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn it_runs_and_says_what_it_does_and_ends_when_it_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let arguments = [
        "--upstream",
        "http://127.0.0.1:1",
        "--listen",
        "127.0.0.1:0",
        "--origin",
        "http://localhost",
    ];
    let mut running = Running::start(folder, &arguments);
    let rest = running.says("it listens at ");
    let (address, origins) = rest.split_once(", for ").unwrap();
    assert_eq!(origins, "http://localhost");
    assert_eq!(running.says("it stands before "), "http://127.0.0.1:1");
    let identity = running.says("its identity is ");
    assert_eq!(call(folder, &["thumbprint"]).1.trim_end(), identity);
    assert!(ask(address).starts_with("HTTP/1.1 "));
    running.signal(Signal::TERM);
    assert!(running.child.wait().unwrap().success());

    // And again, with what it has kept.
    let running = Running::start(folder, &arguments);
    assert_eq!(running.says("its identity is "), identity);
}

/// An application at `localhost` that is asked by TLS, and answers everybody who believes its certificate. Gives its port and
/// who vouches for it, in PEM.
fn application_by_tls() -> (u16, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key))
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("localhost:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read_exact(&mut byte).is_err() {
                    break;
                }
                asked.push(byte[0]);
            }
            let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nclay";
            // Whoever does not believe it has gone.
            let _ = stream.write_all(answer);
        }
    });
    (port, pem)
}

#[test]
fn an_application_by_tls_is_known_by_the_system_or_by_who_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (port, own) = application_by_tls();
    let (_, other) = application_by_tls();
    fs::write(folder.join("own.pem"), own).unwrap();
    fs::write(folder.join("other.pem"), other).unwrap();
    let configure = |named: &str| {
        let text = format!(
            "listen = \"127.0.0.1:0\"\norigins = [\"http://localhost\"]\naccess = \"public\"\n\
             upstreams = [\"https://localhost:{port}\"]\n{named}"
        );
        fs::write(folder.join("bulla.toml"), text).unwrap();
    };
    // The system's are those of this file, where the variable names one.
    let start = |system: &str| {
        let running = Running::of(program(folder).env("SSL_CERT_FILE", folder.join(system)));
        let rest = running.says("it listens at ");
        let address = rest.split_once(", for ").unwrap().0.to_owned();
        running.says("its identity is ");
        (running, address)
    };
    let is_asked = |address: &str| {
        let reply = ask(address);
        let is_asked = reply.starts_with("HTTP/1.1 200 ") && reply.ends_with("clay");
        assert!(
            is_asked || reply.contains("upstream_unreachable"),
            "{reply}"
        );
        is_asked
    };
    configure("");
    assert!(is_asked(&start("own.pem").1));
    assert!(!is_asked(&start("other.pem").1));

    let name = |file: &str| configure(&format!("[upstream_tls]\nca = \"{file}\""));
    name("own.pem");
    let (running, address) = start("other.pem");
    assert!(is_asked(&address));
    // Nobody else is trusted then, and it is read again.
    name("other.pem");
    running.signal(Signal::HUP);
    running.says("it goes by the configuration as it is now");
    assert!(!is_asked(&address));
    drop(running);
    assert!(!is_asked(&start("own.pem").1));
}

#[test]
fn what_is_wrong_on_reload_changes_nothing_and_what_is_right_does() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = folder.join("bulla.toml");
    let common = format!("listen = \"127.0.0.1:0\"\norigins = [\"https://localhost\"]\n{UPSTREAM}");
    let tls = |name: &str| format!("[tls]\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\n");
    write_certificate(&folder.join("a.pem"), &folder.join("a.key"));
    fs::write(&file, format!("{common}{}", tls("a"))).unwrap();
    let running = Running::start(folder, &[]);
    running.says("its identity is ");

    // The old certificate is read again all the same.
    fs::write(&file, format!("{common}mode = \"off\"\n{}", tls("a"))).unwrap();
    running.signal(Signal::HUP);
    let said = running.says("the configuration stays as it was: ");
    assert_eq!(
        said,
        "bulla.toml:4: mode: \"off\" is not one of enforce, monitor"
    );
    running.says("it has read the certificate again");

    let new = format!(
        "{common}mode = \"monitor\"\nstate = \"other\"\n{}",
        tls("b")
    );
    fs::write(&file, new).unwrap();
    running.signal(Signal::HUP);
    running.says("it goes by the configuration as it is now");
    assert_eq!(
        running.says("it takes a start for what is new in "),
        "state"
    );
    let said = running.says("the certificate stays as it was: ");
    assert!(said.starts_with("b.pem cannot be read: "), "{said}");
    write_certificate(&folder.join("b.pem"), &folder.join("b.key"));
    fs::remove_file(folder.join("a.pem")).unwrap();
    running.signal(Signal::HUP);
    running.says("it has read the certificate again");

    // What it falls back to is what it goes by, and not what it has begun with.
    fs::write(&file, "mode = \"off\"").unwrap();
    running.signal(Signal::HUP);
    running.says("the configuration stays as it was: ");
    running.says("it has read the certificate again");
}

#[test]
fn what_keeps_it_from_running_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = ["--upstream", "http://a", "--listen", &address];
    let said = format!("it cannot listen at {address}: Address already in use (os error 98)\n");
    assert_eq!(call(folder, &arguments), (1, String::new(), said));
    // And it has not made an identity.
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);

    let output = program(folder)
        .args(["--upstream", "http://a"])
        .env("RUST_LOG", "bulla=much")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("RUST_LOG is no filter: "), "{error}");
}

#[test]
fn an_operators_token_is_made_and_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = format!(
        "listen = \"127.0.0.1:0\"\norigins = [\"http://localhost\"]\n{UPSTREAM}[operator]\nlisten = \"127.0.0.1:0\"\n"
    );
    fs::write(folder.join("bulla.toml"), &text).unwrap();
    let running = Running::start(folder, &[]);
    assert_eq!(
        running.says("the operator's token is in "),
        "bulla/operator.token"
    );
    let file = folder.join("bulla/operator.token");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let address = running.says("it listens at ");
    assert!(address.ends_with(", for http://localhost"), "{address}");
    let address = running.says("it listens at ");
    let address = address.strip_suffix(" for its operator").unwrap();
    let page = ask(address);
    assert!(page.contains("location: /login"), "{page}");
    drop(running);

    // It is never made where one is named.
    fs::write(
        folder.join("bulla.toml"),
        format!("{text}token_file = \"t\"\n"),
    )
    .unwrap();
    let nothing: [&str; 0] = [];
    let (code, _, error) = call(folder, &nothing);
    let said = "the operator's token cannot be read from t: No such file";
    assert!(code == 1 && error.contains(said), "{error}");
    fs::write(folder.join("t"), "hunter2").unwrap();
    let (code, _, error) = call(folder, &nothing);
    let said = "the operator's token in t has to be 32 to 512 visible ASCII characters";
    assert!(code == 1 && error.contains(said), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn which_fields_pages_had_is_printed_with_what_authorises_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let hash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let config = format!(
        "upstreams = [\"http://127.0.0.1:8000\"]\n\
        [[fields]]\npage = \"/pay/\"\nhash = {hash:?}\njustification = \"none, by now\"\n"
    );
    fs::write(folder.join("bulla.toml"), config).unwrap();
    let head = "page,fields,hash,first seen,last seen,authorised,justification\r\n";
    assert_eq!(
        call(folder, &["fields"]),
        (0, head.to_owned(), String::new())
    );
    fs::create_dir(folder.join("bulla")).unwrap();
    let file = folder.join("bulla/fields.json");
    let kept = format!(
        r#"{{"version":1,"list":[
        {{"page":"/pay/","fields":"","hash":"{hash}","first_seen":0,"last_seen":86400}},
        {{"page":"/","fields":"a: 1","hash":"sha256-b","first_seen":0,"last_seen":0}}]}}"#
    );
    fs::write(&file, kept).unwrap();
    let rows = format!(
        "{head}/pay/,,{hash},1970-01-01,1970-01-02,yes,\"none, by now\"\r\n\
        /,a: 1,sha256-b,1970-01-01,1970-01-01,no,\r\n"
    );
    assert_eq!(call(folder, &["fields"]), (0, rows, String::new()));
    fs::write(&file, "{").unwrap();
    let (code, out, said) = call(folder, &["fields"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        said.starts_with("bulla/fields.json cannot be used: "),
        "{said}"
    );
}

#[test]
fn which_scripts_were_run_is_printed_with_what_authorises_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let config = "upstreams = [\"http://127.0.0.1:8000\"]\n\
        [[scripts]]\nurl = \"/a.js\"\njustification = \"counts, always\"\n";
    fs::write(folder.join("bulla.toml"), config).unwrap();
    let head = "script,hash,first page,first seen,last seen,authorised,justification\r\n";
    assert_eq!(
        call(folder, &["scripts"]),
        (0, head.to_owned(), String::new())
    );
    fs::create_dir(folder.join("bulla")).unwrap();
    let file = folder.join("bulla/scripts.json");
    let kept = r#"{"version":1,"list":[
        {"url":"/a.js","hash":"sha256-a","page":"/","first_seen":0,"last_seen":86400},
        {"url":"inline","hash":"sha256-b","page":"/pay","first_seen":0,"last_seen":0}]}"#;
    fs::write(&file, kept).unwrap();
    let rows = format!(
        "{head}/a.js,sha256-a,/,1970-01-01,1970-01-02,yes,\"counts, always\"\r\n\
        inline,sha256-b,/pay,1970-01-01,1970-01-01,no,\r\n"
    );
    assert_eq!(call(folder, &["scripts"]), (0, rows, String::new()));
    fs::write(&file, "{").unwrap();
    let (code, out, said) = call(folder, &["scripts"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        said.starts_with("bulla/scripts.json cannot be used: "),
        "{said}"
    );
}

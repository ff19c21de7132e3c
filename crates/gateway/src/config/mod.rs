//! What an operator says: `bulla.toml`, or nothing but where the application is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

/// How a gateway is set up. [`Config::for_upstream`] is what it takes without a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The public origins, such as `https://bank.example`; the first one is the main one.
    pub origins: Vec<String>,
    /// Where the application is: `http://127.0.0.1:8000`. Each request goes to one that is well.
    pub upstreams: Vec<Uri>,
    /// How upstreams are looked after.
    pub health: Health,
    /// TLS, if the gateway ends it.
    pub tls: Option<Tls>,
    /// Where identity, ring, store and lists are kept.
    pub state: PathBuf,
    /// What is asked for where no rule says otherwise.
    pub access: Access,
    /// What is asked for at the paths that begin so. The longest beginning that fits is what counts.
    pub paths: Vec<PathRule>,
    /// Whether what would be refused is only reported.
    pub mode: Mode,
    /// Names of the application's cookies that are bound to the device.
    pub bound_cookies: Vec<String>,
    /// How large and how slow things may be.
    pub limits: Limits,
    /// The operator's page, if there is one.
    pub operator: Option<Operator>,
}

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing: for what everybody may fetch, such as styles, pictures and webhooks. No bound cookie gets there.
    Public,
    /// A verified session, sealed or not.
    Signed,
    /// A sealed request.
    Sealed,
    /// A sealed request whose path nobody on the way has seen. For everybody else the path does not exist.
    Concealed,
}

/// What is asked for at the paths that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// The beginning of the path, byte for byte, such as `/static/`.
    pub prefix: String,
    /// What is asked for there.
    pub access: Access,
}

/// Whether refusals are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// They are only reported, and nothing is protected.
    Monitor,
}

/// The files of a certificate chain and its key, in PEM. They are read again on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The key of the first.
    pub key: PathBuf,
}

/// How upstreams are looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Asked for by GET; any status below 500 is well. `None`: an upstream is well if it can be connected to.
    pub path: Option<String>,
    /// How often.
    pub interval: Duration,
    /// How long it may take.
    pub timeout: Duration,
}

/// How large and how slow things may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The content of a request that is not streamed, in bytes.
    pub body: usize,
    /// How long an upstream may take to connect.
    pub connect: Duration,
    /// How long an upstream may take to the first byte of its answer.
    pub answer: Duration,
    /// How long a client may take for the head of a request.
    pub head: Duration,
    /// How long what is in flight may take at the end.
    pub shutdown: Duration,
}

/// Where the operator's page is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Where it listens; never at the public port.
    pub listen: SocketAddr,
}

impl Config {
    /// What a gateway takes for an application without a file: `http://localhost:8080`, everything sealed, the usual
    /// names of session cookies.
    pub fn for_upstream(upstream: Uri) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            origins: vec!["http://localhost:8080".to_owned()],
            upstreams: vec![upstream],
            health: Health::default(),
            tls: None,
            state: PathBuf::from("bulla"),
            access: Access::Sealed,
            paths: Vec::new(),
            mode: Mode::Enforce,
            bound_cookies: USUAL.iter().map(|&name| name.to_owned()).collect(),
            limits: Limits::default(),
            operator: None,
        }
    }
}

/// What well-known frameworks call the cookie of a session.
const USUAL: &[&str] = &[
    "sessionid",           // Django
    "PHPSESSID",           // PHP
    "connect.sid",         // Express
    "JSESSIONID",          // Jakarta Servlet
    "ASP.NET_SessionId",   // ASP.NET
    ".AspNetCore.Cookies", // ASP.NET Core
    ".AspNetCore.Session", // ASP.NET Core
    "laravel_session",     // Laravel
    "session",             // Flask
    "_session_id",         // Rails
];

impl Default for Health {
    fn default() -> Self {
        Self {
            path: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 10 * 1024 * 1024,
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(60),
            head: Duration::from_secs(20),
            shutdown: Duration::from_secs(30),
        }
    }
}

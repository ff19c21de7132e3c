//! What an operator says: `bulla.toml`, or nothing but where the application is.
//!
//! Every key, with its default, is in `docs/gateway/configuration.md`.

mod file;
mod network;
mod notes;
mod reader;
mod values;

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulla_protocol::target::Origin;
use bulla_server::ProofKind;
use http::Uri;

pub use crate::tokens::Member;
pub use network::{Network, stated_address};
pub use reader::Problem;
pub use values::{address, origin, upstream};

/// How a gateway is set up. [`Config::for_upstream`] is what it takes without a file, [`Config::load`] reads one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The public origins, such as `https://bank.example`; the first one is the main one.
    pub origins: Vec<String>,
    /// Where the application is: `http://127.0.0.1:8000`. Each request goes to one that is well.
    pub upstreams: Vec<Uri>,
    /// How upstreams are known that are asked by TLS; `None`: as the system knows them.
    pub upstream_tls: Option<UpstreamTls>,
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
    /// By which key requests are signed at least.
    pub proof: ProofKind,
    /// Names of the application's cookies that are bound to the device.
    pub bound_cookies: Vec<String>,
    /// Names of cookies that are not bound, although the application keeps them from script.
    pub unbound_cookies: Vec<String>,
    /// Where the application's bearer tokens are, which are bound to the device.
    pub tokens: Vec<TokenRule>,
    /// What becomes of bearer tokens that are not, if any are to be.
    pub unbound_tokens: Unbound,
    /// How large and how slow things may be.
    pub limits: Limits,
    /// Where clients are.
    pub network: Network,
    /// The operator's page, if there is one.
    pub operator: Option<Operator>,
    /// What browsers hold the application's code to, if there is anything.
    pub delivery: Option<Delivery>,
    /// What is noticed in pages, and what becomes of it.
    pub runtime: Runtime,
    /// The scripts that pages may run, beside those of the manifest.
    pub scripts: Vec<ScriptRule>,
    /// The fields that pages may have.
    pub fields: Vec<FieldsRule>,
    /// Where other proxies ask, if any do.
    pub decision: Option<Decision>,
}

/// What a path asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing: for what everybody may fetch, such as styles, pictures and webhooks. No bound cookie gets there.
    Public,
    /// A verified session, sealed or not.
    Signed,
    /// A sealed request.
    #[default]
    Sealed,
    /// A sealed request whose path nobody on the way has seen. For everybody else the path does not exist.
    Concealed,
}

impl Access {
    const ALL: [Self; 4] = [Self::Public, Self::Signed, Self::Sealed, Self::Concealed];

    /// What it is called in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Signed => "signed",
            Self::Sealed => "sealed",
            Self::Concealed => "concealed",
        }
    }
}

/// What is asked for at the paths that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// The beginning of the path, byte for byte, such as `/static/`.
    pub prefix: String,
    /// What is asked for there.
    pub access: Access,
}

/// Where a bearer token is in what the application answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRule {
    /// The path, or the beginning of it, as in a [`PathRule`].
    pub path: String,
    /// The member of the JSON text.
    pub member: Member,
}

/// What becomes of a bearer token that is bound to no device and comes by a session to a path that is not public, where
/// there is any [`TokenRule`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unbound {
    /// It is refused: it may be anybody's.
    #[default]
    Refuse,
    /// It passes.
    Pass,
}

impl Unbound {
    const ALL: [Self; 2] = [Self::Refuse, Self::Pass];

    /// What it is called in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Pass => "pass",
        }
    }
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

impl Mode {
    pub(crate) const ALL: [Self; 2] = [Self::Enforce, Self::Monitor];

    /// What it is called in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Monitor => "monitor",
        }
    }
}

/// The files of a certificate chain and its key, in PEM. They are read again on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The key of the first.
    pub key: PathBuf,
}

/// How upstreams are known that are asked by TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The certificates of the authorities that vouch for them, in PEM: of these alone, not of the system's.
    pub ca: PathBuf,
}

/// How upstreams are looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Asked for by GET; any status below 500 is well. `None`: an upstream is well if it can be connected to, by TLS for `https`.
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
    /// How long connecting to an upstream may take, TLS with it.
    pub connect: Duration,
    /// How long an upstream may take to the first byte of its answer.
    pub answer: Duration,
    /// How long an upstream may say nothing in the middle of its answer, if that is no stream of events.
    pub quiet: Duration,
    /// How long a client may take for TLS, and for the head of each request of HTTP/1.1.
    pub head: Duration,
    /// How long a connection of HTTP/1.1 is kept on which nothing is asked. Longer than what
    /// stands before the gateway keeps idle connections for, or it sends requests on some that have just been closed.
    pub idle: Duration,
    /// How long what is in flight may take at the end.
    pub shutdown: Duration,
}

/// Where the operator's page is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Where it listens; never at the public port.
    pub listen: SocketAddr,
    /// The file of the token that operators log in with, which has to be there. `None`:
    /// it is made in the state folder, [`Config::operator_token_file`].
    pub token_file: Option<PathBuf>,
}

/// What browsers hold the application's code to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where the list of it comes from.
    pub source: Source,
    /// What becomes of the strict policy for scripts (CSP) that pages are told.
    pub script_policy: Policy,
    /// What becomes of `Integrity-Policy`.
    pub integrity_policy: Policy,
    /// What becomes of Trusted Types.
    pub trusted_types: Policy,
}

impl Delivery {
    /// With this list. Browsers only report what is against its policies.
    pub fn of(source: Source) -> Self {
        Self {
            source,
            script_policy: Policy::default(),
            integrity_policy: Policy::default(),
            trusted_types: Policy::default(),
        }
    }
}

/// Where the list of an application's code comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The file that `bulla-gateway sign` has written.
    Signed(PathBuf),
    /// The gateway looks for itself what the application serves below this path.
    Learnt(String),
}

/// What becomes of a policy that pages are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// They are told none.
    Off,
    /// Browsers only report what is against it.
    #[default]
    Report,
    /// Browsers keep to it.
    Enforce,
}

impl Policy {
    const ALL: [Self; 3] = [Self::Off, Self::Report, Self::Enforce];

    /// What it is called in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Report => "report",
            Self::Enforce => "enforce",
        }
    }
}

/// What is noticed in pages, and what becomes of the session of a page in which it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Whether pages are watched at all.
    pub watch: bool,
    /// A script that is not authorised.
    pub script: Reaction,
    /// A function of the platform's that was replaced.
    pub patched: Reaction,
    /// A file that is not what it should be.
    pub integrity: Reaction,
    /// A field that is not as it was sent, where the seal does not hold it.
    pub transit: Reaction,
    /// What the page's policies have refused.
    pub policy: Reaction,
}

/// What becomes of a session whose page has reported something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reaction {
    /// It goes on.
    #[default]
    Record,
    /// Its browser forgets the cookies that are bound, so that the application asks for a login.
    StepUp,
    /// The same, and it ends.
    End,
}

impl Reaction {
    const ALL: [Self; 3] = [Self::Record, Self::StepUp, Self::End];

    /// What it is called in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::StepUp => "step-up",
            Self::End => "end",
        }
    }
}

/// A script that pages may run, and why. What is said of it has to be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptRule {
    /// Its URL, or its path if it is of the page's origin; the beginning of it if this ends with a slash.
    pub url: Option<String>,
    /// As in an `integrity` attribute.
    pub hash: Option<String>,
    /// Why pages need it.
    pub justification: String,
}

impl ScriptRule {
    /// Whether it is about this script.
    pub(crate) fn matches(&self, url: &str, hash: &str) -> bool {
        let is_named =
            |named: &String| url == named || (named.ends_with('/') && url.starts_with(named));
        self.url.as_ref().is_none_or(is_named)
            && self.hash.as_ref().is_none_or(|named| named == hash)
    }
}

/// Fields that pages may have, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldsRule {
    /// The path of the page, or the beginning of it if this ends with a slash; all pages without it.
    pub page: Option<String>,
    /// Of all of them, as the inventory says.
    pub hash: String,
    /// Why they are as they should be.
    pub justification: String,
}

/// Where other proxies ask whether a request may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where it listens. Nobody but a proxy may reach it.
    pub listen: SocketAddr,
    /// What becomes of content that the proxy does not show.
    pub content: Content,
}

/// What becomes of content that is not shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// What is shown is compared with what was signed, and where none is shown, none may have been signed.
    #[default]
    Compared,
    /// It may be anything, unless somebody else compares it.
    Unchecked,
}

impl Content {
    const ALL: [Self; 2] = [Self::Compared, Self::Unchecked];

    /// What it is called in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compared => "compared",
            Self::Unchecked => "unchecked",
        }
    }
}

/// Where it listens if nobody says where.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Where its state is if nobody says where, from where the file is.
const STATE: &str = "bulla";

/// What the command line says. It wins over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// [`Config::listen`].
    pub listen: Option<SocketAddr>,
    /// [`Config::origins`], if there are any, as by [`origin`].
    pub origins: Vec<String>,
    /// [`Config::upstreams`], if there are any, as by [`upstream`].
    pub upstreams: Vec<Uri>,
    /// [`Config::state`].
    pub state: Option<PathBuf>,
}

/// Why there is no configuration.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    File(PathBuf, io::Error),
    /// What is wrong with it, in the order of lines.
    Invalid(Vec<Problem>),
}

/// A line for each thing that is wrong.
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            Self::Invalid(problems) => {
                let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

impl std::error::Error for LoadError {}

impl Config {
    /// What a gateway takes for an application without a file: `http://localhost:8080`, everything sealed, the usual
    /// names of session cookies.
    pub fn for_upstream(upstream: Uri) -> Self {
        Self {
            listen: LISTEN,
            origins: vec![own_origin(LISTEN.port(), false)],
            upstreams: vec![upstream],
            upstream_tls: None,
            health: Health::default(),
            tls: None,
            state: PathBuf::from(STATE),
            access: Access::default(),
            paths: Vec::new(),
            mode: Mode::default(),
            proof: ProofKind::Device,
            bound_cookies: usual_cookies(),
            unbound_cookies: Vec::new(),
            tokens: Vec::new(),
            unbound_tokens: Unbound::default(),
            limits: Limits::default(),
            network: Network::default(),
            operator: None,
            delivery: None,
            runtime: Runtime::default(),
            scripts: Vec::new(),
            fields: Vec::new(),
            decision: None,
        }
    }

    /// Reads a file, if there is to be one. What it does not say has its default, and paths in it begin at its folder.
    /// The files that it names are not looked at.
    ///
    /// # Errors
    ///
    /// [`LoadError`], with all that is wrong.
    pub fn load(file: Option<&Path>, over: &Overrides) -> Result<Self, LoadError> {
        let text = file.map(fs::read_to_string).transpose();
        let text = text.map_err(|error| {
            LoadError::File(file.map(Path::to_owned).unwrap_or_default(), error)
        })?;
        file::read(&text.unwrap_or_default(), file, over).map_err(LoadError::Invalid)
    }

    /// The file of the identity that clients pin, in PEM.
    pub fn identity_file(&self) -> PathBuf {
        self.state.join("identity.pem")
    }

    /// The file of the scripts that pages were seen to run.
    pub fn inventory_file(&self) -> PathBuf {
        self.state.join("scripts.json")
    }

    /// The file of the fields that pages had.
    pub fn fields_file(&self) -> PathBuf {
        self.state.join("fields.json")
    }

    /// The file of the operator's token, which is made if it is not there and nobody has named another one.
    pub fn operator_token_file(&self) -> PathBuf {
        let named = self.operator.as_ref();
        let named = named.and_then(|operator| operator.token_file.clone());
        named.unwrap_or_else(|| self.state.join("operator.token"))
    }

    /// The keys whose values are others than here.
    pub fn changed(&self, new: &Self) -> Vec<&'static str> {
        let keys = [
            ("listen", self.listen != new.listen),
            ("origins", self.origins != new.origins),
            ("upstreams", self.upstreams != new.upstreams),
            ("state", self.state != new.state),
            ("access", self.access != new.access),
            ("mode", self.mode != new.mode),
            ("proof", self.proof != new.proof),
            ("bound_cookies", self.bound_cookies != new.bound_cookies),
            (
                "unbound_cookies",
                self.unbound_cookies != new.unbound_cookies,
            ),
            ("paths", self.paths != new.paths),
            ("tokens", self.tokens != new.tokens),
            ("unbound_tokens", self.unbound_tokens != new.unbound_tokens),
            ("tls", self.tls != new.tls),
            ("upstream_tls", self.upstream_tls != new.upstream_tls),
            ("health", self.health != new.health),
            ("limits", self.limits != new.limits),
            ("network", self.network != new.network),
            ("operator", self.operator != new.operator),
            ("delivery", self.delivery != new.delivery),
            ("runtime", self.runtime != new.runtime),
            ("scripts", self.scripts != new.scripts),
            ("fields", self.fields != new.fields),
            ("decision", self.decision != new.decision),
        ];
        let changed = keys.into_iter().filter(|(_, is_new)| *is_new);
        changed.map(|(key, _)| key).collect()
    }

    /// As this one, with what of another can be changed while a gateway runs. Beside it, the keys of the rest.
    pub fn renewed(&self, new: &Self) -> (Self, Vec<&'static str>) {
        let next = Self {
            upstreams: new.upstreams.clone(),
            upstream_tls: new.upstream_tls.clone(),
            health: new.health.clone(),
            mode: new.mode,
            access: new.access,
            paths: new.paths.clone(),
            bound_cookies: new.bound_cookies.clone(),
            unbound_cookies: new.unbound_cookies.clone(),
            delivery: new.delivery.clone(),
            tokens: new.tokens.clone(),
            unbound_tokens: new.unbound_tokens,
            runtime: new.runtime.clone(),
            scripts: new.scripts.clone(),
            fields: new.fields.clone(),
            ..self.clone()
        };
        let waiting = next.changed(new);
        (next, waiting)
    }

    /// What an operator may not have meant, in sentences. None of it is wrong.
    pub fn notes(&self) -> Vec<String> {
        notes::all(self)
    }
}

/// How a browser on the same machine reaches a port.
fn own_origin(port: u16, has_tls: bool) -> String {
    let scheme = if has_tls { "https" } else { "http" };
    let written = format!("{scheme}://localhost:{port}");
    // In its one spelling, without a default port.
    Origin::parse(&written).map_or(written, |origin| origin.as_str().to_owned())
}

fn usual_cookies() -> Vec<String> {
    USUAL.iter().map(|&name| name.to_owned()).collect()
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
            answer: Duration::from_mins(1),
            quiet: Duration::from_mins(5),
            head: Duration::from_secs(20),
            idle: Duration::from_secs(75),
            shutdown: Duration::from_secs(30),
        }
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            watch: true,
            script: Reaction::Record,
            patched: Reaction::Record,
            integrity: Reaction::Record,
            transit: Reaction::Record,
            policy: Reaction::Record,
        }
    }
}

//! What an operator says: `bulla.toml`, or nothing but where the application is.
//!
//! Every key, with its default, is in `docs/gateway/configuration.md`.
//! What a key stands for, what it may be, and what has to go with what, is in the file of its table; values of one kind
//! are in `values`.

mod access;
mod delivery;
mod file;
mod limits;
mod listen;
mod network;
mod notes;
mod reader;
mod runtime;
mod upstreams;
mod values;

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bulla_server::ProofKind;
use http::Uri;

pub use self::access::{Access, Mode, PathRule, TokenRule, Unbound};
pub use self::delivery::{Delivery, Policy, Source};
pub use self::limits::Limits;
use self::listen::own_origin;
pub use self::listen::{Content, Decision, Operator, Tls};
pub use self::network::{Network, stated_address};
pub use self::reader::Problem;
pub use self::runtime::{FieldsRule, Reaction, Runtime, ScriptRule};
pub use self::upstreams::{Health, UpstreamTls};
pub use self::values::{address, origin, upstream};
pub use crate::tokens::Member;

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

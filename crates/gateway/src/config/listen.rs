//! Where it listens, and as whom: `origins`, `[tls]`, `[operator]`, `[decision]`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bulla_protocol::target::Origin;

use super::reader::Section;
use super::{Overrides, values};

/// The files of a certificate chain and its key, in PEM. They are read again on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The key of the first.
    pub key: PathBuf,
}

/// Where the operator's page is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Where it listens; never at the public port.
    pub listen: SocketAddr,
    /// The file of the token that operators log in with, which has to be there. `None`:
    /// it is made in the state folder, [`Config::operator_token_file`](super::Config::operator_token_file).
    pub token_file: Option<PathBuf>,
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
    pub(super) const ALL: [Self; 2] = [Self::Compared, Self::Unchecked];

    /// What it is called in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compared => "compared",
            Self::Unchecked => "unchecked",
        }
    }
}

/// How a browser on the same machine reaches a port.
pub(super) fn own_origin(port: u16, has_tls: bool) -> String {
    let scheme = if has_tls { "https" } else { "http" };
    let written = format!("{scheme}://localhost:{port}");
    // In its one spelling, without a default port.
    Origin::parse(&written).map_or(written, |origin| origin.as_str().to_owned())
}

pub(super) fn origins(
    root: &mut Section<'_, '_>,
    over: &Overrides,
    listen: SocketAddr,
    has_tls: bool,
) -> Vec<String> {
    let place = root.place("origins");
    let is_empty = root.is_empty_list("origins");
    // A request says which authority it is for, and not by which scheme.
    let are_same = |one: &String, other: &String| authority(one) == authority(other);
    let in_file = root.texts("origins", values::origin, are_same);
    if !over.origins.is_empty() {
        return over.origins.clone();
    }
    if is_empty {
        place.problem("is empty; name one, such as https://bank.example");
    }
    in_file.unwrap_or_else(|| {
        if listen.port() == 0 {
            place.problem(
                "is missing: nobody knows the port yet, as listen leaves it to the system",
            );
        }
        vec![super::own_origin(listen.port(), has_tls)]
    })
}

fn authority(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, authority)| authority)
}

pub(super) fn tls(mut section: Section<'_, '_>, folder: &Path) -> Option<Tls> {
    let certificate = section.needed("certificate", values::file);
    let key = section.needed("key", values::file);
    section.end();
    Some(Tls {
        certificate: folder.join(certificate?),
        key: folder.join(key?),
    })
}

pub(super) fn operator(
    mut section: Section<'_, '_>,
    folder: &Path,
    public: SocketAddr,
) -> Option<Operator> {
    let listen = private(&mut section, public);
    let token_file = section.text("token_file", values::file);
    section.end();
    Some(Operator {
        listen: listen?,
        token_file: token_file.map(|file| folder.join(file)),
    })
}

pub(super) fn decision(mut section: Section<'_, '_>, public: SocketAddr) -> Option<Decision> {
    let listen = private(&mut section, public);
    let content = section.text("content", values::content);
    section.end();
    Some(Decision {
        listen: listen?,
        content: content.unwrap_or_default(),
    })
}

/// Where else it listens than for everybody.
fn private(section: &mut Section<'_, '_>, public: SocketAddr) -> Option<SocketAddr> {
    let place = section.place("listen");
    let listen = section.needed("listen", values::address);
    if listen == Some(public) && public.port() != 0 {
        place.problem(format!(
            "{public} is where everybody comes; take another port"
        ));
    }
    listen
}

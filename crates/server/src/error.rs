//! Errors of configuration. Refusals of requests are [`bulla_protocol::error::Error`].

use std::io;
use std::path::{Path, PathBuf};

/// The server cannot be built as configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No public origin was given, or one is not an origin, or two have the same host and port.
    #[error(
        "a public origin such as https://bank.example is needed: scheme, host and port, and no `/` at the end; \
         one for each host and port"
    )]
    Origin,
    /// What pages may come from is not an origin.
    #[error(
        "what is allowed must be an origin such as https://app.example, with no `/` at the end"
    )]
    AllowedOrigin,
    /// A path that needs no proof does not begin with a slash: it would be every path, or none.
    #[error("a path that needs no proof must begin with `/`")]
    Unsigned,
    /// The prefix is not an absolute path without a trailing slash.
    #[error("the prefix must be an absolute path without a trailing slash")]
    Prefix,
    /// No identity was given.
    #[error("an identity is needed, such as Identity::load_or_create gives")]
    NoIdentity,
    /// What should be the identity is not a P-256 key, as PKCS #8 in PEM (RFC 7468).
    #[error("the identity is not a P-256 key, as PKCS #8 in PEM")]
    Identity,
    /// No store was given.
    #[error("a store is needed, such as EmbeddedStore::open gives")]
    NoStore,
    /// A file could not be opened, read or written, or holds something else. A store's may be open in
    /// another process.
    #[error("{} cannot be used", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why. It holds nothing of what is in the file.
        source: io::Error,
    },
    /// A lifetime is not among [`Lifetimes::RANGE`](crate::Lifetimes::RANGE).
    #[error("a lifetime is shorter than a second or longer than ten years")]
    Lifetime,
    /// The Redis server cannot be used, and why.
    #[cfg(feature = "redis")]
    #[error("the Redis server cannot be used")]
    Redis(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The ring's period is not among [`Ring::PERIODS`](crate::Ring::PERIODS), or what its keys seal lives
    /// for more than a hundred of it.
    #[error("the ring's period is not a minute to a year, or too short for what the ring seals")]
    RingPeriod,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

impl ConfigError {
    /// What makes an error of a file's into one that names it.
    pub(crate) fn of_file(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// For a file that can be read and holds something else. What it holds instead is not in the error: it may
/// be a secret.
pub(crate) fn not_a(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

//! Errors of configuration. Refusals of requests are [`bulla_protocol::error::Error`].

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::rules::Rule;

/// The server cannot be built as configured.
///
/// Its `Debug` reads as its `Display`, with the causes behind it: that is what a `main` prints that returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No public origin was given.
    #[error("a public origin is needed, such as https://bank.example")]
    NoOrigin,
    /// This is not an origin, or one whose host and port another one has.
    #[error(
        "`{0}` is no public origin such as https://bank.example: scheme, host and port, no `/` at the end, and one \
         for each host and port"
    )]
    Origin(String),
    /// What pages may come from is not an origin.
    #[error("`{0}` is no origin to allow, such as https://app.example, with no `/` at the end")]
    AllowedOrigin(String),
    /// What [`Builder::unsigned`](crate::Builder::unsigned), `monitor`, `unpaced` or `require` was given begins no path that ever
    /// comes: it does not begin with a slash, has a query, or is written as no path is taken.
    #[error("`{0}` begins no path as it is sent, such as `/api/` or `/caf%C3%A9`")]
    Path(String),
    /// Cookies are to be bound where none were, or none where some were.
    #[error("whether cookies are bound at all stays as the verifier was built")]
    Cookies,
    /// The action of a rule is one that the rule may not have:
    /// [`Rules::let_a_ticket_lock_out`](crate::Rules::let_a_ticket_lock_out) says why.
    #[error("the rule `{}` {}", .0.name(), why_not(*.0))]
    Rule(Rule),
    /// The [`Rate`](crate::Rate) of this name is none.
    #[error(
        "the rate `{0}` is none: it takes one or more, in ten years at most, and no more than one in a nanosecond"
    )]
    Rate(&'static str),
    /// [`Limits::max_fields`](crate::Limits::max_fields) is more than [`Limits::MOST_FIELDS`](crate::Limits::MOST_FIELDS).
    #[error("no message may have more than 10000 fields")]
    Fields,
    /// Openings are to take more work than any client does.
    #[error("no client does more than 20 bits of work for an opening")]
    Work,
    /// A pace is not among [`Pace::GRACES`](crate::Pace::GRACES) and [`Pace::RATES`](crate::Pace::RATES).
    #[error(
        "a pace is a grace of a second to an hour, and 1 to 1000000 bytes a second; `pace(None)` turns it off"
    )]
    Pace,
    /// The prefix is not an absolute path without a trailing slash.
    #[error("the prefix must be an absolute path without a trailing slash, and `{0}` is not")]
    Prefix(String),
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
    /// The lifetime of this name is not among [`Lifetimes::RANGE`](crate::Lifetimes::RANGE).
    #[error("the lifetime `{0}` is shorter than a second or longer than ten years")]
    Lifetime(&'static str),
    /// The Redis server cannot be used, and why.
    #[cfg(feature = "redis")]
    #[error("the Redis server cannot be used")]
    Redis(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The ring's period is not among [`Ring::PERIODS`](crate::Ring::PERIODS), or what its keys seal lives
    /// for more than a hundred of it.
    #[error("the ring's period is not a minute to a year, or too short for what the ring seals")]
    RingPeriod,
    /// The ring is shared with other nodes and the store is not.
    #[error("a ring that nodes share needs a store that they share, such as RedisStore")]
    RingOutreachesStore,
    /// The ring is shared with other nodes and the registry is not.
    #[error(
        "a ring that nodes share needs a registry that they share, such as RedisStore::registry gives"
    )]
    RingOutreachesRegistry,
    /// There is a limit on a user's sessions and nothing to count them by.
    #[error("a limit on sessions needs a registry, such as EmbeddedStore::registry gives")]
    NoRegistry,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

fn why_not(rule: Rule) -> &'static str {
    match rule {
        Rule::Openings => "has no session to do anything to: it can only record",
        _ => {
            "may not end or slow down a session, since whoever has only its ticket could make it fire: let it record or \
             step up, or allow it by `let_a_ticket_lock_out`"
        }
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
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
pub(crate) fn not_a(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is not {what}"))
}

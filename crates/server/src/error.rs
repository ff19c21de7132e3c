//! Errors of configuration. Refusals of requests are [`bulla_protocol::error::Error`].

/// The server cannot be built as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No public origin was given, or one is not an origin.
    #[error(
        "a public origin such as https://bank.example is needed: scheme, host and port, and no `/` at the end"
    )]
    Origin,
    /// The prefix is not an absolute path without a trailing slash.
    #[error("the prefix must be an absolute path without a trailing slash")]
    Prefix,
    /// The identity key is missing or could not be read, made or written.
    #[error("the identity key is missing or could not be read, made or written")]
    Identity,
    /// The ring file could not be read, or a key whose time is over not be erased from it.
    #[error("the ring file could not be read or rewritten")]
    Ring,
    /// A lifetime is not among [`Lifetimes::RANGE`](crate::Lifetimes::RANGE).
    #[error("a lifetime is shorter than a second or longer than ten years")]
    Lifetime,
    /// The ring's period is not among [`Ring::PERIODS`](crate::Ring::PERIODS), or what its keys seal lives
    /// for more than a hundred of it.
    #[error("the ring's period is not a minute to a year, or too short for what the ring seals")]
    RingPeriod,
    /// The ring outlives the process and revocations do not: a restart would revive ended sessions.
    #[error("the ring is kept across restarts, so the store must keep revocations too")]
    RingOutlivesRevocations,
    /// The store could not be opened.
    #[error("the store could not be opened; another process may have it open")]
    Store,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

//! Errors of configuration. Refusals of requests are [`bulla_protocol::error::Error`].

/// The server cannot be built as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No public origin was given, or one is not an origin.
    #[error("a public origin such as https://bank.example is needed")]
    Origin,
    /// The prefix is not an absolute path without a trailing slash.
    #[error("the prefix must be an absolute path without a trailing slash")]
    Prefix,
    /// The identity key is missing or could not be read, made or written.
    #[error("the identity key is missing or could not be read, made or written")]
    Identity,
    /// The ring file could not be read.
    #[error("the ring file could not be read")]
    Ring,
    /// The ring outlives the process and revocations do not: a restart would revive ended sessions.
    #[error("the ring is kept across restarts, so the store must keep revocations too")]
    RingOutlivesRevocations,
    /// The store could not be opened.
    #[error("the store could not be opened")]
    Store,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

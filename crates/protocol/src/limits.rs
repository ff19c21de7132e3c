//! The limits that both halves know. What an operator may tune is in [`Limits`].

use core::time::Duration;

/// The only version there is.
pub const VERSION: u32 = 1;

/// The default path under which everything lives that the protocol owns (RFC 8615).
pub const DEFAULT_PREFIX: &str = "/.well-known/bulla";

/// A ticket must fit into the `keyid` of RFC 8188, whose length is one byte.
pub const MAX_TICKET_LEN: usize = 255;

/// The app's user id, in bytes.
pub const MAX_SUBJECT_LEN: usize = 48;

/// The largest RFC 8188 record that is accepted, ciphertext and tag, in bytes.
pub const MAX_RECORD_SIZE: u32 = 64 * 1024;

/// Record size for bodies of known length and for long streams, in bytes.
pub const BULK_RECORD_SIZE: u32 = MAX_RECORD_SIZE;

/// Record size for streams of unknown kind, in bytes. Each flush costs one record.
pub const STREAM_RECORD_SIZE: u32 = 4 * 1024;

/// Record size for event streams, in bytes.
pub const EVENT_RECORD_SIZE: u32 = 1024;

/// How many records of one message may be in flight through an asynchronous cipher at once.
pub const MAX_RECORDS_IN_FLIGHT: usize = 8;

/// The largest body of an opening and of its answer, in bytes.
pub const MAX_OPENING_LEN: usize = 4 * 1024;

/// How long an opening may take, answer included: whatever else is to be sent waits for it.
pub const OPENING_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest refusal that a client reads, in bytes.
pub const MAX_PROBLEM_LEN: usize = 4 * 1024;

/// What an operator may tune. The defaults suit an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Method, target and header fields of an inner message together, in bytes. Default 32768.
    pub max_head_len: usize,
    /// Header fields of an inner message, [`Self::MOST_FIELDS`] at most. Default 100.
    pub max_fields: usize,
    /// A request body that is collected before the handler runs, in bytes. Collecting takes up to
    /// three times as much memory for a moment. Streamed bodies are not collected and have no limit
    /// here. Default 2097152.
    pub max_body_len: usize,
}

impl Limits {
    /// What `max_fields` may be. The server puts them into one map, which has room for 24576 in all.
    pub const MOST_FIELDS: usize = 10_000;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_head_len: 32 * 1024,
            max_fields: 100,
            max_body_len: 2 * 1024 * 1024,
        }
    }
}

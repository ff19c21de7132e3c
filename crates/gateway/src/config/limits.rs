//! How large and how slow things may be: `[limits]`.

use std::time::Duration;

use super::reader::Section;
use super::values;

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

pub(super) fn read(mut section: Section<'_, '_>) -> Limits {
    let default = Limits::default();
    let mut time = |key, default| section.text(key, values::some_time).unwrap_or(default);
    let limits = Limits {
        connect: time("connect", default.connect),
        answer: time("answer", default.answer),
        quiet: time("quiet", default.quiet),
        head: time("head", default.head),
        idle: time("idle", default.idle),
        body: section.text("body", values::size).unwrap_or(default.body),
        shutdown: section
            .text("shutdown", values::any_time)
            .unwrap_or(default.shutdown),
    };
    section.end();
    limits
}

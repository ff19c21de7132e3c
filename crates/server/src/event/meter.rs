//! Events and requests, counted: for whichever recorder the application has installed.

use bulla_protocol::proof::ProofKind;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::EventKind;
use crate::session::Facts;

const EVENTS: &str = "bulla_events_total";
const REQUESTS: &str = "bulla_requests_total";
const STREAMS: &str = "bulla_open_streams";

/// Tells the recorder what each of them is.
pub(crate) fn describe() {
    describe_counter!(
        EVENTS,
        Unit::Count,
        "Security events, by kind, and by code, rule or what was noticed."
    );
    describe_counter!(
        REQUESTS,
        Unit::Count,
        "Requests that have passed every check, by proof and by whether they were sealed."
    );
    describe_gauge!(
        STREAMS,
        Unit::Count,
        "Streamed uploads and replies that are under way."
    );
}

pub(super) fn count(kind: &EventKind) {
    let code = kind.code().map_or("", bulla_protocol::error::Code::as_str);
    let why = kind.rule().map_or(code, crate::rules::Rule::name);
    let why = kind.noticed().unwrap_or(why);
    counter!(EVENTS, "kind" => kind.name(), "code" => why).increment(1);
}

/// A request has passed every check.
pub(crate) fn verified(facts: &Facts) {
    let sealed = if facts.sealed { "true" } else { "false" };
    let proof = match facts.proof {
        ProofKind::Device => "device",
        ProofKind::Session => "session",
    };
    counter!(REQUESTS, "proof" => proof, "sealed" => sealed).increment(1);
}

/// Counts an open stream for as long as it is there.
pub(crate) struct OpenStream(());

impl OpenStream {
    pub(crate) fn new() -> Self {
        gauge!(STREAMS).increment(1.0);
        Self(())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        gauge!(STREAMS).decrement(1.0);
    }
}

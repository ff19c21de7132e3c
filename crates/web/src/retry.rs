//! What a refusal asks for, and how the next request is proved.
#![allow(
    missing_docs,
    reason = "what wasm_bindgen writes for an enum of names has none"
)]

use core::time::Duration;

use bulla_protocol::error::Code;
use bulla_protocol::proof::ProofKind;
use bulla_protocol::retry::{self, Kind, Standing};
use wasm_bindgen::prelude::*;

use crate::boundary::{duration, proof_kind};

/// What comes next, by the name that scripts and diagnostics have for it.
#[wasm_bindgen]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send it again with the new server nonce.
    Retry = "retry",
    /// Send it again with a device proof. From now on the device key proves.
    Prove = "prove",
    /// Send it again with a device proof and another random part. From now on the device key proves.
    ProveAnew = "prove-anew",
    /// Fail. From now on the device key proves.
    ProveAndFail = "prove-and-fail",
    /// Take another session and send it again.
    Reopen = "reopen",
    /// Take another session, and fail.
    ReopenAndFail = "reopen-and-fail",
    /// The session that was to end has ended.
    Ended = "ended",
    /// Fail.
    Fail = "fail",
}

/// How far one `fetch` has come.
#[wasm_bindgen]
pub struct Attempt(retry::Attempt);

#[wasm_bindgen]
impl Attempt {
    /// Begins. `ends` says that the request is to end the session; a nonce's life is in seconds.
    #[wasm_bindgen(constructor)]
    pub fn new(safe: bool, ends: bool, nonce_life: f64) -> Self {
        Self(retry::Attempt {
            proof: proof_kind(false),
            request: Kind::new(safe, ends),
            retried: false,
            reopened: false,
            elapsed: Duration::ZERO,
            nonce_life: duration(nonce_life),
        })
    }

    /// Decides what a refusal asks for. `sealed` says that it came sealed, `session_proof` what was
    /// sent, `elapsed` how many seconds ago the request was first sent.
    pub fn after(
        &mut self,
        refusal: &str,
        sealed: bool,
        session_proof: bool,
        elapsed: f64,
    ) -> Next {
        let Ok(refusal) = refusal.parse::<Code>() else {
            return Next::Fail;
        };
        self.0.proof = proof_kind(session_proof);
        self.0.elapsed = duration(elapsed);
        match self.0.after(refusal, sealed) {
            retry::Next::Retry => Next::Retry,
            retry::Next::Prove => Next::Prove,
            retry::Next::ProveAnew => Next::ProveAnew,
            retry::Next::ProveAndFail => Next::ProveAndFail,
            retry::Next::Reopen => Next::Reopen,
            retry::Next::ReopenAndFail => Next::ReopenAndFail,
            retry::Next::Ended => Next::Ended,
            retry::Next::Fail => Next::Fail,
        }
    }
}

/// Whether a refusal says that the session is there no more.
#[wasm_bindgen(js_name = isOver)]
pub fn is_over(refusal: &str) -> bool {
    refusal.parse::<Code>().is_ok_and(retry::is_over)
}

/// Whether the application is told this, which came of taking another session, in the place of the refusal.
#[wasm_bindgen]
pub fn outranks(reopening: &str) -> bool {
    reopening.parse::<Code>().is_ok_and(retry::outranks)
}

/// Whether the session MAC key is to prove the next request. `session_proof` says that the server takes
/// that by default, `confirmed` that it has handed out a further ticket, `wants_device` that it has refused
/// such a proof; the ticket's age and life are in seconds.
#[wasm_bindgen(js_name = takesSessionProof)]
pub fn takes_session_proof(
    session_proof: bool,
    confirmed: bool,
    wants_device: bool,
    ticket_age: f64,
    ticket_life: f64,
) -> bool {
    let standing = Standing {
        proof: proof_kind(session_proof),
        confirmed,
        wants_device,
        ticket_age: duration(ticket_age),
        ticket_life: duration(ticket_life),
    };
    standing.next_proof() == ProofKind::Session
}

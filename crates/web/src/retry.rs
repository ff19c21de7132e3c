//! What a refusal asks for.
#![allow(
    clippy::float_cmp,
    reason = "what wasm_bindgen writes for an enum compares numbers of JavaScript"
)]

use core::time::Duration;

use bulla_protocol::error::Code;
use bulla_protocol::retry;
use wasm_bindgen::prelude::*;

use crate::request::proof_kind;

/// What comes next.
#[wasm_bindgen]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send it again with the new server nonce.
    Retry,
    /// Send it again with a device proof.
    Prove,
    /// Send it again with a device proof and another random part.
    ProveAnew,
    /// Take another session and send it again.
    Reopen,
    /// Take another session, and fail.
    ReopenAndFail,
    /// Fail.
    Fail,
}

/// How far one `fetch` has come.
#[wasm_bindgen]
pub struct Attempt(retry::Attempt);

#[wasm_bindgen]
impl Attempt {
    /// Begins. A nonce's life is in seconds.
    #[wasm_bindgen(constructor)]
    pub fn new(safe: bool, nonce_life: f64) -> Self {
        Self(retry::Attempt {
            proof: proof_kind(false),
            safe,
            retried: false,
            reopened: false,
            elapsed: Duration::ZERO,
            nonce_life: duration(nonce_life),
        })
    }

    /// Decides what a refusal asks for. `sealed` says that it came sealed, `session_proof` what was
    /// sent, `elapsed` how many seconds ago the request was first sent, by a monotonic clock.
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
            retry::Next::Retry => {
                self.0.retried = true;
                Next::Retry
            }
            retry::Next::Reopen => {
                self.0.reopened = true;
                Next::Reopen
            }
            retry::Next::Prove => Next::Prove,
            retry::Next::ProveAnew => Next::ProveAnew,
            retry::Next::ReopenAndFail => Next::ReopenAndFail,
            retry::Next::Fail => Next::Fail,
        }
    }
}

/// Whether a refusal says that the session is there no more.
#[wasm_bindgen(js_name = isOver)]
pub fn is_over(refusal: &str) -> bool {
    refusal.parse::<Code>().is_ok_and(retry::is_over)
}

/// Whether a ticket is to be replaced by the next one. Both in seconds.
#[wasm_bindgen(js_name = isRenewalDue)]
pub fn is_renewal_due(age: f64, life: f64) -> bool {
    retry::is_renewal_due(duration(age), duration(life))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to integer cast saturates"
)]
fn duration(seconds: f64) -> Duration {
    Duration::from_millis((seconds * 1000.0) as u64)
}

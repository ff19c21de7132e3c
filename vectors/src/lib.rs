//! Test vectors for every step of the protocol, and what runs them.
//!
//! A vector is a step, what goes in, and either what comes out or the code of the refusal. The
//! files beside this crate's `Cargo.toml` hold them; bytes are base64url without padding, keys JSON
//! Web Keys, fields lists of name and value. Everything is fixed, randomness included, and signatures
//! are deterministic (RFC 6979), so that the files can be made anew and compared.
//!
//! [`step`] runs what is pure, here and in browsers. The steps `exchange` and `client` run the real
//! halves, natively only.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // what is made here is fixed; a surprise may panic

#[cfg(not(target_family = "wasm"))]
pub mod cases;
#[cfg(not(target_family = "wasm"))]
pub mod corpus;
#[cfg(not(target_family = "wasm"))]
pub mod example;
#[cfg(not(target_family = "wasm"))]
pub mod exchange;
pub mod input;
pub mod step;

use bulla_protocol::error::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// What it shows; distinct within its file.
    pub name: String,
    /// The step that it is for.
    pub step: String,
    /// What goes in.
    #[serde(rename = "in")]
    pub input: Value,
    /// What comes out, if the step passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<Value>,
    /// The code of the refusal, if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// What became of a vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The vector's name.
    pub name: String,
    /// What is wrong; `None` if the vector holds.
    pub failure: Option<String>,
}

/// Why a step gave nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// The step refuses.
    Refused(Error),
    /// The vector itself is wrong.
    Unusable(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Vector {
    /// Checks it against what its step gives.
    pub fn judge(&self, given: Result<Value, Stop>) -> Outcome {
        let failure = match (given, &self.out, &self.code) {
            (Ok(given), Some(out), None) if given == *out => None,
            (Err(Stop::Refused(error)), None, Some(code)) if error.code.as_str() == code => None,
            (given, ..) => Some(format!("gives {given:?}")),
        };
        Outcome {
            name: self.name.clone(),
            failure,
        }
    }
}

/// Runs the vectors of a file, all of pure steps.
///
/// # Errors
///
/// If the file is not one of vectors.
pub fn run(file: &str) -> Result<Vec<Outcome>, serde_json::Error> {
    let vectors: Vec<Vector> = serde_json::from_str(file)?;
    let judge = |vector: &Vector| vector.judge(step::run(&vector.step, &vector.input));
    Ok(vectors.iter().map(judge).collect())
}

/// [`run`] for browsers: the outcomes as JSON; what is wrong with the file, if it is not one.
#[cfg(target_family = "wasm")]
#[wasm_bindgen::prelude::wasm_bindgen]
pub fn run_file(file: &str) -> Result<String, String> {
    let outcomes = run(file).map_err(|error| error.to_string())?;
    serde_json::to_string(&outcomes).map_err(|error| error.to_string())
}

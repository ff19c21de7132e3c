//! What the vectors are: what goes in, and which refusals are expected. What comes out is computed.
#![allow(clippy::too_many_lines)] // lists are long

mod encodings;
mod exchanges;
pub(crate) mod opening;
pub(crate) mod proofs;
mod replies;
pub(crate) mod sealing;

use std::sync::atomic::{AtomicU64, Ordering};

use bulla_keys::rustcrypto::SigningKey;
use bulla_keys::{Random, RandomError};
use bulla_protocol::base64;
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::error::Code;
use bulla_protocol::jwk::PublicKey;
use serde_json::{Value, json};

use crate::input::{Scalar, text};
use crate::{Stop, Vector, exchange, step};

/// A file of vectors.
pub struct File {
    /// Its name, without extension.
    pub name: &'static str,
    /// What it holds.
    pub text: &'static str,
    /// Whether a browser can run it.
    pub pure: bool,
    cases: fn() -> Vec<Case>,
}

macro_rules! file {
    ($name:literal, $pure:literal, $cases:path) => {
        File {
            name: $name,
            text: include_str!(concat!("../", $name, ".json")),
            pure: $pure,
            cases: $cases,
        }
    };
}

/// All files.
pub const FILES: [File; 6] = [
    file!("encodings", true, encodings::cases),
    file!("opening", true, opening::cases),
    file!("proofs", true, proofs::cases),
    file!("sealing", true, sealing::cases),
    file!("exchanges", false, exchanges::cases),
    file!("replies", false, replies::cases),
];

impl File {
    /// The vectors that it holds.
    ///
    /// # Panics
    ///
    /// If it is not a file of vectors.
    pub fn vectors(&self) -> Vec<Vector> {
        serde_json::from_str(self.text).unwrap()
    }

    /// Makes its content anew.
    ///
    /// # Panics
    ///
    /// If a step does not do what its case expects.
    pub fn generate(&self) -> String {
        let vectors: Vec<Vector> = (self.cases)().into_iter().map(Case::into_vector).collect();
        serde_json::to_string_pretty(&vectors).unwrap() + "\n"
    }
}

/// A vector before it has run.
pub(crate) struct Case {
    name: String,
    step: &'static str,
    input: Value,
    refused: Option<Code>,
}

/// A step that passes.
pub(crate) fn passes(step: &'static str, name: &str, input: Value) -> Case {
    Case {
        name: name.to_owned(),
        step,
        input,
        refused: None,
    }
}

/// A step that refuses.
pub(crate) fn refused(step: &'static str, code: Code, name: &str, input: Value) -> Case {
    Case {
        refused: Some(code),
        ..passes(step, name, input)
    }
}

impl Case {
    fn into_vector(self) -> Vector {
        let given = exchange::run(self.step, &self.input);
        let code = self.refused.map(|code| code.as_str().to_owned());
        let out = match (given, self.refused) {
            (Ok(out), None) => Some(out),
            (Err(Stop::Refused(error)), Some(code)) if error.code == code => None,
            (given, expected) => panic!("{}: {given:?}, not {expected:?}", self.name),
        };
        Vector {
            name: self.name,
            step: self.step.to_owned(),
            input: self.input,
            out,
            code,
        }
    }
}

/// What a step gives.
pub(crate) fn given(step: &str, input: &Value) -> Value {
    step::run(step, input).unwrap_or_else(|stop| panic!("{step}: {stop:?}"))
}

/// Bytes that stand for random ones: always the same for one purpose.
pub(crate) fn fixed(purpose: &str) -> [u8; 32] {
    ContentDigest::of(format!("bulla vectors: {purpose}").as_bytes()).0
}

/// Sixteen of them.
pub(crate) fn fixed16(purpose: &str) -> [u8; 16] {
    fixed(purpose)[..16].try_into().unwrap()
}

/// The ES256 key for a purpose. ECDH keys are the same kind of thing.
pub(crate) fn signing_key(purpose: &str) -> SigningKey {
    SigningKey::generate(&Scalar(fixed(purpose))).unwrap()
}

/// The public JWK for a purpose.
pub(crate) fn public(purpose: &str) -> PublicKey {
    *signing_key(purpose).public()
}

/// The private JWK for a purpose.
pub(crate) fn private(purpose: &str) -> Value {
    let mut jwk = json!(public(purpose));
    jwk["d"] = text(fixed(purpose));
    jwk
}

/// A ticket as an outsider sees it.
pub(crate) fn opaque_ticket() -> Vec<u8> {
    (0..8)
        .flat_map(|part| fixed(&format!("ticket {part}")))
        .take(239)
        .collect()
}

/// The state in which every exchange begins.
pub(crate) fn state() -> Value {
    json!({
        "now": 1_800_000_000,
        "ring": { "keys": [
            { "id": 0, "begins": 1_800_000_000, "secret": base64::encode(fixed("ring")) },
        ] },
        "memory": text(fixed16("memory")),
        "identity": private("identity"),
        "response_key": text([0; 32]),
    })
}

/// Changes a copy of a value.
pub(crate) fn with(value: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut value = value.clone();
    change(&mut value);
    value
}

/// Sets the field with this name in a list of fields.
pub(crate) fn set_field(fields: &mut Value, name: &str, to: &str) {
    let fields = fields.as_array_mut().unwrap();
    match fields.iter_mut().find(|field| field[0] == name) {
        Some(field) => field[1] = to.into(),
        None => fields.push(json!([name, to])),
    }
}

/// Removes the fields with this name from a list of fields.
pub(crate) fn remove_field(fields: &mut Value, name: &str) {
    let fields = fields.as_array_mut().unwrap();
    fields.retain(|field| field[0] != name);
}

/// The value of a field.
pub(crate) fn field_value(fields: &Value, name: &str) -> String {
    let fields = fields.as_array().unwrap();
    let found = fields.iter().find(|field| field[0] == name).unwrap();
    found[1].as_str().unwrap().to_owned()
}

/// Changes one bit of bytes in base64url.
pub(crate) fn flip(value: &mut Value, at: usize) {
    let mut bytes = base64::decode(value.as_str().unwrap()).unwrap();
    bytes[at] ^= 1;
    *value = text(bytes);
}

/// Random bytes for whoever wants some: always the same ones in the same order.
#[derive(Default)]
pub(crate) struct Counted(AtomicU64);

impl Random for Counted {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        for chunk in out.chunks_mut(32) {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            chunk.copy_from_slice(&fixed(&format!("random {number}"))[..chunk.len()]);
        }
        Ok(())
    }
}

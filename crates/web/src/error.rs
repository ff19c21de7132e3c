//! What goes wrong, on its way to JavaScript.

use bulla_protocol::error::{Code, Error};
use wasm_bindgen::prelude::*;

/// Why something did not come about.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A refusal with a code: becomes a `BullaError`.
    Refused(Error),
    /// The platform's own, passed on as it is: the reason of an abort, a `TypeError` from a wrong
    /// argument, an error in the application's body stream.
    Platform(JsValue),
}

impl Failure {
    /// The code, if there is one.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(error) => Some(error.code),
            Self::Platform(_) => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => BullaError::new(error.code.as_str(), error.detail).into(),
            Failure::Platform(value) => value,
        }
    }
}

#[wasm_bindgen(raw_module = "../support.js")]
extern "C" {
    type BullaError;

    #[wasm_bindgen(constructor)]
    fn new(code: &str, message: &str) -> BullaError;
}

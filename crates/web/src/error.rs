//! What goes wrong, on its way to JavaScript.

use bulla_protocol::error::{Code, Error};
use wasm_bindgen::prelude::*;

/// A refusal: becomes a `BullaError`.
#[derive(Debug)]
pub struct Failure(pub(crate) Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<Failure> for JsValue {
    fn from(Failure(error): Failure) -> Self {
        BullaError::from(error).into()
    }
}

impl From<Error> for BullaError {
    fn from(error: Error) -> Self {
        Self::new(error.code.as_str(), error.detail)
    }
}

/// What the application asks for is wrong.
pub(crate) fn wrong(detail: &'static str) -> Failure {
    Failure(Code::RequestInvalid.because(detail))
}

/// Whatever rule a request breaks, it is the application's request that is wrong.
pub(crate) fn invalid(error: Error) -> Failure {
    wrong(error.detail)
}

#[wasm_bindgen(raw_module = "../src/error.js")]
extern "C" {
    /// What the package throws.
    pub type BullaError;

    #[wasm_bindgen(constructor)]
    fn new(code: &str, message: &str) -> BullaError;
}

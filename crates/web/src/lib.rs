//! The browser half of Bulla, as far as it is rules: what an opening and a request look like, what has
//! to be signed, how a reply is opened, and what a refusal asks for.
//!
//! Nothing here waits. The package's scripts in `npm/` do what needs promises (WebCrypto, `fetch`,
//! IndexedDB, streams) and ask this module for each next step: a promise that crosses between Wasm and
//! the page costs more than the cryptography behind it, and the code that waits for it was more than
//! half of the module.
//!
//! | step | here | script |
//! | --- | --- | --- |
//! | find or open a session | [`opening`] | `client.js` and `opening.js`, on `keys.js` and `storage.js` |
//! | sign and seal a request | [`request`] | `request.js`, `fetch.js` |
//! | open the reply as it comes | [`reply`] | `reply.js`, `content.js` |
//! | retry, reopen, prove more | [`retry`] | `fetch.js`, on `held.js` |
//! | prove a request of OAuth | [`dpop`] | `dpop.js` |
//!
//! Keys are WebCrypto's and `extractable: false`; this module sees neither their bytes nor their
//! handles.
#![forbid(unsafe_code)]
// The browser's module is built without what writes such values (xtask/bindgen).
#![cfg_attr(not(test), deny(clippy::use_debug))]

mod boundary;
pub mod dpop;
pub mod error;
pub mod opening;
mod record;
pub mod reply;
pub mod request;
pub mod retry;

use bulla_protocol::error::Code;
use bulla_protocol::jwk::{PublicKey, Thumbprint};
use bulla_protocol::limits::DEFAULT_PREFIX;
use bulla_protocol::opening::{check_prefix, sealed_path, session_path};
use bulla_protocol::seal::{CEK_INFO, NONCE_INFO};
use bulla_protocol::target::Origin;
use wasm_bindgen::prelude::*;

use crate::error::{Failure, wrong};

/// A quarter of the code of the standard library's allocator.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: rlsf::GlobalTlsf<Allocation> = rlsf::GlobalTlsf::new();

#[cfg(target_arch = "wasm32")]
struct Allocation;

#[cfg(target_arch = "wasm32")]
impl rlsf::GlobalTlsfOptions for Allocation {
    // A buffer that grows is copied, which costs less than the code that would look for room.
    const ENABLE_REALLOCATION: bool = false;
}

/// A server: its origin, and where its endpoints are.
#[wasm_bindgen]
pub struct Server {
    pub(crate) origin: Origin,
    pub(crate) prefix: String,
}

#[wasm_bindgen]
impl Server {
    /// Takes the origin as the platform serialises it.
    ///
    /// # Errors
    ///
    /// `request_invalid` if it is no origin, or the prefix no path.
    #[wasm_bindgen(constructor)]
    pub fn new(origin: &str, prefix: Option<String>) -> Result<Self, Failure> {
        let origin = Origin::parse(origin).map_err(|_| wrong("the server is not an origin"))?;
        let prefix = prefix.unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
        check_prefix(&prefix).map_err(|error| wrong(error.detail))?;
        Ok(Self { origin, prefix })
    }

    /// The path of the session, where sessions are opened and ended.
    #[wasm_bindgen(getter, js_name = sessionPath)]
    pub fn session_path(&self) -> String {
        session_path(&self.prefix)
    }

    /// The path of sealed requests.
    #[wasm_bindgen(getter, js_name = sealedPath)]
    pub fn sealed_path(&self) -> String {
        sealed_path(&self.prefix)
    }
}

/// Checks the thumbprint that is to be pinned.
///
/// # Errors
///
/// `request_invalid`.
#[wasm_bindgen(js_name = checkThumbprint)]
pub fn check_thumbprint(text: &str) -> Result<(), Failure> {
    identity(text).map(drop)
}

fn identity(text: &str) -> Result<Thumbprint, Failure> {
    text.parse()
        .map_err(|_| wrong("the identity is not a thumbprint"))
}

/// The RFC 7638 thumbprint of a point, which is checked to be on the curve.
///
/// # Errors
///
/// `unsupported` if it is no point of P-256.
#[wasm_bindgen]
pub fn thumbprint(point: &[u8]) -> Result<String, Failure> {
    Ok(public_key(point)?.thumbprint().to_string())
}

fn public_key(point: &[u8]) -> Result<PublicKey, Failure> {
    const NO_KEY: bulla_protocol::error::Error =
        Code::Unsupported.because("WebCrypto gives no P-256 key");
    PublicKey::from_uncompressed(point).map_err(|_| NO_KEY.into())
}

/// HKDF `info` of a message's key.
#[wasm_bindgen(js_name = keyInfo)]
pub fn key_info() -> Vec<u8> {
    CEK_INFO.to_vec()
}

/// HKDF `info` of a message's base nonce.
#[wasm_bindgen(js_name = nonceInfo)]
pub fn nonce_info() -> Vec<u8> {
    NONCE_INFO.to_vec()
}

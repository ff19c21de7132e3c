//! Keys held in software: ES256, ECDH P-256, HKDF-SHA256, HMAC-SHA256, AES-GCM.
//!
//! Two backends have one API. The feature `aws-lc` (default) brings the module [`aws_lc`], which is
//! fast and needs a C compiler; `rustcrypto` brings the module `rustcrypto`, which is pure Rust and
//! builds for `wasm32-unknown-unknown` too. Where both are enabled, the names at the crate's root
//! are those of `aws_lc`. Randomness is handed in where a key is made.
#![forbid(unsafe_code)]

use bulla_protocol::error::{Code, Error};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

#[cfg(feature = "aws-lc")]
pub mod aws_lc;
#[cfg(feature = "body")]
pub mod body;
#[cfg(any(feature = "aws-lc", feature = "rustcrypto"))]
pub mod ece;
#[cfg(feature = "rustcrypto")]
pub mod rustcrypto;

#[cfg(not(any(feature = "aws-lc", feature = "rustcrypto")))]
compile_error!("bulla-keys needs a backend: enable the feature `aws-lc` or `rustcrypto`");

#[cfg(feature = "aws-lc")]
pub use aws_lc::{
    Aes128Gcm, Aes256Gcm, AgreementKey, MacKey, Prk, SigningKey, SystemRandom, VerifyingKey, verify,
};
#[cfg(all(
    feature = "rustcrypto",
    not(feature = "aws-lc"),
    not(all(target_family = "wasm", any(target_os = "unknown", target_os = "none")))
))]
pub use rustcrypto::SystemRandom;
#[cfg(all(feature = "rustcrypto", not(feature = "aws-lc")))]
pub use rustcrypto::{
    Aes128Gcm, Aes256Gcm, AgreementKey, MacKey, Prk, SigningKey, VerifyingKey, verify,
};

/// Where random bytes come from.
pub trait Random: Send + Sync {
    /// Fills `out` with bytes that nobody can guess.
    ///
    /// # Errors
    ///
    /// [`RandomError`] if there are none. Nothing is made of what was filled until then.
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError>;
}

/// A raw ECDH secret: the x coordinate of the shared point (RFC 8422 section 5.10).
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SharedSecret([u8; 32]);

impl SharedSecret {
    /// The 32 bytes, to be fed to HKDF and to nothing else.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl core::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

/// The source of randomness has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes could be had")]
pub struct RandomError;

/// A key could not be made, read or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key could not be made, read or used")]
pub struct KeyError;

/// A signature or a MAC does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold")]
pub struct BadSignature;

/// A text could not be sealed: it is too long for the cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text could not be sealed")]
pub struct SealError;

/// A sealed text could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed text could not be opened")]
pub struct OpenError;

impl From<OpenError> for Error {
    fn from(_: OpenError) -> Self {
        Code::SealBroken.because("a record could not be opened")
    }
}

impl From<SealError> for Error {
    fn from(_: SealError) -> Self {
        Code::TooLarge.because("a record could not be sealed")
    }
}

/// A private key from random bytes that were handed in. `import` takes a candidate that lies in the
/// group's order; any other is drawn again, which happens once in 2^32 draws. Eight in a row mean
/// that the source is broken.
#[cfg(any(feature = "aws-lc", feature = "rustcrypto"))]
fn draw_scalar<T>(
    random: &dyn Random,
    import: impl Fn(&[u8; 32]) -> Option<T>,
) -> Result<T, KeyError> {
    for _ in 0..8 {
        let mut candidate = Zeroizing::new([0; 32]);
        random.fill(candidate.as_mut()).map_err(|_| KeyError)?;
        if let Some(key) = import(&candidate) {
            return Ok(key);
        }
    }
    Err(KeyError)
}

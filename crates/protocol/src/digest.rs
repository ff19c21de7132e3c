//! `Content-Digest` (RFC 9530) with `sha-256`.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::{Code, Error};
use crate::structured;

/// The SHA-256 hash of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentDigest(pub [u8; 32]);

impl ContentDigest {
    /// Of a body of no bytes, as most requests have it.
    pub const EMPTY: Self = Self([
        0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
        0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52,
        0xb8, 0x55,
    ]);

    /// Hashes a body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// The field value: a Dictionary with the member `sha-256`.
    pub fn to_field(self) -> String {
        structured::dictionary_of_bytes("sha-256", &self.0)
    }

    /// Takes the `sha-256` member of a field value; other algorithms are ignored (RFC 9530 section 2).
    ///
    /// # Errors
    ///
    /// [`Code::Malformed`] if it is no Dictionary, [`Code::DigestMismatch`] if it has no `sha-256` of 32 bytes.
    pub fn parse(value: &str) -> Result<Self, Error> {
        structured::dictionary(value)?
            .into_iter()
            .find(|member| member.key == "sha-256")
            .and_then(|member| member.into_bytes()?.try_into().ok())
            .map(Self)
            .ok_or(Code::DigestMismatch.because("there is no sha-256 content digest"))
    }

    /// Checks a body against the field value that came with it.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`] and [`Self::verify`].
    pub fn check(field: &str, body: &[u8]) -> Result<(), Error> {
        Self::parse(field)?.verify(body)
    }

    /// Checks that this is the digest of a body.
    ///
    /// # Errors
    ///
    /// [`Code::DigestMismatch`].
    pub fn verify(self, body: &[u8]) -> Result<(), Error> {
        if bool::from(self.0.ct_eq(&Self::of(body).0)) {
            return Ok(());
        }
        Err(Code::DigestMismatch.because("the body is not the one that was signed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_rfc_9530() {
        // RFC 9530 appendix B.1
        const FIELD: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        let body = b"{\"hello\": \"world\"}\n";
        assert_eq!(ContentDigest::of(body).to_field(), FIELD);
        assert_eq!(ContentDigest::of(b""), ContentDigest::EMPTY);
        assert_eq!(ContentDigest::check(FIELD, body), Ok(()));
        let with_others = format!("sha-512=:AA==:, {FIELD}");
        assert_eq!(ContentDigest::check(&with_others, body), Ok(()));
        for bad in [FIELD, "sha-256=:AA==:", "sha-512=:AA==:", ""] {
            let error = ContentDigest::check(bad, b"other").unwrap_err();
            assert_eq!(error.code, Code::DigestMismatch, "{bad}");
        }
        assert_eq!(
            ContentDigest::parse("sha-256=").unwrap_err().code,
            Code::Malformed
        );
    }
}

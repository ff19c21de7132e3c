//! What the identity signs beside the protocol: whole texts, such as a manifest of files.
//!
//! JWS with detached content (RFC 7515 appendix F), by ES256 and with the public key in the header. The type keeps it
//! apart from all else that the key signs: those are bases of RFC 9421, which begin with a quotation mark.

use bulla_keys::verify;
use bulla_protocol::base64;
use bulla_protocol::jwk::{PublicKey, Thumbprint};
use bulla_protocol::jws::{self, Compact};
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;
use crate::identity::Identity;

#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
    jwk: &'a PublicKey,
}

#[derive(Deserialize)]
struct Key {
    jwk: PublicKey,
}

impl Identity {
    /// Signs a text of this type: the JWS without its content, `header..signature`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Identity`] if the key signs nothing.
    pub fn sign_detached(&self, typ: &str, content: &[u8]) -> Result<String, ConfigError> {
        let key = self.key();
        let (alg, jwk) = (jws::ALG, key.public());
        let header = serde_json::to_vec(&Header { typ, alg, jwk });
        let header = base64::encode(header.map_err(|_| ConfigError::Identity)?);
        let signed = format!("{header}.{}", base64::encode(content));
        let signature = key
            .sign(signed.as_bytes())
            .map_err(|_| ConfigError::Identity)?;
        Ok(format!("{header}..{}", base64::encode(signature)))
    }
}

/// Whether the identity with this thumbprint has signed a text as one of this type
/// ([`Identity::sign_detached`]).
pub fn is_signed_by(identity: Thumbprint, typ: &str, content: &[u8], signature: &str) -> bool {
    let Some((header, signature)) = signature.split_once("..") else {
        return false;
    };
    let whole = format!("{header}.{}.{signature}", base64::encode(content));
    let Ok(jws) = Compact::parse(&whole, typ) else {
        return false;
    };
    jws.header::<Key>().is_ok_and(|Key { jwk }| {
        jwk.thumbprint() == identity && verify(&jwk, jws.signed.as_bytes(), &jws.signature).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use bulla_keys::SystemRandom;

    use super::*;

    #[test]
    fn is_of_this_identity_this_type_and_this_text() {
        let identity = Identity::generate(&SystemRandom).unwrap();
        let other = Identity::generate(&SystemRandom).unwrap();
        let (by, text) = (identity.thumbprint(), b"clay".as_slice());
        let signature = identity.sign_detached("tablet", text).unwrap();
        assert!(is_signed_by(by, "tablet", text, &signature));
        assert!(!is_signed_by(by, "tablet", b"clay ", &signature));
        assert!(!is_signed_by(by, "envelope", text, &signature));
        assert!(!is_signed_by(
            other.thumbprint(),
            "tablet",
            text,
            &signature
        ));
        let others = other.sign_detached("tablet", text).unwrap();
        assert!(!is_signed_by(by, "tablet", text, &others));
        // The key of one, the signature of another.
        let (header, _) = signature.split_once("..").unwrap();
        let (_, of_other) = others.split_once("..").unwrap();
        assert!(!is_signed_by(
            by,
            "tablet",
            text,
            &format!("{header}..{of_other}")
        ));
        for bad in ["", "..", ".", &signature[1..], &format!("{signature}.")] {
            assert!(!is_signed_by(by, "tablet", text, bad), "{bad}");
        }
    }
}

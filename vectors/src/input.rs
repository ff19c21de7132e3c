//! Reading what goes into a step.

use bulla_keys::rustcrypto::{AgreementKey, SigningKey};
use bulla_keys::{Random, RandomError};
use bulla_protocol::base64;
use bulla_protocol::jwk::PublicKey;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Stop;

/// What goes into a step, or a part of it.
#[derive(Clone, Copy)]
pub struct Input<'a>(pub &'a Value);

impl<'a> Input<'a> {
    /// Whether there is such a member.
    pub fn has(self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    /// A member of any type.
    pub fn value<T: DeserializeOwned>(self, name: &str) -> Result<T, Stop> {
        let value = self.0.get(name).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value).map_err(|error| Stop::Unusable(format!("{name}: {error}")))
    }

    /// A member that is a string.
    pub fn text(self, name: &str) -> Result<&'a str, Stop> {
        let text = self.0.get(name).and_then(Value::as_str);
        text.ok_or_else(|| Stop::Unusable(format!("{name} is no string")))
    }

    /// A member that is a number.
    pub fn number(self, name: &str) -> Result<u64, Stop> {
        let number = self.0.get(name).and_then(Value::as_u64);
        number.ok_or_else(|| Stop::Unusable(format!("{name} is no number")))
    }

    /// A member that is bytes, in base64url.
    pub fn bytes(self, name: &str) -> Result<Vec<u8>, Stop> {
        base64::decode(self.text(name)?)
            .ok_or_else(|| Stop::Unusable(format!("{name} is no base64url")))
    }

    /// A member that is so many bytes, in base64url.
    pub fn array<const N: usize>(self, name: &str) -> Result<[u8; N], Stop> {
        let array = self.bytes(name)?.try_into();
        array.map_err(|_| Stop::Unusable(format!("{name} has another length")))
    }

    /// A member that is a list of bytes.
    pub fn pieces(self, name: &str) -> Result<Vec<Vec<u8>>, Stop> {
        let pieces: Vec<String> = self.value(name)?;
        let decode = |piece: &String| {
            base64::decode(piece).ok_or_else(|| Stop::Unusable(format!("{name} is no base64url")))
        };
        pieces.iter().map(decode).collect()
    }

    /// A member that is fields.
    pub fn fields(self, name: &str) -> Result<Vec<(String, String)>, Stop> {
        self.value(name)
    }

    /// A member that is a public key.
    pub fn key(self, name: &str) -> Result<PublicKey, Stop> {
        self.value(name)
    }

    /// A member that is an object.
    pub fn part(self, name: &str) -> Result<Input<'a>, Stop> {
        let part = self.0.get(name).map(Input);
        part.ok_or_else(|| Stop::Unusable(format!("{name} is missing")))
    }

    /// A member that is a private JWK for ES256.
    pub fn signing_key(self, name: &str) -> Result<SigningKey, Stop> {
        SigningKey::generate(&Scalar(self.part(name)?.array("d")?))
            .map_err(|error| Stop::Unusable(error.to_string()))
    }

    /// A member that is a private JWK for ECDH.
    pub fn agreement_key(self, name: &str) -> Result<AgreementKey, Stop> {
        AgreementKey::generate(&Scalar(self.part(name)?.array("d")?))
            .map_err(|error| Stop::Unusable(error.to_string()))
    }
}

/// The private key that is wanted, in the place of a random one.
pub struct Scalar(pub [u8; 32]);

impl Random for Scalar {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        out.copy_from_slice(self.0.get(..out.len()).ok_or(RandomError)?);
        Ok(())
    }
}

/// Bytes as they are written in a vector.
pub fn text(bytes: impl AsRef<[u8]>) -> Value {
    base64::encode(bytes).into()
}

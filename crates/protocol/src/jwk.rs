//! P-256 public keys: JSON Web Keys (RFC 7517, RFC 7518 section 6.2), points (SEC 1) and
//! thumbprints (RFC 7638).

use core::fmt;
use core::str::FromStr;

use p256::AffinePoint;
use p256::elliptic_curve::point::AffineCoordinates;
use p256::elliptic_curve::sec1::ToSec1Point;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::base64;

/// A P-256 public key: a point that has been checked to lie on the curve and not at infinity.
///
/// There is no way to make one without that check. It matters because WebKit's WebCrypto imports
/// points off the curve and derives bits from them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; Self::UNCOMPRESSED_LEN]);

impl PublicKey {
    /// Length of an uncompressed point, `0x04 || x || y`.
    pub const UNCOMPRESSED_LEN: usize = 65;
    /// Length of a compressed point, `0x02 or 0x03 || x`.
    pub const COMPRESSED_LEN: usize = 33;

    /// Takes an uncompressed point (SEC 1 section 2.3.3).
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] if it is not 65 bytes that begin with `0x04`, or does not lie on the curve.
    pub fn from_uncompressed(point: &[u8]) -> Result<Self, InvalidKey> {
        let bytes: [u8; Self::UNCOMPRESSED_LEN] = point.try_into().map_err(|_| InvalidKey)?;
        let key = Self(bytes);
        // Not by `from_sec1_bytes`, which takes compressed points too: a square root is dead weight in
        // a browser.
        let (x, y) = (key.x().try_into(), key.y().try_into());
        let (Ok(x), Ok(y)) = (x, y) else {
            return Err(InvalidKey);
        };
        if bytes[0] != 0x04 || bool::from(AffinePoint::from_coordinates(x, y).is_none()) {
            return Err(InvalidKey);
        }
        Ok(key)
    }

    /// Takes a compressed point. Costs a square root, so only tickets use it.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] if there is no such point on the curve.
    pub fn from_compressed(point: &[u8; Self::COMPRESSED_LEN]) -> Result<Self, InvalidKey> {
        let key = p256::PublicKey::from_sec1_bytes(point).map_err(|_| InvalidKey)?;
        let point = key.to_sec1_point(false);
        Ok(Self(point.as_bytes().try_into().map_err(|_| InvalidKey)?))
    }

    /// The uncompressed point, `0x04 || x || y`.
    pub fn as_uncompressed(&self) -> &[u8; Self::UNCOMPRESSED_LEN] {
        &self.0
    }

    /// The compressed point.
    pub fn to_compressed(self) -> [u8; Self::COMPRESSED_LEN] {
        let mut point = [0; Self::COMPRESSED_LEN];
        point[0] = 0x02 | (self.0[64] & 1);
        point[1..].copy_from_slice(self.x());
        point
    }

    /// The RFC 7638 thumbprint with SHA-256.
    pub fn thumbprint(&self) -> Thumbprint {
        // The required members in lexicographic order, no white space (RFC 7638 section 3.2).
        let canonical = format!(
            r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
            base64::encode(self.x()),
            base64::encode(self.y())
        );
        Thumbprint(Sha256::digest(canonical).into())
    }

    fn x(&self) -> &[u8] {
        &self.0[1..33]
    }

    fn y(&self) -> &[u8] {
        &self.0[33..]
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.thumbprint())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Jwk {
            kty: "EC".into(),
            crv: "P-256".into(),
            x: base64::encode(self.x()),
            y: base64::encode(self.y()),
            d: None,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let jwk = Jwk::deserialize(deserializer)?;
        jwk.point().ok_or_else(|| D::Error::custom(InvalidKey))
    }
}

/// The members of an EC JWK. A private member makes the key invalid: somebody is about to leak it.
#[derive(Serialize, Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
    #[serde(default, skip_serializing)]
    d: Option<serde::de::IgnoredAny>,
}

impl Jwk {
    fn point(&self) -> Option<PublicKey> {
        if self.kty != "EC" || self.crv != "P-256" || self.d.is_some() {
            return None;
        }
        let mut point = [0x04; PublicKey::UNCOMPRESSED_LEN];
        point[1..33].copy_from_slice(&base64::decode_array::<32>(&self.x)?);
        point[33..].copy_from_slice(&base64::decode_array::<32>(&self.y)?);
        PublicKey::from_uncompressed(&point).ok()
    }
}

/// An RFC 7638 thumbprint (SHA-256) of a [`PublicKey`]. Written as 43 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Thumbprint(#[serde(with = "base64::array")] pub [u8; 32]);

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::encode(self.0))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

impl FromStr for Thumbprint {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        base64::decode_array(text).map(Self).ok_or(InvalidKey)
    }
}

/// Not a P-256 public key: wrong type, curve or length, not on the curve, or not public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidKey;

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a P-256 public key")
    }
}

impl core::error::Error for InvalidKey {}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7515 appendix A.3.1
    const JWK: &str = r#"{"kty":"EC","crv":"P-256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

    fn key() -> PublicKey {
        serde_json::from_str(JWK).expect("a valid key")
    }

    #[test]
    fn round_trips() {
        let key = key();
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<PublicKey>(&json).unwrap(), key);
        assert_eq!(PublicKey::from_compressed(&key.to_compressed()), Ok(key));
        assert_eq!(PublicKey::from_uncompressed(key.as_uncompressed()), Ok(key));
        let print = key.thumbprint();
        assert_eq!(print.to_string().parse(), Ok(print));
        // The key of RFC 7515 A.3, whose thumbprint several JOSE suites carry.
        assert_eq!(
            print.to_string(),
            "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"
        );
    }

    #[test]
    fn refuses_what_is_not_a_public_point() {
        let uncompressed = *key().as_uncompressed();
        for at in [1, 32, 33, 64] {
            let mut bad = uncompressed;
            bad[at] ^= 1;
            assert_eq!(PublicKey::from_uncompressed(&bad), Err(InvalidKey), "{at}");
        }
        assert_eq!(
            PublicKey::from_uncompressed(&uncompressed[..64]),
            Err(InvalidKey)
        );
        assert_eq!(
            PublicKey::from_uncompressed(&key().to_compressed()),
            Err(InvalidKey)
        );
        assert_eq!(PublicKey::from_uncompressed(&[0]), Err(InvalidKey));
        let mut hybrid = uncompressed;
        hybrid[0] = 0x06;
        assert_eq!(PublicKey::from_uncompressed(&hybrid), Err(InvalidKey));
        for bad in [
            JWK.replace("EC", "OKP"),
            JWK.replace("P-256", "P-384"),
            JWK.replace("f83O", "f83P"),
            JWK.replace("EU\"", "EV\""),
            JWK.replace(r#"{"kty""#, r#"{"d":"AA","kty""#),
            JWK.replace(r#""kty":"EC","#, ""),
        ] {
            assert!(serde_json::from_str::<PublicKey>(&bad).is_err(), "{bad}");
        }
    }
}

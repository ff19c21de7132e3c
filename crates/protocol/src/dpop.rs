//! DPoP proofs (RFC 9449 section 4): made by clients of OAuth for every request, to show that an access token is
//! theirs.
//!
//! What can be checked without a key and without memory is checked here. Left are the signature, the token that the
//! key is bound to, the nonce, and that the proof is used once.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base64;
use crate::error::{Code, Error};
use crate::jwk::PublicKey;
use crate::jws::{self, ALG, Compact, InvalidJws};
use crate::target::Origin;
use crate::uri;

/// The field that carries a proof, and the scheme of the token beside it.
pub const FIELD: &str = "dpop";
/// The field in which servers hand out nonces (RFC 9449 section 8).
pub const NONCE_FIELD: &str = "dpop-nonce";
/// The scheme of `Authorization` and `WWW-Authenticate` (RFC 9449 section 7.1).
pub const SCHEME: &str = "DPoP";
/// The `typ` of a proof.
pub const TYP: &str = "dpop+jwt";
/// The longest proof that is looked at, in bytes. Those of common clients have some 700.
pub const MAX_PROOF_LEN: usize = 4096;
/// The longest `jti`, in bytes.
pub const MAX_JTI_LEN: usize = 256;

/// What a proof says (RFC 9449 section 4.2). What else is in it is not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Names the proof.
    pub jti: String,
    /// The method of the request.
    pub htm: String,
    /// The URI of the request, without query and fragment.
    pub htu: String,
    /// When it was made, in seconds since 1970, by the client's clock.
    #[serde(deserialize_with = "jws::seconds")]
    pub iat: u64,
    /// The hash of the access token, as [`token_hash`] gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ath: Option<String>,
    /// The latest nonce that the server has handed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

/// A proof as it came. Its signature has not been verified yet.
pub struct ReceivedProof<'a> {
    /// The key that it says it is signed with.
    pub key: PublicKey,
    /// What it says.
    pub claims: Claims,
    /// What was signed.
    pub signed: &'a str,
    /// `r || s`.
    pub signature: [u8; 64],
}

/// What a proof must be for.
#[derive(Clone, Copy)]
pub struct Purpose<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// The public origin of the server.
    pub origin: &'a Origin,
    /// The path of the request.
    pub path: &'a str,
    /// The access token beside the proof.
    pub token: &'a str,
}

#[derive(Deserialize)]
struct KeyHeader {
    jwk: PublicKey,
}

#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
    jwk: &'a PublicKey,
}

const fn wrong(detail: &'static str) -> Error {
    Code::ProofMismatch.because(detail)
}

impl<'a> ReceivedProof<'a> {
    /// Takes a proof apart: RFC 9449 section 4.3, checks 2 to 5 and 7.
    ///
    /// # Errors
    ///
    /// [`Code::ProofMismatch`], with a sentence for each.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        if text.len() > MAX_PROOF_LEN {
            return Err(wrong("the DPoP proof is too long"));
        }
        let jws = Compact::parse(text, TYP).map_err(|invalid| {
            wrong(match invalid {
                InvalidJws::Malformed => "the DPoP proof is not a signed JWT",
                InvalidJws::Type => "the DPoP proof's `typ` is not dpop+jwt",
                InvalidJws::Algorithm => "the DPoP proof is not signed by ES256",
                InvalidJws::Critical => "the DPoP proof has a critical extension",
            })
        })?;
        let KeyHeader { jwk: key } = jws
            .header()
            .map_err(|_| wrong("the DPoP proof's `jwk` is not a public P-256 key"))?;
        let claims: Claims = jws
            .payload()
            .map_err(|_| wrong("the DPoP proof lacks a claim, or one is of a wrong type"))?;
        if claims.jti.is_empty() || claims.jti.len() > MAX_JTI_LEN {
            return Err(wrong("the DPoP proof's `jti` has not 1 to 256 bytes"));
        }
        Ok(Self {
            key,
            claims,
            signed: jws.signed,
            signature: jws.signature,
        })
    }

    /// Checks that the proof is for this request and this token: RFC 9449 section 4.3, checks 8, 9 and the first part
    /// of 12.
    ///
    /// # Errors
    ///
    /// [`Code::ProofMismatch`], with a sentence for each.
    pub fn check(&self, purpose: &Purpose<'_>) -> Result<(), Error> {
        let claims = &self.claims;
        if claims.htm != purpose.method {
            return Err(wrong("the DPoP proof's `htm` is another method"));
        }
        let htu = uri::normalise(&claims.htu);
        if htu.is_none() || htu != uri::at(purpose.origin, purpose.path) {
            return Err(wrong("the DPoP proof's `htu` is another URI"));
        }
        // Both are known to whoever has sent them, so nothing is told by how long it takes.
        if claims.ath.as_deref() != Some(&token_hash(purpose.token)) {
            return Err(wrong("the DPoP proof's `ath` is another token's"));
        }
        Ok(())
    }

    /// Checks that the proof was made no further from now than this, either way: RFC 9449 section 4.3, check 11. `now`
    /// is in seconds since 1970, `window` in seconds.
    ///
    /// # Errors
    ///
    /// [`Code::ProofMismatch`].
    pub fn check_time(&self, now: u64, window: u64) -> Result<(), Error> {
        if self.claims.iat.abs_diff(now) > window {
            return Err(wrong("the DPoP proof's `iat` is too far from now"));
        }
        Ok(())
    }
}

/// The value of `ath`: base64url of the SHA-256 hash of the access token.
pub fn token_hash(token: &str) -> String {
    base64::encode(Sha256::digest(token))
}

/// What a client signs with this key, by ES256; [`jws::join`] makes the proof of it.
///
/// # Errors
///
/// [`Code::Internal`] if it cannot be written.
pub fn to_sign(key: &PublicKey, claims: &Claims) -> Result<String, Error> {
    let header = Header {
        typ: TYP,
        alg: ALG,
        jwk: key,
    };
    jws::to_sign(&header, claims)
        .map_err(|_| Code::Internal.because("the DPoP proof could not be written"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 9449 figure 1, and the token and proof of figures 12 and 13.
    const PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";

    fn origin() -> Origin {
        Origin::parse("https://resource.example.org").unwrap()
    }

    fn purpose(origin: &Origin) -> Purpose<'_> {
        Purpose {
            method: "GET",
            origin,
            path: "/protectedresource",
            token: TOKEN,
        }
    }

    #[test]
    fn the_proof_of_the_rfc_is_one() {
        let proof = ReceivedProof::parse(PROOF).unwrap();
        assert_eq!(
            proof.key.thumbprint().to_string(),
            "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
        );
        let origin = origin();
        let good = purpose(&origin);
        assert_eq!(proof.check(&good), Ok(()));
        let other = Origin::parse("https://other.example.org").unwrap();
        for bad in [
            Purpose {
                method: "get",
                ..good
            },
            Purpose { path: "/", ..good },
            Purpose {
                origin: &other,
                ..good
            },
            Purpose {
                token: "other",
                ..good
            },
        ] {
            assert_eq!(proof.check(&bad).unwrap_err().code, Code::ProofMismatch);
        }
        for (now, is_good) in [
            (1_562_262_557, false),
            (1_562_262_558, true),
            (1_562_262_678, true),
            (1_562_262_679, false),
            (0, false),
        ] {
            assert_eq!(proof.check_time(now, 60).is_ok(), is_good, "{now}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let received = ReceivedProof::parse(PROOF).unwrap();
        let claims = Claims {
            nonce: Some("n".to_owned()),
            ..received.claims
        };
        let signed = to_sign(&received.key, &claims).unwrap();
        let text = jws::join(&signed, &received.signature);
        let again = ReceivedProof::parse(&text).unwrap();
        assert_eq!((again.key, again.claims), (received.key, claims));
    }

    #[test]
    fn nothing_may_be_missing_or_private() {
        const HEADER: &str = r#"{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}}"#;
        const CLAIMS: &str = r#"{"jti":"a","htm":"GET","htu":"https://a","iat":1}"#;
        let parse = |header: &str, claims: &str| {
            let signed = [base64::encode(header), base64::encode(claims)].join(".");
            let text = jws::join(&signed, &[1; 64]);
            ReceivedProof::parse(&text)
                .map(drop)
                .map_err(|error| error.code)
        };
        assert_eq!(parse(HEADER, CLAIMS), Ok(()));
        for (header, claims) in [
            (HEADER.replace("jwk", "key"), CLAIMS.into()),
            (
                HEADER.replace(r#""kty""#, r#""d":"AA","kty""#),
                CLAIMS.into(),
            ),
            (HEADER.replace("l8tF", "l8tG"), CLAIMS.into()),
            (HEADER.replace("P-256", "P-384"), CLAIMS.into()),
            (HEADER.into(), CLAIMS.replace("jti", "id")),
            (HEADER.into(), CLAIMS.replace("htm", "method")),
            (HEADER.into(), CLAIMS.replace("htu", "uri")),
            (HEADER.into(), CLAIMS.replace("iat", "exp")),
            (HEADER.into(), CLAIMS.replace(r#""a""#, r#""""#)),
            (HEADER.into(), CLAIMS.replace(r#""a""#, "1")),
            (
                HEADER.into(),
                CLAIMS.replace(r#""a""#, &format!("\"{}\"", "a".repeat(257))),
            ),
            (
                HEADER.into(),
                CLAIMS.replace('{', &format!("{{\"x\":\"{}\",", "a".repeat(4096))),
            ),
        ] {
            assert_eq!(
                parse(&header, &claims),
                Err(Code::ProofMismatch),
                "{header} {claims}"
            );
        }
    }
}

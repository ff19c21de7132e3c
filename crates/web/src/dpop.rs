//! DPoP proofs (RFC 9449) by the device key, for servers of OAuth.

use bulla_protocol::dpop::{self, Claims, token_hash};
use bulla_protocol::jws;
use wasm_bindgen::prelude::*;

use crate::boundary::{array, seconds};
use crate::error::{Failure, wrong};
use crate::public_key;

/// What the device key signs, without a signature; with it, the proof. `claims` are lines: the `jti`, the `htm`, the
/// `htu` without query and fragment, and the access token and the nonce, each empty if there is none. `created` is in seconds
/// since 1970.
///
/// # Errors
///
/// `request_invalid` if there are not so many claims, the `htu` is none of the web, or the signature has not 64 bytes;
/// `unsupported` if the key is no point of P-256.
#[wasm_bindgen(js_name = dpopProof)]
pub fn proof(
    device: &[u8],
    claims: &str,
    created: f64,
    signature: &[u8],
) -> Result<String, Failure> {
    let claims: Vec<_> = claims.split('\n').collect();
    let [jti, htm, htu, token, nonce] = claims[..] else {
        return Err(wrong("not five claims"));
    };
    if !htu.starts_with("https://") && !htu.starts_with("http://") {
        return Err(wrong("not a URL of the web"));
    }
    let claims = Claims {
        jti: jti.to_owned(),
        htm: htm.to_owned(),
        htu: htu.to_owned(),
        iat: seconds(created),
        ath: (!token.is_empty()).then(|| token_hash(token)),
        nonce: (!nonce.is_empty()).then(|| nonce.to_owned()),
    };
    let to_sign = dpop::to_sign(&public_key(device)?, &claims)?;
    if signature.is_empty() {
        return Ok(to_sign);
    }
    Ok(jws::join(&to_sign, &array(signature)?))
}

#[cfg(test)]
mod tests {
    use bulla_protocol::base64;
    use bulla_protocol::dpop::ReceivedProof;
    use bulla_protocol::error::Code;
    use bulla_protocol::jwk::PublicKey;

    use super::*;

    /// The key of RFC 9449, and the token of its figure 13 with its hash.
    const X_Y: [&str; 2] = [
        "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    ];
    const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    const TOKEN_HASH: &str = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo";

    #[test]
    fn what_is_made_is_a_proof() {
        let x_y = X_Y.map(|part| base64::decode(part).unwrap()).concat();
        let point = [&[4][..], &x_y].concat();
        for (token, nonce) in [("", ""), (TOKEN, ""), ("", "n"), (TOKEN, "n")] {
            let claims = ["a", "POST", "https://server.example/token", token, nonce];
            let claims = claims.join("\n");
            let to_sign = proof(&point, &claims, 1_562_265_296.7, &[]).unwrap();
            let made = proof(&point, &claims, 1_562_265_296.7, &[7; 64]).unwrap();
            let received = ReceivedProof::parse(&made).unwrap();
            assert_eq!(received.key, PublicKey::from_uncompressed(&point).unwrap());
            assert_eq!((received.signed, received.signature), (&*to_sign, [7; 64]));
            let expected = Claims {
                jti: "a".to_owned(),
                htm: "POST".to_owned(),
                htu: "https://server.example/token".to_owned(),
                iat: 1_562_265_296,
                ath: (!token.is_empty()).then(|| TOKEN_HASH.to_owned()),
                nonce: (!nonce.is_empty()).then(|| nonce.to_owned()),
            };
            assert_eq!(received.claims, expected);
        }
    }

    #[test]
    fn there_are_no_proofs_for_what_is_not_the_web() {
        let x_y = X_Y.map(|part| base64::decode(part).unwrap()).concat();
        let point = [&[4][..], &x_y].concat();
        let of = |htu: &str| {
            let claims = ["a", "GET", htu, "", ""].join("\n");
            proof(&point, &claims, 1.0, &[])
        };
        assert!(of("https://a/").is_ok() && of("http://localhost:1/").is_ok());
        for htu in ["", "data:,", "blob:https://a/b", "ftp://a/", "file:///a"] {
            assert!(of(htu).is_err(), "{htu}");
        }
    }

    #[test]
    fn a_claim_of_two_lines_is_refused() {
        let point = [4; 65];
        for claims in [
            "a\nGET\nhttps://server.example/\n\nb\nc",
            "a\nGET\nhttps://server.example/\n",
        ] {
            let error = proof(&point, claims, 0.0, &[]).unwrap_err();
            assert_eq!(error.0.code, Code::RequestInvalid);
        }
    }
}

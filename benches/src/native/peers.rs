//! What others offer for a part of the work, called as their documentation says.
//!
//! Each is given what it has to be given, prepared as far as a server could keep it ready: keys are
//! parsed, configurations made, replay caches empty of anything else.

use std::collections::HashSet;
use std::hint::black_box;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use bulla_client::{SigningKey, SystemRandom};
use bulla_protocol::base64;
use bytes::Bytes;
use dpop_verifier::{DpopError, NonceMode, ReplayContext, ReplayStore};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use httpsig_hyper::prelude::message_component::HttpMessageComponentId;
use httpsig_hyper::prelude::{AlgorithmName, HttpSignatureParams, PublicKey, SecretKey};
use httpsig_hyper::{ContentDigestType, MessageSignatureReq as _, RequestContentDigest as _};
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use ohttp::hpke::{Aead, Kdf, Kem};
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::measure::Probe;

const BODY: [u8; 1 << 10] = [b'x'; 1 << 10];
const TARGET: &str = "https://bank.example/api/transfer";

/// RFC 9421 over method, authority, path, query, type and digest, and the digest of 1 KiB: what the
/// signature of a Bulla request covers, without ticket, freshness and replay.
pub(crate) fn httpsig() -> Outcome<Probe> {
    const COVERED: [&str; 6] = [
        "@method",
        "@authority",
        "@path",
        "@query",
        "content-type",
        "content-digest",
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (secret, public) = httpsig_keys()?;
    let covered: Result<Vec<_>, _> = COVERED
        .iter()
        .map(|name| HttpMessageComponentId::try_from(*name))
        .collect();
    let mut params = HttpSignatureParams::try_new(&covered?)?;
    params.set_key_info(&secret);
    Ok(Probe::new("peer/httpsig-hyper", 4, move |operations| {
        let sign = async {
            let request = Request::post(TARGET)
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from_static(&BODY)))?;
            let mut request = request
                .set_content_digest(&ContentDigestType::Sha256)
                .await?;
            request
                .set_message_signature(&params, &secret, Some("sig"))
                .await?;
            Ok::<_, crate::Failure>(request)
        };
        let mut requests = Vec::with_capacity(operations);
        let signed = runtime.block_on(sign)?;
        let (parts, body) = signed.into_parts();
        let body = runtime.block_on(body.collect())?.to_bytes();
        for _ in 0..operations {
            requests.push(Request::from_parts(parts.clone(), Full::new(body.clone())));
        }
        runtime.block_on(async {
            let start = Instant::now();
            for request in requests {
                request.verify_message_signature(&public, None).await?;
                black_box(request.verify_content_digest().await?);
            }
            Ok(start.elapsed())
        })
    }))
}

fn httpsig_keys() -> Outcome<(SecretKey, PublicKey)> {
    let mut scalar = [0; 32];
    aws_lc_rs::rand::fill(&mut scalar)?;
    // Below the group's order, whatever was drawn.
    scalar[0] = 1;
    let secret = SecretKey::from_bytes(&AlgorithmName::EcdsaP256Sha256, &scalar)?;
    let public = secret.public_key();
    Ok((secret, public))
}

/// RFC 9458: a request of 1 KiB opened, a response of 1 KiB sealed. No proof of possession, no
/// freshness, no replay check.
pub(crate) fn ohttp() -> Outcome<Probe> {
    ohttp::init();
    let suite = ohttp::SymmetricSuite::new(Kdf::HkdfSha256, Aead::Aes128Gcm);
    let config = ohttp::KeyConfig::new(1, Kem::X25519Sha256, vec![suite])?;
    let server = ohttp::Server::new(config)?;
    let config = server.config().encode()?;
    Ok(Probe::new("peer/ohttp", 4, move |operations| {
        let mut requests = Vec::with_capacity(operations);
        for _ in 0..operations {
            let client = ohttp::ClientRequest::from_encoded_config(&config)?;
            requests.push(client.encapsulate(&BODY)?.0);
        }
        let start = Instant::now();
        for request in &requests {
            let (request, response) = server.decapsulate(request)?;
            if request != BODY {
                return Err("another request came out".into());
            }
            black_box(response.encapsulate(&BODY)?);
        }
        Ok(start.elapsed())
    }))
}

#[derive(Serialize, Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: u64,
    ath: String,
    nonce: String,
}

/// Makes DPoP proofs (RFC 9449 section 4.2) for one access token.
struct DpopProver {
    key: EncodingKey,
    header: Header,
    thumbprint: String,
}

impl DpopProver {
    const METHOD: &str = "POST";
    const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    const NONCE: &str = "eyJ7S_zG.eyJH0-Z.HX4w-7v";

    fn new() -> Outcome<Self> {
        let der = SigningKey::generate(&SystemRandom)?.to_pkcs8_der()?;
        let key = EncodingKey::from_ec_der(&der);
        let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
        let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256)?;
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("dpop+jwt".to_owned());
        header.jwk = Some(jwk);
        Ok(Self {
            key,
            header,
            thumbprint,
        })
    }

    fn prove(&self) -> Outcome<String> {
        let mut jti = [0; 16];
        aws_lc_rs::rand::fill(&mut jti)?;
        let claims = Claims {
            jti: base64::encode(jti),
            htm: Self::METHOD.to_owned(),
            htu: TARGET.to_owned(),
            iat: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            ath: base64::encode(digest(&SHA256, Self::TOKEN.as_bytes())),
            nonce: Self::NONCE.to_owned(),
        };
        Ok(encode(&self.header, &claims, &self.key)?)
    }

    /// Fails unless a verifier, called with a proof, a method, a target and a token, can refuse.
    fn check(&self, mut verify: impl FnMut(&str, &str, &str, &str) -> Outcome) -> Outcome {
        let proof = self.prove()?;
        verify(&proof, Self::METHOD, TARGET, Self::TOKEN)?;
        let other = "https://bank.example/other";
        for (proof, method, target, token) in [
            (proof, Self::METHOD, TARGET, Self::TOKEN), // once more
            (self.prove()?, "GET", TARGET, Self::TOKEN),
            (self.prove()?, Self::METHOD, other, Self::TOKEN),
            (self.prove()?, Self::METHOD, TARGET, "another token"),
        ] {
            if verify(&proof, method, target, token).is_ok() {
                return Err("the DPoP verifier takes anything".into());
            }
        }
        Ok(())
    }

    /// Measures a verifier, called with a proof, a method, a target and a token.
    fn probe(
        self,
        id: &'static str,
        batch: usize,
        mut verify: impl FnMut(&str, &str, &str, &str) -> Outcome + 'static,
    ) -> Outcome<Probe> {
        self.check(&mut verify)?;
        Ok(Probe::new(id, batch, move |operations| {
            let proofs: Outcome<Vec<_>> = (0..operations).map(|_| self.prove()).collect();
            let proofs = proofs?;
            let start = Instant::now();
            for proof in &proofs {
                verify(proof, Self::METHOD, TARGET, Self::TOKEN)?;
            }
            Ok(start.elapsed())
        }))
    }
}

/// The crate `dpop-verifier`: RFC 9449 section 4.3 beside an access token that is taken for verified
/// already. Neither body nor query nor fields are bound by it.
pub(crate) fn dpop() -> Outcome<Probe> {
    let prover = DpopProver::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let verifier = dpop_verifier::DpopVerifier::new().with_nonce_mode(NonceMode::RequireEqual {
        expected_nonce: DpopProver::NONCE.to_owned(),
    });
    let mut seen = Seen(HashSet::new());
    let bound_to = prover.thumbprint.clone();
    prover.probe(
        "peer/dpop-verifier",
        4,
        move |proof, method, target, token| {
            let check = verifier.verify(&mut seen, proof, target, method, Some(token));
            if runtime.block_on(check)?.jkt == bound_to {
                Ok(())
            } else {
                Err("the proof is another key's".into())
            }
        },
    )
}

/// Where `dpop-verifier` remembers proofs.
struct Seen(HashSet<[u8; 32]>);

#[async_trait::async_trait]
impl ReplayStore for Seen {
    async fn insert_once(
        &mut self,
        proof: [u8; 32],
        _: ReplayContext<'_>,
    ) -> Result<bool, DpopError> {
        Ok(self.0.insert(proof))
    }
}

/// The same checks on `jsonwebtoken`, which verifies by aws-lc as Bulla does. Nobody offers this; it is
/// the least that a DPoP verifier in Rust can cost.
struct LeanDpop {
    validation: Validation,
    nonce: String,
    seen: HashSet<String>,
}

impl LeanDpop {
    fn new(nonce: String) -> Self {
        let mut validation = Validation::new(Algorithm::ES256);
        // A proof has neither; its time is `iat`.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self {
            validation,
            nonce,
            seen: HashSet::new(),
        }
    }

    /// `bound_to` is the access token's `cnf.jkt`.
    fn verify(
        &mut self,
        proof: &str,
        method: &str,
        target: &str,
        token: &str,
        bound_to: &str,
    ) -> Outcome {
        /// How far from now a proof may have been made, in seconds.
        const WINDOW: u64 = 60;

        let header = decode_header(proof)?;
        let jwk = header.jwk.ok_or("there is no key")?;
        if header.typ.as_deref() != Some("dpop+jwt") || holds_private_key(proof)? {
            return Err("not a proof".into());
        }
        let claims =
            decode::<Claims>(proof, &DecodingKey::from_jwk(&jwk)?, &self.validation)?.claims;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let ath = base64::encode(digest(&SHA256, token.as_bytes()));
        let is_good = claims.htm == method
            && without_query(&claims.htu) == without_query(target)
            && claims.nonce == self.nonce
            && claims.iat.abs_diff(now) <= WINDOW
            && claims.ath == ath
            && jwk.thumbprint(ThumbprintHash::SHA256)? == bound_to;
        if !is_good {
            return Err("the proof is for something else".into());
        }
        if !self.seen.insert(claims.jti) {
            return Err("the proof has been used before".into());
        }
        Ok(())
    }
}

/// The library's own type leaves out what it does not know.
fn holds_private_key(proof: &str) -> Outcome<bool> {
    #[derive(Deserialize)]
    struct Header {
        jwk: Key,
    }
    #[derive(Deserialize)]
    struct Key {
        d: Option<String>,
    }
    let header = proof.split('.').next().unwrap_or_default();
    let header = base64::decode(header).ok_or("the header is not base64url")?;
    Ok(serde_json::from_slice::<Header>(&header)?.jwk.d.is_some())
}

fn without_query(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or_default()
}

/// The lean verifier of DPoP proofs.
pub(crate) fn lean_dpop() -> Outcome<Probe> {
    let prover = DpopProver::new()?;
    let mut verifier = LeanDpop::new(DpopProver::NONCE.to_owned());
    let bound_to = prover.thumbprint.clone();
    prover.probe("peer/dpop-lean", 8, move |proof, method, target, token| {
        verifier.verify(proof, method, target, token, &bound_to)
    })
}

//! What others offer for a part of the work, called as their documentation says.
//!
//! Each is given what it has to be given, prepared as far as a server could keep it ready: keys are
//! parsed, configurations made, replay caches empty of anything else.

use std::collections::HashSet;
use std::fs;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dpop_verifier::{DpopError, NonceMode, ReplayContext, ReplayStore};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use httpsig_hyper::prelude::message_component::HttpMessageComponentId;
use httpsig_hyper::prelude::{AlgorithmName, HttpSignatureParams, PublicKey, SecretKey};
use httpsig_hyper::{ContentDigestType, MessageSignatureReq as _, RequestContentDigest as _};
use ohttp::hpke::{Aead, Kdf, Kem};

use super::dpop::{METHOD, Prover};
use crate::Outcome;
use crate::measure::Probe;
use crate::report::target;

const BODY: [u8; 1 << 10] = [b'x'; 1 << 10];
const TARGET: &str = "https://bank.example/api/transfer";
const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
const NONCE: &str = "eyJ7S_zG.eyJH0-Z.HX4w-7v";

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

/// The crate `dpop-verifier`: RFC 9449 section 4.3 beside an access token that is taken for verified
/// already. Neither body nor query nor fields are bound by it.
pub(crate) fn dpop() -> Outcome<Probe> {
    let prover = Prover::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let verifier = dpop_verifier::DpopVerifier::new().with_nonce_mode(NonceMode::RequireEqual {
        expected_nonce: NONCE.to_owned(),
    });
    let mut seen = Seen(HashSet::new());
    let bound_to = prover.thumbprint().to_string();
    let mut verify = move |proof: &str, method: &str, target: &str, token: &str| -> Outcome {
        let check = verifier.verify(&mut seen, proof, target, method, Some(token));
        if runtime.block_on(check)?.jkt == bound_to {
            Ok(())
        } else {
            Err("the proof is another key's".into())
        }
    };

    let proof = prover.prove(TARGET, TOKEN, NONCE)?;
    verify(&proof, METHOD, TARGET, TOKEN)?;
    let fresh = || prover.prove(TARGET, TOKEN, NONCE);
    for (proof, method, target, token) in [
        (proof, METHOD, TARGET, TOKEN), // once more
        (fresh()?, "GET", TARGET, TOKEN),
        (fresh()?, METHOD, "https://bank.example/other", TOKEN),
        (fresh()?, METHOD, TARGET, "another token"),
    ] {
        if verify(&proof, method, target, token).is_ok() {
            return Err("the DPoP verifier takes anything".into());
        }
    }
    Ok(Probe::new("peer/dpop-verifier", 4, move |operations| {
        let proofs = (0..operations).map(|_| prover.prove(TARGET, TOKEN, NONCE));
        let proofs = proofs.collect::<Outcome<Vec<_>>>()?;
        let start = Instant::now();
        for proof in &proofs {
            verify(proof, METHOD, TARGET, TOKEN)?;
        }
        Ok(start.elapsed())
    }))
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

/// The npm package `oauth4webapi`, under Node on the same core: proof and token, both ES256, without nonces and
/// without a look at what was used before.
pub(crate) fn oauth4webapi() -> Outcome<Probe> {
    const SCRIPT: &str = include_str!("oauth4webapi.mjs");
    let script = target()?.join("tools/clients/bench.mjs");
    fs::write(&script, SCRIPT)?;
    let mut node = Command::new("node")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut asked = node.stdin.take().ok_or("Node takes nothing in")?;
    let mut told = BufReader::new(node.stdout.take().ok_or("Node tells nothing")?).lines();
    // It goes when nobody can ask it any more.
    Ok(Probe::new("peer/oauth4webapi", 8, move |operations| {
        writeln!(asked, "{operations}")?;
        let nanoseconds = told.next().ok_or("Node has stopped")??;
        Ok(Duration::from_nanos(nanoseconds.parse()?))
    }))
}

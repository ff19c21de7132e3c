//! The resource server for clients of OAuth, whole: its tower service is called with requests that carry a proof and a
//! token of their own, both ES256, and a nonce.
//!
//! Store in memory, the system's clock, nobody listening to events. There are as many devices as sessions elsewhere.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;
use bulla_client::{SigningKey, SystemRandom};
use bulla_protocol::dpop::{Claims, to_sign, token_hash};
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::{base64, jws};
use bulla_server::dpop::{DpopService, NewToken, TokenIssuer, TokenVerifier};
use bulla_server::{Body, Confirmation, MemoryStore};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::runtime::Runtime;
use tower::{Layer as _, Service};

use super::server::{LONG_NONCE, SESSIONS, verifier};
use crate::Outcome;
use crate::measure::Probe;

pub(crate) const METHOD: &str = "POST";
const ISSUER: &str = "https://login.example";
const ORIGIN: &str = "https://bank.example";
const PATH: &str = "/api/transfer";
const TARGET: &str = "https://bank.example/api/transfer";

/// Makes DPoP proofs (RFC 9449 section 4.2).
pub(crate) struct Prover(SigningKey);

impl Prover {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self(SigningKey::generate(&SystemRandom)?))
    }

    pub(crate) fn thumbprint(&self) -> Thumbprint {
        self.0.thumbprint()
    }

    pub(crate) fn prove(&self, target: &str, token: &str, nonce: &str) -> Outcome<String> {
        let mut jti = [0; 16];
        rand::fill(&mut jti)?;
        let claims = Claims {
            jti: base64::encode(jti),
            htm: METHOD.to_owned(),
            htu: target.to_owned(),
            iat: now()?,
            ath: Some(token_hash(token)),
            nonce: Some(nonce.to_owned()),
        };
        let signed = to_sign(self.0.public(), &claims)?;
        Ok(jws::join(&signed, &self.0.sign(signed.as_bytes())?))
    }
}

fn now() -> Outcome<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// A resource server, and devices with a token each.
struct Target {
    runtime: Runtime,
    service: DpopService<Handler, TokenVerifier>,
    devices: Vec<(Prover, String)>,
    nonce: String,
}

impl Target {
    fn start() -> Outcome<Self> {
        let issuer = TokenIssuer::new(ISSUER, SigningKey::generate(&SystemRandom)?);
        let tokens = TokenVerifier::new(ISSUER, ORIGIN).key(issuer.public())?;
        let bulla = verifier(ORIGIN, LONG_NONCE, MemoryStore::new()?)?;
        let mut devices = Vec::with_capacity(SESSIONS);
        for number in 0..SESSIONS {
            let prover = Prover::new()?;
            let grant = NewToken {
                subject: format!("user {number}"),
                client_id: "app".to_owned(),
                audience: ORIGIN.to_owned(),
                scope: Some("transfer".to_owned()),
                confirmation: Confirmation {
                    jkt: prover.thumbprint(),
                },
                lifetime: LONG_NONCE,
                extra: (),
            };
            let minted = issuer.mint(grant, now()?, &SystemRandom)?;
            devices.push((prover, minted.token));
        }
        let mut target = Self {
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
            service: bulla.dpop(tokens).layer().layer(Handler),
            devices,
            nonce: String::new(),
        };
        let refused = target.call(target.request(0)?)?;
        let nonce = refused.headers().get("dpop-nonce");
        nonce
            .ok_or("no nonce")?
            .to_str()?
            .clone_into(&mut target.nonce);
        target.check()?;
        Ok(target)
    }

    fn request(&self, number: usize) -> Outcome<Request<Full<Bytes>>> {
        let (prover, token) = &self.devices[number % self.devices.len()];
        request(token, &prover.prove(TARGET, token, &self.nonce)?)
    }

    fn call(&self, request: Request<Full<Bytes>>) -> Outcome<Response<Body>> {
        let mut service = self.service.clone();
        Ok(self.runtime.block_on(service.call(request))?)
    }

    /// Fails unless it can refuse.
    fn check(&self) -> Outcome {
        let (prover, token) = &self.devices[0];
        let (thief, _) = &self.devices[1];
        let proof = prover.prove(TARGET, token, &self.nonce)?;
        for (proof, status) in [
            (proof.clone(), StatusCode::OK),
            (proof, StatusCode::UNAUTHORIZED), // once more
            (
                thief.prove(TARGET, token, &self.nonce)?,
                StatusCode::UNAUTHORIZED,
            ),
        ] {
            let answer = self.call(request(token, &proof)?)?;
            if answer.status() != status {
                return Err(format!("status {}, not {status}", answer.status()).into());
            }
        }
        Ok(())
    }
}

fn request(token: &str, proof: &str) -> Outcome<Request<Full<Bytes>>> {
    Ok(Request::post(PATH)
        .header("host", "bank.example")
        .header("authorization", format!("DPoP {token}"))
        .header("dpop", proof)
        .body(Full::default())?)
}

/// Proof and token verified, both ES256, through the layer.
pub(crate) fn dpop() -> Outcome<Probe> {
    let target = Rc::new(Target::start()?);
    let mut number = 0;
    Ok(Probe::new("server/dpop", 8, move |operations| {
        let mut requests = Vec::with_capacity(operations);
        for _ in 0..operations {
            number += 1;
            requests.push(target.request(number)?);
        }
        let mut service = target.service.clone();
        target.runtime.block_on(async {
            let start = Instant::now();
            for request in requests {
                let status = service.call(request).await?.status();
                if status != StatusCode::OK {
                    return Err(format!("status {status}").into());
                }
            }
            Ok(start.elapsed())
        })
    }))
}

/// Says that all is well.
#[derive(Clone)]
struct Handler;

impl Service<Request<Body>> for Handler {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(Full::default())))
    }
}

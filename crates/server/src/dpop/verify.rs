//! The checks of RFC 9449 section 4.3 and 7, cheapest first; nothing is remembered of a request that was refused.

use bulla_protocol::dpop::{self, Purpose, ReceivedProof};
use bulla_protocol::error::{Code, Error};
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::target::Target;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use sha2::{Digest, Sha256};

use super::access::Access;
use super::claims::MAX_TOKEN_LEN;
use super::token::{AccessToken, AccessTokens};
use super::{Dpop, Freshness};
use crate::bulla::{Bulla, whole};
use crate::clock::{MAX_SKEW, MAX_STEP_BACK};
use crate::event::{About, EventKind};
use crate::nonce::Nonces;
use crate::store::{SessionRef, StoreError, UsedProof, Verdict};
use crate::subject::Subject;
use crate::verify::accept;

impl<T: AccessTokens> Dpop<T> {
    /// Checks a request, whose body nothing is said about.
    pub(super) async fn verify(
        &self,
        request: &Request<()>,
        about: &mut About,
    ) -> Result<Access<T::Claims>, Error> {
        let bulla = &self.bulla;
        let origin = bulla.origin_of(request)?;
        let target = request.uri().path_and_query();
        let Target { path, .. } = Target::parse(target.map_or("", |target| target.as_str()))?;
        let token = token_of(request.headers())?;
        let proof = ReceivedProof::parse(proof_of(request.headers())?)?;
        let purpose = Purpose {
            method: request.method().as_str(),
            origin,
            path,
            token,
        };
        proof.check(&purpose)?;
        self.check_fresh(&proof).await?;
        // Before anybody else is asked about the token.
        bulla_keys::verify(&proof.key, proof.signed.as_bytes(), &proof.signature)
            .map_err(|_| Code::ProofMismatch.because("the DPoP proof's signature is wrong"))?;
        let token = self.tokens.check(token, bulla.now().into()).await?;
        about.session = Some(token.id);
        let subject = token.subject.as_deref();
        about.subject = subject.and_then(|subject| Subject::of_token(subject).ok());
        about.device = Some(proof.key.thumbprint());
        bulla.check_life(&token)?;
        if proof.key.thumbprint() != token.confirmation.jkt {
            bulla.report(EventKind::ForeignTicket, about);
            return Err(Code::ProofMismatch.because("the access token is bound to another key"));
        }
        let access = self.access(token)?;
        self.admit(&proof, &access).await?;
        Ok(access)
    }

    /// Checks time and nonce. Returns the memory of proofs in which this one is to be looked up.
    async fn check_fresh(&self, proof: &ReceivedProof<'_>) -> Result<[u8; 16], Error> {
        let bulla = &self.bulla;
        proof.check_time(bulla.now().into(), self.freshness.window())?;
        if let Freshness::Window(_) = self.freshness {
            return Ok(bulla.0.store.memory().proofs);
        }
        bulla.keep_ring().await?;
        let nonce = proof.claims.nonce.as_deref();
        let nonce = nonce.ok_or(Code::NonceStale.because("the DPoP proof carries no nonce"))?;
        if let Some(key) = Nonces::key_of(nonce) {
            bulla.know_key_named(key).await?;
        }
        let (now, memory) = (bulla.now().into(), bulla.0.store.memory().proofs);
        let checked = bulla.0.nonces.check(nonce, now, &bulla.0.ring, memory);
        checked.map(|()| memory)
    }

    fn access(&self, token: AccessToken<T::Claims>) -> Result<Access<T::Claims>, Error> {
        let subject = token.subject.as_deref().map(Subject::of_token);
        let subject = subject
            .transpose()
            .map_err(|_| Code::TicketInvalid.because("the access token has an empty subject"))?;
        // Of which it is not known when it was issued, it was before any revocation.
        let issued = whole(token.issued.unwrap_or(0));
        let session = SessionRef {
            session: token.id,
            device: token.confirmation.jkt,
            subject: subject.map(|subject| (subject, issued)),
            memory: self.bulla.0.store.memory().revocations,
        };
        Ok(Access::new(token, session, self.bulla.clone()))
    }

    /// Asks the store, as the last step, whether the proof is used for the first time and nothing has ended.
    async fn admit(
        &self,
        proof: &ReceivedProof<'_>,
        access: &Access<T::Claims>,
    ) -> Result<(), Error> {
        let bulla = &self.bulla;
        let session = access.session();
        bulla.0.guard.check_end(session.session, bulla.now())?;
        // Once more: whoever knows the tokens may have taken so long that the store has forgotten a copy of this proof.
        let memory = self.check_fresh(proof).await?;
        let now = u64::from(bulla.now());
        let until = match self.freshness {
            Freshness::Nonce => bulla.0.nonces.remember_until(now),
            Freshness::Window(_) => {
                let last = proof.claims.iat.saturating_add(self.freshness.window());
                // Rounded up: what is over goes together.
                last.saturating_add(MAX_STEP_BACK.into())
                    .next_multiple_of(30)
            }
        };
        let used = UsedProof {
            proof: replay_key(&access.device(), &proof.claims.jti),
            memory,
            until,
            now,
            // Its issuer answers for it.
            confirmed: true,
            session: session.clone(),
        };
        match bulla.0.store.check_and_insert(used).await {
            // It began anew just now. Of a nonce the client knows nothing: it is not told to get one.
            Ok(Verdict::Stale) if self.freshness != Freshness::Nonce => accept(Err(StoreError)),
            verdict => accept(verdict),
        }?;
        bulla.let_in(&session, whole(now))
    }
}

impl Bulla {
    /// A token that lives for longer than what has ended is remembered would come back to life.
    fn check_life<C>(&self, token: &AccessToken<C>) -> Result<(), Error> {
        if let (Some(issued), Some(expires)) = (token.issued, token.expires)
            && expires.saturating_sub(issued).saturating_add(MAX_SKEW) > self.remembers_for()
        {
            return Err(Code::TicketInvalid.because("the access token lives longer than a session"));
        }
        Ok(())
    }
}

/// The token of RFC 9449 section 7.1. One that is presented as a bearer's is refused, whatever it is bound to
/// (section 7.2).
fn token_of(headers: &HeaderMap) -> Result<&str, Error> {
    const MISSING: Error = Code::ProofMissing.because("the request carries no access token");
    let line = only(headers, AUTHORIZATION)
        .map_err(|_| Code::TicketInvalid.because("there is more than one authorization"))?;
    let (scheme, token) = line.and_then(|line| line.split_once(' ')).ok_or(MISSING)?;
    if scheme.eq_ignore_ascii_case("Bearer") {
        return Err(
            Code::TicketInvalid.because("the access token came without a proof, as a bearer's")
        );
    }
    if !scheme.eq_ignore_ascii_case(dpop::SCHEME) {
        return Err(MISSING);
    }
    let token = token.trim_start_matches(' ');
    // token68, RFC 9110 section 11.2.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || token.len() > MAX_TOKEN_LEN || !token.bytes().all(is_token) {
        return Err(Code::TicketInvalid.because("the access token is not one, or too long"));
    }
    Ok(token)
}

/// The only proof.
fn proof_of(headers: &HeaderMap) -> Result<&str, Error> {
    const NOT_ONE: Error = Code::ProofMismatch.because("there is not exactly one DPoP proof");
    only(headers, HeaderName::from_static(dpop::FIELD))
        .map_err(|_| NOT_ONE)?
        .ok_or(NOT_ONE)
}

/// A field's only line, if it has any.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Error> {
    let lines = headers.get_all(name).into_iter();
    bulla_protocol::field::single(lines.map(HeaderValue::as_bytes))
}

/// Names a proof: the key and its `jti`, which may be any text. No proof of a session has this name: what is hashed
/// for those begins with a thumbprint.
fn replay_key(device: &Thumbprint, jti: &str) -> [u8; 16] {
    let hash = Sha256::new()
        .chain_update(b"bulla dpop proof")
        .chain_update(device.0)
        .chain_update(jti)
        .finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    key
}

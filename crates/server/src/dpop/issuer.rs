//! Minting access tokens.

use std::fmt;
use std::time::Duration;

use bulla_keys::{Random, SigningKey};
use bulla_protocol::base64;
use bulla_protocol::jwk::PublicKey;
use bulla_protocol::jws::{self, ALG, Compact};
use serde::Serialize;

use super::claims::{Audience, MAX_TOKEN_LEN, TYP, TokenClaims};
use crate::confirmation::Confirmation;
use crate::ticket::RevocationId;

/// What a token is to say, beside what its issuer puts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken<E = ()> {
    /// Whom it speaks for: the application's user id, not empty.
    pub subject: String,
    /// The client that it is issued to.
    pub client_id: String,
    /// The server that it is meant for.
    pub audience: String,
    /// What it is good for, words with a space between them.
    pub scope: Option<String>,
    /// The key that it is bound to: at an endpoint for tokens that of the client's DPoP proof, in a session
    /// [`Session::confirmation`](crate::Session::confirmation).
    pub confirmation: Confirmation,
    /// How long it is good, in whole seconds. [`Dpop`](super::Dpop) takes none that is good for longer than
    /// [`Lifetimes::session`](crate::Lifetimes::session).
    pub lifetime: Duration,
    /// The application's own claims: an object, no member of which is one of [`TokenClaims`].
    pub extra: E,
}

/// A token that was made.
#[derive(Clone, PartialEq, Eq)]
pub struct Minted {
    /// The token, for the client alone.
    pub token: String,
    /// By what it is revoked.
    pub id: RevocationId,
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
    kid: &'a str,
}

/// Mints access tokens, by ES256.
pub struct TokenIssuer {
    issuer: String,
    pub(super) key: SigningKey,
    pub(super) kid: String,
}

impl TokenIssuer {
    /// `issuer` is who they say has issued them: a URL, by RFC 8414. The key's `kid` is its RFC 7638 thumbprint.
    pub fn new(issuer: impl Into<String>, key: SigningKey) -> Self {
        Self {
            issuer: issuer.into(),
            kid: key.thumbprint().to_string(),
            key,
        }
    }

    /// The key that a [`TokenVerifier`](super::TokenVerifier) is to know.
    pub fn public(&self) -> &PublicKey {
        self.key.public()
    }

    /// Mints a token. `now` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`MintError`].
    pub fn mint<E: Serialize>(
        &self,
        token: NewToken<E>,
        now: u64,
        random: &dyn Random,
    ) -> Result<Minted, MintError> {
        if token.subject.is_empty() {
            return Err(MintError);
        }
        let mut jti = [0; 16];
        random.fill(&mut jti).map_err(|_| MintError)?;
        let claims = TokenClaims {
            iss: self.issuer.clone(),
            sub: token.subject,
            aud: Audience::One(token.audience),
            client_id: token.client_id,
            exp: now.saturating_add(token.lifetime.as_secs()),
            iat: now,
            jti: base64::encode(jti),
            scope: token.scope,
            cnf: token.confirmation,
            extra: token.extra,
        };
        let header = Header {
            typ: TYP,
            alg: ALG,
            kid: &self.kid,
        };
        let signed = jws::to_sign(&header, &claims).map_err(|_| MintError)?;
        let signature = self.key.sign(signed.as_bytes()).map_err(|_| MintError)?;
        let token = jws::join(&signed, &signature);
        // Two members of one name are nobody's token, nor is one that no server would read.
        let jws = Compact::parse(&token, TYP).map_err(|_| MintError)?;
        let read: TokenClaims = jws.payload().map_err(|_| MintError)?;
        // Nor one that says what was not granted.
        if token.len() > MAX_TOKEN_LEN || read.scope != claims.scope {
            return Err(MintError);
        }
        Ok(Minted {
            id: RevocationId::of_token(&claims.iss, &claims.jti),
            token,
        })
    }
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer")
            .field("issuer", &self.issuer)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// A token could not be made: its subject is empty, its own claims cannot be written or are beyond 8192 bytes or
/// named as one of [`TokenClaims`], or the system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access token could not be made")]
pub struct MintError;

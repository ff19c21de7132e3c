//! Routes for standard clients of OAuth: access tokens that are bound to a key, each request with a proof of it (DPoP,
//! RFC 9449).
//!
//! Beside the sealed sessions, not in them: a client knows nothing of Bulla, and its proof binds neither body nor
//! query nor fields. [`Dpop`] is put before routes of its own.
//!
//! ```
//! # fn tokens(issuer: &bulla_server::dpop::PublicKey) -> Result<(), Box<dyn std::error::Error>> {
//! use bulla_server::dpop::TokenVerifier;
//!
//! let tokens: TokenVerifier = TokenVerifier::new("https://login.example", "https://bank.example").key(issuer)?;
//! # Ok(()) }
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::bulla::Bulla;

mod access;
mod claims;
mod issuer;
mod layer;
mod token;
mod verifier;
mod verify;

pub use self::access::Access;
pub use self::claims::{Audience, TokenClaims};
pub use self::issuer::{MintError, Minted, NewToken, TokenIssuer};
pub use self::layer::{DpopLayer, DpopService};
pub use self::token::{AccessToken, AccessTokens, TokenError};
pub use self::verifier::TokenVerifier;
pub use bulla_keys::{KeyError, SigningKey};
pub use bulla_protocol::jwk::PublicKey;

/// By what a proof is known to be fresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// Every proof carries a nonce of this server's. A client that has none yet, or an old one, is handed one with the
    /// refusal `use_dpop_nonce`, and repeats its request, as clients do by themselves. So a proof that was made ahead
    /// of time lives no longer than two lives of a nonce, and none outlives the store's memory. The client's clock may
    /// be wrong by five minutes.
    ///
    /// There is no middle way, by which a proof is taken without a nonce until its key was handed one: a thief who
    /// holds proofs that were made ahead of time is refused by it only where the server remembers all keys for ever.
    #[default]
    Nonce,
    /// For clients that cannot do that. A proof's `iat` is no further from now than this, either way, in whole seconds,
    /// an hour at most (what is longer is taken for an hour), and the client's clock must be right. No nonces are handed out. A proof that somebody has seen can be used
    /// once more within that time if the store loses its memory, and so can one that was made ahead of time.
    Window(Duration),
}

impl Freshness {
    /// How far from now a proof with a nonce may have been made by its client's clock, in seconds.
    const WITH_NONCE: u64 = 300;

    /// The longest window, in seconds: as long, twice over, each proof is remembered.
    const LONGEST: u64 = 3600;

    /// How far from now a proof may have been made, in seconds.
    fn window(self) -> u64 {
        match self {
            Self::Nonce => Self::WITH_NONCE,
            Self::Window(window) => window.as_secs().min(Self::LONGEST),
        }
    }
}

/// Takes access tokens with a proof of the key that they are bound to. Made by [`Bulla::dpop`]; cheap to clone.
pub struct Dpop<T> {
    bulla: Bulla,
    tokens: Arc<T>,
    freshness: Freshness,
}

impl Bulla {
    /// A resource server (RFC 9449 section 7) beside the sealed sessions, with the same origins, store, nonces and
    /// events. It goes by these tokens.
    pub fn dpop<T: AccessTokens>(&self, tokens: T) -> Dpop<T> {
        Dpop {
            bulla: self.clone(),
            tokens: Arc::new(tokens),
            freshness: Freshness::default(),
        }
    }
}

impl<T: AccessTokens> Dpop<T> {
    /// Sets by what a proof is known to be fresh. Default: [`Freshness::Nonce`].
    #[must_use]
    pub fn freshness(self, freshness: Freshness) -> Self {
        Self { freshness, ..self }
    }

    /// The layer that verifies every request before the inner service sees it, with an [`Access`] in its extensions.
    pub fn layer(&self) -> DpopLayer<T> {
        DpopLayer::new(self.clone())
    }
}

impl<T> Clone for Dpop<T> {
    fn clone(&self) -> Self {
        Self {
            bulla: self.bulla.clone(),
            tokens: Arc::clone(&self.tokens),
            freshness: self.freshness,
        }
    }
}

impl<T> fmt::Debug for Dpop<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dpop")
            .field("bulla", &self.bulla)
            .field("freshness", &self.freshness)
            .finish_non_exhaustive()
    }
}

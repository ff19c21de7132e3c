//! Access tokens, whoever has issued them.

use std::future::Future;

use bulla_protocol::base64;
use bulla_protocol::error::{Code, Error};
use sha2::{Digest, Sha256};

use crate::confirmation::Confirmation;
use crate::subject::Subject;
use crate::ticket::RevocationId;

/// Tells genuine access tokens from others: [`TokenVerifier`](super::TokenVerifier) for those that a
/// [`TokenIssuer`](super::TokenIssuer) mints, the application with a library of its own for any other, signed or
/// looked up (RFC 7662).
pub trait AccessTokens: Send + Sync + 'static {
    /// What the application wants to know of a token.
    type Claims: Send + Sync + 'static;

    /// Says what a token is worth. The key that it is bound to is all that [`Dpop`](super::Dpop) checks of it: that it
    /// is genuine, meant for this server and not expired is to be checked here. `now` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`TokenError`]: by it the client is told whether another token would help.
    fn check(
        &self,
        token: &str,
        now: u64,
    ) -> impl Future<Output = Result<AccessToken<Self::Claims>, TokenError>> + Send;
}

/// A genuine access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken<C> {
    /// By what it is revoked. [`RevocationId::of_token`] makes one.
    pub id: RevocationId,
    /// The key that it is bound to. A token that is bound to none is a [`TokenError::Unbound`].
    pub confirmation: Confirmation,
    /// Whom it speaks for, if anybody.
    pub subject: Option<String>,
    /// When it was issued, in seconds since 1970. Where that is not known, each revocation of its subject ends it.
    pub issued: Option<u64>,
    /// When it expires, in seconds since 1970; open streams end then. Where that is not known, nobody can see to it
    /// that a revocation is remembered for as long.
    pub expires: Option<u64>,
    /// What else it says.
    pub claims: C,
}

/// An access token is worth nothing here, or that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is no token of the kind that is taken, or lacks a claim.
    #[error("the access token is not of the kind that is taken here")]
    Malformed,
    /// Its signature does not hold, or is by a key that is not known.
    #[error("the access token was not signed by a key that is known here")]
    Signature,
    /// Another one has issued it.
    #[error("the access token is of another issuer")]
    Issuer,
    /// It is meant for another server.
    #[error("the access token is for another audience")]
    Audience,
    /// It is bound to no key.
    #[error("the access token is bound to no key")]
    Unbound,
    /// It was issued in the future.
    #[error("the access token is not valid yet")]
    NotYet,
    /// Its time is over.
    #[error("the access token has expired")]
    Expired,
    /// Its issuer says that it is not valid any more.
    #[error("the access token is not active any more")]
    Inactive,
    /// Whoever would know cannot be asked.
    #[error("the access token cannot be checked now")]
    Unavailable,
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Malformed => {
                Code::TicketInvalid.because("the access token is not of the kind that is taken")
            }
            TokenError::Signature => {
                Code::TicketInvalid.because("the access token is not signed by a known key")
            }
            TokenError::Issuer => {
                Code::TicketInvalid.because("the access token is of another issuer")
            }
            TokenError::Audience => {
                Code::TicketInvalid.because("the access token is for another audience")
            }
            TokenError::Unbound => {
                Code::TicketInvalid.because("the access token is bound to no key")
            }
            TokenError::NotYet => Code::TicketInvalid.because("the access token is not valid yet"),
            TokenError::Expired => Code::TicketExpired.because("the access token has expired"),
            TokenError::Inactive => {
                Code::SessionRevoked.because("the access token is not active any more")
            }
            TokenError::Unavailable => {
                Code::StoreUnavailable.because("the access token cannot be checked now")
            }
        }
    }
}

impl RevocationId {
    /// The name of an access token: of a JWT by its `iss` and `jti`; of any other by its issuer and its text. Not of
    /// a JWT by its text: an ES256 signature can be changed into another one that holds as well.
    pub fn of_token(issuer: &str, id: &str) -> Self {
        let hash = Sha256::new()
            .chain_update(b"bulla access token")
            .chain_update(issuer.len().to_be_bytes())
            .chain_update(issuer)
            .chain_update(id)
            .finalize();
        let mut short = [0; Self::LEN];
        short.copy_from_slice(&hash[..Self::LEN]);
        Self(short)
    }
}

impl Subject {
    /// The subject of an access token, for a [`Revocation`](crate::Revocation). One of up to 48 bytes is the user of
    /// that name in a session, too. A longer one is named by `#` and its SHA-256 hash in base64url.
    ///
    /// # Errors
    ///
    /// [`Code::Malformed`] if it is empty.
    pub fn of_token(sub: &str) -> Result<Self, Error> {
        if sub.len() <= Self::MAX_LEN {
            return sub.parse();
        }
        format!("#{}", base64::encode(Sha256::digest(sub))).parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_subjects_have_names_of_their_own() {
        let name = RevocationId::of_token;
        assert_eq!(name("a", "b"), name("a", "b"));
        assert_ne!(name("a", "bc"), name("ab", "c"));
        assert_ne!(name("a", "b"), name("a", "c"));

        let (longest, longer) = ("x".repeat(48), "x".repeat(49));
        assert_eq!(Subject::of_token(&longest).unwrap().as_str(), longest);
        let hashed = Subject::of_token(&longer).unwrap();
        assert_eq!((hashed.as_str().len(), &hashed.as_str()[..1]), (44, "#"));
        assert_ne!(Subject::of_token(&"y".repeat(49)), Ok(hashed));
        assert_eq!(Subject::of_token("").unwrap_err().code, Code::Malformed);
    }
}

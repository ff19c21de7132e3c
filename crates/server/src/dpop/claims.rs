//! What access tokens of ours say: JWTs (RFC 9068) that are bound to a device key (RFC 9449 section 6.1).

use bulla_protocol::jws;
use serde::{Deserialize, Serialize};

use crate::confirmation::Confirmation;

/// The `typ` of an access token (RFC 9068 section 2.1).
pub(super) const TYP: &str = "at+jwt";

/// The longest token that is looked at, in bytes.
pub(super) const MAX_TOKEN_LEN: usize = 8192;

/// What an access token says (RFC 9068 section 2.2), with the application's own claims beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenClaims<E = ()> {
    /// Who has issued it.
    pub iss: String,
    /// Whom it speaks for.
    pub sub: String,
    /// The servers that it is meant for.
    pub aud: Audience,
    /// The client that it was issued to.
    pub client_id: String,
    /// When it expires, in seconds since 1970.
    #[serde(deserialize_with = "jws::seconds")]
    pub exp: u64,
    /// When it was issued, in seconds since 1970.
    #[serde(deserialize_with = "jws::seconds")]
    pub iat: u64,
    /// Names it among those of its issuer.
    pub jti: String,
    /// What it is good for, words with a space between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The key that it is bound to.
    pub cnf: Confirmation,
    /// The application's own claims.
    #[serde(flatten)]
    pub extra: E,
}

/// The value of `aud`: one text or several (RFC 7519 section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One server.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Audience {
    /// Whether this server is among them.
    pub fn has(&self, server: &str) -> bool {
        match self {
            Self::One(one) => one == server,
            Self::Several(all) => all.iter().any(|one| one == server),
        }
    }
}

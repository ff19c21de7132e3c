//! Refusals: one stable code each, and what the caller can do about it.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::json;

/// A refusal: a stable [`Code`] and a fixed sentence for people.
///
/// The sentence never holds anything from the message, so it can be logged and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What programs go by.
    pub code: Code,
    /// What people read. Not stable.
    pub detail: &'static str,
    /// After how many seconds it is worth trying again; 0 where nothing is known of that.
    pub retry_after: u32,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl core::error::Error for Error {}

impl Error {
    /// The same, with the time after which it is worth trying again, in seconds.
    #[must_use]
    pub const fn after(self, seconds: u32) -> Self {
        Self {
            retry_after: seconds,
            ..self
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $text:literal $status:literal $sentence:literal,)+) => {
        /// The stable codes of all refusals, as they stand in Problem Details, in
        /// `WWW-Authenticate` and in the client's typed error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $variant,)+
        }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code as it is written on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The HTTP status that a server sends with it; 0 for a code that only the client uses.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// What it means, for people. Not stable.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)+ }
            }
        }
    };
}

codes! {
    /// The message could not be parsed. Sending it again will not help.
    Malformed "malformed" 400 "The message could not be parsed",
    /// The message came more slowly than the server waits for it. Nothing was done.
    TooSlow "too_slow" 408 "The message is too slow",
    /// The message, or a part of it, is larger than the server takes.
    TooLarge "too_large" 413 "The message is too large",
    /// The opening asks for a version that the server does not speak.
    VersionUnsupported "version_unsupported" 400 "The protocol version is not supported",
    /// The authority is not one of the server's public origins, or the inner one is not the outer one.
    AuthorityMismatch "authority_mismatch" 421 "The server is not set up for this origin",
    /// The path could be read in two ways: dot segments, encoded slashes, or not the outer path.
    PathRefused "path_refused" 400 "The path is ambiguous",
    /// A field that must not be here, or that stands here more than once.
    FieldRefused "field_refused" 400 "A header field is not allowed",
    /// The request's seal does not hold: changed, cut, reordered or sealed with other keys.
    SealBroken "seal_broken" 400 "The seal is broken",
    /// The body is not the one that was signed.
    DigestMismatch "digest_mismatch" 400 "The content does not match its digest",
    /// The route wants the request sealed.
    SealRequired "seal_required" 403 "This resource wants a sealed request",
    /// The client expects another server identity.
    IdentityMismatch "identity_mismatch" 409 "The server has another identity",
    /// The ticket was not sealed by this server, or for another origin. Open anew.
    TicketInvalid "ticket_invalid" 401 "The ticket is not valid here",
    /// The ticket is past its life. Open anew.
    TicketExpired "ticket_expired" 401 "The ticket has expired",
    /// There is no proof of possession.
    ProofMissing "proof_missing" 401 "Proof of possession is missing",
    /// The proof does not fit the request, the ticket or the key.
    ProofMismatch "proof_mismatch" 401 "Proof of possession does not match",
    /// A session proof where a device proof is due.
    ProofWeak "proof_weak" 401 "A device proof is required",
    /// The proof leaves out something that it must cover.
    CoverageMissing "coverage_missing" 401 "The proof does not cover the request",
    /// The server nonce is not a current one. Retry once with the one that comes with this answer.
    NonceStale "nonce_stale" 401 "The nonce is stale",
    /// The proof has been used before.
    Replayed "replayed" 401 "The request has been seen before",
    /// The session has not been confirmed by a device proof yet.
    SessionUnconfirmed "session_unconfirmed" 401 "The session is not confirmed yet",
    /// The session has been ended. Another one may be in storage; else open anew.
    SessionRevoked "session_revoked" 401 "The session has ended",
    /// The route wants a logged-in session.
    LoginRequired "login_required" 401 "Login is required",
    /// The route wants a login that is not so long ago, or one that says more surely who it is (RFC 9470 section 3).
    InsufficientUserAuthentication "insufficient_user_authentication" 401 "A more recent or a stronger login is required",
    /// The user has as many sessions as there may be at once. One has to end first.
    SessionLimit "session_limit" 409 "There are too many sessions",
    /// There are too many openings. Show some work ([`work`](crate::work)), or try again later.
    WorkRequired "work_required" 429 "Opening a session takes some work now",
    /// Too many requests; try again after `Retry-After`.
    RateLimited "rate_limited" 429 "Too many requests",
    /// The server cannot check replays or revocations right now; nothing was done.
    StoreUnavailable "store_unavailable" 503 "The session store is unavailable",
    /// The server failed at something of its own. Whether anything was done is not known.
    Internal "internal" 500 "The server failed",

    /// The server's identity is not the pinned one.
    IdentityChanged "identity_changed" 0 "The server's identity is not the expected one",
    /// The reply is not what the protocol wants here.
    ReplyInvalid "reply_invalid" 0 "The reply is not valid",
    /// A sealed request was answered in plain text.
    ReplyUnsealed "reply_unsealed" 0 "The reply to a sealed request is not sealed",
    /// The reply answers another request.
    ReplyMismatch "reply_mismatch" 0 "The reply belongs to another request",
    /// The reply's seal does not hold: changed, reordered or sealed with other keys.
    ReplyBroken "reply_broken" 0 "The seal of the reply is broken",
    /// The reply ends before its final record.
    ReplyTruncated "reply_truncated" 0 "The reply was cut off",
    /// The server could not be reached.
    Network "network" 0 "The server could not be reached",
    /// The request cannot be sent through a session: its URL, its method or its body.
    RequestInvalid "request_invalid" 0 "The request cannot be sent through a session",
    /// The session has been ended or forgotten by this client.
    SessionClosed "session_closed" 0 "The session is closed",
    /// What the client runs on lacks something: WebCrypto, Wasm or a secure context.
    Unsupported "unsupported" 0 "The platform lacks something that is needed",
}

impl Code {
    /// The error with this code.
    pub const fn because(self, detail: &'static str) -> Error {
        Error {
            code: self,
            detail,
            retry_after: 0,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not one of the stable codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode;

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or(UnknownCode)
    }
}

/// A refusal on the wire: Problem Details, RFC 9457, with the extension member `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Always `about:blank`: the code says it all (RFC 9457 section 4.2.1).
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The status phrase, as that section wants it.
    pub title: &'static str,
    /// The HTTP status, repeated.
    pub status: u16,
    /// For people; what in particular was wrong.
    pub detail: &'static str,
    /// The stable code.
    pub code: &'static str,
}

impl Problem {
    /// The media type, RFC 9457 section 3.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// Reads a refusal. `None` if this is not one of ours.
    pub fn parse(body: &[u8]) -> Option<Code> {
        json::read::<CodeOnly>(body)?.code.parse().ok()
    }

    /// The JSON text.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(256);
        // Strings and a number: this cannot fail.
        let _ = serde_json::to_writer(&mut json, self);
        json
    }
}

/// What RFC 9110 section 15 and RFC 6585 section 4 call a status.
const fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self {
            kind: "about:blank",
            title: phrase(error.code.status()),
            status: error.code.status(),
            detail: error.detail,
            code: error.code.as_str(),
        }
    }
}

#[derive(Deserialize)]
struct CodeOnly {
    code: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_are_distinct() {
        for (at, code) in Code::ALL.iter().enumerate() {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!(
                Code::ALL[..at]
                    .iter()
                    .all(|other| other.as_str() != code.as_str())
            );
        }
        assert_eq!("nonsense".parse::<Code>(), Err(UnknownCode));
    }

    #[test]
    fn problems_round_trip() {
        let error = Code::NonceStale.because("not current");
        let json = Problem::from(error).to_json();
        assert_eq!(Problem::parse(&json), Some(Code::NonceStale));
        assert_eq!(Problem::parse(b"{}"), None);
        assert_eq!(Problem::parse(br#"{"code":"???"}"#), None);
    }
}

//! What the verifier makes of its own refusals.

use bulla_protocol::error::Code;

/// Whether the client goes on by itself after this, so that nothing is gained by letting the request pass where a path
/// is only monitored.
pub(crate) fn client_goes_on(code: Code) -> bool {
    matches!(
        code,
        Code::NonceStale
            | Code::TicketExpired
            | Code::TicketInvalid
            | Code::SessionRevoked
            | Code::SessionUnconfirmed
            | Code::ProofWeak
    )
}

/// Whether this is said to clients that have done nothing wrong, and go on from it: they are heard out, so that they see
/// the answer.
pub(crate) fn is_for_honest(code: Code) -> bool {
    matches!(
        code,
        Code::TooLarge
            | Code::SealRequired
            | Code::TicketExpired
            | Code::ProofWeak
            | Code::NonceStale
            | Code::SessionUnconfirmed
            | Code::SessionRevoked
            | Code::LoginRequired
            | Code::InsufficientUserAuthentication
            | Code::SessionLimit
            | Code::RateLimited
            | Code::StoreUnavailable
    )
}

/// Whether no honest client ever brings this about: such refusals add up.
pub(crate) fn is_never_honest(code: Code) -> bool {
    matches!(
        code,
        Code::Malformed
            | Code::AuthorityMismatch
            | Code::PathRefused
            | Code::FieldRefused
            | Code::SealBroken
            | Code::DigestMismatch
            | Code::ProofMismatch
            | Code::CoverageMissing
            | Code::Replayed
    )
}

/// Whether the answer says when it is worth trying again.
pub(crate) fn has_a_time(code: Code) -> bool {
    matches!(
        code,
        Code::RateLimited | Code::WorkRequired | Code::StoreUnavailable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Honest clients meet these, and so do others: nothing can be told by them.
    const EITHER: [Code; 7] = [
        Code::TooSlow,
        Code::VersionUnsupported,
        Code::IdentityMismatch,
        Code::TicketInvalid,
        Code::ProofMissing,
        Code::WorkRequired,
        Code::Internal,
    ];

    #[test]
    fn somebody_has_thought_of_every_code() {
        for &code in Code::ALL {
            let classes = [
                is_for_honest(code),
                is_never_honest(code),
                EITHER.contains(&code),
                // Clients' own.
                code.status() == 0,
            ];
            let classes = classes.into_iter().filter(|is_one| *is_one);
            assert_eq!(classes.count(), 1, "{code}");
            assert!(!client_goes_on(code) || code.status() == 401, "{code}");
            let wants_a_time = [429, 503].contains(&code.status());
            assert_eq!(has_a_time(code), wants_a_time, "{code}");
        }
    }
}

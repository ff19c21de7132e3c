//! What a client does about a refusal, and how it proves what it sends next. An error from the path can
//! make it retry, reopen or prove more, never fall back to plain text or to less proof.

use core::time::Duration;

use crate::error::Code;
use crate::proof::ProofKind;

/// How far one `fetch` has come.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The proof that was sent last.
    pub proof: ProofKind,
    /// What is sent.
    pub request: Kind,
    /// It has been sent again with a new nonce already.
    pub retried: bool,
    /// Another session has been taken for it already.
    pub reopened: bool,
    /// Since it was first sent: by a monotonic clock or by the wall clock, whichever says more. The first may stand
    /// still while the device sleeps, the second may be set back.
    pub elapsed: Duration,
    /// How long the server takes a nonce.
    pub nonce_life: Duration,
}

/// What may be done with a request whose session is there no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its method is safe (RFC 9110 section 9.2.1): another session may send it once more.
    Safe,
    /// It may have been carried out: no other session sends it.
    Unsafe,
    /// It is to end its session: no other one is taken for it.
    End,
}

impl Kind {
    /// By whether its method is safe, and whether it is to end its session.
    pub const fn new(safe: bool, ends: bool) -> Self {
        match (safe, ends) {
            (_, true) => Self::End,
            (true, false) => Self::Safe,
            (false, false) => Self::Unsafe,
        }
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send it again with the new server nonce and the same random part.
    Retry,
    /// Send it again with a device proof and the same random part. This and the next two also make the
    /// device key prove whatever comes later in the session.
    Prove,
    /// Send it again with a device proof and a random part drawn anew: the server has remembered this
    /// one before the route asked for more. Only a sealed refusal says for sure that nothing was done.
    ProveAnew,
    /// Hand the error to the application: whether the refusal is the server's own is not known. If it is
    /// not, more proof than the server wants does no harm.
    ProveAndFail,
    /// Take another session, from storage or opened anew, and send it again.
    Reopen,
    /// Take another session for what comes later, but hand the error to the application: whether the
    /// request was carried out is not known, and it is not safe to repeat. [`outranks`] says when the
    /// application is told what became of the other session instead.
    ReopenAndFail,
    /// Nothing is left to do: the session that was to end has ended before.
    Ended,
    /// Hand the error to the application.
    Fail,
}

impl Attempt {
    /// Decides, and remembers what may be done once only. `sealed` says that the refusal came sealed: it
    /// is the server's own, and for this very request.
    pub fn after(&mut self, refusal: Code, sealed: bool) -> Next {
        let next = self.decide(refusal, sealed);
        self.retried |= next == Next::Retry;
        self.reopened |= next == Next::Reopen;
        next
    }

    fn decide(&self, refusal: Code, sealed: bool) -> Next {
        match refusal {
            // After one nonce life the server may have forgotten the random part.
            Code::NonceStale if !self.retried && self.elapsed < self.nonce_life => Next::Retry,
            // The verifier asks for this before it remembers anything. In the open it may be anybody who asks,
            // when the server has forgotten the random part.
            Code::SessionUnconfirmed if self.proof == ProofKind::Session => {
                if sealed || self.elapsed < self.nonce_life {
                    Next::Prove
                } else {
                    Next::ProveAndFail
                }
            }
            Code::ProofWeak if self.proof == ProofKind::Session && sealed => Next::ProveAnew,
            Code::ProofWeak if self.proof == ProofKind::Session => Next::ProveAndFail,
            over if is_over(over) && !self.reopened => match self.request {
                Kind::Safe => Next::Reopen,
                Kind::Unsafe => Next::ReopenAndFail,
                // In the open anybody on the path may have said so.
                Kind::End if sealed => Next::Ended,
                Kind::End => Next::Fail,
            },
            _ => Next::Fail,
        }
    }
}

/// What decides how a session's next request is proved.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The weakest proof that the server takes by default.
    pub proof: ProofKind,
    /// A device proof has been seen by the server: it has handed out a further ticket.
    pub confirmed: bool,
    /// A session proof has been refused.
    pub wants_device: bool,
    /// How long ago the ticket came.
    pub ticket_age: Duration,
    /// How long the server takes a ticket.
    pub ticket_life: Duration,
}

impl Standing {
    /// The proof of the next request: the server's default, unless it would be refused or something has
    /// to be earned by a device proof.
    pub fn next_proof(&self) -> ProofKind {
        if self.confirmed
            && !self.wants_device
            && !is_renewal_due(self.ticket_age, self.ticket_life)
        {
            self.proof
        } else {
            ProofKind::Device
        }
    }
}

/// Whether a ticket of this age is to be replaced by the next one, which only the reply to a device
/// proof carries: for half of its life it is not.
pub fn is_renewal_due(age: Duration, life: Duration) -> bool {
    age > life / 2
}

/// Whether the application is told this, which came of taking another session, in the place of the refusal
/// that made it necessary: that the server is another one outweighs whatever it refuses.
pub const fn outranks(reopening: Code) -> bool {
    matches!(reopening, Code::IdentityChanged)
}

/// Whether a refusal says that the session is there no more: another one is to be taken.
pub const fn is_over(refusal: Code) -> bool {
    matches!(
        refusal,
        Code::TicketInvalid | Code::TicketExpired | Code::SessionRevoked
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Attempt = Attempt {
        proof: ProofKind::Device,
        request: Kind::Unsafe,
        retried: false,
        reopened: false,
        elapsed: Duration::from_secs(1),
        nonce_life: Duration::from_mins(1),
    };

    #[test]
    fn retries_once_and_within_one_nonce_life() {
        let mut attempt = FRESH;
        assert_eq!(attempt.after(Code::NonceStale, false), Next::Retry);
        assert_eq!(attempt.after(Code::NonceStale, false), Next::Fail);
        let mut late = Attempt {
            elapsed: Duration::from_mins(1),
            ..FRESH
        };
        assert_eq!(late.after(Code::NonceStale, false), Next::Fail);
    }

    #[test]
    fn never_repeats_an_unsafe_method_after_reopening() {
        for code in [
            Code::TicketExpired,
            Code::TicketInvalid,
            Code::SessionRevoked,
        ] {
            assert_eq!(after(FRESH, code, false), Next::ReopenAndFail);
            let mut safe = Attempt {
                request: Kind::Safe,
                ..FRESH
            };
            assert_eq!(safe.after(code, false), Next::Reopen);
            assert_eq!(safe.after(code, false), Next::Fail);
        }
        assert_eq!(after(FRESH, Code::Replayed, false), Next::Fail);
        // Nothing was done; but it would come no faster.
        assert_eq!(after(FRESH, Code::TooSlow, true), Next::Fail);
    }

    #[test]
    fn takes_no_other_session_in_order_to_end_one() {
        let end = Attempt {
            request: Kind::End,
            ..FRESH
        };
        for code in [
            Code::TicketExpired,
            Code::TicketInvalid,
            Code::SessionRevoked,
        ] {
            assert_eq!(after(end, code, true), Next::Ended);
            assert_eq!(after(end, code, false), Next::Fail);
        }
        assert_eq!(after(end, Code::Replayed, true), Next::Fail);
        assert_eq!(after(end, Code::NonceStale, false), Next::Retry);
        assert_eq!(Kind::new(true, true), Kind::End);
    }

    #[test]
    fn tells_of_another_server_before_anything_else() {
        let mut outranking = Code::ALL.iter().filter(|code| outranks(**code));
        assert_eq!(outranking.next(), Some(&Code::IdentityChanged));
        assert_eq!(outranking.next(), None);
    }

    #[test]
    fn proves_with_the_device_once_and_anew_only_if_the_server_says_so_under_seal() {
        let session = Attempt {
            proof: ProofKind::Session,
            ..FRESH
        };
        assert_eq!(after(session, Code::SessionUnconfirmed, false), Next::Prove);
        let late = Attempt {
            elapsed: session.nonce_life,
            ..session
        };
        assert_eq!(after(late, Code::SessionUnconfirmed, true), Next::Prove);
        let forged = after(late, Code::SessionUnconfirmed, false);
        assert_eq!(forged, Next::ProveAndFail);
        assert_eq!(after(session, Code::ProofWeak, true), Next::ProveAnew);
        // Whoever forges this on the way could make one transfer two.
        assert_eq!(after(session, Code::ProofWeak, false), Next::ProveAndFail);
        for code in [Code::SessionUnconfirmed, Code::ProofWeak] {
            assert_eq!(after(FRESH, code, true), Next::Fail);
        }
    }

    #[test]
    fn proves_by_the_session_only_where_nothing_speaks_against_it() {
        let life = Duration::from_mins(15);
        let session = Standing {
            proof: ProofKind::Session,
            confirmed: true,
            wants_device: false,
            ticket_age: life / 2,
            ticket_life: life,
        };
        assert_eq!(session.next_proof(), ProofKind::Session);
        for device in [
            Standing {
                proof: ProofKind::Device,
                ..session
            },
            Standing {
                confirmed: false,
                ..session
            },
            Standing {
                wants_device: true,
                ..session
            },
            Standing {
                ticket_age: life / 2 + Duration::from_secs(1),
                ..session
            },
        ] {
            assert_eq!(device.next_proof(), ProofKind::Device, "{device:?}");
        }
    }

    fn after(mut attempt: Attempt, refusal: Code, sealed: bool) -> Next {
        attempt.after(refusal, sealed)
    }
}

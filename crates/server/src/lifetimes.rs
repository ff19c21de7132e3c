//! How long things live.

use std::ops::RangeInclusive;
use std::time::Duration;

use bulla_protocol::error::{Code, Error};

use crate::bulla::Bulla;
use crate::clock::MAX_STEP_BACK;
use crate::cookies::Cookies;
use crate::error::ConfigError;
use crate::ticket::SessionState;

/// How long things live, in whole seconds, each a second to ten years: fractions are cut off. Shorter is safer and costs more
/// openings and retries. [`Builder::build`](crate::Builder::build) refuses what is not among [`Self::RANGE`], and what the ring's period is
/// too short for ([`Ring::with_period`](crate::Ring::with_period)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// A server nonce: taken for this long at least, twice as long at most. Default one minute.
    pub nonce: Duration,
    /// A ticket, and so the idle timeout: a session that is not used ends after half of this at the
    /// earliest and all of it at the latest. Default 15 minutes.
    pub ticket: Duration,
    /// A session at most, from its opening or login on. Default 12 hours.
    pub session: Duration,
    /// A carry-over ticket. Default one minute.
    pub carry_over: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            nonce: Duration::from_mins(1),
            ticket: Duration::from_mins(15),
            session: Duration::from_hours(12),
            carry_over: Duration::from_mins(1),
        }
    }
}

impl Lifetimes {
    /// What each of them may be. What lives for less than a second is over before it is used; what lives
    /// for more than ten years is a mistake, and its end would be beyond what a ticket can say.
    pub const RANGE: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_hours(10 * 366 * 24);

    /// # Errors
    ///
    /// [`ConfigError::Lifetime`].
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let Self {
            nonce,
            ticket,
            session,
            carry_over,
        } = self;
        let all = [
            ("nonce", nonce),
            ("ticket", ticket),
            ("session", session),
            ("carry_over", carry_over),
        ];
        match all.iter().find(|(_, life)| !Self::RANGE.contains(*life)) {
            Some((name, _)) => Err(ConfigError::Lifetime(name)),
            None => Ok(()),
        }
    }

    /// How long anything that the ring seals can be valid.
    pub(crate) fn sealed(&self, cookies: &Cookies) -> Duration {
        let nonce = self.nonce.saturating_mul(2);
        let keep = self.ticket.max(self.carry_over).max(nonce);
        if cookies.are_on() {
            return keep.max(self.session);
        }
        keep
    }
}

impl Bulla {
    /// # Errors
    ///
    /// [`Code::TicketExpired`]; [`Code::TicketInvalid`] for a session that has not begun yet: the clock of the
    /// node that opened it was ahead.
    pub(crate) fn check_times(&self, state: &SessionState, now: u32) -> Result<(), Error> {
        if state.began > now.saturating_add(MAX_STEP_BACK) {
            return Err(Code::TicketInvalid.because("the session has not begun yet"));
        }
        if now >= state.expires || now >= self.ends(state) {
            return Err(Code::TicketExpired.because("the ticket has expired"));
        }
        Ok(())
    }

    /// When a session ends at the latest, in seconds since 1970.
    pub(crate) fn ends(&self, state: &SessionState) -> u32 {
        state
            .began
            .saturating_add(seconds(self.0.lifetimes.session))
    }

    /// When a ticket that is sealed now ends, in seconds since 1970.
    pub(crate) fn ticket_end(&self, now: u32) -> u32 {
        now.saturating_add(seconds(self.0.lifetimes.ticket))
    }
}

/// Whole seconds, as tickets have room for them.
pub(crate) fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

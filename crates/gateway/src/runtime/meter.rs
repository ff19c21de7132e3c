//! How much a session may report.

use std::collections::HashMap;

use bulla_server::{Code, Error, SessionId};

/// As many reports are taken of a session in each window.
const MOST: usize = 1000;

/// As many scripts that nobody has reported before are taken of a session in each window.
const MOST_NEW: usize = 200;

/// How long a window is, in seconds.
const WINDOW: u64 = 60;

/// As many sessions may report in a window.
const SESSIONS: usize = 50_000;

/// Counts by session, in windows that all begin together, so that nothing is kept beyond one.
#[derive(Debug, Default)]
pub(super) struct Meter {
    window: u64,
    counts: HashMap<SessionId, Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    reports: usize,
    new: usize,
}

impl Meter {
    /// Counts reports of a session; `now` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`Code::RateLimited`], and none of them are counted.
    pub(super) fn count(&mut self, of: SessionId, reports: usize, now: u64) -> Result<(), Error> {
        let window = now / WINDOW;
        if window != self.window {
            self.window = window;
            self.counts.clear();
        }
        let before = self.counts.get(&of).copied();
        let mut counts = before.unwrap_or_default();
        counts.reports = counts.reports.saturating_add(reports);
        if counts.reports > MOST || (before.is_none() && self.counts.len() >= SESSIONS) {
            return Err(Code::RateLimited.because("too much is reported"));
        }
        self.counts.insert(of, counts);
        Ok(())
    }

    /// Whether a session may report a script that is new.
    pub(super) fn may_add(&self, of: SessionId) -> bool {
        self.counts
            .get(&of)
            .is_some_and(|counts| counts.new < MOST_NEW)
    }

    /// It has reported one.
    pub(super) fn added(&mut self, of: SessionId) {
        if let Some(counts) = self.counts.get_mut(&of) {
            counts.new += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_has_so_many_in_a_window() {
        let mut meter = Meter::default();
        let (one, other) = (SessionId([1; 16]), SessionId([2; 16]));
        assert_eq!(meter.count(one, MOST, 60), Ok(()));
        let refused = meter.count(one, 1, 119).unwrap_err();
        assert_eq!(refused.code, Code::RateLimited);
        assert_eq!(meter.count(other, 1, 119), Ok(()));
        assert_eq!(meter.count(one, 1, 120), Ok(()));
    }

    #[test]
    fn each_session_adds_so_much_in_a_window() {
        let mut meter = Meter::default();
        let one = SessionId([1; 16]);
        assert!(!meter.may_add(one), "it has reported nothing");
        meter.count(one, 1, 60).unwrap();
        for _ in 0..MOST_NEW {
            assert!(meter.may_add(one));
            meter.added(one);
        }
        assert!(!meter.may_add(one));
        meter.count(one, 1, 119).unwrap();
        assert!(!meter.may_add(one));
        meter.count(one, 1, 120).unwrap();
        assert!(meter.may_add(one));
    }

    #[test]
    fn many_sessions_fill_nothing() {
        let mut meter = Meter::default();
        let session = |number: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_le_bytes());
            SessionId(id)
        };
        for number in 0..SESSIONS {
            meter.count(session(number), 1, 0).unwrap();
        }
        assert!(meter.count(session(SESSIONS), 1, 0).is_err());
        assert_eq!(meter.count(session(0), 1, 0), Ok(()));
        assert_eq!(meter.count(session(SESSIONS), 1, WINDOW), Ok(()));
    }
}

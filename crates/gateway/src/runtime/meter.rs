//! How much is written down of what a session reports.

use std::collections::HashMap;

use bulla_server::SessionId;

use crate::listed::DAY;

/// As many reports of a session are told in each window.
const MOST: usize = 1000;

/// How long a window is, in seconds.
const WINDOW: u64 = 60;

/// As many scripts that nobody has reported before are taken of a session in a day.
const MOST_NEW: usize = 200;

/// As many sessions are told apart.
const SESSIONS: usize = 50_000;

/// What stands for all others.
const OTHERS: SessionId = SessionId([0; 16]);

/// Counts by session. What it has counted it forgets when a window or a day ends.
#[derive(Debug, Default)]
pub(super) struct Meter {
    window: u64,
    told: HashMap<SessionId, Told>,
    day: u64,
    added: HashMap<SessionId, usize>,
}

#[derive(Debug, Default)]
struct Told {
    reports: usize,
    /// The kinds that were told beyond that.
    beyond: Vec<&'static str>,
}

impl Meter {
    /// Whether a report of this kind is to be told; `now` is in seconds since 1970. Where a session has reported too
    /// much, one of each kind still is: whoever floods hides what he floods with, and not that there is something.
    pub(super) fn may_tell(&mut self, of: SessionId, kind: &'static str, now: u64) -> bool {
        let window = now / WINDOW;
        if window != self.window {
            self.window = window;
            self.told.clear();
        }
        let is_counted = self.told.len() < SESSIONS || self.told.contains_key(&of);
        let of = if is_counted { of } else { OTHERS };
        let told = self.told.entry(of).or_default();
        if told.reports < MOST {
            told.reports += 1;
            return true;
        }
        let is_first = !told.beyond.contains(&kind);
        if is_first {
            told.beyond.push(kind);
        }
        is_first
    }

    /// Whether a session may report a script that is new.
    pub(super) fn may_add(&mut self, of: SessionId, now: u64) -> bool {
        let day = now / DAY;
        // Whoever can open so many sessions has gained nothing by it.
        if day != self.day || self.added.len() >= SESSIONS {
            self.day = day;
            self.added.clear();
        }
        self.added.get(&of).is_none_or(|added| *added < MOST_NEW)
    }

    /// It has reported one.
    pub(super) fn added(&mut self, of: SessionId) {
        *self.added.entry(of).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: usize) -> SessionId {
        let mut id = [1; 16];
        id[..8].copy_from_slice(&number.to_le_bytes());
        SessionId(id)
    }

    #[test]
    fn each_session_is_told_of_so_often_in_a_window_and_of_each_kind_once_more() {
        let mut meter = Meter::default();
        let (one, other) = (session(1), session(2));
        for _ in 0..MOST {
            assert!(meter.may_tell(one, "patched", 60));
        }
        for (kind, may_tell) in [
            ("patched", true),
            ("patched", false),
            ("script", true),
            ("script", false),
            ("patched", false),
        ] {
            assert_eq!(meter.may_tell(one, kind, 119), may_tell, "{kind}");
        }
        assert!(meter.may_tell(other, "patched", 119));
        assert!(meter.may_tell(one, "patched", 120));
    }

    #[test]
    fn each_session_adds_so_much_in_a_day() {
        let mut meter = Meter::default();
        let one = session(1);
        for _ in 0..MOST_NEW {
            assert!(meter.may_add(one, DAY));
            meter.added(one);
        }
        assert!(!meter.may_add(one, 2 * DAY - 1));
        assert!(meter.may_add(session(2), 2 * DAY - 1));
        assert!(meter.may_add(one, 2 * DAY));
    }

    #[test]
    fn many_sessions_fill_nothing_and_silence_nobody() {
        let mut meter = Meter::default();
        for number in 0..SESSIONS + 10 {
            assert!(meter.may_tell(session(number), "script", 0));
            assert!(meter.may_add(session(number), 0));
            meter.added(session(number));
        }
        assert!(meter.told.len() <= SESSIONS + 1);
        assert!(meter.added.len() <= SESSIONS);
        for number in 0..MOST {
            meter.may_tell(session(2 * SESSIONS + number), "script", 0);
        }
        assert!(meter.may_tell(session(4 * SESSIONS), "patched", 0));
        assert!(!meter.may_tell(session(4 * SESSIONS), "patched", 0));
        assert!(meter.may_tell(session(0), "patched", 0));
    }
}

//! How much is going on, and how fast it is answered: the last five minutes, second by second.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// As many seconds are remembered.
const SECONDS: usize = 300;

/// As many of them are one point of a curve.
pub(super) const STEP: usize = 5;

/// Counts by second. Takes the same memory whatever happens, of some 150 KB. The time is handed in, as what has passed
/// since the gateway began.
pub(crate) struct Pulse(Mutex<Box<[Second]>>);

#[derive(Clone, Debug, Default)]
struct Second {
    /// Which one it is. The place of one that is long ago is taken by another.
    at: u64,
    counts: Counts,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    failed: u64,
    refused: u64,
    answered: Histogram,
    /// By the codes of refusals, of which there are only so many.
    by_code: BTreeMap<&'static str, u64>,
}

/// What the last five minutes were like.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Report {
    /// How many seconds one point stands for.
    step: usize,
    /// The oldest first. The one that is not over yet is left out.
    points: Vec<Point>,
    whole: Point,
    /// What was refused, or would have been.
    refused: BTreeMap<&'static str, u64>,
}

/// Times are in microseconds, an eighth off at most; `None` where nothing was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Point {
    requests: u64,
    refused: u64,
    failed: u64,
    p50: Option<u64>,
    p95: Option<u64>,
    p99: Option<u64>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self(Mutex::new(vec![Second::default(); SECONDS].into()))
    }
}

impl Pulse {
    /// A request was answered, whatever it was. It has failed if the application could not be asked, or did not know what
    /// to say.
    pub(crate) fn answered(&self, now: Duration, took: Duration, has_failed: bool) {
        self.count(now, |counts| {
            counts.failed += u64::from(has_failed);
            counts.answered.add(took);
        });
    }

    /// A request was refused, or would have been.
    pub(super) fn refused(&self, now: Duration, code: &'static str) {
        self.count(now, |counts| {
            counts.refused += 1;
            *counts.by_code.entry(code).or_default() += 1;
        });
    }

    pub(super) fn report(&self, now: Duration) -> Report {
        let ring = self.lock();
        let step = STEP as u64;
        // Points begin at the same seconds whenever it is asked, or curves would tremble.
        let end = now.as_secs() / step * step;
        let begin = end.saturating_sub(SECONDS as u64 - step);
        let mut report = Report {
            step: STEP,
            ..Report::default()
        };
        let mut whole = Counts::default();
        for start in (begin..end).step_by(STEP) {
            let mut counts = Counts::default();
            for at in start..start + step {
                let second = ring.get(place(at)).filter(|second| second.at == at);
                if let Some(Second { counts: more, .. }) = second {
                    counts.add(more);
                }
            }
            whole.add(&counts);
            report.points.push(counts.point());
        }
        report.whole = whole.point();
        report.refused = whole.by_code;
        report
    }

    fn count(&self, now: Duration, count: impl FnOnce(&mut Counts)) {
        let at = now.as_secs();
        let mut ring = self.lock();
        if let Some(second) = ring.get_mut(place(at)) {
            if second.at != at {
                *second = Second {
                    at,
                    ..Second::default()
                };
            }
            count(&mut second.counts);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Box<[Second]>> {
        // Nothing is left half done by whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(at: u64) -> usize {
    usize::try_from(at % SECONDS as u64).unwrap_or_default()
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.failed += other.failed;
        self.refused += other.refused;
        self.answered.merge(&other.answered);
        for (code, count) in &other.by_code {
            *self.by_code.entry(code).or_default() += count;
        }
    }

    fn point(&self) -> Point {
        Point {
            requests: self.answered.count(),
            refused: self.refused,
            failed: self.failed,
            p50: self.answered.below(50),
            p95: self.answered.below(95),
            p99: self.answered.below(99),
        }
    }
}

/// Up to two minutes in microseconds: four slots for each doubling.
const SLOTS: usize = 108;

/// How many took how long.
#[derive(Clone, Debug)]
struct Histogram([u32; SLOTS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; SLOTS])
    }
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let slot = slot(micros).min(SLOTS - 1);
        if let Some(count) = self.0.get_mut(slot) {
            *count = count.saturating_add(1);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count = count.saturating_add(more);
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|&count| u64::from(count)).sum()
    }

    /// What so many of a hundred did not take longer than.
    fn below(&self, percent: u64) -> Option<u64> {
        let rank = (self.count() * percent).div_ceil(100);
        let mut so_far = 0;
        let found = self.0.iter().position(|&count| {
            so_far += u64::from(count);
            so_far >= rank && rank > 0
        });
        found.map(middle)
    }
}

fn slot(micros: u64) -> usize {
    if micros < 4 {
        return usize::try_from(micros).unwrap_or_default();
    }
    let octave = micros.ilog2();
    let quarter = micros >> (octave - 2) & 3;
    usize::try_from(u64::from(octave - 1) * 4 + quarter).unwrap_or(SLOTS)
}

/// The middle of a slot.
fn middle(slot: usize) -> u64 {
    let slot = slot as u64;
    if slot < 4 {
        return slot;
    }
    let (octave, quarter) = (slot / 4 + 1, slot % 4);
    let width = 1 << (octave - 2);
    (4 + quarter) * width + width / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at: u64) -> Duration {
        Duration::from_secs(at)
    }

    #[test]
    fn what_is_over_is_told_by_steps_of_seconds() {
        let pulse = Pulse::default();
        let took = Duration::from_millis(10);
        for at in [1000, 1004, 1004, 1005, 1010] {
            pulse.answered(second(at), took, at == 1005);
        }
        pulse.refused(second(1004), "proof_missing");
        let Report {
            points,
            whole,
            refused,
            ..
        } = pulse.report(second(1012));
        assert_eq!(points.len(), SECONDS / STEP - 1);
        let [.., before, first, last] = &points[..] else {
            panic!("{points:?}")
        };
        assert_eq!((before.requests, before.p50), (0, None));
        assert_eq!((first.requests, first.refused, first.failed), (3, 1, 0));
        assert_eq!((last.requests, last.refused, last.failed), (1, 0, 1));
        assert_eq!(whole.requests, 4, "the last step is not over");
        assert_eq!(refused, BTreeMap::from([("proof_missing", 1)]));
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let pulse = Pulse::default();
        pulse.answered(second(7), Duration::ZERO, false);
        assert_eq!(pulse.report(second(10)).whole.requests, 1);
        let later = 7 + SECONDS as u64;
        assert_eq!(pulse.report(second(later)).whole.requests, 0);
        pulse.answered(second(later), Duration::ZERO, false);
        assert_eq!(pulse.report(second(later + 5)).whole.requests, 1);
        assert_eq!(pulse.lock().len(), SECONDS);
    }

    #[test]
    fn so_many_of_a_hundred_took_no_longer() {
        let pulse = Pulse::default();
        for millis in 1..=100 {
            pulse.answered(second(0), Duration::from_millis(millis), false);
        }
        let whole = pulse.report(second(5)).whole;
        for (found, exact) in [
            (whole.p50, 50_000),
            (whole.p95, 95_000),
            (whole.p99, 99_000),
        ] {
            let found = found.unwrap();
            assert!(found.abs_diff(exact) * 8 <= exact, "{found} for {exact}");
        }
        let mut empty = Histogram::default();
        assert_eq!(empty.below(50), None);
        empty.add(Duration::MAX);
        assert!(empty.below(50).unwrap() > 100_000_000);
    }

    #[test]
    fn slots_follow_each_other() {
        let mut last = 0;
        for micros in 0..1 << 20 {
            let found = slot(micros);
            assert!(found == last || found == last + 1, "{micros}");
            assert!(
                middle(found).abs_diff(micros) * 8 <= micros.max(1),
                "{micros}"
            );
            last = found;
        }
    }
}

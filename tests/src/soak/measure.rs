//! What a run comes to, second by second.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bulla_client::Code;

/// One second of a run.
#[derive(Clone, Debug, Default)]
pub struct Second {
    /// When it ended, in seconds since the run began.
    pub at: f64,
    /// Requests that were answered as they should be.
    pub good: u32,
    /// Requests that were refused, or lost.
    pub failed: u32,
    /// The latency of half of the good ones is no longer, in microseconds; 0 if there are none.
    pub p50: u32,
    /// The same for 99 of 100.
    pub p99: u32,
    /// Resident memory of each node, in bytes; `None` where it does not run.
    pub nodes: Vec<Option<u64>>,
    /// That of Redis.
    pub redis: Option<u64>,
    /// How much of the machine's processors was busy, from 0 to 1.
    pub busy: f64,
}

/// What is counted of a whole run.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Good answers, by what was asked.
    pub good: BTreeMap<&'static str, u64>,
    /// What honest clients were refused with, or failed with.
    pub refused: BTreeMap<&'static str, u64>,
    /// Recorded requests that were sent again.
    pub replays: u64,
    /// What they were answered with: codes that came in the open, and sealed answers.
    pub replays_answered: BTreeMap<&'static str, u64>,
    /// Writes that were sent again by their client, since no answer came.
    pub resent: u64,
    /// Writes that were sent to two nodes at once.
    pub races: u64,
    /// Requests that were sent after their session's end.
    pub after_end: u64,
}

/// Where all that is counted.
pub(super) struct Measure(Mutex<Measured>);

#[derive(Default)]
struct Measured {
    second: Second,
    latencies: Vec<u32>,
    seconds: Vec<Second>,
    counts: Counts,
    busy: (u64, u64),
}

impl Measure {
    pub(super) fn begin() -> Self {
        Self(Mutex::new(Measured {
            busy: busy().unwrap_or_default(),
            ..Measured::default()
        }))
    }

    pub(super) fn good(&self, what: &'static str, latency: Duration) {
        let measured = &mut *self.lock();
        measured.second.good += 1;
        let latency = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        measured.latencies.push(latency);
        *measured.counts.good.entry(what).or_default() += 1;
    }

    pub(super) fn refused(&self, code: Code) {
        let measured = &mut *self.lock();
        measured.second.failed += 1;
        *measured.counts.refused.entry(code.as_str()).or_default() += 1;
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.lock().counts);
    }

    /// Ends a second.
    pub(super) fn tick(&self, at: f64, nodes: &[Option<u32>], redis: u32) {
        let measured = &mut *self.lock();
        let mut second = std::mem::take(&mut measured.second);
        second.at = at;
        measured.latencies.sort_unstable();
        let part = |of: usize| {
            let at = measured.latencies.len() * of / 100;
            measured.latencies.get(at).copied().unwrap_or_default()
        };
        (second.p50, second.p99) = (part(50), part(99));
        measured.latencies.clear();
        second.nodes = nodes.iter().map(|pid| resident((*pid)?)).collect();
        second.redis = resident(redis);
        let now = busy().unwrap_or_default();
        let (busy, all) = (
            now.0.saturating_sub(measured.busy.0),
            now.1.saturating_sub(measured.busy.1),
        );
        measured.busy = now;
        second.busy = as_float(busy) / as_float(all.max(1));
        measured.seconds.push(second);
    }

    pub(super) fn seconds(&self) -> Vec<Second> {
        self.lock().seconds.clone()
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A count as a number to reckon with.
pub(super) fn as_float(count: u64) -> f64 {
    // Beyond four thousand million it is shown as that.
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// What a process has of the machine's memory, in bytes.
fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The time that the processors were busy, and all time, in ticks: `proc_stat(5)`.
fn busy() -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let fields = stat.lines().next()?.split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    let all: u64 = ticks.iter().take(8).sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Some((all.saturating_sub(idle), all))
}

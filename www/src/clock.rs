//! A clock that can be moved: "much later" must not take long in a demo.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bulla_server::{Clock, SystemClock};

/// Runs with the machine's clock, ahead of it by what it has been moved. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct MovableClock(Arc<AtomicU64>);

impl MovableClock {
    /// Moves it forward, in seconds.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for MovableClock {
    fn now(&self) -> u64 {
        SystemClock
            .now()
            .saturating_add(self.0.load(Ordering::Relaxed))
    }

    /// Nobody need have waited.
    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

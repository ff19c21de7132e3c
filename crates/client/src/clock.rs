//! What time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the client takes time from.
pub trait Clock: Send + Sync {
    /// Seconds since 1970. It goes into signatures as `created`; nobody relies on it, so it may be
    /// wrong.
    fn unix_seconds(&self) -> u64;

    /// The time since some fixed point, by a clock that never runs backwards. It bounds how long a
    /// request is tried again.
    fn monotonic(&self) -> Duration;
}

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn unix_seconds(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

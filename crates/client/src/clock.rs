//! What time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the client takes time from.
pub trait Clock: Send + Sync {
    /// Seconds since 1970. It goes into signatures as `created`, on which nobody relies, so it may be wrong. And
    /// if it runs ahead of [`monotonic`](Self::monotonic) a request is tried again for a shorter time.
    fn unix_seconds(&self) -> u64;

    /// The time since some fixed point, by a clock that never runs backwards. It bounds how long a
    /// request is tried again; it may stand still while the device sleeps.
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

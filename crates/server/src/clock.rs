//! Time, handed in.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far back a clock may be set, in seconds, for time to stand still until it has caught up. Beyond, it
/// was wrong, and nothing can be known of what was sealed, dropped or revoked by it.
pub(crate) const MAX_STEP_BACK: u32 = 60;

/// How far the clock of a node may be from that of what it shares with others, in seconds.
pub(crate) const MAX_SKEW: u64 = 30;

/// Says that a clock was set back further than that, for whoever looks after the server.
pub(crate) fn report_step_back(latest: u32, now: u32) {
    tracing::error!(
        target: "bulla::clock",
        latest,
        now,
        "the clock was set back, and all sessions have ended"
    );
}

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Seconds since 1970-01-01T00:00:00Z.
    fn now(&self) -> u64;

    /// How much time has passed since some moment, to fractions of a second. It is never set, so that it tells for how
    /// long a client was waited for, whatever becomes of the other. By default it is that other.
    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.now())
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }

    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

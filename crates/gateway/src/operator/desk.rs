//! What lies open on the operator's desk.

use std::time::Duration;

use tokio::time::Instant;

use super::pulse::Pulse;
use super::stop::Stop;
use super::visitors::Visitors;

/// What the operator looks at, and switches, whether or not there is a page: nothing of it grows.
pub(crate) struct Desk {
    begun: Instant,
    pub(crate) pulse: Pulse,
    pub(crate) visitors: Visitors,
    pub(crate) stop: Stop,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            pulse: Pulse::default(),
            visitors: Visitors::default(),
            stop: Stop::default(),
        }
    }
}

impl Desk {
    /// How long the gateway has been there.
    pub(crate) fn passed(&self) -> Duration {
        self.begun.elapsed()
    }
}

//! How often anybody may come.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bulla_protocol::error::{Code, Error};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::clock::MAX_STEP_BACK;
use crate::error::ConfigError;
use crate::lifetimes::Lifetimes;
use crate::network::Network;
use crate::store::SessionRef;

/// So many in so long: all at once, if there were none for as long. Then one more in each part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    within: Duration,
}

impl Rate {
    /// So many, 1 or more, within so long, which is ten years at most and no less than a nanosecond each. What is no such rate
    /// [`Builder::build`](crate::Builder::build) refuses: [`ConfigError::Rate`](crate::ConfigError::Rate).
    pub const fn new(count: u32, within: Duration) -> Self {
        Self { count, within }
    }

    fn quota(self) -> Option<Quota> {
        let count = NonZeroU32::new(self.count)?;
        if self.within > *Lifetimes::RANGE.end() {
            return None;
        }
        let each = self.within.checked_div(count.get())?;
        Some(Quota::with_period(each)?.allow_burst(count))
    }

    /// # Errors
    ///
    /// [`ConfigError::Rate`] with the first name whose rate is none.
    pub(crate) fn check<const N: usize>(
        named: [(&'static str, Option<Self>); N],
    ) -> Result<(), ConfigError> {
        let is_none =
            |(_, rate): &&(_, Option<Self>)| rate.is_some_and(|rate| rate.quota().is_none());
        match named.iter().find(is_none) {
            Some((name, _)) => Err(ConfigError::Rate(name)),
            None => Ok(()),
        }
    }
}

/// How many requests are taken, by whom: by default no limit is set. Beyond, they are refused with `rate_limited`,
/// and told when to come again. Each node counts for itself.
///
/// Session, device and user count once the request has passed every check, a replay too: nobody who has only copied
/// something uses up what is its owner's. Networks count before anything else is done, whether or not the request is
/// any good; behind a proxy they want [`Builder::network`](crate::Builder::network), or all the world is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of one session.
    pub session: Option<Rate>,
    /// Of one device.
    pub device: Option<Rate>,
    /// Of one user.
    pub subject: Option<Rate>,
    /// From one network: an IPv4 address, or an IPv6 prefix of 64 bits.
    pub network: Option<Rate>,
}

impl Rates {
    /// # Errors
    ///
    /// [`ConfigError::Rate`].
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        Rate::check([
            ("session", self.session),
            ("device", self.device),
            ("subject", self.subject),
            ("network", self.network),
        ])
    }
}

/// Counts by [`Rates`].
pub(crate) struct Meters {
    session: Option<Meter>,
    device: Option<Meter>,
    subject: Option<Meter>,
    network: Option<Meter>,
}

impl Meters {
    pub(crate) fn new(rates: &Rates) -> Self {
        let meter = |rate: Option<Rate>| rate.and_then(Meter::new);
        Self {
            session: meter(rates.session),
            device: meter(rates.device),
            subject: meter(rates.subject),
            network: meter(rates.network),
        }
    }

    /// # Errors
    ///
    /// [`Code::RateLimited`].
    pub(crate) fn of_network(&self, network: Option<Network>, now: u32) -> Result<(), Error> {
        match (&self.network, network) {
            (Some(meter), Some(network)) => meter.check(network, now),
            _ => Ok(()),
        }
    }

    /// # Errors
    ///
    /// [`Code::RateLimited`].
    pub(crate) fn of_session(&self, by: &SessionRef, now: u32) -> Result<(), Error> {
        if let Some(meter) = &self.session {
            meter.check(by.session, now)?;
        }
        if let Some(meter) = &self.device {
            meter.check(by.device.0, now)?;
        }
        if let (Some(meter), Some((subject, _))) = (&self.subject, by.subject) {
            meter.check(subject, now)?;
        }
        Ok(())
    }
}

/// Counts for each of many.
pub(crate) struct Meter {
    limiter: RateLimiter<u32, HashMapStateStore<u32>, Passed, NoOpMiddleware<Nanos>>,
    clock: Passed,
    swept: AtomicU32,
    hasher: RandomState,
}

impl Meter {
    /// As many are told apart, so that whoever makes up names fills nothing. Two in a million share a count.
    const PLACES: u64 = 1 << 20;
    /// How often those that have rested are forgotten, in seconds.
    const SWEEP: u32 = 60;

    /// Nothing for what is no rate, which none is that was [checked](Rate::check).
    pub(crate) fn new(rate: Rate) -> Option<Self> {
        let (quota, clock) = (rate.quota()?, Passed::default());
        Some(Self {
            limiter: RateLimiter::new(quota, HashMapStateStore::default(), clock.clone()),
            clock,
            swept: AtomicU32::new(0),
            hasher: RandomState::new(),
        })
    }

    /// # Errors
    ///
    /// [`Code::RateLimited`], with the time after which there is room for one.
    pub(crate) fn check(&self, name: impl Hash, now: u32) -> Result<(), Error> {
        const LIMITED: Error = Code::RateLimited.because("too many requests");
        self.clock.advance(now);
        let swept = self.swept.load(Ordering::Relaxed);
        if now.abs_diff(swept) >= Self::SWEEP {
            self.swept.store(now, Ordering::Relaxed);
            self.limiter.retain_recent();
        }
        let place = self.hasher.hash_one(name) % Self::PLACES;
        let place = u32::try_from(place).unwrap_or_default();
        let not_until = match self.limiter.check_key(&place) {
            Ok(()) => return Ok(()),
            Err(not_until) => not_until,
        };
        let wait = not_until.wait_time_from(self.clock.now());
        let wait = u32::try_from(wait.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
        Err(LIMITED.after(wait.max(1)))
    }
}

/// How much time has passed, as the verifier's clock has it. When that is set back, none has.
#[derive(Clone, Default)]
struct Passed(Arc<Times>);

/// In seconds.
#[derive(Default)]
struct Times {
    /// Since 1970, when it was last asked.
    latest: AtomicU32,
    passed: AtomicU64,
}

impl Passed {
    fn advance(&self, now: u32) {
        let latest = &self.0.latest;
        if now.saturating_add(MAX_STEP_BACK) < latest.load(Ordering::Relaxed) {
            latest.store(now, Ordering::Relaxed);
        }
        let before = latest.fetch_max(now, Ordering::Relaxed);
        let further = u64::from(now.saturating_sub(before));
        self.0.passed.fetch_add(further, Ordering::Relaxed);
    }
}

impl Clock for Passed {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Duration::from_secs(self.0.passed.load(Ordering::Relaxed)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(count: u32, seconds: u64) -> Meter {
        Meter::new(Rate::new(count, Duration::from_secs(seconds))).unwrap()
    }

    #[test]
    fn each_has_so_many_in_so_long_and_is_told_when_there_is_room() {
        let meter = meter(4, 8);
        let wait = |name: &str, now| meter.check(name, now).err().map(|error| error.retry_after);
        assert_eq!(
            [(); 5].map(|()| wait("ann", 1000)),
            [None, None, None, None, Some(2)]
        );
        assert_eq!(wait("bob", 1000), None);
        assert_eq!(
            [wait("ann", 1001), wait("ann", 1002), wait("ann", 1002)],
            [Some(1), None, Some(2)]
        );
        // Who was slowed down by a clock that was wrong is no worse off than before.
        assert_eq!(
            [wait("ann", 100), wait("ann", 101), wait("ann", 102)],
            [Some(2), Some(1), None]
        );
        // All at once, once they have rested.
        let rested = [(); 5].map(|()| wait("ann", 1100).is_none());
        assert_eq!(rested, [true, true, true, true, false]);
    }

    #[test]
    fn a_million_names_take_no_more_room_than_those_that_came_lately() {
        let meter = meter(1, 10);
        for name in 0..1_100_000_u32 {
            let _ = meter.check(name, 1000 + name / 100_000);
        }
        assert!(meter.limiter.len() <= 1 << 20);
        let _ = meter.check("", 2000);
        assert!(meter.limiter.len() <= 1, "{}", meter.limiter.len());
    }
}

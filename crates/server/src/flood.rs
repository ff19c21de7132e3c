//! Openings, where there are too many of them.
//!
//! An opening makes three keys before anybody has shown anything. So beyond a rate it takes a little work of the
//! client ([`bulla_protocol::work`]): one does not notice it, and a flood pays for each.

use std::time::Duration;

use bulla_protocol::error::{Code, Error};
use bulla_protocol::opening::Open;
use bulla_protocol::work::MAX_WORK_BITS;
use sha2::{Digest, Sha256};

use crate::bulla::Bulla;
use crate::error::ConfigError;
use crate::event::About;
use crate::rates::{Meter, Rate};
use crate::store::{SessionRef, UsedProof};
use crate::ticket::RevocationId;
use crate::verify::{accept, replay_key};

/// How many sessions are opened for nothing, and how much work it takes beyond. Each node counts for itself.
///
/// Nobody is kept out by it: whoever does the work gets a session, at any rate. Clients of this project do it by
/// themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Openings {
    /// From all the world. Default: 1000 in ten seconds. `None` for no limit.
    pub in_all: Option<Rate>,
    /// From one network, where it is [known](crate::Builder::network). Default: 100 in a minute. `None` for no limit.
    pub network: Option<Rate>,
    /// The work, in zero bits that a hash has to begin with: each doubles it. 65536 hashes on the average at 16, the
    /// default. 0 to 20, since no client does more; [`Builder::build`](crate::Builder::build) refuses what is beyond.
    pub bits: u8,
}

impl Default for Openings {
    fn default() -> Self {
        Self {
            in_all: Some(Rate::new(1000, Duration::from_secs(10))),
            network: Some(Rate::new(100, Duration::from_mins(1))),
            bits: 16,
        }
    }
}

impl Openings {
    /// No work, however many there are.
    pub const FREE: Self = Self {
        in_all: None,
        network: None,
        bits: 0,
    };

    /// # Errors
    ///
    /// [`ConfigError::Work`], [`ConfigError::Rate`].
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.bits > MAX_WORK_BITS {
            return Err(ConfigError::Work);
        }
        Rate::check([("in_all", self.in_all), ("network", self.network)])
    }
}

/// Counts by [`Openings`].
pub(crate) struct Gate {
    in_all: Option<Meter>,
    network: Option<Meter>,
    pub(crate) bits: u8,
}

impl Gate {
    pub(crate) fn new(openings: &Openings) -> Self {
        let meter = |rate: Option<Rate>| rate.and_then(Meter::new);
        Self {
            in_all: meter(openings.in_all),
            network: meter(openings.network),
            bits: openings.bits,
        }
    }

    fn is_free(&self, about: &About, now: u32) -> bool {
        let network = match (&self.network, about.network) {
            (Some(meter), Some(network)) => meter.check(network, now).is_ok(),
            _ => true,
        };
        // Whoever is one too many for his network takes nothing from others.
        network
            && self
                .in_all
                .as_ref()
                .is_none_or(|meter| meter.check((), now).is_ok())
    }
}

impl Bulla {
    /// Whether an opening may go on, whose signature is not checked yet. Returns the work that it shows in place of
    /// having come early enough.
    ///
    /// # Errors
    ///
    /// [`Code::WorkRequired`], [`Code::NonceStale`] for work that is too old.
    pub(crate) fn check_work<'a>(
        &self,
        open: &'a Open,
        about: &About,
    ) -> Result<Option<&'a bulla_protocol::work::Work>, Error> {
        const WANTED: Error = Code::WorkRequired.because("there are too many openings");
        let gate = &self.0.gate;
        if gate.is_free(about, self.now()) {
            return Ok(None);
        }
        let work = open.work.as_ref().ok_or(WANTED)?;
        let memory = self.0.store.memory().proofs;
        let now = u64::from(self.now());
        let checked = self.0.nonces.check(&work.nonce, now, &self.0.ring, memory);
        checked.map_err(|_| WANTED)?;
        if !work.holds(&open.device.thumbprint(), &open.random, gate.bits) {
            return Err(WANTED);
        }
        Ok(Some(work))
    }

    /// Takes work that has been shown: once, since a copy of the opening costs nothing.
    ///
    /// # Errors
    ///
    /// [`Code::Replayed`], [`Code::StoreUnavailable`].
    pub(crate) async fn use_work(
        &self,
        open: &Open,
        work: &bulla_protocol::work::Work,
    ) -> Result<(), Error> {
        let device = open.device.thumbprint();
        let hash = Sha256::new()
            .chain_update(open.random)
            .chain_update(&work.nonce)
            .finalize();
        let mut name = [0; 16];
        name.copy_from_slice(&hash[..16]);
        let mut of = [0; RevocationId::LEN];
        of.copy_from_slice(&hash[16..16 + RevocationId::LEN]);
        let (now, memory) = (u64::from(self.now()), self.0.store.memory());
        let used = UsedProof {
            proof: replay_key(&device, &name),
            memory: memory.proofs,
            until: self.0.nonces.remember_until(now),
            now,
            confirmed: false,
            session: SessionRef {
                session: RevocationId(of),
                device,
                subject: None,
                memory: memory.revocations,
            },
        };
        accept(self.0.store.check_and_insert(used).await).map(drop)
    }
}

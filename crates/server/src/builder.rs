//! How a verifier is configured.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, RwLock};

use bulla_keys::{Random, SystemRandom};
use bulla_protocol::limits::{DEFAULT_PREFIX, Limits};
use bulla_protocol::opening::{check_prefix, sealed_path, session_path};
use bulla_protocol::proof::ProofKind;
use bulla_protocol::target::Origin;
use http::{Extensions, HeaderMap, HeaderName};
use tokio::sync::broadcast;

use crate::alarm::Alarms;
use crate::bulla::{Bulla, Inner, whole};
use crate::clock::{self, Clock, MAX_STEP_BACK, SystemClock};
use crate::cookies::Cookies;
use crate::device::Devices;
use crate::error::ConfigError;
use crate::event::{self, Listener, Pseudonyms, SecurityEvent, Watch};
use crate::flood::{Gate, Openings};
use crate::identity::Identity;
use crate::lifetimes::Lifetimes;
use crate::live::{self, News};
use crate::network::Finder;
use crate::nonce::Nonces;
use crate::pace::Pace;
use crate::policy::Paths;
use crate::rates::{Meters, Rates};
use crate::registry::{Concurrency, Registry};
use crate::require::Require;
use crate::ring::Ring;
use crate::rules::{Guard, Rules};
use crate::store::Store;

/// Configures a [`Bulla`]. What is wrong is found by [`build`](Self::build), which says what.
#[must_use]
pub struct Builder {
    origins: Vec<String>,
    prefix: String,
    identity: Option<Arc<Identity>>,
    ring: Option<Ring>,
    store: Option<Box<dyn Store>>,
    registry: Option<Box<dyn Registry>>,
    concurrency: Concurrency,
    clock: Box<dyn Clock>,
    random: Box<dyn Random>,
    limits: Limits,
    pace: Option<Pace>,
    lifetimes: Lifetimes,
    proof: ProofKind,
    paths: Paths,
    upstream: Vec<HeaderName>,
    cors: Vec<String>,
    cookies: Cookies,
    finder: Finder,
    rules: Rules,
    rates: Rates,
    openings: Openings,
    listener: Option<Listener>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            origins: Vec::new(),
            prefix: DEFAULT_PREFIX.to_owned(),
            identity: None,
            ring: None,
            store: None,
            registry: None,
            concurrency: Concurrency::default(),
            clock: Box::new(SystemClock),
            random: Box::new(SystemRandom),
            limits: Limits::default(),
            pace: Some(Pace::default()),
            lifetimes: Lifetimes::default(),
            proof: ProofKind::Device,
            paths: Paths::default(),
            upstream: Vec::new(),
            cors: Vec::new(),
            cookies: Cookies::Off,
            finder: Finder::default(),
            rules: Rules::default(),
            rates: Rates::default(),
            openings: Openings::default(),
            listener: None,
        }
    }

    /// Adds a public origin under which clients reach this server, such as `https://bank.example`.
    /// Authority comes from here, never from forwarding fields.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origins.push(origin.into());
        self
    }

    /// Sets the identity that clients pin.
    pub fn identity(mut self, identity: impl Into<Arc<Identity>>) -> Self {
        self.identity = Some(identity.into());
        self
    }

    /// Sets where proofs and revocations are remembered.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Box::new(store));
        self
    }

    /// Sets where lists of users' sessions and devices are kept. Default: nowhere, and there are none.
    pub fn registry(mut self, registry: impl Registry) -> Self {
        self.registry = Some(Box::new(registry));
        self
    }

    /// Sets how many sessions one user may be logged in to at once, by the lists. Default: as many as he likes.
    pub fn concurrency(mut self, concurrency: Concurrency) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Sets the ring. Default: one that lives as long as the process.
    pub fn ring(mut self, ring: Ring) -> Self {
        self.ring = Some(ring);
        self
    }

    /// Sets the path under which the protocol lives. Default `/.well-known/bulla`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how long things live, each a second to ten years ([`Lifetimes::RANGE`]). Default: a nonce a minute, a ticket
    /// 15 minutes, a session 12 hours, a carry-over ticket a minute.
    pub fn lifetimes(mut self, lifetimes: Lifetimes) -> Self {
        self.lifetimes = lifetimes;
        self
    }

    /// Sets how large things may be, in bytes and in fields. Default: a head of 32 KiB with 100 fields,
    /// and a body of 2 MiB where it is collected.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how slowly bodies may come, or `None`: then whoever sends a byte now and then holds a request open for ever.
    /// Default: 20 seconds, and one more for every 500 bytes; what else there may be is in [`Pace::GRACES`] and
    /// [`Pace::RATES`].
    /// Slow heads of requests are the HTTP server's to cut off.
    pub fn pace(mut self, pace: impl Into<Option<Pace>>) -> Self {
        self.pace = pace.into();
        self
    }

    /// Lets handlers read bodies that come as slowly as they like at the paths that begin so: for requests that are streams of
    /// events, which are silent while nothing happens. Text is compared, as by [`Self::unsigned`]. What the verifier reads
    /// before the handler has the request is held to the [pace](Self::pace) there, too.
    pub fn unpaced(mut self, path_prefix: impl Into<String>) -> Self {
        self.paths = self.paths.unpaced(path_prefix);
        self
    }

    /// Sets the weakest proof that is taken where a route asks for nothing more. Default: the device
    /// proof, on every request.
    pub fn proof(mut self, proof: ProofKind) -> Self {
        self.proof = proof;
        self
    }

    /// Lets requests without any proof through to paths that begin so, without a session. Text is
    /// compared: begin with `/`, and end a folder with it. A request with a wrong proof is refused all the
    /// same.
    pub fn unsigned(mut self, path_prefix: impl Into<String>) -> Self {
        self.paths = self.paths.unsigned(path_prefix);
        self
    }

    /// Only monitors the paths that begin so: whatever would be refused there is reported
    /// ([`EventKind::LetPass`](crate::EventKind::LetPass)) and passes, without a session. `/` is all paths. For a
    /// roll-out without an outage; it protects nothing.
    ///
    /// What the client puts right by itself, such as a stale nonce, is refused as ever, and so is what cannot be
    /// unsealed, or was streamed. Handlers see all fields of a signed request. Cookies are not bound there, and those
    /// that are not bound reach handlers.
    pub fn monitor(mut self, path_prefix: impl Into<String>) -> Self {
        self.paths = self.paths.monitor(path_prefix);
        self
    }

    /// Asks for more than the default at the paths that begin so; once or more, and all that fit are asked for.
    /// For routes that take no layer, and for whatever is behind a gateway. The path is compared as it came, and also without
    /// empty segments, parameters of segments and percent-encoding that is not needed; case matters.
    pub fn require(mut self, path_prefix: impl Into<String>, require: Require) -> Self {
        self.paths = self.paths.require(path_prefix, require);
        self
    }

    /// Names a field that a proxy before this server states and the application trusts, such as
    /// `cf-connecting-ip` or `x-client-cert`; once or more. A proxy cannot strip it from inside a seal.
    /// So a sealed request that has it is refused, and of a signed one no handler sees it. The common
    /// fields that speak of forwarding are treated so without being named.
    pub fn upstream_field(mut self, name: HeaderName) -> Self {
        self.upstream.push(name);
        self
    }

    /// Lets pages of another origin, such as `https://app.example`, use this server (CORS). There is no
    /// wildcard.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.cors.push(origin.into());
        self
    }

    /// Binds the application's cookies to the device. Default: [`Cookies::Off`].
    pub fn cookies(mut self, cookies: Cookies) -> Self {
        self.cookies = cookies;
        self
    }

    /// Sets the clock: seconds since 1970. For tests. Default: the machine's ([`SystemClock`]).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Sets where random bytes come from, for keys, salts and names. For tests. Default: the system ([`SystemRandom`]).
    pub fn random(mut self, random: impl Random + 'static) -> Self {
        self.random = Box::new(random);
        self
    }

    /// Sets how the address of whoever has sent a request is found, by its fields and its extensions. Default: that of the
    /// connection, where a [`SocketAddr`](std::net::SocketAddr) or axum's `ConnectInfo` of one is in the extensions; else
    /// none. Behind a proxy it is what that proxy states, in a field that it sets anew on every request: whatever a client
    /// can state is worth nothing.
    pub fn network(
        mut self,
        find: impl Fn(&HeaderMap, &Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.finder = Finder::new(find);
        self
    }

    /// Sets what happens too often, and what is done about it. By default all rules only record
    /// ([`EventKind::Rule`](crate::EventKind::Rule)), each beyond a threshold of its own ([`Rules`]).
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Sets how often a session, a device, a user or a network may come; each of them is `None` for no limit. Default: no
    /// limits.
    pub fn rates(mut self, rates: Rates) -> Self {
        self.rates = rates;
        self
    }

    /// Sets how many sessions are opened for nothing, and how much work it takes beyond: 0 to 20 bits. Default: 1000 in ten
    /// seconds in all and 100 a minute from one network, then 16 bits.
    pub fn openings(mut self, openings: Openings) -> Self {
        self.openings = openings;
        self
    }

    /// Sets who is told of every security event, besides `tracing`. Must be quick: it runs on the request's way. A
    /// task of its own asks [`Bulla::events`]. The [path](SecurityEvent::path) is as it came. Default: nobody.
    pub fn on_event(mut self, listener: impl Fn(&SecurityEvent) + Send + Sync + 'static) -> Self {
        self.listener = Some(Listener(Arc::new(listener)));
        self
    }

    /// Builds the verifier.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoOrigin`]; [`ConfigError::Origin`] if any is not one; [`ConfigError::AllowedOrigin`];
    /// [`ConfigError::Prefix`]; [`ConfigError::Path`]; [`ConfigError::Rule`]; [`ConfigError::Work`];
    /// [`ConfigError::Pace`]; [`ConfigError::NoIdentity`];
    /// [`ConfigError::NoStore`];
    /// [`ConfigError::Lifetime`] for one that is not among [`Lifetimes::RANGE`];
    /// [`ConfigError::RingPeriod`] for a period that [`Ring::with_period`] does not allow;
    /// [`ConfigError::RingOutreachesStore`]; [`ConfigError::RingOutreachesRegistry`]; [`ConfigError::NoRegistry`];
    /// [`ConfigError::File`] if the ring's file cannot be written; [`ConfigError::Random`] without random
    /// bytes.
    pub fn build(self) -> Result<Bulla, ConfigError> {
        let origins = public(self.origins)?;
        let allowed =
            |text: String| Origin::parse(&text).map_err(|_| ConfigError::AllowedOrigin(text));
        let cors = self
            .cors
            .into_iter()
            .map(allowed)
            .collect::<Result<_, _>>()?;
        if check_prefix(&self.prefix).is_err() {
            return Err(ConfigError::Prefix(self.prefix));
        }
        self.paths.check_prefixes()?;
        self.rules.check()?;
        self.rates.check()?;
        self.openings.check()?;
        if self.limits.max_fields > Limits::MOST_FIELDS {
            return Err(ConfigError::Fields);
        }
        if self.pace.is_some_and(|pace| !pace.is_allowed()) {
            return Err(ConfigError::Pace);
        }
        let identity = self.identity.ok_or(ConfigError::NoIdentity)?;
        let pseudonyms = identity.derive(b"pseudonyms")?;
        let store = self.store.ok_or(ConfigError::NoStore)?;
        let ring = self.ring.unwrap_or_else(Ring::ephemeral);
        if ring.is_shared() && !store.is_shared() {
            return Err(ConfigError::RingOutreachesStore);
        }
        match &self.registry {
            None if self.concurrency.is_limit() => return Err(ConfigError::NoRegistry),
            Some(registry) if ring.is_shared() && !registry.is_shared() => {
                return Err(ConfigError::RingOutreachesRegistry);
            }
            _ => {}
        }
        self.lifetimes.check()?;
        let keep = self.lifetimes.sealed(&self.cookies);
        if !ring.has_names_for(keep) {
            return Err(ConfigError::RingPeriod);
        }
        let now = whole(self.clock.now());
        // Earlier processes had a clock, too.
        let known = whole(store.written().max(ring.newest()));
        let was_ahead = known > now.saturating_add(MAX_STEP_BACK);
        if was_ahead {
            clock::report_step_back(known, now);
        }
        ring.drop_all(|| was_ahead);
        ring.begin(now.into(), keep, &*self.random)?;
        #[cfg(feature = "metrics")]
        event::meter::describe();
        let revoked = broadcast::Sender::new(live::BACKLOG);
        let streams = revoked.clone();
        store.on_ended(Box::new(move |ended| {
            // Nobody may be listening.
            let _ = streams.send(ended.map_or(News::Unknown, News::Ended));
        }));
        Ok(Bulla(Arc::new(Inner {
            origins,
            session_path: session_path(&self.prefix),
            sealed_path: sealed_path(&self.prefix),
            identity,
            ring,
            store,
            registry: self.registry,
            concurrency: self.concurrency,
            clock: self.clock,
            random: self.random,
            nonces: Nonces::new(self.lifetimes.nonce),
            devices: Devices::new(),
            limits: self.limits,
            pace: self.pace,
            lifetimes: self.lifetimes,
            keep,
            proof: self.proof,
            paths: RwLock::new(Arc::new(self.paths)),
            upstream: self.upstream,
            cors,
            cookies: RwLock::new(Arc::new(self.cookies)),
            finder: self.finder,
            guard: Guard::new(self.rules),
            meters: Meters::new(&self.rates),
            gate: Gate::new(&self.openings),
            watch: Watch {
                pseudonyms: Pseudonyms::new(&pseudonyms),
                listener: self.listener,
                feed: broadcast::Sender::new(event::feed::BACKLOG),
            },
            alarms: Alarms::default(),
            revoked,
            latest: AtomicU32::new(if was_ahead { now } else { now.max(known) }),
        })))
    }
}

/// The origins under which clients come.
fn public(texts: Vec<String>) -> Result<Vec<Origin>, ConfigError> {
    let mut public: Vec<Origin> = Vec::with_capacity(texts.len());
    for text in texts {
        let is_another = |origin: &Origin| {
            // A request says which authority it is for, and not by which scheme.
            let mut others = public.iter();
            !others.any(|other| other.has_authority(origin.authority()))
        };
        match Origin::parse(&text).ok().filter(is_another) {
            Some(origin) => public.push(origin),
            None => return Err(ConfigError::Origin(text)),
        }
    }
    if public.is_empty() {
        return Err(ConfigError::NoOrigin);
    }
    Ok(public)
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("origins", &self.origins)
            .finish_non_exhaustive()
    }
}

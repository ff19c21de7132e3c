//! The gateway: the verifier, with an application behind it.

mod change;
mod current;
mod learning;
mod upkeep;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bulla_server::{
    Builder, Bulla, Clock as _, ConfigError, Cookies, EmbeddedStore, Identity, Lifetimes,
    MemoryStore, Ring, Session, SystemClock, SystemRandom, Thumbprint,
};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

pub(crate) use self::current::Current;
use self::current::Kept;
use self::learning::Learning;
use crate::access::RuleError;
use crate::config::{Config, stated_address};
use crate::delivery::{DeliveryError, Signer};
use crate::edge::{Asked, PREFIX};
use crate::fields::{FieldsError, PageFields, Pages};
use crate::inventory::{Inventory, InventoryError, Script};
use crate::learnt::{Learnt, LearntError};
use crate::operator::{Desk, Stop, take_off_cookie};
use crate::site;
use crate::upstream::UpstreamError;

/// The verifier as a reverse proxy. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    bulla: Bulla,
    current: watch::Sender<Arc<Current>>,
    /// Of the manifests that it makes itself, and of those that there were.
    signer: Signer,
    learning: Learning,
    /// Held by whoever changes it.
    changing: Mutex<()>,
    desk: Desk,
}

/// Why a gateway cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The rules for paths.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// The verifier.
    #[error(transparent)]
    Verifier(#[from] ConfigError),
    /// The upstreams.
    #[error(transparent)]
    Upstreams(#[from] UpstreamError),
    /// The manifest of the application's code.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The inventory of scripts.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The fields that pages had.
    #[error(transparent)]
    Fields(#[from] FieldsError),
    /// The cookies that were learnt.
    #[error(transparent)]
    Learnt(#[from] LearntError),
}

/// Applications end their sessions by themselves. As long as most of their cookies live.
const SESSION: Duration = Duration::from_hours(14 * 24);

impl Gateway {
    /// Builds a gateway whose keys and sessions are kept in the folder that the configuration names.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn build(config: &Config) -> Result<Self, StartError> {
        let state = &config.state;
        let builder = Bulla::builder()
            .ring(Ring::in_file(state.join("ring.json"))?)
            .store(EmbeddedStore::open(state.join("store.redb"))?);
        let identity = Arc::new(Identity::load_or_create(config.identity_file())?);
        let signer = Signer::in_folder(Arc::clone(&identity), state)?;
        let inventory = Inventory::in_file(config.inventory_file())?;
        let pages = Pages::in_file(config.fields_file())?;
        let learnt = Learnt::in_file(state.join("cookies.json"))?;
        Self::with(
            config,
            builder,
            identity,
            signer,
            Kept::new(learnt, inventory, pages),
        )
    }

    /// Builds one that keeps nothing: its keys and sessions live as long as the process. For tests and demonstrations.
    ///
    /// # Errors
    ///
    /// As [`Self::build`].
    pub fn build_in_memory(config: &Config) -> Result<Self, StartError> {
        let builder = Bulla::builder().store(MemoryStore::new()?);
        let identity = Arc::new(Identity::generate(&SystemRandom)?);
        let signer = Signer::new(Arc::clone(&identity));
        let kept = Kept::new(Learnt::default(), Inventory::default(), Pages::default());
        Self::with(config, builder, identity, signer, kept)
    }

    fn with(
        config: &Config,
        builder: Builder,
        identity: Arc<Identity>,
        signer: Signer,
        kept: Kept,
    ) -> Result<Self, StartError> {
        let lifetimes = Lifetimes {
            session: SESSION,
            ..Lifetimes::default()
        };
        let limits = bulla_server::Limits {
            max_body_len: config.limits.body,
            ..bulla_server::Limits::default()
        };
        let mut builder = builder
            .prefix(PREFIX)
            .cookies(Cookies::Named(config.bound_cookies.clone()))
            .lifetimes(lifetimes)
            .limits(limits)
            .proof(config.proof)
            .identity(identity);
        if let Some(field) = config.network.client_address.clone() {
            builder = builder
                .upstream_field(field.clone())
                .network(move |fields, _| stated_address(&field, fields));
        }
        for origin in &config.origins {
            builder = builder.origin(origin);
        }
        let bulla = builder.build()?;
        let current = Current::new(config, kept, &signer)?;
        let gateway = Self(Arc::new(Inner {
            bulla,
            current: watch::Sender::new(Arc::new(current.clone())),
            signer,
            learning: Learning::default(),
            changing: Mutex::default(),
            desk: Desk::default(),
        }));
        gateway.publish(current)?;
        Ok(gateway)
    }

    /// What clients pin.
    pub fn identity(&self) -> Thumbprint {
        self.0.bulla.identity()
    }

    /// The verifier: its events, and what ends sessions.
    pub fn bulla(&self) -> &Bulla {
        &self.0.bulla
    }

    /// Names of cookies that the application has kept from script since the gateway began, and that are not bound: most of them
    /// are sessions.
    pub(crate) fn unbound_cookies(&self) -> Vec<String> {
        self.current().kept.learnt.unbound()
    }

    /// Names of cookies that it has learnt to bind.
    pub(crate) fn learnt_cookies(&self) -> Vec<String> {
        let current = self.current();
        current.kept.learnt.learnt(&current.config.unbound_cookies)
    }

    /// Makes an event of who has sent the gateway what is no HTTP.
    pub fn unreadable(&self, peer: SocketAddr) {
        let is_client = self.current().config.network.client_address.is_none();
        self.bulla().unreadable(is_client.then(|| peer.ip()));
    }

    /// Whether the application can be reached.
    pub fn is_ready(&self) -> bool {
        self.current().upstreams.is_ready()
    }

    /// The upstreams, and whether each is well.
    pub(crate) fn upstreams(&self) -> Vec<(String, bool)> {
        self.current().upstreams.states()
    }

    /// What it goes by.
    pub(crate) fn config(&self) -> Config {
        self.current().config.clone()
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.0.desk
    }

    /// The scripts that pages were seen to run, in the order in which they were seen first.
    pub fn scripts(&self) -> Vec<Script> {
        self.current().kept.reports.inventory.scripts()
    }

    /// How many of them there are.
    pub(crate) fn known_scripts(&self) -> usize {
        self.current().kept.reports.inventory.len()
    }

    /// The fields that pages had, by page.
    pub fn page_fields(&self) -> Vec<PageFields> {
        self.current().kept.pages.all()
    }

    /// How many sets of them there are.
    pub(crate) fn known_fields(&self) -> usize {
        self.current().kept.pages.len()
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.0.current.borrow())
    }

    /// Answers, unless the operator has stopped everything, or does so meanwhile.
    async fn respond(&self, mut request: Request<Body>) -> Response<Body> {
        take_off_cookie(request.headers_mut());
        let Desk { pulse, stop, .. } = self.desk();
        let begun = Instant::now();
        let mut thrown = stop.thrown();
        let response = tokio::select! {
            biased;
            () = &mut thrown => Stop::reply(),
            response = self.answer(request) => Stop::cut(response, thrown),
        };
        let has_failed = response.status().is_server_error();
        pulse.answered(self.desk().passed(), begun.elapsed(), has_failed);
        response
    }

    async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        if let Some(path) = learning::asked_about(&request) {
            Box::pin(self.learn(path)).await;
        }
        let current = self.current();
        let site = site::asked(&current.sites, &request).cloned();
        if let Some(file) = site.as_ref().and_then(|site| site.files.answer(&request)) {
            return file;
        }
        let asked = Asked::by(&request);
        if let Some(site) = site.clone() {
            request.extensions_mut().insert(site);
        }
        let (behind, gateway) = (Arc::clone(&current), self.clone());
        let application = service_fn(move |request: Request<bulla_server::Body>| {
            let current = Arc::clone(&behind);
            if let Some(session) = request.extensions().get::<Session>() {
                let names = gateway.bulla().pseudonyms();
                gateway
                    .desk()
                    .visitors
                    .note(session, names, SystemClock.now());
            }
            async move { Ok::<_, Infallible>(current.pass(request).await) }
        });
        let Ok(response) = self
            .0
            .bulla
            .layer()
            .layer(application)
            .oneshot(request)
            .await;
        let response = response.map(Body::new);
        match site {
            Some(site) => asked.refused(response, &current.rules, &site.files),
            None => response,
        }
    }
}

/// The whole gateway, to be served with the peers' addresses ([`ConnectInfo`](axum::extract::ConnectInfo) of a
/// `SocketAddr`).
impl Service<Request<Body>> for Gateway {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let gateway = self.clone();
        Box::pin(async move { Ok(gateway.respond(request).await) })
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("bulla", &self.0.bulla)
            .finish_non_exhaustive()
    }
}

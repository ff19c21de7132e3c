//! The gateway: the verifier, with an application behind it.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bulla_protocol::target::Origin;
use bulla_server::{
    Builder, Bulla, Clock as _, ConfigError, Cookies, EmbeddedStore, Identity, Lifetimes,
    MemoryStore, Paths, Ring, Session, SystemClock, SystemRandom, Thumbprint,
};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::access::{RuleError, Rules, behind};
use crate::config::{Access, Config, Mode, stated_address};
use crate::delivery::{Delivery, DeliveryError, Seen};
use crate::edge::{self, Asked, PREFIX};
use crate::html::{self, Held};
use crate::learnt::Learnt;
use crate::operator::{Desk, Stop, take_off_cookie};
use crate::rewritten;
use crate::runtime::inventory::{Authorised, Script};
use crate::runtime::{Inventory, InventoryError, Judged, Runtime};
use crate::site::{self, Site};
use crate::tokens::Tokens;
use crate::upstream::{UpstreamError, Upstreams};

/// The verifier as a reverse proxy. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    bulla: Bulla,
    /// What can be changed while it runs. Each request goes by what there is when it comes.
    current: watch::Sender<Arc<Current>>,
    /// The latest manifest.
    seen: Seen,
    /// Held by whoever changes it.
    changing: Mutex<()>,
    desk: Desk,
}

#[derive(Clone)]
pub(crate) struct Current {
    pub(crate) config: Config,
    pub(crate) rules: Rules,
    sites: Vec<Arc<Site>>,
    upstreams: Upstreams,
    learnt: Arc<Learnt>,
    delivery: Option<Arc<Delivery>>,
    runtime: Arc<Runtime>,
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
}

/// Applications end their sessions by themselves. As long as most of their cookies live.
const SESSION: Duration = Duration::from_hours(14 * 24);

/// How often it is written down which scripts were seen.
const SAVED: Duration = Duration::from_secs(10);

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
        let identity = Identity::load_or_create(state.join("identity.pem"))?;
        let seen = Seen::in_file(state.join("manifest.seen"))?;
        let inventory = Inventory::in_file(config.inventory())?;
        Self::with(config, builder, identity, seen, inventory)
    }

    /// Builds one that keeps nothing: its keys and sessions live as long as the process. For tests and demonstrations.
    ///
    /// # Errors
    ///
    /// As [`Self::build`].
    pub fn build_in_memory(config: &Config) -> Result<Self, StartError> {
        let builder = Bulla::builder().store(MemoryStore::new()?);
        let identity = Identity::generate(&SystemRandom)?;
        let (seen, inventory) = (Seen::default(), Inventory::default());
        Self::with(config, builder, identity, seen, inventory)
    }

    fn with(
        config: &Config,
        builder: Builder,
        identity: Identity,
        seen: Seen,
        inventory: Inventory,
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
        let current = Current::new(
            config,
            bulla.identity(),
            Arc::default(),
            Arc::new(Runtime::new(inventory)),
            &seen,
        )?;
        bulla.set_paths(current.paths())?;
        let current = watch::Sender::new(Arc::new(current));
        Ok(Self(Arc::new(Inner {
            bulla,
            current,
            seen,
            changing: Mutex::default(),
            desk: Desk::default(),
        })))
    }

    /// Goes by another configuration from now on, as far as that can be done while it runs: upstreams and their health,
    /// mode, what paths ask for, where tokens are, what is watched for in pages, and the manifest, which is read again. Gives the
    /// keys of what waits for a start. If something is wrong, all stays as it is.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn reload(&self, config: &Config) -> Result<Vec<&'static str>, StartError> {
        let _alone = self.alone();
        let Inner { bulla, seen, .. } = &*self.0;
        let before = self.current();
        let running = before.config.clone();
        let config = config.clone();
        let next = Config {
            upstreams: config.upstreams.clone(),
            upstream_tls: config.upstream_tls.clone(),
            health: config.health.clone(),
            mode: config.mode,
            access: config.access,
            paths: config.paths.clone(),
            delivery: config.delivery.clone(),
            tokens: config.tokens.clone(),
            unbound_tokens: config.unbound_tokens,
            runtime: config.runtime.clone(),
            scripts: config.scripts.clone(),
            ..running
        };
        let waiting = next.changed(&config);
        let (learnt, runtime) = (Arc::clone(&before.learnt), Arc::clone(&before.runtime));
        let next = Current::new(&next, bulla.identity(), learnt, runtime, seen)?;
        self.go_by(next)?;
        Ok(waiting)
    }

    /// Changes the mode until the next [`reload`](Self::reload). The file stays as it is.
    ///
    /// # Errors
    ///
    /// [`StartError::Verifier`].
    pub fn set_mode(&self, mode: Mode) -> Result<(), StartError> {
        let _alone = self.alone();
        let mut next = Current::clone(&self.current());
        next.config.mode = mode;
        self.go_by(next)
    }

    fn alone(&self) -> impl Drop + '_ {
        // Nothing is left half done by whoever panicked.
        let changing = self.0.changing.lock();
        changing.unwrap_or_else(PoisonError::into_inner)
    }

    fn go_by(&self, next: Current) -> Result<(), StartError> {
        self.0.bulla.set_paths(next.paths())?;
        self.0.current.send_replace(Arc::new(next));
        Ok(())
    }

    /// What clients pin.
    pub fn identity(&self) -> Thumbprint {
        self.0.bulla.identity()
    }

    /// The verifier: its events, and what ends sessions.
    pub fn bulla(&self) -> &Bulla {
        &self.0.bulla
    }

    /// Names of cookies that the application has kept from script since the gateway began, and that it was not told to bind:
    /// most of them are sessions.
    pub fn unbound_cookies(&self) -> Vec<String> {
        self.current().learnt.names()
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
        self.current().runtime.inventory.scripts()
    }

    /// Writes down which scripts were seen, if any are new.
    ///
    /// # Errors
    ///
    /// If that cannot be done.
    pub fn save(&self) -> io::Result<()> {
        self.current().runtime.inventory.save()
    }

    /// Looks after the upstreams, and writes down which scripts were seen, for as long as it is polled.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut current = self.0.current.subscribe();
        let gateway = self.clone();
        async move {
            loop {
                let upstreams = current.borrow_and_update().upstreams.clone();
                tokio::select! {
                    () = upstreams.watch() => {}
                    () = gateway.save_again_and_again() => {}
                    changed = current.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }

    async fn save_again_and_again(&self) {
        loop {
            sleep(SAVED).await;
            let gateway = self.clone();
            let saved = spawn_blocking(move || gateway.save()).await;
            if let Err(error) = saved.map_err(io::Error::other).flatten() {
                tracing::error!("which scripts were seen is not written down: {error}");
            }
        }
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.0.current.borrow())
    }

    /// The whole gateway, to be served with the peers' addresses
    /// ([`ConnectInfo`](axum::extract::ConnectInfo) of a `SocketAddr`).
    pub fn router(&self) -> Router {
        let gateway = self.clone();
        Router::new().fallback_service(service_fn(move |request| {
            let gateway = gateway.clone();
            async move { Ok::<_, Infallible>(gateway.respond(request).await) }
        }))
    }

    /// Answers, unless the operator has stopped everything, or does so meanwhile.
    async fn respond(&self, mut request: Request<Body>) -> Response<Body> {
        take_off_cookie(request.headers_mut());
        let Desk { pulse, stop, .. } = self.desk();
        let begun = Instant::now();
        let is_head = request.method() == Method::HEAD;
        let response = tokio::select! {
            biased;
            () = stop.thrown() => Stop::reply(),
            response = self.answer(request) => stop.cut(response),
        };
        let response = of_no_length(is_head, response);
        let has_failed = response.status().is_server_error();
        pulse.answered(self.desk().passed(), begun.elapsed(), has_failed);
        response
    }

    async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
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
                gateway.desk().seen.note(session, names, SystemClock.now());
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

impl Current {
    /// # Errors
    ///
    /// [`StartError`].
    fn new(
        config: &Config,
        identity: Thumbprint,
        learnt: Arc<Learnt>,
        runtime: Arc<Runtime>,
        seen: &Seen,
    ) -> Result<Self, StartError> {
        let rules = Rules::new(config)?;
        let upstreams = Upstreams::new(config)?;
        // Last, since what is seen once is seen for good.
        let delivery = config.delivery.as_ref();
        let load = |delivery| Delivery::load(delivery, &config.scripts, identity, seen);
        let delivery = delivery.map(load);
        let delivery = delivery.transpose()?.map(Arc::new);
        let identity = identity.to_string();
        // The verifier has taken them, so they are origins.
        let origins = config
            .origins
            .iter()
            .filter_map(|origin| Origin::parse(origin).ok());
        let site = |origin| {
            let delivery = delivery.as_deref();
            Arc::new(Site::new(origin, &identity, &rules, delivery, config))
        };
        Ok(Self {
            sites: origins.map(site).collect(),
            upstreams,
            config: config.clone(),
            rules,
            learnt,
            delivery,
            runtime,
        })
    }

    /// What the verifier is to ask for. What a path needs beyond a session is asked for behind it: there the longest
    /// beginning counts.
    fn paths(&self) -> Paths {
        let public = self.rules.public().into_iter();
        let paths = public.fold(Paths::default(), Paths::unsigned);
        match self.config.mode {
            Mode::Enforce => paths,
            Mode::Monitor => paths.monitor("/"),
        }
    }

    /// What the verifier has let through, to the application and back, if its path asks for no more.
    async fn pass(self: Arc<Self>, request: Request<bulla_server::Body>) -> Response<Body> {
        let path = request.uri().path();
        if edge::is_own(path) {
            let site = request.extensions().get::<Arc<Site>>().cloned();
            let judged = Judged {
                config: &self.config,
                authorised: self.authorised(),
                origin: site.as_deref().map(|site| &site.origin),
            };
            return self.runtime.answer(request, judged).await;
        }
        let access = self.rules.at(path);
        let application = service_fn(move |request: Request<bulla_server::Body>| {
            let current = Arc::clone(&self);
            async move { Ok::<_, Infallible>(current.forward(request.map(Body::new)).await) }
        });
        behind(access, request, application).await
    }

    async fn forward(&self, mut request: Request<Body>) -> Response<Body> {
        let tokens = Tokens(&self.config);
        let is_public = self.rules.at(request.uri().path()) == Access::Public;
        if let Err(refused) = tokens.open(&mut request, is_public) {
            return Response::from(refused).map(Body::new);
        }
        let binding = tokens.due(&mut request);
        let site = request.extensions().get::<Arc<Site>>().cloned();
        // What scripts fetch is a part of a page at most, and theirs to put in.
        let is_page = edge::is_navigation(&request);
        let held = self.held(&request).filter(|_| is_page);
        let has_content = request.method() != Method::HEAD;
        let mut response = self.upstreams.forward(request).await;
        let is_changed = binding.is_some() || (is_page && html::is_html(response.headers()));
        if !has_content && is_changed {
            // It tells of what a GET would get, and that is not what the application sends.
            rewritten::take_off(response.headers_mut());
        }
        if let Some(binding) = binding {
            response = binding.bind(response).await;
        }
        if let Some(Held { delivery, path, .. }) = held.as_ref().filter(|_| has_content) {
            response = delivery.unharmed(path, response).await;
        }
        self.learnt
            .look(response.headers(), &self.config.bound_cookies);
        match site.filter(|_| is_page) {
            Some(site) => html::rewrite(response, &site.loader, held),
            None => response,
        }
    }

    /// Which scripts pages are to run.
    pub(crate) fn authorised(&self) -> Authorised<'_> {
        Authorised {
            rules: &self.config.scripts,
            manifest: self.delivery.as_deref().map(|delivery| &delivery.manifest),
        }
    }

    /// What a page is held to, if there is a manifest.
    fn held(&self, request: &Request<Body>) -> Option<Held> {
        let site = request.extensions().get::<Arc<Site>>()?;
        Some(Held {
            delivery: Arc::clone(self.delivery.as_ref()?),
            origin: site.origin.to_string(),
            path: request.uri().path().to_owned(),
        })
    }
}

/// Where a reply has no content, only the application knows how much there would have been: axum says 0, which is the
/// wrong answer to HEAD and to a condition (RFC 9110 section 8.6).
fn of_no_length(is_head: bool, mut response: Response<Body>) -> Response<Body> {
    let status = response.status();
    let has_none = is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !has_none || !response.body().is_end_stream() {
        return response;
    }
    if status == StatusCode::NO_CONTENT {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response.map(|_| Body::new(Nothing))
}

/// An empty body that does not say that it is.
struct Nothing;

impl HttpBody for Nothing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("bulla", &self.0.bulla)
            .finish_non_exhaustive()
    }
}

//! What can be changed while a gateway runs, and the way of a request behind the verifier.

use std::sync::Arc;

use axum::body::Body;
use bulla_protocol::target::Origin;
use bulla_server::{Paths, Session, Thumbprint};
use http::{Method, Request, Response};

use super::StartError;
use crate::access::{Rules, behind};
use crate::config::{Access, Config, Mode};
use crate::delivery::{Delivery, Signer};
use crate::edge;
use crate::fields::{Asked, Pages};
use crate::html::{self, Held};
use crate::inventory::{Authorised, Inventory};
use crate::learnt::Learnt;
use crate::packed::unpacked;
use crate::rewritten;
use crate::runtime::{Criteria, Reports};
use crate::site::Site;
use crate::tokens::Tokens;
use crate::upstream::Upstreams;

/// What a gateway goes by. Each request goes by what there is when it comes.
#[derive(Clone)]
pub(crate) struct Current {
    pub(crate) config: Config,
    pub(crate) rules: Rules,
    pub(super) sites: Vec<Arc<Site>>,
    pub(super) upstreams: Upstreams,
    pub(super) delivery: Option<Arc<Delivery>>,
    pub(super) kept: Kept,
}

/// What stays when a configuration changes.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) learnt: Arc<Learnt>,
    pub(super) reports: Arc<Reports>,
    pub(super) pages: Arc<Pages>,
}

impl Kept {
    pub(super) fn new(learnt: Learnt, inventory: Inventory, pages: Pages) -> Self {
        Self {
            learnt: Arc::new(learnt),
            reports: Arc::new(Reports::new(inventory)),
            pages: Arc::new(pages),
        }
    }
}

impl Current {
    /// # Errors
    ///
    /// [`StartError`].
    pub(super) fn new(config: &Config, kept: Kept, signer: &Signer) -> Result<Self, StartError> {
        let rules = Rules::new(config)?;
        let upstreams = Upstreams::new(config)?;
        // Last, since what is seen once is seen for good.
        let delivery = config.delivery.as_ref();
        let load = |delivery| Delivery::load(delivery, &config.scripts, signer);
        let delivery = delivery.map(load);
        let delivery = delivery.transpose()?.map(Arc::new);
        Ok(Self {
            sites: sites(config, signer.identity(), &rules, delivery.as_deref()),
            upstreams,
            config: config.clone(),
            rules,
            delivery,
            kept,
        })
    }

    /// The same in another mode.
    pub(super) fn in_mode(&self, mode: Mode, identity: Thumbprint) -> Self {
        let mut next = self.clone();
        next.config.mode = mode;
        let delivery = next.delivery.as_deref();
        next.sites = sites(&next.config, identity, &next.rules, delivery);
        next
    }

    /// The same with another manifest.
    pub(super) fn with_delivery(&self, delivery: Delivery, identity: Thumbprint) -> Self {
        let mut next = self.clone();
        next.sites = sites(&next.config, identity, &next.rules, Some(&delivery));
        next.delivery = Some(Arc::new(delivery));
        next
    }

    /// What the verifier is to ask for. What a path needs beyond a session is asked for behind it: there the longest
    /// beginning counts.
    pub(super) fn paths(&self) -> Paths {
        let public = self.rules.public().into_iter();
        let paths = public.fold(Paths::default(), Paths::unsigned);
        match self.config.mode {
            Mode::Enforce => paths,
            Mode::Monitor => paths.monitor("/"),
        }
    }

    /// Which cookies are bound: those that are named, and those that it has learnt. Where it only monitors none is, and those that
    /// were are opened.
    pub(super) fn bound_cookies(&self) -> Vec<String> {
        let Config {
            bound_cookies,
            unbound_cookies,
            ..
        } = &self.config;
        let learnt = self.kept.learnt.learnt(unbound_cookies);
        bound_cookies.iter().cloned().chain(learnt).collect()
    }

    /// What the verifier has let through, to the application and back, if its path asks for no more.
    pub(super) async fn pass(
        self: Arc<Self>,
        request: Request<bulla_server::Body>,
    ) -> Response<Body> {
        let path = request.uri().path();
        if edge::is_own(path) {
            let site = request.extensions().get::<Arc<Site>>().cloned();
            let criteria = Criteria {
                config: &self.config,
                bound_cookies: &|| self.bound_cookies(),
                authorised: self.authorised(),
                origin: site.as_deref().map(|site| &site.origin),
            };
            // Large, and seldom asked for: so are those below.
            return Box::pin(self.kept.reports.answer(request, criteria)).await;
        }
        let access = self.rules.at(path);
        let application = |request: Request<bulla_server::Body>| {
            let current = Arc::clone(&self);
            async move { current.forward(request.map(Body::new), access).await }
        };
        behind(access, request, application).await
    }

    async fn forward(&self, mut request: Request<Body>, access: Access) -> Response<Body> {
        let tokens = Tokens(&self.config);
        if let Err(refused) = tokens.open(&mut request, access == Access::Public) {
            return Response::from(refused).map(Body::new);
        }
        let binding = tokens.due(&mut request);
        let site = request.extensions().get::<Arc<Site>>().cloned();
        // What scripts fetch is a part of a page at most, and theirs to put in.
        let is_page = edge::is_navigation(request.headers());
        let held = is_page.then(|| self.held(&request)).flatten();
        let has_content = request.method() != Method::HEAD;
        let is_watched = is_page && self.config.runtime.watch;
        let asked = is_watched.then(|| Asked::by(&request));
        let session = request.extensions().get::<Session>();
        let is_sealed = session.is_some_and(Session::is_sealed);
        let mut response = self.upstreams.forward(request, is_page).await;
        if is_page || is_sealed {
            response = unpacked(response, is_page, self.config.mode);
        }
        if let Some(asked) = asked {
            self.kept.pages.look(&asked, &response, &self.config.fields);
        }
        let is_changed = binding.is_some() || (is_page && html::is_html(response.headers()));
        if !has_content && is_changed {
            // It tells of what a GET would get, and that is not what the application sends.
            rewritten::take_off(response.headers_mut());
        }
        if let Some(binding) = binding {
            response = Box::pin(binding.bind(response)).await;
        }
        if let Some(Held { delivery, path, .. }) = held.as_ref().filter(|_| has_content) {
            response = Box::pin(delivery.unharmed(path, response, self.config.mode)).await;
        }
        self.kept.learnt.look(response.headers(), &self.config);
        match site.filter(|_| is_page) {
            Some(site) => html::rewrite(response, &site.loader, held),
            None => response,
        }
    }

    /// Which scripts pages may run.
    pub(crate) fn authorised(&self) -> Authorised<'_> {
        Authorised {
            rules: &self.config.scripts,
            manifest: self.delivery.as_deref().and_then(Delivery::authority),
        }
    }

    /// What a page is held to, if there is a manifest.
    fn held(&self, request: &Request<Body>) -> Option<Held> {
        let site = request.extensions().get::<Arc<Site>>()?;
        Some(Held {
            delivery: Arc::clone(self.delivery.as_ref()?),
            origin: site.origin.to_string(),
            path: request.uri().path().to_owned(),
            mode: self.config.mode,
            holds_modules: html::holds_modules(request.headers()),
        })
    }
}

fn sites(
    config: &Config,
    identity: Thumbprint,
    rules: &Rules,
    delivery: Option<&Delivery>,
) -> Vec<Arc<Site>> {
    let identity = identity.to_string();
    // The verifier has taken them, so they are origins.
    let origins = config
        .origins
        .iter()
        .filter_map(|origin| Origin::parse(origin).ok());
    let site = |origin| Site::new(origin, &identity, rules, delivery, config);
    origins.filter_map(site).map(Arc::new).collect()
}

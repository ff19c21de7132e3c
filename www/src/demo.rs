//! Puts it all together, and serves it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router, middleware};
use bulla_client::SystemRandom;
use bulla_server::{Bulla, ConfigError, Identity, MemoryRegistry, MemoryStore};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::attack::{self, Console};
use crate::bank::{self, Bank, Customers};
use crate::clock::MovableClock;
use crate::counter::Counter;
use crate::feed::Feed;
use crate::panel::{self, Admin};
use crate::tap::Tap;
use crate::thief::Thief;
use crate::{assets, meter, protected, rules, twin};

/// Why the demo does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The listener has no address.
    #[error("the listener has no address")]
    Listener(#[from] io::Error),
    /// The verifier cannot be built.
    #[error("the verifier cannot be built")]
    Server(#[from] ConfigError),
    /// The thief's client cannot be built.
    #[error("the thief's client cannot be built")]
    Thief(#[from] bulla_client::Error),
    /// The customers' passwords cannot be hashed.
    #[error("the customers' passwords cannot be hashed")]
    Passwords(argon2::password_hash::Error),
}

/// A running demo. It stops when dropped.
///
/// Everything in it is made anew at each start: the server's keys, both banks' books, the thief.
#[derive(Debug)]
pub struct Demo {
    origin: String,
    serving: JoinHandle<()>,
}

impl Demo {
    /// Serves the demo on `listener`, for browsers on this machine: at `http://localhost` and at
    /// `http://127.0.0.1`, with the listener's port.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(listener: TcpListener) -> Result<Self, DemoError> {
        Self::serve(listener, app)
    }

    /// Serves the thief's panel for an admin that is behind the gateway, and can be reached without it, too.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn thief(listener: TcpListener, admin: Admin) -> Result<Self, DemoError> {
        Self::serve(listener, |origin, also| panel::app(origin, also, admin))
    }

    fn serve(
        listener: TcpListener,
        app: impl FnOnce(&str, &str) -> Result<Router, DemoError>,
    ) -> Result<Self, DemoError> {
        let port = listener.local_addr()?.port();
        let origin = format!("http://localhost:{port}");
        let app = app(&origin, &format!("http://{}:{port}", Ipv4Addr::LOCALHOST))?;
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let serving = tokio::spawn(async move {
            // axum's accept loop retries by itself and never returns.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { origin, serving })
    }

    /// Where it is: `http://localhost:PORT`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Serves for as long as the process lives.
    pub async fn run(mut self) {
        let _ = (&mut self.serving).await;
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn app(origin: &str, also: &str) -> Result<Router, DemoError> {
    meter::start();
    let (clock, feed) = (MovableClock::default(), Feed::new());
    let events = feed.clone();
    let bulla = Bulla::builder()
        .origin(origin)
        .origin(also)
        .identity(Identity::generate(&SystemRandom)?)
        .store(MemoryStore::new()?)
        .registry(MemoryRegistry::new())
        .clock(clock.clone())
        .rules(rules::rules())
        .on_event(move |event| events.push(event))
        .build()?;

    let customers = Arc::new(Customers::new().map_err(DemoError::Passwords)?);
    let counter = |bank: &Bank| Counter {
        bank: bank.clone(),
        customers: Arc::clone(&customers),
    };
    let (protected_bank, twin_bank) = (Bank::new(clock.clone()), Bank::new(clock.clone()));
    let thief = Thief::new(origin, bulla.identity())?;
    let tap = Tap::new(thief.clone());
    let about = json!({
        "identity": bulla.identity().to_string(),
        "origins": [origin, also],
        "customers": bank::shown_credentials(),
        "clerk": bank::shown_clerk(),
        "names": bank::names(),
        "rules": rules::shown(),
    });

    let banks = twin::routes(counter(&twin_bank))
        // Whatever else is asked for is the protected bank's.
        .fallback_service(protected::routes(&bulla, counter(&protected_bank)))
        .layer(middleware::from_fn_with_state(tap.clone(), Tap::pass));
    let console = Console {
        thief,
        tap,
        feed: feed.clone(),
        bulla: bulla.clone(),
        clock,
        protected: protected_bank,
        twin: twin_bank,
    };
    Ok(assets::bank()
        .route("/demo.json", get(async move || Json(about)))
        .route("/events", get(async move || feed.stream()))
        .merge(meter::routes())
        .merge(attack::routes(console))
        .merge(banks))
}

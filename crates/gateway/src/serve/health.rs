//! What those ask who look after the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::StatusCode;
use http::header::CACHE_CONTROL;

/// Whether requests can be answered.
#[derive(Clone)]
pub(super) struct Health {
    well: Arc<dyn Fn() -> bool + Send + Sync>,
    ending: Arc<AtomicBool>,
}

impl Health {
    pub(super) fn new(well: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            well: Arc::new(well),
            ending: Arc::default(),
        }
    }

    /// From now on nobody should send requests here.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    fn ready(&self) -> (StatusCode, &'static str) {
        if self.ending.load(Ordering::Relaxed) {
            (StatusCode::SERVICE_UNAVAILABLE, "ending\n")
        } else if (self.well)() {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "no upstream is well\n")
        }
    }

    /// Its paths, before all others of the operator's.
    pub(super) fn before(self, others: Router) -> Router {
        let live = || async { fresh(StatusCode::OK, "live\n") };
        let ready = move || async move {
            let (status, said) = self.ready();
            fresh(status, said)
        };
        Router::new()
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .fallback_service(others)
    }
}

fn fresh(status: StatusCode, said: &'static str) -> impl IntoResponse {
    (status, [(CACHE_CONTROL, "no-store")], said)
}

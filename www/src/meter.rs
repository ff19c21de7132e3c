//! What the verifier counts, for Prometheus.

use std::sync::OnceLock;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Prometheus's text format, version 0.0.4.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// There is one recorder in a process, and so one count for all demos in it.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Begins to count. Before the verifier is built, which says what its metrics are.
pub(crate) fn start() {
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Whoever has installed another one reads there.
        let _ = metrics::set_global_recorder(recorder);
        handle
    });
}

/// `GET /metrics`.
pub(crate) fn routes() -> Router {
    let text = || {
        RECORDER
            .get()
            .map(PrometheusHandle::render)
            .unwrap_or_default()
    };
    let page = get(async move || ([(CONTENT_TYPE, TEXT)], text()));
    Router::new().route("/metrics", page)
}

//! Which upstreams are well.

use std::sync::atomic::Ordering;

use axum::body::Body;
use http::Request;
use http::header::HOST;
use tokio::time::{sleep, timeout};

use super::{TARGET, Upstream, Upstreams};

impl Upstreams {
    /// Looks after the upstreams, without end.
    pub(crate) fn watch(&self) -> impl Future<Output = ()> + Send + use<> {
        let upstreams = self.clone();
        async move {
            loop {
                let checks = upstreams.0.all.iter().map(|one| upstreams.check(one));
                futures_util::future::join_all(checks).await;
                sleep(upstreams.0.config.health.interval).await;
            }
        }
    }

    async fn check(&self, upstream: &Upstream) {
        let within = self.0.config.health.timeout;
        let is_well = timeout(within, self.answers(upstream))
            .await
            .unwrap_or_default();
        upstream.connections.sweep();
        if upstream.is_well.swap(is_well, Ordering::Relaxed) != is_well {
            tracing::warn!(target: TARGET, upstream = %upstream.uri, is_well, "an upstream has changed");
        }
    }

    async fn answers(&self, upstream: &Upstream) -> bool {
        let Some(path) = &self.0.config.health.path else {
            return upstream.connections.connect().await.is_ok();
        };
        let mut request = Request::new(Body::empty());
        let Ok(target) = path.parse() else {
            return false;
        };
        *request.uri_mut() = target;
        request.headers_mut().insert(HOST, upstream.host.clone());
        let reply = upstream.connections.send_anew(request, None).await;
        reply.is_ok_and(|reply| reply.status().as_u16() < 500)
    }
}

//! An application that knows of nothing, and a gateway before it.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use bulla_gateway::Gateway;
use bulla_gateway::config::{Access, Config, PathRule};
use bulla_gateway::serve;
use serde_json::{Value, json};
use tower::Service;

use crate::bank::package;
use crate::serve::{Server, is_new};

/// A running application with a gateway before it.
pub struct Behind {
    /// What has come to the application.
    pub seen: Seen,
    /// The application by itself: what there is without a gateway.
    pub application: Server,
    /// The gateway.
    pub server: Server,
    /// Its inside.
    pub gateway: Gateway,
}

/// What has come to an application.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<Value>>>);

impl Seen {
    fn push(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &str) -> Value {
        let mut fields = serde_json::Map::new();
        for (name, value) in headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            fields.insert(name.as_str().to_owned(), value.into());
        }
        let method = method.as_str();
        let seen =
            json!({ "method": method, "target": uri.to_string(), "fields": fields, "body": body });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(seen.clone());
        seen
    }

    /// All of it, in order: `{ method, target, fields, body }`.
    pub fn all(&self) -> Vec<Value> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }

    /// Begins anew.
    pub fn forget(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// What has come for this path and query.
    pub fn at(&self, target: &str) -> Vec<Value> {
        let mut all = self.all();
        all.retain(|seen| seen["target"] == target);
        all
    }
}

impl Behind {
    /// Starts an application, and before it a gateway on a free port, with keys and a store of its own in memory. `/static/`
    /// is public, all else has to come sealed, if `configure` changes nothing.
    ///
    /// # Errors
    ///
    /// If no port can be had, or the gateway cannot be built.
    pub async fn start(configure: impl FnOnce(&mut Config)) -> io::Result<Self> {
        Self::start_within(configure, |router| router).await
    }

    /// The same, with something around the gateway: whoever is on the way.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub async fn start_within(
        configure: impl FnOnce(&mut Config),
        around: impl FnOnce(Router) -> Router,
    ) -> io::Result<Self> {
        let seen = Seen::default();
        let package = package()?.route("/npm/", crate::bank::page());
        let application = Server::start(routes(seen.clone()).merge(package)).await?;
        let upstream = format!("http://127.0.0.1:{}", application.port());
        let configure = |config: &mut Config| {
            config.paths = vec![PathRule {
                prefix: "/static/".to_owned(),
                access: Access::Public,
            }];
            configure(config);
        };
        let (gateway, server) = before(&upstream, configure, around).await?;
        Ok(Self {
            seen,
            application,
            server,
            gateway,
        })
    }
}

/// Starts a gateway before the application at this origin, on a free port, with keys and a store of its own in memory.
/// All has to come sealed, if `configure` changes nothing; `around` puts something around it.
///
/// # Errors
///
/// If no port can be had, or the gateway cannot be built.
pub async fn before(
    upstream: &str,
    configure: impl FnOnce(&mut Config),
    around: impl FnOnce(Router) -> Router,
) -> io::Result<(Gateway, Server)> {
    let config = Config::for_upstream(upstream.parse().map_err(io::Error::other)?);
    let (gateway, server) = listening(config, configure).await?;
    let router = around(Router::new().fallback_service(gateway.clone()));
    let server = serve(server, &gateway, router);
    Ok((gateway, server))
}

/// A gateway, and its server at a port where no browser has been. The server has it from the system, so nobody else can
/// have taken it; its origin is the gateway's, unless `configure` names one.
async fn listening(
    mut config: Config,
    configure: impl FnOnce(&mut Config),
) -> io::Result<(Gateway, serve::Server)> {
    config.listen = (Ipv4Addr::LOCALHOST, 0).into();
    config.origins = Vec::new();
    configure(&mut config);
    // Those that were had before stay taken meanwhile, so that another one is given.
    let mut passed_over = Vec::new();
    let server = loop {
        let server = serve::Server::bind(&config).await;
        let server = server.map_err(io::Error::other)?;
        if is_new(server.address().port()) {
            break server;
        }
        passed_over.push(server);
    };
    config.listen = server.address();
    if config.origins.is_empty() {
        config.origins = vec![format!("http://localhost:{}", config.listen.port())];
    }
    let gateway = Gateway::build_in_memory(&config).map_err(io::Error::other)?;
    Ok((gateway, server))
}

/// Serves a gateway, or what is around it, as operators do.
fn serve<S>(server: serve::Server, gateway: &Gateway, app: S) -> Server
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let port = server.address().port();
    let told = gateway.clone();
    let server = server.on_unreadable(move |peer| told.unreadable(peer));
    let serving = tokio::spawn(async move {
        // It ends with the test.
        let _ = server.run(app).await;
    });
    Server::running(port, serving)
}

/// A gateway that runs.
pub struct Running {
    /// Its inside.
    pub gateway: Gateway,
    server: Server,
}

impl Running {
    /// Starts one on a free port before these upstreams, with keys and a store of its own in memory. `/static/` is public,
    /// all else has to come sealed, if `configure` changes nothing. Nobody looks after the upstreams.
    ///
    /// # Errors
    ///
    /// If there is no upstream or no port, or the gateway cannot be built.
    pub async fn start(
        upstreams: &[String],
        configure: impl FnOnce(&mut Config),
    ) -> io::Result<Self> {
        let parsed = upstreams.iter().map(|upstream| upstream.parse());
        let parsed: Vec<axum::http::Uri> =
            parsed.collect::<Result<_, _>>().map_err(io::Error::other)?;
        let first = parsed.first().cloned();
        let first = first.ok_or_else(|| io::Error::other("there is no upstream"))?;
        let mut config = Config::for_upstream(first);
        config.upstreams = parsed;
        config.paths = vec![PathRule {
            prefix: "/static/".to_owned(),
            access: Access::Public,
        }];
        let (gateway, server) = listening(config, configure).await?;
        let server = serve(server, &gateway, gateway.clone());
        Ok(Self { gateway, server })
    }

    /// The port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The origin with `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        self.server.url(path)
    }
}

/// What is at `/account`.
pub const PAGE: &str =
    "<!doctype html><title>The account</title><link rel=icon href=data:,><h1>The account</h1>
<form id=order method=post action=/order><input name=what value=clay></form>";

fn routes(seen: Seen) -> Router {
    let style = || async { ([(CONTENT_TYPE, "text/css")], "h1 { color: teal }") };
    Router::new()
        .route("/account", get(page))
        .route("/echo", any(echo))
        .route("/order", any(order))
        .route("/static/style.css", get(style))
        .fallback(missing)
        .with_state(seen)
}

async fn page(State(seen): State<Seen>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    seen.push(&method, &uri, &headers, "");
    let cookie = "sessionid=s3cret; Path=/; HttpOnly; SameSite=Lax";
    ([(SET_COOKIE, cookie)], Html(PAGE)).into_response()
}

async fn order(
    State(seen): State<Seen>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    seen.push(&method, &uri, &headers, &body);
    (StatusCode::SEE_OTHER, [(LOCATION, "/account?ordered")]).into_response()
}

async fn echo(
    State(seen): State<Seen>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Json<Value> {
    Json(seen.push(&method, &uri, &headers, &body))
}

async fn missing(
    State(seen): State<Seen>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> StatusCode {
    seen.push(&method, &uri, &headers, "");
    StatusCode::NOT_FOUND
}

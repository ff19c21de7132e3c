//! Connections: HTTP/1.1 and HTTP/2 at one port, TLS with certificates that change, and an end that loses nothing.

mod health;
mod signals;
mod tls;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::RustlsAcceptor;
use axum_server::{Control, Handle};
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::health::Health;
use self::signals::{End, Signals};
pub(crate) use self::tls::certificates;
pub use self::tls::{Certificate, TlsError};
use crate::config::{Config, Limits};

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is taken, not this machine's, or not for everyone.
    #[error("it cannot listen at {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system does not say when the end is.
    #[error("it cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
    /// It has stopped by itself.
    #[error("it has stopped listening: {0}")]
    Stopped(#[source] io::Error),
}

/// What is called on SIGHUP.
type Reload = Box<dyn FnMut() -> BoxFuture<'static, ()> + Send>;

/// A server that listens, and answers once it [runs](Self::run). Unix only.
pub struct Server {
    public: TcpListener,
    address: SocketAddr,
    certificate: Option<Certificate>,
    operator: Option<(TcpListener, SocketAddr)>,
    page: Router,
    decision: Option<(TcpListener, SocketAddr)>,
    questions: Router,
    health: Health,
    reload: Reload,
    limits: Limits,
    signals: Signals,
}

impl Server {
    /// Listens where the configuration says, and reads the certificate. From here on no signal ends the process by
    /// itself.
    ///
    /// # Errors
    ///
    /// [`ServeError`].
    pub async fn bind(config: &Config) -> Result<Self, ServeError> {
        let certificate = config.tls.as_ref().map(Certificate::load).transpose()?;
        let signals = Signals::new().map_err(ServeError::Signals)?;
        let operator = match &config.operator {
            Some(operator) => Some(listen(operator.listen).await?),
            None => None,
        };
        let decision = match &config.decision {
            Some(decision) => Some(listen(decision.listen).await?),
            None => None,
        };
        let (public, address) = listen(config.listen).await?;
        Ok(Self {
            public,
            address,
            certificate,
            operator,
            page: Router::new(),
            decision,
            questions: Router::new(),
            health: Health::new(|| true),
            reload: Box::new(|| Box::pin(async {})),
            limits: config.limits.clone(),
            signals,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for the operator.
    pub fn operator_address(&self) -> Option<SocketAddr> {
        self.operator.as_ref().map(|&(_, address)| address)
    }

    /// Where it listens for proxies that ask.
    pub fn decision_address(&self) -> Option<SocketAddr> {
        self.decision.as_ref().map(|&(_, address)| address)
    }

    /// The certificate, if it ends TLS.
    pub fn certificate(&self) -> Option<Certificate> {
        self.certificate.clone()
    }

    /// Sets what the operator sees at his own address, besides `/health/live` and `/health/ready`. Default: nothing.
    #[must_use]
    pub fn operator(mut self, page: Router) -> Self {
        self.page = page;
        self
    }

    /// Sets what proxies are answered who ask. Default: nothing.
    #[must_use]
    pub fn decision(mut self, questions: Router) -> Self {
        self.questions = questions;
        self
    }

    /// Sets by what it is ready, as long as it is not ending. Default: always.
    #[must_use]
    pub fn ready(mut self, well: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.health = Health::new(well);
        self
    }

    /// Sets what happens on SIGHUP: one call after the other, while requests are answered. Default: nothing.
    #[must_use]
    pub fn on_reload<F>(mut self, mut reload: impl FnMut() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.reload = Box::new(move || Box::pin(reload()));
        self
    }

    /// Answers until the process is asked to end, by SIGTERM or SIGINT. Then nobody new is let in, idle connections are
    /// closed, and what is in flight has [`Limits::shutdown`]; who asks again ends it at once. Until the last one is
    /// through the operator is told that it is not ready. What has become a `WebSocket` ends with the process.
    ///
    /// Requests have axum's `ConnectInfo` of the peer's `SocketAddr` in their extensions.
    ///
    /// # Errors
    ///
    /// [`ServeError::Stopped`].
    pub async fn run(self, app: Router) -> Result<(), ServeError> {
        let Self {
            health,
            limits,
            mut reload,
            signals:
                Signals {
                    mut end,
                    reload: mut hangup,
                },
            ..
        } = self;
        let operators = Control::new();
        if let Some((listener, _)) = self.operator {
            let page = health.clone().before(self.page);
            serve(listener, None, page, &operators, &limits);
        }
        let questions = Control::new();
        if let Some((listener, _)) = self.decision {
            serve(listener, None, self.questions, &questions, &limits);
        }
        let reloads = tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                reload().await;
            }
        });
        let control = Control::new();
        let mut serving = serve(self.public, self.certificate, app, &control, &limits);
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = end.asked() => {
                health.end();
                questions.graceful_shutdown(Some(limits.shutdown));
                finish(&control, limits.shutdown, &mut end, serving).await
            }
        };
        reloads.abort();
        operators.shutdown();
        questions.shutdown();
        ended
            .unwrap_or_else(|panic| Err(io::Error::other(panic)))
            .map_err(ServeError::Stopped)
    }
}

/// Lets what is in flight come to its end, for so long.
async fn finish(
    control: &Control,
    within: Duration,
    end: &mut End,
    mut serving: Serving,
) -> Result<io::Result<()>, tokio::task::JoinError> {
    tracing::info!("it is to end, and lets in nobody new");
    control.graceful_shutdown(None);
    tokio::select! {
        ended = &mut serving => return ended,
        () = sleep(within) => {}
        () = end.asked() => {}
    }
    let cut = control.connection_count();
    tracing::warn!(connections = cut, "it ends before all were through");
    control.shutdown();
    serving.await
}

type Serving = JoinHandle<io::Result<()>>;

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let cannot = |error| ServeError::Listen(address, error);
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    let actual = listener.local_addr().map_err(cannot)?;
    Ok((listener, actual))
}

fn serve(
    listener: TcpListener,
    certificate: Option<Certificate>,
    app: Router,
    control: &Control,
    limits: &Limits,
) -> Serving {
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum_server::Server::<SocketAddr>::from_listener(listener);
    let server = set_up(server.acceptor(NoDelayAcceptor::new()), control, limits);
    match certificate {
        None => tokio::spawn(server.serve(app)),
        Some(certificate) => {
            let acceptor = RustlsAcceptor::new(certificate.config()).handshake_timeout(limits.head);
            let server = server.map(|inner| acceptor.acceptor(inner));
            tokio::spawn(server.serve(app))
        }
    }
}

/// What the verifier takes of a head ([`bulla_server::Limits::max_head_len`]), in bytes.
const HEAD: u32 = 32 * 1024;

fn set_up<A>(
    mut server: axum_server::Server<SocketAddr, A>,
    control: &Control,
    limits: &Limits,
) -> axum_server::Server<SocketAddr, A> {
    let http = server.http_builder();
    // Counts from the end of one request to the end of the next one's head.
    http.http1().header_read_timeout(limits.idle);
    http.http2()
        .max_header_list_size(HEAD)
        // Whoever does not answer is gone.
        .keep_alive_interval(limits.idle)
        .keep_alive_timeout(limits.head);
    server
        .handle(Handle::with_control(control.clone()))
        .first_request_timeout(limits.head)
        .accept_error_handler(report)
}

fn report(peer: Option<&SocketAddr>, error: &io::Error) {
    if let Some(peer) = peer {
        tracing::debug!(%peer, %error, "a connection was not taken");
    } else {
        tracing::warn!(%error, "no connection can be taken");
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("operator", &self.operator_address())
            .finish_non_exhaustive()
    }
}

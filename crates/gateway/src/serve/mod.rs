//! Connections: HTTP/1.1 and HTTP/2 at one port, TLS with certificates that change, and an end that loses nothing.

mod accept;
mod connection;
mod health;
mod signals;
mod tls;
mod wire;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio::task::JoinError;
use tokio::time::sleep;
use tower::Service;

use self::accept::Door;
use self::connection::Serving;
use self::health::Health;
use self::signals::Signals;
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
    Stopped(#[source] JoinError),
}

/// Is told of who has sent what is no HTTP.
pub(crate) type Unreadable = Arc<dyn Fn(SocketAddr) + Send + Sync>;

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
    unreadable: Unreadable,
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
            unreadable: Arc::new(|_| ()),
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

    /// Sets who is told of the peers that send what is no HTTP/1.1, at the public port. They are answered with 400 (RFC
    /// 9112 section 3), or 431. Default: nobody.
    #[must_use]
    pub fn on_unreadable(mut self, told: impl Fn(SocketAddr) + Send + Sync + 'static) -> Self {
        self.unreadable = Arc::new(told);
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
    pub async fn run<S>(self, app: S) -> Result<(), ServeError>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
    {
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
        let plain = |app| Serving {
            app,
            certificate: None,
            unreadable: Arc::new(|_| ()),
            limits: limits.clone(),
        };
        let operators = Door::new();
        if let Some((listener, _)) = self.operator {
            operators.serve(listener, plain(health.clone().before(self.page)));
        }
        let questions = Door::new();
        if let Some((listener, _)) = self.decision {
            questions.serve(listener, plain(self.questions));
        }
        let reloads = tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                reload().await;
            }
        });
        let public = Door::new();
        let serving = Serving {
            app,
            certificate: self.certificate,
            unreadable: self.unreadable,
            limits: limits.clone(),
        };
        let mut serving = public.serve(self.public, serving);
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = end.asked() => {
                tracing::info!("it is to end, and lets in nobody new");
                health.end();
                questions.close();
                public.close();
                tokio::select! {
                    () = sleep(limits.shutdown) => public.cut(),
                    () = end.asked() => public.cut(),
                    () = public.empties() => {}
                }
                serving.await
            }
        };
        reloads.abort();
        operators.cut();
        questions.cut();
        ended.map_err(ServeError::Stopped)
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let cannot = |error| ServeError::Listen(address, error);
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    let actual = listener.local_addr().map_err(cannot)?;
    Ok((listener, actual))
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("operator", &self.operator_address())
            .finish_non_exhaustive()
    }
}

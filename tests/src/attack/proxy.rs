//! A middle man, as on many corporate networks: ends TLS with a certificate of his own, sees every
//! byte, and may change any.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};

use crate::certificate::{Vouched, trusting_client};
use crate::serve::listener;

/// What a message on its way is turned into.
type Change<T> = Box<dyn FnOnce(T) -> T + Send>;

/// A reply that waits on its way.
pub struct Held {
    is_there: oneshot::Receiver<()>,
    let_go: oneshot::Sender<()>,
}

impl Held {
    /// Waits until the server has given it.
    pub async fn arrival(&mut self) {
        // An error: it will never come, and whoever has asked is told so.
        let _ = (&mut self.is_there).await;
    }

    /// Hands it back to whoever has asked.
    pub fn let_go(self) {
        let _ = self.let_go.send(());
    }
}

/// One request as it was forwarded, and the reply as it came from the server.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The request.
    pub request: Request<Bytes>,
    /// The reply.
    pub reply: Response<Bytes>,
}

impl Exchange {
    /// Everything that could be read of it, one part after another.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {}\n", self.request.method(), self.request.uri()).into_bytes();
        for headers in [self.request.headers(), self.reply.headers()] {
            for (name, value) in headers {
                bytes.extend_from_slice(name.as_str().as_bytes());
                bytes.extend_from_slice(b": ");
                bytes.extend_from_slice(value.as_bytes());
                bytes.push(b'\n');
            }
        }
        bytes.extend_from_slice(self.request.body());
        bytes.push(b'\n');
        bytes.extend_from_slice(self.reply.body());
        bytes
    }
}

/// A proxy at an origin of its own, `https://localhost:PORT`, before a server that speaks plain HTTP.
/// Its clients trust its certificate. Bodies are forwarded whole.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    authority: String,
    accepting: Vec<JoinHandle<()>>,
}

struct Shared {
    server: AtomicU16,
    http: reqwest::Client,
    seen: Mutex<Vec<Exchange>>,
    requests: Mutex<VecDeque<Change<Request<Bytes>>>>,
    replies: Mutex<VecDeque<Change<Response<Bytes>>>>,
    held: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
}

impl Proxy {
    /// Starts one on a free port. It answers with 502 until it knows its server.
    ///
    /// # Errors
    ///
    /// If no port can be had or no certificate be made.
    pub async fn start() -> io::Result<Self> {
        let tcp = listener().await?;
        let address = tcp.local_addr()?;
        let (acceptor, authority) = certificates().map_err(io::Error::other)?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            server: AtomicU16::new(0),
            http,
            seen: Mutex::default(),
            requests: Mutex::default(),
            replies: Mutex::default(),
            held: Mutex::default(),
        });
        let app = Router::new()
            .fallback(relay)
            .with_state(Arc::clone(&shared));
        let (sender, connections) = mpsc::channel(16);
        let listener = Tls {
            connections,
            address,
        };
        Ok(Self {
            shared,
            port: address.port(),
            authority,
            accepting: vec![
                tokio::spawn(accept(tcp, acceptor, sender)),
                tokio::spawn(async move {
                    let _ = axum::serve(listener, app).await;
                }),
            ],
        })
    }

    /// Where it is reached.
    pub fn origin(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// From now on, forwards to the server on this port of 127.0.0.1.
    pub fn forward_to(&self, port: u16) {
        self.shared.server.store(port, Ordering::Relaxed);
    }

    /// An HTTP client that trusts the middle man's certificate authority, as its owner was told to.
    ///
    /// # Errors
    ///
    /// If the certificate or the client cannot be made.
    pub fn trusting_client(&self) -> io::Result<reqwest::Client> {
        trusting_client(&self.authority)
    }

    /// Everything that has passed, in order.
    pub fn seen(&self) -> Vec<Exchange> {
        lock(&self.shared.seen).clone()
    }

    /// As [`seen`](Self::seen), and forgets it: what comes next stands alone.
    pub fn take_seen(&self) -> Vec<Exchange> {
        std::mem::take(&mut *lock(&self.shared.seen))
    }

    /// Changes the next request before it is forwarded.
    pub fn change_request(
        &self,
        change: impl FnOnce(Request<Bytes>) -> Request<Bytes> + Send + 'static,
    ) {
        lock(&self.shared.requests).push_back(Box::new(change));
    }

    /// Changes the next reply before it is handed back.
    pub fn change_reply(
        &self,
        change: impl FnOnce(Response<Bytes>) -> Response<Bytes> + Send + 'static,
    ) {
        lock(&self.shared.replies).push_back(Box::new(change));
    }

    /// Holds the reply to the next request.
    pub fn hold_reply(&self) -> Held {
        let (sender, is_there) = oneshot::channel();
        let (let_go, receiver) = oneshot::channel();
        *lock(&self.shared.held) = Some((sender, receiver));
        Held { is_there, let_go }
    }

    /// Sends a request to the server once more, by itself.
    ///
    /// # Errors
    ///
    /// If the server does not answer.
    pub async fn send(&self, request: Request<Bytes>) -> io::Result<Response<Bytes>> {
        self.shared.forward(request).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in &self.accepting {
            task.abort();
        }
    }
}

impl Shared {
    async fn forward(&self, request: Request<Bytes>) -> io::Result<Response<Bytes>> {
        let (mut parts, body) = request.into_parts();
        let target = parts
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let server = self.server.load(Ordering::Relaxed);
        parts.uri = format!("http://127.0.0.1:{server}{target}")
            .parse()
            .map_err(io::Error::other)?;
        let request = reqwest::Request::try_from(Request::from_parts(parts, body))
            .map_err(io::Error::other)?;
        let reply = self.http.execute(request).await.map_err(io::Error::other)?;
        let (parts, body) = Response::<reqwest::Body>::from(reply).into_parts();
        let body = http_body_util::BodyExt::collect(body)
            .await
            .map_err(io::Error::other)?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }
}

async fn relay(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    relayed(&shared, request).await.unwrap_or_else(|_| {
        let mut reply = Response::new(Body::empty());
        *reply.status_mut() = StatusCode::BAD_GATEWAY;
        reply
    })
}

async fn relayed(shared: &Shared, request: Request<Body>) -> io::Result<Response<Body>> {
    let held = lock(&shared.held).take();
    let (mut parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .map_err(io::Error::other)?;
    // One hop's own: they are made anew for the next.
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    let mut request = Request::from_parts(parts, body);
    let change = lock(&shared.requests).pop_front();
    if let Some(change) = change {
        request = change(request);
    }
    let reply = shared.forward(request.clone()).await?;
    lock(&shared.seen).push(Exchange {
        request,
        reply: reply.clone(),
    });
    if let Some((is_there, let_go)) = held {
        let _ = is_there.send(());
        let _ = let_go.await;
    }
    let change = lock(&shared.replies).pop_front();
    let mut reply = match change {
        Some(change) => change(reply),
        None => reply,
    };
    for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        reply.headers_mut().remove(name);
    }
    Ok(reply.map(Body::from))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connections whose TLS handshake is done.
struct Tls {
    connections: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Browsers open connections ahead of time: one that does not speak must not hold up the others.
async fn accept(
    tcp: TcpListener,
    acceptor: TlsAcceptor,
    connections: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    while let Ok((stream, address)) = tcp.accept().await {
        let (acceptor, connections) = (acceptor.clone(), connections.clone());
        tokio::spawn(async move {
            if let Ok(tls) = acceptor.accept(stream).await {
                // Whoever waited for it has gone.
                let _ = connections.send((tls, address)).await;
            }
        });
    }
}

/// A certificate for `localhost`, and the authority that vouches for it, in PEM.
fn certificates() -> Result<(TlsAcceptor, String), Box<dyn std::error::Error + Send + Sync>> {
    let Vouched {
        certificate,
        key,
        authority,
    } = Vouched::new()?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(rustls::ALL_VERSIONS)?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )?;
    Ok((TlsAcceptor::from(Arc::new(config)), authority))
}

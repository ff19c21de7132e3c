//! A page server on the loopback interface.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{MethodRouter, get};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server on a free port of 127.0.0.1. It stops accepting when dropped.
#[derive(Debug)]
pub struct Server {
    port: u16,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Serves `router`.
    ///
    /// # Errors
    ///
    /// If no port can be had.
    pub async fn start(router: Router) -> io::Result<Self> {
        Self::start_with(|_| Ok(router)).await
    }

    /// Serves what `make` makes for the server's origin.
    ///
    /// # Errors
    ///
    /// If no port can be had, or `make` fails.
    pub async fn start_with(make: impl FnOnce(&str) -> io::Result<Router>) -> io::Result<Self> {
        let listener = listener().await?;
        let port = listener.local_addr()?.port();
        let router = make(&format!("http://localhost:{port}"))?;
        let accepting = tokio::spawn(async move {
            // axum's accept loop retries by itself and never returns.
            let _ = axum::serve(listener, router).await;
        });

        Ok(Self { port, accepting })
    }

    /// One that runs already, at this port of 127.0.0.1, until this task is aborted.
    pub fn running(port: u16, accepting: JoinHandle<()>) -> Self {
        Self { port, accepting }
    }

    /// The port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://localhost:PORT`, which browsers take for a secure context.
    pub fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// The origin with `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Listens on a port of 127.0.0.1 that nobody in this process has had before: a browser keeps what it has
/// of an origin, its pin too.
///
/// # Errors
///
/// If no port can be had.
pub async fn listener() -> io::Result<TcpListener> {
    // Those that were had before stay taken meanwhile, so that another one is given.
    let mut passed_over = Vec::new();
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        if is_new(port) {
            return Ok(listener);
        }
        passed_over.push(listener);
    }
}

/// Whether nobody in this process has had a port before; from now on somebody has.
pub fn is_new(port: u16) -> bool {
    static HAD: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut had = HAD.lock().unwrap_or_else(PoisonError::into_inner);
    had.insert(port)
}

/// A route that answers GET with an HTML page.
pub fn html<S: Clone + Send + Sync + 'static>(page: impl Into<Bytes>) -> MethodRouter<S> {
    bytes("text/html; charset=utf-8", page)
}

/// A route that answers GET with `content` of the media type `kind`.
pub fn bytes<S: Clone + Send + Sync + 'static>(
    kind: &'static str,
    content: impl Into<Bytes>,
) -> MethodRouter<S> {
    let content = content.into();
    get(move || async move { ([(CONTENT_TYPE, kind)], content) })
}

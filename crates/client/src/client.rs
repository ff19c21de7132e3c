//! One device's standing with one server.

use core::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bulla_keys::{Random, SigningKey, SystemRandom};
use bulla_protocol::error::Code;
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::limits::DEFAULT_PREFIX;
use bulla_protocol::opening::Ticket;
use bulla_protocol::opening::check_prefix;
use bulla_protocol::target::Origin;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;

use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::opening::PreparedOpening;
use crate::request::Mode;
use crate::session::Session;
use crate::transport::{Outbound, Transport};

/// A device that can open sessions with one server.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) origin: Origin,
    pub(crate) prefix: String,
    pub(crate) mode: Mode,
    pub(crate) device: SigningKey,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) http: Arc<dyn Transport>,
    /// The identity that was configured, or the first one that was met.
    pin: Mutex<Option<Thumbprint>>,
}

impl Client {
    /// Starts with the server's origin: `https://bank.example`, or `http://…` for local use.
    pub fn builder(server: impl Into<String>) -> Builder {
        Builder {
            server: server.into(),
            pin: None,
            prefix: DEFAULT_PREFIX.to_owned(),
            mode: Mode::Sealed,
            device: None,
            random: Arc::new(SystemRandom),
            clock: None,
            http: None,
        }
    }

    /// Opens a session.
    ///
    /// # Errors
    ///
    /// The server's refusal; [`Code::Network`]; [`Code::IdentityChanged`], [`Code::ReplyInvalid`] and the like for
    /// what is wrong with its answer; [`Code::Unsupported`] without random bytes.
    pub async fn open(&self) -> Result<Session, Error> {
        let session = Session::new(self.clone(), None);
        session.live().await?;
        Ok(session)
    }

    /// The device key's thumbprint.
    pub fn device(&self) -> Thumbprint {
        self.0.device.thumbprint()
    }

    /// The server identity that is pinned: the configured one, or the first one that was met; `None`
    /// before that.
    pub fn identity(&self) -> Option<Thumbprint> {
        *self.0.pin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes and signs the request that opens a session, without sending it. With a ticket, it asks
    /// that this ticket's session be carried over.
    ///
    /// # Errors
    ///
    /// [`Code::Unsupported`] if a key cannot be made or used.
    pub fn prepare_opening(&self, ticket: Option<Ticket>) -> Result<PreparedOpening, Error> {
        PreparedOpening::new(self.clone(), ticket)
    }

    /// Sends any request as it is, and hands back any reply as it is: nothing is signed, sealed or
    /// checked. The whole reply is kept in memory.
    ///
    /// # Errors
    ///
    /// [`Code::Network`] if no whole reply comes.
    pub async fn send_unverified(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let request = request.map(Outbound::Whole);
        let (parts, body) = self.0.http.send(request, None).await?.into_parts();
        let body = body.collect().await.map_err(Error::network)?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }

    /// Pins an identity, unless another one is pinned already: two openings may have been on their way
    /// when none was. Returns whether it is the pinned one.
    pub(crate) fn pin(&self, identity: Thumbprint) -> bool {
        let mut pin = self.0.pin.lock().unwrap_or_else(PoisonError::into_inner);
        *pin.get_or_insert(identity) == identity
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("origin", &self.0.origin)
            .field("device", &self.device())
            .finish_non_exhaustive()
    }
}

/// Configures a [`Client`].
#[must_use]
pub struct Builder {
    server: String,
    pin: Option<Thumbprint>,
    prefix: String,
    mode: Mode,
    device: Option<SigningKey>,
    random: Arc<dyn Random>,
    clock: Option<Arc<dyn Clock>>,
    http: Option<Arc<dyn Transport>>,
}

impl Builder {
    /// The server identity to insist on. Without one, the first that answers is trusted, and
    /// insisted on as long as the client lives.
    pub fn identity(mut self, identity: Thumbprint) -> Self {
        self.pin = Some(identity);
        self
    }

    /// The device key. Without one, a new one is made, which lives as long as the client.
    pub fn device_key(mut self, key: SigningKey) -> Self {
        self.device = Some(key);
        self
    }

    /// The path under which the server keeps what is Bulla's; `/.well-known/bulla` by default.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Whether [`Session::fetch`] seals requests (the default) or only signs them.
    pub fn seal(mut self, seal: bool) -> Self {
        self.mode = if seal { Mode::Sealed } else { Mode::Signed };
        self
    }

    /// Where random bytes come from; the system by default.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Where time comes from; the system by default.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// The HTTP client. It should not follow redirects; a reply that it found by following one is
    /// refused.
    pub fn http(self, http: reqwest::Client) -> Self {
        self.transport(http)
    }

    pub(crate) fn transport(mut self, transport: impl Transport + 'static) -> Self {
        self.http = Some(Arc::new(transport));
        self
    }

    /// Checks the configuration.
    ///
    /// # Errors
    ///
    /// [`Code::RequestInvalid`] if the server is no origin or the prefix no path;
    /// [`Code::Unsupported`] if no key or no HTTP client can be made.
    pub fn build(self) -> Result<Client, Error> {
        let origin = Origin::parse(&self.server).map_err(Error::request)?;
        check_prefix(&self.prefix).map_err(Error::request)?;
        let device = match self.device {
            Some(device) => device,
            None => SigningKey::generate(&*self.random)?,
        };
        let http = match self.http {
            Some(http) => http,
            None => Arc::new(default_http()?),
        };
        Ok(Client(Arc::new(Inner {
            origin,
            prefix: self.prefix,
            mode: self.mode,
            device,
            random: self.random,
            clock: self
                .clock
                .unwrap_or_else(|| Arc::new(SystemClock::default())),
            http,
            pin: Mutex::new(self.pin),
        })))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("server", &self.server)
            .field("identity", &self.pin)
            .finish_non_exhaustive()
    }
}

fn default_http() -> Result<reqwest::Client, Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|_| {
            Code::Unsupported
                .because("no HTTP client could be made")
                .into()
        })
}

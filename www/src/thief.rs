//! The thief: a native client of his own, with a device key of his own, on another machine as far as
//! the server can tell. He has a real session too, as anybody may.

use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use bulla_client::{
    Builder, Client, Error, Loot, Mode, ProofKind, Session, SessionId, Thumbprint, Ticket,
};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::OnceCell;

use std::sync::Arc;

use crate::bank::{MALLORY, Order};
use crate::tap::Side;

/// What page script can read: of the protected bank what IndexedDB hands out as data, of the twin the
/// token in localStorage.
#[derive(Deserialize)]
pub(crate) struct Spoils {
    pub(crate) session: String,
    ticket: String,
    nonce: String,
    token: String,
}

/// Why an attack could not even be tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("the loot is not what it should be")]
    Loot,
    #[error("nothing was caught on the way")]
    NothingCaught,
    #[error("the thief could not reach the server")]
    Client(#[from] Error),
}

/// Clones are the same thief.
#[derive(Clone)]
pub(crate) struct Thief(Arc<Inner>);

struct Inner {
    origin: String,
    client: Client,
    session: OnceCell<Session>,
}

impl Thief {
    /// # Errors
    ///
    /// If no key or no HTTP client can be made.
    pub(crate) fn new(origin: &str, identity: Thumbprint) -> Result<Self, Error> {
        let client = straight(Client::builder(origin).identity(identity))?;
        Ok(Self(Arc::new(Inner {
            origin: origin.to_owned(),
            client,
            session: OnceCell::new(),
        })))
    }

    /// His device key's thumbprint.
    pub(crate) fn device(&self) -> Thumbprint {
        self.0.client.device()
    }

    /// Sends a request as it is, straight to the server.
    pub(crate) async fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, Failed> {
        let (mut parts, body) = request.into_parts();
        let target = parts
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        parts.uri = format!("{}{target}", self.0.origin)
            .parse()
            .map_err(|_| Failed::NothingCaught)?;
        let request = http::Request::from_parts(parts, body);
        let mut reply = self.0.client.send_unverified(request).await?;
        for name in [CONTENT_LENGTH, CONNECTION, TRANSFER_ENCODING] {
            reply.headers_mut().remove(name);
        }
        Ok(reply)
    }

    /// A payment to himself in the victim's session: the copied ticket and nonce, signed with the only
    /// device key that he has.
    pub(crate) async fn pose_as(
        &self,
        spoils: &Spoils,
        amount: u64,
    ) -> Result<http::Request<Bytes>, Failed> {
        let own = self.0.session.get_or_try_init(|| self.0.client.open());
        let session: SessionId = spoils.session.parse().map_err(|_| Failed::Loot)?;
        let stolen = own.await?.dangerous_with_loot(Loot {
            session,
            ticket: Ticket::from_field(&spoils.ticket).map_err(|_| Failed::Loot)?,
            nonce: spoils.nonce.clone(),
            // A signed request needs no sealing keys, and script cannot read them.
            request_key: <_>::default(),
            response_key: <_>::default(),
        })?;
        let nonce = stolen.fresh_nonce()?;
        let request = order("/api/transfer", amount);
        let prepared = stolen.prepare(request, Mode::Signed, ProofKind::Device, nonce)?;
        Ok(prepared.request)
    }

    /// The copied ticket alone, as whoever has found it in a log would try it.
    pub(crate) fn show_ticket(spoils: &Spoils) -> Result<http::Request<Bytes>, Failed> {
        let mut request = http::Request::new(Bytes::new());
        *request.uri_mut() = http::Uri::from_static("/api/account");
        let ticket = HeaderValue::from_str(&spoils.ticket).map_err(|_| Failed::Loot)?;
        request.headers_mut().insert("bulla-ticket", ticket);
        Ok(request)
    }

    /// The copied ticket, to have the session go on with his own device key.
    pub(crate) fn take_over(&self, spoils: &Spoils) -> Result<http::Request<Bytes>, Failed> {
        let ticket = Ticket::from_field(&spoils.ticket).map_err(|_| Failed::Loot)?;
        Ok(self.0.client.prepare_opening(Some(ticket))?.request)
    }

    /// A payment to himself with the copied bearer token.
    pub(crate) fn use_token(spoils: &Spoils, amount: u64) -> Result<http::Request<Bytes>, Failed> {
        let mut request = order("/twin/transfer", amount);
        let bearer = HeaderValue::from_str(&format!("Bearer {}", spoils.token));
        let bearer = bearer.map_err(|_| Failed::Loot)?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
        Ok(request)
    }

    /// Makes of a payment on its way what he would rather see: another payee, another amount. Where he
    /// cannot read it he turns one bit over.
    pub(crate) fn change(side: Side, mut request: http::Request<Bytes>) -> http::Request<Bytes> {
        let mut body = request.body().to_vec();
        match side {
            Side::Twin => {
                if let Ok(order) = serde_json::from_slice::<Order>(&body) {
                    let order = Order {
                        to: MALLORY.to_owned(),
                        amount: order.amount.saturating_mul(10),
                        ..order
                    };
                    body = serde_json::to_vec(&order).unwrap_or(body);
                }
            }
            Side::Protected => {
                let at = body.len() / 4 * 3;
                if let Some(byte) = body.get_mut(at) {
                    *byte ^= 1;
                }
            }
        }
        *request.body_mut() = body.into();
        request
    }
}

/// A client that goes straight to the server, whatever proxy this process should use.
pub(crate) fn straight(mut builder: Builder) -> Result<Client, Error> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    if let Ok(http) = http.build() {
        builder = builder.http(http);
    }
    builder.build()
}

/// An order that pays the thief.
fn order(path: &'static str, amount: u64) -> http::Request<Bytes> {
    let order = Order {
        to: MALLORY.to_owned(),
        amount,
        note: "Thank you".to_owned(),
    };
    let mut request = http::Request::new(serde_json::to_vec(&order).unwrap_or_default().into());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    request
}

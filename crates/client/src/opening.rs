//! Opening a session: the request, and what the answer gives.

use core::fmt;
use std::sync::Arc;

use bulla_keys::{AgreementKey, verify};
use bulla_protocol::error::Code;
use bulla_protocol::limits::VERSION;
use bulla_protocol::opening::{Open, Opening, SentOpening, Ticket};
use bytes::Bytes;
use http::{Request, Response};

use crate::client::Client;
use crate::error::Error;
use crate::live::Live;
use crate::reply::Headers;
use crate::request::http_request;
use crate::session::Session;

/// A signed opening that has not been sent. Made by [`Client::prepare_opening`].
pub struct PreparedOpening {
    /// The request, with an absolute URI.
    pub request: Request<Bytes>,
    client: Client,
    sent: SentOpening,
    agreement: Arc<AgreementKey>,
}

impl PreparedOpening {
    pub(crate) fn new(client: Client, ticket: Option<Ticket>) -> Result<Self, Error> {
        let inner = &client.0;
        let agreement = AgreementKey::generate(&*inner.random)?;
        let mut random = [0; 32];
        inner.random.fill(&mut random)?;
        let open = Open {
            version: VERSION,
            device: *inner.device.public(),
            agreement: *agreement.public(),
            identity: client.identity(),
            random,
            ticket,
            work: None,
        };
        let created = inner.clock.unix_seconds();
        let opening = Opening::new(open, None, inner.origin.authority(), &inner.prefix, created)?;
        Self::signed(client, opening, Arc::new(agreement))
    }

    fn signed(
        client: Client,
        opening: Opening,
        agreement: Arc<AgreementKey>,
    ) -> Result<Self, Error> {
        let inner = &client.0;
        let signature = inner.device.sign(opening.base().as_bytes())?;
        let sent = opening.signed(&signature, None);
        let request = http_request(
            Opening::METHOD,
            &inner.origin,
            sent.path(),
            sent.fields(),
            Bytes::copy_from_slice(sent.body()),
        )?;
        Ok(Self {
            request,
            client,
            sent,
            agreement,
        })
    }

    /// The opening that shows the work which the answer asks for, if it asks for any: a million hashes at most, and
    /// once. In slices, so that whoever shares the thread has a turn.
    pub(crate) async fn worked(&self, response: &Response<Bytes>) -> Result<Option<Self>, Error> {
        const SLICE: u32 = 4096;
        let (status, fields) = (response.status().as_u16(), Headers(response.headers()));
        let Some(mut work) = self.sent.work(status, &fields, response.body()) else {
            return Ok(None);
        };
        loop {
            if let Some(opening) = work.run(SLICE)? {
                let (client, agreement) = (self.client.clone(), self.agreement.clone());
                return Self::signed(client, opening, agreement).map(Some);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Checks the answer and derives the session's keys.
    ///
    /// # Errors
    ///
    /// The server's refusal; `identity_changed` if the identity is not the pinned one, or if
    /// the server says so; `reply_invalid` for all else that is wrong with the answer.
    pub fn answer(&self, response: &Response<Bytes>) -> Result<Session, Error> {
        let live = self.read(response)?;
        Ok(Session::new(self.client.clone(), Some(live)))
    }

    pub(crate) fn read(&self, response: &Response<Bytes>) -> Result<Live, Error> {
        let status = response.status();
        let fields = Headers(response.headers());
        let verified = self
            .sent
            .read(status.as_u16(), &fields, response.body())?
            .verify(|key, base, signature| verify(key, base, signature).is_ok())?;
        let identity = verified.opened.identity.thumbprint();
        let live = Live::new(verified, &self.agreement, self.client.0.clock.monotonic())?;
        if !self.client.pin(identity) {
            return Err(Code::IdentityChanged
                .because("another identity has been pinned meanwhile")
                .into());
        }
        Ok(live)
    }
}

impl fmt::Debug for PreparedOpening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedOpening")
            .field("uri", self.request.uri())
            .finish_non_exhaustive()
    }
}

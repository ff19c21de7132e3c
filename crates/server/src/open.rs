//! Opening a session.

use bulla_keys::{AgreementKey, Prk, verify};
use bulla_protocol::error::{Code, Error};
use bulla_protocol::field;
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::limits::VERSION;
use bulla_protocol::opening::{
    Agreements, MAC_INFO, Opened, ReceivedOpening, Ticket, VerifiedOpening, opened_fields,
};
use bulla_protocol::signature::Request;
use bulla_protocol::structured;
use bulla_protocol::target::Origin;
use http::header::SET_COOKIE;
use http::{HeaderMap, Response};
use zeroize::Zeroizing;

use crate::assurance::Assurance;
use crate::body::{self, Body};
use crate::bulla::Bulla;
use crate::cookies::Holder;
use crate::event::{About, EventKind};
use crate::lifetimes::seconds;
use crate::store::{Revocation, SessionRef, UsedProof, Verdict, of_device};
use crate::subject::Subject;
use crate::ticket::{RevocationId, SessionState, TicketKind};
use crate::vault;
use crate::verify::replay_key;

const NO_KEY: Error = Code::Internal.because("no key could be made");
const FAILED: Error = Code::Internal.because("the answer could not be made");

/// What an opening goes on from.
struct Carried {
    state: SessionState,
    /// The device key that has signed in the one that opens, if it is another.
    rotated: Option<Thumbprint>,
}

impl Bulla {
    /// Answers an opening.
    pub(crate) async fn open_session(
        &self,
        origin: &Origin,
        request: &Request<'_>,
        headers: &HeaderMap,
        body: &[u8],
        about: &mut About,
    ) -> Result<Response<Body>, Error> {
        let opening = ReceivedOpening::parse(request, body)?;
        let work = self.check_work(&opening.open, about)?.cloned();
        let opening =
            opening.verify(|key, base, signature| verify(key, base, signature).is_ok())?;
        if let Some(work) = work {
            self.use_work(&opening.open, &work).await?;
        }
        about.device = Some(opening.open.device.thumbprint());
        let identity = self.0.identity.thumbprint();
        if opening
            .open
            .identity
            .is_some_and(|expected| expected != identity)
        {
            return Err(Code::IdentityMismatch.because("this server has another identity"));
        }
        let carried = match &opening.open.ticket {
            Some(ticket) => Some(self.carried(origin, ticket, &opening, about).await?),
            None => None,
        };

        let device = opening.open.device.thumbprint();
        let (state, opened) = self.agree(origin, &opening, carried.as_ref())?;
        let is_carried_over = |carried: &Carried| carried.state.kind.is_carried_over();
        if carried.as_ref().is_some_and(is_carried_over) {
            self.reserve(&state, device).await?;
        }
        let rotation = carried
            .as_ref()
            .and_then(|carried| Some((carried.rotated?, carried.state.subject?)));
        let cookies = match &rotation {
            Some((old, subject)) => {
                let before = Holder {
                    origin,
                    device: old,
                };
                self.rebind(headers, before, &device, subject)?
            }
            None => Vec::new(),
        };
        let body = serde_json::to_vec(&opened).map_err(|_| FAILED)?;
        let fields = opened_fields(&body);
        let created = u64::from(self.now());
        let to_sign = opening.sign_answer(request, &identity, &fields, created)?;
        let signature = self
            .0
            .identity
            .key()
            .sign(to_sign.base.as_bytes())
            .map_err(|_| FAILED)?;

        let mut response = Response::builder()
            .status(200)
            .header("cache-control", "no-store");
        for (name, value) in &fields {
            response = response.header(name, value);
        }
        for (name, value) in to_sign.fields(&signature) {
            response = response.header(name, value);
        }
        for line in cookies {
            response = response.header(SET_COOKIE, line);
        }
        let response = response
            .header(field::NONCE, structured::from_string(&opened.nonce)?)
            .body(body::full(body))
            .map_err(|_| FAILED)?;
        if let Some((old, subject)) = rotation {
            // Last of what may be refused: whoever is refused keeps his key.
            self.rotate(subject, old, device, about).await?;
        }
        about.learn(&state);
        self.report(EventKind::Opened, about);
        Ok(response)
    }

    /// The session that is to be carried over to fresh keys, checked as any ticket is. Only its own
    /// device can carry it over, or one that this has signed in where a handler has let it.
    async fn carried(
        &self,
        origin: &Origin,
        ticket: &Ticket,
        opening: &VerifiedOpening,
        about: &mut About,
    ) -> Result<Carried, Error> {
        self.know_key(ticket).await?;
        let (now, memory) = (self.now(), self.0.store.memory().revocations);
        let state = SessionState::open(ticket, &self.0.ring, origin, memory)?;
        about.learn(&state);
        self.check_times(&state, now)?;
        let new = &opening.open.device;
        let rotated = if state.device == new.to_compressed() {
            None
        } else if let Some(device) = self.signed_in_by(&state, opening) {
            // The old one would be locked out for it, and nobody would be left.
            self.check_device(new.thumbprint(), memory).await?;
            Some(device)
        } else {
            self.report(EventKind::ForeignTicket, about);
            return Err(Code::TicketInvalid.because("the ticket was not sealed here"));
        };
        let device = rotated.unwrap_or_else(|| new.thumbprint());
        let subject = state.subject.map(|subject| (subject, state.login));
        let session = SessionRef {
            session: state.id.into(),
            device,
            subject,
            memory,
        };
        let verdict = if state.kind.is_carried_over() {
            // The session that it comes from has ended already; the ticket is good for one opening.
            let mut salt = [0; 16];
            salt.copy_from_slice(&ticket.as_bytes()[vault::SALT_AT]);
            let name = RevocationId::used(ticket);
            let used = UsedProof {
                proof: replay_key(&device, &salt),
                // It was handed out for none. Once used, it is among what has ended.
                memory: self.0.store.memory().proofs,
                until: u64::from(state.expires) + 1,
                now: u64::from(now),
                confirmed: true,
                session: SessionRef {
                    session: name,
                    ..session
                },
            };
            let verdict = self.0.store.check_and_insert(used).await;
            if matches!(verdict, Ok(Verdict::Fresh | Verdict::StepUp)) {
                // Proofs may be forgotten by a restart, revocations are not: before the answer goes out,
                // the ticket is used up for good.
                let owner = state.subject.into();
                self.end(Revocation::Session(name), owner).await?;
            }
            verdict
        } else {
            let revoked = self.0.store.is_revoked(session.clone()).await;
            revoked.map(|revoked| {
                if revoked {
                    Verdict::Revoked
                } else {
                    Verdict::Fresh
                }
            })
        };
        crate::verify::accept(verdict)?;
        if let Some(replaced) = state.replaces {
            // It has shown no proof yet, and with that not ended the one before. Nobody would remember that
            // one as what the next one comes from, and its end would miss the next one.
            self.take_place(replaced, &state, &session).await?;
        }
        Ok(Carried { state, rotated })
    }

    /// Locks a device key out, and gives its place to the one that it has signed in.
    async fn rotate(
        &self,
        subject: Subject,
        old: Thumbprint,
        new: Thumbprint,
        about: &About,
    ) -> Result<(), Error> {
        // Before anything is the new key's. Whoever has copied the old one, and what was bound to it, has nothing.
        let owner = Some(subject).into();
        self.end(Revocation::Device(old), owner).await?;
        let ended = About {
            device: Some(old),
            ..about.clone()
        };
        self.report(EventKind::DeviceEnded, &ended);
        if let Err(error) = self.move_listed(subject, old, new).await {
            // The old key is locked out, so its owner must get what the new one has. It is on the list at its next proof.
            let error = &error as &dyn std::error::Error;
            tracing::error!(target: "bulla::registry", error, "a device has lost its place on a list");
        }
        self.report(EventKind::KeyRotated, about);
        Ok(())
    }

    /// # Errors
    ///
    /// [`Code::SessionRevoked`] if this device has been locked out.
    async fn check_device(&self, device: Thumbprint, memory: [u8; 16]) -> Result<(), Error> {
        match self.0.store.is_revoked(of_device(device, memory)).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(Code::SessionRevoked.because("the new device key is locked out")),
            Err(_) => Err(Code::StoreUnavailable.because("the device could not be looked up")),
        }
    }

    /// The device of a ticket, if it may sign in the one that opens, and has.
    fn signed_in_by(&self, state: &SessionState, opening: &VerifiedOpening) -> Option<Thumbprint> {
        if state.kind != TicketKind::Rotation {
            return None;
        }
        let device = self.0.devices.find(&state.device).ok()?;
        let check = |base: &[u8], signature: &[u8]| device.key.verify(base, signature).is_ok();
        opening
            .is_signed_in_by(&device.thumbprint, check)
            .then_some(device.thumbprint)
    }

    /// Chooses the server's keys and seals the new session's ticket.
    fn agree(
        &self,
        origin: &Origin,
        opening: &VerifiedOpening,
        carried: Option<&Carried>,
    ) -> Result<(SessionState, Opened), Error> {
        let carried = carried.map(|carried| &carried.state);
        let client = &opening.open.agreement;
        let key = || AgreementKey::generate(&*self.0.random).map_err(|_| NO_KEY);
        let (request, response, mac) = (key()?, key()?, key()?);
        let agreement = Agreements {
            request: *request.public(),
            response: *response.public(),
            mac: *mac.public(),
        };
        let secret = |key: &AgreementKey| {
            key.agree(client)
                .map_err(|_| Code::Malformed.because("the agreement key gives no secret"))
        };
        let random = self.random()?;
        let identity = self.0.identity.thumbprint();
        let transcript = opening.transcript(&agreement, &identity, &random);
        let mut mac_key = Zeroizing::new([0; 32]);
        Prk::extract(&transcript.0, secret(&mac)?.as_bytes()).expand(&[MAC_INFO], mac_key.as_mut());

        let now = self.now();
        let state = SessionState {
            kind: TicketKind::Unconfirmed,
            // One that was carried over stays with the memory in which it was looked up.
            memory: carried.map_or_else(
                || self.0.store.memory().revocations,
                |carried| carried.memory,
            ),
            id: transcript.session_id(),
            device: opening.open.device.to_compressed(),
            request_key: *secret(&request)?.as_bytes(),
            response_key: *secret(&response)?.as_bytes(),
            mac_key: *mac_key,
            subject: carried.and_then(|carried| carried.subject),
            assurance: carried.map_or(Assurance::NONE, |carried| carried.assurance),
            login: carried.map_or(0, |carried| carried.login),
            began: carried.map_or(now, |carried| carried.began),
            expires: self.ticket_end(now),
            // A login has ended the session that it came from.
            replaces: carried
                .filter(|carried| !carried.kind.is_carried_over())
                .map(|carried| carried.id.into()),
        };
        let opened = Opened {
            version: VERSION,
            identity: *self.0.identity.key().public(),
            agreement,
            random,
            ticket: state.seal(&*self.ring_key(now)?, origin, &*self.0.random)?,
            nonce_life: seconds(self.0.lifetimes.nonce),
            ticket_life: seconds(self.0.lifetimes.ticket),
            session_life: self.ends(&state).saturating_sub(now),
            proof: self.0.proof,
            nonce: self.nonce(now)?.text.to_string(),
            authenticated: state.subject.is_some(),
        };
        Ok((state, opened))
    }
}

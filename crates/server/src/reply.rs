//! A reply's way out: session fields, reply binding, seal, bytes.

use std::time::Duration;

use bulla_keys::body::Sealing;
use bulla_keys::ece;
use bulla_protocol::error::{Code, Error};
use bulla_protocol::field;
use bulla_protocol::limits::{BULK_RECORD_SIZE, EVENT_RECORD_SIZE, STREAM_RECORD_SIZE};
use bulla_protocol::message::{self, Control, Head};
use bulla_protocol::proof::ProofKind;
use bulla_protocol::retry::is_renewal_due;
use bulla_protocol::seal::Header;
use bulla_protocol::structured;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::body::{self, Body};
use crate::bulla::Bulla;
use crate::lifetimes::seconds;
use crate::refused::Refused;
use crate::session::{Facts, Outcome};
use crate::ticket::{SessionState, TicketKind};
use crate::verify::ReplyTo;

/// Replies up to this size, in bytes, are sealed as a whole and padded.
pub(crate) const WHOLE: u64 = 64 * 1024;

const FAILED: Error = Code::Internal.because("the reply could not be made");

impl Bulla {
    /// What the client must learn about its session from this reply.
    pub(crate) async fn session_fields(
        &self,
        state: SessionState,
        facts: &Facts,
        reply_to: &ReplyTo,
    ) -> Result<HeaderMap, Error> {
        // If that fails, it is not for the refusal that says that nothing was done.
        let _ = self.keep_ring().await;
        let now = self.now();
        let mut fields = HeaderMap::new();
        fields.insert(field::NONCE, self.nonce(now)?.field);
        let device_proof = facts.proof == ProofKind::Device;
        match facts.outcome() {
            Outcome::LoggedIn {
                subject,
                assurance,
                rotates,
            } => {
                let mut next = state;
                next.assurance = assurance;
                next.kind = if rotates {
                    fields.insert(field::ROTATE, HeaderValue::from_static("?1"));
                    TicketKind::Rotation
                } else {
                    TicketKind::CarryOver
                };
                next.subject = Some(subject);
                next.login = facts.admitted;
                // As the login does. What is revoked meanwhile is remembered for as long from then on.
                next.began = facts.admitted;
                next.expires = now.saturating_add(seconds(self.0.lifetimes.carry_over));
                next.replaces = None;
                let ticket = next.seal(&*self.ring_key(now)?, &reply_to.origin, &*self.0.random)?;
                fields.insert(field::CARRY_OVER, value(ticket.to_field())?);
            }
            Outcome::Ended => {
                fields.insert(field::ENDED, HeaderValue::from_static("?1"));
            }
            Outcome::Unchanged if device_proof => {
                let left = state.expires.saturating_sub(now);
                let life = self.0.lifetimes.ticket;
                let age = life.saturating_sub(Duration::from_secs(left.into()));
                let due = is_renewal_due(age, life) || state.kind == TicketKind::Unconfirmed;
                let next_end = self.ticket_end(now).min(self.ends(&state));
                if due && self.may_go_on(&state, facts, next_end).await {
                    let mut next = state;
                    next.kind = TicketKind::Confirmed;
                    next.expires = next_end;
                    next.replaces = None;
                    let ticket =
                        next.seal(&*self.ring_key(now)?, &reply_to.origin, &*self.0.random)?;
                    fields.insert(field::TICKET, value(ticket.to_field())?);
                }
            }
            Outcome::Unchanged => {}
        }
        Ok(fields)
    }

    /// Whether a session gets its next ticket. It is looked up again: it may have ended while the handler ran. And where
    /// there is a limit on sessions, none is used for longer than it is counted.
    async fn may_go_on(&self, state: &SessionState, facts: &Facts, until: u32) -> bool {
        if self.0.store.is_revoked(facts.session_ref()).await != Ok(false) {
            return false;
        }
        match self.note(state, facts.device, until).await {
            Ok(()) => true,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(target: "bulla::registry", error, "a session was not noted");
                !self.0.concurrency.is_limit()
            }
        }
    }

    /// A refusal as the verifier itself answers it: [`Refused`], and the nonce to go on with. For what is refused around it; a
    /// handler returns [`Refused`]. It is not reported.
    pub fn refuse(&self, error: Error) -> Response<Body> {
        let mut response = Response::from(Refused(error));
        if error.code == Code::WorkRequired {
            let bits = HeaderValue::from(u16::from(self.0.gate.bits));
            response.headers_mut().insert(field::WORK, bits);
        }
        self.add_nonce(&mut response);
        response
    }

    /// Says how to go on after a refusal, whoever made it.
    pub(crate) fn add_nonce(&self, response: &mut Response<Body>) {
        // Without a nonce the client cannot go on; but then nothing else works here either.
        if let Ok(nonce) = self.nonce(self.now()) {
            response.headers_mut().insert(field::NONCE, nonce.field);
        }
    }

    /// Seals a reply, if its request came sealed.
    pub(crate) async fn seal(
        &self,
        reply_to: &ReplyTo,
        response: Response<Body>,
    ) -> Result<Response<Body>, Error> {
        let Some((key, nonce)) = &reply_to.seal else {
            return Ok(response);
        };
        let (parts, content) = response.into_parts();
        let mut fields = vec![(
            field::IN_REPLY_TO.to_owned(),
            structured::from_string(nonce)?,
        )];
        for (name, value) in &parts.headers {
            if !stays_outside(name, parts.status)
                && let Ok(value) = field::check_value(value.as_bytes())
            {
                fields.push((name.as_str().to_owned(), value.to_owned()));
            }
        }
        let head = Head {
            control: Control::Response(parts.status.as_u16()),
            fields,
        };
        let size = content.size_hint().exact();
        let header = |record_size| {
            Ok::<_, Error>(Header {
                salt: self.random()?,
                record_size,
                keyid: Vec::new(),
            })
        };
        let sealed = if size.is_some_and(|size| size <= WHOLE) {
            let content = content.collect().await.map_err(|error| {
                let error = &error as &dyn std::error::Error;
                tracing::error!(target: "bulla::reply", error, "the application's reply broke off");
                FAILED
            });
            let content = content?.to_bytes();
            let plain = message::whole(head, &content)?;
            body::full(ece::seal_whole(key, &header(BULK_RECORD_SIZE)?, &plain)?)
        } else {
            let is_event_stream = parts
                .headers
                .get(CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
            let header = header(match size {
                _ if is_event_stream => EVENT_RECORD_SIZE,
                Some(_) => BULK_RECORD_SIZE,
                // A file, say: its body cannot tell how long it is, its head does.
                None if parts.headers.contains_key(CONTENT_LENGTH) => BULK_RECORD_SIZE,
                None => STREAM_RECORD_SIZE,
            })?;
            let sealing = Sealing::new(key, &header, head, content)?;
            body::boxed(sealing)
        };
        let mut response = Response::new(sealed);
        let headers = response.headers_mut();
        for (name, value) in &parts.headers {
            if is_for_the_browser(name) {
                headers.append(name, value.clone());
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(field::BHTTP));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(field::AES128GCM));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        *response.extensions_mut() = parts.extensions;
        Ok(response)
    }
}

/// Of no use to whoever opens the seal. How long the content is, the outer length does not tell; where there can be none, no
/// reply has that field (RFC 9110 section 8.6).
fn stays_outside(name: &HeaderName, status: StatusCode) -> bool {
    match *name {
        CONTENT_LENGTH => status == StatusCode::NO_CONTENT,
        SET_COOKIE => true,
        _ => field::is_of_one_hop(name.as_str()),
    }
}

/// Security fields and cookies work on the outer reply only, since the browser reads that one.
fn is_for_the_browser(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "set-cookie"
            | "strict-transport-security"
            | "clear-site-data"
            | "cross-origin-resource-policy"
    )
}

fn value(text: String) -> Result<HeaderValue, Error> {
    HeaderValue::try_from(text).map_err(|_| FAILED)
}

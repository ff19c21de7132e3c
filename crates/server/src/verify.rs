//! A request's way in: envelope, ticket, unseal, inner request, proof, replay. One step, one type;
//! each consumes the one before, so that a [`Verified`] request cannot exist unless all checks ran.
//! Cheapest first; nothing is remembered of a request that was refused.

use std::sync::Arc;

use bulla_keys::{MacKey, ece, verify};
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::error::{Code, Error};
use bulla_protocol::field::{self, Fields};
use bulla_protocol::jwk::{PublicKey, Thumbprint};
use bulla_protocol::limits::Limits;
use bulla_protocol::message::{Control, Event, Reader};
use bulla_protocol::opening::Ticket;
use bulla_protocol::proof::{Binding, ProofKind, ReceivedProof};
use bulla_protocol::seal::Header;
use bulla_protocol::signature::Request as SignedRequest;
use bulla_protocol::target::{Origin, Target};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use sha2::{Digest, Sha256};

use crate::body::{self, Body};
use crate::bulla::Bulla;
use crate::session::{Facts, Session};
use crate::store::{Revocation, SessionRef, StoreError, UsedProof, Verdict};
use crate::ticket::{SessionState, TicketKind};

/// A request as it reached the server, its body collected.
pub(crate) struct Received {
    pub(crate) origin: Origin,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) extensions: http::Extensions,
}

/// A request with a ticket that opened.
pub(crate) struct Ticketed {
    request: Received,
    ticket: Ticket,
    state: SessionState,
    seal: Option<Header>,
    sealed_at: usize,
}

/// A request as its sender meant it: what was inside the seal, or what was never sealed.
pub(crate) struct Unsealed {
    pub(crate) origin: Origin,
    pub(crate) path: String,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    extensions: http::Extensions,
    ticket: Ticket,
    state: SessionState,
    sealed: bool,
}

/// A request that has passed every check.
pub(crate) struct Verified {
    pub(crate) request: Request<Body>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) state: SessionState,
}

/// What is needed to answer, whether or not the request passes.
#[derive(Clone)]
pub(crate) struct ReplyTo {
    pub(crate) origin: Origin,
    /// The key and the nonce that the answer is sealed under, if the request was sealed.
    pub(crate) seal: Option<([u8; 32], String)>,
}

impl Received {
    /// Whether the request comes in an envelope.
    pub(crate) fn is_sealed(&self) -> bool {
        let is = |name: HeaderName, value: &str| {
            self.headers
                .get(name)
                .is_some_and(|found| found.as_bytes() == value.as_bytes())
        };
        self.method == Method::POST
            && is(http::header::CONTENT_TYPE, field::BHTTP)
            && is(http::header::CONTENT_ENCODING, field::AES128GCM)
    }

    /// Whether the request says anything that only a proof could mean.
    pub(crate) fn claims_proof(&self) -> bool {
        [field::TICKET, field::SIGNATURE, field::SIGNATURE_INPUT]
            .iter()
            .any(|name| self.headers.contains_key(*name))
    }

    /// Finds and opens the ticket: in the envelope's header, or in its field.
    pub(crate) fn open_ticket(self, bulla: &Bulla) -> Result<Ticketed, Error> {
        const CUT: Error = Code::SealBroken.because("the envelope is too short");
        let (ticket, seal, sealed_at) = if self.is_sealed() {
            let (header, records) = Header::parse(&self.body)?.ok_or(CUT)?;
            let at = self.body.len() - records.len();
            (Ticket::new(header.keyid.clone())?, Some(header), at)
        } else {
            let lines = self.headers.get_all(field::TICKET).iter();
            let line = field::single(lines.map(HeaderValue::as_bytes))?
                .ok_or(Code::ProofMissing.because("the request carries no ticket"))?;
            (Ticket::from_field(line)?, None, 0)
        };
        let state = SessionState::open(&ticket, &bulla.0.ring, &self.origin)?;
        if state.kind == TicketKind::CarryOver {
            return Err(Code::TicketInvalid.because("the ticket was not sealed here"));
        }
        let now = bulla.now();
        if now >= state.expires || now >= bulla.ends(&state) {
            return Err(Code::TicketExpired.because("the ticket has expired"));
        }
        Ok(Ticketed {
            request: self,
            ticket,
            state,
            seal,
            sealed_at,
        })
    }
}

impl Ticketed {
    /// Opens the envelope, if there is one, and reads the message inside.
    pub(crate) fn unseal(self, bulla: &Bulla) -> Result<Unsealed, Error> {
        let Self {
            request,
            ticket,
            state,
            seal,
            sealed_at,
        } = self;
        let Some(header) = seal else {
            let target = request
                .uri
                .path_and_query()
                .map_or("", |target| target.as_str());
            let path = Target::parse(target)?.path.to_owned();
            return Ok(Unsealed {
                path,
                origin: request.origin,
                method: request.method,
                uri: request.uri,
                headers: request.headers,
                body: request.body,
                extensions: request.extensions,
                ticket,
                state,
                sealed: false,
            });
        };
        let plain = ece::open_whole(&state.request_key, &header, &request.body[sealed_at..])?;
        let (control, fields, content) = read_message(&plain, &bulla.0.limits)?;
        let Control::Request {
            method,
            scheme,
            authority,
            target,
        } = control
        else {
            return Err(Code::Malformed.because("a reply came where a request should be"));
        };
        if scheme != request.origin.scheme() || !request.origin.has_authority(&authority) {
            return Err(Code::AuthorityMismatch.because("the inner authority is not the outer one"));
        }
        let path = Target::parse(&target)?.path.to_owned();
        if request.uri.path() != bulla.0.sealed_path && request.uri.path() != path {
            return Err(Code::PathRefused.because("the inner path is not the outer one"));
        }
        let mut headers = HeaderMap::with_capacity(fields.len());
        for (name, value) in &fields {
            const BAD: Error = Code::FieldRefused.because("a field cannot be carried");
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| BAD)?;
            headers.append(name, HeaderValue::from_str(value).map_err(|_| BAD)?);
        }
        // What only the browser can say stands outside.
        for (name, value) in &request.headers {
            if field::is_benign(name.as_str()) && !headers.contains_key(name) {
                headers.append(name, value.clone());
            }
        }
        Ok(Unsealed {
            path,
            origin: request.origin,
            method: method
                .parse()
                .map_err(|_| Code::Malformed.because("not a method"))?,
            uri: target
                .parse()
                .map_err(|_| Code::PathRefused.because("the inner target is not a URI"))?,
            headers,
            body: content.into(),
            extensions: request.extensions,
            ticket,
            state,
            sealed: true,
        })
    }
}

impl Unsealed {
    /// How an answer must go out from here on: sealed, if the request came sealed and says what nonce
    /// the answer is to carry.
    pub(crate) fn reply_to(&self) -> ReplyTo {
        let view = View {
            headers: &self.headers,
            ticket: "",
        };
        let nonce = ReceivedProof::parse(&view).map(|proof| proof.nonce.to_param());
        ReplyTo {
            origin: self.origin.clone(),
            seal: nonce
                .ok()
                .filter(|_| self.sealed)
                .map(|nonce| (self.state.response_key, nonce)),
        }
    }

    pub(crate) fn session_name(&self) -> String {
        self.state.id.to_string()
    }

    /// Checks the proof, then, as the last step, that it is used for the first time and that the
    /// session has not ended.
    pub(crate) async fn verify(self, bulla: &Bulla) -> Result<Verified, Error> {
        const WRONG: Error = Code::ProofMismatch.because("the signature is wrong");
        let now = bulla.now();
        let ticket_field = self.ticket.to_field();
        let view = View {
            headers: &self.headers,
            ticket: &ticket_field,
        };
        let proof = ReceivedProof::parse(&view)?;
        if proof.session != self.state.id {
            return Err(Code::ProofMismatch.because("the proof is for another session"));
        }
        bulla.0.nonces.check(
            &proof.nonce.server,
            u64::from(now),
            &bulla.0.ring,
            bulla.0.store.domain(),
        )?;
        let request = SignedRequest {
            method: self.method.as_str(),
            authority: self.origin.authority(),
            path: &self.path,
            query: self.uri.query(),
            fields: &view,
        };
        let covered = proof.check_coverage(&request, Binding::Digest)?;
        let device = PublicKey::from_compressed(&self.state.device).map_err(|_| WRONG)?;
        match proof.kind {
            ProofKind::Device => verify(&device, covered.base.as_bytes(), &covered.signature),
            ProofKind::Session => {
                MacKey::new(&self.state.mac_key).verify(covered.base.as_bytes(), &covered.signature)
            }
        }
        .map_err(|_| WRONG)?;
        let digest = view.line(field::CONTENT_DIGEST)?.unwrap_or_default();
        ContentDigest::check(digest, &self.body)?;
        if proof.kind == ProofKind::Session && self.state.kind == TicketKind::Unconfirmed {
            return Err(Code::SessionUnconfirmed.because("the first proof must be a device proof"));
        }
        if proof.kind < bulla.0.proof {
            return Err(Code::ProofWeak.because("a device proof is required"));
        }

        let device = device.thumbprint();
        let subject = &self.state.subject;
        let subject = (!subject.is_empty()).then(|| (subject.clone(), self.state.login));
        let used = UsedProof {
            proof: replay_key(&device, &proof.nonce.random),
            until: bulla.0.nonces.remember_until(u64::from(now)),
            now: u64::from(now),
            confirmed: self.state.kind == TicketKind::Confirmed,
            session: SessionRef {
                session: self.state.id.into(),
                device,
                subject: subject.clone(),
            },
        };
        accept(bulla.0.store.check_and_insert(used).await)?;
        if let Some(replaced) = self
            .state
            .replaces
            .filter(|_| proof.kind == ProofKind::Device)
        {
            bulla.revoke(Revocation::Session(replaced)).await?;
        }

        let facts = Arc::new(Facts {
            id: self.state.id,
            device,
            subject,
            proof: proof.kind,
            sealed: self.sealed,
            outcome: std::sync::Mutex::default(),
        });
        let headers = for_handler(&self.headers, &covered.covered);
        let mut request = Request::new(body::full(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = headers;
        *request.extensions_mut() = self.extensions;
        request
            .extensions_mut()
            .insert(Session::new(Arc::clone(&facts), bulla.clone()));
        Ok(Verified {
            request,
            facts,
            state: self.state,
        })
    }
}

/// What the store's verdict means for the request.
pub(crate) fn accept(verdict: Result<Verdict, StoreError>) -> Result<(), Error> {
    Err(match verdict {
        Ok(Verdict::Fresh) => return Ok(()),
        Ok(Verdict::Replayed) => Code::Replayed.because("the proof has been used before"),
        Ok(Verdict::Revoked) => Code::SessionRevoked.because("the session has ended"),
        Ok(Verdict::OverQuota) => Code::RateLimited.because("too many requests in this session"),
        Err(StoreError) => Code::StoreUnavailable.because("the proof could not be looked up"),
    })
}

/// Names a proof: the device and the random part of its nonce.
pub(crate) fn replay_key(device: &Thumbprint, random: &[u8; 16]) -> [u8; 16] {
    let hash = Sha256::new()
        .chain_update(device.0)
        .chain_update(random)
        .finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    key
}

/// What a handler sees: what the proof covers, and a short list of what the browser adds.
fn for_handler(headers: &HeaderMap, covered: &[String]) -> HeaderMap {
    let own = [field::TICKET, field::SIGNATURE, field::SIGNATURE_INPUT];
    headers
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            let is_covered = covered.iter().any(|covered| covered == name);
            !own.contains(&name) && (is_covered || field::is_benign(name))
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

type Message = (Control, Vec<(String, String)>, Vec<u8>);

fn read_message(plain: &[u8], limits: &Limits) -> Result<Message, Error> {
    let mut reader = Reader::new(*limits);
    let mut head = None;
    let mut content = Vec::new();
    for event in reader.push(plain)? {
        match event {
            Event::Head(found) => head = Some(found),
            Event::Content(bytes) => content.extend_from_slice(&bytes),
        }
    }
    reader.finish()?;
    let head = head.ok_or(Code::Malformed.because("there is no message inside"))?;
    Ok((head.control, head.fields, content))
}

/// The fields as the verifier sees them: those of the message, and the ticket as it knows it.
pub(crate) struct View<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) ticket: &'a str,
}

impl Fields for View<'_> {
    fn line(&self, name: &str) -> Result<Option<&str>, Error> {
        match name {
            field::TICKET => Ok(Some(self.ticket)),
            field::SALT => Ok(None),
            name => field::single(self.headers.get_all(name).iter().map(HeaderValue::as_bytes)),
        }
    }
}

//! A request's way in: envelope, ticket, unseal, inner request, proof, replay. One step, one type;
//! each consumes the one before, so that a [`Verified`] request cannot exist unless all checks ran.
//! Cheapest first; the body is read only as far as the next check needs it, and nothing is remembered
//! of a request that was refused.

use std::sync::Arc;

use bulla_keys::{MacKey, VerifyingKey};
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::error::{Code, Error};
use bulla_protocol::field::{self, Fields as _};
use bulla_protocol::jwk::Thumbprint;
use bulla_protocol::message::{Control, Head};
use bulla_protocol::opening::Ticket;
use bulla_protocol::proof::{Binding, CoveredProof, ProofKind, ProofNonce, ReceivedProof};
use bulla_protocol::signature::Request as SignedRequest;
use bulla_protocol::structured;
use bulla_protocol::target::{Origin, Target};
use bytes::Bytes;
use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::BodyExt as _;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::body::{self, Body, Envelope, Unsealing};
use crate::bulla::Bulla;
use crate::cookies::Holder;
use crate::elsewhere::Elsewhere;
use crate::event::{About, EventKind};
use crate::headers::{PROOF_FIELDS, Stated, View, hidden, inner_headers};
use crate::live::Live;
use crate::network::Network;
use crate::session::{Facts, Session};
use crate::store::{SessionRef, StoreError, UsedProof, Verdict};
use crate::ticket::{RevocationId, SessionState, TicketKind};

/// A request as it reached the server, its body not read yet.
pub(crate) struct Received {
    pub(crate) origin: Origin,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    pub(crate) extensions: http::Extensions,
}

/// A request with a ticket that opened. Of its body nothing has been read but the envelope's header,
/// if there is one.
pub(crate) struct Ticketed {
    origin: Origin,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Carried,
    extensions: http::Extensions,
    ticket: Ticket,
    pub(crate) state: SessionState,
}

enum Carried {
    Plain(Body),
    Sealed(Envelope),
}

/// A request as its sender meant it: what was inside the seal, or what was never sealed. Its content
/// has not been read, but for what came in one piece with the head.
pub(crate) struct Unsealed {
    pub(crate) uri: Uri,
    origin: Origin,
    path: String,
    method: Method,
    headers: HeaderMap,
    /// The browser's own `cookie` lines, which stand outside.
    cookies: Vec<HeaderValue>,
    content: Content,
    extensions: http::Extensions,
    ticket: Ticket,
    state: SessionState,
    /// The envelope's salt, if there is one.
    salt: Option<[u8; 16]>,
    /// Whether the envelope tells nothing of the path.
    concealed: bool,
}

enum Content {
    Plain(Body),
    Sealed(Box<Unsealing>),
}

/// A proof that holds. What the content must be is known; it has not been read.
struct Proven {
    kind: ProofKind,
    nonce: ProofNonce,
    device: Thumbprint,
    /// The fields that the handler may not see.
    hidden: Vec<HeaderName>,
    /// `None` where the envelope's salt binds the content.
    digest: Option<ContentDigest>,
}

/// A request that has passed every check.
///
/// Its content is whole and is the one that was signed; or, where the proof covers the envelope's salt
/// instead, it is a stream of verified records; or it is [`Elsewhere`], and none of it is here.
pub(crate) struct Verified {
    pub(crate) request: Request<Body>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) state: SessionState,
    /// The names of bound cookies that the browser may forget.
    pub(crate) dead_cookies: Vec<String>,
}

/// A request that has not passed: why, and the request as far as it could still be served.
pub(crate) struct Rejected {
    pub(crate) refusal: Error,
    pub(crate) request: Option<Request<Body>>,
}

impl From<Error> for Rejected {
    fn from(refusal: Error) -> Self {
        Self {
            refusal,
            request: None,
        }
    }
}

/// What is needed to answer, whether or not the request passes.
pub(crate) struct ReplyTo {
    pub(crate) origin: Origin,
    /// The key and the nonce that the answer is sealed under, if the request was sealed.
    pub(crate) seal: Option<(Zeroizing<[u8; 32]>, String)>,
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
        let mut proof = PROOF_FIELDS.iter();
        proof.any(|name| self.headers.contains_key(name))
    }

    /// Finds and opens the ticket: in the envelope's header, or in its field.
    pub(crate) async fn open_ticket(self, bulla: &Bulla) -> Result<Ticketed, Rejected> {
        let (ticket, body, state);
        if self.is_sealed() {
            let mut envelope = Envelope::read(self.body).await?;
            ticket = Ticket::new(std::mem::take(&mut envelope.header.keyid))?;
            state = bulla.open_ticket(&ticket, &self.origin).await?;
            body = Carried::Sealed(envelope);
        } else {
            ticket = match self.ticket_field() {
                Ok(ticket) => ticket,
                Err(refusal) => return Err(self.rejected(refusal)),
            };
            state = match bulla.open_ticket(&ticket, &self.origin).await {
                Ok(state) => state,
                Err(refusal) => return Err(self.rejected(refusal)),
            };
            body = Carried::Plain(self.body);
        }
        Ok(Ticketed {
            origin: self.origin,
            method: self.method,
            uri: self.uri,
            headers: self.headers,
            body,
            extensions: self.extensions,
            ticket,
            state,
        })
    }

    fn ticket_field(&self) -> Result<Ticket, Error> {
        let lines = self.headers.get_all(field::TICKET).iter();
        let line = field::single(lines.map(HeaderValue::as_bytes))?
            .ok_or(Code::ProofMissing.because("the request carries no ticket"))?;
        Ticket::from_field(line)
    }

    pub(crate) fn rejected(self, refusal: Error) -> Rejected {
        Rejected {
            refusal,
            request: Some(self.into_request()),
        }
    }

    /// The request as it came.
    pub(crate) fn into_request(self) -> Request<Body> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        *request.extensions_mut() = self.extensions;
        request
    }
}

impl Ticketed {
    /// Opens the envelope, if there is one, as far as the head of the message inside.
    pub(crate) async fn unseal(self, bulla: &Bulla) -> Result<Unsealed, Error> {
        let Self {
            origin,
            method,
            uri,
            headers,
            body,
            extensions,
            ticket,
            state,
        } = self;
        let cookies = if bulla.cookies().are_on() || bulla.paths().monitors() {
            headers.get_all(COOKIE).iter().cloned().collect()
        } else {
            Vec::new()
        };
        let envelope = match body {
            Carried::Sealed(envelope) => envelope,
            Carried::Plain(body) => {
                let target = uri.path_and_query().map_or("", |target| target.as_str());
                let path = Target::parse(target)?.path.to_owned();
                return Ok(Unsealed {
                    uri,
                    origin,
                    path,
                    method,
                    headers,
                    cookies,
                    content: Content::Plain(body),
                    extensions,
                    ticket,
                    state,
                    salt: None,
                    concealed: false,
                });
            }
        };
        let salt = envelope.header.salt;
        let (head, content) = envelope.unseal(&state.request_key, &bulla.0.limits).await?;
        let Head {
            control:
                Control::Request {
                    method,
                    scheme,
                    authority,
                    target,
                },
            fields,
        } = head
        else {
            return Err(Code::Malformed.because("a reply came where a request should be"));
        };
        if scheme != origin.scheme() || !origin.has_authority(&authority) {
            return Err(Code::AuthorityMismatch.because("the inner authority is not the outer one"));
        }
        let path = Target::parse(&target)?.path.to_owned();
        if uri.path() != bulla.0.sealed_path && uri.path() != path {
            return Err(Code::PathRefused.because("the inner path is not the outer one"));
        }
        Ok(Unsealed {
            uri: target
                .parse()
                .map_err(|_| Code::PathRefused.because("the inner target is not a URI"))?,
            origin,
            path,
            method: method
                .parse()
                .map_err(|_| Code::Malformed.because("not a method"))?,
            headers: inner_headers(&fields, &headers, &bulla.0.upstream)?,
            cookies,
            content: Content::Sealed(Box::new(content)),
            extensions,
            ticket,
            state,
            salt: Some(salt),
            concealed: uri.path() == bulla.0.sealed_path,
        })
    }
}

impl Unsealed {
    /// Checks the proof before any content is read, then the content, then, as the last step, that the
    /// proof is used for the first time and that the session has not ended.
    ///
    /// How to answer it, whether or not it passes, is found on the way.
    pub(crate) async fn verify(
        self,
        bulla: &Bulla,
        reply_to: &mut ReplyTo,
        about: &mut About,
    ) -> Result<Verified, Rejected> {
        match self.prove(bulla, reply_to, about) {
            Ok(proven) => self.admit(proven, bulla, about).await,
            // Nothing that came sealed is answered in plain text, whatever its path lets pass.
            Err(refusal) if self.salt.is_some() && reply_to.seal.is_none() => Err(refusal.into()),
            Err(refusal) => Err(self.rejected(refusal)),
        }
    }

    fn rejected(self, refusal: Error) -> Rejected {
        Rejected {
            refusal,
            request: Some(self.into_request()),
        }
    }

    fn into_request(self) -> Request<Body> {
        let mut request = Request::new(match self.content {
            Content::Plain(body) => body,
            Content::Sealed(content) => body::boxed(content),
        });
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        if self.salt.is_some() {
            // They stand outside.
            let cookies = self.cookies.into_iter().map(|line| (COOKIE, line));
            request.headers_mut().extend(cookies);
        }
        *request.extensions_mut() = self.extensions;
        request
    }

    /// Checks the proof. Nothing is read for it.
    fn prove(
        &self,
        bulla: &Bulla,
        reply_to: &mut ReplyTo,
        about: &mut About,
    ) -> Result<Proven, Error> {
        let stated = self.salt.map(|salt| Stated {
            ticket: self.ticket.to_field(),
            salt: structured::from_bytes(&salt),
        });
        let view = View {
            headers: &self.headers,
            stated: stated.as_ref(),
        };
        let proof = ReceivedProof::parse(&view)?;
        // From here on an answer can say what it answers.
        if self.salt.is_some() {
            let key = Zeroizing::new(self.state.response_key);
            reply_to.seal = Some((key, proof.nonce.to_param()));
        }
        if proof.session != self.state.id {
            return Err(Code::ProofMismatch.because("the proof is for another session"));
        }
        bulla.check_nonce(&proof.nonce)?;
        let binding = self.binding(&proof)?;
        let request = SignedRequest {
            method: self.method.as_str(),
            authority: self.origin.authority(),
            path: &self.path,
            query: self.uri.query(),
            fields: &view,
        };
        let covered = proof.check_coverage(&request, binding)?;
        let device = bulla.0.devices.find(&self.state.device);
        let device = device.map_err(|_| WRONG)?;
        about.device = Some(device.thumbprint);
        self.check_signature(proof.kind, &device.key, &covered)?;
        if proof.kind == ProofKind::Session && self.state.kind == TicketKind::Unconfirmed {
            return Err(Code::SessionUnconfirmed.because("the first proof must be a device proof"));
        }
        if proof.kind < bulla.0.proof {
            return Err(Code::ProofWeak.because("a device proof is required"));
        }
        let digest = match binding {
            Binding::Digest => view.line(field::CONTENT_DIGEST)?,
            Binding::Salt => None,
        };
        Ok(Proven {
            kind: proof.kind,
            nonce: proof.nonce,
            device: device.thumbprint,
            hidden: if self.salt.is_none() && bulla.paths().is_monitored(&self.path) {
                // Which cookies pass is decided apart.
                PROOF_FIELDS.iter().cloned().chain([COOKIE]).collect()
            } else {
                hidden(&self.headers, &covered.covered, &bulla.0.upstream)
            },
            digest: digest.map(ContentDigest::parse).transpose()?,
        })
    }

    /// How the proof binds the content; where that is by the salt, whether it may.
    fn binding(&self, proof: &ReceivedProof<'_>) -> Result<Binding, Error> {
        let binding = proof.binding();
        if binding == Binding::Salt {
            if self.salt.is_none() {
                return Err(UNSEALED_STREAM);
            }
            // It would reach the handler as if somebody had checked it.
            if self.headers.contains_key(field::CONTENT_DIGEST) {
                return Err(Code::FieldRefused.because("a streamed request carries no digest"));
            }
        }
        Ok(binding)
    }

    fn check_signature(
        &self,
        kind: ProofKind,
        device: &VerifyingKey,
        covered: &CoveredProof<'_>,
    ) -> Result<(), Error> {
        let base = covered.base.as_bytes();
        match kind {
            ProofKind::Device => device.verify(base, &covered.signature),
            ProofKind::Session => MacKey::new(&self.state.mac_key).verify(base, &covered.signature),
        }
        .map_err(|_| WRONG)
    }
}

const WRONG: Error = Code::ProofMismatch.because("the signature is wrong");

impl Bulla {
    /// Opens a ticket that requests are made with, for what it says.
    async fn open_ticket(&self, ticket: &Ticket, origin: &Origin) -> Result<SessionState, Error> {
        self.know_key(ticket).await?;
        let (now, memory) = (self.now(), self.0.store.memory().revocations);
        let state = SessionState::open(ticket, &self.0.ring, origin, memory)?;
        if state.kind.is_carried_over() {
            return Err(Code::TicketInvalid.because("the ticket was not sealed here"));
        }
        self.check_times(&state, now)?;
        Ok(state)
    }

    /// Counts a request that has passed every check. Not before: a copy of a proof uses up nothing.
    ///
    /// # Errors
    ///
    /// [`Code::RateLimited`].
    pub(crate) fn let_in(&self, by: &SessionRef, now: u32) -> Result<(), Error> {
        self.0.guard.take_turn(by.session, now)?;
        self.0.meters.of_session(by, now)
    }

    /// Lets a session take the place of the one that it was carried over from. Requests that were made at once all
    /// ask for it.
    ///
    /// # Errors
    ///
    /// [`Code::SessionRevoked`] if that one has ended in any other way: what was carried over from it,
    /// however long ago, has ended with it. [`Code::SessionLimit`] if it is on no list any more, and there is no room.
    pub(crate) async fn take_place(
        &self,
        replaced: RevocationId,
        state: &SessionState,
        by: &SessionRef,
    ) -> Result<(), Error> {
        let subject = state.subject;
        // On the list first: whoever counts meanwhile finds the one or the other.
        self.settle(state, by.device).await?;
        let place = self.replace(replaced, by.session, subject.into()).await?;
        if place == Some(by.session) {
            self.0.guard.inherit(replaced, by.session);
            return Ok(());
        }
        if let Some(subject) = subject {
            let is_this = |session: RevocationId, _| session == by.session;
            self.take_off(subject, is_this).await;
        }
        Err(Code::SessionRevoked.because("the session that it was carried over from has ended"))
    }

    /// Sees to it that the proof is used for the first time, and that the session has not ended. Returns whether its
    /// user has to log in again.
    async fn remember(
        &self,
        state: &SessionState,
        proven: &Proven,
        facts: &Facts,
        about: &About,
    ) -> Result<bool, Error> {
        self.0.guard.check_end(state.id.into(), facts.admitted)?;
        // Once more: the body may have come so slowly that the store has forgotten what was sent along
        // with this proof, a copy of it among them.
        let memory = self.check_nonce(&proven.nonce)?;
        let now = u64::from(facts.admitted);
        let used = UsedProof {
            proof: replay_key(&proven.device, &proven.nonce.random),
            memory,
            until: self.0.nonces.remember_until(now),
            now,
            confirmed: state.kind == TicketKind::Confirmed,
            session: facts.session_ref(),
        };
        let must_step_up = accept(self.0.store.check_and_insert(used).await)?;
        let this = facts.session_ref();
        // What has not shown a proof yet has shown a device proof now.
        match state.replaces {
            Some(replaced) => self.take_place(replaced, state, &this).await?,
            None if state.kind == TicketKind::Unconfirmed => {
                self.settle(state, facts.device).await?;
            }
            None => {}
        }
        self.notice_network(about);
        // A rule may have ended it just now: whoever goes on with it elsewhere gets nothing by his first request either.
        self.0.guard.check_end(this.session, facts.admitted)?;
        self.let_in(&this, facts.admitted)?;
        Ok(must_step_up)
    }

    /// Returns the memory that it was handed out for.
    fn check_nonce(&self, nonce: &ProofNonce) -> Result<[u8; 16], Error> {
        let (ring, memory) = (&self.0.ring, self.0.store.memory().proofs);
        let now = u64::from(self.now());
        self.0.nonces.check(&nonce.server, now, ring, memory)?;
        Ok(memory)
    }
}

impl Unsealed {
    /// Reads the content, then asks the store.
    async fn admit(
        mut self,
        proven: Proven,
        bulla: &Bulla,
        about: &About,
    ) -> Result<Verified, Rejected> {
        let nothing = Content::Plain(body::full(Bytes::new()));
        let content = std::mem::replace(&mut self.content, nothing);
        let mut binding = Ok(());
        if let Some(digest) = proven.digest {
            if let Some(elsewhere) = self.elsewhere() {
                binding = elsewhere.check(digest);
            } else {
                let content = content.collect(bulla.0.limits.max_body_len).await?;
                binding = digest.verify(&content);
                self.content = Content::Plain(body::full(content));
            }
        } else {
            self.content = content.stream(bulla, about)?;
        }
        let mut facts = self.facts(&proven, about.network, bulla.now());
        let fresh = match binding {
            Ok(()) => bulla.remember(&self.state, &proven, &facts, about).await,
            Err(refusal) => Err(refusal),
        };
        match fresh {
            Ok(must_step_up) => {
                facts.must_step_up = must_step_up;
                Ok(self.hand_over(proven, facts, bulla, about))
            }
            Err(refusal) => Err(self.rejected(refusal)),
        }
    }

    /// Where its content is, if it is not here. What is sealed is its content.
    fn elsewhere(&self) -> Option<Elsewhere> {
        let elsewhere = self.extensions.get().copied();
        elsewhere.filter(|_| self.salt.is_none())
    }

    fn facts(&self, proven: &Proven, network: Option<Network>, now: u32) -> Facts {
        let state = &self.state;
        Facts {
            id: state.id,
            device: proven.device,
            subject: state.subject.map(|subject| (subject, state.login)),
            assurance: state.assurance,
            memory: state.memory,
            network,
            proof: proven.kind,
            sealed: self.salt.is_some(),
            concealed: self.concealed,
            must_step_up: false,
            admitted: now,
            outcome: std::sync::Mutex::default(),
        }
    }

    /// The request as the handler sees it.
    fn hand_over(self, proven: Proven, facts: Facts, bulla: &Bulla, about: &About) -> Verified {
        let facts = Arc::new(facts);
        let mut headers = self.headers;
        for name in proven.hidden {
            headers.remove(name);
        }
        let holder = Holder {
            origin: &self.origin,
            device: &proven.device,
        };
        let target = (&self.method, self.path.as_str());
        let (cookies, dead_cookies) =
            bulla.cookies_in(self.cookies.iter(), holder, target, &headers, about);
        headers.extend(cookies.map(|cookies| (COOKIE, cookies)));
        let content = match self.content {
            Content::Plain(body) if proven.digest.is_some() => body,
            Content::Plain(body) => {
                let until = bulla.ends(&self.state);
                body::boxed(Live::new(body, bulla, facts.session_ref(), until))
            }
            Content::Sealed(content) => body::boxed(content),
        };
        let mut request = Request::new(content);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = headers;
        *request.extensions_mut() = self.extensions;
        let session = Session::new(Arc::clone(&facts), bulla.clone());
        request.extensions_mut().insert(session);
        Verified {
            request,
            facts,
            state: self.state,
            dead_cookies,
        }
    }
}

impl Content {
    /// All of it, at most so many bytes.
    async fn collect(self, limit: usize) -> Result<Bytes, Error> {
        match self {
            Self::Plain(body) => body::collect(body, limit).await,
            Self::Sealed(content) => content.collect_all(limit).await,
        }
    }

    /// As it comes, where the proof covers the salt.
    fn stream(self, bulla: &Bulla, about: &About) -> Result<Self, Error> {
        let Self::Sealed(content) = self else {
            return Err(UNSEALED_STREAM);
        };
        let (bulla, about) = (bulla.clone(), about.clone());
        Ok(Self::Plain(body::boxed(content.map_err(move |error| {
            bulla.report(EventKind::UploadBroken(error), &about);
            error
        }))))
    }
}

const UNSEALED_STREAM: Error =
    Code::CoverageMissing.because("the salt binds the content of sealed requests only");

/// What the store's verdict means for the request: whether its user has to log in again.
pub(crate) fn accept(verdict: Result<Verdict, StoreError>) -> Result<bool, Error> {
    Err(match verdict {
        Ok(Verdict::Fresh) => return Ok(false),
        Ok(Verdict::StepUp) => return Ok(true),
        Ok(Verdict::Replayed) => Code::Replayed.because("the proof has been used before"),
        Ok(Verdict::Revoked) => Code::SessionRevoked.because("the session has ended"),
        Ok(Verdict::Stale) => Code::NonceStale.because("the nonce is not of this memory"),
        Ok(Verdict::OverQuota) => Code::RateLimited.because("too many requests in this session"),
        Err(StoreError) => UNKNOWN,
    })
}

const UNKNOWN: Error = Code::StoreUnavailable.because("the proof could not be looked up");

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

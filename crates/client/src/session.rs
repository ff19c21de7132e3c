//! Requests through a session: send, check the reply, and do what a refusal asks for.

use core::fmt;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bulla_protocol::error::{Code, Error as Refusal};
use bulla_protocol::field;
use bulla_protocol::limits::{MAX_OPENING_LEN, MAX_PROBLEM_LEN, OPENING_TIMEOUT};
use bulla_protocol::opening::{SessionId, Ticket, session_path};
use bulla_protocol::proof::{ProofKind, ProofNonce};
use bulla_protocol::reply::Handout;
use bulla_protocol::retry::{Attempt, Kind, Next, outranks};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;

use crate::body::Body;
use crate::client::Client;
use crate::error::{BoxError, Error};
use crate::live::Live;
use crate::opening::PreparedOpening;
use crate::reply::Answer;
use crate::request::{Content, Mode, Outgoing, Prepared};
use crate::transport::Outbound;

/// A session with one server. Clones are the same session.
///
/// What the server calls a session may change underneath: after a login, and when the server refuses
/// the current one, a new one is opened.
#[derive(Clone)]
pub struct Session(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) client: Client,
    state: Mutex<State>,
    /// Held while a session is opened, so that requests at the same time share one.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    live: Option<Arc<Live>>,
    /// Stays here until it has been used, even if the request that brought it is given up.
    carry_over: Option<Arc<CarryOver>>,
    closed: bool,
}

/// A ticket that is good for one opening within a minute; the session that it came through has ended.
struct CarryOver {
    ticket: Ticket,
    /// What became of that opening. Any request may have made it, and the one that brought the ticket is
    /// a login that came about or not.
    opening: OnceLock<Result<(), Refusal>>,
}

impl Session {
    pub(crate) fn new(client: Client, live: Option<Live>) -> Self {
        Self(Arc::new(Inner {
            client,
            state: Mutex::new(State {
                live: live.map(Arc::new),
                ..State::default()
            }),
            opening: tokio::sync::Mutex::default(),
        }))
    }

    /// Sends a request through the session, and hands back the reply without what the server meant
    /// for the client.
    ///
    /// The URI is a path, or absolute with the server's own origin. A stale nonce is replaced and the
    /// request sent again, once; a session that the server refuses is replaced, and the request sent
    /// again if its method is safe. Redirects are not followed.
    ///
    /// # Errors
    ///
    /// [`Code::RequestInvalid`] before anything is sent; a refusal by the server (one of the
    /// application's own replies is not an error, whatever its status); what is wrong with the reply;
    /// [`Code::Network`]; [`Code::SessionClosed`] after [`end`](Self::end).
    pub async fn fetch<B: Into<Bytes>>(
        &self,
        request: Request<B>,
    ) -> Result<Response<Body>, Error> {
        let (parts, body) = request.into_parts();
        self.dispatch(&parts, &Content::Whole(body.into())).await
    }

    /// Sends a request whose content is a stream: too large to be kept, or not all there yet. It is
    /// always sealed, and its proof covers the envelope instead of a digest.
    ///
    /// The request carries a function that makes the content, since it may have to be sent again; all
    /// else is as with [`fetch`](Self::fetch). A content that fails cuts the request, which the server
    /// notices.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch); [`Code::Network`] if the content fails.
    pub async fn upload<F, B>(&self, request: Request<F>) -> Result<Response<Body>, Error>
    where
        F: Fn() -> B + Send + Sync + 'static,
        B: http_body::Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, make) = request.into_parts();
        let make = move || make().map_err(Into::into).boxed();
        self.dispatch(&parts, &Content::Stream(Box::new(make)))
            .await
    }

    async fn dispatch(
        &self,
        parts: &http::request::Parts,
        content: &Content,
    ) -> Result<Response<Body>, Error> {
        let outgoing = Outgoing::new(parts, &self.0.client.0.origin)?;
        let mut response = self.exchange(&outgoing, content, false).await?;
        strip(response.headers_mut());
        Ok(response)
    }

    /// Ends the session, at the server and here.
    ///
    /// # Errors
    ///
    /// What says that the server has not confirmed it; here the session has ended all the same. A refusal
    /// that is not sealed is among these, also [`Code::TicketExpired`] and the like: it may be true, and
    /// anybody on the path may have said it.
    pub async fn end(&self) -> Result<(), Error> {
        // Also if whoever waits for the server's word gives up.
        let _closing = Closing(self);
        if self.current().is_none() {
            return Ok(());
        }
        let client = &self.0.client.0;
        let request = Request::delete(session_path(&client.prefix))
            .body(())
            .map_err(|_| Code::RequestInvalid.because("the prefix is not a path"))?;
        let outgoing = Outgoing::new(&request.into_parts().0, &client.origin)?;
        let nothing = Content::Whole(Bytes::new());
        match self.exchange(&outgoing, &nothing, true).await {
            // It had ended already.
            Err(error) if error.code == Code::SessionClosed => Ok(()),
            ended => ended.map(drop),
        }
    }

    /// The current session's name; `None` after the server or this client has ended it.
    pub fn id(&self) -> Option<SessionId> {
        self.current().map(|live| live.id)
    }

    /// Whether the current session has a subject: the user has logged in.
    pub fn is_authenticated(&self) -> bool {
        self.current().is_some_and(|live| live.authenticated)
    }

    /// The client that it belongs to.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// A nonce for [`prepare`](Self::prepare): the server's newest part, and a fresh random one.
    ///
    /// # Errors
    ///
    /// [`Code::SessionClosed`] if there is no current session, [`Code::Unsupported`] without random bytes.
    pub fn fresh_nonce(&self) -> Result<ProofNonce, Error> {
        let live = self.current().ok_or(CLOSED)?;
        self.nonce(&live)
    }

    /// Signs a request, and seals it if `mode` says so, without sending it.
    ///
    /// # Errors
    ///
    /// [`Code::SessionClosed`] if there is no current session, [`Code::RequestInvalid`] if the request cannot be
    /// sent, [`Code::Unsupported`] if a key cannot be used.
    pub fn prepare<B: Into<Bytes>>(
        &self,
        request: Request<B>,
        mode: Mode,
        kind: ProofKind,
        nonce: ProofNonce,
    ) -> Result<Prepared, Error> {
        let client = &self.0.client.0;
        let live = self.current().ok_or(CLOSED)?;
        let (parts, body) = request.into_parts();
        Outgoing::new(&parts, &client.origin)?.prepare(
            client,
            &live,
            mode,
            kind,
            nonce,
            &body.into(),
        )
    }

    /// The session to be used now: the current one, or one opened now.
    pub(crate) async fn live(&self) -> Result<Arc<Live>, Error> {
        self.other_than(None).await
    }

    /// A session in the place of one that the server refuses.
    async fn other_than(&self, refused: Option<SessionId>) -> Result<Arc<Live>, Error> {
        if let Some(live) = self.usable(refused)? {
            return Ok(live);
        }
        let _turn = self.0.opening.lock().await;
        if let Some(live) = self.usable(refused)? {
            return Ok(live);
        }
        let carry_over = self.state().carry_over.clone();
        let ticket = carry_over.as_ref().map(|carry| carry.ticket.clone());
        let opened = self.open(ticket).await;
        let mut state = self.state();
        if let Some(used) = carry_over {
            // Also if it failed: the application is told so, and must not be logged in a moment later.
            state.carry_over.take_if(|kept| Arc::ptr_eq(kept, &used));
            let outcome = opened.as_ref().map(drop);
            let _ = used
                .opening
                .set(outcome.map_err(|error| error.code.because(error.detail)));
        }
        let live = Arc::new(opened?);
        if state.closed {
            return Err(CLOSED.into());
        }
        state.live = Some(Arc::clone(&live));
        Ok(live)
    }

    async fn open(&self, ticket: Option<Ticket>) -> Result<Live, Error> {
        let prepared = PreparedOpening::new(self.0.client.clone(), ticket)?;
        let answer = self.send_opening(&prepared).await?;
        let Some(worked) = prepared.worked(&answer).await? else {
            return prepared.read(&answer);
        };
        let answer = self.send_opening(&worked).await?;
        worked.read(&answer)
    }

    async fn send_opening(&self, opening: &PreparedOpening) -> Result<Response<Bytes>, Error> {
        let request = opening.request.clone();
        let request = request.map(Outbound::Whole);
        let sent = self.0.client.0.http.send(request, Some(OPENING_TIMEOUT));
        let (parts, body) = sent.await?.into_parts();
        let body = Body::plain(body)
            .peek(MAX_OPENING_LEN.max(MAX_PROBLEM_LEN))
            .await?
            .ok_or(Code::ReplyInvalid.because("the answer to the opening is too long"))?;
        Ok(Response::from_parts(parts, body))
    }

    /// Sends a request until there is a reply or nothing more to try.
    async fn exchange(
        &self,
        outgoing: &Outgoing,
        content: &Content,
        ends: bool,
    ) -> Result<Response<Body>, Error> {
        let clock = &self.0.client.0.clock;
        let mut live = self.live().await?;
        // The random part is drawn once: whatever is sent again is the same request.
        let mut nonce = self.nonce(&live)?;
        let (first_sent, sent_at) = (clock.monotonic(), clock.unix_seconds());
        let mut attempt = Attempt {
            proof: live.proof_kind(first_sent),
            request: Kind::new(outgoing.is_safe(), ends),
            retried: false,
            reopened: false,
            elapsed: Duration::ZERO,
            nonce_life: live.nonce_life,
        };
        loop {
            attempt.proof = live.proof_kind(clock.monotonic());
            nonce.server = live.nonce();
            let answer = self.send(&live, outgoing, content, attempt.proof, nonce.clone());
            let (refusal, sealed) = match answer.await? {
                Answer::Reply(response, _) => return Ok(response),
                Answer::Refused {
                    refusal, sealed, ..
                } => (refusal, sealed),
            };
            let passed = Duration::from_secs(clock.unix_seconds().saturating_sub(sent_at));
            attempt.elapsed = clock.monotonic().saturating_sub(first_sent).max(passed);
            match attempt.after(refusal.code, sealed) {
                Next::Retry => {}
                Next::Prove => live.want_device(),
                Next::ProveAnew => {
                    live.want_device();
                    nonce = self.nonce(&live)?;
                }
                Next::ProveAndFail => {
                    live.want_device();
                    return Err(refusal.into());
                }
                Next::Reopen => live = self.other_than(Some(live.id)).await?,
                Next::ReopenAndFail => {
                    return match self.other_than(Some(live.id)).await {
                        Err(error) if outranks(error.code) => Err(error),
                        _ => Err(refusal.into()),
                    };
                }
                Next::Ended => return Err(CLOSED.into()),
                Next::Fail => return Err(refusal.into()),
            }
        }
    }

    /// Sends a request once, and takes what the server hands out beside the reply.
    async fn send(
        &self,
        live: &Arc<Live>,
        outgoing: &Outgoing,
        content: &Content,
        kind: ProofKind,
        nonce: ProofNonce,
    ) -> Result<Answer, Error> {
        let client = &self.0.client.0;
        let ready = outgoing.ready(client, live, kind, nonce, content)?;
        let response = client.http.send(ready.request, None).await?;
        let answer = ready.reply.read(response).await?;
        let handout = match &answer {
            Answer::Reply(_, handout) | Answer::Refused { handout, .. } => handout,
        };
        if let Some(brought) = self.learn(live, handout) {
            // The new session is there before the application sees the reply.
            self.live().await?;
            brought.opening.get().copied().unwrap_or(Err(SUPERSEDED))?;
        }
        Ok(answer)
    }

    /// Takes what the server hands out. Returns what is to be carried over.
    fn learn(&self, live: &Arc<Live>, handout: &Handout) -> Option<Arc<CarryOver>> {
        live.take(handout, self.0.client.0.clock.monotonic());
        let mut state = self.state();
        if handout.ended {
            state.live.take_if(|current| current.id == live.id);
        }
        let ticket = handout.carry_over.clone()?;
        state.carry_over = Some(Arc::new(CarryOver {
            ticket,
            opening: OnceLock::new(),
        }));
        state.carry_over.clone()
    }

    /// The current session, unless it is the refused one or there is a ticket for another.
    fn usable(&self, refused: Option<SessionId>) -> Result<Option<Arc<Live>>, Error> {
        let state = self.state();
        if state.closed {
            return Err(CLOSED.into());
        }
        // Somebody has logged in, whatever session was opened meanwhile.
        if state.carry_over.is_some() {
            return Ok(None);
        }
        let live = state.live.as_ref().filter(|live| Some(live.id) != refused);
        Ok(live.cloned())
    }

    fn nonce(&self, live: &Live) -> Result<ProofNonce, Error> {
        let mut random = [0; 16];
        self.0.client.0.random.fill(&mut random)?;
        Ok(ProofNonce {
            server: live.nonce(),
            random,
        })
    }

    pub(crate) fn current(&self) -> Option<Arc<Live>> {
        self.state().live.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the session here when it is dropped.
struct Closing<'a>(&'a Session);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        state.live = None;
        state.carry_over = None;
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id().map(|id| id.to_string());
        f.debug_struct("Session")
            .field("id", &id)
            .finish_non_exhaustive()
    }
}

pub(crate) const CLOSED: Refusal = Code::SessionClosed.because("the session is closed");
const SUPERSEDED: Refusal =
    Code::SessionRevoked.because("another login took the place of this one");

/// Removes what the server meant for the client.
fn strip(headers: &mut HeaderMap) {
    let ours: Vec<_> = headers
        .keys()
        .filter(|name| field::is_ours(name.as_str()))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

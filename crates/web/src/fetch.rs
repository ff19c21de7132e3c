//! `fetch` through a session: send, check the reply, and do what a refusal asks for.

use core::time::Duration;
use std::rc::Rc;

use bulla_protocol::error::{Code, Error};
use bulla_protocol::field::{self, Fields};
use bulla_protocol::limits::MAX_PROBLEM_LEN;
use bulla_protocol::opening::{Ticket, session_path};
use bulla_protocol::proof::{ProofKind, ProofNonce};
use bulla_protocol::retry::{Attempt, Next, is_over};
use bulla_protocol::structured;
use bulla_protocol::target::is_safe;
use js_sys::Array;
use wasm_bindgen::prelude::*;
use web_sys::{ReadableStream, Response, ResponseInit};

use crate::client::{Client, UNREACHABLE, is_problem, refusal, to_the_end};
use crate::error::Failure;
use crate::platform::{
    self, fetch, now, object, read_at_most, reader, reason, settle, unless_aborted,
};
use crate::reply::{ReplyHead, Unsealer};
use crate::request::{Outgoing, Prepared};
use crate::session::Live;

/// As many as the platform's own `fetch` follows.
const MAX_REDIRECTS: usize = 20;

#[wasm_bindgen(raw_module = "../support.js")]
extern "C" {
    /// Makes a constructed response tell what a fetched one would.
    fn described(response: &Response, url: &str, redirected: bool) -> Response;
}

/// What the platform's `fetch` does, through a session.
pub(crate) async fn run(
    client: Rc<Client>,
    input: JsValue,
    init: JsValue,
) -> Result<Response, Failure> {
    let origin = &client.settings.origin;
    let mut request = Outgoing::read(&input, &init, origin).await?;
    for redirects in 0..=MAX_REDIRECTS {
        let reply = exchange(&client, &request, true).await?;
        let location = reply.location()?;
        match (location, request.redirect.as_str()) {
            (Some(location), "follow") => {
                let status = reply.head.status;
                reply.cancel();
                request = request.redirected(status, &location, origin)?;
            }
            (Some(_), "error") => {
                reply.cancel();
                return Err(Code::Network
                    .because("there was an unexpected redirect")
                    .into());
            }
            _ => {
                let response = reply.into_response(request.method == "HEAD").await?;
                return Ok(described(&response, &request.url(origin), redirects > 0));
            }
        }
    }
    Err(Code::Network
        .because("there were too many redirects")
        .into())
}

/// Ends the session at the server and here.
pub(crate) async fn end(client: Rc<Client>) -> Result<(), Failure> {
    let Some(live) = client.current() else {
        client.close();
        return Ok(());
    };
    let request = Outgoing::own("DELETE", session_path(&client.settings.prefix))?;
    let ended = exchange(&client, &request, false).await;
    client.close();
    client.drop_session(live.id).await;
    match ended {
        Ok(reply) => {
            reply.cancel();
            Ok(())
        }
        // It had ended already.
        Err(failure) if failure.code().is_some_and(has_ended) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Whether there is nothing left to end.
fn has_ended(code: Code) -> bool {
    is_over(code) || code == Code::SessionClosed
}

/// Sends a request until there is a reply or nothing more to try.
async fn exchange(
    client: &Rc<Client>,
    request: &Outgoing,
    may_reopen: bool,
) -> Result<Reply, Failure> {
    let mut live = unless_aborted(&request.signal, client.session()).await?;
    let first_sent = now();
    let mut random = request.random;
    let mut attempt = Attempt {
        proof: live.proof_kind(),
        safe: is_safe(&request.method),
        retried: false,
        reopened: false,
        elapsed: Duration::ZERO,
        nonce_life: Duration::try_from_secs_f64(live.nonce_life).unwrap_or_default(),
    };
    loop {
        attempt.proof = live.proof_kind();
        let sent = send(client, &live, request, attempt.proof, random).await?;
        let (refusal, sealed) = match sent {
            Answer::Reply(reply) => return Ok(reply),
            Answer::Refused { refusal, sealed } => (refusal, sealed),
        };
        if matches!(refusal.code, Code::ProofWeak | Code::SessionUnconfirmed) {
            live.wants_device.set(true);
        }
        attempt.elapsed =
            Duration::try_from_secs_f64((now() - first_sent) / 1000.0).unwrap_or_default();
        match attempt.after(refusal.code, sealed) {
            Next::Retry => attempt.retried = true,
            Next::Prove => {}
            Next::ProveAnew => random = platform::random()?,
            Next::Reopen if may_reopen => {
                attempt.reopened = true;
                live = unless_aborted(&request.signal, client.other_than(Some(live.id))).await?;
            }
            Next::ReopenAndFail if may_reopen => {
                // The application gets this refusal, whatever becomes of the next session.
                let _ = client.other_than(Some(live.id)).await;
                return Err(refusal.into());
            }
            _ => return Err(refusal.into()),
        }
    }
}

enum Answer {
    Reply(Reply),
    Refused { refusal: Error, sealed: bool },
}

/// Sends a request once.
async fn send(
    client: &Rc<Client>,
    live: &Rc<Live>,
    request: &Outgoing,
    kind: ProofKind,
    random: [u8; 16],
) -> Result<Answer, Failure> {
    let Prepared { url, init, nonce } = request
        .prepare(&client.settings, &client.device, live, kind, random)
        .await?;
    if request.signal.aborted() {
        return Err(Failure::Platform(reason(&request.signal)));
    }
    let response: Response = settle(fetch(&url, &init))
        .await
        .map_err(|_| {
            if request.signal.aborted() {
                Failure::Platform(reason(&request.signal))
            } else {
                UNREACHABLE.into()
            }
        })?
        .unchecked_into();
    let answer = if client.settings.seal {
        open_sealed(live, request, &nonce, &response).await?
    } else {
        read_plain(response).await?
    };
    let fields = match &answer {
        Found::Reply(reply) => &reply.head.fields,
        Found::Refused { fields, .. } => fields,
    };
    take_notes(client, live, fields).await?;
    Ok(match answer {
        Found::Reply(reply) => Answer::Reply(reply),
        Found::Refused {
            refusal, sealed, ..
        } => Answer::Refused { refusal, sealed },
    })
}

enum Found {
    Reply(Reply),
    Refused {
        refusal: Error,
        fields: Vec<(String, String)>,
        sealed: bool,
    },
}

/// Opens the reply to a sealed request. One that is not sealed can only be a refusal.
async fn open_sealed(
    live: &Live,
    request: &Outgoing,
    nonce: &ProofNonce,
    response: &Response,
) -> Result<Found, Failure> {
    const MISMATCH: Error = Code::ReplyMismatch.because("the reply answers another request");
    let outer = platform::fields(&response.headers());
    let is_sealed = response.status() == 200 && outer.line("content-type")? == Some(field::BHTTP);
    let source = if is_sealed { reader(response) } else { None };
    let Some(source) = source else {
        let refusal = read_refusal(response, &outer).await;
        return match refusal {
            Some(refusal) => Ok(Found::Refused {
                refusal,
                // Nobody vouches for this answer: a nonce is all that is taken from it.
                fields: only_nonce(outer),
                sealed: false,
            }),
            None => Err(Code::ReplyUnsealed
                .because("the reply to a sealed request is not sealed")
                .into()),
        };
    };
    let (head, mut unsealer) = Unsealer::start(source, request.signal.clone(), &live.keys).await?;
    let in_reply_to = head.fields.line(field::IN_REPLY_TO)?.ok_or(MISMATCH)?;
    if structured::string(in_reply_to)? != nonce.to_param() {
        unsealer.cancel();
        return Err(MISMATCH.into());
    }
    if is_problem(head.status, &head.fields) {
        let (content, is_whole) = unsealer.collect(MAX_PROBLEM_LEN).await?;
        if is_whole && let Some(refusal) = refusal(head.status, &head.fields, &content) {
            let fields = head.fields;
            return Ok(Found::Refused {
                refusal,
                fields,
                sealed: true,
            });
        }
        unsealer.unread(content);
    }
    Ok(Found::Reply(Reply {
        head,
        content: Content::Sealed(Box::new(unsealer)),
    }))
}

/// Reads the reply to a request that was signed only. TLS alone vouches for it.
async fn read_plain(response: Response) -> Result<Found, Failure> {
    let fields = platform::fields(&response.headers());
    let status = response.status();
    if is_problem(status, &fields) {
        let copy = response.clone().map_err(Failure::Platform)?;
        if let Some(refusal) = read_refusal(&copy, &fields).await {
            return Ok(Found::Refused {
                refusal,
                fields,
                sealed: false,
            });
        }
    }
    Ok(Found::Reply(Reply {
        head: ReplyHead { status, fields },
        content: Content::Plain(response),
    }))
}

async fn read_refusal(response: &Response, fields: &Vec<(String, String)>) -> Option<Error> {
    if !is_problem(response.status(), fields) {
        return None;
    }
    let body = read_at_most(response, MAX_PROBLEM_LEN).await?;
    refusal(response.status(), fields, &body)
}

fn only_nonce(mut fields: Vec<(String, String)>) -> Vec<(String, String)> {
    fields.retain(|(name, _)| name == field::NONCE);
    fields
}

/// Takes what the server hands out beside the reply.
async fn take_notes(
    client: &Rc<Client>,
    live: &Rc<Live>,
    fields: &Vec<(String, String)>,
) -> Result<(), Failure> {
    let mut is_new = false;
    if let Some(nonce) = fields.line(field::NONCE)? {
        is_new |= live.take_nonce(structured::string(nonce)?);
    }
    if let Some(ticket) = fields.line(field::TICKET)? {
        is_new |= live.take_ticket(ticket)?;
    }
    if let Some(ticket) = fields.line(field::CARRY_OVER)? {
        let ticket = Ticket::from_field(ticket)?;
        let client = client.clone();
        // Even if the application gives up: the old session is over.
        return to_the_end(async move { client.carry_over(ticket).await }).await;
    }
    if fields.line(field::ENDED)? == Some("?1") {
        client.drop_session(live.id).await;
    } else if is_new {
        client.save(live).await;
    }
    Ok(())
}

/// A reply that has been checked as far as it has come.
struct Reply {
    head: ReplyHead,
    content: Content,
}

enum Content {
    Sealed(Box<Unsealer>),
    Plain(Response),
}

impl Reply {
    /// Where a redirect leads.
    fn location(&self) -> Result<Option<String>, Failure> {
        if let Content::Plain(response) = &self.content
            && platform::member(response, "type").as_string().as_deref() == Some("opaqueredirect")
        {
            return Err(Code::ReplyInvalid
                .because("browsers hide where a redirect leads unless the request is sealed")
                .into());
        }
        if !matches!(self.head.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        Ok(self.head.fields.line("location")?.map(str::to_owned))
    }

    fn cancel(self) {
        match self.content {
            Content::Sealed(unsealer) => unsealer.cancel(),
            Content::Plain(response) => {
                if let Some(body) = response.body() {
                    platform::ignore(body.cancel());
                }
            }
        }
    }

    /// What the application gets.
    async fn into_response(self, has_no_body: bool) -> Result<Response, Failure> {
        let has_no_body = has_no_body || matches!(self.head.status, 204 | 205 | 304);
        let fields = Array::new();
        for (name, value) in self.head.fields {
            if !name.starts_with("bulla-") {
                fields.push(&Array::of2(&name.into(), &value.into()));
            }
        }
        let init = object([
            ("status", self.head.status.into()),
            ("headers", fields.into()),
        ]);
        let body = match self.content {
            Content::Sealed(mut unsealer) if has_no_body => {
                // Nothing may follow, and the final record must be there.
                while unsealer.next().await?.is_some() {}
                None
            }
            Content::Sealed(unsealer) => Some(unsealer.into_stream()?),
            Content::Plain(response) => {
                platform::set(&init, "statusText", &response.status_text().into());
                // Platforms give a body of no bytes where there can be none.
                response.body().filter(|_| !has_no_body)
            }
        };
        let body: Option<&ReadableStream> = body.as_ref();
        Response::new_with_opt_readable_stream_and_init(body, init.unchecked_ref::<ResponseInit>())
            .map_err(Failure::Platform)
    }
}

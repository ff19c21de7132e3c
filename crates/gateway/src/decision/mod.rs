//! What other proxies ask: whether a request may pass that they have themselves. Signed ones only, since whoever asks could not
//! unseal them.
//!
//! A [question](question) becomes the request that it is about, and that goes through the verifier as any other. Behind it there
//! is no application, but [`Granted`]: nothing else makes an answer that lets anything pass.

mod question;

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use bulla_server::{Bulla, Code, Error, Refused, Session};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower::{Layer as _, ServiceExt as _, service_fn};

use self::question::{Asked, Form};
use crate::access::{Rules, behind};
use crate::config::Content;
use crate::edge::{PREFIX, empty};
use crate::gateway::Gateway;
use crate::upstream::state_session;

/// In the answer to nginx: why not.
const REFUSAL: &str = "bulla-refusal";

const SEALED: Error =
    Code::SealBroken.because("whoever asks could not unseal it: sign requests here, and seal none");
const NOT_GRANTED: Error = Code::Internal.because("nobody has let it pass");

/// Stands in the extensions of a response that the verifier was passed for, with the session if there is one.
#[derive(Clone)]
struct Granted(Option<Session>);

impl Gateway {
    /// What proxies ask. Nobody else may reach it: whoever does could state any address, and ask about any request.
    pub fn decision(&self) -> Router {
        let gateway = self.clone();
        Router::new().fallback_service(service_fn(move |request| {
            let gateway = gateway.clone();
            async move { Ok::<_, Infallible>(gateway.decide(request).await) }
        }))
    }

    async fn decide(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        match path.strip_prefix(PREFIX) {
            Some("/session") => protocol(self.bulla(), request).await,
            Some("/refusal") => refusal(self.bulla(), request.headers()),
            Some(rest) if rest == "/decision" || rest.starts_with("/decision/") => {
                let current = self.current();
                let decision = current.config.decision.as_ref();
                let content = decision.map(|decision| decision.content);
                self.answer_question(request, content.unwrap_or_default(), &current.rules)
                    .await
            }
            _ => empty(StatusCode::NOT_FOUND),
        }
    }

    async fn answer_question(
        &self,
        request: Request<Body>,
        content: Content,
        rules: &Rules,
    ) -> Response<Body> {
        let form = Form::of(&request);
        let answer = match form.read(request, content) {
            Ok(Asked(request)) => self.ask(request, rules).await,
            Err(refusal) => self.bulla().refuse(refusal).map(Body::new),
        };
        match answer.extensions().get() {
            Some(Granted(session)) => granted(&answer, session.as_ref()),
            None => refused(self.bulla(), answer, form),
        }
    }

    /// Passes the verifier, and what the path asks for beyond, as if the application were behind.
    async fn ask(&self, request: Request<Body>, rules: &Rules) -> Response<Body> {
        let access = rules.at(request.uri().path());
        let grant =
            |request: Request<bulla_server::Body>| async move { grant(request.extensions().get()) };
        let checked = service_fn(move |request| async move {
            Ok::<_, Infallible>(behind(access, request, grant).await)
        });
        let Ok(response) = self.bulla().layer().layer(checked).oneshot(request).await;
        response.map(Body::new)
    }
}

fn grant(session: Option<&Session>) -> Response<Body> {
    if session.is_some_and(Session::is_sealed) {
        return Response::from(Refused(SEALED)).map(Body::new);
    }
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Granted(session.cloned()));
    response
}

/// 200, whose it is, and what the client is to get with the reply.
fn granted(answer: &Response<Body>, session: Option<&Session>) -> Response<Body> {
    let mut response = empty(StatusCode::OK);
    let fields = response.headers_mut();
    for (name, value) in answer.headers() {
        if name.as_str().starts_with("bulla-") {
            fields.insert(name, value.clone());
        }
    }
    if let Some(session) = session {
        state_session(fields, session);
    }
    response
}

/// What the client is to get; or for nginx, which passes nothing of it on, what to ask for [by](refusal).
fn refused(bulla: &Bulla, answer: Response<Body>, form: Form) -> Response<Body> {
    let error = answer.extensions().get::<Error>().copied();
    let error = error.unwrap_or(NOT_GRANTED);
    // What was sealed for the client must not look as if it were let pass.
    let answer = if answer.status().is_success() {
        bulla.refuse(error).map(Body::new)
    } else {
        answer
    };
    if form == Form::Whole {
        return answer;
    }
    let mut response = empty(StatusCode::FORBIDDEN);
    let why = match answer.headers().get(RETRY_AFTER) {
        Some(_) => format!("{};retry-after={}", error.code, error.retry_after.max(1)),
        None => error.code.to_string(),
    };
    if let Ok(why) = HeaderValue::try_from(why) {
        response.headers_mut().insert(REFUSAL, why);
    }
    response
}

/// A refusal as clients read it, for a proxy that has kept nothing but its code. It is not decided again: what is asked twice
/// would count twice.
fn refusal(bulla: &Bulla, fields: &HeaderMap) -> Response<Body> {
    let why = fields.get(REFUSAL).and_then(|why| why.to_str().ok());
    let error = why.and_then(|why| {
        let (code, after) = why.split_once(";retry-after=").unwrap_or((why, "0"));
        let code: Code = code.parse().ok()?;
        (code.status() != 0).then_some(code.because(code.sentence()).after(after.parse().ok()?))
    });
    match error {
        Some(error) => bulla.refuse(error).map(Body::new),
        None => empty(StatusCode::FORBIDDEN),
    }
}

/// Sessions are opened and ended here as everywhere.
async fn protocol(bulla: &Bulla, request: Request<Body>) -> Response<Body> {
    let nothing = service_fn(|_: Request<bulla_server::Body>| async {
        Ok::<_, Infallible>(empty(StatusCode::NOT_FOUND))
    });
    let Ok(response) = bulla.layer().layer(nothing).oneshot(request).await;
    response.map(Body::new)
}

//! What the targets share: how an input is cut into parts, and a verifier with a session.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::future::Future;
use std::sync::LazyLock;

use bulla_client::{Client, PreparedOpening, Session};
use bulla_protocol::error::Problem;
use bulla_server::{Body, Bulla, Cookies, Identity, MemoryStore};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer as _, ServiceExt as _, service_fn};

/// The first `N` lines of an input, and what follows them. No text of ours has a line feed in it, so
/// that an input can be read and written by hand.
pub fn lines<const N: usize>(input: &[u8]) -> Option<([&str; N], &[u8])> {
    let (mut lines, mut rest) = ([""; N], input);
    for line in &mut lines {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        *line = std::str::from_utf8(&rest[..end]).ok()?;
        rest = &rest[end + 1..];
    }
    Some((lines, rest))
}

/// The origin of [`BULLA`].
pub const ORIGIN: &str = "https://bank.example";

/// A verifier.
pub static BULLA: LazyLock<Bulla> = LazyLock::new(|| {
    Bulla::builder()
        .origin(ORIGIN)
        .identity(Identity::generate(&bulla_keys::SystemRandom).expect("random bytes"))
        .store(
            MemoryStore::new()
                .expect("random bytes")
                .with_capacity(usize::MAX)
                .with_quota(usize::MAX),
        )
        .cookies(Cookies::Named(vec!["sid".into()]))
        .build()
        .expect("a configuration")
});

/// A session there.
pub fn session() -> Session {
    let prepared = opening();
    let answer = ask(prepared.request.clone(), None);
    prepared.answer(&answer).expect("a session")
}

/// An opening that has not been answered.
pub fn opening() -> PreparedOpening {
    let client = Client::builder(ORIGIN).identity(BULLA.identity()).build();
    let opening = client.expect("a client").prepare_opening(None);
    opening.expect("an opening")
}

/// Sends a request to the verifier. Whatever it is, there is an answer; unless the handler's is given,
/// none is reached.
pub fn ask(request: Request<Bytes>, handler: Option<Response<Bytes>>) -> Response<Bytes> {
    let handler = service_fn(move |_: Request<Body>| {
        let answer = handler.clone().expect("no handler is reached");
        async { Ok::<_, Infallible>(answer.map(Full::new)) }
    });
    wait(async {
        let service = BULLA.layer().layer(handler);
        let Ok(response) = service.oneshot(request.map(Full::new)).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        Response::from_parts(parts, body)
    })
}

/// Checks that an answer in the open is a refusal: a status, and a code of the list that has it.
pub fn assert_refused(answer: &Response<Bytes>) {
    let status = answer.status().as_u16();
    assert!((400..500).contains(&status), "{status}");
    let code = Problem::parse(answer.body()).expect("a code");
    assert_eq!(code.status(), status);
}

/// Runs a future to its end.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(future)
}

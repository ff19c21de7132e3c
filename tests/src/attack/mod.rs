//! What attackers have: a place on the wire, copies of everything, and the patience to search it.

mod page;
mod proxy;
mod scan;
mod table;
mod witness;

use bulla_client::{Client, Code, Session};
use bulla_protocol::error::{Error, Problem};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::bank::Bank;

pub use page::{
    EXTRACT_KEYS, HOOK_WASM, PLANT_STORAGE, TAKE_MEMORY, TAKE_REACHABLE, TAKE_STORAGE, in_page,
    records,
};
pub use proxy::{Exchange, Held, Proxy};
pub use scan::find;
pub use table::{Attack, Name, Shown, Tested, Twin, With, all_shown, compare, put_into};
pub use witness::{Secrets, Witness};

/// What a test or one of its steps gives.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// A JSON request.
///
/// # Errors
///
/// If `path` is none.
pub fn post(path: &str, body: &Value) -> Outcome<Request<Bytes>> {
    Ok(Request::post(path)
        .header("content-type", "application/json")
        .body(body.to_string().into())?)
}

/// A transfer to Mallory.
///
/// # Errors
///
/// None.
pub fn transfer(amount: u64) -> Outcome<Request<Bytes>> {
    post(
        "/api/transfer",
        &json!({ "to": "mallory", "amount": amount }),
    )
}

/// A client of the bank at its own address, which expects its identity.
///
/// # Errors
///
/// If it cannot be made.
pub fn client(bank: &Bank) -> Outcome<Client> {
    let builder = Client::builder(bank.server.origin()).identity(bank.bulla.identity());
    Ok(builder.build()?)
}

/// A bank that is reached through a middle man.
///
/// # Errors
///
/// As [`Bank::open`].
pub async fn bank_behind(proxy: &Proxy) -> Outcome<Bank> {
    let origin = proxy.origin();
    let bank = Bank::open_with(|builder| builder.origin(origin)).await?;
    proxy.forward_to(bank.server.port());
    Ok(bank)
}

/// Logs Ann in.
///
/// # Errors
///
/// If she is refused.
pub async fn log_in(session: &Session) -> Outcome {
    let reply = session
        .fetch(post("/api/login", &json!({ "user": "ann" }))?)
        .await?;
    if reply.status() != StatusCode::OK || !session.is_authenticated() {
        return Err("nobody was logged in".into());
    }
    Ok(())
}

/// The code of a refusal that came in the open.
pub fn code(reply: &Response<Bytes>) -> Option<Code> {
    Problem::parse(reply.body())
}

/// The code that a client fails with.
pub fn error_code<T>(result: Result<T, bulla_client::Error>) -> Option<Code> {
    result.err().map(|error| error.code)
}

/// A refusal as anyone on the way can write one.
pub fn forged(refusal: Error, nonce: Option<HeaderValue>) -> Response<Bytes> {
    let mut reply = Response::new(Bytes::from(Problem::from(refusal).to_json()));
    *reply.status_mut() = StatusCode::from_u16(refusal.code.status()).unwrap_or_default();
    let headers = reply.headers_mut();
    headers.insert(
        "content-type",
        HeaderValue::from_static(Problem::MEDIA_TYPE),
    );
    if let Some(nonce) = nonce {
        headers.insert("bulla-nonce", nonce);
    }
    reply
}

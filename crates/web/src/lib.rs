//! The browser half of Bulla: opens a session, signs and seals what `fetch` sends, and opens what
//! comes back.
//!
//! Every key is WebCrypto's and `extractable: false`; this code holds handles, never key bytes, and
//! hands no handle out. Runs in pages, in workers and in Node 20.
//!
//! A request's way, and where it is:
//!
//! | step | module |
//! | --- | --- |
//! | find or open a session | `client`, on `storage`, `lock` and `session` |
//! | read what the application wants to send; sign, seal | `request`, on `crypto` |
//! | send; retry, reopen, follow | `fetch` |
//! | open the reply as it comes | `reply` |
//!
//! JavaScript sees the npm package's own face in `npm/`, not these exports.
#![forbid(unsafe_code)]

mod client;
mod crypto;
mod error;
mod fetch;
mod lock;
mod platform;
mod reply;
mod request;
mod session;
mod storage;

use std::rc::Rc;

use bulla_protocol::error::{Code, Error};
use bulla_protocol::limits::DEFAULT_PREFIX;
use bulla_protocol::target::{Origin, Target};
use serde::Serialize;
use wasm_bindgen::prelude::*;
use web_sys::Response;

use crate::client::{Client, Settings};
use crate::error::Failure;

/// A quarter of the code of the standard library's allocator.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static ALLOCATOR: rlsf::GlobalTlsf<Allocation> = rlsf::GlobalTlsf::new();

#[cfg(target_arch = "wasm32")]
struct Allocation;

#[cfg(target_arch = "wasm32")]
impl rlsf::GlobalTlsfOptions for Allocation {
    // A buffer that grows is copied, which costs less than the code that would look for room.
    const ENABLE_REALLOCATION: bool = false;
}

/// What a session tells about itself.
#[derive(Serialize)]
struct Info {
    id: Option<String>,
    authenticated: bool,
    storage: &'static str,
    identity: Option<String>,
    device: String,
}

/// A session with one server.
#[wasm_bindgen]
pub struct Session(Rc<Client>);

/// Opens a session, or takes the one that is in the store.
#[wasm_bindgen]
pub async fn open(options: JsValue) -> Result<Session, JsValue> {
    let settings = settings(&options)?;
    Ok(Session(Rc::new(Client::start(settings).await?)))
}

#[wasm_bindgen]
impl Session {
    /// What the platform's `fetch` does, through the session.
    pub async fn fetch(&self, input: JsValue, init: JsValue) -> Result<Response, JsValue> {
        Ok(fetch::run(self.0.clone(), input, init).await?)
    }

    /// The session's name, whether it has a subject, where it is kept, and both sides' thumbprints.
    pub fn info(&self) -> Result<JsValue, JsValue> {
        let live = self.0.current();
        let info = Info {
            id: live.as_ref().map(|live| live.id.to_string()),
            authenticated: live.is_some_and(|live| live.authenticated),
            storage: self.0.storage.name(),
            identity: self.0.identity().map(|identity| identity.to_string()),
            device: self.0.device.public().thumbprint().to_string(),
        };
        Ok(serde_wasm_bindgen::to_value(&info)?)
    }

    /// Ends the session, at the server and here.
    pub async fn end(&self) -> Result<(), JsValue> {
        Ok(fetch::end(self.0.clone()).await?)
    }

    /// Ends the session and deletes the device key.
    pub async fn forget(&self) -> Result<(), JsValue> {
        let ended = fetch::end(self.0.clone()).await;
        self.0.forget_device().await?;
        Ok(ended?)
    }
}

fn settings(options: &JsValue) -> Result<Settings, Failure> {
    let wrong = |detail| Failure::from(Code::RequestInvalid.because(detail));
    // Member by member: serde's reasons for refusing would be a tenth of the module.
    let server = optional(options, "server", JsValue::as_string)?.ok_or(WRONG_SHAPE)?;
    let identity = optional(options, "identity", JsValue::as_string)?;
    let prefix = optional(options, "prefix", JsValue::as_string)?;
    let prefix = prefix.unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
    let seal = optional(options, "seal", JsValue::as_bool)?;
    let origin = platform::url(&server, None)
        .filter(|url| url.pathname() == "/" && url.search().is_empty())
        .and_then(|url| Origin::parse(&url.origin()).ok())
        .ok_or_else(|| wrong("the server is not an origin"))?;
    let is_path = Target::parse(&prefix).is_ok_and(|target| target.query.is_none());
    if !is_path || prefix.ends_with('/') {
        return Err(wrong("the prefix is not a path without a slash at its end"));
    }
    let pin = identity
        .map(|text| text.parse())
        .transpose()
        .map_err(|_| wrong("the identity is not a thumbprint"))?;
    Ok(Settings {
        origin,
        prefix,
        pin,
        seal: seal.unwrap_or(true),
    })
}

const WRONG_SHAPE: Error =
    Code::RequestInvalid.because("open wants { server, identity?, prefix?, seal? }");

/// A member that may be missing, but not something else than it should be.
fn optional<T>(
    object: &JsValue,
    name: &str,
    read: impl FnOnce(&JsValue) -> Option<T>,
) -> Result<Option<T>, Error> {
    let member = platform::member(object, name);
    if member.is_undefined() || member.is_null() {
        return Ok(None);
    }
    read(&member).map(Some).ok_or(WRONG_SHAPE)
}

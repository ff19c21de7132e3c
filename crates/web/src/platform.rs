//! The globals that pages, workers and Node have in common, and how to wait for them.

use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::Poll;

use bulla_protocol::error::{Code, Error};
use js_sys::{Array, Function, Object, Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, Headers, ReadableStreamDefaultReader, Response, Url};

use crate::error::Failure;

#[wasm_bindgen]
extern "C" {
    /// The platform's `fetch`.
    #[wasm_bindgen(catch)]
    pub(crate) fn fetch(url: &str, init: &Object) -> Result<Promise, JsValue>;

    /// Milliseconds by a monotonic clock.
    #[wasm_bindgen(js_namespace = performance)]
    pub(crate) fn now() -> f64;
}

/// Seconds since 1970 by the client's clock, which nobody relies on.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to integer cast saturates"
)]
pub(crate) fn unix_seconds() -> u64 {
    (js_sys::Date::now() / 1000.0) as u64
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|_| Code::Unsupported.because("there is no source of random values"))?;
    Ok(bytes)
}

/// An object with these members.
pub(crate) fn object<const N: usize>(members: [(&str, JsValue); N]) -> Object {
    let object = Object::new();
    for (name, value) in members {
        set(&object, name, &value);
    }
    object
}

/// Sets a member of an object that we made ourselves.
pub(crate) fn set(object: &Object, name: &str, value: &JsValue) {
    // Only a proxy or a frozen object can refuse, and ours are neither.
    let _ = Reflect::set(object, &name.into(), value);
}

/// A member, or `undefined`.
pub(crate) fn member(object: &JsValue, name: &str) -> JsValue {
    Reflect::get(object, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

/// A member of the global object, or `undefined`.
pub(crate) fn global(name: &str) -> JsValue {
    member(&js_sys::global(), name)
}

/// Waits for a promise that a call has given, or not.
pub(crate) async fn settle(promise: Result<Promise, JsValue>) -> Result<JsValue, JsValue> {
    JsFuture::from(promise?).await
}

/// Lets a promise come to its end, whatever that is. One that nobody looks at would be reported as an
/// unhandled rejection.
pub(crate) fn ignore(promise: Promise) {
    wasm_bindgen_futures::spawn_local(async {
        let _ = JsFuture::from(promise).await;
    });
}

/// A promise, and what resolves it.
pub(crate) fn deferred() -> (Promise, Function) {
    let mut resolve = None;
    let promise = Promise::new(&mut |resolve_it, _| resolve = Some(resolve_it));
    // The executor runs before the constructor returns.
    (
        promise,
        resolve.unwrap_or_else(|| Function::new_no_args("")),
    )
}

/// Whichever is ready first; the other one is dropped.
pub(crate) async fn race<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> T {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|context| match first.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(output),
        Poll::Pending => second.as_mut().poll(context),
    })
    .await
}

/// Waits for something unless the application gives up first.
pub(crate) async fn unless_aborted<T>(
    signal: &AbortSignal,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    if signal.aborted() {
        return Err(Failure::Platform(reason(signal)));
    }
    let (aborted, on_abort) = deferred();
    let listening = signal.add_event_listener_with_callback("abort", &on_abort);
    let outcome = race(work, async {
        let _ = JsFuture::from(aborted).await;
        Err(Failure::Platform(reason(signal)))
    })
    .await;
    if listening.is_ok() {
        let _ = signal.remove_event_listener_with_callback("abort", &on_abort);
    }
    outcome
}

/// Why the application gave up.
pub(crate) fn reason(signal: &AbortSignal) -> JsValue {
    member(signal, "reason")
}

/// The fields of a message, as the platform hands them out: lower-case names, one line each.
pub(crate) fn fields(headers: &Headers) -> Vec<(String, String)> {
    Array::from(headers)
        .iter()
        .filter_map(|pair| {
            let pair = Array::from(&pair);
            Some((pair.get(0).as_string()?, pair.get(1).as_string()?))
        })
        .collect()
}

/// The next piece of a body; `None` at its end.
pub(crate) async fn read(reader: &ReadableStreamDefaultReader) -> Result<Option<Vec<u8>>, JsValue> {
    let read = JsFuture::from(reader.read()).await?;
    if member(&read, "done").is_truthy() {
        return Ok(None);
    }
    Ok(Some(
        js_sys::Uint8Array::new(&member(&read, "value")).to_vec(),
    ))
}

/// Takes the reader of a response's body; `None` if there is no body.
pub(crate) fn reader(response: &Response) -> Option<ReadableStreamDefaultReader> {
    Some(response.body()?.get_reader().unchecked_into())
}

/// A whole body, if it is no longer than this.
pub(crate) async fn read_at_most(response: &Response, limit: usize) -> Option<Vec<u8>> {
    let Some(reader) = reader(response) else {
        return Some(Vec::new());
    };
    let mut body = Vec::new();
    while let Some(chunk) = read(&reader).await.ok()? {
        if body.len() + chunk.len() > limit {
            ignore(reader.cancel());
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

/// An absolute URL.
pub(crate) fn url(text: &str, base: Option<&str>) -> Option<Url> {
    match base {
        Some(base) => Url::new_with_base(text, base).ok(),
        None => Url::new(text).ok(),
    }
}

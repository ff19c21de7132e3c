// The Wasm module of a service worker: that which belongs to its script, however old that has become.

/** SHA-384 of the module, as the build has made it. */
const HASH = WASM_SHA384;
/** What this registration keeps, at this origin. */
const CACHE = `bulla ${globalThis.registration?.scope} `;

/** The module's bytes: from the cache or else from where they lie, and none but those that this script was made with. */
export async function pinned(url) {
  const cache = await caches.open(CACHE + HASH).catch(() => undefined);
  const kept = await bytesOf(await cache?.match(url));
  if (kept) return kept;
  const response = await fetch(url);
  const bytes = await bytesOf(response.clone());
  if (!bytes) throw new Error(`${response.url} is not the module of this version`);
  // Where it cannot be kept it is fetched again.
  await cache?.put(url, response).catch(() => {});
  return bytes;
}

/** Lets go of the modules of versions before. */
export async function unpinOthers() {
  const names = await caches.keys().catch(() => []);
  const others = names.filter((name) => name.startsWith(CACHE) && name !== CACHE + HASH);
  await Promise.all(others.map((name) => caches.delete(name)));
}

/** The bytes of a reply, if they are the module's. Any script of the origin can write to its caches. */
async function bytesOf(response) {
  if (!response?.ok) return undefined;
  const bytes = await response.arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-384", bytes));
  return btoa(String.fromCharCode(...hash)) === HASH ? bytes : undefined;
}

// `bulla/sw`: a service worker that signs and seals the requests of pages which know nothing of it.

import { Client } from "./client.js";
import { BullaError } from "./error.js";
import { explained } from "./explained.js";
import { forward } from "./fetch.js";
import { Kept } from "./kept.js";
import { covers, scopeOf } from "./paths.js";
import { pinned } from "./pinned.js";
import { loader } from "./wasm.js";

/** @type {ServiceWorkerGlobalScope} */
const worker = /** @type {any} */ (globalThis);

/** Takes over the requests of this worker's pages. To be called once, while its script first runs. */
export function protect(options) {
  const { paths, except, login, wasm, ...rest } = options ?? {};
  const scope = scopeOf({ paths, except });
  const given = { server: worker.location.origin, ...rest };
  const kept = new Kept(worker);
  const init = loader(() => pinned(wasm ?? new URL("./bulla_web_bg.wasm", import.meta.url)));
  let starting;
  const started = () => {
    starting ??= init()
      .then(() => Client.start(given))
      .catch((error) => {
        starting = undefined;
        throw error;
      });
    return starting;
  };

  worker.addEventListener("install", (event) => {
    // An update waits until the pages of the worker before it are gone: their streams would end with it.
    if (!worker.registration.active) event.waitUntil(worker.skipWaiting());
    event.waitUntil(init());
  });
  worker.addEventListener("activate", (event) => event.waitUntil(worker.clients.claim()));
  worker.addEventListener("message", (event) => kept.hear(event));
  worker.addEventListener("fetch", (event) => {
    const { request } = event;
    kept.heard();
    if (takes(given.server, scope, request)) event.respondWith(answer(request));
  });

  async function answer(request) {
    try {
      return await forward(await started(), request, stated(request), kept.watch);
    } catch (error) {
      return refused(request, error, login);
    }
  }
}

/** Whether a request is the worker's to send. */
function takes(server, scope, { url, method, mode, referrer, destination, cache }) {
  const { origin, pathname } = new URL(url);
  if (origin !== server || !covers(scope, pathname) || cache === "only-if-cached") return false;
  if (mode !== "navigate" || isOurs(referrer)) return true;
  // Another site may have begun this one, and the worker's request would pass for one of ours: the browser sends it,
  // and tells the server what it is. Only for a page that is looked at there is a way to tell it inside the seal.
  return method === "GET" && destination === "document";
}

/** Whether a request was begun by a page of this origin. */
const isOurs = (referrer) => referrer.startsWith(`${worker.location.origin}/`);

/** What the browser would have said of a request (Fetch Metadata), which the worker's own says of the worker. */
function stated({ mode, destination, referrer }) {
  // A page of this origin has begun whatever is no navigation. Who has begun a navigation only its referrer tells.
  const isForeign = mode === "navigate" && !isOurs(referrer);
  const fields = [
    ["sec-fetch-site", isForeign ? "cross-site" : "same-origin"],
    ["sec-fetch-mode", mode],
    ["sec-fetch-dest", destination || "empty"],
  ];
  if (isForeign) fields.push(["origin", "null"]);
  if (isOurs(referrer)) fields.push(["referer", referrer]);
  return fields.flat();
}

/** What the page gets where there is no reply. */
function refused({ mode, method, signal }, error, login) {
  // What the page would see without the worker.
  if (signal.aborted || !(error instanceof BullaError)) return Response.error();
  const { code, status, message } = error;
  if (mode === "navigate") {
    if (code === "login_required" && login && method === "GET") return Response.redirect(login);
    return code === "network" ? Response.error() : explained(error);
  }
  console.warn(`bulla: ${code}: ${message}`);
  if (!status) return Response.error();
  const problem = JSON.stringify({ status, code, detail: message });
  return new Response(problem, { status, headers: { "content-type": "application/problem+json" } });
}

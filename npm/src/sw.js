// `bulla/sw`: a service worker that signs and seals the requests of pages which know nothing of it.

import { Client, OPTIONS as CLIENT, parsed, settings } from "./client.js";
import { BullaError, checked, wrong } from "./error.js";
import { explained } from "./explained.js";
import { forward } from "./fetch.js";
import { Kept } from "./kept.js";
import { SCOPE, covers, scopeOf } from "./paths.js";
import { pinned, unpinOthers } from "./pinned.js";
import { load } from "./wasm.js";

export { BullaError };

/** @type {ServiceWorkerGlobalScope} */
const worker = /** @type {any} */ (globalThis);

const OPTIONS = { ...CLIENT, ...SCOPE, login: "string", wasm: "string, object" };

/**
 * @typedef {object} Means
 * @property {(work: Promise<unknown>) => void} keep keeps the worker alive until this is done
 * @property {(path: string, told: object | Promise<object>) => Promise<number | undefined>} post has the server told of
 *   something. Resolves with the status of its answer, if there is one
 * @property {(request: Request) => Promise<Response>} ask sends a request through the session, wherever it goes
 * @property {string | undefined} client the id of the page's client; empty or none for navigations
 *
 * @typedef {object} Code
 * @property {(request: Request, isSealed: boolean) => boolean} takes whether a request is for something that is looked at
 *   on its way; it is asked once, and told whether the request goes through the session
 * @property {(request: Request, means: Means & { send: (request: Request) => Promise<Response> }) => Promise<Response>}
 *   answer what the page gets: what `send` brings, as it goes without this, or something else
 * @property {(request: Request, means: Means, isSealed: boolean) => void} [sees] is shown each request that it does not take,
 *   wherever it goes, and whether that is through the session
 * @property {(request: Request, response: Response, outer: Response, means: Means) => void} [opens] is shown each reply that
 *   came sealed, and the one that it came in
 * @property {(data: unknown, means: Means) => void} [hears] is told what pages say to the worker
 */

/**
 * Takes over the requests of this worker's pages. To be called once, while its script first runs.
 * @param {any} options
 * @param {Code} [code] who looks at scripts and the like before pages get them
 */
export function protect(options, code) {
  const { paths, except, login, wasm, seal, ...others } = checked("protect", options, OPTIONS);
  // Browsers would put other fields in the place of those that say who has begun a request.
  if (seal === false) throw wrong("a service worker always seals");
  const scope = scopeOf({ paths, except });
  const given = { ...others, server: others.server ?? worker.location.origin };
  // What is no origin keeps the worker from coming to life.
  const server = parsed(given.server)?.origin;
  const kept = new Kept(worker);
  const init = () => load(undefined, () => pinned(wasm ?? new URL("./bulla_web_bg.wasm", import.meta.url)));
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
    // Nor must one whose pin is misspelt.
    event.waitUntil(init().then(() => settings(given)));
  });
  worker.addEventListener("activate", (event) => {
    event.waitUntil(worker.clients.claim());
    event.waitUntil(unpinOthers());
  });
  worker.addEventListener("message", (event) => {
    kept.hear(event);
    code?.hears?.(event.data, meansOf(event));
  });
  worker.addEventListener("fetch", (event) => {
    const { request } = event;
    kept.heard();
    const isTaken = takes(server, scope, request);
    if (code?.takes(request, isTaken)) {
      const send = isTaken ? (request) => answer(request, event) : (request) => fetch(request);
      event.respondWith(code.answer(request, { ...meansOf(event), send }));
      return;
    }
    code?.sees?.(request, meansOf(event), isTaken);
    if (isTaken) event.respondWith(answer(request, event));
  });

  /** @returns {Means} */
  function meansOf(event) {
    const keep = (work) => {
      try {
        event.waitUntil(work);
      } catch {
        // The page has what it asked for already.
      }
    };
    const client = event.clientId ?? event.source?.id;
    const post = (path, told) => {
      const answered = posted(path, told);
      keep(answered);
      return answered;
    };
    const ask = async (request) => forward(await started(), request, [], kept.watch);
    return { keep, client, post, ask };
  }

  /** Tells the server something, through the session. It may be that somebody on the way does not want it told. */
  async function posted(path, told) {
    const headers = { "content-type": "application/json" };
    try {
      const request = new Request(path, { method: "POST", headers, body: JSON.stringify(await told) });
      const { body, status, ok } = await forward(await started(), request, [], kept.watch);
      await body?.cancel();
      return ok ? status : undefined;
    } catch (error) {
      console.warn(`bulla: the server was not told: ${error.message}`);
      return undefined;
    }
  }

  async function answer(request, event) {
    const look = (response, outer) => code?.opens?.(request, response, outer, meansOf(event));
    try {
      const isOurs = request.mode !== "navigate" || (await isFromHere(request));
      if (!isOurs && !isLooking(request)) throw wrong("it came by way of another site");
      return await forward(await started(), request, stated(request, isOurs), kept.watch, look);
    } catch (error) {
      return refused(request, error, login);
    }
  }
}

/** Whether a request is the worker's to send. */
function takes(server, scope, { url, method, mode, referrer, destination, cache }) {
  const { origin, pathname } = new URL(url);
  if (origin !== server || !covers(scope, pathname) || cache === "only-if-cached") return false;
  // Another site may have begun this one, and the worker's request would pass for one of ours: the browser sends it,
  // and tells the server what it is. Only for a page that is looked at there is a way to tell it inside the seal.
  return mode !== "navigate" || namesUs(referrer) || isLooking({ method, destination });
}

/** Whether it is a page that is asked for, in a tab. */
const isLooking = ({ method, destination }) => method === "GET" && destination === "document";

const namesUs = (url) => url.startsWith(`${worker.location.origin}/`);

/** Policies (W3C Referrer Policy) by which a whole referrer comes along from another site, too. */
const LOOSE = ["unsafe-url", "no-referrer-when-downgrade"];

/**
 * Whether a page of this origin has begun a navigation. Browsers leave no more than the origin of a referrer that has
 * been at another site, which may have sent it on to here: then it has to be the first page's own. Where a policy
 * leaves more, Firefox tells the policy, and Chromium that the request has been elsewhere; WebKit tells neither.
 */
async function isFromHere({ referrer, referrerPolicy, headers }) {
  if (LOOSE.includes(referrerPolicy) || headers.get("origin") === "null") return false;
  if (referrer !== `${worker.location.origin}/`) return namesUs(referrer);
  const pages = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
  return pages.some(({ url }) => new URL(url).pathname === "/");
}

/** What the browser would have said of a request (Fetch Metadata), which the worker's own says of the worker. */
function stated({ url, mode, destination, referrer }, isOurs) {
  const fields = [
    ["sec-fetch-site", isOurs && namesUs(url) ? "same-origin" : "cross-site"],
    ["sec-fetch-mode", mode],
    ["sec-fetch-dest", destination || "empty"],
  ];
  if (!isOurs) fields.push(["origin", "null"]);
  if (isOurs && namesUs(referrer)) fields.push(["referer", referrer]);
  return fields;
}

/** What the page gets where there is no reply. */
function refused({ mode, method, signal }, error, login) {
  // What the page would see without the worker.
  if (signal.aborted || !(error instanceof BullaError)) return Response.error();
  const { code, status, message, sealed } = error;
  console.warn(`bulla: ${code}: ${message}`);
  if (mode === "navigate") {
    if (code === "login_required" && sealed && login && method === "GET") return Response.redirect(login);
    return code === "network" ? Response.error() : explained(error);
  }
  // Whoever ends TLS must not speak for the application.
  if (!sealed) return Response.error();
  const problem = JSON.stringify({ status, code, detail: message });
  return new Response(problem, { status, headers: { "content-type": "application/problem+json" } });
}

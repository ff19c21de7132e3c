// `bulla/register`: what a page does for its service worker.

import { ENDS_SILENTLY } from "./engines.js";
import { BullaError, wrong } from "./error.js";
import { AWAKE, CLAIM, COMPLETE, STREAM } from "./kept.js";
import { Described } from "./platform.js";
import { wrapFetch } from "./wrapped.js";

export { BullaError };

/** How long the worker may take to say something, in milliseconds. */
const PATIENCE = 5000;
/** How often it is looked whether the worker is there, in milliseconds. */
const SOON = 200;

let isPrepared = false;

/**
 * Registers the worker, and resolves when it stands between this page and the network. Until then the page's `fetch` of
 * its own origin waits.
 */
export async function register(script, options = undefined) {
  const workers = globalThis.navigator?.serviceWorker;
  if (!workers) throw new BullaError("unsupported", "there are no service workers: is the page a secure context, https or http://localhost?");
  if (!isPrepared) prepare(workers);
  isPrepared = true;
  const controlled = taken(workers, script, options);
  if (!workers.controller) holdFetch(controlled);
  return controlled;
}

/** What the page does once, however often it registers. */
function prepare(workers) {
  // Keeps the worker alive while it streams, which needs an event now and then.
  workers.addEventListener("message", ({ data, source }) => {
    if (data === AWAKE) source.postMessage(AWAKE);
  });
  workers.startMessages();
  if (ENDS_SILENTLY) wrapFetch((fetch) => checking(workers, fetch));
}

async function taken(workers, script, options) {
  const registration = await workers.register(script, { type: "module", ...options }).catch((cause) => {
    throw new BullaError("unsupported", "the service worker was refused: is its script served by this origin, at or above the scope or with Service-Worker-Allowed; does worker-src allow it; or does it throw, as its console would say?", { cause });
  });
  const { installing, scope } = registration;
  // It would never take this page.
  if (!location.href.startsWith(scope)) throw wrong(`this page is not below ${scope}: pass another scope`);
  let timer;
  let look;
  await new Promise((resolve, reject) => {
    look = () => {
      if (workers.controller) resolve();
      else if (registration.active) registration.active.postMessage(CLAIM);
      else if (installing?.state === "redundant") {
        reject(new BullaError("unsupported", "the service worker did not come to life: its console says why"));
      }
    };
    // A page that was loaded past its worker is taken back by it, which can be asked when it has come to life.
    timer = setInterval(look, SOON);
    workers.addEventListener("controllerchange", look);
    look();
  }).finally(() => {
    clearInterval(timer);
    workers.removeEventListener("controllerchange", look);
  });
  return registration;
}

/** Lets requests of this origin wait until the worker sees them; if there will be none they go out as they are. */
function holdFetch(controlled) {
  let isOver = false;
  const putBack = wrapFetch((fetch) => async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input, document.baseURI);
    if (!isOver && url.origin === location.origin) await controlled.catch(() => {});
    return fetch(input, init);
  });
  controlled.catch(() => {}).finally(() => {
    isOver = true;
    putBack();
  });
}

/** `fetch`, with streams that end in an error unless the worker says that nothing is missing. */
const checking = (workers, fetch) => async (input, init) => {
  const response = await fetch(input, init);
  const name = new URL(response.url).origin === location.origin && response.headers.get(STREAM);
  if (!name || !response.body) return response;
  const flush = async () => {
    if (!(await ask(workers.controller, [COMPLETE, name]))) throw new TypeError("the reply is cut off");
  };
  const body = response.body.pipeThrough(new TransformStream({ flush }));
  const { status, statusText, url, redirected } = response;
  const headers = new Headers(response.headers);
  // Another copy of this script would ask once more.
  headers.delete(STREAM);
  return new Described(new Response(body, { status, statusText, headers }), url, redirected);
};

/** The worker's answer, or nothing if there is none in time. */
function ask(worker, question) {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => resolve(data);
    setTimeout(resolve, PATIENCE);
    if (worker) worker.postMessage(question, [port2]);
    else resolve(undefined);
  });
}

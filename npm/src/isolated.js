// The script of the worker that an isolated session lives in. What the page has of it are the messages that are answered
// here.

import { Client } from "./client.js";
import { dpop } from "./dpop.js";
import { BullaError, wrong } from "./error.js";
import { end, run } from "./fetch.js";
import { covers, scopeOf } from "./paths.js";
import { load } from "./wasm.js";

let isBegun = false;
/** @type {Client} */
let client;
let listening;
/** How often the page was told how the session stands: ports do not keep the order among each other. */
let told = 0;

/** What the page may ask for. Each gives its answer, and what of that is handed over instead of copied. */
const calls = {
  __proto__: null,

  /** Once only: script in the page must not widen what the page itself has set. */
  async open(_port, { paths, except, ...options }, wasm) {
    if (isBegun) throw wrong("this worker has a session already");
    isBegun = true;
    const scope = scopeOf({ paths, except });
    await load(wasm, () => new URL("./bulla_web_bg.wasm", import.meta.url));
    client = await Client.start(options, (url) => {
      const { pathname } = new URL(url);
      if (!covers(scope, pathname)) throw wrong(`this session does not reach ${pathname}`);
    });
    client.on("change", (state) => tell("change", state));
    return [];
  },

  async fetch(port, url, { isWatched, ...init }) {
    const control = new AbortController();
    const stop = () => {
      control.abort();
      port.close();
    };
    port.onmessage = stop;
    const onUploadProgress = isWatched && ((progress) => port.postMessage({ progress }));
    const reply = await run(client, url, { ...init, signal: control.signal, onUploadProgress });
    const { status, statusText, headers, redirected, body } = reply;
    if (body) {
      const reader = body.getReader();
      // None comes before it is wanted.
      port.onmessage = ({ data: isWanted }) => (isWanted ? answer(port, () => piece(reader)) : stop());
    }
    return [{ status, statusText, headers: [...headers], redirected, url: reply.url, isEmpty: !body }];
  },

  async dpop(_port, request) {
    return [await dpop(client, request)];
  },

  async listen() {
    listening ??= client.on("event", (event) => tell("event", event));
    return [];
  },

  async end() {
    return [await end(client)];
  },

  async forget() {
    return [await end(client, true)];
  },
};

async function piece(reader) {
  const { value } = await reader.read();
  if (!value) return [];
  // Not with what else may lie in the same memory.
  const own = value.length === value.buffer.byteLength ? value : value.slice();
  return [own, [own.buffer]];
}

/** Does what the page asks for, and says what has come of it. */
async function answer(port, work) {
  try {
    const [value, transfer] = await work();
    port.postMessage({ value, about: about() }, transfer);
  } catch (thrown) {
    /** @type {any} */
    const error = thrown;
    const { message, cause } = error;
    // An error that is not the platform's would lose its members on the way.
    const outcome = error instanceof BullaError ? { refusal: { ...error, message, cause } } : { error };
    port.postMessage({ ...outcome, about: about() });
  }
}

/** Tells the page what it has not asked for. */
function tell(type, what) {
  globalThis.postMessage({ type, what, about: about() });
}

/** What the page's handle says of the session. */
function about() {
  if (!client) return undefined;
  told += 1;
  return { told, ...client.about, origin: client.origin, identity: client.pin };
}

globalThis.onmessage = ({ data, ports }) => {
  answer(ports[0], () => {
    const [name, ...given] = data;
    return calls[name](ports[0], ...given);
  });
};

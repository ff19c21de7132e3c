// `bulla/worker`: what a page holds of a session that lives in a worker of its own. The other half is `isolated.js`.

import { BullaError } from "./error.js";
import { eventSource } from "./events.js";
import { Described, ignore, unlessAborted } from "./platform.js";
import { base, requested, resolved } from "./request.js";

export { BullaError };

export async function open(options) {
  const { worker, ...given } = { __proto__: null, ...options };
  // Bundlers give files other names, and only this script is told of it.
  const wasm = worker ? undefined : new URL("./bulla_web_bg.wasm", import.meta.url).href;
  const link = new Link(worker);
  try {
    await plain(link.call("open", given, wasm));
    return new Session(ours, link);
  } catch (error) {
    link.close(error);
    throw error;
  }
}

/** Says so if what the application has handed over cannot be handed on. */
async function plain(call) {
  try {
    return await call;
  } catch (cause) {
    const isNotPlain = cause instanceof DOMException && cause.name === "DataCloneError";
    throw isNotPlain ? new BullaError("request_invalid", "the worker takes plain values", { cause }) : cause;
  }
}

const ours = Symbol();

export class Session {
  #link;
  #ending;

  constructor(token, link) {
    if (token !== ours) throw new TypeError("Illegal constructor");
    this.#link = link;
    // An own property, so that it can be handed on by itself, like the platform's.
    Object.defineProperty(this, "fetch", {
      /**
       * @param {RequestInfo | URL} input
       * @param {any} init
       */
      async value(input, init = undefined) {
        if (arguments.length === 0) throw new TypeError("fetch wants a request");
        return fetchBy(link, requested(link.about, input, init), init ?? {});
      },
    });
  }

  events(url, init = undefined) {
    /** @type {any} */
    const { fetch } = this;
    return eventSource(fetch, base(this.#link.about), url, init);
  }

  async dpop(wanted) {
    const { url } = wanted ?? {};
    const given = { ...wanted, url: url === undefined ? url : resolved(this.#link.about, url) };
    return plain(this.#link.call("dpop", given));
  }

  get origin() {
    return this.#link.about.origin;
  }

  get id() {
    return this.#link.about.id;
  }

  get authenticated() {
    return this.#link.about.authenticated;
  }

  get storage() {
    return this.#link.about.storage;
  }

  get identity() {
    return this.#link.about.identity;
  }

  get device() {
    return this.#link.about.device;
  }

  on(type, listener) {
    return this.#link.on(type, listener);
  }

  end() {
    this.#ending ??= this.#finish("end");
    return this.#ending;
  }

  forget() {
    this.#ending = this.#finish("forget");
    return this.#ending;
  }

  async #finish(how) {
    try {
      await this.#link.call(how);
    } finally {
      this.#link.close(closed("the session is closed"));
    }
  }
}

/** The way to the worker. */
class Link {
  /** What the worker has said of the session. */
  about = { told: 0, origin: "", id: null, authenticated: false, storage: "", identity: "", device: "" };
  #worker;
  /** Why there is no way any more. */
  #lost;
  /** Who waits at a port for an answer, to be told if there will be none. */
  #waiting = new Map();

  constructor(worker) {
    this.#worker = started(worker);
    this.#worker.onmessage = ({ data }) => this.#take(data.about);
    const gone = () => this.close(this.about.told ? closed("the session's worker has gone") : notStarted());
    this.#worker.onerror = gone;
    // Nothing else tells of it.
    this.#worker.terminate = gone;
  }

  /** Asks for something that has one answer. */
  async call(...request) {
    const { port1, port2 } = new MessageChannel();
    try {
      return await this.ask(port1, () => this.send(request, [port2]));
    } finally {
      this.drop(port1);
    }
  }

  send(request, transfer) {
    this.#worker.postMessage(request, transfer);
  }

  /** Waits for what comes at a port when something is sent. Meanwhile a listener may hear how far it has come. */
  ask(port, send, hear = (_progress) => {}) {
    return new Promise((resolve, reject) => {
      if (this.#lost) throw this.#lost;
      port.onmessage = ({ data: { value, error, refusal, progress, about } }) => {
        if (progress) return hear(progress);
        // Else the port would hold on to a reply that nobody reads.
        port.onmessage = null;
        this.#waiting.delete(port);
        this.#take(about);
        if (refusal) reject(revived(refusal));
        else if (error) reject(error);
        else resolve(value);
      };
      send();
      this.#waiting.set(port, reject);
    });
  }

  /** Wants nothing more to come at a port. */
  drop(port, reason = undefined) {
    this.#waiting.get(port)?.(reason);
    this.#waiting.delete(port);
    port.postMessage(false);
    port.close();
  }

  /** Has a listener hear what the worker tells unasked. Returns what takes it off again. */
  on(type, listener) {
    if (!["event", "change"].includes(type) || typeof listener !== "function") {
      throw new TypeError('on wants "event" or "change", and a function');
    }
    const hear = ({ data }) => data.type === type && listener(data.what);
    this.#worker.addEventListener("message", hear);
    if (type === "event") ignore(this.call("listen"));
    return () => this.#worker.removeEventListener("message", hear);
  }

  close(reason) {
    if (this.#lost) return;
    this.#lost = reason;
    Worker.prototype.terminate.call(this.#worker);
    const { id, device, storage } = this.about;
    const what = { id: null, authenticated: false, device, storage };
    this.about = { ...this.about, ...what };
    for (const reject of this.#waiting.values()) reject(reason);
    // What the worker has said last may have been lost with it.
    if (id) this.#worker.dispatchEvent(new MessageEvent("message", { data: { type: "change", what } }));
  }

  /** The newest of what the worker has said. */
  #take(about) {
    if (!this.#lost && about?.told > this.about.told) this.about = about;
  }
}

function started(script) {
  try {
    if (script instanceof Worker) return script;
    return new Worker(script ?? trusted(new URL("./isolated.js", import.meta.url)), { type: "module" });
  } catch (cause) {
    throw notStarted(cause);
  }
}

let policy;

/** Where a page takes scripts by Trusted Types only: by a policy that gives this package's own script and nothing else. */
function trusted(url) {
  try {
    policy ??= globalThis.trustedTypes?.createPolicy("bulla", { createScriptURL: () => url.href });
  } catch {
    // Where it is not listed it may not be needed either.
  }
  return policy?.createScriptURL("") ?? url;
}

const closed = (why) => new BullaError("session_closed", why);

/** @param {unknown} [cause] */
function notStarted(cause) {
  const why = "is isolated.js beside this script, at the page's own origin, and does the page's policy allow it: " +
    "worker-src 'self', trusted-types bulla?";
  return new BullaError("unsupported", `the worker cannot be started: ${why}`, { cause });
}

const revived = ({ code, message, cause, ...more }) => Object.assign(new BullaError(code, message, { cause }), more);

async function fetchBy(link, request, { onUploadProgress, onDownloadProgress }) {
  const { method, url, redirect, credentials, keepalive, referrerPolicy, integrity, signal } = request;
  const init = { method, headers: [...request.headers], redirect, credentials, keepalive, referrerPolicy, integrity };
  const isBare = method === "GET" || method === "HEAD";
  const body = isBare ? undefined : await unlessAborted(signal, () => request.arrayBuffer());
  const exchange = new Exchange(link, signal);
  const call = ["fetch", url, { ...init, body, isWatched: !!onUploadProgress }];
  const reply = await exchange.head(call, body, onUploadProgress);
  if (reply.isEmpty) exchange.end();
  let response = new Response(reply.isEmpty ? null : streamOf(exchange), reply);
  if (onDownloadProgress) response = (await import("./later/progress.js")).watched(response, onDownloadProgress);
  return new Described(response, reply.url, reply.redirected);
}

/** A request with its reply, until nothing more of that comes or is wanted. */
class Exchange {
  #link;
  #signal;
  #port;
  #stop = () => this.#link.drop(this.#port, this.#signal.reason);

  constructor(link, signal) {
    this.#link = link;
    this.#signal = signal;
    signal.addEventListener("abort", this.#stop);
  }

  head(request, body, hear) {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    return this.#ask(() => this.#link.send(request, body ? [port2, body] : [port2]), hear);
  }

  next() {
    return this.#ask(() => this.#port.postMessage(true));
  }

  end() {
    this.#signal.removeEventListener("abort", this.#stop);
    this.#link.drop(this.#port);
  }

  async #ask(send, hear = undefined) {
    try {
      this.#signal.throwIfAborted();
      return await this.#link.ask(this.#port, send, hear);
    } catch (error) {
      this.end();
      throw error;
    }
  }
}

/** Replies that nobody can read any more are stopped, as the platform stops its own. */
const dropped = new FinalizationRegistry((exchange) => exchange.end());

function streamOf(exchange) {
  const source = {
    async pull(controller) {
      const piece = await exchange.next();
      if (piece) return controller.enqueue(piece);
      controller.close();
      exchange.end();
    },
    cancel: () => exchange.end(),
  };
  // Not the stream itself: engines let go of that object while what is behind it is still read.
  dropped.register(source, exchange);
  return new ReadableStream(source, { highWaterMark: 0 });
}

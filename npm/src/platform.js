// What pages, workers and Node have in common, and how to wait for it.

/** Seconds since 1970 by the client's clock, which nobody relies on. */
export const seconds = () => Date.now() / 1000;

/** How much goes into the module at once, whatever size the pieces of a network or of an application have: a record. */
export const SLICE = 64 * 1024;

const queues = new Map();

/** Does something while nobody else holds the lock: across tabs with `navigator.locks`, else within this realm. */
export async function locked(name, work) {
  const locks = globalThis.navigator?.locks;
  if (locks) {
    let isGranted = false;
    try {
      return await locks.request(name, () => {
        isGranted = true;
        return work();
      });
    } catch (error) {
      // Where locks are refused, as in an opaque origin, go without.
      if (isGranted) throw error;
    }
  }
  const done = Promise.resolve(queues.get(name)).then(work);
  queues.set(name, done.catch(() => {}));
  return done;
}

/**
 * Begins something and waits for it, unless the application gives up first.
 * @template T
 * @param {AbortSignal} signal
 * @param {() => Promise<T>} work
 */
export async function unlessAborted(signal, work) {
  signal.throwIfAborted();
  let onAbort = () => {};
  /** @type {Promise<never>} */
  const aborted = new Promise((_, reject) => {
    onAbort = () => reject(signal.reason);
  });
  signal.addEventListener("abort", onAbort);
  try {
    return await Promise.race([work(), aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/**
 * Fields as the module wants them: lines, which are names and values in turn.
 * @param {Iterable<[string, string]>} fields
 */
export function lines(fields) {
  return [...fields].flat().join("\n");
}

/**
 * The way back: fields as the platform wants them.
 * @param {string} lines
 */
export function pairs(lines) {
  const parts = lines.split("\n");
  /** @type {[string, string][]} */
  const pairs = [];
  for (let at = 1; at < parts.length; at += 2) pairs.push([parts[at - 1], parts[at]]);
  return pairs;
}

/** A whole body, if it is no longer than this; else nothing. One that is cut off throws. */
export async function readAtMost(response, limit) {
  if (!response.body) return new Uint8Array();
  const reader = response.body.getReader();
  const chunks = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return joined(chunks);
    length += value.length;
    if (length > limit) break;
    chunks.push(value);
  }
  ignore(reader.cancel());
  return undefined;
}

/** Pieces as one. */
export function joined(chunks) {
  if (chunks.length === 1) return chunks[0];
  const whole = new Uint8Array(chunks.reduce((length, chunk) => length + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

/** Stops a reply whose body nobody will read: it would keep its connection until it is collected. */
export function discard(response) {
  if (response.body) ignore(response.body.cancel());
}

/** Lets a promise come to its end, whatever that is: one that nobody looks at would be reported. */
export function ignore(promise) {
  promise.catch(() => {});
}

/** What is made of this is what was given, and a class's fields are defined on it. */
const Itself = /** @type {new (given: any) => any} */ (
  /** @type {unknown} */ (
    function (given) {
      return given;
    }
  )
);

/** A constructed response that tells what a fetched one would: it has no URL, and `clone` loses what was defined. */
export class Described extends Itself {
  url;
  redirected;
  type = "basic";
  clone;

  constructor(response, url, redirected) {
    super(response);
    this.url = url;
    this.redirected = redirected;
    this.clone = () => new Described(Response.prototype.clone.call(response), url, redirected);
  }
}

/** An error with a stable code. */
export class BullaError extends Error {
  // Whatever the script that is shipped calls this class, stack traces and tools that collect errors go by this.
  static name = "BullaError";

  /**
   * @param {import("../index.js").BullaErrorCode} code
   * @param {string} message
   * @param {ErrorOptions} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.code = code;
  }

  /** Also one of another entry of the package, which has this class once more. */
  static [Symbol.hasInstance](value) {
    return this === BullaError ? value?.name === this.name : super[Symbol.hasInstance](value);
  }
}
// On the prototype, like the platform's own errors.
BullaError.prototype.name = BullaError.name;

/** What the application asks for is wrong. */
export const wrong = (message) => new BullaError("request_invalid", message);

/**
 * An application's options, without what all objects may have got from somebody else. Refuses those of other types, and
 * those that nobody knows: a pin whose name is misspelt would be none.
 */
export function checked(by, options, types) {
  const own = { __proto__: null, ...options };
  for (const name in own) {
    const isRight = own[name] === undefined || types[name]?.includes?.(typeof own[name]);
    if (!isRight || !Object.hasOwn(types, name)) throw wrong(`${by} takes no "${name}" of this type`);
  }
  return own;
}

/**
 * The code of whatever was thrown; empty if it has none.
 * @param {unknown} error
 */
export function codeOf(error) {
  return error instanceof BullaError ? error.code : "";
}

/**
 * A refusal, with what came beside it.
 * @param {any} refusal
 * @param {number} status
 * @param {[string, string][]} fields
 */
export function answered(refusal, status, fields) {
  const after = fields.find(([name]) => name === "retry-after")?.[1] ?? "";
  if (/^\d+$/.test(after)) refusal.retryAfter = Number(after);
  return Object.assign(refusal, { status });
}

/**
 * The error for what is no answer of the server's. As a rule it is a proxy's page, or one to log in at.
 * @param {import("../index.js").BullaErrorCode} code
 * @param {string} message
 * @param {Response} response
 */
export function foreign(code, message, { type, status, headers }) {
  const kind = headers.get("content-type")?.split(";")[0] ?? "without a type";
  const what = type === "opaqueredirect" ? "a redirect" : `${status}, ${kind}`;
  return new BullaError(code, `${message}: what came is ${what}`);
}

/**
 * The error for what the platform's `fetch` throws.
 * @param {unknown} cause
 * @param {string} [url]
 */
export function unreachable(cause, url) {
  const here = globalThis.location?.origin;
  // The platform hides which of these it was.
  const isForeign = url && here && !url.startsWith(`${here}/`);
  const why = isForeign ? ", or its allow_origin does not name this page's origin (CORS), or connect-src the server" : "";
  return new BullaError("network", `the server could not be reached${why}`, { cause });
}

/** What becomes of a connection that breaks: the application may have given up. */
export const lost = (signal, url = undefined) => (cause) => {
  signal.throwIfAborted();
  throw unreachable(cause, url);
};

/** An error with a stable code. */
export class BullaError extends Error {
  /**
   * @param {import("../index.js").BullaErrorCode} code
   * @param {string} message
   * @param {ErrorOptions} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.code = code;
  }
}
// On the prototype, like the platform's own errors.
Object.defineProperty(BullaError.prototype, "name", { value: "BullaError", configurable: true, writable: true });

/**
 * The code of whatever was thrown; empty if it has none.
 * @param {unknown} error
 */
export function codeOf(error) {
  return error instanceof BullaError ? error.code : "";
}

/**
 * The error for what the platform's `fetch` throws.
 * @param {unknown} cause
 */
export function unreachable(cause) {
  return new BullaError("network", "the server could not be reached", { cause });
}

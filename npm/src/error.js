/** An error with a stable code. */
export class BullaError extends Error {
  /**
   * @param {import("../index.js").BullaErrorCode} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
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

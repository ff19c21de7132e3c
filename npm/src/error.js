/** An error with a stable code. */
export class BullaError extends Error {
  /**
   * @param {import("./index.js").BullaErrorCode} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}
// On the prototype, like the platform's own errors.
Object.defineProperty(BullaError.prototype, "name", { value: "BullaError", configurable: true, writable: true });

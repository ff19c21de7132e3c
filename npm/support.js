// What both the face of the package and the Wasm module lean on.

/** An error with a stable code. */
export class BullaError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}
// On the prototype, like the platform's own errors.
Object.defineProperty(BullaError.prototype, "name", { value: "BullaError", configurable: true, writable: true });

// Constructed responses have no URL, and `clone` loses what was defined on the original.
export function described(response, url, redirected) {
  const define = (name, value) => Object.defineProperty(response, name, { value, configurable: true });
  define("url", url);
  define("redirected", redirected);
  define("type", "basic");
  define("clone", () => described(Response.prototype.clone.call(response), url, redirected));
  return response;
}

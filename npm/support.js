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

// A form as `multipart/form-data` (HTML standard, section 4.10.21.8). WebKitGTK does not read a form with
// files back from a request.
export function encoded(form) {
  const boundary = `----bulla-${crypto.randomUUID()}`;
  const lines = (text) => text.replace(/\r\n?|\n/g, "\r\n");
  const quoted = (text) => `"${text.replace(/\n/g, "%0A").replace(/\r/g, "%0D").replace(/"/g, "%22")}"`;
  const parts = [];
  for (const [name, value] of form) {
    parts.push(`--${boundary}\r\nContent-Disposition: form-data; name=${quoted(lines(name))}`);
    if (typeof value === "string") parts.push(`\r\n\r\n${lines(value)}\r\n`);
    else {
      const type = value.type || "application/octet-stream";
      parts.push(`; filename=${quoted(value.name)}\r\nContent-Type: ${type}\r\n\r\n`, value, "\r\n");
    }
  }
  return new Blob([...parts, `--${boundary}--\r\n`], { type: `multipart/form-data; boundary=${boundary}` });
}

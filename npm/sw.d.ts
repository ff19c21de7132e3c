import type { OpenOptions, Scope } from "./index.js";

export { BullaError } from "./index.js";

/** What {@link protect} takes: the paths whose requests go through the session, and more. */
export interface ProtectOptions extends Omit<OpenOptions, "server" | "seal">, Scope {
  /** The server's origin. Default: the worker's own. */
  server?: string;
  /** Where a person is sent who goes to a page that wants a login (`login_required`). Without it a page says so. */
  login?: string;
  /** Where the Wasm module lies. Default: beside this script. It is checked to be the one that belongs to it. */
  wasm?: string | URL;
}

/**
 * Makes the service worker that calls it sign and seal the requests of its pages: `fetch`, `XMLHttpRequest`, forms,
 * images, downloads and pages themselves. To be called once, while the worker's script first runs.
 *
 * ```js
 * import { protect } from "bulla/sw";
 *
 * protect({ paths: ["/account/", "/api/"] });
 * ```
 *
 * @throws {BullaError} `request_invalid` for wrong options.
 */
export function protect(options: ProtectOptions): void;

import type { OpenOptions, Scope, Session } from "./index.js";

export { BullaError, Session } from "./index.js";
export type {
  BullaErrorCode,
  DpopRequest,
  OpeningEvent,
  Progress,
  ProgressCallbacks,
  RequestEvent,
  SessionEvent,
  SessionState,
} from "./index.js";

/**
 * What `open` takes, the paths that the session reaches among it. Whatever script in the page asks for, the worker
 * sends nothing elsewhere, and follows no redirect there.
 */
export interface IsolatedOptions extends OpenOptions, Scope {
  /**
   * Where a bundler loses the worker's script, the file `isolated.js`: where that is, or a new worker that runs it, of
   * type `module`. It finds the Wasm module beside itself. Default: beside this file.
   */
  worker?: Worker | string | URL;
}

/**
 * Opens a session in a dedicated worker. The module, the session's keys and its ticket are in the memory of that worker and
 * nowhere else. So it ends here with the page, and what is logged in with it; each call opens another one. The device key
 * and the server's identity are kept by the browser, as without a worker: `storage` tells where the device key is.
 *
 * @throws {BullaError} `unsupported` if the worker cannot be started; else as `open` of `bulla`.
 */
export function open(options: IsolatedOptions): Promise<Session>;

/** Where the Wasm module comes from: its URL, the reply that holds it, its bytes, or compiled. */
export type WasmSource = string | URL | Request | Response | BufferSource | WebAssembly.Module;

/**
 * Loads the Wasm module. Optional: `open` does it, from beside this file. Call it first where the
 * module lies elsewhere, for instance behind a bundler: `init(wasmUrl)` with `wasmUrl` from
 * `bulla/wasm`. It loads once; later calls wait for the same module, and a failed load can be
 * repeated.
 */
export function init(source?: WasmSource | Promise<Response>): Promise<void>;

/** What `open` takes. */
export interface OpenOptions {
  /** The server's origin, such as `https://bank.example`. Nothing else is reached through the session. */
  server: string;
  /**
   * The RFC 7638 thumbprint of the server's identity key. Without it the identity seen first is
   * pinned, and only that one is accepted from then on.
   */
  identity?: string;
  /** The path under which the server's Bulla endpoints live. Default: `/.well-known/bulla`. */
  prefix?: string;
  /** `false` signs requests and leaves them, and their replies, readable on the way. Default: `true`. */
  seal?: boolean;
}

/**
 * Opens a session, or goes on with the one that the browser still holds.
 *
 * The device key is made once for a server, by WebCrypto, and cannot be read out. Two calls at the
 * same time, also in two tabs, share one session.
 *
 * @throws {BullaError} `identity_changed` if the server's identity is not the pinned one, `network`
 * if the server cannot be reached, `unsupported` without WebCrypto or Wasm, `request_invalid` for
 * wrong options, or what the server refuses.
 */
export function open(options: OpenOptions): Promise<Session>;

/** A session with one server. Made by `open`. */
export class Session {
  private constructor();

  /**
   * The platform's `fetch`, through the session: signed by this device and, unless `seal` is
   * `false`, sealed from here to the server. It can be handed on by itself.
   *
   * Differences: only the server's own origin is reached, also by redirects; the request body is
   * read to its end before it is sent; `cache` and `mode` do not apply, `integrity` is refused;
   * methods are in upper case; a redirect with `redirect: "manual"` can be read; without `seal` none
   * is followed (`reply_invalid`), since browsers hide where it leads; reading the body fails with a
   * `BullaError` if the reply was changed (`reply_broken`) or cut off (`reply_truncated`) on the way.
   * WebKit cannot read a form with files back from a `Request`: hand it over as `init.body`.
   *
   * @throws {BullaError} what the server refuses, `reply_unsealed`, `reply_mismatch`,
   * `reply_truncated` or `reply_broken` for a reply that is not the server's, `network`,
   * `request_invalid`, or `session_closed` after `end`. An abort throws its own reason, and arguments
   * that `fetch` does not take a `TypeError`.
   */
  readonly fetch: (input: RequestInfo | URL, init?: RequestInit) => Promise<Response>;

  /** The session's name, also known to the server; `null` when it has ended. A login changes it. */
  readonly id: string | null;

  /** Whether somebody is logged in, as far as the server has said. */
  readonly authenticated: boolean;

  /** Where keys and session are kept: `memory` where IndexedDB is missing or refuses. */
  readonly storage: "indexeddb" | "memory";

  /** The thumbprint of the server's identity key. */
  readonly identity: string;

  /** The thumbprint of this device's key for this server. A login changes it where the server has the key rotated. */
  readonly device: string;

  /**
   * Ends the session at the server and here. `fetch` fails from then on; `open` gives a new one.
   *
   * @throws {BullaError} if the server has not confirmed it: `network`, or a refusal that is not sealed,
   * `ticket_expired` among them. Here the session has ended all the same.
   */
  end(): Promise<void>;

  /**
   * Ends the session and deletes the device key, so that the next session cannot be linked to this
   * one by its key. The server's identity stays pinned. Throws what `end` throws, when all is done.
   */
  forget(): Promise<void>;
}

/** The stable codes of {@link BullaError}. More may come. */
export type BullaErrorCode =
  | "malformed"
  | "too_slow"
  | "too_large"
  | "version_unsupported"
  | "authority_mismatch"
  | "path_refused"
  | "field_refused"
  | "seal_broken"
  | "digest_mismatch"
  | "seal_required"
  | "identity_mismatch"
  | "ticket_invalid"
  | "ticket_expired"
  | "proof_missing"
  | "proof_mismatch"
  | "proof_weak"
  | "coverage_missing"
  | "nonce_stale"
  | "replayed"
  | "session_unconfirmed"
  | "session_revoked"
  | "login_required"
  | "insufficient_user_authentication"
  | "session_limit"
  | "work_required"
  | "rate_limited"
  | "store_unavailable"
  | "internal"
  | "identity_changed"
  | "reply_invalid"
  | "reply_unsealed"
  | "reply_mismatch"
  | "reply_broken"
  | "reply_truncated"
  | "network"
  | "request_invalid"
  | "session_closed"
  | "unsupported";

/** Why something was refused, by the server or by the client. */
export class BullaError extends Error {
  constructor(code: BullaErrorCode | (string & {}), message: string, options?: { cause?: unknown });
  readonly name: "BullaError";
  /**
   * What programs go by. The message is for people and may change, and so may `cause`, which holds
   * what the platform has thrown, if that is behind it.
   */
  readonly code: BullaErrorCode | (string & {});
}

/** Where the Wasm module comes from: its URL, the reply that holds it, its bytes, or compiled. */
export type WasmSource = string | URL | Request | Response | BufferSource | WebAssembly.Module;

/**
 * Loads the Wasm module. Optional: `open` does it, from beside this file. Call it first where the
 * module lies elsewhere, for instance behind a bundler: `init(wasmUrl)` with `wasmUrl` from
 * `bulla/wasm`. It loads once; later calls wait for the same module, and a failed load can be
 * repeated.
 *
 * @throws {BullaError} `unsupported` if it cannot be loaded: it is not there, or a policy forbids Wasm, or there is none.
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
  /** Prints what the session does, step by step, by `console.debug`. There is no secret in it. Default: `false`. */
  debug?: boolean;
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

/** Which of the server's paths `bulla/install`, `bulla/sw` and `bulla/worker` are for. */
export interface Scope {
  /**
   * Each with all that is below it: `"/api/"` covers what begins so, `"/api"` also itself. They are compared as they
   * stand in URLs; one that no URL has is refused.
   */
  paths: readonly string[];
  /**
   * What of these is not covered, in other spellings, too: encoded letters, doubled slashes, parameters (`;`). Default:
   * nothing.
   */
  except?: readonly string[];
}

/** How far an upload or a download has come, in bytes of what the application sends or gets. */
export interface Progress {
  readonly loaded: number;
  /** 0 where it is not known. */
  readonly total: number;
  /** Whether `total` is known. */
  readonly lengthComputable: boolean;
}

/** What `session.fetch` takes beside what the platform's does. */
export interface ProgressCallbacks {
  /**
   * Hears of the upload; the last time when all has arrived. The request then goes by `XMLHttpRequest`, so the reply
   * comes as a whole. Where there is none (a service worker, Node), and with `keepalive`, `referrerPolicy` or
   * `credentials: "omit"`, it hears once, when the reply is there. Of a request without content it hears nothing.
   */
  onUploadProgress?: (progress: Progress) => void;
  /** Hears of each piece of the reply that is handed on. */
  onDownloadProgress?: (progress: Progress) => void;
}

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
  readonly fetch: (input: RequestInfo | URL, init?: RequestInit & ProgressCallbacks) => Promise<Response>;

  /**
   * The platform's `EventSource`, through the session. Where a stream breaks off, by a login too, it asks again; what no
   * other attempt mends ends it. Its `error` events have as `error` what was thrown, if something was: mostly a
   * {@link BullaError}. It is no instance of `EventSource`.
   *
   * @throws {DOMException} `SyntaxError`, for what is no URL.
   */
  events(url: string | URL, init?: EventSourceInit): EventSource;

  /**
   * A DPoP proof (RFC 9449) by the device key, for a server of OAuth: the value of the field `DPoP` beside a request to
   * it. Each is for one request. Tokens that are got with one are bound to this device: their `cnf.jkt` is `device`. When
   * the key is rotated, or deleted by `forget`, nobody can use them any more.
   *
   * @throws {BullaError} `request_invalid` for what is no request, or has members that are none of these,
   * `session_closed` after `end`.
   */
  dpop(request: DpopRequest): Promise<string>;

  /** The server's origin. */
  readonly origin: string;

  /** The session's name, also known to the server; `null` when it has ended. A login changes it. */
  readonly id: string | null;

  /** Whether somebody is logged in, as far as the server has said. */
  readonly authenticated: boolean;

  /**
   * Where keys and session are kept: `memory` where IndexedDB is missing, refuses or has lost them. Then a reload ends
   * the session here.
   */
  readonly storage: "indexeddb" | "memory";

  /** The thumbprint of the server's identity key. */
  readonly identity: string;

  /** The thumbprint of this device's key for this server. A login changes it where the server has the key rotated. */
  readonly device: string;

  /**
   * Hears whenever `id`, `authenticated`, `device` or `storage` change, by this page or by what another tab does.
   * Returns what takes the listener off again.
   */
  on(type: "change", listener: (about: SessionState) => void): () => void;

  /**
   * Hears what the session does, step by step, from when it is open: the first opening is told by `debug` alone.
   * Returns what takes the listener off again.
   */
  on(type: "event", listener: (event: SessionEvent) => void): () => void;

  /**
   * Ends the session at the server and here. `fetch` fails from then on; `open` gives a new one.
   *
   * @throws {BullaError} if the server has not confirmed it: `network`, or a refusal that is not sealed,
   * `ticket_expired` among them. Here the session has ended all the same.
   */
  end(): Promise<void>;

  /**
   * Ends the session and deletes the device key, so that the next session cannot be linked to this
   * one by its key. The server's identity stays pinned.
   *
   * @throws {BullaError} what `end` throws, when all is done; `unsupported` if the device key could not be deleted.
   */
  forget(): Promise<void>;
}

/** The request that {@link Session.dpop} proves. */
export interface DpopRequest {
  /** Where it goes, any origin's, by `https` or `http`. Query and fragment are left out of the proof. */
  url: string | URL;
  /** As given to `fetch`. Default: `GET`. */
  method?: string;
  /** The access token that goes with it, if one does. */
  token?: string;
  /** What that server has last said in `DPoP-Nonce`, if it has. */
  nonce?: string;
}

/** What a session tells about itself, by the names of its properties. */
export interface SessionState {
  readonly id: string | null;
  readonly authenticated: boolean;
  readonly device: string;
  readonly storage: "indexeddb" | "memory";
}

/** What the events of one request have in common. */
export interface RequestEvent {
  /** The request's number. */
  readonly request: number;
  readonly method: string;
  /** Without the query. */
  readonly path: string;
}

/** What comes of an opening. */
export interface OpeningEvent {
  /** Whether a session is carried over, by a login or since its ticket is old. */
  readonly carries: boolean;
  /** Whether the device key is another one from now on. */
  readonly rotates: boolean;
}

/**
 * A step of what a session does, for people who look for what went wrong. It holds no ticket, nonce, key or signature, no
 * query, header or body. More kinds may come, so leave alone what you do not know.
 */
export type SessionEvent =
  | (OpeningEvent & { readonly type: "opening" })
  /** The server wants work for it. */
  | { readonly type: "working" }
  | (OpeningEvent & {
      readonly type: "opened";
      /** Whether somebody is logged in. */
      readonly authenticated: boolean;
    })
  /** A session was in storage; it has ended. */
  | { readonly type: "found" | "ended" }
  | (RequestEvent & {
      readonly type: "signing";
      /** By the device key, or by the session's. */
      readonly proof: "device" | "session";
    })
  | (RequestEvent & {
      readonly type: "sealed";
      /** How much is sent. */
      readonly bytes: number;
    })
  | (RequestEvent & { readonly type: "sent" })
  /** By the server's verifier. */
  | (RequestEvent & {
      readonly type: "refused";
      readonly code: BullaErrorCode | (string & {});
      readonly status: number;
      /** Whether that came sealed. */
      readonly sealed: boolean;
      /**
       * What comes of it. `retry` sends it again, `prove` and `prove-anew` with a device proof, `reopen` through
       * another session; `prove-and-fail` and `reopen-and-fail` do so for the next request alone. After `ended`, of
       * a request that was to end the session, and `fail` nothing is sent.
       */
      readonly next:
        | "retry"
        | "prove"
        | "prove-anew"
        | "prove-and-fail"
        | "reopen"
        | "reopen-and-fail"
        | "ended"
        | "fail"
        | (string & {});
    })
  | (RequestEvent & {
      readonly type: "replied";
      readonly status: number;
      /** Whether that came sealed. */
      readonly sealed: boolean;
    })
  /** An opening, or a request. */
  | (Partial<RequestEvent> & {
      readonly type: "failed";
      /** Of the error; empty if that is none of Bulla's, such as an abort. */
      readonly code: BullaErrorCode | "" | (string & {});
    });

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
  /** The HTTP status of the server's refusal, if it is one. */
  readonly status?: number;
  /** `true` for a refusal that came under the seal. Any other may be anybody's on the way. */
  readonly sealed?: true;
  /** After how many seconds to try again, if the refusal says so. */
  readonly retryAfter?: number;
}

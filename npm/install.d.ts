import type { Scope, Session } from "./index.js";

/** What {@link install} takes: the paths whose requests go through the session. */
export interface InstallOptions extends Scope {}

/**
 * Has the `fetch` and the `XMLHttpRequest` of this page, or worker, go through the session where a URL is of the
 * session's origin and under one of `paths`. All else goes to the platform as before.
 *
 * `fetch` then does what `session.fetch` does, and an `XMLHttpRequest` what the platform's does; a refusal, which
 * `fetch` throws as a `BullaError`, is an `error` event, and its code is in the console. `XMLHttpRequest.open` throws
 * an `InvalidAccessError` for what is synchronous, which cannot be signed.
 *
 * ```js
 * import { open } from "bulla";
 * import { install } from "bulla/install";
 *
 * const session = await open({ server: location.origin });
 * const uninstall = install(session, { paths: ["/api/"] });
 * ```
 *
 * @returns what takes both out again. If others have put something on top since, theirs stays, and below it everything
 * goes to the platform.
 * @throws {BullaError} `request_invalid` for wrong options.
 */
export function install(session: Pick<Session, "fetch" | "origin">, options: InstallOptions): () => void;

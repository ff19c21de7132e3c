export { BullaError } from "./index.js";

/**
 * Registers the service worker at `script`, which calls `protect` of `bulla/sw`, as a module. Resolves with its
 * registration when it stands between this page and the network; until then the page's `fetch` of its own origin waits.
 * To be called by every page: it also keeps the worker alive while replies stream.
 *
 * @throws {BullaError} `unsupported` where there are no service workers, or where this one is refused; `request_invalid`
 * if the page is outside of the registration's scope.
 */
export function register(
  script: string | URL,
  options?: Omit<RegistrationOptions, "type">,
): Promise<ServiceWorkerRegistration>;

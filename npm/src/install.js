// `bulla/install`: has the page's own `fetch` and `XMLHttpRequest` go through a session.

import { checked, wrong } from "./error.js";
import { SCOPE, covers, scopeOf } from "./paths.js";
import { through } from "./xhr.js";

/** Puts both in place, and returns what takes them out again. */
export function install(session, options) {
  const scope = scopeOf(checked("install", options, SCOPE));
  if (typeof session?.fetch !== "function" || typeof session.origin !== "string") {
    throw wrong("install wants a session");
  }

  let isInstalled = true;
  /** The URL as the platform reads it, if it is one for the session. */
  const covered = (given) => {
    const url = isInstalled && parsed(given);
    return url && url.origin === session.origin && covers(scope, url.pathname) ? url : undefined;
  };
  const takeOut = [
    replace("fetch", (below) => fetchThrough(session, covered, below)),
    replace("XMLHttpRequest", (below) => through(session, covered, isItsOwn, below)),
  ];
  return () => {
    isInstalled = false;
    for (const take of takeOut) take();
  };
}

/** What lies below those of ours that do nothing any more. */
const idle = new WeakMap();

/** Replaces a global. What others have put on top of it since stays, and is taken out no sooner than they are. */
function replace(name, make) {
  const below = globalThis[name];
  if (!below) return () => {};
  const ours = make(below);
  set(name, ours);
  return () => {
    idle.set(ours, below);
    while (idle.has(globalThis[name])) set(name, idle.get(globalThis[name]));
  };
}

function set(name, value) {
  const enumerable = globalThis.propertyIsEnumerable(name);
  // What WebKit has compiled goes on with the value that it has seen, until the property itself goes.
  delete globalThis[name];
  Object.defineProperty(globalThis, name, { value, enumerable, writable: true, configurable: true });
}

function parsed(url) {
  try {
    return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch {
    // The platform refuses it in its own words.
    return undefined;
  }
}

/** Whether the session itself makes it, of one that came through here before or to open another: signed, or sealed. */
function isItsOwn(headers) {
  const isSealed = headers.get("content-type") === "message/bhttp" && headers.get("content-encoding") === "aes128gcm";
  return isSealed || /;tag="bulla\b/.test(headers.get("signature-input") ?? "");
}

function fetchThrough(session, covered, below) {
  const theirs = (self, given) => Reflect.apply(below, self, given);
  // A method, as the platform's own: it cannot be constructed.
  return {
    /**
     * @param {any} input
     * @param {RequestInit | undefined} init
     */
    fetch(input, init = undefined) {
      const isRequest = Object.prototype.toString.call(input) === "[object Request]";
      if (!covered(isRequest ? input.url : input)) return theirs(this, arguments);
      try {
        const headers = new Headers(init?.headers ?? (isRequest ? input.headers : undefined));
        if (isItsOwn(headers)) return theirs(this, arguments);
      } catch {
        // Nor has the session sent this.
      }
      return session.fetch(input, init);
    },
  }.fetch;
}

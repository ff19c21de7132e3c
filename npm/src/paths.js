// Which paths go through the session, where that is not said by calling `session.fetch`.

import { wrong } from "./error.js";

/** The types of the options that say it. */
export const SCOPE = { paths: "object", except: "object" };

/**
 * Whether a path, as the platform serialises it in a URL, is under one of `paths` and under none of `except`.
 * @param {{ paths: string[], except?: string[] }} scope
 * @param {string} pathname
 */
export function covers({ paths, except = [] }, pathname) {
  const isUnder = (pathname, prefix) => pathname === prefix || pathname.startsWith(prefix.replace(/\/?$/, "/"));
  const isExcepted = (prefix) => isUnder(pathname, prefix) || isUnder(plain(pathname), plain(prefix));
  return paths.some((prefix) => isUnder(pathname, prefix)) && !except.some(isExcepted);
}

/**
 * The path as a lenient application may read it: without parameters of segments (RFC 3986 section 3.3), without empty
 * segments, and with no more encoding than it takes to write it down.
 */
function plain(pathname) {
  const decoded = pathname.replace(/%[0-9a-f]{2}/gi, (octet) => {
    const code = parseInt(octet.slice(1), 16);
    return code > 0x20 && code < 0x7f ? String.fromCharCode(code) : octet.toUpperCase();
  });
  return decoded.replace(/;[^/]*/g, "").replace(/\/{2,}/g, "/");
}

/**
 * What an application gives as `paths` and `except`, checked. Further options are its caller's to refuse.
 * @param {{ paths: string[], except?: string[] }} options
 */
export function scopeOf({ paths, except }) {
  return { paths: prefixes("paths", paths), except: prefixes("except", except ?? []) };
}

function prefixes(name, given) {
  if (!Array.isArray(given)) throw wrong(`${name} is a list of paths, such as ["/api/"]`);
  for (const path of given) {
    // One that is written otherwise than in URLs would be met by none, and one with parameters of segments or without a
    // segment is not the path that a lenient application reads.
    if (typeof path !== "string" || serialised(path) !== path || /;|%3b|\/\//i.test(path)) {
      throw wrong(`${name} holds paths as they are in URLs, such as "/api/", and not "${String(path)}"`);
    }
  }
  return [...given];
}

function serialised(path) {
  try {
    // Not by a base: the path would be relative to it, or lead to another host.
    return new URL(`https://host.invalid${path}`).pathname;
  } catch {
    return undefined;
  }
}

// A request as the application has made it, and as it can be sent, again and again if need be.

import { Outgoing } from "../build/bulla_web.js";
import { lost, wrong } from "./error.js";
import { digest, randomBytes } from "./keys.js";
import { SLICE, ignore, lines, unlessAborted } from "./platform.js";

/** Reads what the application has given to `fetch`. The platform serialises the body. */
export async function read(client, input, init) {
  const request = requested(client, input, init);
  if (request.integrity) {
    throw wrong("subresource integrity is not checked inside the seal");
  }
  const { method, signal, redirect, credentials, keepalive, referrerPolicy } = request;
  const carried = { credentials, keepalive, referrerPolicy };
  const parts = { method, url: request.url, fields: [...request.headers], redirect, signal, carried };
  // Before the body is read, so that what cannot be sent is refused at once.
  const whole = outgoing(client, { ...parts, body: new Uint8Array() });
  await addBody(whole, request, init?.body);
  const tell = init?.onUploadProgress;
  if (tell) whole.carried.upload = { tell, loaded: 0, total: whole.body.length };
  return whole;
}

/** What the platform makes of it. The origin is what relative URLs lead to. */
export function requested({ origin }, input, init) {
  // Where it is this page that they lead to, the platform finds the way itself.
  const isHere = base({ origin }) !== origin;
  const request = new Request(isHere || isRequest(input) ? input : resolved({ origin }, String(input)), init);
  if (init?.body instanceof FormData) {
    // WebKit does not read files of a form back.
    const [read, parts] = [request.arrayBuffer(), [...init.body]];
    ignore(read);
    request.arrayBuffer = () =>
      read.catch(async () => {
        const { encoded } = await import("./later/form.js").catch(lost(request.signal));
        return encoded(parts, request.headers.get("content-type")).arrayBuffer();
      });
  }
  return request;
}

/** Adds the body of what the platform has made of `given`. */
export async function addBody(whole, request, given = undefined) {
  if (request.method === "GET" || request.method === "HEAD") return;
  whole.body = here(given) ?? new Uint8Array(await unlessAborted(request.signal, () => request.arrayBuffer()));
  await tellContent(whole);
}

/** A body that need not be read back from the platform: that takes longer than all else that is done to it. */
function here(given) {
  if (given instanceof Uint8Array) return new Uint8Array(given);
  if (typeof given === "string") return new TextEncoder().encode(given);
  return undefined;
}

/** Tells the rules what a request holds. What is long is not hashed on this thread. */
async function tellContent({ rules, body }) {
  if (body.length > SLICE) rules.holdsLong(await digest(body), body.length);
  else rules.holds(body);
}

/** Also one of another frame, which is no instance of this one's `Request`. */
const isRequest = (input) => Object.prototype.toString.call(input) === "[object Request]";

/** What browsers leave in URLs and send as it is, and no request target may hold (RFC 3986 appendix A). */
const LEFT = /["<>\\^`{|}]/g;

/** A request that can be sent, again and again if need be. */
export function outgoing(client, parts) {
  // As the platform has serialised it, so the path comes next. The fragment is not sent.
  if (!isServers(client, parts.url)) throw elsewhere();
  const [target] = parts.url.slice(client.origin.length).split("#", 1);
  const encoded = target.replace(LEFT, encodeURIComponent);
  const rules = new Outgoing(client.server, lines([[parts.method, encoded], ...parts.fields]));
  // What makes the proof unique: drawn once, kept when the request is sent again.
  const number = parts.number ?? (client.requests += 1);
  return { ...parts, url: client.origin + encoded, rules, random: randomBytes(16), number };
}

export const isServers = (client, url) => url.startsWith(`${client.origin}/`);

const elsewhere = () => wrong("a session reaches its own server's origin only");

/** A URL, if it is one; else it is left for the platform to refuse in its own words. */
export function resolved(client, url) {
  try {
    return new URL(url, base(client)).href;
  } catch {
    return url;
  }
}

/** What URLs are relative to: this page, if it is the server's, else the server. */
export function base(client) {
  const here = globalThis.document?.baseURI ?? globalThis.location?.href;
  // Not a `blob:` URL, which has an origin and no hierarchy.
  return here?.startsWith(`${client.origin}/`) ? here : client.origin;
}

/** The request that follows a redirect (Fetch standard, HTTP-redirect fetch). */
export async function redirected(client, request, status, location) {
  let { method, fields, body } = request;
  const becomesGet =
    status === 303 ? method !== "GET" && method !== "HEAD" : (status === 301 || status === 302) && method === "POST";
  if (becomesGet) {
    method = "GET";
    body = new Uint8Array();
    const describesBody = /^content-(encoding|language|location|type)$/;
    fields = fields.filter(([name]) => !describesBody.test(name));
  }
  let url;
  try {
    url = new URL(location, request.url).href;
  } catch {
    throw elsewhere();
  }
  const next = outgoing(client, { ...request, method, url, fields, body });
  await tellContent(next);
  return next;
}

// `fetch` through a session: sign, seal and send; check the reply, and do what a refusal asks for.

import { Attempt, Head, Outgoing, isSealed, maxAnswer, openingTimeout, outranks } from "../build/bulla_web.js";
import { LOSES_BODIES } from "./engines.js";
import { BullaError, answered, codeOf, foreign, unreachable } from "./error.js";
import { digest, encrypt, mac, messageKey, randomBytes, sign } from "./keys.js";
import { described, discard, ignore, lines, pairs, readAtMost, seconds, unlessAborted } from "./platform.js";
import { SealedContent } from "./reply.js";
import { provesBySession } from "./session.js";

/** As many as the platform's own `fetch` follows. */
const MAX_REDIRECTS = 20;
/** How much of a content goes into the module at once: as much as a record can hold, about. */
const SLICE = 64 * 1024;

/** @typedef {{ refusal: import("../index.js").BullaError, wasSealed: boolean }} Refused The server's refusal, and whether it came sealed. */

/** What the platform's `fetch` does, through a session. */
export async function run(client, input, init) {
  let request = await read(client, input, init);
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects += 1) {
    const reply = await exchange(client, request, false);
    const location = reply.location();
    if (location === undefined || request.redirect === "manual") {
      let response = await reply.intoResponse(request.method === "HEAD");
      const tell = init?.onDownloadProgress;
      if (tell) response = (await import("./later/progress.js")).watched(response, tell);
      return described(response, request.url, redirects > 0);
    }
    reply.cancel();
    if (request.redirect === "error") throw new BullaError("network", "there was an unexpected redirect");
    request = await redirected(client, request, reply.status, location);
  }
  throw new BullaError("network", "there were too many redirects");
}

/**
 * Sends a request that the platform has made, and leaves it to the platform to follow where that leads.
 * @param {import("./client.js").Client} client
 * @param {Request} request
 * @param {[string, string][]} stated further fields of it, that no `Request` takes
 * @param {(stream: ReadableStream, fields: [string, string][]) => ReadableStream} watch
 */
export async function forward(client, request, stated, watch) {
  const { method, url, signal } = request;
  // The worker's own address would be its referrer.
  const carried = { credentials: request.credentials, referrerPolicy: "no-referrer" };
  // WebKit lets a worker see what media players say of their connection.
  const fields = [...request.headers].filter(([name]) => name !== "connection").concat(stated);
  let whole = outgoing(client, { method, url, fields, signal, carried, body: new Uint8Array() });
  await addBody(whole, request);
  for (let redirects = 0; ; redirects += 1) {
    const reply = await exchange(client, whole, false);
    const location = reply.location();
    if (location === undefined) return reply.intoResponse(method === "HEAD", watch);
    reply.cancel();
    const to = new URL(location, whole.url).href;
    const hasBody = whole.body.length > 0 && reply.status >= 307;
    const isFollowed = request.redirect === "follow" || request.mode === "navigate";
    if (!LOSES_BODIES || !hasBody || !isFollowed || !isServers(client, to) || redirects === MAX_REDIRECTS) {
      return Response.redirect(to, reply.status);
    }
    whole = await redirected(client, whole, reply.status, location);
  }
}

const isServers = (client, url) => url.startsWith(`${client.origin}/`);

/** Ends the session at the server and here. Whoever wants to be forgotten is, too. */
export async function end(client, forgets = false) {
  let session = await client.latest();
  if (!session) return client.close(undefined, forgets);
  try {
    let ended;
    // And what has taken its place meanwhile: a login that was under way, or another tab's fresh keys.
    for (let left = 3; left > 0 && session && session.id !== ended; left -= 1) {
      ended = session.id;
      await endOne(client);
      session = await client.latest();
    }
  } finally {
    // It is another one than above if a tab has logged in meanwhile.
    await client.close(client.session ?? session, forgets);
  }
}

async function endOne(client) {
  const request = outgoing(client, {
    method: "DELETE",
    url: client.origin + client.server.sessionPath,
    fields: [],
    body: new Uint8Array(),
    redirect: "error",
    // Whoever ends TLS must not make the page wait for ever, and its session stay.
    signal: AbortSignal.timeout(openingTimeout()),
    carried: {},
  });
  try {
    (await exchange(client, request, true)).cancel();
  } catch (error) {
    if (request.signal.aborted) throw unreachable(error);
    // Unless it had ended already.
    if (codeOf(error) !== "session_closed") throw error;
  }
}

/** Reads what the application has given to `fetch`. The platform serialises the body. */
async function read(client, input, init) {
  const request = requested(client, input, init);
  if (request.integrity) {
    throw new BullaError("request_invalid", "subresource integrity is not checked inside the seal");
  }
  const { method, signal, redirect, credentials, keepalive, referrerPolicy } = request;
  const carried = { credentials, keepalive, referrerPolicy };
  const parts = { method, url: request.url, fields: [...request.headers], redirect, signal, carried };
  // Before the body is read, so that what cannot be sent is refused at once.
  const whole = outgoing(client, { ...parts, body: new Uint8Array() });
  await addBody(whole, request);
  const tell = init?.onUploadProgress;
  if (tell) whole.carried.upload = { tell, loaded: 0, total: whole.body.length };
  return whole;
}

/** What the platform makes of it. The origin is what relative URLs lead to. */
export function requested({ origin }, input, init) {
  const request = new Request(isRequest(input) ? input : resolved({ origin }, String(input)), init);
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

async function addBody(whole, request) {
  if (request.method === "GET" || request.method === "HEAD") return;
  whole.body = new Uint8Array(await unlessAborted(request.signal, () => request.arrayBuffer()));
  await tellContent(whole);
}

/** Tells the rules what a request holds. What is long is not hashed on this thread. */
async function tellContent({ rules, body }) {
  if (body.length > SLICE) rules.holdsLong(await digest(body), body.length);
  else rules.holds(body);
}

/** Also one of another frame, which is no instance of this one's `Request`. */
const isRequest = (input) => Object.prototype.toString.call(input) === "[object Request]";

/** A request that can be sent, again and again if need be. */
function outgoing(client, parts) {
  // As the platform has serialised it, so the path comes next. The fragment is not sent.
  if (!isServers(client, parts.url)) throw elsewhere();
  const [target] = parts.url.slice(client.origin.length).split("#", 1);
  const rules = new Outgoing(client.server, parts.method, target, lines(parts.fields));
  // What makes the proof unique: drawn once, kept when the request is sent again.
  const number = parts.number ?? (client.requests += 1);
  return { ...parts, url: client.origin + rules.target, rules, random: randomBytes(16), number };
}

const elsewhere = () => new BullaError("request_invalid", "a session reaches its own server's origin only");

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
async function redirected(client, request, status, location) {
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

/** Sends a request until there is a reply or nothing more to try. */
async function exchange(client, request, ends) {
  try {
    if (!ends) client.guard?.(request.url);
    return await attempts(client, request, ends);
  } catch (error) {
    client.tell("failed", { code: codeOf(error) }, request);
    throw error;
  } finally {
    // Else it stays in the module's memory until it is collected.
    request.rules.free();
  }
}

async function attempts(client, request, ends) {
  const { signal, rules } = request;
  let session = client.usable ?? (await unlessAborted(signal, () => client.otherThan(undefined)));
  let { random } = request;
  const [firstSent, sentAt] = [performance.now(), seconds()];
  let attempt;
  for (;;) {
    const sessionProof = provesBySession(session);
    const { reply, refusal, wasSealed } = await send(client, session, request, sessionProof, random);
    if (reply) {
      client.tell("replied", { status: reply.status, sealed: client.seal }, request);
      return reply;
    }
    // The first of them may stand still while the device sleeps.
    const elapsed = Math.max((performance.now() - firstSent) / 1000, seconds() - sentAt);
    const refused = session.id;
    attempt ??= new Attempt(rules.isSafe, ends, session.nonceLife);
    const next = attempt.after(refusal.code, wasSealed, sessionProof, elapsed);
    client.tell("refused", { code: refusal.code, status: refusal.status, sealed: wasSealed, next }, request);
    switch (next) {
      case "retry":
        break;
      case "prove":
        session.wantsDevice = true;
        break;
      case "prove-anew":
        session.wantsDevice = true;
        random = randomBytes(16);
        break;
      case "prove-and-fail":
        session.wantsDevice = true;
        throw refusal;
      case "reopen":
        session = await unlessAborted(signal, () => client.otherThan(refused));
        break;
      case "reopen-and-fail":
        await client.otherThan(refused).catch((error) => {
          if (outranks(codeOf(error))) throw error;
        });
        throw refusal;
      case "ended":
        throw new BullaError("session_closed", "the session has ended");
      default:
        throw refusal;
    }
  }
}

/**
 * Sends a request once.
 * @returns {Promise<{ reply: Reply } & Partial<Refused> | { reply?: undefined } & Refused>}
 */
async function send(client, session, request, sessionProof, random) {
  const { signal, rules } = request;
  client.tell("signing", { proof: sessionProof ? "session" : "device" }, request);
  const proof = rules.prove(session.id, session.ticket, session.nonce, random, sessionProof, seconds());
  const { base, nonce } = proof;
  const signing = sessionProof ? mac(session.mac, base) : sign(session.key, base);
  const common = { redirect: "manual", cache: "no-store", signal, ...request.carried };
  if (!client.seal) {
    const headers = pairs(proof.signed(await signing));
    const body = request.body.length > 0 ? request.body : undefined;
    const init = { ...common, method: request.method, headers, body };
    return readPlain(client, session, signal, await transmit(client, request, request.url, init));
  }
  const salt = randomBytes(16);
  const [signature, key] = await Promise.all([signing, messageKey(session.request, salt, "encrypt")]);
  const body = await seal(proof.sealed(rules, signature, salt), request.body, key);
  client.tell("sealed", { bytes: body.length }, request);
  const init = { ...common, method: "POST", headers: client.sealedFields, body };
  return openSealed(client, session, request, nonce, await transmit(client, request, client.sealedUrl, init));
}

/** The platform's `fetch`. Redirects are never followed; with `"error"` Node would fail of a 421, too. */
async function transmit(client, request, url, init) {
  init.signal.throwIfAborted();
  client.tell("sent", {}, request);
  const sent = init.upload ? import("./later/progress.js").then(({ upload }) => upload(url, init)) : fetch(url, init);
  return await sent.catch(lost(init.signal, url));
}

/** What becomes of a connection that breaks: the application may have given up. */
const lost = (signal, url = undefined) => (cause) => {
  signal.throwIfAborted();
  throw unreachable(cause, url);
};

/** Encrypts a message, record by record, so that no turn of this thread is longer than one takes. */
async function seal(sealer, content, { key, nonce }) {
  const sealed = new Uint8Array(sealer.length);
  let end = 0;
  const put = (bytes) => {
    sealed.set(bytes, end);
    end += bytes.length;
  };
  put(sealer.header);
  for (let at = 0; at === 0 || at < content.length; at += SLICE) {
    sealer.push(content.subarray(at, at + SLICE));
    for (let record; (record = sealer.record()); ) put(await encrypt(key, sealer.nonce(nonce), record));
  }
  sealer.free();
  return sealed;
}

/** Opens the reply to a sealed request. One that is not sealed can only be a refusal. */
async function openSealed(client, session, request, nonce, response) {
  const contentType = response.headers.get("content-type") ?? undefined;
  if (!isSealed(response.status, contentType) || !response.body) {
    const outer = headOf(response);
    const refusal = await readRefusal(outer, response, request.signal);
    if (!refusal) {
      discard(response);
      throw foreign("reply_unsealed", "the reply is not sealed", response);
    }
    // Nobody vouches for this answer.
    await client.take(session, outer.handout(false, session.nonce));
    return { refusal, wasSealed: false };
  }
  const content = new SealedContent(response.body, request.signal);
  try {
    const head = await content.head(session.response);
    head.checkInReplyTo(nonce);
    const problem = head.isProblem ? await content.peek(maxAnswer()) : undefined;
    const refusal = problem && refusalOf(head, problem);
    if (refusal) refusal.sealed = true;
    await client.take(session, head.handout(true, session.nonce));
    return refusal ? { refusal, wasSealed: true } : { reply: new Reply(head, content, undefined) };
  } catch (error) {
    content.cancel();
    throw error;
  }
}

/** Reads the reply to a request that was signed only. TLS alone vouches for it. */
async function readPlain(client, session, signal, response) {
  const head = headOf(response);
  try {
    const refusal = head.isProblem ? await readRefusal(head, response.clone(), signal) : undefined;
    await client.take(session, head.handout(true, session.nonce));
    return refusal ? { refusal, wasSealed: false } : { reply: new Reply(head, undefined, response) };
  } catch (error) {
    discard(response);
    throw error;
  }
}

async function readRefusal(head, response, signal) {
  if (!head.isProblem) return undefined;
  const content = await readAtMost(response, maxAnswer()).catch(lost(signal));
  return content && refusalOf(head, content);
}

function refusalOf(head, content) {
  const refusal = head.refusal(content);
  return refusal && answered(refusal, head.status, pairs(head.fields));
}

function headOf(response) {
  return new Head(response.status, lines(response.headers));
}

/** A reply that has been checked as far as it has come. */
class Reply {
  status;
  #fields;
  #content;
  #plain;

  constructor(head, content, plain) {
    this.status = head.status;
    this.#fields = pairs(head.fields);
    head.free();
    this.#content = content;
    this.#plain = plain;
  }

  /** Where a redirect leads. */
  location() {
    const isRedirect = [301, 302, 303, 307, 308].includes(this.status);
    // Browsers hide where it leads; Node does not, and whoever ends TLS could have written it: what was
    // carried out already would be signed anew, for a target of his choice.
    if (this.#plain && (isRedirect || this.#plain.type === "opaqueredirect")) {
      this.cancel();
      throw new BullaError("reply_invalid", "a redirect is followed only if the request is sealed");
    }
    if (!isRedirect) return undefined;
    return this.#fields.find(([name]) => name === "location")?.[1];
  }

  cancel() {
    this.#content?.cancel();
    if (this.#plain) discard(this.#plain);
  }

  /** What the application gets. */
  async intoResponse(isHead, watch = (stream, _fields) => stream) {
    const hasNoBody = isHead || [204, 205, 304].includes(this.status);
    /** @type {ResponseInit} */
    const init = { status: this.status, headers: this.#fields };
    if (this.#plain) {
      init.statusText = this.#plain.statusText;
      // Platforms give a body of no bytes where there can be none.
      return new Response(hasNoBody ? null : this.#plain.body, init);
    }
    const content = this.#content;
    if (hasNoBody) {
      // Nothing may follow, and the final record must be there.
      while (await content.next());
      return new Response(null, init);
    }
    return new Response(content.isComplete ? await content.rest() : watch(content.stream(), this.#fields), init);
  }
}

// `fetch` through a session: sign, seal and send; check the reply, and do what a refusal asks for.

import { Attempt, openingTimeout, outranks } from "../build/bulla_web.js";
import { SealedContent } from "./content.js";
import { LOSES_BODIES } from "./engines.js";
import { BullaError, codeOf, lost, unreachable } from "./error.js";
import { provesBySession } from "./held.js";
import { encrypt, mac, messageKey, randomBytes, sign } from "./keys.js";
import { SLICE, Described, pairs, seconds, unlessAborted } from "./platform.js";
import { openSealed, readPlain } from "./reply.js";
import { addBody, isServers, outgoing, read, redirected } from "./request.js";

/** As many as the platform's own `fetch` follows. */
const MAX_REDIRECTS = 20;

/** @typedef {import("./reply.js").Reply} Reply */
/** @typedef {import("./reply.js").Refused} Refused */

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
      return new Described(response, request.url, redirects > 0);
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
 * @param {(response: Response, outer: Response) => void} [look] is shown the reply, and the one that it came in
 */
export async function forward(client, request, stated, watch, look) {
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
    if (location === undefined) {
      const response = await reply.intoResponse(method === "HEAD", watch);
      look?.(response, reply.outer);
      return response;
    }
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
  const base = rules.prove([session.id, session.ticket, session.nonce].join("\n"), random, sessionProof, seconds());
  const signing = sessionProof ? mac(session.mac, base) : sign(session.key, base);
  const common = { redirect: "manual", cache: "no-store", signal, ...request.carried };
  if (!client.seal) {
    const headers = pairs(rules.signed(await signing));
    const body = request.body.length > 0 ? request.body : undefined;
    const init = { ...common, method: request.method, headers, body };
    return readPlain(client, session, request, await transmit(client, request, request.url, init));
  }
  const [signature, key] = await Promise.all([signing, takeKey(session.request)]);
  const body = await seal(rules, signature, request.body, key);
  client.tell("sealed", { bytes: body.length }, request);
  const init = { ...common, method: "POST", headers: client.sealedFields, body };
  const sent = transmit(client, request, client.sealedUrl, init);
  // While the network is at work: for the next one, and for this one's reply.
  drawn.set(session.request, drawKey(session.request).catch(() => {}));
  const content = new SealedContent(signal);
  return openSealed(client, session, request, await sent, content);
}

/** The keys of messages that are still to be made, by those that they come of. They are nowhere else. */
const drawn = new WeakMap();

/** Draws a salt, and derives the keys of the message that it is for. */
const drawKey = (base) => messageKey(base, randomBytes(16), "encrypt");

/** The keys of one message, with their salt. Whoever takes them is the only one. */
async function takeKey(base) {
  const ready = drawn.get(base);
  drawn.delete(base);
  return (await ready) ?? drawKey(base);
}

/** The platform's `fetch`. Redirects are never followed; with `"error"` Node would fail of a 421, too. */
async function transmit(client, request, url, init) {
  init.signal.throwIfAborted();
  client.tell("sent", {}, request);
  const sent = init.upload ? import("./later/progress.js").then(({ upload }) => upload(url, init)) : fetch(url, init);
  return await sent.catch(lost(init.signal, url));
}

/** Encrypts a message, record by record, so that no turn of this thread is longer than one takes. */
async function seal(rules, signature, content, { salt, key, nonce }) {
  const header = rules.seal(signature, salt);
  const sealed = new Uint8Array(rules.length);
  sealed.set(header);
  let end = header.length;
  for (let at = 0; at === 0 || at < content.length; at += SLICE) {
    rules.push(content.subarray(at, at + SLICE));
    for (let record; end < sealed.length && (record = rules.record(nonce)); ) {
      const bytes = await encrypt(key, record);
      sealed.set(bytes, end);
      end += bytes.length;
    }
  }
  return sealed;
}

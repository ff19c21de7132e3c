// A reply: checked, whether it came sealed or not, and told from a refusal.

import { Head, isSealed, maxAnswer } from "../build/bulla_web.js";
import { BullaError, answered, foreign, lost } from "./error.js";
import { discard, lines, pairs, readAtMost } from "./platform.js";

/** @typedef {{ refusal: import("../index.js").BullaError, wasSealed: boolean }} Refused The server's refusal, and whether it came sealed. */

/** Opens the reply to a sealed request, its content as `content`. One that is not sealed can only be a refusal. */
export async function openSealed(client, session, request, response, content) {
  if (!isSealed(response.status, response.headers.get("content-type") ?? "") || !response.body) {
    const outer = headOf(response);
    const refusal = await readRefusal(outer, response, request.signal);
    if (!refusal) {
      discard(response);
      throw foreign("reply_unsealed", "the reply is not sealed", response);
    }
    // Nobody vouches for this answer.
    await client.take(session, outer.handout(false, request.rules));
    return { refusal, wasSealed: false };
  }
  content.from(response.body);
  try {
    const head = await content.head(session.response, request.rules);
    const problem = head.isProblem ? await content.peek(maxAnswer()) : undefined;
    const refusal = problem && refusalOf(head, problem);
    if (refusal) refusal.sealed = true;
    await client.take(session, head.handout(true, request.rules));
    return refusal ? { refusal, wasSealed: true } : { reply: new Reply(head, content, response) };
  } catch (error) {
    content.cancel();
    throw error;
  }
}

/** Reads the reply to a request that was signed only. TLS alone vouches for it. */
export async function readPlain(client, session, request, response) {
  const head = headOf(response);
  try {
    const refusal = head.isProblem ? await readRefusal(head, response.clone(), request.signal) : undefined;
    await client.take(session, head.handout(true, request.rules));
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
export class Reply {
  status;
  /** The platform's: what whoever ends TLS has let through. */
  outer;
  #fields;
  /** What is inside the seal, if it came in one. */
  #content;

  constructor(head, content, outer) {
    this.status = head.status;
    this.outer = outer;
    this.#fields = pairs(head.fields);
    head.free();
    this.#content = content;
  }

  /** Where a redirect leads. */
  location() {
    const isRedirect = [301, 302, 303, 307, 308].includes(this.status);
    // Browsers hide where it leads; Node does not, and whoever ends TLS could have written it: what was
    // carried out already would be signed anew, for a target of his choice.
    if (!this.#content && (isRedirect || this.outer.type === "opaqueredirect")) {
      this.cancel();
      throw new BullaError("reply_invalid", "a redirect is followed only if the request is sealed");
    }
    if (!isRedirect) return undefined;
    return this.#fields.find(([name]) => name === "location")?.[1];
  }

  cancel() {
    if (this.#content) this.#content.cancel();
    else discard(this.outer);
  }

  /** What the application gets. */
  async intoResponse(isHead, watch = (stream, _fields) => stream) {
    const hasNoBody = isHead || [204, 205, 304].includes(this.status);
    /** @type {ResponseInit} */
    const init = { status: this.status, headers: this.#fields };
    const content = this.#content;
    if (!content) {
      init.statusText = this.outer.statusText;
      // Platforms give a body of no bytes where there can be none.
      return new Response(hasNoBody ? null : this.outer.body, init);
    }
    if (hasNoBody) {
      // Nothing may follow, and the final record must be there.
      while (await content.next());
      return new Response(null, init);
    }
    return new Response(content.rest() ?? watch(content.stream(), this.#fields), init);
  }
}

// An opening on its way to the server and back.

import { maxAnswer, openingTimeout } from "../build/bulla_web.js";
import { BullaError, answered, codeOf, foreign, unreachable } from "./error.js";
import { sign, verify } from "./keys.js";
import { lines, pairs, readAtMost } from "./platform.js";

/** Signs an opening, sends it, does what work the server asks for, and reads and verifies the answer. */
export async function exchanged(client, opening, device, previous) {
  const { rotationBase } = opening;
  const rotation = rotationBase && (await sign(previous.private, rotationBase));
  const sent = opening.signed(await sign(device.private, opening.base), rotation);
  const { fields, body } = sent;
  const response = await fetch(client.origin + client.server.sessionPath, {
    method: "POST",
    headers: pairs(fields),
    body,
    redirect: "manual",
    cache: "no-store",
    // The cookies that are bound to the key before, for the server to bind anew.
    credentials: previous ? "include" : "same-origin",
    signal: AbortSignal.timeout(openingTimeout()),
  }).catch((cause) => {
    throw unreachable(cause, client.sealedUrl);
  });
  const answer = await readAtMost(response, maxAnswer()).catch((cause) => {
    throw unreachable(cause);
  });
  if (!answer) throw new BullaError("reply_invalid", "the answer is too long");
  const { status } = response;
  const given = lines(response.headers);
  const work = sent.work(status, given, answer);
  if (work) {
    client.tell("working");
    return exchanged(client, await done(work), device, previous);
  }
  let unverified;
  try {
    unverified = sent.read(status, given, answer);
  } catch (error) {
    if (codeOf(error) === "reply_invalid") throw foreign("reply_invalid", /** @type {Error} */ (error).message, response);
    throw status < 400 ? error : answered(error, status, pairs(given));
  }
  return unverified.verified(await verify(unverified.identity, unverified.signature, unverified.base));
}

/** Works in slices, so that the page can go on in between. */
async function done(work) {
  for (;;) {
    const opening = work.run();
    if (opening) return opening;
    await new Promise((resolve) => setTimeout(resolve));
  }
}

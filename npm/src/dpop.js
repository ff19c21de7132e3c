// DPoP proofs (RFC 9449) by the device key.

import { dpopProof } from "../build/bulla_web.js";
import { BullaError } from "./error.js";
import { base } from "./fetch.js";
import { sign } from "./keys.js";
import { seconds } from "./platform.js";

/** A proof for a request as `fetch` would send it, wherever it goes. */
export async function dpop(client, { url, method, token = "", nonce = "" }) {
  const device = await client.latestDevice();
  let proof;
  let toSign;
  try {
    const request = new Request(new URL(url, base(client)), { method });
    // Without query and fragment.
    const { origin, pathname } = new URL(request.url);
    const claims = [crypto.randomUUID(), request.method, origin + pathname, token, nonce];
    const now = seconds();
    proof = (signature) => dpopProof(device.public, claims, now, signature);
    toSign = proof([]);
  } catch (cause) {
    throw new BullaError("request_invalid", "dpop wants { url, method, token?, nonce? }", { cause });
  }
  return proof(await sign(device.private, new TextEncoder().encode(toSign)));
}

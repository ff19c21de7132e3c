// DPoP proofs (RFC 9449) by the device key.

import { dpopProof } from "../build/bulla_web.js";
import { BullaError, checked } from "./error.js";
import { sign } from "./keys.js";
import { seconds } from "./platform.js";
import { base } from "./request.js";

const OPTIONS = { url: "string, object", method: "string", token: "string", nonce: "string" };

/** A proof for a request as `fetch` would send it, wherever it goes. */
export async function dpop(client, wanted) {
  const device = await client.latestDevice();
  const now = seconds();
  let claims;
  let toSign;
  const proof = (signature) => dpopProof(device.public, claims, now, signature);
  try {
    // What is no URL, for none: the platform takes `undefined` for a path.
    const { url = "//", method, token = "", nonce = "" } = checked("dpop", wanted, OPTIONS);
    const request = new Request(new URL(url, base(client)), { method });
    // Without query and fragment.
    claims = [crypto.randomUUID(), request.method, request.url.split(/[?#]/)[0], token, nonce].join("\n");
    toSign = proof([]);
  } catch (cause) {
    throw new BullaError("request_invalid", "dpop wants { url, method?, token?, nonce? }", { cause });
  }
  return proof(await sign(device.private, new TextEncoder().encode(toSign)));
}

// `session.fetch`, the platform's own share of it, and the bare WebCrypto calls: microseconds of one, in turn.

import { sample } from "./network.js";
import { open } from "/npm/index.js";

const { subtle } = crypto;
const body = new Uint8Array(1024).fill(120);

const session = await open({ server: location.origin });
const sealed = async () => {
  const reply = await session.fetch("/api/echo", { method: "POST", body });
  if (reply.status !== 200 || (await reply.arrayBuffer()).byteLength !== body.length) {
    throw new Error(`status ${reply.status}`);
  }
};

// What any `fetch` costs that reads its request and hands out a stream, without keys and without Wasm:
// the platform's share of the way.
const plumbing = async () => {
  const request = new Request("/api/echo", { method: "POST", body });
  const content = new Uint8Array(await request.arrayBuffer());
  const received = await window.fetch("/bench/echo", { method: "POST", body: content, headers: request.headers });
  const headers = [...received.headers];
  const incoming = received.body.getReader();
  const pull = async (controller) => {
    const { done, value } = await incoming.read();
    if (done) controller.close();
    else controller.enqueue(value);
  };
  await new Response(new ReadableStream({ pull }), { headers }).arrayBuffer();
};

// The bare calls: a signature; a key, a nonce and a record each way. About as long as the real ones, as
// much at once as can be, and around a round trip like the real one, whose time is taken out: after a wait
// the same calls take longer than one upon the other.
const device = await subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
const base = await subtle.importKey(
  "raw",
  crypto.getRandomValues(new Uint8Array(32)),
  "HKDF",
  false,
  ["deriveKey", "deriveBits"],
);
const signed = new Uint8Array(900);
const request = new Uint8Array(1792);
const info = (text) => new TextEncoder().encode(`Content-Encoding: ${text}\0`);
const [forKey, forNonce] = [info("aes128gcm"), info("nonce")];
const record = async (salt, use) => {
  const hkdf = { name: "HKDF", hash: "SHA-256", salt };
  const [key, iv] = await Promise.all([
    subtle.deriveKey({ ...hkdf, info: forKey }, base, { name: "AES-GCM", length: 128 }, false, [use]),
    subtle.deriveBits({ ...hkdf, info: forNonce }, base, 96),
  ]);
  return [{ name: "AES-GCM", iv }, key];
};
const known = new Uint8Array(16);
const reply = await subtle.encrypt(...(await record(known, "encrypt")), new Uint8Array(1280));
const raw = async () => {
  const salt = crypto.getRandomValues(new Uint8Array(16));
  const [, toSeal] = await Promise.all([
    subtle.sign({ name: "ECDSA", hash: "SHA-256" }, device.privateKey, signed),
    record(salt, "encrypt"),
  ]);
  const sealed = await subtle.encrypt(...toSeal, request);
  await window.fetch("/bench/echo", { method: "POST", body: sealed });
  await subtle.decrypt(...(await record(known, "decrypt")), reply);
};

export const measure = async () => ({
  sealed: await sample(sealed),
  plumbing: await sample(plumbing),
  raw: await sample(raw),
});

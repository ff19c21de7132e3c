// Signed requests, nothing sealed, and what their proofs take: microseconds of one, in turn. The package comes as its
// sources here: in what is published `prove` has no name any more.

import { BATCH, sample } from "./network.js";
import { Outgoing } from "/bench/build/bulla_web.js";
import * as dpop from "/bench/dpop/index.js";
import { init, open } from "/bench/src/index.js";

const { subtle } = crypto;
const body = new Uint8Array(1024).fill(120);
const post = { method: "POST", body };

// What making a proof takes: from when the module is asked for it until the request goes out.
let asked = 0;
let making = 0;
const { prove } = Outgoing.prototype;
Outgoing.prototype.prove = function (...given) {
  asked = performance.now();
  return prove.apply(this, given);
};
const network = window.fetch;
window.fetch = (...given) => {
  making += performance.now() - asked;
  return network(...given);
};

// Two handles of one session, each of which begins with a device proof. One of them is refused a session proof then,
// and makes device proofs from there on.
await init("/npm/bulla_web_bg.wasm");
const options = { server: location.origin, seal: false };
const [bySession, byDevice] = [await open(options), await open(options)];
for (const session of [bySession, byDevice]) await session.fetch("/api/echo", post);
await byDevice.fetch("/api/device", post).catch(({ code }) => {
  if (code !== "proof_weak") throw new Error(code);
});

const checkProof = async (session, wanted) => {
  let made;
  const off = session.on("event", ({ proof }) => (made = proof ?? made));
  await session.fetch("/api/echo", post);
  off();
  if (made !== wanted) throw new Error(`there was a ${made} proof`);
};

/** The whole request, and what of it is the proof. */
const signed = async (session, proof) => {
  await checkProof(session, proof);
  making = 0;
  const whole = await sample(async () => {
    const reply = await session.fetch("/api/echo", post);
    if (reply.status !== 200 || (await reply.arrayBuffer()).byteLength !== body.length) {
      throw new Error(`status ${reply.status}`);
    }
  });
  const made = (making * 1000) / BATCH;
  await checkProof(session, proof);
  return [whole, made];
};

// What any `fetch` costs that reads its request and hands out a reply of its own.
const plumbing = async () => {
  const request = new Request("/api/echo", post);
  const content = new Uint8Array(await request.arrayBuffer());
  const received = await window.fetch("/bench/echo", { method: "POST", body: content, headers: request.headers });
  await new Response(received.body, { headers: [...received.headers] }).arrayBuffer();
};

/** What something takes by itself, each time before a round trip: one upon the other takes less. */
const before = async (work) => {
  let time = 0;
  await sample(async () => {
    const start = performance.now();
    await work();
    time += performance.now() - start;
    await (await window.fetch("/bench/echo", post)).arrayBuffer();
  });
  return (time * 1000) / BATCH;
};

const base = new Uint8Array(900);
const device = await subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
const mac = await subtle.generateKey({ name: "HMAC", hash: "SHA-256", length: 256 }, false, ["sign"]);

const pair = await dpop.generateKeyPair("ES256");
const url = `${location.origin}/api/echo`;
const [nonce, token] = ["eyJ7S_zG.eyJH0-Z.HX4w-7v", "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"];

export const measure = async () => {
  const [whole, bySessionKey] = await signed(bySession, "session");
  const [, byDeviceKey] = await signed(byDevice, "device");
  return {
    "raw-hmac": await before(() => subtle.sign("HMAC", mac, base)),
    "raw-ecdsa": await before(() => subtle.sign({ name: "ECDSA", hash: "SHA-256" }, device.privateKey, base)),
    "session-proof": bySessionKey,
    "device-proof": byDeviceKey,
    signed: whole,
    plumbing: await sample(plumbing),
    "peer-dpop": await before(() => dpop.generateProof(pair, url, "POST", nonce, token)),
  };
};

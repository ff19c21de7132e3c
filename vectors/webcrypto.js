// The vectors' keys, digests, signatures and records once more: by WebCrypto, from the text of the
// protocol alone. `check(vectors)` gives { step: number of vectors checked } or throws.

const { subtle } = crypto;
const encoder = new TextEncoder();
const P256 = { name: "ECDSA", namedCurve: "P-256" };
const ES256 = { name: "ECDSA", hash: "SHA-256" };
const HS256 = { name: "HMAC", hash: "SHA-256" };

const bytes = (text) => Uint8Array.from(
  atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
const base64 = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
const text = (buffer) => base64(buffer).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const concat = (...parts) => new Uint8Array(parts.flatMap((part) => [...new Uint8Array(part)]));
const integer = (value, length) => {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(value));
  return new Uint8Array(view.buffer).slice(8 - length);
};
const sha256 = (data) => subtle.digest("SHA-256", data);
const equal = (found, expected, what) => {
  if (found !== expected) throw new Error(`${what}: ${found}, not ${expected}`);
};

const point = ({ x, y }) => concat([4], bytes(x), bytes(y));
const thumbprint = ({ crv, kty, x, y }) => sha256(encoder.encode(JSON.stringify({ crv, kty, x, y })));
const publicKey = ({ kty, crv, x, y }) => ({ kty, crv, x, y });
const verifier = (jwk) => subtle.importKey("jwk", publicKey(jwk), P256, false, ["verify"]);
const field = (fields, name) => fields.find(([found]) => found === name)?.[1];
const signature = (fields, label = "bulla") =>
  bytes(new RegExp(`(?:^|, )${label}=:([^:]*):(?:$|,)`).exec(field(fields, "signature"))[1]);

async function verified(jwk, fields, base, what, label) {
  const key = await verifier(jwk);
  const valid = await subtle.verify(ES256, key, signature(fields, label), encoder.encode(base));
  equal(valid, true, `${what}: signature`);
}

async function hkdf(ikm, salt, info, length) {
  const key = await subtle.importKey("raw", ikm, "HKDF", false, ["deriveBits"]);
  const algorithm = { name: "HKDF", hash: "SHA-256", salt, info: encoder.encode(info) };
  return new Uint8Array(await subtle.deriveBits(algorithm, key, length * 8));
}

async function recordKeys(key, salt) {
  return {
    key: await hkdf(key, salt, "Content-Encoding: aes128gcm\0", 16),
    nonce: await hkdf(key, salt, "Content-Encoding: nonce\0", 12),
  };
}

const recordNonce = (nonce, number) => {
  const counter = integer(number, 8);
  return nonce.map((byte, at) => (at < 4 ? byte : byte ^ counter[at - 4]));
};

async function cipher(key, usage) {
  return subtle.importKey("raw", key, "AES-GCM", false, [usage]);
}

async function seal({ key, salt, record_size, keyid, plain, stream }) {
  const keys = await recordKeys(bytes(key), bytes(salt));
  const aes = await cipher(keys.key, "encrypt");
  const capacity = record_size - 17;
  const records = [];
  let pending = new Uint8Array();
  const add = (data, delimiter, padded) => {
    const record = new Uint8Array(padded ? capacity + 1 : data.length + 1);
    record.set(data);
    record[data.length] = delimiter;
    records.push(record);
  };
  for (const piece of plain) {
    pending = concat(pending, bytes(piece));
    for (; pending.length > capacity; pending = pending.slice(capacity)) add(pending.slice(0, capacity), 1);
    if (stream && pending.length) {
      add(pending, 1, true);
      pending = new Uint8Array();
    }
  }
  add(pending, 2, stream);
  const ids = bytes(keyid);
  const sealed = [bytes(salt), integer(record_size, 4), integer(ids.length, 1), ids];
  for (const [number, record] of records.entries()) {
    sealed.push(await subtle.encrypt({ name: "AES-GCM", iv: recordNonce(keys.nonce, number) }, aes, record));
  }
  return concat(...sealed);
}

async function unseal(key, sealed) {
  const broken = (why) => { throw new Error(why); };
  if (sealed.length < 21) broken("cut");
  const size = new DataView(sealed.buffer).getUint32(16);
  if (size < 18 || size > 65536) broken("record size");
  let at = 21 + sealed[20];
  if (sealed.length < at) broken("cut");
  const keyid = sealed.slice(21, at);
  const keys = await recordKeys(key, sealed.slice(0, 16));
  const aes = await cipher(keys.key, "decrypt");
  let plain = new Uint8Array();
  let ended = false;
  for (let number = 0; at < sealed.length; number += 1, at += size) {
    if (ended) broken("something follows");
    const record = sealed.slice(at, at + size);
    const iv = recordNonce(keys.nonce, number);
    const opened = new Uint8Array(await subtle.decrypt({ name: "AES-GCM", iv }, aes, record));
    const end = opened.findLastIndex((byte) => byte !== 0);
    if (end < 0 || opened[end] > 2) broken("no delimiter");
    ended = opened[end] === 2;
    if (!ended && record.length < size) broken("short");
    plain = concat(plain, opened.slice(0, end));
  }
  if (!ended) broken("no final record");
  return { keyid, plain };
}

const steps = {
  async key({ in: { jwk }, out }) {
    if (!out) return false;
    equal(text(await thumbprint(jwk)), out.thumbprint, "thumbprint");
    equal(text(point(jwk)), out.uncompressed, "point");
  },
  async digest({ in: { content }, out }) {
    equal(`sha-256=:${base64(await sha256(bytes(content)))}:`, out.field, "digest");
  },
  async open({ in: { device, previous }, out }) {
    await verified(device, out.fields, out.base, "opening");
    if (previous) await verified(previous, out.fields, out.rotation_base, "rotation", "bulla-rotate");
    equal(field(out.fields, "content-digest"),
      `sha-256=:${base64(await sha256(encoder.encode(out.body)))}:`, "digest");
    const keyid = text(await thumbprint(device));
    if (!field(out.fields, "signature-input").includes(`;keyid="${keyid}";`)) throw new Error("keyid");
  },
  async opened({ in: { request, fields, body }, out }, vectors) {
    if (!out) return false;
    const { identity, agreement, random } = JSON.parse(body);
    await verified(identity, fields, out.base, "answer");
    equal(text(await thumbprint(identity)), request.open.identity, "pin");
    const sent = vectors.find(({ step, in: input }) =>
      step === "open" && JSON.stringify(input) === JSON.stringify(request));
    const base = encoder.encode(sent.out.base);
    const transcript = await sha256(concat(
      encoder.encode("bulla session v1\0"), integer(base.length, 8), base,
      point(agreement.request), point(agreement.response), point(agreement.mac),
      await thumbprint(identity), bytes(random)));
    equal(text(transcript), out.transcript, "transcript");
    equal(text(transcript.slice(0, 16)), out.session, "session");
  },
  async keys({ in: { agreement, server, transcript }, out }) {
    const ecdh = { name: "ECDH", namedCurve: "P-256" };
    const own = await subtle.importKey("jwk", agreement, ecdh, false, ["deriveBits", "deriveKey"]);
    const peer = (jwk) => subtle.importKey("jwk", publicKey(jwk), ecdh, false, []);
    const shared = async (jwk) => subtle.deriveBits({ name: "ECDH", public: await peer(jwk) }, own, 256);
    equal(text(await shared(server.request)), out.request_key, "request key");
    equal(text(await shared(server.response)), out.response_key, "response key");
    equal(text(await shared(server.mac)), out.mac_secret, "third secret");
    const info = "bulla session mac v1";
    equal(text(await hkdf(await shared(server.mac), bytes(transcript), info, 32)), out.mac_key, "MAC key");

    // As the browser half has it: handles all the way, none of them readable.
    const base = await subtle.deriveKey(
      { name: "ECDH", public: await peer(server.mac) }, own, "HKDF", false, ["deriveKey"]);
    const derived = await subtle.deriveKey(
      { name: "HKDF", hash: "SHA-256", salt: bytes(transcript), info: encoder.encode(info) },
      base, { ...HS256, length: 256 }, false, ["sign"]);
    const imported = await subtle.importKey("raw", bytes(out.mac_key), HS256, false, ["sign"]);
    const macs = [derived, imported].map((key) => subtle.sign("HMAC", key, encoder.encode("a message")));
    equal(text(await macs[0]), text(await macs[1]), "MAC");
  },
  async "record-keys"({ in: { key, salt }, out }) {
    const keys = await recordKeys(bytes(key), bytes(salt));
    equal(text(keys.key), out.content_encryption_key, "content-encryption key");
    [0, 1, 256].forEach((number, at) =>
      equal(text(recordNonce(keys.nonce, number)), out.nonces[at], `nonce ${number}`));
  },
  async seal({ in: input, out }) {
    equal(text(await seal(input)), out.sealed, "sealed");
  },
  async unseal({ in: { key, sealed }, out, code }) {
    const opened = await unseal(bytes(key), bytes(sealed)).catch((error) => error);
    if (code) {
      equal(opened instanceof Error, true, "refused");
    } else {
      equal(text(opened.plain), out.plain, "plain");
      equal(text(opened.keyid), out.keyid, "keyid");
    }
  },
  async proof({ in: { proof, device, mac_key }, out }) {
    if (proof === "device") return verified(device, out.fields, out.base, "proof");
    const key = await subtle.importKey("raw", bytes(mac_key), HS256, false, ["sign"]);
    const mac = await subtle.sign("HMAC", key, encoder.encode(out.base));
    equal(text(mac), text(signature(out.fields)), "session proof");
  },
};

export async function check(vectors) {
  const counts = {};
  for (const vector of vectors) {
    const step = steps[vector.step];
    if (!step) continue;
    try {
      if ((await step(vector, vectors)) === false) continue;
    } catch (error) {
      throw new Error(`${vector.step}: ${vector.name}: ${error.message}`);
    }
    counts[vector.step] = (counts[vector.step] ?? 0) + 1;
  }
  return counts;
}

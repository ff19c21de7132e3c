// What the package's own keys make of Project Wycheproof's vectors. Bytes are base64url, in and out.
import { agree, decrypt, encrypt, mac, verify } from "/src/keys.js";

const { subtle } = crypto;
const bytes = (text) =>
  Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const concat = (...parts) => new Uint8Array(parts.flatMap((part) => [...part]));
const each = async (tests, work) => {
  const told = [];
  for (const [at, test] of tests.entries()) told.push(await work(test, at));
  return told;
};

window.wycheproof = {
  es256: (tests) => each(tests, ({ key, msg, sig }) => verify(bytes(key), bytes(sig), bytes(msg))),

  hmac: (tests) =>
    each(tests, async ({ key, msg }) => {
      const handle = await subtle.importKey("raw", bytes(key), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
      return text(await mac(handle, bytes(msg)));
    }),

  // The package seals without additional data. With some, the platform is asked as the package asks it.
  aesGcm: (tests) =>
    each(tests, async ({ key, nonce, aad, plain, sealed }) => {
      const handle = await subtle.importKey("raw", bytes(key), "AES-GCM", false, ["encrypt", "decrypt"]);
      const gcm = { name: "AES-GCM", iv: bytes(nonce), additionalData: bytes(aad) };
      const record = (content) => concat(bytes(content), bytes(nonce));
      const opened = aad
        ? await subtle.decrypt(gcm, handle, bytes(sealed)).catch(() => undefined)
        : await decrypt(handle, record(sealed));
      return {
        sealed: text(aad ? await subtle.encrypt(gcm, handle, bytes(plain)) : await encrypt(handle, record(plain))),
        opened: opened ? text(opened) : null,
      };
    }),

  // A message's key and nonce: a handle, which shows itself in what it seals, and bytes. The package asks its module for
  // the `info` of them once, so each vector has a package of its own.
  hkdf: (tests) =>
    each(tests, async ({ ikm, salt, info }, at) => {
      window.info = bytes(info);
      const { messageKey } = await import(`/src/keys.js?vector=${at}`);
      const base = await subtle.importKey("raw", bytes(ikm), "HKDF", false, ["deriveKey", "deriveBits"]);
      const { key, nonce } = await messageKey(base, bytes(salt), "encrypt");
      return { nonce: text(nonce), sealed: text(await encrypt(key, new Uint8Array(12))) };
    }),

  // A session's keys, which are handles, too: one for messages, and one that signs.
  ecdh: (tests) =>
    each(tests, async ({ key, peer, salt, info }) => {
      const handle = await subtle.importKey("jwk", key, { name: "ECDH", namedCurve: "P-256" }, false, ["deriveKey"]);
      const agreements = concat(...Array(3).fill(bytes(peer)));
      const { request, response, mac: signs } = await agree(handle, {
        agreements,
        macSalt: bytes(salt),
        macInfo: bytes(info),
      });
      const hkdf = { name: "HKDF", hash: "SHA-256", salt: bytes(salt), info: bytes(info) };
      const derived = await Promise.all([request, response].map((base) => subtle.deriveBits(hkdf, base, 256)));
      return { derived: derived.map(text), mac: text(await mac(signs, bytes(info))) };
    }),
};

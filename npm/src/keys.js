// Keys, all of them WebCrypto's: handles that work and cannot be read.

import { keyInfo, nonceInfo } from "../build/bulla_web.js";
import { BullaError } from "./error.js";

const ECDSA = { name: "ECDSA", hash: "SHA-256" };
const HMAC = { name: "HMAC", hash: "SHA-256", length: 256 };
const AES = { name: "AES-GCM", length: 128 };
const p256 = (name) => ({ name, namedCurve: "P-256" });
const hkdf = (salt, info) => ({ name: "HKDF", hash: "SHA-256", salt, info });

/** What WebCrypto does, its bytes as such, or the error that says that it does not. */
async function webCrypto(work) {
  try {
    const done = await work(crypto.subtle);
    return done instanceof ArrayBuffer ? new Uint8Array(done) : done;
  } catch (cause) {
    const isOpen = globalThis.isSecureContext === false;
    const why = isOpen ? "the page is no secure context: https, or http://localhost" : "WebCrypto is missing or refused";
    throw new BullaError("unsupported", why, { cause });
  }
}

/** Random bytes. */
export function randomBytes(length) {
  return crypto.getRandomValues(new Uint8Array(length));
}

/** A key pair: the handle of the private key, and the public one as an uncompressed point. */
function generate(name, usage) {
  return webCrypto(async (subtle) => {
    const pair = await subtle.generateKey(p256(name), false, [usage]);
    return { private: pair.privateKey, public: new Uint8Array(await subtle.exportKey("raw", pair.publicKey)) };
  });
}

/** The device key: made once, signs for as long as the browser keeps it. */
export const generateDevice = () => generate("ECDSA", "sign");

/** The client's key for one agreement. */
export const generateAgreement = () => generate("ECDH", "deriveKey");

/** Signs, as `ecdsa-p256-sha256`. */
export function sign(key, data) {
  return webCrypto((subtle) => subtle.sign(ECDSA, key, data));
}

/** Signs, as `hmac-sha256`. */
export function mac(key, data) {
  return webCrypto((subtle) => subtle.sign("HMAC", key, data));
}

/** Checks a signature of `ecdsa-p256-sha256`. */
export function verify(point, signature, data) {
  return webCrypto(async (subtle) => {
    const key = await subtle.importKey("raw", point, p256("ECDSA"), false, ["verify"]);
    // Firefox takes halves without their leading zeros, too.
    return signature.length === 64 && subtle.verify(ECDSA, key, signature, data);
  });
}

/**
 * Agrees on a session's keys. The third shared secret yields the MAC key and nothing else: its handle,
 * which could be made to yield that key once more, is dropped here.
 */
export function agree(key, { agreements, macSalt, macInfo }) {
  return webCrypto(async (subtle) => {
    const length = agreements.length / 3;
    const shared = async (at) => {
      const point = agreements.subarray(at * length, (at + 1) * length);
      // The module has checked that it is on the curve, which not every engine does.
      const server = await subtle.importKey("raw", point, p256("ECDH"), false, []);
      return subtle.deriveKey({ name: "ECDH", public: server }, key, "HKDF", false, ["deriveKey", "deriveBits"]);
    };
    const [forRequests, forReplies, forMac] = await Promise.all([0, 1, 2].map(shared));
    return {
      request: forRequests,
      response: forReplies,
      mac: await subtle.deriveKey(hkdf(macSalt, macInfo), forMac, HMAC, false, ["sign"]),
    };
  });
}

let labels;

/** The key and the base nonce of one message (RFC 8188 section 2.2 and 2.3), and the salt that they come of. */
export async function messageKey(base, salt, usage) {
  labels ??= { key: keyInfo(), nonce: nonceInfo() };
  const [key, nonce] = await webCrypto((subtle) =>
    Promise.all([
      subtle.deriveKey(hkdf(salt, labels.key), base, AES, false, [usage]),
      subtle.deriveBits(hkdf(salt, labels.nonce), base, 96),
    ]),
  );
  return { salt, key, nonce: new Uint8Array(nonce) };
}

/** The module puts a record's nonce behind it. */
const gcm = (record) => ({ name: "AES-GCM", iv: record.subarray(-12) });
const content = (record) => record.subarray(0, -12);

/** Seals a record. */
export function encrypt(key, record) {
  return webCrypto((subtle) => subtle.encrypt(gcm(record), key, content(record)));
}

/** Opens a record; nothing comes of one that is broken. */
export async function decrypt(key, record) {
  try {
    return new Uint8Array(await crypto.subtle.decrypt(gcm(record), key, content(record)));
  } catch {
    return undefined;
  }
}

/** The SHA-256 hash. */
export function digest(bytes) {
  return webCrypto((subtle) => subtle.digest("SHA-256", bytes));
}

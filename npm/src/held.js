// A session as the client holds and stores it: plain data, and handles of keys.

import { takesSessionProof } from "../build/bulla_web.js";
import { seconds } from "./platform.js";

/** Whether a record from the store can be used as a session. */
export function isSession(stored) {
  const are = (names, is) => names.every((name) => is(stored[name]));
  return (
    typeof stored === "object" &&
    are(["id", "ticket", "nonce"], (value) => typeof value === "string") &&
    are(["nonceLife", "ticketLife", "ticketCame"], Number.isFinite) &&
    are(["request", "response"], (key) => isKey(key, "HKDF")) &&
    isKey(stored.key, "ECDSA") &&
    isKey(stored.mac, "HMAC")
  );
}

/** Whether it is the handle of a key for this algorithm. */
export const isKey = (value, algorithm) => value instanceof CryptoKey && value.algorithm.name === algorithm;

/** Whether the session MAC key is to prove the next request, and not the device key. */
export function provesBySession(session) {
  const { sessionProof, confirmed, wantsDevice, ticketLife } = session;
  return takesSessionProof(sessionProof, confirmed, wantsDevice, ticketAge(session), ticketLife);
}

/**
 * Whether the ticket is at its end, as far as the client's clock can be believed. Only the server knows;
 * asking it first saves the application a refusal.
 */
export function seemsOver(session) {
  const age = ticketAge(session);
  return !(age >= 0 && age < session.ticketLife);
}

const ticketAge = (session) => seconds() - session.ticketCame;

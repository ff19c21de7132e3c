// Hashes of what comes, as manifests and pages write them.

export const sha256 = async (bytes) => new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));

/** Base64url without padding (RFC 4648 section 5). */
export function encoded(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
}

/** An encoded SHA-256, as in an `integrity` attribute. */
export const integrity = (hash) => `sha256-${hash.replace(/-/g, "+").replace(/_/g, "/")}=`;

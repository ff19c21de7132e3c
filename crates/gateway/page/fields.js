// Fields that protect pages, and that whoever ends TLS may take off. A page that comes sealed has them as they were
// sealed, but for those that count on the outer reply alone.

const NOTHING = "nothing";
const HSTS = "strict-transport-security";
const CLEAR = "clear-site-data";

/** By which browsers protect a page: all that the gateway goes by, but for what others are told who ask for it. */
const NAMES = [
  "content-security-policy",
  "content-security-policy-report-only",
  "cross-origin-embedder-policy",
  "cross-origin-embedder-policy-report-only",
  "cross-origin-opener-policy",
  "cross-origin-opener-policy-report-only",
  "cross-origin-resource-policy",
  "document-policy",
  "integrity-policy",
  "integrity-policy-report-only",
  "origin-agent-cluster",
  "permissions-policy",
  "referrer-policy",
  "reporting-endpoints",
  HSTS,
  "x-content-type-options",
  "x-frame-options",
];

/** A nonce in a policy is another one each time. */
const NONCE = /'nonce-[^\s;,']*'/gi;

/** Of a page that came sealed, those that are not as they were sealed. */
export function changed(sealed, outer) {
  const fields = [];
  // Whoever ends TLS may ask for it where the application does not.
  if (sealed.has(HSTS) && sealed.get(HSTS) !== outer.get(HSTS)) fields.push(field(HSTS, sealed, outer));
  // Chromium shows it to nobody, so that it cannot be missed either.
  if (outer.has(CLEAR) && !sealed.has(CLEAR)) fields.push(field(CLEAR, sealed, outer));
  return fields;
}

/**
 * Of a page that does not come sealed, those that are not as they come when they do. It is asked for once more in each
 * way, without what could make it do anything.
 * @param {string} url
 * @param {(request: Request) => Promise<Response>} ask asks under the seal
 */
export async function compared(url, ask) {
  /** @type {RequestInit} */
  const bare = { method: "HEAD", credentials: "omit", cache: "no-store", redirect: "manual" };
  const sealed = () => ask(new Request(url, bare));
  const [came, one, other] = await Promise.all([fetch(url, bare), sealed(), sealed()]);
  if (!came.ok || came.status !== one.status) return [];
  const of = (name, { headers }) => headers.get(name)?.replace(NONCE, "'nonce-'");
  // What is another one each time tells nothing.
  const isChanged = (name) => one.headers.has(name) && of(name, one) === of(name, other) && of(name, one) !== of(name, came);
  return NAMES.filter(isChanged).map((name) => field(name, one.headers, came.headers));
}

const field = (name, sealed, came) => ({ name, expected: sealed.get(name) ?? NOTHING, found: came.get(name) ?? NOTHING });

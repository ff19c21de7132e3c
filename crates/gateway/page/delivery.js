// Code that comes to pages of this origin is held to a manifest that the gateway's identity has signed, before a page gets
// it: whoever ends TLS, or keeps copies, can change none of it, nor bring back an older one.

import { change } from "../../../npm/src/storage.js";
import { CODE, OWN } from "./code.js";
import { encoded, integrity, sha256 } from "./hash.js";
import { REFUSED, REPORT } from "./reports.js";

/** What a signature is for. */
const TYPE = "bulla-manifest";
const ES256 = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
/** The latest manifest that was seen here, among what is kept. */
const KEY = "manifest";

/** What scripts fetch and run says no more than its name. */
const NAMES = /\.(?:[cm]?js|css|wasm)$/i;
/** How long a manifest may take before the one that was there is gone by, in milliseconds. */
const PATIENCE = 5000;
/** What is expected where nothing is. */
const NOTHING = "nothing";

export class Delivery {
  #url;
  #identity;
  /** The manifest that is gone by, as soon as there is one. */
  #pinned;
  /** The answer to whether there is a later one, and what it will be read from, if that was sent for already. */
  #asked;
  #coming;

  #learns;
  #isMonitored;

  /**
   * The manifest at this address, signed by the identity with this thumbprint. If the gateway learns what there is, it
   * is told what is missing. Whoever only monitors is told, and no more.
   */
  constructor(url, identity, { learns, isMonitored }) {
    this.#url = url;
    this.#identity = identity;
    this.#learns = learns;
    this.#isMonitored = isMonitored;
  }

  /** Whether a request may be for what is listed. */
  takes({ method, url, destination, mode }) {
    // With another page there may be another version.
    if (mode === "navigate") [this.#asked, this.#coming] = [undefined, this.#come()];
    const { origin, pathname } = new URL(url);
    if (method !== "GET" || origin !== location.origin || pathname.startsWith(OWN)) return false;
    return CODE.includes(destination) || NAMES.test(pathname);
  }

  /**
   * What comes for a request, if it is what is listed.
   * @param {Request} request
   * @param {{ send: (request: Request) => Promise<Response>, post: (path: string, told: object) => void }} means
   */
  async answer(request, means) {
    try {
      return await this.#answer(request, means);
    } catch (error) {
      return refused(request, error.message);
    }
  }

  async #answer(request, { send, post, client }) {
    const tell = (url, expected, found) => post(REPORT, { kind: "integrity", url, expected, found });
    const { pathname } = new URL(request.url);
    let manifest = await this.#current(tell);
    if (manifest && !manifest.knows(pathname)) manifest = await this.#newest(tell, pathname);
    // Nothing vouches for anything.
    if (!manifest) return this.#isMonitored ? send(request) : refused(request, "there is no manifest");
    // The page sees to its own integrity; here what has come is wanted, whatever it is.
    const plain = request.integrity ? again(request, { integrity: "" }) : request;
    let wanted = manifest.hash(pathname);
    if (wanted === undefined) {
      if (!manifest.governs(pathname)) return send(request);
      // What is not there is no code, and nobody's fault on the way.
      const { response, hash } = await read(send, plain);
      if (hash === undefined) return response;
      tell(request.url, NOTHING, "unlisted");
      if (this.#isMonitored) return response;
      warn(client, pathname);
      return refused(request, "it is not listed");
    }
    let come = await read(send, plain);
    if (come.hash !== undefined && come.hash !== wanted) {
      // It may be newer than the manifest, or a copy that is older.
      manifest = await this.#newest(tell, pathname);
      wanted = manifest.hash(pathname);
      if (come.hash !== wanted) come = await read(send, again(request, { integrity: "", cache: "reload" }));
    }
    if (come.hash === undefined || come.hash === wanted) return come.response;
    tell(request.url, wanted ? integrity(wanted) : NOTHING, integrity(come.hash));
    if (this.#isMonitored) return come.response;
    warn(client, pathname);
    return refused(request, "it is not what is listed");
  }

  /** What is gone by. For each page it is asked anew whether there is a later one. */
  async #current(tell) {
    const kept = this.#pinned ?? (await this.#kept());
    this.#pinned ??= kept;
    this.#asked ??= this.#newest(tell);
    await this.#asked;
    // Since then there may have been a later one.
    return this.#pinned;
  }

  /** The latest there is, if it is no earlier than what was seen; else that. It may be for the sake of a path. */
  async #newest(tell, pathname) {
    // Others are asked for meanwhile, and may overtake it.
    const { text, least = this.#pinned?.version ?? 0 } = this.#sent(pathname);
    let manifest;
    try {
      manifest = await Manifest.open(await text, this.#identity);
    } catch (error) {
      console.warn(`bulla: the manifest did not come: ${error.message}`);
      tell(this.#url, "signed", "unsigned");
      return this.#pinned;
    }
    if (manifest.version < least) {
      console.warn(`bulla: version ${manifest.version} of the manifest came, and ${least} was there already`);
      tell(this.#url, `version-${least}`, `version-${manifest.version}`);
    }
    if (!(this.#pinned?.version >= manifest.version)) await this.#keep(manifest);
    return this.#pinned;
  }

  /** What was sent for. A gateway that learns has to be asked for the sake of each path. */
  #sent(pathname) {
    if (this.#learns && pathname !== undefined) return this.#come(`?${new URLSearchParams({ path: pathname })}`);
    const coming = this.#coming ?? this.#come();
    this.#coming = undefined;
    return coming;
  }

  /**
   * The text that is there now, and the version that it has at least, if any is known. Whoever holds it back holds up
   * nobody for long.
   */
  #come(about = "") {
    const least = this.#pinned?.version;
    const signal = AbortSignal.timeout(PATIENCE);
    const cache = about ? "no-store" : "no-cache";
    const text = fetch(this.#url + about, { cache, credentials: "omit", signal }).then((response) => {
      if (!response.ok) throw new Error(`its status is ${response.status}`);
      return response.text();
    });
    // It may be that nobody asks for it.
    text.catch(() => {});
    return { text, least };
  }

  /** The one that is kept. Script of the origin can write there, so its signature counts. */
  async #kept() {
    try {
      const text = await change("indexeddb", KEY);
      return text && (await Manifest.open(text, this.#identity));
    } catch {
      return undefined;
    }
  }

  async #keep(manifest) {
    // Another request may have brought a later one meanwhile.
    if (!(this.#pinned?.version >= manifest.version)) this.#pinned = manifest;
    // Where nothing can be kept it lives as long as this worker.
    await change("indexeddb", KEY, () => this.#pinned.text).catch(() => {});
  }
}

/** What is listed, once its signature was checked. */
class Manifest {
  /** @type {string} */
  text;
  version;
  #base;
  #hashes;

  /** Reads a text that the identity with this thumbprint has signed. Throws if it has not. */
  static async open(text, identity) {
    const [json, signature, end, ...more] = text.split("\n");
    if (end !== "" || more.length > 0) throw new Error("it is no manifest");
    if (!(await isSignedBy(identity, json, signature))) throw new Error("the identity has not signed it");
    const { version, base, hashes } = JSON.parse(json);
    const manifest = new Manifest();
    manifest.text = text;
    manifest.version = version;
    manifest.#base = base;
    manifest.#hashes = new Map(Object.entries(hashes));
    return manifest;
  }

  /** The SHA-256 of what is at a path, in base64url. What stands in a query does not matter. */
  hash(pathname) {
    return this.#hashes.get(pathname);
  }

  /** Whether code at this path has to be listed. */
  governs(pathname) {
    return pathname.startsWith(this.#base);
  }

  /** Whether it says what becomes of a path, so that no later one is needed for that. */
  knows(pathname) {
    return this.#hashes.has(pathname) || !this.governs(pathname);
  }
}

/** JWS with detached content (RFC 7515 appendix F). */
async function isSignedBy(identity, content, jws) {
  const [header, empty, signature, ...more] = jws.split(".");
  const { typ, alg, crit, jwk } = JSON.parse(new TextDecoder().decode(decoded(header)));
  if (typ !== TYPE || alg !== "ES256" || crit !== undefined || empty !== "" || more.length > 0) return false;
  const { crv, kty, x, y } = jwk;
  // RFC 7638, section 3.
  if (encoded(await sha256(utf8(JSON.stringify({ crv, kty, x, y })))) !== identity) return false;
  const key = await crypto.subtle.importKey("jwk", { crv, kty, x, y }, ES256, false, ["verify"]);
  const signed = utf8(`${header}.${encoded(utf8(content))}`);
  return await crypto.subtle.verify(ES256, key, decoded(signature), signed);
}

/** The same request but for this, which by itself would make it one of the worker's own. */
const again = (request, init) =>
  new Request(request, { referrer: request.referrer, referrerPolicy: request.referrerPolicy, ...init });

/** What comes, and its hash. What is no success has none, and no content that could be taken for one. */
async function read(send, request) {
  const response = await send(request);
  if (!response.ok) {
    const { status } = response;
    return { response: status < 400 ? nothing(request) : new Response(null, { status }) };
  }
  // The page gets the very reply: in Firefox a policy with paths goes by the address that it came from.
  const bytes = await response.clone().arrayBuffer();
  return { response, hash: encoded(await sha256(bytes)) };
}

/** Has the page say so, to whoever looks at it. */
async function warn(client, pathname) {
  const page = await clients.get(client);
  page?.postMessage([REFUSED, pathname]);
}

function refused(request, why) {
  console.error(`bulla: ${request.url} is not run: ${why}`);
  return nothing(request);
}

/** No reply. For a worker's script Firefox would take an error for leave to go to the network by itself. */
function nothing({ destination }) {
  return destination.endsWith("worker") ? new Response(null, { status: 502 }) : Response.error();
}

const utf8 = (text) => new TextEncoder().encode(text);

const decoded = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (character) => character.charCodeAt(0));

// Which scripts pages load, and what the loader has noticed in them: the gateway is told of both. Script in a page cannot hide
// from the worker what it loads, but what it runs without loading it.

import { encoded, integrity, sha256 } from "./hash.js";
import { NOTICED, REPORT } from "./reports.js";

/** What runs (Fetch, section 2.2.5: script-like). */
const SCRIPTS = ["audioworklet", "paintworklet", "script", "sharedworker", "worker", "xslt"];
/** The gateway's own files. */
const OWN = "/.well-known/bulla/";
/** How long it is waited for more to tell, in milliseconds. */
const SOON = 1000;
/** As many reports go into one request. */
const MOST = 64;
/** As many are remembered as told: then all may be told once more. */
const REMEMBERED = 2000;

export class Scripts {
  #delivery;
  #loaded = new Reports();
  /** By themselves: script in a page can say what is no report, and all of a request is refused then. */
  #noticed = new Reports();
  /** Requests that are held to a manifest. */
  #held = new WeakSet();

  /** @param {import("../../../npm/src/sw.js").Code} [delivery] who else looks at code */
  constructor(delivery) {
    this.#delivery = delivery;
  }

  takes(request) {
    const isHeld = this.#delivery?.takes(request) ?? false;
    if (isHeld) this.#held.add(request);
    return isHeld || (isScript(request) && isFromHere(request));
  }

  /** Scripts of other origins. Their bytes cannot be read here, but the page may hold them to a hash. */
  sees(request, means) {
    if (!isScript(request) || isFromHere(request)) return;
    const [hash] = request.integrity.split(" ");
    means.keep(this.#tell(request, hash, means));
  }

  async answer(request, means) {
    const answer = this.#held.has(request) ? this.#delivery.answer(request, means) : means.send(request);
    if (isScript(request)) means.keep(answer.then((response) => this.#read(request, response.clone(), means), () => {}));
    return await answer;
  }

  /** What the loader says. */
  hears(data, means) {
    if (data?.[0] !== NOTICED || !Array.isArray(data[1])) return;
    for (const report of data[1].slice(0, MOST)) this.#noticed.add(report, means);
  }

  async #read(request, response, means) {
    if (!response.ok || new URL(request.url).pathname.startsWith(OWN)) return;
    const hash = await sha256(await response.arrayBuffer());
    await this.#tell(request, integrity(encoded(hash)), means);
  }

  async #tell({ url }, hash, means) {
    const page = await clients.get(means.client);
    this.#loaded.add({ kind: "script", url, hash, page: page ? new URL(page.url).pathname : "" }, means);
  }
}

/** Reports that wait for others, to go out together. Each goes out once in a worker's life. */
class Reports {
  #told = new Set();
  #waiting = [];

  add(report, { post }) {
    const name = JSON.stringify(report);
    if (this.#told.has(name) || this.#waiting.length >= MOST) return;
    if (this.#told.size >= REMEMBERED) this.#told.clear();
    this.#told.add(name);
    this.#waiting.push(report);
    if (this.#waiting.length > 1) return;
    post(REPORT, new Promise((resolve) => setTimeout(() => resolve(this.#waiting.splice(0)), SOON)));
  }
}

const isScript = ({ destination }) => SCRIPTS.includes(destination);
const isFromHere = ({ url }) => new URL(url).origin === location.origin;

// Which scripts pages load, and what the loader has noticed in them: the gateway is told of both.

import { OWN, SCRIPTS } from "./code.js";
import { encoded, integrity, sha256 } from "./hash.js";
import { MOST_LEN, MOST_REPORTS, NOTICED, REPORT } from "./reports.js";

/** How long it is waited for more to tell, in milliseconds. */
const SOON = 1000;
/** As many are remembered as told: then all may be told once more. */
const REMEMBERED = 2000;
/** As much of an address is told, in characters: the gateway keeps no more. */
const TOLD = 512;

export class Scripts {
  #delivery;
  #loaded = new Outbox();
  /** By themselves: script in a page can say what is no report, and all of a request is refused then. */
  #noticed = new Outbox();
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
    const hash = request.integrity.split(" ", 1)[0].slice(0, 128);
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
    for (const report of data[1].slice(0, MOST_REPORTS)) this.#noticed.add(report, means);
  }

  async #read(request, response, means) {
    if (!response.ok || new URL(request.url).pathname.startsWith(OWN)) return;
    const hash = await sha256(await response.arrayBuffer());
    await this.#tell(request, integrity(encoded(hash)), means);
  }

  async #tell({ url }, hash, means) {
    const page = await clients.get(means.client);
    const at = (url) => url.slice(0, TOLD);
    const [bare] = url.split(/[?#]/, 1);
    this.#loaded.add({ kind: "script", url: at(bare), hash, page: at(page ? new URL(page.url).pathname : "") }, means);
  }
}

/** Reports that wait for others, to go out together. None is sent again before many others. */
class Outbox {
  #told = new Set();
  #waiting = [];
  #length = 0;

  add(report, { post }) {
    const text = JSON.stringify(report);
    // More than would go into a request by itself is none of the loader's.
    if (this.#told.has(text) || text.length > MOST_LEN / 8) return;
    if (this.#told.size >= REMEMBERED) this.#told.clear();
    this.#told.add(text);
    const isFull = this.#waiting.length >= MOST_REPORTS || this.#length + text.length > MOST_LEN / 4;
    if (isFull || this.#waiting.length === 0) {
      // The request before this one has its own, which it has not sent yet.
      const waiting = [];
      [this.#waiting, this.#length] = [waiting, 0];
      post(REPORT, new Promise((resolve) => setTimeout(() => resolve(waiting.splice(0)), SOON)));
    }
    this.#waiting.push(report);
    this.#length += text.length;
  }
}

const isScript = ({ destination }) => SCRIPTS.includes(destination);
const isFromHere = ({ url }) => new URL(url).origin === location.origin;

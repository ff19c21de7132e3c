// Which scripts pages load, which of their fields were changed, and what the loader has noticed in them: the gateway is
// told.

import { OWN, SCRIPTS } from "./code.js";
import { changed, compared } from "./fields.js";
import { encoded, integrity, sha256 } from "./hash.js";
import { MOST_LEN, MOST_REPORTS, NOTICED, REPORT, RESET } from "./reports.js";

/** How long it is waited for more to tell, in milliseconds. */
const SOON = 1000;
/** As many are remembered as told: then all may be told once more. */
const REMEMBERED = 2000;
/** The gateway cuts texts off there. */
const CUT = 512;

export class Scripts {
  #delivery;
  #loaded = new Outbox();
  /** By themselves: script in a page can say what is no report, and all of a request is refused then. */
  #noticed = new Outbox();
  /** Requests that are held to a manifest. */
  #held = new WeakSet();
  /** Public scripts and pages of this origin that were looked at. */
  #looked = new Set();

  /** @param {import("../../../npm/src/sw.js").Code} [delivery] who else looks at code */
  constructor(delivery) {
    this.#delivery = delivery;
  }

  takes(request, isSealed) {
    const isHeld = this.#delivery?.takes(request, isSealed) ?? false;
    if (isHeld) this.#held.add(request);
    return isHeld || (isSealed && isScript(request));
  }

  async answer(request, means) {
    const answer = this.#held.has(request) ? this.#delivery.answer(request, means) : means.send(request);
    if (isScript(request)) means.keep(answer.then((response) => this.#read(request.url, response.clone(), means), () => {}));
    return await answer;
  }

  /** Scripts of other origins, and what is public, which go out as browsers make them. */
  sees(request, means, isSealed) {
    if (isPage(request) && isFromHere(request) && !isSealed) means.keep(this.#compare(request.url, means));
    if (!isScript(request)) return;
    if (isFromHere(request)) means.keep(this.#look(request.url, means));
    else means.keep(this.#tell(request.url, heldTo(request), means));
  }

  /** What came for a page, and the reply that it came in. */
  opens(request, { headers }, outer, means) {
    if (isPage(request)) this.#tellFields(new URL(request.url).pathname, changed(headers, outer.headers), means);
  }

  /** What comes for a page that is not sealed, once for each. */
  async #compare(url, means) {
    const { origin, pathname } = new URL(url);
    if (!this.#isNew(`page ${pathname}`)) return;
    // Nobody but whoever is on the way can keep that from being asked, and he can keep it from being told anyhow.
    const fields = await compared(origin + pathname, means.ask).catch(() => []);
    this.#tellFields(pathname, fields, means);
  }

  #tellFields(page, fields, means) {
    for (const field of fields) {
      // Whichever page it was: what is on the way does the same with each.
      const name = Object.values(field).join();
      this.#add(this.#loaded, { kind: "transit", ...field, page }, means, name);
    }
  }

  /** What the loader says. */
  hears(data, means) {
    if (data?.[0] !== NOTICED || !Array.isArray(data[1])) return;
    for (const report of data[1].slice(0, MOST_REPORTS)) this.#add(this.#noticed, report, means);
  }

  /** The same once more, out of the browser's cache if that is at all possible. */
  async #look(url, means) {
    if (!this.#isNew(url)) return;
    try {
      await this.#read(url, await fetch(url, { cache: "force-cache" }), means);
    } catch {
      // It leads to another origin, where nobody here can read it.
      await this.#tell(url, "", means);
    }
  }

  /** Whether it was not looked at yet. */
  #isNew(name) {
    if (this.#looked.has(name)) return false;
    if (this.#looked.size >= REMEMBERED) this.#looked.clear();
    this.#looked.add(name);
    return true;
  }

  /** Bytes of other origins cannot be read here. */
  async #read(url, response, means) {
    if (!response.ok || new URL(url).pathname.startsWith(OWN)) return;
    const hash = await sha256(await response.arrayBuffer());
    // Where redirects have led is where it is.
    await this.#tell(response.url || url, integrity(encoded(hash)), means);
  }

  async #tell(url, hash, means) {
    const page = await clients.get(means.client);
    // Queries are left out there, too.
    const { origin, pathname } = new URL(url);
    const report = { kind: "script", url: origin + pathname, hash, page: page ? new URL(page.url).pathname : "" };
    // Whichever page it was: a site of many pages has the same on each.
    this.#add(this.#loaded, report, means, `${hash} ${report.url}`);
  }

  #add(outbox, report, means, name) {
    const answered = (status) => {
      if (status !== RESET) return;
      // It is about another login from now on.
      this.#looked.clear();
      this.#loaded.forget();
      this.#noticed.forget();
    };
    outbox.add(report, { ...means, answered }, name);
  }
}

/** Reports that wait for others, to go out together. Each goes out once, unless nobody has taken it. */
class Outbox {
  #told = new Set();
  /** Those that wait: their names, and what they say as JSON. */
  #waiting = [];
  #length = 0;

  /** `answered` is told the status of the answer, if there is one. What has the same name is the same report. */
  add(report, { post, answered }, name) {
    const text = JSON.stringify(report, cut);
    name ??= text;
    if (!text || this.#told.has(name)) return;
    if (this.#told.size >= REMEMBERED) this.#told.clear();
    this.#told.add(name);
    // What is full goes out by itself: who loads much at once must not hide anything by that. A character may have more bytes.
    const isFull = this.#waiting.length >= MOST_REPORTS || this.#length + text.length > MOST_LEN / 4;
    if (isFull) [this.#waiting, this.#length] = [[], 0];
    const batch = this.#waiting;
    batch.push({ name, text });
    this.#length += text.length;
    if (batch.length > 1) return;
    const told = new Promise((resolve) => {
      setTimeout(() => {
        if (this.#waiting === batch) [this.#waiting, this.#length] = [[], 0];
        resolve(batch.map(({ text }) => JSON.parse(text)));
      }, SOON);
    });
    post(REPORT, told).then((status) => {
      if (status === undefined) for (const { name } of batch) this.#told.delete(name);
      answered(status);
    });
  }

  /** All may be told once more. */
  forget() {
    this.#told.clear();
  }
}

const cut = (_, value) => (typeof value === "string" ? value.slice(0, CUT) : value);

/**
 * What a page holds a script to, if that is one hash: where there are several, browsers go by any of the strongest kind (Subresource
 * Integrity, section 3.3.4), and which of them it was nobody says. Chromium and WebKit tell workers of none.
 */
function heldTo({ integrity }) {
  const [hash, ...others] = integrity.split(/[\t\n\f\r ]+/).filter(Boolean);
  return others.length === 0 ? (hash ?? "") : "";
}

const isPage = ({ mode, method }) => mode === "navigate" && method === "GET";
const isScript = ({ destination }) => SCRIPTS.includes(destination);
const isFromHere = ({ url }) => new URL(url).origin === location.origin;

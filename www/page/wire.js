// Records what leaves the browser, by standing in for the platform's `fetch` that Bulla itself calls,
// and shows it beside what the application said.

import { byId, element } from "./dom.js";
import { message } from "./message.js";

const RECORDED = ["/.well-known/bulla/", "/twin/"];
const KEPT = 12;

/** Newest first. */
const entries = [];
let current;
let selected;
let turn = Promise.resolve();

const send = globalThis.fetch;

globalThis.fetch = async function fetch(input, init) {
  const request = new Request(input, init);
  const { pathname, search } = new URL(request.url);
  const entry = current;
  if (!entry || !RECORDED.some((prefix) => pathname.startsWith(prefix))) return send(input, init);
  const crossing = { line: `${request.method} ${pathname}${search}`, fields: [...request.headers] };
  entry.crossings.push(crossing);
  crossing.bytes = new Uint8Array(await request.arrayBuffer());
  const reply = await send(input, init);
  crossing.reply = { line: String(reply.status), fields: [...reply.headers] };
  const copy = reply.clone();
  entry.pending.push(
    copy.arrayBuffer().then(
      (body) => (crossing.reply.bytes = new Uint8Array(body)),
      () => (crossing.reply.bytes = new Uint8Array()),
    ),
  );
  return reply;
};

/**
 * Runs `run` and records what it sends: one exchange at a time, so that each crossing of the wire
 * belongs to what the application said. `said` is `{ side, line, fields, text, isAside }`; `hear` makes
 * a message of the result.
 */
export function exchange(said, run, hear) {
  const result = turn.then(async () => {
    const entry = { ...said, crossings: [], pending: [] };
    current = entry;
    try {
      const value = await run();
      entry.heard = await hear(value);
      return value;
    } catch (error) {
      entry.heard = { line: error.code ?? error.name, text: error.message, failed: true };
      throw error;
    } finally {
      current = undefined;
      await Promise.all(entry.pending);
      show(entry);
    }
  });
  turn = result.then(
    () => {},
    () => {},
  );
  return result;
}

function show(entry) {
  if (entry.isAside) {
    // One look at each thing is enough.
    const last = entries.findIndex((other) => other.line === entry.line && other.side === entry.side);
    if (last >= 0 && entries[last] !== selected) entries.splice(last, 1);
  }
  entries.unshift(entry);
  entries.splice(KEPT);
  // Looking at the balance again hides nothing of what came before.
  if (!entry.isAside || !entries.includes(selected)) selected = entry;
  draw();
}

function draw() {
  const tab = (entry) => {
    const button = element(
      "button",
      { type: "button", "aria-pressed": String(entry === selected), "data-side": entry.side },
      element("span", { class: "line" }, entry.title ?? decodeURI(entry.line)),
      element("span", { class: "how" }, entry.side === "twin" ? "in the open" : entry.how ?? "sealed"),
    );
    button.addEventListener("click", () => {
      selected = entry;
      draw();
      byId("exchanges").querySelector("[aria-pressed=true]").focus();
    });
    return element("li", {}, button);
  };
  byId("exchanges").replaceChildren(...entries.map(tab));
  const { offsetLeft, offsetWidth } = byId("exchanges").querySelector("[aria-pressed=true]").parentElement;
  byId("exchanges").scrollLeft = offsetLeft + offsetWidth / 2 - byId("exchanges").clientWidth / 2;
  byId("exchange").replaceChildren(...parts(selected));
}

function parts(entry) {
  const said = pane("The page said", message(entry), "said");
  const heard = pane("The page heard", message(entry.heard), entry.heard.failed ? "said failed" : "said");
  const sent = entry.crossings.map((crossing) => message(crossing));
  const back = entry.crossings.filter((crossing) => crossing.reply).map((crossing) => message(crossing.reply));
  // Opening is silent where the browser goes on with the session that it has.
  const nothing = element("p", { class: "quiet" }, "Nothing.");
  if (!sent.length) return [said, pane("The wire saw", nothing, "saw"), heard];
  return [said, pane("The wire saw", sent, "saw"), heard, pane("The wire saw, in reply", back, "saw")];
}

function pane(title, content, kind) {
  return element("div", { class: `pane ${kind}` }, element("h3", {}, title), ...[content].flat());
}

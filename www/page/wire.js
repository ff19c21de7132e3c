// Records what leaves the browser, by standing in for the platform's `fetch` that Bulla itself calls,
// and shows it beside what the application said.

import { byId, element } from "./dom.js";

const RECORDED = ["/.well-known/bulla/", "/twin/"];
const KEPT = 12;
const BYTES_SHOWN = 320;
const BYTES_PER_ROW = 8;

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

/** An HTTP message, or what stands for one: its first line, its fields, its body. */
export function message({ line, fields = [], text, bytes, length }) {
  const sealed = bytes && !isText(fields);
  const head = element(
    "dl",
    { class: "fields" },
    ...fields.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
  const body = sealed ? dump(bytes, length ?? bytes.length) : plain(text ?? decode(bytes));
  return element(
    "div",
    { class: "message" },
    element("p", { class: "first" }, line),
    fields.length ? head : null,
    body,
  );
}

const isText = (fields) => !fields.some(([name, value]) => name === "content-encoding" && value === "aes128gcm");

const decode = (bytes) => (bytes ? new TextDecoder().decode(bytes) : "");

function plain(text) {
  if (!text) return null;
  let shown = text;
  try {
    shown = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // Not JSON: as it is.
  }
  return element("pre", { class: "text", tabindex: "0", role: "group", "aria-label": "Body" }, shown);
}

/** Bytes in base 16 and as text, with the parts of the envelope (RFC 8188) told apart. */
function dump(bytes, length) {
  const regions = envelope(bytes);
  const shown = Math.min(bytes.length, BYTES_SHOWN);
  const rows = [];
  for (let at = 0; at < shown; at += BYTES_PER_ROW) {
    const row = [...bytes.subarray(at, Math.min(at + BYTES_PER_ROW, shown))];
    const spans = (write) =>
      row.map((byte, index) => element("span", { class: region(regions, at + index) }, write(byte)));
    rows.push(
      element("span", { class: "offset" }, at.toString(16).padStart(4, "0")),
      " ",
      ...spans((byte) => ` ${byte.toString(16).padStart(2, "0")}`),
      "   ".repeat(BYTES_PER_ROW - row.length),
      "  ",
      ...spans((byte) => (byte > 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·")),
      "\n",
    );
  }
  const key = regions.map(({ name, label, from, to }) =>
    element("li", { class: name }, label, element("span", { class: "quiet" }, ` ${Math.min(to, length) - from}`)),
  );
  const rest = length - shown;
  return element(
    "div",
    { class: "dump" },
    element("ul", { class: "key", "aria-label": "Parts of the envelope, in bytes" }, ...key),
    element("pre", { tabindex: "0", role: "group", "aria-label": `${length} sealed bytes` }, ...rows),
    rest > 0 ? element("p", { class: "rest" }, `and ${rest} bytes more like these`) : null,
  );
}

function envelope(bytes) {
  const ticket = bytes[20] ?? 0;
  const all = [
    { name: "salt", label: "salt", from: 0, to: 16 },
    { name: "size", label: "record size", from: 16, to: 20 },
    { name: "ticket", label: "ticket", from: 20, to: 21 + ticket },
    { name: "sealed", label: "sealed", from: 21 + ticket, to: Infinity },
  ];
  // A reply names no ticket.
  return all.filter(({ name }) => name !== "ticket" || ticket > 0).map((part) =>
    part.name === "size" && ticket === 0 ? { ...part, label: "record size, no ticket", to: 21 } : part,
  );
}

const region = (regions, at) => regions.find(({ from, to }) => at >= from && at < to)?.name ?? "";

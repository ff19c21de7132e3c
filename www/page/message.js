// Shows what crossed the wire: text as text, sealed bytes as bytes.

import { element } from "./dom.js";

const BYTES_SHOWN = 320;
const BYTES_PER_ROW = 8;

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

// What the server counts, as Prometheus gets it, for people.

import { byId, element } from "./dom.js";

const EVERY = 2000;

const NAMES = {
  bulla_requests_total: ({ proof, sealed }) =>
    `${sealed === "true" ? "sealed" : "signed"}, ${proof} proof`,
  bulla_events_total: ({ kind, code }) => (kind === "rule" ? `rule ${code}` : code || kind),
  bulla_open_streams: () => "streams under way",
};

/** Reads on for as long as somebody looks. */
export async function count() {
  for (;;) {
    if (document.visibilityState === "visible") await show().catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, EVERY));
  }
}

async function show() {
  const samples = parse(await (await fetch("/metrics")).text());
  for (const [list, wanted] of [
    ["passed", (metric) => metric === "bulla_requests_total"],
    ["noticed", (metric, { kind }) => metric === "bulla_events_total" && isTrouble(kind)],
    ["went", (metric, { kind }) => metric === "bulla_open_streams" || (kind && !isTrouble(kind))],
  ]) {
    const found = samples.filter(({ metric, labels }) => wanted(metric, labels));
    found.sort((one, other) => other.value - one.value);
    const most = Math.max(1, ...found.map(({ value }) => value));
    byId(list).replaceChildren(...found.map((sample) => row(sample, most)));
  }
}

const isTrouble = (kind) =>
  ["refused", "let_pass", "foreign_ticket", "cookie_unproven", "cookie_dropped", "upload_broken", "rule"].includes(kind);

function row({ metric, labels, value }, most) {
  return element(
    "li",
    {},
    element("span", {}, NAMES[metric](labels)),
    element("meter", { min: 0, max: most, value, "aria-hidden": "true" }),
    element("output", {}, String(value)),
  );
}

/** The text format, as far as our own metrics go. */
function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const [, metric, labels, value] = /^(bulla_\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (!metric || !NAMES[metric]) continue;
    const pairs = [...(labels ?? "").matchAll(/(\w+)="([^"]*)"/g)].map(([, name, text]) => [name, text]);
    samples.push({ metric, labels: Object.fromEntries(pairs), value: Number(value) });
  }
  return samples;
}

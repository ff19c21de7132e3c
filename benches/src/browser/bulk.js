// How fast 100 MiB come to the page, in MB per second: through the session, through the service worker by plain
// `fetch`, and as bare records.

import { open } from "/npm/index.js";

const MEBIBYTES = 100;
/** A record and how many of them WebCrypto has at once, as in the package. */
const RECORD = 64 * 1024;
const IN_FLIGHT = 8;

const session = await open({ server: location.origin });

const read = async (response) => {
  const reader = response.body.getReader();
  let length = 0;
  for (let piece; !(piece = await reader.read()).done; ) length += piece.value.length;
  return length;
};

/** The server seals one record, with a key of zeros, and sends it again and again. */
const key = await crypto.subtle.importKey("raw", new Uint8Array(16), "AES-GCM", false, ["decrypt"]);
const gcm = { name: "AES-GCM", iv: new Uint8Array(12) };

/** A stream as it comes, cut into records, each of them opened. */
const readRecords = async (response) => {
  const inFlight = [];
  let length = 0;
  const settle = async () => {
    length += (await inFlight.shift()).byteLength;
  };
  const open = async (record) => {
    inFlight.push(crypto.subtle.decrypt(gcm, key, record));
    if (inFlight.length === IN_FLIGHT) await settle();
  };
  const reader = response.body.getReader();
  let record = new Uint8Array(RECORD);
  let filled = 0;
  for (let piece; !(piece = await reader.read()).done; ) {
    let { value } = piece;
    while (value.length > 0) {
      // One that lies in the piece as a whole is not copied.
      if (filled === 0 && value.length >= RECORD) {
        await open(value.subarray(0, RECORD));
        value = value.subarray(RECORD);
        continue;
      }
      const part = value.subarray(0, RECORD - filled);
      record.set(part, filled);
      filled += part.length;
      value = value.subarray(part.length);
      if (filled < RECORD) continue;
      await open(record);
      [record, filled] = [new Uint8Array(RECORD), 0];
    }
  }
  if (filled > 0) await open(record.subarray(0, filled));
  while (inFlight.length > 0) await settle();
  return length;
};

/** A page beside this one, whose requests go through a service worker. */
const controlled = async () => {
  const frame = document.createElement("iframe");
  frame.src = "/bench/worker/page?/bench/worker.js";
  document.body.append(frame);
  await new Promise((resolve) => frame.addEventListener("load", resolve));
  await (await frame.contentWindow.script).ready;
  return frame.contentWindow;
};
const beside = await controlled();

const WAYS = {
  "bulk-raw": async () => readRecords(await fetch("/bench/bulk")),
  "bulk-page": async () => read(await session.fetch("/api/bulk")),
  "bulk-sw": async () => read(await beside.fetch("/api/bulk")),
};

export const measure = async () => {
  const samples = {};
  for (const [name, way] of Object.entries(WAYS)) {
    const start = performance.now();
    const length = await way();
    const seconds = (performance.now() - start) / 1000;
    if (length !== MEBIBYTES << 20) throw new Error(`${name}: ${length} bytes`);
    samples[name] = length / 1e6 / seconds;
  }
  return samples;
};

// Where a sealed request spends its time: calls into the module, and those of WebCrypto.

import * as glue from "/bench/build/bulla_web.js";
import { init, open } from "/bench/src/index.js";

const body = new Uint8Array(1024).fill(120);
const seen = new Map();

/** Counts and times the calls of a method. */
function watch(owner, key, name) {
  const found = Object.getOwnPropertyDescriptor(owner, key);
  const watched = (work) =>
    function (...given) {
      const start = performance.now();
      const done = () => {
        const entry = seen.get(name) ?? { calls: 0, time: 0 };
        seen.set(name, { calls: entry.calls + 1, time: entry.time + performance.now() - start });
      };
      const result = work.apply(this, given);
      if (!(result instanceof Promise)) done();
      else result.then(done, done);
      return result;
    };
  for (const kind of ["value", "get", "set"]) {
    if (typeof found[kind] === "function") found[kind] = watched(found[kind]);
  }
  Object.defineProperty(owner, key, found);
}

const isClass = (value) => typeof value === "function" && /^class/.test(String(value));
for (const [name, one] of Object.entries(glue).filter(([, one]) => isClass(one))) {
  for (const key of Object.getOwnPropertyNames(one.prototype)) {
    if (key !== "constructor") watch(one.prototype, key, `${name}.${key}`);
  }
}
for (const key of ["sign", "deriveKey", "deriveBits", "encrypt", "decrypt"]) {
  watch(Object.getPrototypeOf(crypto.subtle), key, `subtle.${key}`);
}
watch(window, "fetch", "the platform's fetch");

await init("/npm/bulla_web_bg.wasm");
const session = await open({ server: location.origin });

/** Of so many requests: name, calls of one, and their microseconds. */
export const profile = async (count) => {
  const times = async (count) => {
    const start = performance.now();
    for (let left = count; left > 0; left -= 1) {
      await (await session.fetch("/api/echo", { method: "POST", body })).arrayBuffer();
    }
    return performance.now() - start;
  };
  await times(count);
  seen.clear();
  const whole = await times(count);
  const rows = [...seen].map(([name, { calls, time }]) => [name, calls / count, (time * 1000) / count]);
  return [["a sealed request", 1, (whole * 1000) / count], ...rows].sort((one, other) => other[2] - one[2]);
};

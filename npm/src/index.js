// `bulla`: the Wasm module lies beside this script.

import { start } from "./session.js";
import { load } from "./wasm.js";

export { BullaError } from "./error.js";
export { Session } from "./session.js";

export function init(source) {
  return load(source, bundled);
}

export async function open(options) {
  await init(undefined);
  return start(options);
}

// Node's fetch does not read files.
function bundled() {
  const url = new URL("./bulla_web_bg.wasm", import.meta.url);
  const files = url.protocol === "file:" && globalThis.process?.getBuiltinModule?.("node:fs/promises");
  return files ? files.readFile(url) : url;
}

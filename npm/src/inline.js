// `bulla/inline`: the Wasm module lies in this script, for whatever loses a file beside it.

import module from "../build/optimised.wasm";
import { start } from "./handle.js";
import { loader } from "./wasm.js";

export { BullaError } from "./error.js";
export { Session } from "./handle.js";

export const init = /* @__PURE__ */ loader(() => module);

export async function open(options) {
  await init();
  return start(options);
}

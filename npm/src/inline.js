// `bulla/inline`: the Wasm module lies in this script, for whatever loses a file beside it.

import text from "../build/optimised.wasm";
import { start } from "./session.js";
import { load } from "./wasm.js";

export { BullaError } from "./error.js";
export { Session } from "./session.js";

export function init(source) {
  return load(source, () => Uint8Array.from(atob(text), (character) => character.charCodeAt(0)));
}

export async function open(options) {
  await init(undefined);
  return start(options);
}

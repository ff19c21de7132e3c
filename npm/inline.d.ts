/**
 * `bulla` with its Wasm module inside: one file, for bundlers and hosts that lose the file beside it. It is larger by a
 * third of the module, since the module is written as text; `init` need not be told where that is.
 */
export * from "./index.js";

// The Wasm module: how it comes to be there. What it can do is imported from its glue.

import { begin, imports } from "../build/bulla_web.js";
import { BullaError } from "./error.js";

/** The smallest module that there is. */
const NOTHING = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);

let loading;

/**
 * Loads the module, once: later calls wait for the same one, and a failed load can be repeated. `bundled` says where it
 * is if the caller does not.
 */
export function load(source, bundled) {
  loading ??= loaded(source ?? bundled()).catch((cause) => {
    loading = undefined;
    throw new BullaError("unsupported", reason(), { cause });
  });
  return loading;
}

async function loaded(source) {
  begin(await instantiate(await source, imports()));
}

/** @returns {Promise<any>} */
async function instantiate(source, imports) {
  if (source instanceof WebAssembly.Module) return WebAssembly.instantiate(source, imports);
  if (typeof source === "string" || source instanceof URL || source instanceof Request) source = await fetch(source);
  if (source instanceof Response) {
    if (!source.ok) throw new Error(`${source.url} answers ${source.status}`);
    // What is served as anything else cannot be compiled while it comes.
    const isWasm = source.headers.get("content-type") === "application/wasm";
    if (isWasm) return (await WebAssembly.instantiateStreaming(source, imports)).instance;
    source = await source.arrayBuffer();
  }
  return (await WebAssembly.instantiate(source, imports)).instance;
}

/** Why it was not loaded. Engines each have their own words for a policy that forbids it. */
function reason() {
  if (!globalThis.WebAssembly) return "this browser has no WebAssembly, or it is switched off";
  try {
    // WebKit compiles what it then does not run.
    new WebAssembly.Instance(new WebAssembly.Module(NOTHING));
    return "the Wasm module could not be loaded: is it served where the package's script is?";
  } catch {
    return "the Content-Security-Policy in force here forbids Wasm: add 'wasm-unsafe-eval' to its script-src";
  }
}

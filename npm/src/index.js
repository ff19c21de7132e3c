import { Client } from "./client.js";
import load from "../build/bulla_web.js";
import { BullaError } from "./error.js";
import { end, run } from "./fetch.js";

export { BullaError };

let loading;

export function init(source) {
  loading ??= start(source).catch((error) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

async function start(source) {
  try {
    // The module's own exports stay in here.
    await load({ module_or_path: source ?? (await bundled()) });
  } catch (cause) {
    throw new BullaError("unsupported", "the Wasm module could not be loaded: is it served, and is it allowed by the page's policy?", { cause });
  }
}

// Node's fetch does not read files.
function bundled() {
  const url = new URL("./bulla_web_bg.wasm", import.meta.url);
  const files = url.protocol === "file:" && globalThis.process?.getBuiltinModule?.("node:fs/promises");
  return files ? files.readFile(url) : url;
}

export async function open(options) {
  await init();
  return new Session(ours, await Client.start(options));
}

const ours = Symbol();

export class Session {
  #client;

  constructor(token, client) {
    if (token !== ours) throw new TypeError("Illegal constructor");
    this.#client = client;
    // An own property, so that it can be handed on by itself, like the platform's.
    Object.defineProperty(this, "fetch", {
      /**
       * @param {RequestInfo | URL} input
       * @param {RequestInit | undefined} init
       */
      async value(input, init = undefined) {
        if (arguments.length === 0) throw new TypeError("fetch wants a request");
        return run(client, input, init);
      },
    });
  }

  get id() {
    return this.#client.session?.id ?? null;
  }

  get authenticated() {
    return this.#client.session?.authenticated ?? false;
  }

  get storage() {
    return this.#client.storage;
  }

  get identity() {
    return this.#client.pin;
  }

  get device() {
    return this.#client.thumbprint;
  }

  end() {
    return end(this.#client);
  }

  async forget() {
    try {
      await end(this.#client);
    } finally {
      await this.#client.forgetDevice();
    }
  }
}

import load, { open as openSession } from "./dist/bulla_web.js";
import { BullaError, encoded } from "./support.js";

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
    const error = new BullaError("unsupported", "the Wasm module could not be loaded");
    error.cause = cause;
    throw error;
  }
}

// Node's fetch does not read files.
async function bundled() {
  const url = new URL("./dist/bulla_web_bg.wasm", import.meta.url);
  if (url.protocol !== "file:" || !globalThis.process?.versions?.node) return url;
  const { readFile } = await import(/* webpackIgnore: true */ /* @vite-ignore */ "node:fs/promises");
  return readFile(url);
}

export async function open(options) {
  await init();
  return new Session(ours, await openSession(options));
}

const ours = Symbol();

export class Session {
  #session;

  constructor(token, session) {
    if (token !== ours) throw new TypeError("Illegal constructor");
    this.#session = session;
    // An own property, so that it can be handed on by itself, like the platform's.
    Object.defineProperty(this, "fetch", {
      async value(input, init = undefined) {
        if (arguments.length === 0) throw new TypeError("fetch wants a request");
        return session.fetch(input, init?.body instanceof FormData ? { __proto__: init, body: encoded(init.body) } : init);
      },
    });
  }

  get id() {
    return this.#session.info().id ?? null;
  }

  get authenticated() {
    return this.#session.info().authenticated;
  }

  get storage() {
    return this.#session.info().storage;
  }

  get identity() {
    return this.#session.info().identity;
  }

  get device() {
    return this.#session.info().device;
  }

  end() {
    return this.#session.end();
  }

  forget() {
    return this.#session.forget();
  }
}

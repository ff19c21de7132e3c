// What the application holds: a session, as a handle on the client behind it.

import { Client } from "./client.js";
import { dpop } from "./dpop.js";
import { eventSource } from "./events.js";
import { end, run } from "./fetch.js";
import { base } from "./request.js";

/** Opens a session, once the Wasm module is there. */
export async function start(options) {
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

  events(url, init = undefined) {
    return eventSource(/** @type {any} */ (this).fetch, base(this.#client), url, init);
  }

  dpop(request) {
    return dpop(this.#client, request);
  }

  get origin() {
    return this.#client.origin;
  }

  get id() {
    return this.#client.about.id;
  }

  get authenticated() {
    return this.#client.about.authenticated;
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

  on(type, listener) {
    return this.#client.on(type, listener);
  }

  end() {
    return end(this.#client);
  }

  forget() {
    return end(this.#client, true);
  }
}

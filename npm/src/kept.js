// Keeps a service worker alive while it answers with streams, where its engine would stop it.

import { ENDS_SILENTLY } from "./engines.js";
import { ignore } from "./platform.js";

/** How often it asks for an event, in milliseconds. */
const OFTEN = 5000;
/** When it gives up, in milliseconds after the last one: before it is stopped. */
const LATE = 25_000;
/** How many streams are remembered that nobody has asked about. */
const MOST = 1000;

/** What pages and the worker say to each other. */
export const AWAKE = "bulla: awake";
export const COMPLETE = "bulla: complete";
export const CLAIM = "bulla: claim";
/** Names a stream that is only complete if the worker says so. */
export const STREAM = "bulla-stream";

export class Kept {
  #worker;
  /** The streams that are open, by name: how each is broken off. */
  #open = new Map();
  /** Those that have come to their end, until the page has asked. */
  #complete = new Set();
  #last = 0;
  #timer;

  constructor(worker) {
    this.#worker = worker;
  }

  /** There was an event. */
  heard() {
    this.#last = performance.now();
  }

  /** A page has something to say. */
  hear({ data, ports }) {
    this.heard();
    if (data === CLAIM) this.#worker.clients.claim();
    if (data?.[0] === COMPLETE) ports[0].postMessage(this.#complete.delete(data[1]));
  }

  /**
   * The same stream, while the worker is kept alive for it. It breaks off where that cannot be done. Among `fields` of
   * the reply, names and values, goes its name: by that a page can ask whether the stream has come to its end.
   */
  watch = (stream, fields) => {
    if (!ENDS_SILENTLY) return stream;
    const name = crypto.randomUUID();
    fields.push([STREAM, name]);
    const reader = stream.getReader();
    this.#timer ??= setInterval(() => this.#ask(), OFTEN);
    return new ReadableStream({
      start: (controller) => {
        this.#open.set(name, () => {
          controller.error(new TypeError("the service worker is about to be stopped"));
          ignore(reader.cancel());
        });
      },
      pull: async (controller) => {
        try {
          const { done, value } = await reader.read();
          if (!done) return controller.enqueue(value);
        } catch (error) {
          this.#close(name);
          throw error;
        }
        this.#close(name);
        this.#complete.add(name);
        // A page that never asks must not fill the memory.
        if (this.#complete.size > MOST) this.#complete.delete(this.#complete.values().next().value);
        controller.close();
      },
      cancel: (reason) => {
        this.#close(name);
        return reader.cancel(reason);
      },
    });
  };

  /** Asks all pages for an event. */
  async #ask() {
    if (performance.now() - this.#last > LATE) {
      for (const [name, breakOff] of this.#open) {
        this.#close(name);
        breakOff();
      }
    }
    const pages = await this.#worker.clients.matchAll({ includeUncontrolled: true });
    for (const page of pages) page.postMessage(AWAKE);
  }

  #close(name) {
    this.#open.delete(name);
    if (this.#open.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

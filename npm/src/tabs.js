// How tabs tell each other that the session in the store is another one, or gone.

const CHANNEL = "bulla";

/** Whether another tab has changed what is stored, and this one has not read it. */
export class News {
  isOutdated = false;
  #origin;
  #channel;

  constructor(origin, hear) {
    this.#origin = origin;
    this.#channel = new BroadcastChannel(CHANNEL);
    this.#channel.onmessage = ({ data }) => {
      if (data !== origin) return;
      this.isOutdated = true;
      hear();
    };
  }

  /** Nothing where there are no channels, and no store that other tabs share. */
  static of({ storage, origin }, hear) {
    return storage === "indexeddb" && globalThis.BroadcastChannel ? new News(origin, hear) : undefined;
  }

  /** The store has been read. */
  read() {
    this.isOutdated = false;
  }

  /** The store has been written. */
  tell() {
    // A tab that does not hear it finds out by being refused.
    this.#channel.postMessage(this.#origin);
  }

  close() {
    this.#channel.close();
  }
}

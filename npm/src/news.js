// How tabs tell each other that there is a newer session in the store.

const CHANNEL = "bulla";

/** Whether another tab has stored a session that this one has not read. */
export class News {
  isOutdated = false;
  #origin;
  #channel;

  constructor(origin) {
    this.#origin = origin;
    this.#channel = new BroadcastChannel(CHANNEL);
    this.#channel.onmessage = ({ data }) => {
      if (data === origin) this.isOutdated = true;
    };
  }

  /** Nothing where there are no channels, and no store that other tabs share. */
  static of({ storage, origin }) {
    return storage === "indexeddb" && globalThis.BroadcastChannel ? new News(origin) : undefined;
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

// The content of a sealed reply, opened as it comes.

import { Unsealer } from "../build/bulla_web.js";
import { BullaError } from "./error.js";
import { decrypt, messageKey } from "./keys.js";
import { SLICE, ignore, joined } from "./platform.js";

/** How much content is handed on in one piece, about: each piece costs a turn of the stream. */
const PIECE = 64 * 1024;
/** How many records WebCrypto has at least, if they are here, while the thread waits for one. */
const AHEAD = 4;

/** The content of a sealed reply. */
export class SealedContent {
  #source;
  #signal;
  #unsealer = new Unsealer();
  #key;
  /** Records that WebCrypto is working at, in order. */
  #inFlight = [];
  /** What came from the network and is not in the module yet. */
  #chunk = new Uint8Array();
  #isDrained = false;
  /** Nothing is missing, and nothing will come. */
  #isDone = false;
  /** Content that was read ahead. */
  #ahead = [];

  constructor(signal) {
    this.#signal = signal;
  }

  /** Takes the stream that it comes in. */
  from(body) {
    this.#source = body.getReader();
  }

  /** Reads up to the end of the inner head, and gives that. It answers this request. */
  async head(base, rules) {
    let salt;
    do await this.#take();
    while (!(salt = this.#unsealer.salt));
    this.#key = await messageKey(base, salt, "decrypt");
    for (;;) {
      if (await this.#openRecord()) {
        const head = this.#unsealer.head(rules);
        if (head) return head;
      } else if (this.#isDrained) {
        this.#unsealer.finish();
        throw new BullaError("reply_invalid", "there is no message inside");
      } else await this.#take();
    }
  }

  /** The next piece of content; nothing when the final record has been seen and nothing is missing. */
  async next() {
    if (this.#ahead.length > 0) return this.#ahead.shift();
    if (this.#isDone) return undefined;
    try {
      return await this.#read();
    } catch (error) {
      this.cancel();
      throw error;
    }
  }

  /** The whole content, if it is no longer than this; else nothing. It can be read once more. */
  async peek(limit) {
    const pieces = [];
    let length = 0;
    let piece;
    while (length <= limit && (piece = await this.next())) {
      pieces.push(piece);
      length += piece.length;
    }
    this.#ahead = pieces;
    return piece ? undefined : joined(pieces);
  }

  /** The content to its end, if all of it is here already, so that there is nothing to wait for. */
  rest() {
    if (!this.#isDone) {
      const rest = this.#unsealer.rest();
      if (!rest) return undefined;
      this.#ahead.push(rest);
      this.#close();
    }
    return joined(this.#ahead);
  }

  /** A stream of the content. It ends in an error if the seal is broken or the final record is missing. */
  stream() {
    return new ReadableStream({
      pull: async (controller) => {
        const piece = await this.next();
        if (piece) controller.enqueue(piece);
        else controller.close();
      },
      cancel: (reason) => this.#source.cancel(reason),
    });
  }

  /** Stops the reply. */
  cancel() {
    ignore(this.#source.cancel());
  }

  /** Opens what is here, and takes more until there is something to hand on. */
  async #read() {
    const unsealer = this.#unsealer;
    for (;;) {
      // Small records that came together go on together.
      const isOpened = unsealer.held < PIECE && (await this.#openRecord());
      if (isOpened) continue;
      if (unsealer.held > 0) return unsealer.content();
      if (this.#isDrained) {
        unsealer.finish();
        this.#close();
        return undefined;
      }
      await this.#take();
    }
  }

  /** Nothing is missing. */
  #close() {
    this.#unsealer.free();
    this.#isDone = true;
  }

  /** Opens the next record of those that are here. Resolves with whether there was one. */
  async #openRecord() {
    this.#decrypt();
    while (this.#inFlight.length < AHEAD && this.#chunk.length > 0) {
      this.#push();
      this.#decrypt();
    }
    if (this.#inFlight.length === 0) return false;
    const plain = await this.#inFlight.shift();
    if (!plain) throw new BullaError("reply_broken", "a record of the reply cannot be opened");
    this.#unsealer.opened(plain);
    return true;
  }

  /** Gives WebCrypto what is in the module. */
  #decrypt() {
    const { key, nonce } = this.#key;
    for (let record; (record = this.#unsealer.record(nonce)); ) {
      this.#inFlight.push(decrypt(key, record));
    }
  }

  /** Takes more cipher text. */
  async #take() {
    if (this.#chunk.length === 0) {
      const { done, value } = await this.#source.read().catch(() => {
        this.#signal.throwIfAborted();
        throw new BullaError("reply_truncated", "the reply ends before its final record");
      });
      if (done) {
        this.#isDrained = true;
        this.#unsealer.end();
        return;
      }
      this.#chunk = value;
    }
    this.#push();
  }

  #push() {
    this.#unsealer.push(this.#chunk.subarray(0, SLICE));
    this.#chunk = this.#chunk.subarray(SLICE);
  }
}

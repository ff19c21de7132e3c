// What stands behind a `Session` object: the device, the current session and how to come by one.

import { Opening, Server, checkThumbprint, isOver, sealedFields, thumbprint } from "../build/bulla_web.js";
import { BullaError, codeOf, checked, wrong } from "./error.js";
import { isKey, isSession, seemsOver } from "./held.js";
import { agree, generateAgreement, generateDevice, randomBytes } from "./keys.js";
import { exchanged } from "./opening.js";
import { ignore, locked, pairs, seconds } from "./platform.js";
import { change, findStorage, get, put, remove } from "./storage.js";
import { News } from "./tabs.js";

export const OPTIONS = { server: "string", identity: "string", prefix: "string", seal: "boolean", debug: "boolean" };

/** What the application wants. */
export function settings(options) {
  const { server, identity, prefix, seal, debug } = checked("open", options, OPTIONS);
  const url = parsed(server);
  if (url?.pathname !== "/" || url.search) throw wrong("the server is not an origin");
  if (identity !== undefined) checkThumbprint(identity);
  const { origin } = url;
  return { origin, server: new Server(origin, prefix), pin: identity, seal: seal ?? true, debug };
}

/** A URL, if it is one. */
export function parsed(url) {
  try {
    return new URL(url);
  } catch {
    return undefined;
  }
}

/** One device's standing with one server. */
export class Client {
  server;
  origin;
  seal;
  /** Where sealed requests go, and the fields that say what they are. */
  sealedUrl;
  sealedFields;
  device;
  storage;
  /** The thumbprint of the device key. */
  thumbprint;
  /** The session as it stands, if there is one: plain data and handles of keys, as it is stored. */
  session;
  /** The thumbprint of the pinned identity. */
  pin;
  /** Only an isolated session has it: throws where a URL is not to be reached. */
  guard;
  /** How many requests there have been: each is told of by its number. */
  requests = 0;
  #listeners = { event: new Set(), change: new Set() };
  /** What listeners were told last, or could have seen. */
  #told;
  #isPinned;
  #isClosed = false;
  #news;
  /** Where the device key was found or put. */
  #home;

  constructor(options, guard) {
    const { origin, server, pin, seal, debug } = settings(options);
    this.guard = guard;
    this.server = server;
    this.origin = origin;
    this.seal = seal;
    this.sealedUrl = origin + server.sealedPath;
    this.sealedFields = pairs(sealedFields());
    this.pin = pin;
    this.#isPinned = pin !== undefined;
    if (debug) {
      const script = import("./later/debug.js");
      this.on("event", (event) => script.then(({ tell }) => tell(event)));
    }
  }

  /**
   * Loads or makes the device key, and takes a session from the store or opens one.
   * @param {any} options
   * @param {((url: string) => void) | undefined} guard
   */
  static async start(options, guard = undefined) {
    const client = new Client(options, guard);
    await client.#locked(() => client.#loadDevice());
    if (!guard) client.#news = News.of(client, () => ignore(client.#hear()));
    try {
      await client.otherThan(undefined);
    } catch (error) {
      await client.close();
      throw error;
    }
    return client;
  }

  /** What the session tells about itself, and may change. */
  get about() {
    const { id = null, authenticated = false } = this.session ?? {};
    return { id, authenticated, device: this.thumbprint, storage: this.storage };
  }

  /** Has a listener hear of what happens, or of what changes. Returns what takes it off again. */
  on(type, listener) {
    const listeners = this.#listeners[type];
    if (!listeners || typeof listener !== "function") throw new TypeError('on wants "event" or "change", and a function');
    // What it throws is reported, and disturbs nobody.
    const call = (told) => queueMicrotask(() => listeners.has(call) && listener(told));
    listeners.add(call);
    return () => void listeners.delete(call);
  }

  /**
   * Tells whoever listens that something happens. Nothing of it may be a secret.
   * @param {string} type
   * @param {object} details
   * @param {{ number: number, method: string, url: string } | undefined} request
   */
  tell(type, details = {}, request = undefined) {
    const { event } = this.#listeners;
    if (event.size === 0) return;
    const of = request && { request: request.number, method: request.method, path: new URL(request.url).pathname };
    for (const call of event) call({ type, ...of, ...details });
  }

  /** Tells whoever listens if the session is another one than before, or says so. */
  #changed() {
    const { about } = this;
    const now = Object.values(about).join();
    if (now === this.#told) return;
    this.#told = now;
    for (const call of this.#listeners.change) call(about);
  }

  /** The session to be used now, if nothing has to be done to come by it; else ask for `otherThan(undefined)`. */
  get usable() {
    this.#checkOpen();
    const { session } = this;
    return session && !this.#news?.isOutdated && !seemsOver(session) ? session : undefined;
  }

  /** Another session than one that the server refuses: the current one, one from the store, or one opened anew. */
  otherThan(refused) {
    return this.#locked(async () => {
      this.#checkOpen();
      await this.#readPin();
      if (refused !== undefined && this.session && this.session.id !== refused) return this.session;
      await this.#catchUp(this.#news?.isOutdated);
      const { session } = this;
      if (!session || session.id === refused) return this.#open(undefined);
      if (!seemsOver(session)) return session;
      // That of an earlier device key, which this one cannot go on from.
      if (session.device !== this.thumbprint) return this.#open(undefined);
      try {
        return await this.#open(session.ticket);
      } catch (error) {
        if (isOver(codeOf(error))) return this.#open(undefined);
        throw error;
      }
    });
  }

  /**
   * The session as it stands, also if another handle has stored a newer one and this one has not heard of it. Who
   * wants to end it does not wait for whatever opens one.
   */
  async latest() {
    // Whoever has ended it is done: what others have stored since is theirs.
    if (this.#isClosed) return undefined;
    const before = this.session;
    const stored = await this.#stored();
    // A login may have come about meanwhile.
    if (stored && this.session === before) this.session = stored;
    this.#news?.read();
    this.#changed();
    return this.session;
  }

  /** The device key, also if another tab has had it rotated and this one has not heard of it. */
  async latestDevice() {
    this.#checkOpen();
    await this.#reloadDevice();
    return this.device;
  }

  /** Another tab has stored a session, or let go of it. */
  #hear() {
    return this.#locked(async () => {
      if (!this.#isClosed) await this.#catchUp(true);
    });
  }

  /** Goes over to the session that is stored, or to none if another tab has told so. The caller holds the lock. */
  async #catchUp(isTold) {
    const { session } = this;
    const stored = await this.#stored();
    if (stored || (isTold && stored === null)) this.session = stored ?? undefined;
    this.#news?.read();
    const { id } = this.session ?? {};
    if (id !== session?.id) this.tell(id ? "found" : "ended");
  }

  /** Takes what the server hands out beside a reply, if that is anything new. */
  async take(session, handout) {
    if (!handout) return;
    const { nonce = session.nonce, ticket, carryOver, rotate, ended } = handout;
    handout.free();
    const isNew = nonce !== session.nonce || (ticket !== undefined && ticket !== session.ticket);
    session.nonce = nonce;
    // The server hands one out only after it has seen a device proof.
    if (ticket !== undefined) Object.assign(session, { ticket, ticketCame: seconds(), confirmed: true });
    // Even if the application gives up meanwhile: the old session is over.
    // Whoever ends TLS must not have the key thrown away.
    if (carryOver !== undefined) await this.#carryOver(session, carryOver, rotate && this.seal);
    else if (ended) await this.drop(session);
    else if (isNew) await this.#save(session);
  }

  /** Lets go of a session that has ended. */
  async drop(session) {
    if (this.session?.id === session.id) {
      this.session = undefined;
      this.tell("ended");
    }
    this.#changed();
    // If it stays in the store, the server refuses it.
    const stored = await this.#changeSession((stored) => (stored?.id === session.id ? null : undefined));
    if (stored?.id === session.id) this.#news?.tell();
  }

  /** From now on nothing is sent. Lets go of a session, if one is given, and of the device key if that is asked for. */
  async close(last = undefined, forgets = false) {
    this.#isClosed = true;
    try {
      if (last) await this.drop(last);
      if (forgets) await this.#forgetDevice();
    } finally {
      this.#leave();
    }
  }

  /** Removes the device key, so that the next opening is another device's. */
  async #forgetDevice() {
    try {
      await remove(this.#home, this.#key("device"));
      this.#news?.tell();
    } catch (cause) {
      throw new BullaError("unsupported", "the device key could not be deleted", { cause });
    }
  }

  /** Opens a session with the carry-over ticket of one that has ended. It is good for one opening. */
  #carryOver(session, ticket, rotate) {
    return this.#locked(async () => {
      try {
        this.#checkOpen();
        // The login of another tab may have come about first, and rotated the key: this ticket is then no key's that is left.
        await this.#reloadDevice();
        if (session.device !== this.thumbprint) throw new BullaError("session_revoked", "the device key was rotated meanwhile");
        await this.#open(ticket, rotate ? await this.#rotateDevice() : undefined);
      } catch (error) {
        // In the store too: whatever is sent next would be refused for it, and fail if it is not safe.
        await this.drop(session);
        throw error;
      }
    });
  }

  /** Writes what the server has handed out for this session, unless another session is stored. */
  async #save(session) {
    // The next page will have to ask the server once more if this fails; nothing else is lost.
    const stored = await this.#changeSession((stored) => (stored?.id === session.id ? session : undefined));
    // There may be nothing left of what was stored.
    if (!stored) await this.#reloadDevice();
  }

  async #changeSession(decide) {
    try {
      return await change(this.#shelf, this.#key("session"), decide);
    } catch {
      // Whoever calls this says what is lost then.
    }
  }

  /**
   * Puts a new device key in the place of this one, and returns this one. It stays, whatever comes of the opening: the
   * server may have locked out the old one and its answer be lost. Nothing where no other can be kept.
   */
  async #rotateDevice() {
    const { device } = this;
    try {
      const next = await generateDevice();
      await put(this.storage, this.#key("device"), next);
      this.#useDevice(next);
      return device;
    } catch {
      return undefined;
    }
  }

  /**
   * Opens a session, or carries over that of a ticket, by a new device key if one before it is given. The caller holds
   * the lock.
   * @param {string | undefined} carried
   * @param {{ private: CryptoKey, public: Uint8Array } | undefined} previous
   */
  async #open(carried, previous = undefined) {
    this.#checkOpen();
    const story = { carries: carried !== undefined, rotates: previous !== undefined };
    this.tell("opening", story);
    try {
      const session = await this.#openNow(carried, previous);
      this.tell("opened", { ...story, authenticated: session.authenticated });
      return session;
    } catch (error) {
      this.tell("failed", { code: codeOf(error) });
      throw error;
    }
  }

  async #openNow(carried, previous) {
    const agreement = await generateAgreement();
    const { device, thumbprint, server } = this;
    const opening = new Opening(
      server,
      device.public,
      agreement.public,
      this.pin,
      randomBytes(32),
      carried,
      seconds(),
      previous?.public,
    );
    const opened = await exchanged(this, opening, device, previous);
    const keys = await agree(agreement.private, opened);
    const { id, identity, authenticated, sessionProof, nonceLife, ticketLife, ticket, nonce } = opened;
    opened.free();
    // Whoever has closed the client meanwhile must not find it with a session again.
    this.#checkOpen();
    const session = {
      id,
      identity,
      key: device.private,
      device: thumbprint,
      authenticated,
      sessionProof,
      nonceLife,
      ticketLife,
      ticket,
      nonce,
      ticketCame: seconds(),
      /** A device proof has been seen by the server: it has handed out a further ticket. */
      confirmed: false,
      /** The server has refused a session proof. */
      wantsDevice: false,
      ...keys,
    };
    this.session = session;
    this.#news?.read();
    await this.#storeOpened(session);
    return session;
  }

  /** Stores a new session and tells the other tabs. What cannot be stored lives as long as this page. */
  async #storeOpened(session) {
    const { identity } = session;
    try {
      if (this.pin !== identity || this.#isPinned) await put(this.storage, this.#key("identity"), identity);
    } catch {
      // The next page trusts on first use again, or is told the pin again.
    }
    this.pin = identity;
    try {
      await put(this.#shelf, this.#key("session"), session);
      this.#news?.tell();
    } catch {
      this.#standAlone();
    }
  }

  async #loadDevice() {
    this.storage = await findStorage();
    this.device = await this.#storedDevice().catch(() => undefined);
    if (!this.device) {
      // Some private modes open a database and refuse to keep keys in it.
      this.storage = "memory";
      this.device = await this.#storedDevice();
    }
    this.#useDevice(this.device);
    this.#home = this.storage;
  }

  #useDevice(device) {
    this.device = device;
    this.thumbprint = thumbprint(device.public);
  }

  /** Another tab may have a newer device key, or this one may be there no more. */
  async #reloadDevice() {
    try {
      const stored = await get(this.storage, this.#key("device"));
      if (isDevice(stored)) this.#useDevice(stored);
      else this.#standAlone();
    } catch {
      // It may be there the next time.
    }
  }

  /** From now on this page goes by what it holds: it is not what is stored, and will not be. */
  #standAlone() {
    this.storage = "memory";
    this.#leave();
    this.#changed();
  }

  /** What other tabs do is not heard any more. */
  #leave() {
    this.#news?.close();
    this.#news = undefined;
  }

  /** The device key that is stored, or else one that is now. */
  async #storedDevice() {
    const key = this.#key("device");
    const stored = await get(this.storage, key);
    if (isDevice(stored)) return stored;
    const device = await generateDevice();
    await put(this.storage, key, device);
    return device;
  }

  /** Takes the identity that was pinned here before, or by another tab since. The caller holds the lock. */
  async #readPin() {
    if (this.pin !== undefined) return;
    try {
      const pin = await get(this.storage, this.#key("identity"));
      if (pin === undefined) return;
      checkThumbprint(pin);
      this.pin = pin;
    } catch (cause) {
      // Not as if there were none: whoever answers would be trusted once more.
      throw new BullaError("unsupported", "the pinned identity cannot be read", { cause });
    }
  }

  /** The session in the store, if it is one between this device and this identity; `null` if there is none at all. */
  async #stored() {
    try {
      await this.#reloadDevice();
      const stored = await get(this.#shelf, this.#key("session"));
      if (stored === undefined) return null;
      const isOurs = isSession(stored) && stored.device === this.thumbprint && stored.identity === this.pin;
      return isOurs ? { ...stored, wantsDevice: false } : undefined;
    } catch {
      return undefined;
    }
  }

  #checkOpen() {
    if (this.#isClosed) throw new BullaError("session_closed", "the session is closed");
  }

  /** Where the session is kept. An isolated one stays in this realm, whatever can be stored. */
  get #shelf() {
    return this.guard ? "memory" : this.storage;
  }

  #key(kind) {
    return `${kind} ${this.origin}`;
  }

  #locked(work) {
    return locked(`bulla ${this.origin}`, async () => {
      try {
        return await work();
      } finally {
        this.#changed();
      }
    });
  }
}

function isDevice(stored) {
  try {
    return isKey(stored.private, "ECDSA") && thumbprint(stored.public) !== "";
  } catch {
    return false;
  }
}

// Server-sent events (HTML standard, section 9.2): how a stream is read, and taken up again where it has broken off.

const [CONNECTING, OPEN, CLOSED] = [0, 1, 2];

/** What may be over when the stream is asked for once more. All else stays, or somebody on the path touches it. */
const PASSING = new Set([
  "too_slow",
  "proof_weak",
  "nonce_stale",
  "replayed",
  "session_unconfirmed",
  "session_revoked",
  "ticket_expired",
  "ticket_invalid",
  "work_required",
  "rate_limited",
  "store_unavailable",
  "internal",
  "reply_invalid",
  "reply_unsealed",
  "reply_truncated",
  "network",
]);

/** The reconnection time, unless the server sets another one. All times are in milliseconds. */
const RETRY = 3000;
/** Timers that are set to more are over at once. */
const LONGEST = 2 ** 31 - 1;
/** What is waited in addition after a failure, at most: twice as long after each, but no longer than the second. */
const [BACK_OFF, LONGEST_BACK_OFF] = [1000, 60_000];

/**
 * Follows an event stream until it is closed or fails for good.
 * @param {(url: string, init: RequestInit) => Promise<Response>} fetch
 * @param {{ url: string, withCredentials: boolean }} source
 * @param {AbortSignal} signal says that it is closed
 * @param {(readyState: number, event: Event, error?: any) => void} tell
 */
export async function follow(fetch, { url, withCredentials }, signal, tell) {
  /** @type {RequestInit} */
  const init = { credentials: withCredentials ? "include" : "same-origin", signal };
  const standing = { lastEventId: "", retry: RETRY };
  for (let failures = 0; !signal.aborted; ) {
    let isOpen = false;
    let error;
    try {
      const reply = await fetch(url, { ...init, headers: fields(standing) });
      if (!isEventStream(reply)) {
        reply.body?.cancel().catch(() => {});
        tell(CLOSED, new Event("error"));
        return;
      }
      isOpen = true;
      tell(OPEN, new Event("open"));
      await read(reply, new Parser(standing), (event) => tell(OPEN, event));
    } catch (cause) {
      error = cause;
    }
    if (signal.aborted) return;
    const isOver = error && !passes(error, isOpen);
    tell(isOver ? CLOSED : CONNECTING, new Event("error"), error);
    if (isOver) return;

    failures = isOpen ? 0 : failures + 1;
    await pause(standing.retry, signal);
    // By chance, since many lose a server in the same moment. Who has a network again need not wait any longer.
    const most = Math.min(BACK_OFF * 2 ** failures, LONGEST_BACK_OFF);
    if (failures > 0) await pause(Math.random() * most, signal, globalThis);
  }
}

/** @returns {Record<string, string>} */
function fields({ lastEventId }) {
  const accept = "text/event-stream";
  return lastEventId === "" ? { accept } : { accept, "last-event-id": lastEventId };
}

function isEventStream({ status, headers }) {
  const [type] = (headers.get("content-type") ?? "").split(";", 1);
  return status === 200 && type.trim().toLowerCase() === "text/event-stream";
}

/** Whether another attempt may do better. What is no `BullaError` is about the arguments, or breaks off an open stream. */
function passes(error, isOpen) {
  return error.name === "BullaError" ? PASSING.has(error.code) : isOpen;
}

/** Reads a reply to its end. */
async function read(reply, parser, dispatch) {
  const { origin } = new URL(reply.url);
  const decoder = new TextDecoder();
  const reader = reply.body.getReader();
  for (let piece; !(piece = await reader.read()).done; ) {
    for (const { type, ...init } of parser.push(decoder.decode(piece.value, { stream: true }))) {
      dispatch(new MessageEvent(type, { ...init, origin }));
    }
  }
}

/** Takes one reply apart (section 9.2.6). What outlives the reply goes into `standing`. */
class Parser {
  #standing;
  /** The line that is not at its end yet. */
  #line = "";
  /** It began after a carriage return: if a line feed is next, that is no further end. */
  #isAfterReturn = false;
  #data = "";
  #type = "";
  #id;

  constructor(standing) {
    this.#standing = standing;
    this.#id = standing.lastEventId;
  }

  /** The events that end in this text. */
  push(text) {
    if (text === "") return [];
    const lines = (this.#isAfterReturn ? text.replace(/^\n/, "") : text).split(/\r\n|\r|\n/);
    this.#isAfterReturn = text.endsWith("\r");
    lines[0] = this.#line + lines[0];
    this.#line = lines.pop();
    return lines.map((line) => this.#take(line)).filter((event) => event);
  }

  #take(line) {
    if (line === "") return this.#event();
    const [, name, value = ""] = line.match(/^([^:]*)(?:: ?(.*))?$/s);
    if (name === "data") this.#data += `${value}\n`;
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.#standing.retry = Math.min(Number(value), LONGEST);
    return undefined;
  }

  #event() {
    const [data, type, lastEventId] = [this.#data, this.#type, this.#id];
    this.#data = this.#type = "";
    this.#standing.lastEventId = lastEventId;
    return data === "" ? undefined : { type: type || "message", data: data.slice(0, -1), lastEventId };
  }
}

/**
 * Waits, unless the stream is closed, or the platform says that there is a network again.
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 * @param {any} [platform]
 */
function pause(milliseconds, signal, platform) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      platform?.removeEventListener?.("online", end);
      resolve(undefined);
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
    platform?.addEventListener?.("online", end);
    if (signal.aborted) end();
  });
}

// Server-sent events, as far as the page holds them. How a stream is followed is in `later/events.js`.

import { BullaError } from "./error.js";

const CLOSED = 2;

/** What the platform's `EventSource` is (HTML standard, section 9.2), over this `fetch`. */
export function eventSource(fetch, base, url, init) {
  /** @type {any} */
  const source = new EventTarget();
  const control = new AbortController();
  const own = {
    CONNECTING: 0,
    OPEN: 1,
    CLOSED,
    url: parsed(url, base),
    withCredentials: !!init?.withCredentials,
    readyState: 0,
    onopen: null,
    onmessage: null,
    onerror: null,
    close() {
      own.readyState = CLOSED;
      control.abort();
    },
  };
  for (const name in own) {
    const [, type] = name.split(/^on/);
    // The same for all handlers, so that one in the place of another keeps its turn among the listeners.
    const call = (event) => own[name].call?.(source, event);
    const set = (handler) => {
      own[name] = Object(handler) === handler ? handler : null;
      source[own[name] ? "addEventListener" : "removeEventListener"](type, call);
    };
    Object.defineProperty(source, name, { enumerable: true, get: () => own[name], set: type ? set : undefined });
  }
  /** @type {(readyState: number, event: Event, error?: unknown) => void} */
  const tell = (readyState, event, error = undefined) => {
    if (own.readyState === CLOSED) return;
    own.readyState = readyState;
    source.dispatchEvent(error ? Object.assign(event, { error }) : event);
  };
  import("./later/events.js").then(
    ({ follow }) => follow(fetch, source, control.signal, tell),
    (cause) => tell(CLOSED, new Event("error"), new BullaError("unsupported", "a script could not be loaded", { cause })),
  );
  return source;
}

function parsed(url, base) {
  try {
    return new URL(url, base).href;
  } catch {
    throw new DOMException("this is no URL", "SyntaxError");
  }
}

// Each case is run with the platform's own EventSource and with a session's events, and must tell the same.
// `args`: the paths that lead to the platform's twin, to the session's, and to one's that only signs.

const utf8 = (text) => String.fromCharCode(...new TextEncoder().encode(text));
/** A reply that is an event stream: its pieces, each character a byte. It ends then, or hangs, or is cut when asked. */
const stream = (...pieces) => ({ type: "text/event-stream", pieces });
const hanging = (...pieces) => ({ ...stream(...pieces), then: "hang" });
const cut = (...pieces) => ({ ...stream(...pieces), then: "cut" });

/** The last of each stream: what came before it is all that there was. */
const LAST = "event: last\ndata: x\n\n";

/** What of an event everybody sees. */
const seen = (event, source) => {
  const { type, bubbles, cancelable, composed, defaultPrevented, eventPhase } = event;
  const common = { type, bubbles, cancelable, composed, defaultPrevented, eventPhase, readyState: source.readyState };
  const isOwn = event.target === source && event.currentTarget === source && typeof event.timeStamp === "number";
  if (!(event instanceof MessageEvent)) return { ...common, isOwn, kind: event.constructor.name };
  const { data, lastEventId, origin, ports } = event;
  return { ...common, isOwn, data, lastEventId, origin, source: event.source, ports: ports.length };
};

/** A stream that is listened to. */
class Listening {
  all = [];
  #waiting = [];

  constructor(source, types = []) {
    this.source = source;
    for (const type of ["open", "message", "error", "last", ...types]) {
      source.addEventListener(type, (event) => this.#take(event));
    }
  }

  #take(event) {
    this.all.push(seen(event, this.source));
    for (const waiting of this.#waiting) if (waiting.count === this.#count(waiting.type)) waiting.resolve();
  }

  #count(type) {
    return this.all.filter((event) => event.type === type).length;
  }

  /** Waits for so many events of a type; gives all that came. */
  async until(type, count = 1) {
    if (this.#count(type) < count) await new Promise((resolve) => this.#waiting.push({ type, count, resolve }));
    return this.all;
  }
}

/** What of a stream's events is the application's. */
const brief = (all) => all.map(({ type, data, lastEventId, readyState }) =>
  data === undefined ? [type, readyState] : [type, data, lastEventId]);

/** Listens to the pieces of one stream. */
const pieces = (...pieces) => async (open) => {
  const { source, all } = await heard(open([hanging(...pieces, `\n\n${LAST}`)]), "last");
  source.close();
  return brief(all);
};

const heard = async (source, type, count) => {
  const listening = new Listening(source);
  await listening.until(type, count);
  return listening;
};

/** Listens until it fails for good. */
const failing = (reply) => async (open) => {
  const { source, all } = await heard(open([reply]), "error");
  return [brief(all), source.readyState];
};

/** Listens to these streams, one after the other, and to a last one. Then says what was asked for. */
const again = (...replies) => async (open, sent) => {
  const { source, all } = await heard(open([...replies, hanging(LAST)]), "last");
  source.close();
  return [brief(all), await sent()];
};

const threw = (work) => {
  try {
    return { value: typeof work() };
  } catch ({ name }) {
    return { name };
  }
};

const cases = {
  // What it is.
  "a source": async (open) => {
    const source = open([hanging(LAST)]);
    const told = () => [source.readyState, source.url, source.withCredentials, source.onopen, source.onmessage, source.onerror];
    const before = told();
    const listening = await heard(source, "last");
    const meanwhile = told();
    source.close();
    source.close();
    const constants = [source.CONNECTING, source.OPEN, source.CLOSED, source instanceof EventTarget];
    return [before, meanwhile, told(), constants, listening.all];
  },
  "what is read only": async (open) => {
    const source = open([{ status: 204 }]);
    const set = (name) => threw(() => { "use strict"; source[name] = 7; });
    const told = ["url", "withCredentials", "readyState", "CONNECTING", "OPEN", "CLOSED"].map(set);
    await heard(source, "error");
    return told;
  },
  "an unreadable URL": async (_, __, connect) => threw(() => connect("http://[")),
  "a URL object": async (open) => {
    const source = open([{ status: 204 }], undefined, (url) => new URL(url, location.href));
    await heard(source, "error");
    return source.url;
  },
  "a fragment": async (open) => {
    const source = open([{ status: 204 }], undefined, (url) => `${url}#part`);
    await heard(source, "error");
    return source.url;
  },
  ...Object.fromEntries([[null], [undefined], [{}], [{ withCredentials: true }], [{ withCredentials: 0 }]].map(([init]) =>
    [`init ${JSON.stringify(init)}`, async (open) => {
      const source = open([{ status: 204 }], init);
      await heard(source, "error");
      return source.withCredentials;
    }])),
  "another origin": async (_, __, connect) => {
    const source = connect(`http://127.0.0.1:${location.port}/page`);
    const { all } = await heard(source, "error");
    return [all, source.readyState];
  },
  "what is asked for": async (open, sent) => {
    const { source } = await heard(open([hanging(LAST)]), "last");
    source.close();
    return sent();
  },

  // The stream (section 9.2.6).
  "the standard's first": pieces("data: This is the first message.\n\ndata: This is the second message, it\ndata: has two lines.\n\n"
    + "data: This is the third message.\n\n"),
  "the standard's fourth": pieces(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"),
  "the standard's fifth": pieces("data\n\ndata\ndata\n\ndata:\n\n"),
  "the standard's sixth": pieces("data:test\n\ndata: test\n\n"),
  "lines end with CR": pieces("data: a\rdata: b\r\rdata: c\r\r"),
  "lines end with CRLF": pieces("data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n"),
  "lines end as they like": pieces("data: a\ndata: b\r\ndata: c\r\r\n\ndata: d\n\rdata: e\r\n\r"),
  "a CRLF in two pieces": pieces("data: a\r", "\ndata: b\r", "\n\r", "\ndata: c\r", "\r", "data: d\n\n"),
  "no other line ends": pieces(utf8("data: a\u2028b\u0085c\vd\fe\u2029f\n\n")),
  "a BOM": pieces("\xef\xbb\xbfdata: a\n\n"),
  "a BOM in pieces": pieces("\xef", "\xbb", "\xbfdata: a\n\n"),
  "two BOMs": pieces("\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n"),
  "a BOM that comes later": pieces("data: a\n\n\xef\xbb\xbfdata: b\n\ndata: \xef\xbb\xbfc\n\n"),
  "characters in pieces": pieces("data: \xc3", "\xa9\xf0\x9f", "\x8f", "\xba\n\n"),
  "what is no UTF-8": pieces("data: \xff\xc3(\xed\xa0\x80\n\ndata: \xf0\x9f\n\n"),
  "comments": pieces(":\n: data: no\ndata: a\n:data: no\n\n"),
  "fields that are none": pieces("Data: no\ndata : no\n data: no\nevents: no\nx\n\u0000\ndata: a\n\n"),
  "colons": pieces("data::a:b: c\nevent::t\n\ndata: : \n\n"),
  "spaces": pieces("data:  a \ndata:\tb\n\n"),
  "no data": pieces("event: a\n\nid: 7\n\ndata: b\n\n"),
  "no type that lasts": pieces("event: last\nid: 1\n\nevent: a\nevent:\ndata: b\n\nevent\ndata: c\n\n"),
  "other types": async (open) => {
    const types = ["a b", "é", "__proto__"];
    const listening = new Listening(open([hanging(...types.map((type) => utf8(`event: ${type}\ndata: x\n\n`)), LAST)]), types);
    listening.source.onlast = () => listening.all.push("never");
    await listening.until("last");
    listening.source.close();
    return listening.all;
  },
  "types that are the platform's own": async (open) => {
    const { source, all } = await heard(open([hanging("event: open\ndata: a\n\nevent: error\ndata: b\n\n", LAST)]), "last");
    source.close();
    return all;
  },
  "ids": pieces("id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\nid: 2\nid:  3\ndata: d\n\nid: \u0000\ndata: e\n\nid: 4\u0000\ndata: f\n\n"),
  "an id of an event without data": pieces("id: 5\n\ndata: a\n\n"),
  "a long event": async (open) => {
    const times = 50_000;
    const { source, all } = await heard(open([{ ...hanging("data: 0123\n", `\n${LAST}`), times }]), "last");
    source.close();
    return all.map(({ type, data }) => [type, data?.length]);
  },
  "a long line": async (open) => {
    const times = 50_000;
    const { source, all } = await heard(open([{ ...hanging("data: 0123", `\n\n${LAST}`), times }]), "last");
    source.close();
    return all.map(({ type, data }) => [type, data?.length]);
  },
  "many events": async (open) => {
    const { source, all } = await heard(open([hanging(Array.from({ length: 500 }, (_, n) => `id: ${n}\ndata: ${n * n}\n\n`).join(""), LAST)]), "last");
    source.close();
    return brief(all);
  },

  // Where it ends, and is taken up again.
  "it ends": again(stream("retry: 10\nid: 1\ndata: a\n\n")),
  "it ends without a word": again(stream("retry: 10\n")),
  "it ends within an event": again(stream("retry: 10\nid: 1\ndata: a\n\nid: 2\ndata: b\n")),
  "it ends within a line": again(stream("retry: 10\nid: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: c\n\nda")),
  "it is cut": async (open, sent) => {
    const source = open([cut("retry: 10\nid: 1\ndata: a\n\nid: 2\nda"), hanging(LAST)]);
    source.onmessage = () => sent("cut");
    const { all } = await heard(source, "last");
    source.close();
    return [brief(all), await sent()];
  },
  "an id that is taken back": again(stream("retry: 10\nid: 1\n\nid\n\n")),
  "an id that stays": again(stream("retry: 10\nid: 1\ndata: a\n\n"), stream("data: b\n\n"), stream(": none\n\n")),
  "an id without data that stays": again(stream("retry: 10\nid: 1\n\n"), stream("data: a\n\n"), stream(": none\n\n")),
  "an id without an event": again(stream("retry: 10\nid: 1\n")),
  "a time that stays": again(stream("retry: 10\n"), stream(), stream()),
  "times that are none": again(stream("retry: 10\nretry: 1e9\nretry: -1\nretry: 99999.9\nretry\nretry:  99999\nretry: 9 9\nretry: 0x7fffff\n\n")),
  "closed before": async (open) => {
    const source = open([hanging(LAST)]);
    const listening = new Listening(source);
    source.close();
    return [listening.all, source.readyState];
  },
  "closed when it opens": async (open) => {
    const source = open([hanging(LAST)]);
    source.addEventListener("open", () => source.close());
    const listening = await heard(source, "open");
    return [listening.all, source.readyState];
  },
  "closed at an event": async (open) => {
    const source = open([hanging("data: a\n\ndata: b\n\n")]);
    source.onmessage = () => source.close();
    const listening = await heard(source, "message");
    return [listening.all, source.readyState];
  },
  "closed when it has ended": async (open) => {
    const source = open([stream("retry: 10\n"), hanging(LAST)]);
    source.onerror = () => source.close();
    const listening = await heard(source, "error");
    return [listening.all, source.readyState];
  },

  // What is no event stream.
  ...Object.fromEntries([201, 204, 205, 400, 401, 404, 418, 500, 503].map((status) =>
    [`status ${status}`, failing({ ...(status < 206 ? stream() : stream(LAST)), status })])),
  ...Object.fromEntries(["text/plain", "text/html; charset=utf-8", "text/event-streams", "text/event", "event-stream", "", undefined]
    .map((type) => [`type ${type}`, failing({ ...stream(LAST), type })])),
  "it never ends, and is none": failing({ ...hanging(LAST), type: "application/json" }),
  ...Object.fromEntries(["text/event-stream; charset=utf-8", "Text/EVENT-Stream", "text/event-stream ;x=y", "text/event-stream;"]
    .map((type) => [`type ${type}`, async (open) => {
      const { source, all } = await heard(open([{ ...hanging(LAST), type }]), "last");
      source.close();
      return all;
    }])),
  "it stops to be one": async (open, sent) => {
    const { source, all } = await heard(open([stream("retry: 10\nid: 1\ndata: a\n\n"), { status: 204 }]), "error", 2);
    return [all, source.readyState, await sent()];
  },

  // Handlers.
  "handlers among listeners": async (open) => {
    const source = open([hanging("data: 1\n\n", "data: 2\n\n", "data: 3\n\n", "data: 4\n\n", LAST)]);
    const told = [];
    const say = (what) => function ({ data }) { told.push([what, data, this === source]); };
    const [first, second] = [say("first"), say("second")];
    source.addEventListener("message", say("before"));
    source.onmessage = first;
    source.addEventListener("message", say("after"));
    source.addEventListener("message", ({ data }) => {
      if (data === "1") source.onmessage = second;
      if (data === "2") source.onmessage = null;
      if (data === "3") source.onmessage = first;
    });
    await heard(source, "last");
    source.close();
    return [told, source.onmessage === first];
  },
  "handlers that are none": async (open) => {
    const source = open([hanging("data: 1\n\n", LAST)]);
    const told = [undefined, 7, "code", {}, null, () => {}].map((handler) => {
      source.onmessage = handler;
      return [typeof source.onmessage, source.onmessage === handler];
    });
    source.onmessage = {};
    await heard(source, "last");
    source.close();
    return told;
  },
  "listeners that are taken away": async (open) => {
    const source = open([hanging("data: 1\n\n", "data: 2\n\n", LAST)]);
    const told = [];
    const taken = ({ data }) => { told.push(["taken", data]); source.removeEventListener("message", taken); };
    source.addEventListener("message", taken);
    source.addEventListener("message", ({ data }) => told.push(["once", data]), { once: true });
    source.addEventListener("message", { handleEvent: ({ data }) => told.push(["object", data]) });
    await heard(source, "last");
    source.close();
    return told;
  },
  "a handler that throws": async (open) => {
    const source = open([hanging("data: 1\n\n", LAST)]);
    const told = [];
    const thrown = new Error("a handler's own");
    const onerror = (event) => {
      if (event.error !== thrown) return;
      event.preventDefault();
      told.push("told");
    };
    addEventListener("error", onerror);
    source.onmessage = () => { throw thrown; };
    source.addEventListener("message", () => told.push("the next one"));
    await heard(source, "last");
    source.close();
    removeEventListener("error", onerror);
    return told;
  },
  "an event of the page's own": async (open) => {
    const source = open([hanging(LAST)]);
    const listening = await heard(source, "last");
    const told = [];
    source.onmessage = ({ data }) => told.push(data);
    source.dispatchEvent(new MessageEvent("message", { data: "mine" }));
    source.close();
    source.dispatchEvent(new MessageEvent("message", { data: "mine, too" }));
    return [told, brief(listening.all)];
  },
};

// What platforms do not show where only the request is signed: Firefox the head of a reply before its first piece,
// Chromium a 300 and a 304, none of them where a redirect leads.
const sealed = {
  "a stream that says nothing": async (open) => {
    const { source, all } = await heard(open([hanging()]), "open");
    source.close();
    return brief(all);
  },
  "status 300": failing({ ...stream(LAST), status: 300 }),
  "status 304": failing({ ...stream(), status: 304 }),
  ...Object.fromEntries([301, 302, 303, 307, 308].map((status) => [`redirect ${status}`, async (open, sent) => {
    const { source, all } = await heard(open([{ status, location: true }, hanging(LAST)]), "last");
    source.close();
    return [all, source.url, await sent()];
  }])),
};

// What the standard says where engines do something else.
const opened = ["open", 1];
const last = (id) => ["last", "x", id];
const sayings = (...all) => [opened, ...all.slice(0, -1).map(([data, id]) => ["message", data, id]), last(all.at(-1))];
const asked = (...ids) => ids.map((last) => ({ accept: "text/event-stream", last }));
const standard = {
  // Firefox forgets the id of an event without data, and drops an event whose id has a NUL.
  "no data": sayings(["b", "7"], "7"),
  "no type that lasts": sayings(["b", "1"], ["c", "1"], "1"),
  "ids": sayings(["a", "1"], ["b", "1"], ["c", ""], ["d", " 3"], ["e", " 3"], ["f", " 3"], " 3"),
  "an id of an event without data": sayings(["a", "5"], "5"),
  // It waits for the first piece.
  "a stream that says nothing": [opened],
  // It and WebKit do so over replies.
  "an id without data that stays": [
    [opened, ["error", 0], opened, ["message", "a", "1"], ["error", 0], opened, ["error", 0], opened, last("1")],
    asked(null, "1", "1", "1"),
  ],
  // WebKit knows a BOM that comes whole.
  "a BOM in pieces": sayings(["a", ""], ""),
  // It takes one of them.
  "times that are none": [[opened, ["error", 0], opened, last("")], asked(null, null)],
  // Chromium tries again.
  "status 300": [[["error", 2]], 2],
  "status 304": [[["error", 2]], 2],
};

const [twin, own, signed] = args;
// One that hangs is told by its name.
const within = (work) => Promise.race([
  work,
  new Promise((_, reject) => setTimeout(() => reject(new Error("it hangs")), 60_000)),
]);
const all = { ...cases, ...sealed };
const outcomes = async (connect, at, names) => {
  const told = {};
  for (const [number, [name, run]] of Object.entries(all).entries()) {
    if (!names.includes(name)) continue;
    const key = `${at}-${number}`;
    const open = (replies, init, change = String) =>
      connect(change(`${at}/said?key=${key}&replies=${encodeURIComponent(JSON.stringify(replies))}`), init);
    const sent = (what = "sent") => fetch(`${twin}/${what}?key=${key}`).then((reply) => reply.json());
    told[name] = await within(run(open, sent, connect)).catch((error) => ({ uncaught: `${error?.name}: ${error?.message}` }));
  }
  // Only now: what has come since belongs to it.
  return Object.fromEntries(Object.entries(told).map(([name, value]) => [name, JSON.stringify(value).replaceAll(at, "/AT")]));
};
const only = await bulla.open({ server: location.origin, seal: false });
const names = Object.keys(all);
const [theirs, ours, inTheOpen] = await Promise.all([
  outcomes((...given) => new EventSource(...given), twin, names.filter((name) => !(name in standard))),
  outcomes((...given) => session.events(...given), own, names),
  outcomes((...given) => only.events(...given), signed, Object.keys(cases)),
]);
const platform = { ...theirs };
for (const [name, told] of Object.entries(standard)) platform[name] = JSON.stringify(told);
const differences = Object.entries({ ours, inTheOpen }).flatMap(([which, told]) =>
  Object.keys(told)
    .filter((name) => platform[name] !== told[name])
    .map((name) => ({ name, platform: platform[name], told: told[name], by: which })));
return { cases: names.length, differences };

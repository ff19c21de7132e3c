// Each case is run with the platform's own XMLHttpRequest and with ours, and must tell the same. This is a script of the
// page: the driver's world has an XMLHttpRequest of its own in Firefox.

window.compared = async (twin, own, isSealed) => {
  const TYPES = ["loadstart", "progress", "abort", "error", "load", "timeout", "loadend"];

  /** What a request tells in events, each kind of piece once. */
  const heard = (xhr) => {
    const log = [];
    const say = (what) => {
      const isPiece = ["3", "progress", "upload progress"].includes(what);
      if (!isPiece || !log.slice(log.lastIndexOf("1") + 1).includes(what)) log.push(what);
    };
    xhr.addEventListener("readystatechange", () => say(`${xhr.readyState}`));
    for (const type of TYPES) {
      xhr.addEventListener(type, ({ loaded, total, lengthComputable, target, currentTarget }) => {
        // Firefox tells of none, too.
        if (type === "progress") loaded > 0 && say(type);
        else say(`${type} ${loaded}/${total} ${lengthComputable} ${target === xhr && currentTarget === xhr}`);
      });
    }
    return log;
  };
  const heardOfUpload = (xhr, log = []) => {
    for (const type of TYPES) {
      xhr.upload.addEventListener(type, ({ loaded, total, lengthComputable }) => {
        const what = `upload ${type}`;
        if (type !== "progress") log.push(`${what} ${loaded}/${total} ${lengthComputable}`);
        else if (!log.includes(what)) log.push(what);
      });
    }
    return log;
  };
  const until = (xhr, type = "loadend") => new Promise((resolve) => xhr.addEventListener(type, resolve, { once: true }));

  const state = (xhr) => {
    const read = (name) => {
      try {
        const value = xhr[name];
        return typeof value === "object" && value !== null ? Object.prototype.toString.call(value) : value;
      } catch ({ name }) {
        return name;
      }
    };
    const { readyState, status, responseURL } = xhr;
    const [response, text, xml] = ["response", "responseText", "responseXML"].map(read);
    // Of what has failed Firefox and WebKit still tell some.
    if (status === 0) return { readyState, status, response, text, xml };
    const type = xhr.getResponseHeader("Content-Type");
    return { readyState, status, responseURL: responseURL.replace(location.origin, ""), response, text, xml, type };
  };
  const threw = (work) => {
    try {
      return { value: typeof work() };
    } catch (error) {
      return [error.name, error instanceof DOMException];
    }
  };
  const opened = (method, url, type = "") => {
    const xhr = new XMLHttpRequest();
    xhr.open(method, url);
    xhr.responseType = type;
    return xhr;
  };
  const sent = async (xhr, body) => {
    const log = heard(xhr);
    const ended = until(xhr);
    xhr.send(body);
    await ended;
    return log;
  };
  const echoed = (xhr) => {
    const { method, target, fields, body } = JSON.parse(xhr.responseText);
    const boundary = fields["content-type"]?.match(/boundary=(.*)/)?.[1];
    const told = { method, target, body, type: fields["content-type"] ?? null };
    for (const name of Object.keys(fields).filter((name) => name.startsWith("x-"))) told[name] = fields[name];
    return JSON.parse(JSON.stringify(told).replaceAll(boundary ?? "\u0000", "BOUNDARY"));
  };
  /** Without what depends on how long an echo is. */
  const unmeasured = (log) => log.map((what) => (/^load(end)? /.test(what) ? what.split(" ")[0] : what));
  /** Sends a body, and tells what of it has arrived. */
  const post = async (at, body, fields = {}, method = "POST") => {
    const xhr = opened(method, `${at}/echo`);
    for (const [name, value] of Object.entries(fields)) xhr.setRequestHeader(name, value);
    return [unmeasured(await sent(xhr, body)), echoed(xhr)];
  };
  /** Has the server answer with this, as this. */
  const mirrored = async (at, type, content, kind, mime) => {
    const xhr = opened("POST", `${at}/mirror`, type);
    if (kind !== undefined) xhr.setRequestHeader("x-kind", kind);
    if (mime) xhr.overrideMimeType(mime);
    const log = await sent(xhr, content instanceof Array ? new Uint8Array(content) : new TextEncoder().encode(content));
    return { xhr, log };
  };
  const whole = async (value) => {
    // WebKit keeps the parameters.
    if (value instanceof Blob) return [value.size, value.type.split(";")[0], await value.text()];
    if (value instanceof ArrayBuffer) return [...new Uint8Array(value)];
    if (value instanceof Document) {
      return [value.contentType.toLowerCase(), new XMLSerializer().serializeToString(value).replace(/ xmlns="[^"]*"/, "")];
    }
    return value;
  };
  const form = () => {
    const data = new FormData();
    data.append("one", "1");
    data.append("file", new File(["in", "side"], "a name.txt", { type: "text/plain" }));
    return data;
  };
  const kinds = {
    none: undefined,
    text: "text/plain",
    latin: "text/plain; charset=iso-8859-1",
    quoted: 'text/plain;charset="windows-1252"',
    strange: "text/plain; charset=nonsense",
    nonsense: "nonsense",
    json: "application/json",
    xml: "text/xml",
    feed: "application/atom+xml",
    svg: "image/svg+xml",
    html: "text/html; charset=utf-8",
    upper: "TEXT/XML; CHARSET=UTF-8",
  };
  const contents = {
    nothing: ["", "none", "text", "xml", "html"],
    text: ["gr\u00fc\u00df \ud83d\ude00", "none", "text", "latin", "quoted", "strange", "nonsense", "html"],
    latin: [[0x67, 0xfc, 0x80], "none", "text", "latin", "quoted"],
    bom: ["\ufeffmarked", "none", "text", "json"],
    json: ['{"a":[1,null]}', "none", "text", "latin", "json"],
    xml: ["<a><b>1</b></a>", "none", "text", "xml", "feed", "svg", "html", "upper"],
    html: ["<!doctype html><title>t</title><p>one<p>two", "none", "text", "xml", "html"],
  };

  const cases = {
    // What it is.
    "the class": () => [
      XMLHttpRequest.name, XMLHttpRequest.length, String(new XMLHttpRequest()), new XMLHttpRequest() instanceof XMLHttpRequest,
      new XMLHttpRequest() instanceof EventTarget, XMLHttpRequest.DONE, XMLHttpRequest.prototype.HEADERS_RECEIVED,
      threw(() => XMLHttpRequest()), new XMLHttpRequest().constructor === XMLHttpRequest,
    ],
    "what is in it": () => {
      const names = [];
      for (const name in new XMLHttpRequest()) names.push(name);
      return names.sort();
    },
    "at first": (at) => [state(new XMLHttpRequest()), new XMLHttpRequest().getAllResponseHeaders(), state(opened("GET", `${at}/echo`))],
    "a subclass": async (at) => {
      class Mine extends XMLHttpRequest {
        mine = true;
      }
      const xhr = new Mine();
      xhr.open("GET", `${at}/form`);
      return [await sent(xhr), xhr.mine, xhr instanceof Mine];
    },

    // Opening.
    ...Object.fromEntries(["get", "pOst", "PROPFIND", "OPTIONS", "DELETE", "PUT"].map((method) =>
      [`method ${method}`, async (at) => {
        const xhr = opened(method, `${at}/echo?a=1#b`);
        return [unmeasured(await sent(xhr, "body")), state(xhr).responseURL, echoed(xhr)];
      }])),
    ...Object.fromEntries(["CONNECT", "trace", "a b", ""].map((method) =>
      [`method '${method}'`, (at) => threw(() => opened(method, `${at}/echo`))])),
    "a wrong call of open": (at) => [threw(() => new XMLHttpRequest().open()), threw(() => new XMLHttpRequest().open(`${at}/echo`))],
    "a wrong call of open of one that is open": async (at) => {
      const xhr = opened("GET", `${at}/form`);
      return [threw(() => xhr.open("a b", `${at}/echo`)), await sent(xhr), state(xhr).status];
    },
    "a relative URL, to another base": async (at) => {
      const base = document.head.appendChild(document.createElement("base"));
      base.href = `${at}/none/`;
      const xhr = opened("GET", "../echo");
      base.remove();
      return [unmeasured(await sent(xhr)), echoed(xhr)];
    },
    "a URL object": async (at) => {
      const xhr = opened("GET", new URL(`${at}/echo?x`, location.href));
      return [unmeasured(await sent(xhr)), echoed(xhr)];
    },
    "async is true": async (at) => {
      const xhr = new XMLHttpRequest();
      xhr.open("GET", `${at}/form`, true, null, null);
      return sent(xhr);
    },
    "events of open": (at) => {
      const xhr = new XMLHttpRequest();
      const log = heard(xhr);
      xhr.open("GET", `${at}/echo`);
      xhr.open("POST", `${at}/echo`);
      return [log, state(xhr)];
    },

    // Fields.
    "fields": (at) => post(at, "", { "X-A": " 1 ", "x-empty": "", "x-number": 7 }),
    "a field twice": async (at) => {
      const xhr = opened("GET", `${at}/echo`);
      xhr.setRequestHeader("x-a", "1");
      xhr.setRequestHeader("X-A", "2");
      await sent(xhr);
      return echoed(xhr);
    },
    "fields that are the platform's own": (at) => post(at, "", { cookie: "a=b", host: "example.com", "content-length": "7", "x-a": "1" }),
    "fields at the wrong time": async (at) => {
      const xhr = new XMLHttpRequest();
      const set = () => threw(() => xhr.setRequestHeader("x-a", "1"));
      const told = [set()];
      xhr.open("GET", `${at}/echo`);
      told.push(set());
      const sending = sent(xhr);
      told.push(set());
      await sending;
      return [...told, set(), echoed(xhr)["x-a"]];
    },
    "wrong fields": (at) => ["a b:1", ":1", "a:b\nc"].map((field) =>
      threw(() => opened("GET", `${at}/echo`).setRequestHeader(...field.split(":")))),
    "too few of a field": (at) => threw(() => opened("GET", `${at}/echo`).setRequestHeader("x-a")),

    // What is sent.
    "no body": (at) => post(at),
    "null": (at) => post(at, null),
    "an empty text": (at) => post(at, ""),
    "text": (at) => post(at, "gr\u00fc\u00df \ud83d\ude00 \ud83d"),
    "a blob": (at) => post(at, new Blob(["blob"], { type: "text/x-own" })),
    "a blob without a type": (at) => post(at, new Blob(["blob"])),
    "a buffer": (at) => post(at, new Uint8Array([65, 66]).buffer),
    "a view": (at) => post(at, new DataView(new Uint8Array([65, 66, 67]).buffer, 1)),
    "parameters": (at) => post(at, new URLSearchParams({ a: "1 2", "\u00fc": "&" })),
    "a form": (at) => post(at, form()),
    "something else": (at) => post(at, { toString: () => "else" }),
    "a document": (at) => post(at, new DOMParser().parseFromString("<a>\u00fc</a>", "text/xml")),
    "a type of its own": (at) => post(at, "{}", { "content-type": "application/json" }),
    "a form with a type of its own": (at) => post(at, new URLSearchParams("a=1"), { "content-type": "text/x-own" }),
    ...Object.fromEntries(["text/plain;charset=latin1", 'text/plain;charset="latin1";a=b', "text/plain;charset=utf-8", "text/plain"].map((type) =>
      [`text as ${type}`, (at) => post(at, "\u00fc", { "content-type": type })])),
    "a large body": async (at) => {
      const body = "0123456789abcdef".repeat(1 << 16);
      const [, told] = await post(at, body);
      return [told.body.length, told.body === body];
    },
    "a body with GET": (at) => post(at, "no", {}, "GET"),
    "sending at the wrong time": async (at) => {
      const xhr = new XMLHttpRequest();
      const told = [threw(() => xhr.send())];
      xhr.open("GET", `${at}/echo`);
      const sending = sent(xhr);
      told.push(threw(() => xhr.send()));
      await sending;
      return [...told, threw(() => xhr.send())];
    },

    // What comes.
    "every state": async (at) => {
      const xhr = opened("GET", `${at}/form`);
      const told = [];
      xhr.onreadystatechange = function (event) {
        const { text, response, ...seen } = state(xhr);
        told[xhr.readyState] = [seen, this === xhr, event.type, xhr.readyState === 4 ? [text, response] : typeof text];
      };
      return [await sent(xhr), told[2], told[4]];
    },
    "handlers": async (at) => {
      const xhr = opened("GET", `${at}/form`);
      const told = [];
      for (const type of TYPES) xhr[`on${type}`] = () => told.push(type);
      xhr.onprogress = null;
      await sent(xhr);
      return [told, xhr.onload === null, typeof xhr.onloadend];
    },
    "its headers": async (at) => {
      const { xhr } = await mirrored(at, "", "a", "text/x-own");
      const lines = xhr.getAllResponseHeaders().split("\r\n");
      return [lines.pop(), lines.filter((line) => /^(content-type|x-)/.test(line)), lines.every((line, at) => at === 0 || lines[at - 1] < line),
        xhr.getResponseHeader("CONTENT-type"), xhr.getResponseHeader("x-none"), xhr.getResponseHeader("a b")];
    },
    ...Object.fromEntries(["", "text", "json", "arraybuffer", "blob", "document"].flatMap((type) =>
      Object.entries(contents).flatMap(([name, [content, ...as]]) => as.map((kind) =>
        [`${type || "no type"}: ${name} as ${kind}`, async (at) => {
          const { xhr, log } = await mirrored(at, type, content, kinds[kind]);
          // Chromium makes JSON anew each time.
          return [log, state(xhr), await whole(xhr.response), type === "json" || xhr.response === xhr.response];
        }])))),
    ...Object.fromEntries(["text/plain; charset=x-user-defined", "text/plain", "text/xml", "nonsense"].flatMap((mime) =>
      ["", "blob", "document"].map((type) => [`${type || "no type"} as ${mime}, overridden`, async (at) => {
        const { xhr } = await mirrored(at, type, [0x3c, 0x61, 0x2f, 0x3e, 0xfc], "text/html; charset=latin1", mime);
        return [state(xhr), await whole(xhr.response)];
      }]))),
    "what is said too late": async (at) => {
      const xhr = opened("GET", `${at}/form`);
      const told = [];
      const say = () => {
        const { responseType, withCredentials, timeout } = xhr;
        told.push(xhr.readyState, threw(() => { xhr.responseType = responseType; }), threw(() => { xhr.withCredentials = withCredentials; }),
          threw(() => { xhr.timeout = timeout; }), threw(() => xhr.overrideMimeType("text/plain")));
      };
      say();
      const ended = until(xhr);
      xhr.send();
      say();
      xhr.onload = say;
      await ended;
      return told;
    },
    "a type that is none": async (at) => {
      const xhr = opened("GET", `${at}/form`, "nonsense");
      return [await sent(xhr), xhr.responseType, state(xhr)];
    },
    "HEAD": async (at) => {
      const xhr = opened("HEAD", `${at}/echo`);
      return [unmeasured(await sent(xhr)), state(xhr)];
    },
    ...Object.fromEntries([200, 201, 204, 205, 299, 300, 304, 400, 404, 418, 500, 599].map((status) =>
      [`status ${status}`, async (at) => {
        const xhr = opened("POST", `${at}/status/${status}`);
        const log = await sent(xhr);
        // Engines disagree on how long the body is where there is none.
        return [[204, 205, 304].includes(status) ? unmeasured(log) : log, state(xhr)];
      }])),
    "pieces as they come": async (at) => {
      const xhr = opened("GET", `${at}/ticks/5/100`);
      const told = new Set();
      xhr.onprogress = () => told.add(xhr.responseText.length === xhr.response.length && xhr.readyState);
      const texts = new Set();
      xhr.addEventListener("progress", () => texts.add(xhr.responseText));
      return [await sent(xhr), [...told], texts.size > 2, state(xhr)];
    },
    "many at once": (at) => Promise.all(Array.from({ length: 8 }, async (_, n) => {
      const xhr = opened("GET", `${at}/echo?${n}`);
      await sent(xhr);
      return echoed(xhr).target;
    })),

    // The upload.
    ...Object.fromEntries(Object.entries({
      text: "gr\u00fc\u00df", buffer: new Uint8Array(70_000), blob: new Blob(["blob"]), "parameters": new URLSearchParams("a=1"), none: null,
    }).map(([name, body]) => [`an upload: ${name}`, async (at) => {
      const xhr = opened("POST", `${at}/echo`);
      const log = heard(xhr);
      heardOfUpload(xhr, log);
      const ended = until(xhr);
      xhr.send(body);
      await ended;
      return unmeasured(log);
    }])),
    "an upload: form": async (at) => {
      const xhr = opened("POST", `${at}/echo`);
      const told = [];
      let [loaded, total] = [];
      for (const type of TYPES) xhr.upload[`on${type}`] = (event) => {
        told.push(type);
        ({ loaded, total } = event);
      };
      await sent(xhr, form());
      return [[...new Set(told)], loaded === total, loaded > 200];
    },
    "an upload that is aborted": async (at) => {
      const xhr = opened("POST", `${at}/echo`);
      const log = heard(xhr);
      heardOfUpload(xhr, log);
      xhr.send("a body");
      xhr.abort();
      return [log, state(xhr)];
    },

    // Giving up.
    "aborted before it is open": () => {
      const xhr = new XMLHttpRequest();
      const log = heard(xhr);
      xhr.abort();
      return [log, state(xhr)];
    },
    "aborted before it is sent": async (at) => {
      const xhr = opened("GET", `${at}/form`);
      const log = heard(xhr);
      xhr.abort();
      const before = [...log, state(xhr)];
      return [before, await sent(xhr)];
    },
    "aborted at once": async (at) => {
      const xhr = opened("GET", `${at}/form`);
      const log = heard(xhr);
      xhr.send();
      xhr.abort();
      return [log, state(xhr), threw(() => xhr.setRequestHeader("x-a", "1"))];
    },
    "aborted when all is there": async (at) => {
      const xhr = opened("GET", `${at}/form`);
      const log = await sent(xhr);
      xhr.abort();
      return [log, state(xhr), threw(() => xhr.send())];
    },
    ...Object.fromEntries([2, 3].map((reached) => [`aborted in state ${reached}`, async (at) => {
      const xhr = opened("GET", `${at}/ticks/3/5`);
      const log = heard(xhr);
      xhr.addEventListener("readystatechange", () => xhr.readyState === reached && xhr.abort());
      const ended = until(xhr);
      xhr.send();
      await ended;
      return [log, state(xhr)];
    }])),
    "aborted as it begins": (at) => {
      const xhr = opened("GET", `${at}/form`);
      const log = heard(xhr);
      xhr.addEventListener("loadstart", () => xhr.abort());
      xhr.send();
      return [log, state(xhr)];
    },
    "timed out": async (at) => {
      const xhr = opened("GET", `${at}/wait`);
      xhr.timeout = 50;
      return [await sent(xhr), state(xhr), xhr.timeout];
    },
    "timed out late": async (at) => {
      const xhr = opened("GET", `${at}/ticks/1000000/10`);
      const sending = sent(xhr);
      await until(xhr, "progress");
      xhr.timeout = 1;
      return [await sending, state(xhr)];
    },
    "in time": async (at) => {
      const xhr = opened("GET", `${at}/ticks/3/50`);
      xhr.timeout = 60_000;
      return [await sent(xhr), state(xhr)];
    },
    "no timeout after all": async (at) => {
      const xhr = opened("GET", `${at}/ticks/4/50`);
      xhr.timeout = 100;
      const sending = sent(xhr);
      xhr.timeout = 0;
      return [await sending, state(xhr)];
    },
    "around and around": async (at) => {
      const xhr = opened("GET", `${at}/around`);
      return [await sent(xhr), state(xhr)];
    },

    // Once more.
    "used again": async (at) => {
      const xhr = opened("POST", `${at}/echo`, "text");
      xhr.setRequestHeader("x-a", "1");
      const log = heard(xhr);
      const first = until(xhr);
      xhr.send("one");
      await first;
      xhr.open("GET", `${at}/echo?two`);
      const between = state(xhr);
      const second = until(xhr);
      xhr.send();
      await second;
      return [unmeasured(log), between, echoed(xhr)];
    },
    "used again in between": async (at) => {
      const xhr = opened("GET", `${at}/wait`);
      const log = heard(xhr);
      xhr.send();
      xhr.open("GET", `${at}/form`);
      const ended = until(xhr);
      xhr.send();
      await ended;
      return [log, state(xhr)];
    },
    "used again after it was aborted": async (at) => {
      const xhr = opened("GET", `${at}/wait`);
      xhr.send();
      xhr.abort();
      xhr.open("GET", `${at}/form`);
      return [await sent(xhr), state(xhr)];
    },
  };

  // A signed request that is not sealed cannot be followed: browsers hide where it leads.
  const redirects = Object.fromEntries([301, 302, 303, 307, 308].map((status) => [`redirect ${status}`, async (at) => {
    const xhr = opened("POST", `${at}/elsewhere/${status}`);
    const log = unmeasured(await sent(xhr, "again"));
    const { response, text, ...seen } = state(xhr);
    return [log, seen, echoed(xhr)];
  }]));

  const table = isSealed ? { ...cases, ...redirects } : cases;
  // One that hangs is told by its name.
  const within = (work) => Promise.race([
    work,
    new Promise((_, reject) => setTimeout(() => reject(new Error("it hangs")), 10_000)),
  ]);
  const outcomes = async (at) => {
    const told = {};
    for (const [name, run] of Object.entries(table)) {
      window.doing = name;
      const result = await within((async () => run(at))()).catch((error) => ({ uncaught: `${error}`, at: error.stack }));
      told[name] = JSON.stringify(result)?.replaceAll(at, "/AT");
    }
    return told;
  };
  const platform = await outcomes(twin);
  const { install } = await import("/npm/install.js");
  const uninstall = install(session, { paths: [own] });
  const ours = await outcomes(own);
  uninstall();
  const differences = Object.keys(table)
    .filter((name) => platform[name] !== ours[name])
    .map((name) => ({ name, platform: platform[name], ours: ours[name] }));
  return { cases: Object.keys(table).length, differences };
};

// Each case is run with the platform's own fetch and with a session's, and must tell the same.
// `args`: the path that leads to the platform's twin, and to the session's.

const text = (value) => new TextEncoder().encode(value);

/** What of an echo is the application's. */
const sent = async (reply) => {
  const { method, target, fields, body } = await reply.json();
  const boundary = fields["content-type"]?.match(/boundary=(.*)/)?.[1];
  const told = { method, target, body, type: fields["content-type"] ?? null, language: fields["content-language"] ?? null };
  for (const name of Object.keys(fields).filter((name) => name.startsWith("x-"))) told[name] = fields[name];
  return JSON.parse(JSON.stringify(told).replaceAll(boundary ?? "\u0000", "BOUNDARY"));
};

/** What of a response everybody sees. */
const seen = ({ url, redirected, type, ok, status, bodyUsed }) =>
  ({ url, redirected, type, ok, status, bodyUsed });

const threw = (work) => work.then(
  (value) => ({ value: typeof value }),
  (error) => ({ name: error?.name ?? null, error: typeof error === "object" ? null : error }),
);

const form = () => {
  const data = new FormData();
  data.append("one", "1");
  data.append("a \"name\"\r\nü", "a\rb\nc\r\nd");
  data.append("file", new File(["in", "side"], 'a "name"\n.txt', { type: "text/plain" }));
  data.append("blob", new Blob(["untyped"]));
  return data;
};

const post = (fetch, at, body, headers) => fetch(`${at}/echo`, { method: "POST", body, headers }).then(sent);

const cases = {
  // What may be asked for.
  "a path": (fetch, at) => fetch(`${at}/echo?a=1&b=%20c#fragment`).then(sent),
  "a relative path": (fetch, at) => fetch(`.${at}/echo`).then(sent),
  "a path relative to another base": (fetch, at) => {
    const base = document.head.appendChild(document.createElement("base"));
    base.href = `${at}/none/`;
    return fetch("../echo").then(sent).finally(() => base.remove());
  },
  "an absolute URL": (fetch, at) => fetch(`${location.origin}${at}/echo`).then(sent),
  "a URL object": (fetch, at) => fetch(new URL(`${at}/echo?x`, location.href)).then(sent),
  "anything with toString": (fetch, at) => fetch({ toString: () => `${at}/echo` }).then(sent),
  "no arguments": (fetch) => threw(fetch()),
  "characters that URLs let through": (fetch, at) => fetch(`${at}/echo?q=a'b(c)[d]~*!é ü%25`).then(sent),
  "init is null": (fetch, at) => fetch(`${at}/echo`, null).then(sent),
  "by itself, not as a method": (fetch, at) => (0, fetch)(`${at}/echo`).then(sent),
  "its length": async (fetch) => fetch.length,
  "an unreadable URL": (fetch) => threw(fetch("http://[")),
  "a user in the URL": (fetch, at) => threw(fetch(`http://ann:secret@${location.host}${at}/echo`)),

  // Request objects.
  "a request": (fetch, at) =>
    fetch(new Request(`${at}/echo`, { method: "PUT", headers: { "x-a": "1" }, body: "from a request" })).then(sent),
  "a request of another frame": (fetch, at) => {
    const frame = document.documentElement.appendChild(document.createElement("iframe"));
    const request = new frame.contentWindow.Request(new URL(`${at}/echo`, location.href), { method: "POST", body: "afar" });
    return fetch(request).then(sent).finally(() => frame.remove());
  },
  "a request, and init on top": (fetch, at) =>
    fetch(new Request(`${at}/echo`, { method: "PUT", headers: { "x-a": "1", "x-b": "1" }, body: "below" }),
      { method: "PATCH", headers: { "x-a": "2" }, body: "on top" }).then(sent),
  "a request keeps what init leaves alone": (fetch, at) =>
    fetch(new Request(`${at}/echo`, { method: "PUT", body: "kept" }), { headers: { "x-a": "2" } }).then(sent),
  "a request is used up": async (fetch, at) => {
    const request = new Request(`${at}/echo`, { method: "POST", body: "once" });
    const first = await fetch(request).then(sent);
    return [first, request.bodyUsed, await threw(fetch(request))];
  },
  "a clone is not": async (fetch, at) => {
    const request = new Request(`${at}/echo`, { method: "POST", body: "once" });
    return [await fetch(request.clone()).then(sent), request.bodyUsed, await fetch(request).then(sent)];
  },

  // Bodies.
  "a string": (fetch, at) => post(fetch, at, "é ü \u{1f3fa}"),
  "an empty string": (fetch, at) => post(fetch, at, ""),
  "no body": (fetch, at) => post(fetch, at, undefined),
  "parameters": (fetch, at) => post(fetch, at, new URLSearchParams({ a: "1", b: "ü &" })),
  "a form": (fetch, at) => post(fetch, at, form()),
  "a form without files": (fetch, at) => {
    const data = new FormData();
    data.append("one", "1");
    return post(fetch, at, data);
  },
  "an empty form": (fetch, at) => post(fetch, at, new FormData()),
  "a blob": (fetch, at) => post(fetch, at, new Blob(["a", "b"], { type: "image/x-test" })),
  "a blob without a type": (fetch, at) => post(fetch, at, new Blob(["ab"])),
  "a buffer": (fetch, at) => post(fetch, at, text("buffer").buffer),
  "a string with half a character": (fetch, at) => post(fetch, at, "a\ud800b"),
  "an array that changes meanwhile": (fetch, at) => {
    const body = text("as it was");
    const sending = post(fetch, at, body);
    body.fill(120);
    return sending;
  },
  "a part of an array": (fetch, at) => post(fetch, at, text("an array").subarray(3, 6)),
  "an array of 16 bits": (fetch, at) => post(fetch, at, new Uint16Array([0x4241, 0x4443])),
  "a view": (fetch, at) => post(fetch, at, new DataView(text("a view").buffer, 2)),
  "something else": (fetch, at) => post(fetch, at, { toString: () => "else" }),
  "a type of its own": (fetch, at) => post(fetch, at, "{}", { "content-type": "application/json" }),
  "a large body": async (fetch, at) => {
    const body = "0123456789abcdef".repeat(1 << 16);
    const told = await post(fetch, at, body);
    return [told.body.length, told.body === body];
  },
  "a body with GET": (fetch, at) => threw(fetch(`${at}/echo`, { body: "no" })),

  // Methods.
  ...Object.fromEntries(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "pOsT", "PROPFIND"].map((method) =>
    [`method ${method}`, (fetch, at) => fetch(`${at}/echo`, { method }).then(sent)])),
  ...Object.fromEntries(["CONNECT", "TRACE", "TRACK", "a b", ""].map((method) =>
    [`method '${method}'`, (fetch, at) => threw(fetch(`${at}/echo`, { method }))])),
  "HEAD": async (fetch, at) => {
    const reply = await fetch(`${at}/echo`, { method: "HEAD" });
    return [seen(reply), reply.headers.get("content-type"), await reply.text()];
  },
  "how long the content is": async (fetch, at) => {
    const length = async (reply) => [reply.headers.get("content-length"), (await reply.text()).length];
    const problem = `${at}/problem/100000`;
    return [await length(await fetch(problem)), await length(await fetch(problem, { method: "HEAD" })),
      await length(await fetch(`${at}/none`)), await length(await fetch(`${at}/ticks/2/1`))];
  },

  // Fields.
  "headers": (fetch, at) => post(fetch, at, "", new Headers([["x-a", "1"], ["x-a", "2"], ["X-B", " 3 "]])),
  "pairs": (fetch, at) => post(fetch, at, "", [["x-a", "1"], ["x-a", "2"]]),
  "a record": (fetch, at) => post(fetch, at, "", { "X-A": 1, "x-empty": "" }),
  "fields that are the platform's own": (fetch, at) =>
    post(fetch, at, "", { cookie: "a=b", host: "example.com", "content-length": "7", "sec-x": "1", "x-a": "1" }),
  "a wrong name": (fetch, at) => threw(post(fetch, at, "", { "a b": "1" })),
  "a wrong value": (fetch, at) => threw(post(fetch, at, "", { "x-a": "a\nb" })),

  // Replies.
  "a response": async (fetch, at) => {
    const reply = await fetch(`${at}/echo?a#b`);
    const copy = reply.clone();
    const again = copy.clone();
    const told = [seen(reply), seen(copy), seen(again), reply instanceof Response, reply.body instanceof ReadableStream];
    return [told, await reply.text() === await copy.text(), await again.json().then(({ method }) => method), seen(reply)];
  },
  "read twice": async (fetch, at) => {
    const reply = await fetch(`${at}/echo`);
    await reply.text();
    return [await threw(reply.text()), await threw((async () => reply.clone())())];
  },
  "a blob comes back": async (fetch, at) => {
    const blob = await fetch(`${at}/form`).then((reply) => reply.blob());
    return [blob.size, blob.type, await blob.text()];
  },
  "a buffer comes back": async (fetch, at) => [...new Uint8Array(await fetch(`${at}/form`).then((reply) => reply.arrayBuffer()))],
  "a form comes back": async (fetch, at) => [...await fetch(`${at}/form`).then((reply) => reply.formData())],
  "a stream comes back": async (fetch, at) => {
    const reader = (await fetch(`${at}/form`)).body.getReader();
    const decoder = new TextDecoder();
    let all = "";
    for (let piece; !(piece = await reader.read()).done;) all += decoder.decode(piece.value, { stream: true });
    return all;
  },
  "not JSON": async (fetch, at) => threw((await fetch(`${at}/form`)).json()),
  "204": async (fetch, at) => {
    const reply = await fetch(`${at}/none`);
    return [seen(reply), await reply.text()];
  },
  ...Object.fromEntries([200, 201, 205, 299, 300, 304, 400, 404, 418, 500, 503, 599].map((status) =>
    [`status ${status}`, async (fetch, at) => {
      const reply = await fetch(`${at}/status/${status}`);
      return [seen(reply), await reply.text()];
    }])),
  // As long as a refusal may be, and longer than anyone reads of one.
  ...Object.fromEntries([1, 100_000].map((length) => [`a problem of the application's, ${length}`, async (fetch, at) => {
    const reply = await fetch(`${at}/problem/${length}`);
    return [seen(reply), await reply.text()];
  }])),
  "many at once": (fetch, at) => Promise.all(Array.from({ length: 12 }, (_, n) => fetch(`${at}/echo?${n}`).then(sent))),

  // Giving up.
  "aborted before": (fetch, at) => threw(fetch(`${at}/echo`, { signal: AbortSignal.abort() })),
  "aborted before, with a reason": (fetch, at) => threw(fetch(`${at}/echo`, { signal: AbortSignal.abort("enough") })),
  "a request that was aborted": (fetch, at) =>
    threw(fetch(new Request(`${at}/echo`, { signal: AbortSignal.abort("enough") }))),
  "a signal that is not used": (fetch, at) => fetch(`${at}/echo`, { signal: new AbortController().signal }).then(sent),
  "timed out": (fetch, at) => threw(fetch(`${at}/wait`, { signal: AbortSignal.timeout(50) })),
  "aborted after the end": async (fetch, at) => {
    const control = new AbortController();
    const told = await fetch(`${at}/echo`, { signal: control.signal }).then(sent);
    control.abort();
    return told;
  },
  "aborted at once": (fetch, at) => {
    const control = new AbortController();
    const fetching = threw(fetch(`${at}/echo`, { signal: control.signal }));
    control.abort("enough");
    return fetching;
  },
  "aborted while the body comes": async (fetch, at) => {
    const control = new AbortController();
    const reply = await fetch(`${at}/ticks/1000000/10`, { signal: control.signal });
    const reader = reply.body.getReader();
    const first = await reader.read();
    control.abort();
    const end = await threw((async () => { while (!(await reader.read()).done); })());
    return [first.done, end];
  },
};

// A signed request that is not sealed cannot be followed: browsers hide where it leads.
const redirects = {
  ...Object.fromEntries([301, 302, 303, 307, 308].flatMap((status) => ["GET", "POST", "PUT"].map((method) =>
    [`${status} after ${method}`, async (fetch, at) => {
      const body = method === "GET" ? undefined : "again";
      const reply = await fetch(`${at}/elsewhere/${status}`, { method, body, headers: { "x-a": "1", "content-language": "en" } });
      return [seen(reply), seen(reply.clone()), await sent(reply)];
    }]))),
  ...Object.fromEntries([301, 302, 303, 307, 308].map((status) => [`${status} after HEAD`, async (fetch, at) => {
    const reply = await fetch(`${at}/elsewhere/${status}`, { method: "HEAD" });
    return [seen(reply), await reply.text()];
  }])),
  ...Object.fromEntries([20, 21].map((hops) => [`${hops} redirects`, (fetch, at) =>
    fetch(`${at}/hops/${hops}`).then(seen, () => "too many")])),
};

const [twin, own, follows] = args;
const table = follows ? { ...cases, ...redirects } : cases;
// One that hangs is told by its name.
const within = (work) => Promise.race([
  work,
  new Promise((_, reject) => setTimeout(() => reject(new Error("it hangs")), 10_000)),
]);
const outcomes = async (fetch, at) => {
  const told = {};
  for (const [name, run] of Object.entries(table)) {
    const result = await within(run(fetch, at)).catch((error) => ({ uncaught: `${error?.name}: ${error?.message} ${error?.code}` }));
    told[name] = JSON.stringify(result)?.replaceAll(at, "/AT");
  }
  return told;
};
const theirs = await outcomes((...all) => fetch(...all), twin);
const platform = {
  ...theirs,
  // WebKit reads a body where the standard knows none.
  "status 205": theirs["status 205"].replace("an answer", ""),
  "its length": JSON.stringify(fetch.length),
  // WebKit gives an AbortError of its own where the standard hands on the signal's reason.
  "timed out": JSON.stringify({ name: "TimeoutError", error: null }),
  "aborted at once": JSON.stringify({ name: null, error: "enough" }),
};
const ours = await outcomes(session.fetch, own);
const differences = Object.keys(table)
  .filter((name) => platform[name] !== ours[name])
  .map((name) => ({ name, platform: platform[name], ours: ours[name] }));
return { cases: Object.keys(table).length, differences };

// The service worker's script in Node, which is asked for what no browser is easily brought to ask. Prints what it does:
// leaves a request to the browser, sends it, or refuses it.

const here = "https://bank.example";
const listeners = {};
const pages = [];
Object.assign(globalThis, {
  location: new URL("/sw.js", here),
  registration: { active: null },
  clients: { matchAll: async () => pages, claim: async () => {} },
  addEventListener: (type, listener) => { listeners[type] = listener; },
});
// Nothing is there: whatever is to be sent fails for that.
let attempts = 0;
globalThis.fetch = async () => {
  attempts += 1;
  throw new TypeError("no network");
};
globalThis.caches = { open: async () => { throw new TypeError("no storage"); } };
console.warn = () => {};

const { protect } = await import("bulla/sw");
const refusal = (options) => {
  try {
    protect(options);
  } catch ({ code }) {
    return code;
  }
};
const unsealed = refusal({ paths: ["/app/"], seal: false });
const isSilent = Object.keys(listeners).length === 0;
protect({ paths: ["/app/"], except: ["/app/open/"] });

const ask = async (given, ...open) => {
  pages.splice(0, pages.length, ...open.map((path) => ({ url: here + path })));
  const { headers = {}, ...rest } = given;
  const request = {
    url: `${here}/app/pay`, method: "GET", mode: "cors", destination: "", cache: "default", referrer: `${here}/app/home`,
    referrerPolicy: "", headers: new Headers(headers), signal: new AbortController().signal, ...rest,
  };
  let answer;
  listeners.fetch({ request, respondWith: (given) => { answer = given; } });
  const text = await (await answer)?.text();
  if (text === undefined) return "left";
  // Only of what was asked for by a page that is left is there anything to read.
  return /another site/.test(text) ? "refused" : "sent";
};

const form = { mode: "navigate", method: "POST", destination: "document" };
const frame = { mode: "navigate", destination: "iframe" };
const bare = { referrer: `${here}/` };
console.log(JSON.stringify({
  unsealed: [unsealed, isSilent],
  attempts: [await ask({}), attempts, await ask({}), attempts],

  request: await ask({}),
  elsewhere: await ask({ url: "https://bank.example.org/app/pay" }),
  otherPath: await ask({ url: `${here}/application` }),
  excepted: await ask({ url: `${here}/app/open/x` }),
  onlyIfCached: await ask({ mode: "same-origin", cache: "only-if-cached" }),

  form: await ask(form),
  formOfNobody: await ask({ ...form, referrer: "" }),
  formOfAnother: await ask({ ...form, referrer: "https://evil.example/" }),
  // Whose name begins as this one's.
  formOfSimilar: await ask({ ...form, referrer: "https://bank.example.evil.example/" }),
  formOfPort: await ask({ ...form, referrer: "https://bank.example:8443/" }),
  frame: await ask(frame),
  frameOfAnother: await ask({ ...frame, referrer: "https://evil.example/" }),

  // Sent on by another site: no more than the origin is left of the referrer, or its policy or origin tells.
  formSentOn: await ask({ ...form, ...bare }),
  formSentOnPastAPage: await ask({ ...form, ...bare }, "/app/home"),
  formOfFirstPage: await ask({ ...form, ...bare }, "/app/home", "/"),
  formOfLoosePolicy: await ask({ ...form, referrerPolicy: "unsafe-url" }),
  formOfOlderPolicy: await ask({ ...form, referrerPolicy: "no-referrer-when-downgrade" }),
  formWithoutOrigin: await ask({ ...form, headers: { origin: "null" } }),
  frameSentOn: await ask({ ...frame, ...bare }),
}));

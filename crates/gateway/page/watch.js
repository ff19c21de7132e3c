// What the loader notices in a page: inline scripts, functions of the platform that have been replaced, and what the page's
// policies have refused. It comes before every other script, and keeps what it needs as it was then. Whoever knows of it
// can get around it, with the functions of a fresh frame for one: it reports, and promises nothing.

import { WRAPPERS } from "../../../npm/src/wrapped.js";
import { MOST_REPORTS, NOTICED } from "./reports.js";

/** How often it is looked what has been replaced, in milliseconds. */
const OFTEN = 10_000;
/** How long a script that was put in may still be written, in milliseconds. */
const SOON = 100;

/** What holds a page's secrets, or leads out of it. */
const WATCHED = [
  ["", ["eval", "fetch", "FormData", "MutationObserver", "Promise", "Request", "Response", "WebSocket", "Worker", "XMLHttpRequest"]],
  ["Crypto.prototype", ["getRandomValues", "subtle"]],
  ["crypto", ["getRandomValues", "subtle"]],
  ["Document.prototype", ["cookie", "createElement"]],
  ["document", ["cookie", "createElement"]],
  ["Element.prototype", ["innerHTML", "setAttribute"]],
  ["EventTarget.prototype", ["addEventListener"]],
  ["Function.prototype", ["apply", "bind", "call", "toString"]],
  ["HTMLFormElement.prototype", ["submit"]],
  ["HTMLInputElement.prototype", ["value"]],
  ["HTMLScriptElement.prototype", ["src", "text"]],
  ["IDBFactory.prototype", ["open"]],
  ["JSON", ["parse", "stringify"]],
  ["Navigator.prototype", ["credentials", "sendBeacon", "serviceWorker"]],
  ["navigator", ["credentials", "sendBeacon", "serviceWorker"]],
  ["Node.prototype", ["appendChild", "insertBefore", "textContent"]],
  ["Object", ["defineProperty", "getOwnPropertyDescriptor"]],
  ["Promise.prototype", ["then"]],
  ["Response.prototype", ["json", "text"]],
  ["ServiceWorker.prototype", ["postMessage"]],
  ["ServiceWorkerContainer.prototype", ["controller", "getRegistration", "register"]],
  ["ServiceWorkerRegistration.prototype", ["unregister", "update"]],
  ["Storage.prototype", ["getItem", "setItem"]],
  ["SubtleCrypto.prototype", ["decrypt", "deriveKey", "digest", "encrypt", "exportKey", "generateKey", "importKey", "sign", "verify"]],
  ["XMLHttpRequest.prototype", ["open", "send", "setRequestHeader"]],
];

/** What a script is that runs (HTML, section 4.12.1; MIME Sniffing, section 4.6), with the white space that may be around it. */
const RUNS =
  /^[\t\n\f\r ]*(?:module|(?:text|application)\/(?:x-)?(?:java|ecma)script|text\/(?:javascript1\.[0-5]|jscript|livescript))?[\t\n\f\r ]*$/i;
/** What has its content in its address, or in the browser: no worker sees it. */
const INSIDE = ["blob:", "data:"];
const XLINK = "http://www.w3.org/1999/xlink";

/** Events that a page's elements pass up come to the window before any of them could keep them to itself. */
const FIRST = { capture: true };

const unbound = Function.prototype.bind.bind(Function.prototype.call);
const { getOwnPropertyDescriptor } = Object;
const getter = (prototype, name) => unbound(getOwnPropertyDescriptor(prototype, name).get);
const getAttribute = unbound(Element.prototype.getAttribute);
const getAttributeNS = unbound(Element.prototype.getAttributeNS);
const scriptsIn = unbound(Element.prototype.getElementsByTagName);
const textOf = getter(Node.prototype, "textContent");
const { URL } = globalThis;
const protocolOf = getter(URL.prototype, "protocol");
const isScript = (node) => node instanceof HTMLScriptElement || node instanceof SVGScriptElement;

/**
 * Watches this page, and tells its worker.
 * @param {Promise<unknown>} ready settles when there is one, if there will be one
 */
export function watch(ready) {
  const report = reporter(ready);
  watchPrimitives(report);
  watchScripts(report);
  watchPolicies(report);
}

/** Tells the worker something, as soon as it is there. */
function reporter(ready) {
  const controller = getter(ServiceWorkerContainer.prototype, "controller");
  const post = unbound(ServiceWorker.prototype.postMessage);
  const workers = navigator.serviceWorker;
  let waiting = [];
  ready.then(() => {
    const worker = controller(workers);
    if (worker && waiting.length > 0) post(worker, [NOTICED, waiting]);
    waiting = undefined;
  }, () => (waiting = undefined));
  return (told) => {
    const report = { ...told, page: location.pathname };
    if (waiting) {
      if (waiting.length < MOST_REPORTS) waiting[waiting.length] = report;
      return;
    }
    const worker = controller(workers);
    if (worker) post(worker, [NOTICED, [report]]);
  };
}

function watchPrimitives(report) {
  const kept = [];
  for (const [path, names] of WATCHED) {
    let owner = globalThis;
    for (const part of path.split(".")) if (part) owner = owner?.[part];
    // Not every engine has all of them.
    if (!owner) continue;
    for (const name of names) {
      kept.push({ owner, name, what: path ? `${path}.${name}` : name, was: getOwnPropertyDescriptor(owner, name) ?? {} });
    }
  }
  const isOurs = unbound(WeakSet.prototype.has);
  const look = () => {
    for (const one of kept) {
      const { value, get, set } = getOwnPropertyDescriptor(one.owner, one.name) ?? {};
      const { was } = one;
      if (one.isTold || (value === was.value && get === was.get && set === was.set)) continue;
      if (typeof value === "function" && isOurs(WRAPPERS, value)) continue;
      one.isTold = true;
      report({ kind: "patched", what: one.what });
    }
  };
  addEventListener("DOMContentLoaded", look, FIRST);
  addEventListener("load", look);
  addEventListener("pagehide", look);
  setInterval(look, OFTEN);
}

/** Where a script is, if it does not stand in the page. */
function addressOf(script) {
  if (script instanceof HTMLScriptElement) return getAttribute(script, "src");
  return getAttribute(script, "href") ?? getAttributeNS(script, XLINK, "href");
}

/** What an address begins with, in lower case, up to its colon. */
function schemeOf(address) {
  try {
    return protocolOf(new URL(address, document.baseURI));
  } catch {
    // Nothing is loaded from there.
    return "";
  }
}

/** Inline scripts, and what is as good as one. Those that are loaded the worker sees. */
function watchScripts(report) {
  const digest = unbound(SubtleCrypto.prototype.digest);
  const encode = unbound(TextEncoder.prototype.encode);
  const { subtle } = crypto;
  const encoder = new TextEncoder();
  let found = [];
  const look = (node) => {
    if (!(node instanceof Element)) return;
    if (isScript(node)) note(node);
    else for (const script of scriptsIn(node, "script")) note(script);
  };
  const note = (script, text = textOf(script)) => {
    if (!RUNS.test(getAttribute(script, "type") ?? "")) return;
    const address = addressOf(script);
    if (address === null) {
      found[found.length] = { script, text };
      return;
    }
    const scheme = schemeOf(address);
    if (INSIDE.includes(scheme)) report({ kind: "script", url: scheme });
  };
  const tell = async () => {
    const all = found;
    found = [];
    for (const { script, text } of all) {
      // The parser may not have come to its end before.
      const later = textOf(script);
      const whole = later.startsWith(text) ? later : text;
      if (!whole) continue;
      const bytes = new Uint8Array(await digest(subtle, "SHA-256", encode(encoder, whole)));
      const hash = `sha256-${btoa(String.fromCharCode(...bytes))}`;
      report({ kind: "script", url: "inline", hash });
    }
  };
  let isParsed = false;
  addEventListener("DOMContentLoaded", () => {
    isParsed = true;
    tell();
  }, FIRST);
  const observer = new MutationObserver((records) => {
    const before = found.length;
    for (const { target, addedNodes, removedNodes } of records) {
      for (const node of addedNodes) look(node);
      // A script that has run may take its text off before anybody looks.
      if (isScript(target)) for (const node of removedNodes) note(target, textOf(node));
    }
    if (isParsed && before === 0 && found.length > 0) setTimeout(tell, SOON);
  });
  observer.observe(document, { childList: true, subtree: true });
}

/** What the page's policies refuse, or would refuse, and what is not what its `integrity` says. */
function watchPolicies(report) {
  addEventListener("securitypolicyviolation", ({ effectiveDirective, blockedURI, disposition }) => {
    report({ kind: "policy", directive: effectiveDirective, blocked: blockedURI, report_only: disposition === "report" });
  }, FIRST);
  addEventListener("error", ({ target }) => {
    if (!(target instanceof HTMLScriptElement || target instanceof HTMLLinkElement) || !target.integrity) return;
    // It may also be that nothing came at all.
    report({ kind: "integrity", url: target.src ?? target.href, expected: target.integrity.split(" ")[0], found: "refused" });
  }, FIRST);
  if (!globalThis.ReportingObserver) return;
  const told = (reports) => {
    for (const { body } of reports) {
      report({ kind: "policy", directive: "integrity-policy", blocked: body.blockedURL, report_only: body.reportOnly });
    }
  };
  new ReportingObserver(told, { types: ["integrity-violation"], buffered: true }).observe();
}

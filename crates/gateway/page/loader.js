// The first script of every page: has the service worker stand between the page and the network, from which on every
// request is signed and sealed. Classic, so that it runs before all others, and without Wasm, which is the worker's.

import { register } from "../../../npm/src/register.js";
import { warn } from "./warning.js";
import { watch } from "./watch.js";

/** The mark of a first visit, in this tab. */
const TRIED = "bulla-gateway: tried";
/** How long a page takes at most to come after a first visit, in milliseconds. */
const SOON = 15_000;

const { worker, first, watched } = document.currentScript.dataset;

/** The address of the worker's script, vouched for where the page's policy wants that. */
function vouched() {
  try {
    const policy = globalThis.trustedTypes?.createPolicy("bulla-gateway", { createScriptURL: () => worker });
    return policy?.createScriptURL("") ?? worker;
  } catch {
    // The page's policy does not list ours, or this script stands in it twice.
    return worker;
  }
}

const ready = register(vouched(), { scope: "/" });
warn();
if (watched !== undefined) watch(ready);

/** A tab's memory; pages without one of their own have none. */
const memory = {
  get: () => attempt(() => sessionStorage.getItem(TRIED)),
  set: (value) => attempt(() => sessionStorage.setItem(TRIED, value)),
  clear: () => attempt(() => sessionStorage.removeItem(TRIED)),
};

function attempt(work) {
  try {
    return work();
  } catch {
    return null;
  }
}

if (first === undefined) {
  memory.clear();
  ready.catch((error) => console.warn(`bulla: ${error.code}: ${error.message}`));
} else {
  firstVisit();
}

/** Goes on to the page that was asked for, or says why it does not come. */
async function firstVisit() {
  const since = Date.now() - Number(memory.get() ?? -Infinity);
  const wasTried = since >= 0 && since < SOON;
  memory.clear();
  const parsed = new Promise((resolve) => addEventListener("DOMContentLoaded", resolve, { once: true }));
  try {
    await ready;
  } catch (error) {
    await parsed;
    return explain(error.code ?? "unsupported", error.cause?.message ?? error.message);
  }
  if (wasTried) {
    await parsed;
    return explain("seal_required", "the page was asked for through the service worker, and yet came without a seal");
  }
  memory.set(Date.now());
  location.reload();
}

/** Shows what stands in the page for this case. */
function explain(code, message) {
  document.documentElement.dataset.state = "failed";
  document.getElementById("code").textContent = `${code}: ${message}`;
  document.getElementById("again").addEventListener("click", () => location.reload());
}

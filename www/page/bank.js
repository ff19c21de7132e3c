// The bank's own client code: the same calls to both banks, through Bulla and with a bearer token.

import { open } from "/bulla/index.js";
import { byId } from "./dom.js";
import { exchange } from "./wire.js";

const TOKEN = "twin-token";

/** What is asked for to show the page, and not because somebody wants it. */
const ASIDE = ["/me", "/account", "/sessions", "/devices", "/office"];

/** How often a request is sent again that was not its turn. */
const PATIENCE = 20;

let session;

/** Opens a session with the protected bank, or goes on with the one that the browser holds. */
export async function connect({ identity }) {
  const options = { server: location.origin, identity };
  session = await exchange(
    { title: "Open a session", line: "open(…)", how: "signed", text: JSON.stringify(options) },
    () => open(options),
    ({ id, device, storage }) => ({ line: "a session", text: JSON.stringify({ id, device, storage }) }),
  );
}

export const isSignedIn = () => session.authenticated && localStorage.getItem(TOKEN) !== null;

/** The names of the session and of this browser's device key. */
export const names = () => ({ session: session.id, device: session.device });

export async function signIn(credentials) {
  const { token } = await ask("twin", "POST", "/login", credentials);
  await ask("protected", "POST", "/login", credentials);
  localStorage.setItem(TOKEN, token);
}

/** Ends the session, at the server too. The next one begins anonymous. */
export async function signOut(about) {
  await session.end();
  localStorage.removeItem(TOKEN);
  await connect(about);
}

/**
 * Asks one of the banks. What it answers, or an error with its `code`, where there is one, and
 * `status`.
 */
export async function ask(side, method, path, body) {
  const init = { method, headers: {} };
  if (body) {
    init.headers["content-type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  let send = inTurn;
  let url = `/api${path}`;
  if (side === "twin") {
    const token = localStorage.getItem(TOKEN);
    if (token) init.headers.authorization = `Bearer ${token}`;
    send = fetch;
    url = `/twin${path}`;
  }
  let answer;
  await exchange(
    { side, line: `${method} ${url}`, isAside: ASIDE.includes(path), fields: Object.entries(init.headers), text: init.body },
    () => send(url, init),
    async (reply) => {
      const text = await reply.text();
      answer = { reply, text };
      return { line: String(reply.status), text, failed: !reply.ok };
    },
  );
  const { reply, text } = answer;
  const content = parsed(text);
  if (reply.ok) return content;
  throw Object.assign(new Error(content?.error ?? `The bank answered ${reply.status}.`), { status: reply.status });
}

/** Waits where the server has slowed the session down: what was refused for that was not carried out. */
async function inTurn(url, init) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await session.fetch(url, init);
    } catch (error) {
      if (error.code !== "rate_limited" || tries === PATIENCE) throw error;
      tellSlow();
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

let calm;

/** Says that this is slow, and goes on saying so between one wait and the next. */
function tellSlow() {
  byId("slow").hidden = false;
  clearTimeout(calm);
  calm = setTimeout(() => (byId("slow").hidden = true), 3000);
}

/** What script in this page can copy of both sessions. Injected script can do all of this. */
export async function spoils() {
  const database = await settled(indexedDB.open("bulla"));
  const records = database.transaction("records").objectStore("records");
  const { id, ticket, nonce } = await settled(records.get(`session ${location.origin}`));
  database.close();
  return { session: id, ticket, nonce, token: localStorage.getItem(TOKEN) };
}

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

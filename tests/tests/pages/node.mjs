import { inspect } from "node:util";

// What an import could do behind the application's back is watched while it imports.
const touched = [];
const restores = [
  [globalThis, "fetch"], [globalThis, "BroadcastChannel"], [globalThis, "setTimeout"],
  [WebAssembly, "instantiate"], [WebAssembly, "compile"],
  [crypto.subtle, "generateKey"], [crypto, "getRandomValues"],
].map(([owner, name]) => {
  const original = owner[name];
  owner[name] = function (...given) {
    touched.push(name);
    return Reflect.apply(original, this, given);
  };
  return () => { owner[name] = original; };
});
const state = () => [...Reflect.ownKeys(globalThis).map(String), ...process.getActiveResourcesInfo()];
const before = state();
const bulla = await import("bulla");
touched.push(...state().filter((name) => !before.includes(name)));
for (const restore of restores) restore();

const [server, identity] = process.argv.slice(2);
const open = () => bulla.open({ server, identity });
const about = ({ id, authenticated, storage, device }) => ({ id, authenticated, storage, device });
const told = { version: process.version, touched: [...touched] };

let session = await open();
told.opened = about(session);
const post = async (path, body) => {
  const headers = { "content-type": "application/json" };
  return (await session.fetch(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
};
told.refused = await post("/api/transfer", { to: "bob", amount: 7 }).catch(({ code }) => code);
told.hello = await post("/api/login", { user: "ann" });
told.session = about(session);
told.receipt = await post("/api/transfer", { to: "bob", amount: 7 });
told.me = await session.fetch("/api/me").then((reply) => reply.json());

// This stream has no end.
const decoder = new TextDecoder();
told.heard = "";
for await (const piece of (await session.fetch("/api/ticks/1000000/10")).body) {
  told.heard += decoder.decode(piece, { stream: true });
  if (told.heard.includes("data: 2\n\n")) break;
}

told.second = about(await open());
await session.end();
told.closed = await session.fetch("/api/me").catch(({ code }) => code);
session = await open();
told.next = about(session);
await session.forget();
told.forgotten = about(await open());
// A login that the one who ends it has not heard of: nothing tells here what others store.
session = await open();
const deaf = await open();
await post("/api/login", { user: "ann" });
const { id } = session;
told.deaf = deaf.id !== id;
await deaf.end();
told.after = await post("/api/transfer", { to: "bob", amount: 7 }).catch(({ code }) => code);
told.left = (await open()).id === id;
// A login that comes about while the end is on its way.
session = await open();
const other = await open();
const { fetch: way } = globalThis;
globalThis.fetch = async (...given) => {
  globalThis.fetch = way;
  const body = JSON.stringify({ user: "ann" });
  await other.fetch("/api/login", { method: "POST", headers: { "content-type": "application/json" }, body });
  return way(...given);
};
await session.end();
told.overtaken = await other.fetch("/api/transfer", { method: "POST" }).catch(({ code }) => code);
// Who has ended is done with it.
const later = (await open()).id;
await deaf.end();
told.later = (await open()).id === later;
// This body has no end either.
const control = new AbortController();
const given = { method: "POST", body: new ReadableStream(), duplex: "half", signal: control.signal };
const upload = session.fetch("/api/echo", given).catch((reason) => reason);
control.abort("enough");
told.upload = await upload;
// Node does not hide where a redirect leads, and TLS alone vouches for it.
const unsealed = await bulla.open({ server, identity, seal: false });
told.redirects = [];
for (const status of [301, 302, 303, 307, 308]) {
  for (const redirect of ["follow", "manual", "error"]) {
    const ask = unsealed.fetch(`/api/elsewhere/${status}`, { method: "POST", body: "pay", redirect });
    told.redirects.push(await ask.then(({ status }) => status, ({ code }) => code));
  }
}
// Nor is anything more of it read.
const { fetch } = globalThis;
told.stopped = false;
const body = new ReadableStream({ cancel: () => { told.stopped = true; } });
globalThis.fetch = async () => new Response(body, { status: 302, headers: { location: "/api/me" } });
await unsealed.fetch("/api/me").catch(() => {});
globalThis.fetch = fetch;
// By a name that is no origin of the server's, and with a pin under a wrong name.
const elsewhere = server.replace("localhost", "127.0.0.1");
told.elsewhere = await bulla.open({ server: elsewhere, identity }).catch(({ code }) => code);
told.misspelt = await bulla.open({ server, identiti: identity }).catch(({ code }) => code);
told.named = inspect(await bulla.open({ server: 7 }).catch((error) => error)).split(": ", 1)[0];
// There is no Worker of the browsers' kind.
const isolated = await import("bulla/worker");
told.isolated = await isolated.open({ server, identity, paths: ["/"] }).catch(({ name, code }) => `${name} ${code}`);
console.log(JSON.stringify(told));

// What Node hears of an upload and of a download, and its own `fetch` through a session. Prints it as JSON.

import { open } from "bulla";
import { install } from "bulla/install";

const [server, identity] = process.argv.slice(2);
const session = await open({ server, identity });
const [up, down] = [[], []];
const reply = await session.fetch("/api/mirror", {
  method: "POST",
  body: "a body",
  onUploadProgress: (progress) => up.push(progress),
  onDownloadProgress: (progress) => down.push(progress),
});
const text = await reply.text();
const statuses = [];
const uninstall = install(session, { paths: ["/api/"] });
for (const path of ["/api/form", "/twin/form"]) statuses.push((await fetch(server + path)).status);
uninstall();
statuses.push((await fetch(`${server}/api/form`)).status);
await session.end();
console.log(JSON.stringify({ up, down, text, statuses }));

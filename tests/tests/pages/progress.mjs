// What Node hears of an upload and of a download. Prints it as JSON.

import { open } from "bulla";

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
await session.end();
console.log(JSON.stringify({ up, down, text }));

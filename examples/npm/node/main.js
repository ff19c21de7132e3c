import { createServer } from "node:http";
import { open } from "bulla";

const [api = "http://localhost:8080", port = "3000"] = process.argv.slice(2);

// One session for the whole process: this service is a user of the API, and not each of its own visitors.
const session = await open({ server: api });

async function notes() {
  const reply = await session.fetch("/notes");
  return reply.json();
}

async function login() {
  const headers = { "content-type": "application/json" };
  await session.fetch("/login", { method: "POST", headers, body: JSON.stringify({ name: "reporter" }) });
}

/** Reads, and logs in where nobody is, as at first, or after an idle time. */
async function report() {
  try {
    return await notes();
  } catch (error) {
    if (error.code !== "login_required") throw error;
    await login();
    return notes();
  }
}

const server = createServer(async (request, response) => {
  try {
    const { length } = await report();
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ notes: length }));
  } catch (error) {
    // A `BullaError` says what went wrong, and nothing that is secret.
    response.writeHead(502).end(error.code ?? "internal");
  }
});
server.listen(Number(port), () => console.log(`http://localhost:${server.address().port}`));

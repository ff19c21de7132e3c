import { open } from "bulla/worker";

const form = document.querySelector("form");
const trouble = document.querySelector("[role=alert]");
const opening = open({ server: location.origin, paths: ["/login", "/notes"] });

async function write({ name, note }) {
  const session = await opening;
  if (!session.authenticated) {
    const headers = { "content-type": "application/json" };
    await session.fetch("/login", { method: "POST", headers, body: JSON.stringify({ name }) });
  }
  await session.fetch("/notes", { method: "POST", body: note });
  const reply = await session.fetch("/notes");
  const notes = await reply.json();
  const items = notes.map((text) => Object.assign(document.createElement("li"), { textContent: text }));
  document.querySelector("ul").replaceChildren(...items);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await write(Object.fromEntries(new FormData(form)));
    trouble.textContent = "";
  } catch (error) {
    trouble.textContent = `${error.message} (${error.code})`;
  }
});

// From here on this script takes what is written, and not the browser.
form.querySelector("button").disabled = false;

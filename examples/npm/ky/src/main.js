import { api, session } from "./api.js";

const form = document.querySelector("form");
const trouble = document.querySelector("[role=alert]");

async function write({ name, note }) {
  if (!session.authenticated) await api.post("/login", { json: { name } });
  await api.post("/notes", { body: note });
  const notes = await api.get("/notes").json();
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

import axios from "axios";
import { session } from "./session.js";

const form = document.querySelector("form");
const trouble = document.querySelector("[role=alert]");

async function write({ name, note }) {
  if (!session.authenticated) await axios.post("/login", { name });
  await axios.post("/notes", note);
  const { data: notes } = await axios.get("/notes");
  const items = notes.map((text) => Object.assign(document.createElement("li"), { textContent: text }));
  document.querySelector("ul").replaceChildren(...items);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await write(Object.fromEntries(new FormData(form)));
    trouble.textContent = "";
  } catch (error) {
    trouble.textContent = error.message;
  }
});

// From here on this script takes what is written, and not the browser.
form.querySelector("button").disabled = false;

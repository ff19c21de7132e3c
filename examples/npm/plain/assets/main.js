import { BullaError, open } from "./bulla/index.js";

const [login, write, logout, list, trouble] = ["login", "write", "logout", "notes", "trouble"].map((id) =>
  document.getElementById(id),
);
let session;
let asked = 0;

async function attempt(work) {
  trouble.textContent = "";
  try {
    await work();
  } catch (error) {
    if (!(error instanceof BullaError)) throw error;
    trouble.textContent = `${error.message} (${error.code})`;
  }
}

/** Shows how things stand. */
async function show() {
  const { authenticated } = session;
  login.hidden = authenticated;
  write.hidden = !authenticated;
  const mine = (asked += 1);
  const notes = authenticated ? await session.fetch("/notes").then((reply) => reply.json()) : [];
  // Answers may come in another order.
  if (mine !== asked) return;
  const items = notes.map((text) => Object.assign(document.createElement("li"), { textContent: text }));
  list.replaceChildren(...items);
}

login.addEventListener("submit", (event) => {
  event.preventDefault();
  const body = JSON.stringify(Object.fromEntries(new FormData(login)));
  const headers = { "content-type": "application/json" };
  attempt(() => session.fetch("/login", { method: "POST", headers, body }));
});

write.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    await session.fetch("/notes", { method: "POST", body: new FormData(write).get("note") });
    write.reset();
    await show();
  });
});

logout.addEventListener("click", () => attempt(() => session.fetch("/logout", { method: "POST" })));

attempt(async () => {
  session = await open({ server: location.origin });
  // By a login or a logout, here or in another tab.
  session.on("change", () => attempt(show));
  await show();
});

// As it was before: it knows nothing of sessions, keys or seals.

const [login, write, logout, list, trouble] = ["login", "write", "logout", "notes", "trouble"].map((id) =>
  document.getElementById(id),
);

async function attempt(work) {
  trouble.textContent = "";
  try {
    await work();
    await show();
  } catch (error) {
    trouble.textContent = error.message;
  }
}

/** Shows how things stand. */
async function show() {
  const reply = await fetch("/notes");
  const notes = reply.ok ? await reply.json() : [];
  const items = notes.map((text) => Object.assign(document.createElement("li"), { textContent: text }));
  list.replaceChildren(...items);
  login.hidden = reply.ok;
  write.hidden = !reply.ok;
}

login.addEventListener("submit", (event) => {
  event.preventDefault();
  const body = JSON.stringify(Object.fromEntries(new FormData(login)));
  const headers = { "content-type": "application/json" };
  attempt(() => fetch("/login", { method: "POST", headers, body }));
});

write.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    await fetch("/notes", { method: "POST", body: new FormData(write).get("note") });
    write.reset();
  });
});

logout.addEventListener("click", () => attempt(() => fetch("/logout", { method: "POST" })));

attempt(async () => {});

import { BullaError, open, type Session } from "bulla";

const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const login = element<HTMLFormElement>("login");
const write = element<HTMLFormElement>("write");
const trouble = element("trouble");
let session: Session;
let asked = 0;

async function attempt(work: () => Promise<unknown>) {
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
  const notes: string[] = authenticated ? await session.fetch("/notes").then((reply) => reply.json()) : [];
  // Answers may come in another order.
  if (mine !== asked) return;
  const items = notes.map((text) => Object.assign(document.createElement("li"), { textContent: text }));
  element("notes").replaceChildren(...items);
}

login.addEventListener("submit", (event) => {
  event.preventDefault();
  const body = JSON.stringify(Object.fromEntries(new FormData(login)));
  const headers = { "content-type": "application/json" };
  void attempt(() => session.fetch("/login", { method: "POST", headers, body }));
});

write.addEventListener("submit", (event) => {
  event.preventDefault();
  void attempt(async () => {
    await session.fetch("/notes", { method: "POST", body: new FormData(write).get("note") as string });
    write.reset();
    await show();
  });
});

element("logout").addEventListener("click", () => {
  void attempt(() => session.fetch("/logout", { method: "POST" }));
});

void attempt(async () => {
  session = await open({ server: location.origin });
  // By a login or a logout, here or in another tab.
  session.on("change", () => void attempt(show));
  await show();
});

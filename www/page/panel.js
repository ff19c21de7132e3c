// The thief's panel. He is a program of his own; this page hands him the cookies, and shows what he reports.

import { came, command, proof, row, SIDES, verdict } from "./attack.js";
import { byId, element } from "./dom.js";

const ATTACKS = [
  {
    name: "bare",
    title: "Send the cookie",
    story: "With nothing but the copied cookie he asks for the admin’s first page, as any program can.",
  },
  {
    name: "session",
    title: "Send it in a session of his own",
    story:
      "He comes as a visitor first. Behind Bulla he opens a session with a device key of his own; without it he gets cookies of his own. Then he adds the one that he has copied.",
  },
];

let busy = false;

const loot = () => Object.fromEntries(SIDES.map((side) => [side, byId(`loot-${side}`).value.trim()]));

async function start() {
  const { admin, take, home } = await (await fetch("/demo.json")).json();
  byId("user").textContent = admin.user;
  byId("password").textContent = admin.password;
  for (const way of ["behind", "without"]) {
    byId(way).href = `${admin[way]}/admin/`;
    byId(way).querySelector("span").textContent = new URL(admin[way]).host;
  }
  // He takes a cookie by each of the panel's two names, and comes back to this one.
  if (location.origin !== home) location.replace(home);
  byId("take").href = take;
  const taken = await (await fetch("/thief/loot")).json();
  for (const side of SIDES) {
    byId(`loot-${side}`).value = taken[side];
    byId(`loot-${side}`).addEventListener("input", enable);
  }
  byId("attacks").append(...ATTACKS.map((attack) => row(attack, attack.story, tryOne)));
  enable();
  document.documentElement.dataset.ready = "true";
}

function enable() {
  const hasNone = Object.values(loot()).every((cookie) => !cookie);
  byId("needs-victim").hidden = !hasNone;
  for (const button of document.querySelectorAll("button.thiefs")) {
    // Not `disabled` while he is at work: that would take the focus away.
    button.disabled = hasNone;
    button.setAttribute("aria-disabled", String(busy || hasNone));
  }
}

async function tryOne({ name }) {
  if (busy) return;
  busy = true;
  enable();
  const item = byId("attacks").querySelector(`[data-attack=${name}]`);
  item.setAttribute("aria-busy", "true");
  delete item.dataset.done;
  try {
    const report = await command("try", { attack: name, ...loot() });
    for (const side of SIDES) came(item, side, outcome(name, side, report[side]));
    item.dataset.done = "true";
  } catch (error) {
    for (const side of SIDES) came(item, side, [element("p", { class: "alert" }, error.message)]);
  } finally {
    item.removeAttribute("aria-busy");
    busy = false;
    enable();
  }
}

/** What came of it on one side: who the admin takes him for, and what it answered. */
function outcome(name, side, attempt) {
  if (!attempt) return [element("p", { class: "empty" }, "He has no cookie of this side")];
  const { user, code, answer } = attempt;
  const refused = code ? "Refused" : "Not logged in";
  const found = verdict(Boolean(user), user ? `Logged in as ${user}` : refused, code);
  return [found, ...sentences(name, side, attempt, answer).map((text) => element("p", {}, text)), proof(attempt)];
}

function sentences(name, side, { user, detail }, answer) {
  const said = [];
  if (answer) said.push(`The answer was ${answer.line}.`);
  if (detail) said.push(`The gateway says: ${detail}.`);
  if (user) said.push("The page is the victim’s, and so is whatever he does there.");
  if (!user && !detail && side === "protected" && name === "session") {
    said.push("The cookie is another device’s: the gateway took it out, and the admin wants him to log in.");
  } else if (!user && !detail) {
    said.push("The admin knows no such session, and wants him to log in.");
  }
  return said;
}

start().catch((error) => {
  byId("trouble").textContent = error.message;
  byId("trouble").hidden = false;
});

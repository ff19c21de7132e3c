// The thief's five attacks, and what he does to make rules fire. Here the victim acts; the thief himself is a
// native client elsewhere, and what he reports is what came back to him.

import { came, command, proof, row, SIDES, verdict } from "./attack.js";
import { ask, names, spoils } from "./bank.js";
import { byId, element, money } from "./dom.js";

const MALLORY = "4004";

/** `act` is what the victim does once the attack is armed; it returns what the page noticed. */
const ATTACKS = [
  {
    name: "token",
    title: "Copy the token",
    story: ({ victim }) =>
      `Script in ${victim}’s page copies all that it can read: Bulla’s ticket and nonce, the twin’s token. From his own machine he orders ${money(30000)} for himself.`,
    act: async () => {},
  },
  {
    name: "replay",
    title: "Send it again",
    story: ({ victim }) =>
      `${victim} pays Mallory ${money(1200)} for coffee. The request was recorded on its way. He sends the very same bytes once more.`,
    act: () => payBoth({ to: MALLORY, amount: 1200, note: "Coffee" }),
  },
  {
    name: "change",
    title: "Change it on the way",
    story: ({ victim, friend }) =>
      `${victim} pays ${friend.first} ${money(4500)}. On the way he makes it ${money(45000)}, to himself. Where he cannot read it, he flips a bit.`,
    act: ({ friend }) => payBoth({ to: friend.number, amount: 4500, note: "Dinner" }),
  },
  {
    name: "keep",
    title: "Keep it for later",
    story: ({ victim }) =>
      `${victim} pays Mallory ${money(6000)}. He holds the request back, so that it seems to have failed, and sends it five minutes later.`,
    act: () => payBoth({ to: MALLORY, amount: 6000, note: "Old bicycle" }),
  },
  {
    name: "swap",
    title: "Swap the reply",
    story: ({ victim, friend }) =>
      `Before paying ${friend.first} ${money(8000)}, ${victim}’s page asks for the account number. He answers with an earlier reply, which names his own.`,
    act: payWhomTheBankNames,
  },
];

const taken = { protected: 0, twin: 0 };
let victim;
let afterwards;
let busy = false;

/** Shows the attacks; `after` is called when one is over. */
export function present(after) {
  afterwards = after;
  byId("try-all").addEventListener("click", tryAll);
  robs(undefined);
}

/** Whom he robs: `{ victim, friend: { first, name, number } }`; nobody before somebody has signed in. */
export function robs(somebody) {
  victim = somebody;
  const shown = somebody ?? { victim: "the customer", friend: { first: "a friend" } };
  byId("needs-victim").hidden = Boolean(somebody);
  if (byId("attacks").dataset.victim !== shown.victim) {
    byId("attacks").dataset.victim = shown.victim;
    byId("attacks").replaceChildren(...ATTACKS.map((attack) => row(attack, attack.story(shown), tryOne)));
  }
  enable();
  for (const side of SIDES) byId(`taken-${side}`).textContent = money(taken[side]);
}

async function tryAll() {
  for (const attack of ATTACKS) await tryOne(attack);
}

const tryOne = (attack) =>
  atWork(async () => {
    const item = byId("attacks").querySelector(`[data-attack=${attack.name}]`);
    item.setAttribute("aria-busy", "true");
    delete item.dataset.done;
    try {
      await command("arm", { attack: attack.name });
      const noticed = (await attack.act(victim)) ?? {};
      const report = await command("strike", { attack: attack.name, spoils: await spoils() });
      for (const side of SIDES) {
        taken[side] += report[side].gained;
        came(item, side, outcome(side, report, noticed));
      }
      item.dataset.done = "true";
    } catch (error) {
      for (const side of SIDES) came(item, side, [element("p", { class: "alert" }, error.message)]);
    } finally {
      item.removeAttribute("aria-busy");
    }
  });

/** Lets him do one thing at a time, to whoever is signed in. */
export async function atWork(work) {
  if (busy || !victim) return;
  busy = true;
  enable();
  try {
    // So that nothing else is under way that he could catch; and a proof over an older nonce would be sent twice.
    await afterwards();
    if (victim) await work();
  } finally {
    busy = false;
    await afterwards();
    enable();
  }
}

export const isAtWork = () => busy;

function enable() {
  for (const button of document.querySelectorAll("button.thiefs")) {
    // Not `disabled` while he is at work: that would take the focus away.
    button.disabled = !victim;
    button.setAttribute("aria-disabled", String(busy || !victim));
  }
}

/** What came of it on one side. Codes and amounts are those that were reported. */
function outcome(side, report, noticed) {
  const attempt = report[side];
  const code = attempt.code ?? (attempt.swapped ? noticed[side]?.code : undefined);
  const robbed = attempt.gained > 0;
  const found = verdict(robbed, robbed ? `${money(attempt.gained)} gone` : "Refused", code);
  return [found, ...sentences(side, report, noticed).map((text) => element("p", {}, text)), proof(attempt)];
}

/** The rest of it in words. */
function sentences(side, report, noticed) {
  const { detail, told_by: toldBy, answer, swapped, gained } = report[side];
  const here = noticed[side];
  const said = [];
  if (detail) said.push(`The server says: ${detail}.`);
  if (toldBy === "server") {
    said.push(`Even the refusal is sealed: he got ${answer.len} bytes that he cannot read. The code is from the server’s own report.`);
  }
  if (here?.code && here.code !== report[side].code) said.push(`${victim.victim}’s browser says: ${here.message}.`);
  if (swapped && gained > 0) said.push(`${victim.victim}’s page believed him, and paid.`);
  if (!detail && answer && gained > 0) said.push(`The twin answered ${answer.line}.`);
  if (report.later && side === "protected") said.push(`The server’s clock was moved ${report.later / 60} minutes on for this.`);
  return said;
}

/** Pays at both banks. What the page noticed: the errors, by side. */
async function payBoth(order) {
  const noticed = {};
  for (const side of SIDES) {
    await ask(side, "POST", "/transfer", order).catch((error) => (noticed[side] = error));
  }
  return noticed;
}

/** Looks Mallory up, then the friend, and pays whom the bank named. */
async function payWhomTheBankNames({ friend }) {
  const noticed = {};
  for (const side of SIDES) {
    try {
      await ask(side, "GET", "/payees/Mallory%20Crane");
      const { number } = await ask(side, "GET", `/payees/${encodeURIComponent(friend.name)}`);
      await ask(side, "POST", "/transfer", { to: number, amount: 8000, note: "Rent" });
    } catch (error) {
      noticed[side] = error;
    }
  }
  return noticed;
}

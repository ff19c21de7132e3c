// Makes rules fire. What they do is done by the server, and seen at the bank.

import { command } from "./attack.js";
import { ask, spoils } from "./bank.js";
import { byId, element } from "./dom.js";
import { DONE } from "./feed.js";
import { atWork } from "./thief.js";

const RULES = {
  missing_proof: {
    title: "Try the ticket alone",
    story: ({ count }) => `He shows the copied ticket ${count} times, without any proof.`,
  },
  foreign_ticket: {
    title: "Take the session over",
    story: () => "He asks for fresh keys with the copied ticket, on a device of his own.",
  },
  refusals: {
    title: "Forge and forge again",
    story: ({ count }) => `He signs ${count} payments with the wrong key.`,
  },
  network_change: {
    title: "Copy the whole browser",
    story: () =>
      "Malware can: key and all. What it sends is as good as yours, but comes from elsewhere. Here your own next request does.",
    act: async () => {
      await command("arm", { attack: "elsewhere" });
      // It is refused, and the session has ended.
      await ask("protected", "GET", "/account").catch(() => {});
      return { fired: true };
    },
  },
};

/** Shows the rules that the bank has. */
export function presentRules(rules) {
  byId("rules").replaceChildren(...rules.map(row));
}

function row(rule) {
  const { title, story, act = provoke } = RULES[rule.rule];
  const told = element("p", { class: "done", "aria-live": "polite" }, `Then: ${DONE[rule.done]}`);
  const fire = () =>
    atWork(async () => {
      try {
        const { fired } = await act(rule);
        told.textContent = fired ? `Fired: ${DONE[rule.done]}` : `Not again within ${rule.within} seconds.`;
        told.dataset.fired = String(fired);
      } catch (error) {
        told.textContent = error.message;
      }
    });
  return element(
    "li",
    { "data-provoke": rule.rule },
    element("h4", {}, title),
    element("p", {}, story(rule)),
    told,
    element("button", { type: "button", class: "thiefs", "aria-label": `Let him try: ${title}`, onclick: fire }, "Let him try"),
  );
}

const provoke = async ({ rule }) => command("provoke", { rule, spoils: await spoils() });

// How an attack is shown: what the thief does, and what came of it on either side.

import { element } from "./dom.js";
import { message } from "./message.js";

export const SIDES = ["protected", "twin"];

/** An attack that has not been tried yet. `go` tries it. */
export function row(attack, text, go) {
  const { name, title } = attack;
  const cell = (side, label) =>
    element(
      "div",
      { class: "result", "data-side": side },
      element("p", { class: "whose" }, label),
      element("div", { class: "came", "aria-live": "polite" }, element("p", { class: "empty" }, "Not tried yet")),
    );
  return element(
    "li",
    { class: "attack", "data-attack": name, "aria-labelledby": `attack-${name}` },
    element(
      "div",
      { class: "about" },
      element("h3", { id: `attack-${name}` }, title),
      element("p", {}, text.charAt(0).toUpperCase() + text.slice(1)),
      element(
        "button",
        { class: "thiefs", type: "button", "aria-label": `Let him try: ${title}`, onclick: () => go(attack) },
        "Let him try",
      ),
    ),
    cell("protected", "Behind Bulla"),
    cell("twin", "Without it"),
  );
}

/** Shows what came of it. What is false is left out. */
export function came(item, side, content) {
  item.querySelector(`[data-side=${side}] .came`).replaceChildren(...content.filter(Boolean));
}

/** Tells him what to do. */
export async function command(act, body) {
  const reply = await fetch(`/thief/${act}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (reply.status === 204) return undefined;
  const answer = await reply.json();
  if (!reply.ok) throw new Error(`Nothing came of it: ${answer.error}.`);
  return answer;
}

/** What came of it in a word or two, with the refusal's code if there is one. */
export function verdict(robbed, words, code) {
  return element(
    "p",
    { class: robbed ? "verdict bad" : "verdict good", "data-verdict": robbed ? "robbed" : "refused" },
    words,
    code ? element("code", { "data-code": code }, code) : null,
  );
}

/** The messages themselves. */
export function proof({ sent, answer }) {
  if (!sent) return null;
  return element(
    "details",
    {},
    element("summary", {}, "What he sent, and what came back"),
    message(readable(sent)),
    answer ? message(readable(answer)) : null,
  );
}

function readable({ line, fields, len, text, hex }) {
  const bytes = hex ? Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16)) : undefined;
  return { line, fields, text, bytes, length: len };
}

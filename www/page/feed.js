// The server's security events, newest first.

import { byId, element } from "./dom.js";

const SHOWN = 30;

const time = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

/** Listens for as long as the page is there, and tells `heard` of each event that is new. */
export function listen(heard) {
  let newest = 0;
  const connect = () => {
    const source = new EventSource("/events");
    source.addEventListener("message", ({ data }) => {
      const event = JSON.parse(data);
      // A connection that was lost begins again with what is kept.
      if (event.number <= newest) return;
      newest = event.number;
      show(event);
      heard(event);
    });
    // Firefox calls a connection that the next page cuts off an error, and cuts it before `pagehide`.
    addEventListener("beforeunload", () => source.close(), { once: true });
  };
  connect();
  addEventListener("pageshow", ({ persisted }) => persisted && connect());
}

/** What the kinds of events that are no refusals mean. */
const MEANING = {
  opened: "A session was opened.",
  logged_in: "Somebody logged in.",
  session_ended: "A session ended.",
  subject_ended: "All sessions of a user ended.",
  device_ended: "A device was locked out.",
  key_rotated: "A device has a new key.",
  all_ended: "All sessions ended.",
  step_up: "A user has to sign in again.",
  foreign_ticket: "Another device showed a copied ticket.",
  cookie_unproven: "A bound cookie came without a proof.",
  network_changed: "A session goes on from another network.",
  cookie_dropped: "A cookie of another device was dropped.",
};

/** What each rule is about. */
const RULES = {
  refusals: "Requests of a session are refused too often.",
  foreign_ticket: "A session’s ticket was copied.",
  missing_proof: "A session’s ticket is tried without its key.",
  foreign_cookie: "Cookies of other devices are tried in a session.",
  network_change: "A session has moved to another network.",
  openings: "A network opens many sessions.",
};

/** What a rule has done, by the server's word for it. */
export const DONE = {
  recorded: "recorded",
  step_up: "new login wanted",
  throttled: "session slowed down",
  ended: "session ended",
};

function show({ time: seconds, kind, code, detail, rule, done, session, path }) {
  const when = new Date(seconds * 1000);
  const place = [path, session && `session ${session.slice(0, 8)}…`].filter(Boolean).join(", ");
  const list = byId("events");
  const about = rule
    ? element("span", { class: "detail" }, element("strong", { "data-done": done }, `Rule fired: ${DONE[done]}`), RULES[rule] ?? "")
    : element("span", { class: "detail" }, detail ?? MEANING[kind] ?? "");
  list.prepend(
    element(
      "li",
      { class: rule ? "rule" : code ? "refusal" : "news", "data-rule": rule },
      element("time", { datetime: when.toISOString() }, time.format(when)),
      element("code", {}, rule ?? code ?? kind),
      about,
      element("span", { class: "quiet" }, place),
    ),
  );
  while (list.children.length > SHOWN) list.lastElementChild.remove();
  byId("no-events").hidden = true;
}

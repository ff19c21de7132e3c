// The server's security events, newest first.

import { byId, element } from "./dom.js";

const SHOWN = 30;

const time = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

/** Listens for as long as the page is there. */
export function listen() {
  let newest = 0;
  const connect = () => {
    const source = new EventSource("/events");
    source.addEventListener("message", ({ data }) => {
      const event = JSON.parse(data);
      // A connection that was lost begins again with what is kept.
      if (event.number <= newest) return;
      newest = event.number;
      show(event);
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
  all_ended: "All sessions ended.",
  foreign_ticket: "Another device showed a copied ticket.",
  cookie_unproven: "A bound cookie came without a proof.",
  network_changed: "A session goes on from another network.",
  rule: "It happens too often.",
  cookie_dropped: "A cookie of another device was dropped.",
};

function show({ time: seconds, kind, code, detail, session, path }) {
  const when = new Date(seconds * 1000);
  const place = [path, session && `session ${session.slice(0, 8)}…`].filter(Boolean).join(", ");
  const list = byId("events");
  list.prepend(
    element(
      "li",
      { class: code ? "refusal" : "news" },
      element("time", { datetime: when.toISOString() }, time.format(when)),
      element("code", {}, code ?? kind),
      element("span", { class: "detail" }, detail ?? MEANING[kind] ?? ""),
      element("span", { class: "quiet" }, place),
    ),
  );
  while (list.children.length > SHOWN) list.lastElementChild.remove();
  byId("no-events").hidden = true;
}

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

function show({ time: seconds, code, detail, session, path }) {
  const when = new Date(seconds * 1000);
  const place = [path, session && `session ${session.slice(0, 8)}…`].filter(Boolean).join(", ");
  const list = byId("events");
  list.prepend(
    element(
      "li",
      {},
      element("time", { datetime: when.toISOString() }, time.format(when)),
      element("code", {}, code),
      element("span", { class: "detail" }, detail),
      element("span", { class: "quiet" }, place),
    ),
  );
  while (list.children.length > SHOWN) list.lastElementChild.remove();
  byId("no-events").hidden = true;
}

// The back office: where customers are signed in, for the clerk to end it.

import { ask } from "./bank.js";
import { byId, describe, element } from "./dom.js";
import { button, moment, place, thumbprint } from "./places.js";

/** Shows all customers. `after` is called when something has ended. */
export function showOffice(customers, after) {
  byId("customers-places").replaceChildren(...customers.map(whereabouts));
  byId("end-everything").onclick = () => end("everything");

  function whereabouts({ name, user, sessions, devices }) {
    const rows = devices.map((device) => {
      const session = sessions.find((other) => other.device === device.device);
      return place(
        device.name ?? "Device",
        [
          thumbprint(device.device),
          session ? ` signed in since ${moment(session.login_time)}` : ` signed out, last seen ${moment(device.last_seen)}`,
        ],
        session ? button("End", `End ${name}’s session on this device`, () => end({ session: session.id })) : null,
      );
    });
    return element(
      "section",
      { "data-user": user, "aria-label": name },
      element(
        "div",
        { class: "owner" },
        element("h3", {}, name),
        sessions.length ? button("End all", `End all sessions of ${name}`, () => end({ user })) : null,
      ),
      rows.length ? element("ol", { class: "places" }, ...rows) : element("p", { class: "quiet" }, "Has not been here yet."),
    );
  }

  async function end(what) {
    byId("office-outcome").replaceChildren();
    try {
      await ask("protected", "POST", "/office/end", what);
    } catch (error) {
      byId("office-outcome").replaceChildren(...describe(error));
      return after(error);
    }
    return after();
  }
}

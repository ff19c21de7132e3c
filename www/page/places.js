// Where somebody is signed in and has been: by the lists that the server keeps.

import { ask } from "./bank.js";
import { byId, describe, element } from "./dom.js";

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** Shows the customer's own. `after` is called when one has ended or has another name. */
export function showPlaces(sessions, devices, after) {
  byId("sessions").replaceChildren(
    ...sessions.map((session) =>
      place(
        session.is_this ? "This session" : (session.device_name ?? "Another device"),
        [`since ${moment(session.login_time)}, on `, thumbprint(session.device)],
        session.is_this ? null : button("End", `End the session on ${nameOf(session)}`, () => end("session", session)),
      ),
    ),
  );
  // Nobody's typing is taken away.
  if (byId("devices").querySelector("form")) return;
  byId("devices").replaceChildren(
    ...devices.map((device) => {
      const item = place(
        device.name ?? (device.is_this ? "This browser" : "Another device"),
        [thumbprint(device.device), ` first seen ${moment(device.first_seen)}, last ${moment(device.last_seen)}`],
        device.is_this
          ? button("Name it", "Give this browser a name", () => rename(item, device))
          : button("Remove", `Sign out and remove ${nameOf(device)}`, () => end("device", device)),
      );
      if (device.is_this) item.dataset.this = "true";
      return item;
    }),
  );

  async function end(kind, { id, device }) {
    byId("places-outcome").replaceChildren();
    try {
      await ask("protected", "POST", `/${kind}s/end`, kind === "session" ? { id } : { device });
    } catch (error) {
      byId("places-outcome").replaceChildren(...describe(error));
      return after(error);
    }
    return after();
  }

  function rename(item, { name }) {
    const field = element("input", { name: "name", value: name, maxlength: 64, required: true, "aria-label": "Name of this browser" });
    const told = element("p", { class: "outcome", "data-outcome": "bad", "aria-live": "polite" });
    const form = element("form", { class: "naming" }, field, element("button", { class: "plain", type: "submit" }, "Save"), told);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await ask("protected", "POST", "/devices/name", { name: field.value.trim() });
        form.remove();
        await after();
      } catch (error) {
        told.replaceChildren(...describe(error));
      }
    });
    item.replaceChildren(form);
    field.select();
  }
}

const nameOf = ({ name, device_name: its, device }) => name ?? its ?? `device ${device.slice(0, 8)}`;

/** One line of a list: what it is, what is known of it, what can be done. */
export function place(title, about, action) {
  return element(
    "li",
    {},
    element("p", {}, element("strong", {}, title), element("span", { class: "quiet" }, ...about)),
    action,
  );
}

export function button(text, label, onclick) {
  return element("button", { type: "button", class: "plain", "aria-label": label, onclick }, text);
}

/** As much of it as tells devices apart. */
export const thumbprint = (device) => element("code", { title: device }, device.slice(0, 8));

/** A time of today, or a day. */
export function moment(seconds) {
  const when = new Date(seconds * 1000);
  return new Date().toDateString() === when.toDateString() ? clock.format(when) : day.format(when);
}

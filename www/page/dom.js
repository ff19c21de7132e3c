// Small things that every part of the page needs.

/** Makes an element. Children are text or nodes; what is `null` is left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

export const byId = (id) => document.getElementById(id);

const euros = new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR" });

/** An amount in cents, for people. */
export const money = (cents) => euros.format(cents / 100).replace("-", "\u2212");

/** What went wrong, for people: a code if there is one, and a sentence. */
export function describe(error) {
  return error.code ? [element("code", {}, error.code), " ", error.message] : [error.message];
}

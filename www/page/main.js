// Puts the page together.

import { ask, connect, isSignedIn, signIn, signOut } from "./bank.js";
import { byId, describe, element, money } from "./dom.js";
import { listen } from "./feed.js";
import { count } from "./meter.js";
import { present, robs } from "./thief.js";

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

let about;
/** Whoever is signed in, and whom they pay. */
let customer;

async function start() {
  about = await (await fetch("/demo.json")).json();
  byId("customers").append(...about.customers.map(chip));
  listen();
  count();
  present(refresh);
  await connect(about);
  await refresh();
  document.documentElement.dataset.ready = "true";
}

/** Shows the account as both banks have it, or the way in. */
async function refresh() {
  let account;
  let twin;
  if (isSignedIn()) {
    try {
      account = await ask("protected", "GET", "/account");
      twin = await ask("twin", "GET", "/account");
    } catch (error) {
      // The session is over, at either bank.
      if (error.code !== "login_required" && error.status !== 401) throw error;
      account = undefined;
    }
  }
  byId("sign-in").hidden = Boolean(account);
  byId("account").hidden = !account;
  if (!account) return robs(undefined);

  byId("owner").textContent = account.name;
  byId("number").textContent = account.number;
  byId("balance").textContent = money(account.balance);
  byId("twin-balance").textContent = money(twin.balance);
  byId("statement").replaceChildren(...account.entries.map(entry));
  await refreshSessions();
  const others = about.names.filter((name) => name !== account.name);
  const payees = byId("pay").elements.to;
  if (payees.dataset.owner !== account.name) {
    payees.dataset.owner = account.name;
    payees.replaceChildren(...others.map((name) => element("option", {}, name)));
    const friend = about.customers.find(({ name }) => name !== account.name);
    payees.value = friend.name;
    customer = { victim: first(account.name), friend: { ...friend, first: first(friend.name) } };
  }
  robs(customer);
}

/** Where the customer is signed in: by the list that the server keeps. */
async function refreshSessions() {
  const sessions = await ask("protected", "GET", "/sessions");
  byId("sessions").replaceChildren(...sessions.map(place));
}

function place({ id, device, login_time: login, is_this: isThis }) {
  const when = new Date(login * 1000);
  return element(
    "li",
    {},
    element("span", {}, isThis ? "This browser" : `Device ${device.slice(0, 8)}`),
    element("time", { datetime: when.toISOString(), class: "quiet" }, `since ${clock.format(when)}`),
    isThis ? null : element("button", { type: "button", class: "plain", onclick: () => end(id) }, "End"),
  );
}

async function end(id) {
  try {
    await ask("protected", "POST", "/sessions/end", { id });
  } finally {
    await refreshSessions();
  }
}

const first = (name) => name.split(" ")[0];

function chip({ name, user, password }) {
  return element(
    "button",
    {
      type: "button",
      "data-user": user,
      onclick: () => {
        const { elements } = byId("sign-in");
        elements.user.value = user;
        elements.password.value = password;
        byId("sign-in").requestSubmit();
      },
    },
    element("strong", {}, name),
    element("span", { class: "quiet" }, `${user} / ${password}`),
  );
}

function entry({ time, name, note, amount }) {
  const when = new Date(time * 1000);
  return element(
    "li",
    {},
    element("time", { datetime: when.toISOString() }, day.format(when)),
    element("span", { class: "who" }, name, element("span", { class: "quiet" }, note)),
    element("span", { class: amount < 0 ? "amount" : "amount in" }, money(amount)),
  );
}

/** Lets a form do its work, once at a time, and tells under it what came of it. */
function whenSubmitted(id, work) {
  const form = byId(id);
  const told = form.querySelector("[data-outcome]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.getAttribute("aria-busy")) return;
    form.setAttribute("aria-busy", "true");
    told.replaceChildren();
    try {
      told.replaceChildren(...((await work(form.elements)) ?? []));
      told.dataset.outcome = "good";
    } catch (error) {
      told.replaceChildren(...describe(error));
      told.dataset.outcome = "bad";
    } finally {
      form.removeAttribute("aria-busy");
    }
  });
}

whenSubmitted("sign-in", async ({ user, password }) => {
  await signIn({ user: user.value, password: password.value });
  password.value = "";
  await refresh();
  byId("bank").focus({ preventScroll: true });
});

whenSubmitted("pay", async ({ to, amount }) => {
  const cents = Math.round(Number(amount.value.replace(",", ".")) * 100);
  if (!(cents > 0)) throw new Error("Please give an amount, such as 25.00.");
  const payee = await ask("protected", "GET", `/payees/${encodeURIComponent(to.value)}`);
  const receipt = await ask("protected", "POST", "/transfer", { to: payee.number, amount: cents });
  await refresh();
  return [`${money(receipt.amount)} sent to ${receipt.name}.`];
});

byId("sign-out").addEventListener("click", async () => {
  await signOut(about);
  await refresh();
  byId("bank").focus({ preventScroll: true });
});

start().catch((error) => {
  byId("trouble").hidden = false;
  byId("trouble").replaceChildren("The page cannot go on: ", ...describe(error));
});

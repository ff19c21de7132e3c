// Puts the page together.

import { ask, connect, isSignedIn, signIn, signOut } from "./bank.js";
import { byId, describe, element, money } from "./dom.js";
import { listen } from "./feed.js";
import { count } from "./meter.js";
import { showOffice } from "./office.js";
import { showPlaces } from "./places.js";
import { presentRules } from "./rules.js";
import { isAtWork, present, robs } from "./thief.js";

const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/** What a session does not outlive, and what brings another one. */
const CHANGES = ["logged_in", "session_ended", "subject_ended", "device_ended", "all_ended"];

/** How long what has changed is waited for, and what comes with it. */
const SOON = 700;

let about;
/** Whoever is signed in, as the bank knows him. */
let me;

async function start() {
  about = await (await fetch("/demo.json")).json();
  byId("clerk").textContent = about.clerk.name;
  byId("customers").append(...[...about.customers, about.clerk].map(chip));
  const [home] = about.origins;
  const elsewhere = about.origins.find((origin) => origin !== location.origin);
  byId("elsewhere").href = elsewhere;
  byId("elsewhere").textContent = new URL(elsewhere).host;
  if (location.origin !== home) byId("needs-victim").replaceChildren("He is at work at ", element("a", { href: home }, home), ".");
  count();
  present(refresh);
  presentRules(about.rules);
  await connect(about);
  await refresh();
  byId("opening").remove();
  listen(lookAgain);
  document.documentElement.dataset.ready = "true";
}

let soon;

/** Sees what has changed elsewhere, unless somebody is at work here and will look anyway. */
function lookAgain({ kind }) {
  if (!CHANGES.includes(kind)) return;
  clearTimeout(soon);
  soon = setTimeout(() => {
    const isBusy = isAtWork() || document.querySelector("form[aria-busy]");
    // What goes wrong is told when somebody does something.
    if (isSignedIn() && !isBusy) refresh().catch(() => {});
  }, SOON);
}

let turn = Promise.resolve();

/** Shows how things are, one look after another. `error` is what has just gone wrong. */
function refresh(error) {
  const shown = turn.then(() => show(error));
  turn = shown.catch(() => {});
  return shown;
}

/** Shows the account as both banks have it, or the back office, or the way in. */
async function show(error) {
  // Whatever was asked last may have found that the session has ended, and got another one.
  const wasSignedIn = Boolean(me) || isSignedIn();
  const seen = isSignedIn() ? await look() : {};
  me = seen.me;
  if (me) byId("ended").hidden = true;
  else if (wasSignedIn || error) byId("ended").hidden = false;
  byId("sign-in").hidden = Boolean(me);
  byId("account").hidden = !seen.account;
  byId("office").hidden = !me?.is_clerk;
  wantAgain(seen.error ?? error);
  if (seen.account) showAccount(seen);
  else robs(undefined);
  if (seen.customers) showOffice(seen.customers, refresh);
}

/** All that there is to see for whoever is signed in. Nothing if the session is over, at either bank. */
async function look() {
  let me;
  try {
    me = await ask("protected", "GET", "/me");
    if (me.is_clerk) return { me, customers: await ask("protected", "GET", "/office") };
    return {
      me,
      account: await ask("protected", "GET", "/account"),
      sessions: await ask("protected", "GET", "/sessions"),
      devices: await ask("protected", "GET", "/devices"),
      twin: await ask("twin", "GET", "/account"),
    };
  } catch (error) {
    if (error.code === "insufficient_user_authentication") return { me, error };
    if (error.code === "login_required" || error.status === 401) return {};
    throw error;
  }
}

/** Asks for the password once more, where the bank wants that. */
function wantAgain(error) {
  const isOld = error?.code === "insufficient_user_authentication";
  byId("again").hidden = !me || !(me.must_step_up || isOld);
  byId("again-why").textContent = me?.must_step_up
    ? "Somebody else has shown a copy of your session’s ticket. Before you pay or end anything, please sign in again."
    : "You signed in a while ago. Please sign in again.";
}

function showAccount({ account, twin, sessions, devices }) {
  byId("owner").textContent = account.name;
  byId("number").textContent = account.number;
  byId("balance").textContent = money(account.balance);
  byId("twin-balance").textContent = money(twin.balance);
  byId("statement").replaceChildren(...account.entries.map(entry));
  showPlaces(sessions, devices, refresh);
  const others = about.names.filter((name) => name !== account.name);
  const friend = about.customers.find(({ name }) => name !== account.name);
  const payees = byId("pay").elements.to;
  if (payees.dataset.owner !== account.name) {
    payees.dataset.owner = account.name;
    payees.replaceChildren(...others.map((name) => element("option", {}, name)));
    payees.value = friend.name;
  }
  const somebody = { victim: first(account.name), friend: { ...friend, first: first(friend.name) } };
  robs(location.origin === about.origins[0] ? somebody : undefined);
}

const first = (name) => name.split(" ")[0];

function chip({ name, number, user, password }) {
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
    element("strong", {}, name, number ? null : ", clerk"),
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

const LOGIN_WANTED = ["login_required", "insufficient_user_authentication"];

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
      if (LOGIN_WANTED.includes(error.code)) await refresh(error);
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

whenSubmitted("again", async ({ password }) => {
  await signIn({ user: me.user, password: password.value });
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

for (const button of document.querySelectorAll("[data-sign-out]")) {
  button.addEventListener("click", async () => {
    await signOut(about);
    me = undefined;
    await refresh();
    byId("bank").focus({ preventScroll: true });
  });
}

start().catch((error) => {
  byId("opening")?.remove();
  byId("trouble").hidden = false;
  byId("trouble").replaceChildren("The page cannot go on: ", ...describe(error));
});

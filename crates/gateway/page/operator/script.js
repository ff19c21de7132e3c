// What the gateway says, put onto the page. All of it is text: nothing is ever read as HTML.

import { plot } from "./plot.js";

/** How often the page asks for what changes all the time, and for the rest, in milliseconds. */
const EVERY = 2000;
const RARELY = 30_000;
const KEPT = 300;
const SHOWN = 100;
const REFUSALS = ["refused", "foreign_ticket", "cookie_unproven", "cookie_dropped", "rule"];

const $ = (id) => document.getElementById(id);
const fewer = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const day = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeZone: "UTC" });
const clock = new Intl.DateTimeFormat("en", { timeStyle: "medium", hourCycle: "h23" });
let latest;
let wait;
/** What pages were seen to run, and which fields they had: the lists, how long each was when it was asked for, and when that was. */
const scripts = { path: "/api/scripts", all: [], known: 0, askedAt: 0 };
const fields = { path: "/api/fields", all: [], known: 0, askedAt: 0 };
/** Whether what is shown is what the operator has just asked for. */
let isAsked = false;

$("enforce").addEventListener("click", () => act("/api/mode", { mode: "enforce" }));
$("monitor").addEventListener("click", () => {
  ask("Protect nothing?", "With monitor, every request passes that the application would answer. Refusals are only reported.", "Monitor", "/api/mode", { mode: "monitor" });
});
$("end-all").addEventListener("click", () => {
  ask("End all sessions?", "Every session and every bound cookie ends now. Users log in again.", "End all sessions", "/api/sessions/end-all");
});
$("stop").addEventListener("click", () => {
  if (latest?.stopped) act("/api/stop", { stopped: false });
  else ask("Stop everything?", "Nobody reaches the application any more, and what is under way breaks off. WebSockets that are open stay open.", "Stop everything", "/api/stop", { stopped: true });
});
$("only-refused").addEventListener("change", ({ target }) => {
  $("events").classList.toggle("only-refused", target.checked);
});
$("find").addEventListener("input", () => {
  isAsked = true;
  if (latest) showSessions(latest);
});
$("only-unauthorised").addEventListener("change", () => {
  isAsked = true;
  showScripts();
});
$("only-unnamed").addEventListener("change", () => {
  isAsked = true;
  showFields();
});
addEventListener("resize", () => latest && showPlots(latest));
document.addEventListener("visibilitychange", () => document.hidden || look());
look();
follow();

/** Asks for all but the events, and again after a while. */
async function look(asked = false) {
  clearTimeout(wait);
  try {
    const reply = await fetch("/api/overview");
    if (reply.status === 401) return location.assign("/login");
    if (!reply.ok) throw new Error(`the gateway says ${reply.status}`);
    latest = await reply.json();
    isAsked = asked;
    show(latest);
    await lookAt(scripts, latest.scripts, showScripts);
    await lookAt(fields, latest.fields, showFields);
  } catch {
    $("state").className = "state stopped";
    $("state").textContent = "not reached";
  }
  clearTimeout(wait);
  if (!document.hidden) wait = setTimeout(look, EVERY);
}

/** Asks for a list, if there is more of it than there was, or the last one is old. */
async function lookAt(list, count, show) {
  if (count !== list.known || Date.now() - list.askedAt > RARELY) {
    const reply = await fetch(list.path);
    if (!reply.ok) return;
    Object.assign(list, { all: await reply.json(), known: count, askedAt: Date.now() });
  }
  show();
}

/** Follows the events. The browser asks again by itself where the stream breaks off. */
function follow() {
  let last = 0;
  const events = new EventSource("/api/events");
  events.onmessage = ({ data }) => {
    const item = JSON.parse(data);
    if (item.number <= last && item.number > 1) return;
    if (last && item.number > last + 1) {
      showEvent({ time: item.time, kind: "missed", detail: `${item.number - last - 1} events` });
    }
    last = item.number;
    showEvent(item);
  };
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED) setTimeout(look, EVERY);
  };
}

async function act(path, content = {}) {
  const headers = { "content-type": "application/json" };
  let said = "the gateway cannot be reached";
  try {
    const reply = await fetch(path, { method: "POST", headers, body: JSON.stringify(content) });
    if (reply.ok) return await look(true);
    if (reply.status === 401) return location.assign("/login");
    ({ code: said } = await reply.json());
  } catch {
    // It is said below.
  }
  $("said").textContent = `That was not done: ${said}.`;
  $("said").hidden = false;
  setTimeout(() => ($("said").hidden = true), 8000);
}

function ask(title, text, yes, path, content) {
  const dialog = $("ask");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.onclose = () => dialog.returnValue === "yes" && act(path, content);
  dialog.showModal();
}

function show(all) {
  const { pulse, upstreams, mode, stopped } = all;
  const lately = pulse.points.slice(-2);
  const seconds = pulse.step * lately.length || 1;
  $("origins").textContent = all.origins.join(", ");
  $("n-requests").textContent = fewer.format(sum(lately, "requests") / seconds);
  $("n-refused").textContent = pulse.whole.refused.toLocaleString("en");
  $("n-refused-of").textContent = `of ${pulse.whole.requests.toLocaleString("en")} in five minutes`;
  $("n-p50").textContent = time(pulse.whole.p50);
  $("n-p99").textContent = time(pulse.whole.p99);
  const well = upstreams.filter((upstream) => upstream.well).length;
  $("n-upstreams").textContent = `${well} of ${upstreams.length}`;
  $("n-upstreams").className = well < upstreams.length ? "bad" : "";

  const state = stopped ? "stopped" : mode;
  $("state").className = `state ${state}`;
  $("state").textContent = { stopped: "stopped", monitor: "monitoring only", enforce: "enforcing" }[state];
  $("banner").hidden = state === "enforce";
  $("banner").className = `banner ${state}`;
  $("banner").textContent = stopped
    ? "Everything is stopped: every request is answered with 503."
    : "Nothing is protected: what would be refused is only reported.";
  $("stop").textContent = stopped ? "Go on" : "Stop…";
  $("stop").className = stopped ? "primary" : "danger";
  for (const name of ["enforce", "monitor"]) $(name).setAttribute("aria-pressed", String(mode === name));

  showPlots(all);
  showSessions(all);
  showRefusals(pulse.refused);
  const rules = [...all.rules].sort((one, other) => other.prefix.length - one.prefix.length);
  rows($("rules"), [...rules.map(({ prefix, access }) => [code(prefix), access]), ["all others", all.access]]);
  $("upstreams").replaceChildren(...upstreams.map(({ url, well }) => {
    const item = make("li", code(url), well ? "is well" : "is not well");
    item.className = well ? "" : "ill";
    return item;
  }));
  const unbound = all.unbound_cookies.flatMap((name) => [code(name), " "]);
  $("unbound").replaceChildren(...(unbound.length
    ? [...unbound, "kept from script and not bound: if one is a session, whoever copies it has it."]
    : ["The application has set none that looks like a session and is not bound."]));
  $("bound").replaceChildren(...all.bound_cookies.map(code));
  $("learnt").replaceChildren(...all.learnt_cookies.map(code));
  $("is-learnt").hidden = !all.learnt_cookies.length;
  $("identity").textContent = all.identity;
}

function showPlots({ pulse: { points, step } }) {
  const rate = (key) => points.map((point) => point[key] / step);
  const curves = [
    { dye: "line-a", values: rate("requests"), filled: true },
    { dye: "line-c", values: rate("refused") },
  ];
  plot($("throughput"), curves, step, (value) => fewer.format(value));
  const times = (key, dye) => ({ dye, values: points.map((point) => point[key]) });
  plot($("latency"), [times("p99", "line-c"), times("p95", "line-b"), times("p50", "line-a")], step, time);
}

function showSessions({ sessions, now }) {
  const find = $("find").value.trim();
  const fits = ({ session, device, subject }) => [session, device, subject].some((name) => name?.includes(find));
  const found = sessions.filter((one) => !find || fits(one));
  rows($("sessions"), found.slice(0, SHOWN).map((one) => [
    name(one.session), name(one.device), one.subject ? name(one.subject) : "–", ago(now - one.last), one.requests.toLocaleString("en"),
    `${one.sealed ? "sealed" : "signed"}, by ${one.proof} key`,
    button("End", () => act("/api/sessions/end", { name: one.session })),
  ]), [4], sessions.length ? "None is called so." : "Nobody has been here yet.");

  const devices = new Map();
  for (const one of found) {
    const device = devices.get(one.device) ?? { sessions: 0, users: new Set(), last: 0, requests: 0 };
    device.sessions += 1;
    if (one.subject) device.users.add(one.subject);
    device.last = Math.max(device.last, one.last);
    device.requests += one.requests;
    devices.set(one.device, device);
  }
  rows($("devices"), [...devices].slice(0, SHOWN).map(([id, device]) => [
    name(id), device.sessions, [...device.users].join(", ") || "–", ago(now - device.last), device.requests.toLocaleString("en"),
    button("Lock out…", () => {
      ask("Lock this device out?", `Device ${id} loses its sessions and opens no others. Its user has to delete the site’s data to come back with a new key.`, "Lock out", "/api/devices/lock", { name: id });
    }),
  ]), [1, 4], "None.");
  if (find) return;
  $("n-sessions").textContent = sessions.length.toLocaleString("en");
  $("n-devices").textContent = devices.size === 1 ? "on one device" : `on ${devices.size || "no"} devices`;
}

function showScripts() {
  const isShort = $("only-unauthorised").checked;
  const shown = scripts.all.filter(({ justification }) => !isShort || justification === null);
  rows($("scripts"), shown.slice(-SHOWN).reverse().map(({ script, justification }) => {
    const which = make("div", code(script.url || "unknown"));
    if (script.hash) which.append(say("small", "hash", script.hash));
    return [
      justification === null ? say("span", "ill", "no") : "yes", which, justification ?? "–", code(script.page || "–"),
      day.format(script.first_seen * 1000), day.format(script.last_seen * 1000),
    ];
  }), [], scripts.all.length ? "All are authorised." : "No page has told of any yet.");
}

function showFields() {
  const isShort = $("only-unnamed").checked;
  const shown = fields.all.filter(({ justification }) => !isShort || justification === null);
  // What is new is what may be wrong.
  shown.sort(({ set: one }, { set: other }) => other.first_seen - one.first_seen);
  rows($("fields"), shown.slice(0, SHOWN).map(({ set, justification }) => {
    const lines = set.fields.split("\n").filter(Boolean);
    const which = say("div", "lines", ...lines.map(code));
    if (!set.hash) which.append("others, for which there is no room");
    else if (!lines.length) which.append("none");
    if (set.hash) which.append(say("small", "hash", set.hash));
    return [
      justification === null ? "no" : "yes", code(set.page), which, justification ?? "–",
      day.format(set.first_seen * 1000), day.format(set.last_seen * 1000),
    ];
  }), [], fields.all.length ? "All are authorised." : "No page has come yet.");
}

function showRefusals(refused) {
  const all = Object.entries(refused).sort(([, one], [, other]) => other - one);
  if (!all.length) return $("refused").replaceChildren(say("p", "none", "None."));
  const bars = make("div");
  bars.className = "bars";
  for (const [name, count] of all) {
    const bar = make("i");
    bar.style.width = `${(count / all[0][1]) * 100}%`;
    bars.append(code(name), bar, say("span", "n", count.toLocaleString("en")));
  }
  $("refused").replaceChildren(bars);
}

function showEvent({ time, kind, code: why, detail, session, device, path, by }) {
  const at = make("time", clock.format(new Date(time * 1000)));
  const what = say("span", "what");
  if (path) what.append(code(path));
  const said = [why, detail].filter(Boolean).join(": ");
  if (said) what.append(make("span", said));
  const who = by ? ["by", name(by)] : session ? ["session", name(session)] : device ? ["device", name(device)] : [];
  const item = make("li", at, say("span", "kind", kind.replaceAll("_", " ")), what);
  const whom = say("span", "who");
  whom.append(...who.flatMap((part) => [part, " "]));
  item.append(whom);
  item.className = REFUSALS.includes(kind) ? "refusal" : kind === "let_pass" ? "passed" : kind === "operator" ? "operator" : "";
  $("events").prepend(item);
  $("no-events").hidden = true;
  if ($("events").childElementCount > KEPT) $("events").lastElementChild.remove();
}

function rows(body, all, numbers = [], none = "None.") {
  // Nothing moves away under a pointer or a finger: the next row is somebody else.
  if (!isAsked && body.matches(":hover, :focus-within")) return;
  body.replaceChildren(...all.map((cells) => make("tr", ...cells.map((cell, at) => {
    const made = make("td", cell);
    if (numbers.includes(at)) made.className = "n";
    if (cell instanceof HTMLButtonElement) made.className = "act";
    return made;
  }))));
  if (!all.length) {
    const cell = say("td", "none", none);
    cell.colSpan = 9;
    body.append(make("tr", cell));
  }
}

function button(text, clicked) {
  const made = say("button", "small", text);
  made.type = "button";
  made.addEventListener("click", clicked);
  return made;
}

function make(tag, ...content) {
  const made = document.createElement(tag);
  made.append(...content);
  return made;
}

function say(tag, className, ...content) {
  const made = make(tag, ...content);
  made.className = className;
  return made;
}

function code(text) {
  return make("code", text);
}

function name(text) {
  return say("span", "name", text);
}

function sum(points, key) {
  return points.reduce((so, point) => so + point[key], 0);
}

/** Microseconds, as people read them. */
function time(micros) {
  if (micros === null) return "–";
  if (micros === 0) return "0";
  if (micros < 1000) return `${Math.round(micros)} µs`;
  if (micros < 1e6) return `${fewer.format(micros / 1000)} ms`;
  return `${fewer.format(micros / 1e6)} s`;
}

function ago(seconds) {
  if (seconds < 5) return "now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3600)} h ago`;
}

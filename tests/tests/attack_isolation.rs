//! What a worker of its own keeps from script in the page, and what it does not.
//!
//! The same script, which does all that it can think of, is set upon an isolated session and upon one that is not. What
//! it gets from the second shows that it looks in the right places.

use bulla_protocol::opening::Ticket;
use bulla_protocol::proof::ProofKind;
use bulla_protocol::seal::{CEK_INFO, Header, NONCE_INFO};
use bulla_server::Cookies;
use bulla_tests::attack::Name::{Dpop, Sess};
use bulla_tests::attack::With::{Held, Works};
use bulla_tests::attack::{
    Attack, HOOK_WASM, Outcome, Proxy, Shown, TAKE_MEMORY, TAKE_REACHABLE, Twin, Witness, find,
    in_page,
};
use bulla_tests::bank::{Bank, PATIENCE};
use bulla_tests::browser::{Browser, Engine};
use serde_json::{Value, json};

bulla_tests::attacks! {
    both_sides_are_shown in each engine: [TAKES_HANDLES, USES_THE_PORT, USES_THE_DEVICE_KEY, COMES_FIRST],
}

static TAKES_HANDLES: Attack = Attack {
    has: "script in a page whose session is in a worker of its own",
    does: "takes ticket and handles, and has them sign and open what passed before it came",
    twin: Twin::Weakened("the session in the page"),
    without: "it reads what was sent, has the MAC key sign, and takes the ticket",
    with: Held("none of them is in the page"),
    names: &[Dpop(4), Sess(9)],
    shown: Shown::nothing(),
};

static USES_THE_PORT: Attack = Attack {
    has: "script in a page whose session is in a worker of its own",
    does: "asks the worker to order",
    twin: Twin::Weakened("the session in the page"),
    without: "it orders",
    with: Works("within the paths that the page has named, while the page is open"),
    names: &[Dpop(4), Sess(9)],
    shown: Shown::nothing(),
};

static USES_THE_DEVICE_KEY: Attack = Attack {
    has: "script in a page whose session is in a worker of its own",
    does: "opens a session of its own by the device key, and signs what it likes",
    twin: Twin::Weakened("the session in the page"),
    without: "it does so, and has the login, too",
    with: Works("nobody is logged in there but by cookies that are bound to the device"),
    names: &[Dpop(4), Sess(9)],
    shown: Shown::nothing(),
};

static COMES_FIRST: Attack = Attack {
    has: "code that runs before the package",
    does: "puts something else in the place of `Worker`",
    twin: Twin::App,
    without: "it has all that the page sends",
    with: Works("it is the page"),
    names: &[Dpop(4)],
    shown: Shown::nothing(),
};

async fn both_sides_are_shown(engine: Engine) -> Outcome {
    let proxy = Proxy::start().await?;
    let (origin, witness) = (proxy.origin(), Witness::default());
    let random = witness.clone();
    // With session proofs, where the MAC key is worth most.
    let bank = Bank::open_with(|builder| {
        let builder = builder.origin(origin).random(random);
        let readable = Vec::new();
        builder
            .proof(ProofKind::Session)
            .cookies(Cookies::HttpOnly { readable })
    })
    .await?;
    proxy.forward_to(bank.server.port());
    let place = Place {
        browser: Browser::launch(engine).await?,
        proxy,
        bank,
        witness,
    };
    place.what_is_in_the_page_is_taken().await?;
    place.what_is_in_the_worker_is_not().await?;
    place.the_port_can_be_used().await?;
    place.the_device_key_can_be_used().await?;
    place.code_that_comes_first_is_the_page().await?;
    place.browser.quit().await?;
    Ok(())
}

/// What is the application's and nobody else's.
const PRIVATE: &str = "a note that was sent before the script came";

/// An async function body: everything that script in the page gets, with the arguments as [`Place::rob`] gives them.
///
/// It reads all that is stored, listens at whatever the page's halves call, imports the package's files, and asks the
/// worker, once it has it, for more than it gives. Each key that it finds it tries on the recorded request.
const ROB: &str = r#"
const [recorded, cekInfo, nonceInfo] = args.map((array) => new Uint8Array(array));
const loot = { handles: [], text: [], answers: {}, opened: null, macs: 0 };
const walked = new Set();
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const keep = (value, from) => {
  if (typeof value === "string") loot.text.push(value);
  if (value === null || (typeof value !== "object" && typeof value !== "function") || walked.has(value)) return;
  walked.add(value);
  if (value instanceof CryptoKey) loot.handles.push({ from, handle: value });
  if (value instanceof ArrayBuffer) loot.text.push(hex(new Uint8Array(value)));
  if (ArrayBuffer.isView(value)) { loot.text.push(hex(new Uint8Array(value.buffer))); return; }
  if (value instanceof Map || value instanceof Set) for (const item of value) keep(item, from);
  if (value === window || value instanceof Node) return;
  for (const key of Reflect.ownKeys(value)) {
    try { keep(value[key], typeof key === "string" ? `${from} ${key}` : from); } catch {}
  }
};
const done = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

// What is stored.
for (const { name } of await indexedDB.databases()) {
  const database = await done(indexedDB.open(name));
  for (const store of database.objectStoreNames) {
    const records = database.transaction(store).objectStore(store);
    for (const key of await done(records.getAllKeys())) {
      keep(await done(database.transaction(store).objectStore(store).get(key)), key.split(" ")[0]);
    }
  }
  database.close();
}
keep({ ...localStorage, ...sessionStorage }, "storage");

// What passes by: every function that the page's half of the package calls, and may hand something to.
const listening = [];
const listen = (owner, name) => {
  const property = Object.getOwnPropertyDescriptor(owner, name);
  for (const kind of ["value", "get", "set"]) {
    const original = property?.[kind];
    if (typeof original !== "function") continue;
    const hooked = function (...given) {
      keep([this, given], name);
      if (this instanceof Worker) window.worker = this;
      // Whatever is handed a function that is called later is handed another one.
      const heard = given.map((item) => typeof item !== "function" || name === "then" ? item : function (...told) {
        keep([this, told, told[0]?.data, told[0]?.ports], name);
        return Reflect.apply(item, this, told);
      });
      return new.target ? Reflect.construct(original, heard, new.target) : Reflect.apply(original, this, heard);
    };
    if (original.prototype) hooked.prototype = original.prototype;
    Object.defineProperty(owner, name, { ...property, [kind]: hooked });
    property[kind] = hooked;
    listening.push(name);
  }
};
for (const type of [Worker, MessagePort]) {
  for (const name of ["postMessage", "onmessage", "onerror", "onmessageerror"]) listen(type.prototype, name);
}
for (const name of ["addEventListener", "dispatchEvent"]) listen(EventTarget.prototype, name);
for (const name of ["get", "set", "values", "delete"]) listen(Map.prototype, name);
for (const name of ["assign", "defineProperty"]) listen(Object, name);
for (const name of ["text", "json", "arrayBuffer", "clone"]) listen(Response.prototype, name);
listen(ReadableStreamDefaultController.prototype, "enqueue");
listen(FinalizationRegistry.prototype, "register");
listen(MessageChannel.prototype, "port1");
listen(MessageChannel.prototype, "port2");
listen(Promise.prototype, "then");
for (const name of ["fetch", "Request", "Response", "Worker", "BroadcastChannel", "structuredClone"]) listen(window, name);
const channel = new BroadcastChannel("bulla");
channel.onmessage = ({ data }) => keep(data, "channel");
const me = await session.fetch("/api/me").then((reply) => reply.json());
keep(session, "session");
for (const name of ["id", "authenticated", "storage", "identity", "device", "origin"]) keep(session[name], name);

// What the package gives to whoever imports it; in the page its worker's script has no session.
for (const script of ["index", "worker", "isolated"]) {
  const all = await import(`/npm/${script}.js`);
  keep(all, script);
  if (all.Session) {
    for (const call of [() => new all.Session(), () => all.Session.prototype.fetch, () => all.Session.prototype.id]) {
      try { keep(call(), "Session"); } catch {}
    }
  }
}

// What the worker says if it is asked.
const ask = (message) => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.addEventListener("message", ({ data }) => { keep(data, "worker"); resolve(data.refusal?.code ?? data.error?.name ?? "given"); });
  port1.start();
  window.worker.postMessage(message, [port2]);
});
if (window.worker) {
  window.worker.addEventListener("message", ({ data }) => keep(data, "worker"));
  const post = { method: "POST", headers: [["content-type", "application/json"]], body: "{}" };
  const { origin } = location;
  for (const [name, message] of Object.entries({
    "open": ["open", { server: origin, paths: ["/"] }, null],
    "open elsewhere": ["open", { server: "https://example.com", paths: ["/"] }, null],
    "a path": ["fetch", "/api/transfer/device", post],
    "a path with dots": ["fetch", `${origin}/api/x/../transfer/device`, post],
    "the protocol's own": ["fetch", "/.well-known/bulla/session", { method: "DELETE" }],
    "another origin": ["fetch", "https://example.com/api/me", {}],
    "no path": ["fetch", null, {}],
    "a redirect": ["fetch", "/api/elsewhere/307", post],
    "session": ["session"],
    "constructor": ["constructor"],
    "the prototype": ["__proto__"],
    "toString": ["toString"],
    "hasOwnProperty": ["hasOwnProperty", "session"],
    "nothing": null,
    "text": "fetch",
    "a script": ["eval", "session"],
    "true": true,
  })) {
    loot.answers[name] = await ask(message);
  }
  // Messages without a port have no answer; the session goes on.
  for (const message of [null, "open", ["fetch"], { data: 1 }]) window.worker.postMessage(message);
}

// What each key is good for.
const [salt, view] = [recorded.subarray(0, 16), new DataView(recorded.buffer)];
const start = 21 + recorded[20];
const record = recorded.subarray(start, start + Math.min(view.getUint32(16), recorded.length - start));
for (const { handle } of loot.handles) {
  const hkdf = (info) => ({ name: "HKDF", hash: "SHA-256", salt, info });
  try {
    const key = await crypto.subtle.deriveKey(hkdf(cekInfo), handle, { name: "AES-GCM", length: 128 }, false, ["decrypt"]);
    const iv = await crypto.subtle.deriveBits(hkdf(nonceInfo), handle, 96);
    loot.opened = new TextDecoder().decode(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, key, record));
  } catch {}
  try {
    await crypto.subtle.sign("HMAC", handle, record);
    loot.macs += 1;
  } catch {}
}
loot.handles = loot.handles.map(({ from, handle }) => `${from} ${handle.algorithm.name}`);
return { ...loot, me, text: loot.text.join("\n"), listening: listening.length, walked: walked.size };
"#;

/// A page, and all that is around it.
struct Place {
    browser: Browser,
    proxy: Proxy,
    bank: Bank,
    witness: Witness,
}

impl Place {
    /// Loads the page. `prelude` runs before the package is used, and what it opens is `window.session`. Ann logs in, pays,
    /// and writes down what is private.
    async fn use_the_bank(&self, prelude: &str, open: &str) -> Outcome {
        let page = format!("{}/page", self.proxy.origin());
        self.browser.goto(&page).await?;
        self.browser
            .wait_until("return window.bulla", PATIENCE)
            .await?;
        in_page(&self.browser, prelude, json!([])).await?;
        let script = format!(
            "const options = {{ server: location.origin, identity: args[0] }};
             window.session = await {open};
             window.post = (path, body) => session.fetch(path, {{
               method: 'POST',
               headers: {{ 'content-type': 'application/json' }},
               body: JSON.stringify(body),
             }}).then((reply) => reply.json());
             await post('/api/login', {{ user: 'ann' }});
             await post('/api/transfer', {{ to: 'bob', amount: 7 }});
             await session.fetch('/api/form', {{ method: 'POST', body: args[1] }});"
        );
        let arguments = json!([self.bank.identity(), PRIVATE]);
        in_page(&self.browser, &script, arguments).await?;
        Ok(())
    }

    async fn use_the_bank_isolated(&self, prelude: &str) -> Outcome {
        let open = "(await import('/npm/worker.js')).open({
            ...options, paths: ['/api/'], except: ['/api/transfer/device', '/api/echo'],
        })";
        self.use_the_bank(prelude, open).await
    }

    /// What comes of [`ROB`], which is also given the last request as it was seen on the way, and the ticket that it has.
    async fn rob(&self) -> Outcome<(Value, Vec<u8>)> {
        let seen = self.proxy.seen();
        let recorded = seen.last().ok_or("nothing was recorded")?;
        let (header, _) = Header::parse(recorded.request.body())?.ok_or("not sealed")?;
        let ticket = Ticket::new(header.keyid)?.as_bytes().to_vec();
        let arguments = json!([recorded.request.body().to_vec(), CEK_INFO, NONCE_INFO]);
        let loot = in_page(&self.browser, ROB, arguments).await?;
        assert!(
            loot["listening"].as_u64() > Some(25),
            "{}",
            loot["listening"]
        );
        assert_eq!(
            loot["me"]["subject"], "ann",
            "it is used as the page uses it"
        );
        Ok((loot, ticket))
    }

    async fn what_is_in_the_page_is_taken(&self) -> Outcome {
        self.use_the_bank(HOOK_WASM, "bulla.open(options)").await?;
        let (loot, ticket) = self.rob().await?;
        let opened = loot["opened"].as_str().ok_or("the request did not open")?;
        assert!(opened.contains(PRIVATE), "{opened}");
        let text = loot["text"].as_str().unwrap_or_default();
        let has_ticket = find(text.as_bytes(), &ticket).is_some();
        TAKES_HANDLES.without(loot["macs"] == 1 && has_ticket);
        // As the page does; of what Ann may, nothing is kept from it.
        USES_THE_PORT.without(loot["me"]["subject"] == "ann");
        let who = in_page(
            &self.browser,
            "const own = await bulla.open({ server: location.origin, identity: args[0] });
             const { subject } = await own.fetch('/api/me').then((reply) => reply.json());
             return [own.device === session.device, subject];",
            json!([self.bank.identity()]),
        )
        .await?;
        USES_THE_DEVICE_KEY.without(who == json!([true, "ann"]));
        let memories = in_page(&self.browser, TAKE_MEMORY, json!([])).await?;
        assert_eq!(memories.as_array().map(Vec::len), Some(1));
        Ok(())
    }

    async fn what_is_in_the_worker_is_not(&self) -> Outcome {
        // Nothing of the session before this one is left.
        self.browser.eval("await session.forget()", []).await?;
        self.use_the_bank_isolated(HOOK_WASM).await?;
        let paid = self.bank.ledger.transfers().len();
        let (loot, ticket) = self.rob().await?;
        let has_nothing = loot["opened"].is_null() && loot["macs"] == 0;
        TAKES_HANDLES.with(has_nothing && loot["handles"] == json!(["device private ECDSA"]));
        let memories = in_page(&self.browser, TAKE_MEMORY, json!([])).await?;
        assert_eq!(memories, json!([]));

        // It had the worker, and what this says: that somebody asks for what there is not, or for what is not allowed.
        let answers = &loot["answers"];
        for refused in [
            "open",
            "open elsewhere",
            "a path",
            "a path with dots",
            "the protocol's own",
            "another origin",
            "no path",
            "a redirect",
        ] {
            assert_eq!(answers[refused], "request_invalid", "{refused}: {answers}");
        }
        for unknown in [
            "session",
            "constructor",
            "the prototype",
            "toString",
            "hasOwnProperty",
            "nothing",
            "text",
            "a script",
            "true",
        ] {
            assert_eq!(answers[unknown], "TypeError", "{unknown}: {answers}");
        }
        assert_eq!(self.bank.ledger.transfers().len(), paid);

        let reachable = in_page(&self.browser, TAKE_REACHABLE, json!([])).await?;
        assert_eq!(reachable["left"], 0, "all was walked through");
        let text =
            [&loot["text"], &reachable["text"]].map(|text| text.as_str().unwrap_or_default());
        let text = text.concat();
        let authority = self.proxy.origin().replace("https://", "");
        let secrets = self.witness.secrets(&authority, &self.proxy.seen())?;
        for (name, secret) in secrets.named() {
            assert_eq!(find(text.as_bytes(), secret), None, "{name}");
        }
        assert_eq!(find(text.as_bytes(), &ticket), None);
        assert_eq!(find(text.as_bytes(), PRIVATE.as_bytes()), None);
        // The search finds what is there: what the page is told, and what has passed since the script came.
        let id = self.browser.eval("return session.id", []).await?;
        let id = id.as_str().ok_or("the session has ended")?;
        assert_eq!(find(text.as_bytes(), id.as_bytes()), Some("raw"));
        let passed = br#""subject":"ann""#;
        assert_eq!(find(text.as_bytes(), passed), Some("hex"));
        Ok(())
    }

    /// By a script that has the worker, while the page is open.
    async fn the_port_can_be_used(&self) -> Outcome {
        let paid = self.bank.ledger.transfers().len();
        let answer = in_page(
            &self.browser,
            "const { port1, port2 } = new MessageChannel();
             const answer = new Promise((resolve) => { port1.onmessage = ({ data }) => resolve(data.value.status); });
             worker.postMessage(['fetch', '/api/transfer', {
               method: 'POST',
               headers: [['content-type', 'application/json']],
               body: JSON.stringify({ to: 'mallory', amount: 1 }),
             }], [port2]);
             return answer;",
            json!([]),
        )
        .await?;
        USES_THE_PORT.with(answer == 200);
        let booked = self.bank.ledger.transfers();
        assert_eq!(booked.len(), paid + 1);
        assert_eq!(
            booked.last(),
            Some(&json!({ "from": "ann", "to": "mallory", "amount": 1 }))
        );
        Ok(())
    }

    /// For a session of its own, which nothing limits, in which nobody is logged in but by cookies; and to sign whatever it
    /// likes.
    async fn the_device_key_can_be_used(&self) -> Outcome {
        self.browser
            .eval("await post('/api/cookie/login', { user: 'ann' })", [])
            .await?;
        let found = in_page(
            &self.browser,
            "const own = await bulla.open({ server: location.origin, identity: args[0] });
             const cookie = await own.fetch('/api/cookie/me').then((reply) => reply.json());
             const { subject } = await own.fetch('/api/me').then((reply) => reply.json());
             const refused = await own.fetch('/api/transfer/device', { method: 'POST', body: '{}' })
               .then(() => 'taken', ({ code }) => code);
             const opening = indexedDB.open('bulla');
             const database = await new Promise((resolve) => { opening.onsuccess = () => resolve(opening.result); });
             const getting = database.transaction('records').objectStore('records').get(`device ${location.origin}`);
             const device = await new Promise((resolve) => { getting.onsuccess = () => resolve(getting.result); });
             database.close();
             const how = { name: 'ECDSA', hash: 'SHA-256', namedCurve: 'P-256' };
             const signed = new TextEncoder().encode('as in a DPoP proof');
             const signature = await crypto.subtle.sign(how, device.private, signed);
             const key = await crypto.subtle.importKey('raw', device.public, how, true, ['verify']);
             const isGenuine = await crypto.subtle.verify(how, key, signature, signed);
             await own.end();
             return { isSameDevice: own.device === session.device, isOther: own.id !== session.id, subject, refused, isGenuine,
                      cookie: cookie.subject };",
            json!([self.bank.identity()]),
        )
        .await?;
        let wanted = json!({ "isSameDevice": true, "isOther": true, "subject": null, "refused": "login_required",
                             "isGenuine": true, "cookie": "ann" });
        assert_eq!(found, wanted);
        USES_THE_DEVICE_KEY.with(found == wanted);
        Ok(())
    }

    /// It puts another `Worker` in the place of the platform's, and has all that the page sends.
    async fn code_that_comes_first_is_the_page(&self) -> Outcome {
        self.browser.reload().await?;
        let heard = in_page(
            &self.browser,
            "const heard = [];
             const answer = { status: 200, statusText: '', headers: [], url: location.href, redirected: false, isEmpty: true };
             const about = { told: 1, origin: location.origin, id: 'none', authenticated: false };
             window.Worker = class {
               terminate() {}
               postMessage([name, ...given], [port]) {
                 heard.push([name, given[1]?.body && new TextDecoder().decode(given[1].body)]);
                 port.postMessage({ value: name === 'fetch' ? answer : undefined, about });
               }
             };
             const { open } = await import('/npm/worker.js');
             const session = await open({ server: location.origin, paths: ['/api/'] });
             await session.fetch('/api/login', { method: 'POST', body: 'what ann logs in with' });
             return heard;",
            json!([]),
        )
        .await?;
        let wanted = json!([["open", null], ["fetch", "what ann logs in with"]]);
        COMES_FIRST.with(heard == wanted);
        let heard = in_page(
            &self.browser,
            "const [heard, original] = [[], window.fetch];
             window.fetch = (path, init) => { heard.push(init.body); return original(path, init); };
             const headers = { 'content-type': 'application/json' };
             await fetch('/twin/login', { method: 'POST', headers, body: JSON.stringify({ user: 'ann' }) });
             return heard;",
            json!([]),
        )
        .await?;
        COMES_FIRST.without(heard == json!([r#"{"user":"ann"}"#]));
        Ok(())
    }
}

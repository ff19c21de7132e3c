//! A session in real browsers, from its opening to its end.

use std::time::Duration;

use bulla_tests::bank::Bank;
use bulla_tests::browser::{Browser, Engine};
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_mins(1);

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
    a_transfer_from_opening_to_logout(&browser).await?;
    browser.quit().await?;
    Ok(())
}

/// Loads the bank's page and opens a session as `window.session`.
async fn open(browser: &Browser, bank: &Bank) -> Outcome<Value> {
    browser.goto(&bank.page()).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    let identity = json!(bank.identity());
    Ok(browser
        .eval(
            "window.session = await bulla.open({ server: location.origin, identity: args[0] });
             return { id: session.id, authenticated: session.authenticated, storage: session.storage,
                      identity: session.identity, device: session.device };",
            [identity],
        )
        .await?)
}

async fn a_transfer_from_opening_to_logout(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    let opened = open(browser, &bank).await?;
    assert_eq!(opened["authenticated"], false);
    assert_eq!(opened["storage"], "indexeddb");
    assert_eq!(opened["identity"], json!(bank.identity()));

    let refused = browser
        .eval("await session.fetch('/api/transfer', { method: 'POST', body: '{}' }).then((r) => r.json())", [])
        .await
        .expect_err("nobody is logged in");
    assert_eq!(refused.code(), Some("login_required"));

    let found = browser
        .eval(
            "const before = session.id;
             const post = (path, body) => session.fetch(path, {
               method: 'POST',
               headers: { 'content-type': 'application/json' },
               body: JSON.stringify(body),
             }).then((reply) => reply.json());
             const hello = await post('/api/login', { user: 'ann' });
             const receipt = await post('/api/transfer', { to: 'bob', amount: 7 });
             const me = await session.fetch('/api/me').then((reply) => reply.json());
             return { hello, receipt, me, changed: before !== session.id, id: session.id,
                      authenticated: session.authenticated };",
            [],
        )
        .await?;
    assert_eq!(found["hello"], json!({ "hello": "ann" }));
    assert_eq!(found["receipt"]["number"], 1);
    assert_eq!(found["me"]["subject"], "ann");
    assert_eq!(found["me"]["sealed"], true);
    assert_eq!(found["me"]["proof"], "device");
    assert_eq!(found["me"]["id"], found["id"]);
    assert_eq!(
        (&found["changed"], &found["authenticated"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        bank.ledger.transfers(),
        [json!({ "from": "ann", "to": "bob", "amount": 7 })]
    );

    browser.eval("await session.end()", []).await?;
    let closed = browser
        .eval("await session.fetch('/api/me')", [])
        .await
        .expect_err("the session has ended");
    assert_eq!(closed.code(), Some("session_closed"));
    Ok(())
}

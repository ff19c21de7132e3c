//! Sessions in real browsers that let a page keep nothing, or forget what was kept.

use bulla_tests::bank::{Bank, PATIENCE};
use bulla_tests::browser::{Browser, Engine};
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

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
    without_a_database_sessions_live_in_memory(&browser).await?;
    what_cannot_be_put_lives_in_memory(&browser).await?;
    a_wrong_pin_is_refused(&browser).await?;
    a_pin_that_cannot_be_read_is_not_none(&browser).await?;
    browser.quit().await?;
    Ok(())
}

/// The package looks for the database when a session is opened, through the global object alone: what
/// is missing or throws there is all that it can know of a private window or a full disk.
async fn without_a_database_sessions_live_in_memory(browser: &Browser) -> Outcome {
    for breakage in [
        "Object.defineProperty(window, 'indexedDB', { value: undefined })",
        "window.IDBFactory.prototype.open = () => { throw new DOMException('no', 'SecurityError') }",
    ] {
        let bank = Bank::open().await?;
        assert_eq!(
            bank.visit(browser, json!({})).await?["storage"],
            "indexeddb"
        );
        the_session_works(browser, &bank, breakage, "memory").await?;
    }
    Ok(())
}

/// A database that opens and takes no key, as in some private windows, or is full: at once or later.
async fn what_cannot_be_put_lives_in_memory(browser: &Browser) -> Outcome {
    let refuses = "window.IDBObjectStore.prototype.put = () => {
        throw new DOMException('no', 'DataCloneError');
    }";
    let is_full = "const { put } = window.IDBObjectStore.prototype;
        window.IDBObjectStore.prototype.put = function (...record) {
            const request = put.apply(this, record);
            this.transaction.abort();
            return request;
        }";
    for breakage in [refuses, is_full] {
        let bank = Bank::open().await?;
        the_session_works(browser, &bank, breakage, "memory").await?;
        // The device key was there before.
        let bank = Bank::open().await?;
        let before = bank.visit(browser, json!({})).await?;
        browser.eval("await session.end()", []).await?;
        let after = the_session_works(browser, &bank, breakage, "indexeddb").await?;
        assert_eq!(after["device"], before["device"], "{breakage}");
    }
    Ok(())
}

/// With the breakage, in a page that has opened nothing yet. Returns what the session tells.
async fn the_session_works(
    browser: &Browser,
    bank: &Bank,
    breakage: &str,
    storage: &str,
) -> Outcome<Value> {
    browser.goto(&bank.page()).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    browser.eval(breakage, []).await?;
    let opened = bank.open_in(browser, json!({})).await?;
    assert_eq!(opened["storage"], storage, "{breakage}");
    let found = browser
        .eval(
            "await post('/api/login', { user: 'ann' });
             await post('/api/transfer', { to: 'bob', amount: 7 });
             return about(session);",
            [],
        )
        .await?;
    assert_eq!(found["authenticated"], true, "{breakage}");
    assert_eq!(found["device"], opened["device"], "{breakage}");
    assert_eq!(bank.ledger.transfers().len(), 1, "{breakage}");
    assert_eq!(bank.ledger.refusals(), [""; 0], "{breakage}");
    Ok(found)
}

async fn a_wrong_pin_is_refused(browser: &Browser) -> Outcome {
    let (bank, other) = (Bank::open().await?, Bank::open().await?);
    let wrong = json!({ "identity": other.identity() });
    let refused = bank
        .visit(browser, wrong)
        .await
        .expect_err("it is another server's");
    assert_eq!(refused.code(), Some("identity_changed"));
    let opened = bank.visit(browser, json!({})).await?;
    assert_eq!(opened["identity"], json!(bank.identity()));
    Ok(())
}

/// Else whoever answers then would be trusted on first use, a second time.
async fn a_pin_that_cannot_be_read_is_not_none(browser: &Browser) -> Outcome {
    const OPEN: &str = "await bulla.open({ server: location.origin })";
    let bank = Bank::open().await?;
    browser.goto(&bank.page()).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    browser.eval(OPEN, []).await?;
    browser.reload().await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    browser
        .eval(
            "const { get } = window.IDBObjectStore.prototype;
             window.IDBObjectStore.prototype.get = function (key) {
                 if (key.startsWith('identity ')) throw new DOMException('no', 'UnknownError');
                 return get.call(this, key);
             };",
            [],
        )
        .await?;
    let refused = browser
        .eval(OPEN, [])
        .await
        .expect_err("who knows the pin?");
    assert_eq!(refused.code(), Some("unsupported"));
    Ok(())
}

//! Sessions in real browsers that let a page keep nothing, or forget what was kept.

use bulla_tests::attack::{Outcome, in_page, records};
use bulla_tests::bank::{Bank, PATIENCE};
use bulla_tests::browser::{Browser, Engine};
use serde_json::{Value, json};

bulla_tests::in_each_engine!(a_page_that_can_keep_nothing_says_so);

async fn a_page_that_can_keep_nothing_says_so(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    without_a_database_sessions_live_in_memory(&browser).await?;
    what_cannot_be_put_lives_in_memory(&browser).await?;
    a_database_that_never_opens_is_not_waited_for(&browser).await?;
    what_is_deleted_under_a_page_is_not_missed_by_it(&browser).await?;
    whoever_comes_back_to_nothing_logs_in_anew(&browser).await?;
    what_is_forgotten_elsewhere_is_told(&browser).await?;
    without_locks_a_page_opens_one_session(&browser).await?;
    without_webcrypto_nothing_is_opened(&browser).await?;
    a_login_that_cannot_be_stored_is_kept_by_its_page(&browser).await?;
    a_wrong_pin_is_refused(&browser).await?;
    a_pin_that_cannot_be_read_is_not_none(&browser).await?;
    what_is_broken_is_made_anew(&browser).await?;
    servers_have_nothing_in_common(&browser).await?;
    a_device_that_stays_is_not_said_to_be_forgotten(&browser).await?;
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
        // The device key was there before, and no session can be kept beside it.
        let bank = Bank::open().await?;
        let before = bank.visit(browser, json!({})).await?;
        browser.eval("await session.end()", []).await?;
        let after = the_session_works(browser, &bank, breakage, "memory").await?;
        assert_eq!(after["device"], before["device"], "{breakage}");
    }
    Ok(())
}

/// As in some private windows. Nor is it asked again.
async fn a_database_that_never_opens_is_not_waited_for(browser: &Browser) -> Outcome {
    // From the beginning, or from a time when there is a session already.
    let hangs = "window.opens = 0;
         window.IDBFactory.prototype.open = () => { window.opens += 1; return new EventTarget(); };";
    let bank = Bank::open().await?;
    the_session_works(browser, &bank, hangs, "memory").await?;
    assert_eq!(browser.eval("return opens", []).await?, 1);

    let bank = Bank::open().await?;
    bank.visit(browser, json!({})).await?;
    let found = in_page(
        browser,
        &format!(
            "{hangs}
             await post('/api/login', {{ user: 'ann' }});
             await post('/api/transfer', {{ to: 'bob', amount: 7 }});
             return [about(session).authenticated, session.storage, opens];"
        ),
        json!([]),
    )
    .await?;
    assert_eq!(found, json!([true, "memory", 1]));
    Ok(())
}

/// By the browser, which wants the room, or by a person who wants it clean: the page goes on, and says what it has.
async fn what_is_deleted_under_a_page_is_not_missed_by_it(browser: &Browser) -> Outcome {
    /// Longer than a nonce is taken, so that the server hands out another one, to be stored.
    const STALE: i64 = 150;
    for login in [false, true] {
        let bank = Bank::open().await?;
        bank.visit(browser, json!({})).await?;
        let before = in_page(
            browser,
            "await post('/api/login', { user: 'ann' });
             window.told = [];
             session.on('change', (about) => told.push(about));
             return about(session);",
            json!([]),
        )
        .await?;
        delete(browser).await?;
        bank.clock.advance(STALE);
        let found = in_page(
            browser,
            "if (args.login) await post('/api/login', { user: 'eve' });
             await post('/api/transfer', { to: 'bob', amount: 7 });
             const { identity, ...about } = window.about(session);
             return { about, told };",
            json!({ "login": login }),
        )
        .await?;
        let about = &found["about"];
        assert_eq!(about["storage"], "memory");
        assert_eq!(about["device"], before["device"]);
        assert_eq!(about["id"] == before["id"], !login);
        assert_eq!(
            found["told"].as_array().and_then(|told| told.last()),
            Some(about)
        );
        assert_eq!(bank.ledger.transfers().len(), 1);
        // A key that somebody wanted gone is not put back.
        assert!(records(browser).await?.is_empty());

        // It is over when the page is, and with `end` nothing is left to be found later.
        browser.eval("await session.end()", []).await?;
        assert!(records(browser).await?.is_empty());
        let next = bank.open_in(browser, json!({})).await?;
        assert_eq!(next["storage"], "indexeddb");
        assert_ne!(next["device"], before["device"]);
        assert_eq!(next["authenticated"], false);
    }
    Ok(())
}

/// As after seven days in Safari. The application's login is all that it takes; the device before is nobody's any more.
async fn whoever_comes_back_to_nothing_logs_in_anew(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    bank.visit(browser, json!({})).await?;
    let before = browser
        .eval(
            "await post('/api/login', { user: 'ann' }); return about(session)",
            [],
        )
        .await?;
    delete(browser).await?;
    let after = bank.visit(browser, json!({})).await?;
    assert_ne!(after["device"], before["device"]);
    assert_eq!(after["authenticated"], false);
    let refused = browser
        .eval("await post('/api/transfer', {})", [])
        .await
        .expect_err("nobody is logged in");
    assert_eq!(refused.code(), Some("login_required"));
    let found = browser
        .eval(
            "await post('/api/login', { user: 'ann' });
             await post('/api/transfer', { to: 'bob', amount: 7 });
             return about(session);",
            [],
        )
        .await?;
    assert_eq!(found["authenticated"], true);
    assert_eq!(found["device"], after["device"]);
    assert_eq!(bank.ledger.transfers().len(), 1);
    Ok(())
}

/// The other tab's key is its own from then on.
async fn what_is_forgotten_elsewhere_is_told(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    bank.visit(browser, json!({})).await?;
    let here = browser.tab().await?;
    let there = browser.new_tab().await?;
    bank.visit(browser, json!({})).await?;
    browser.eval("await session.forget()", []).await?;
    browser.switch(&here).await?;
    let told = "return session.id === null && session.storage === 'memory'";
    browser.wait_until(told, PATIENCE).await?;
    browser.eval("await session.fetch('/api/me')", []).await?;
    let kept = records(browser).await?;
    assert!(kept.keys().eq(["identity"]), "{:?}", kept.keys());
    browser.switch(&there).await?;
    browser.driver().close_window().await?;
    browser.switch(&here).await?;
    Ok(())
}

/// Deletes the database, and waits until it is gone.
async fn delete(browser: &Browser) -> Outcome {
    in_page(
        browser,
        "await new Promise((resolve, reject) => {
             const request = indexedDB.deleteDatabase('bulla');
             request.onsuccess = resolve;
             request.onerror = request.onblocked = () => reject(new Error('it is still there'));
         });",
        json!([]),
    )
    .await?;
    Ok(())
}

/// They are missing in old browsers, and refused where a page has no origin.
async fn without_locks_a_page_opens_one_session(browser: &Browser) -> Outcome {
    for breakage in [
        "Object.defineProperty(navigator, 'locks', { value: undefined })",
        "window.LockManager.prototype.request = async () => { throw new DOMException('no', 'SecurityError') }",
    ] {
        let bank = Bank::open().await?;
        let both = format!(
            "{breakage};
             await bulla.init();
             const open = () => bulla.open({{ server: location.origin }});
             const [one, other] = await Promise.all([open(), open()]);
             return [one.id === other.id, openings()];"
        );
        browser.goto(&bank.page()).await?;
        browser.wait_until("return window.bulla", PATIENCE).await?;
        let found = in_page(browser, &both, json!([])).await?;
        assert_eq!(found, json!([true, 1]), "{breakage}");
    }
    Ok(())
}

/// As in a page that is no secure context.
async fn without_webcrypto_nothing_is_opened(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    browser.goto(&bank.page()).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    let refused = in_page(
        browser,
        "Object.defineProperty(crypto, 'subtle', { value: undefined });
         return bulla.open({ server: location.origin }).catch((error) => error.code);",
        json!([]),
    )
    .await?;
    assert_eq!(refused, "unsupported");
    Ok(())
}

/// Also where a request of the session before comes to the server after it: what is stored is that one.
async fn a_login_that_cannot_be_stored_is_kept_by_its_page(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    bank.visit(browser, json!({})).await?;
    let found = in_page(
        browser,
        "const told = [];
         session.on('change', ({ authenticated, storage }) => told.push([authenticated, storage]));
         window.IDBObjectStore.prototype.put = () => {
             throw new DOMException('no', 'QuotaExceededError');
         };
         const { fetch } = window;
         window.fetch = async (...given) => {
             window.fetch = fetch;
             await post('/api/login', { user: 'ann' });
             return fetch(...given);
         };
         const me = await session.fetch('/api/me').then((reply) => reply.json());
         await post('/api/transfer', { to: 'bob', amount: 7 });
         // What another tab tells is of what is stored, which this is not.
         const channel = new BroadcastChannel('bulla');
         channel.postMessage(location.origin);
         await post('/api/transfer', { to: 'bob', amount: 7 });
         // The ticket is old: this one goes on, and not the one that is stored.
         window.skew = 86_400;
         await post('/api/transfer', { to: 'bob', amount: 7 });
         return [me.subject, session.authenticated, session.storage, told];",
        json!([]),
    )
    .await?;
    let told = [
        [json!(true), json!("memory")],
        [json!(true), json!("memory")],
    ];
    assert_eq!(found, json!(["ann", true, "memory", told]));
    assert_eq!(bank.ledger.refusals(), ["session_revoked"]);
    assert_eq!(bank.ledger.transfers().len(), 3);
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
    // Also where the store has a session with the server that it is not.
    for _ in 0..2 {
        let refused = bank
            .visit(browser, wrong.clone())
            .await
            .expect_err("it is another server's");
        assert_eq!(refused.code(), Some("identity_changed"));
        let opened = bank.visit(browser, json!({})).await?;
        assert_eq!(opened["identity"], json!(bank.identity()));
    }
    // The right one is kept, for a page that forgets to tell it.
    let kept = records(browser).await?;
    assert_eq!(kept["identity"], json!({ "value": bank.identity() }));
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

    browser.reload().await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    replace(browser, "identity", "'none'").await?;
    let refused = browser.eval(OPEN, []).await.expect_err("it is no pin");
    assert_eq!(refused.code(), Some("unsupported"));
    Ok(())
}

/// By a program of another version, say.
async fn what_is_broken_is_made_anew(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    let mut before = bank.visit(browser, json!({})).await?;
    for (kind, broken) in [
        ("session", "{}"),
        ("session", "{ ...found, request: {} }"),
        ("session", "{ ...found, ticketLife: '900' }"),
        ("session", "{ ...found, key: found.mac }"),
        ("device", "{}"),
        ("device", "{ ...found, public: new Uint8Array(65) }"),
    ] {
        replace(browser, kind, broken).await?;
        let after = bank.visit(browser, json!({})).await?;
        assert_eq!(after["storage"], "indexeddb", "{kind}: {broken}");
        assert_ne!(after["id"], before["id"], "{kind}: {broken}");
        let is_same = after["device"] == before["device"];
        assert_eq!(is_same, kind == "session", "{kind}: {broken}");
        browser.eval("await session.fetch('/api/me')", []).await?;
        before = after;
    }
    assert_eq!(bank.ledger.refusals(), [""; 0]);
    Ok(())
}

/// Puts another record in the place of the one that is `found`.
async fn replace(browser: &Browser, kind: &str, record: &str) -> Outcome {
    let put = format!(
        "const done = (request) => new Promise((resolve, reject) => {{
             request.onsuccess = () => resolve(request.result);
             request.onerror = () => reject(request.error);
         }});
         const database = await done(indexedDB.open('bulla'));
         const records = database.transaction('records', 'readwrite').objectStore('records');
         const key = `${{args[0]}} ${{location.origin}}`;
         const found = await done(records.get(key));
         await done(records.put({record}, key));
         database.close();"
    );
    in_page(browser, &put, json!([kind])).await?;
    Ok(())
}

/// Not even the device key, by which they could know a visitor of both.
async fn servers_have_nothing_in_common(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    let page = bank.server.origin();
    let other = Bank::open_with(|builder| builder.allow_origin(page)).await?;
    let here = bank.visit(browser, json!({})).await?;
    let there = other.open_in(browser, json!({})).await?;
    for what in ["id", "identity", "device"] {
        assert_ne!(here[what], there[what], "{what}");
    }
    for (bank, before) in [(&bank, here), (&other, there)] {
        assert_eq!(bank.open_in(browser, json!({})).await?, before);
        assert_eq!(bank.ledger.refusals(), [""; 0]);
    }
    Ok(())
}

async fn a_device_that_stays_is_not_said_to_be_forgotten(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    bank.visit(browser, json!({})).await?;
    let told = browser
        .eval(
            "window.IDBObjectStore.prototype.delete = () => {
                 throw new DOMException('no', 'UnknownError');
             };
             await session.forget();",
            [],
        )
        .await
        .expect_err("the key is still there");
    assert_eq!(told.code(), Some("unsupported"));
    let left = browser.eval("return session.id", []).await?;
    assert_eq!(left, Value::Null);
    Ok(())
}

//! A session in real browsers, from its opening to its end.

use std::time::Duration;

use bulla_server::{Openings, Rate};
use bulla_tests::attack::client;
use bulla_tests::bank::{Bank, PATIENCE};
use bulla_tests::browser::{Browser, Engine};
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const DAY: i64 = 24 * 60 * 60;
/// Beyond 2038, and before the server was made.
const DECADES: i64 = 40 * 365 * DAY;

bulla_tests::in_each_engine!(a_session_lives_from_its_opening_to_its_end);

/// One launch for all of it. Each bank is an origin of its own, which the browser has never seen.
async fn a_session_lives_from_its_opening_to_its_end(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    a_module_that_is_not_there_can_be_loaded_later(&browser).await?;
    what_is_no_option_is_refused_at_once(&browser).await?;
    for sealed in [true, false] {
        a_transfer_from_opening_to_logout(&browser, sealed).await?;
    }
    a_reload_keeps_the_session(&browser).await?;
    two_tabs_open_one_session(&browser).await?;
    one_tab_logs_in_while_the_other_goes_on(&browser).await?;
    clocks_may_be_wrong(&browser).await?;
    a_clock_that_jumps_costs_no_login(&browser).await?;
    a_clock_that_jumps_under_a_page_costs_no_login(&browser).await?;
    a_device_that_was_asleep_for_a_while_goes_on(&browser).await?;
    a_device_that_was_asleep_for_long_says_that_nobody_is_logged_in(&browser).await?;
    a_ticket_at_its_end_is_renewed_before_it_is_used(&browser).await?;
    the_next_ticket_lives_from_when_it_came(&browser).await?;
    an_opening_that_takes_work_is_no_other_to_the_page(&browser).await?;
    browser.quit().await?;
    Ok(())
}

/// Others have opened as many as are for nothing.
async fn an_opening_that_takes_work_is_no_other_to_the_page(browser: &Browser) -> Outcome {
    let bank = Bank::open_with(|builder| {
        builder.openings(Openings {
            in_all: Some(Rate::new(1, Duration::from_hours(1))),
            ..Openings::default()
        })
    })
    .await?;
    client(&bank)?.open().await?;
    bank.visit(browser, json!({})).await?;
    assert_eq!(browser.eval("return openings()", []).await?, 2);
    assert_eq!(bank.ledger.refusals(), ["work_required"]);
    let login = "return (await post('/api/login', { user: 'ann' })).user";
    let _ = browser.eval(login, []).await?;
    let me = "return (await (await session.fetch('/api/me')).json()).subject";
    assert_eq!(browser.eval(me, []).await?, "ann");
    // Whoever carries his session over works, too.
    assert_eq!(bank.ledger.refusals(), ["work_required"; 2]);
    Ok(())
}

/// Nor is there any other way to a session than to open one.
async fn a_module_that_is_not_there_can_be_loaded_later(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    browser.goto(&bank.page()).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    let refused = browser.eval("await bulla.init('/npm/none')", []).await;
    let refused = refused.expect_err("there is no such module");
    assert_eq!(refused.code(), Some("unsupported"));
    let opened = bank.open_in(browser, json!({})).await?;
    assert_eq!(opened["storage"], "indexeddb");

    let made = browser.eval("new bulla.Session(Symbol(), {})", []).await;
    let made = made.expect_err("it was not opened");
    let thrown = made.thrown().ok_or("nothing was thrown")?;
    assert_eq!(thrown.name, "TypeError");
    Ok(())
}

/// Before there is a key, or anything is sent.
async fn what_is_no_option_is_refused_at_once(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    browser.goto(&bank.page()).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    for options in [
        "undefined",
        "{ server: 7 }",
        "{ server: 'localhost' }",
        "{ server: location.origin + '/api' }",
        "{ server: location.origin + '/?a' }",
        "{ server: location.origin, identity: 'none' }",
        "{ server: location.origin, identity: 7 }",
        "{ server: location.origin, identity: null }",
        "{ server: location.origin, identiti: '' }",
        "{ server: location.origin, prefix: 7 }",
        "{ server: location.origin, prefix: 'api' }",
        "{ server: location.origin, prefix: '/api/' }",
        "{ server: location.origin, prefix: '/api?a' }",
        "{ server: location.origin, seal: 'no' }",
    ] {
        let refused = browser
            .eval(&format!("await bulla.open({options})"), [])
            .await
            .expect_err(options);
        assert_eq!(refused.code(), Some("request_invalid"), "{options}");
    }
    let done = browser
        .eval(
            "return [openings(), (await indexedDB.databases()).length]",
            [],
        )
        .await?;
    assert_eq!(done, json!([0, 0]));
    // The verifier takes the path for one of the application's.
    let elsewhere = "await bulla.open({ server: location.origin, prefix: '/elsewhere' })";
    let refused = browser.eval(elsewhere, []).await.expect_err(elsewhere);
    assert_eq!(refused.code(), Some("reply_invalid"));
    assert!(refused.to_string().contains("prefix"), "{refused}");
    // What all objects have got from somebody is no option.
    let polluted = "Object.prototype.identity = 'none';
        try { await bulla.open({ server: location.origin }); } finally { delete Object.prototype.identity; }";
    browser.eval(polluted, []).await?;
    Ok(())
}

async fn a_transfer_from_opening_to_logout(browser: &Browser, sealed: bool) -> Outcome {
    let bank = Bank::open().await?;
    let opened = bank.visit(browser, json!({ "seal": sealed })).await?;
    assert_eq!(opened["authenticated"], false);
    assert_eq!(opened["storage"], "indexeddb");
    assert_eq!(opened["identity"], json!(bank.identity()));

    let refused = browser
        .eval("await post('/api/transfer', {})", [])
        .await
        .expect_err("nobody is logged in");
    assert_eq!(refused.code(), Some("login_required"));

    let found = browser
        .eval(
            "const before = session.id;
             const hello = await post('/api/login', { user: 'ann' });
             const receipt = await post('/api/transfer', { to: 'bob', amount: 7 });
             const me = await session.fetch('/api/me').then((reply) => reply.json());
             return { hello, receipt, me, changed: before !== session.id, about: about(session) };",
            [],
        )
        .await?;
    assert_eq!(found["hello"], json!({ "hello": "ann" }));
    assert_eq!(found["receipt"]["number"], 1);
    assert_eq!(found["changed"], true);
    assert_eq!(found["about"]["authenticated"], true);
    assert_eq!(
        found["me"],
        json!({ "id": found["about"]["id"], "subject": "ann", "sealed": sealed, "proof": "device" })
    );
    assert_eq!(
        bank.ledger.transfers(),
        [json!({ "from": "ann", "to": "bob", "amount": 7 })]
    );

    // The application logs out: what comes next is another session, and nobody's.
    let after = browser
        .eval(
            "const { status, headers } = await session.fetch('/api/logout', { method: 'POST' });
             const ours = [...headers.keys()].filter((name) => name.startsWith('bulla-'));
             const { id, authenticated } = session;
             const me = await session.fetch('/api/me').then((reply) => reply.json());
             return { status, ours, id, authenticated, me, next: session.id };",
            [],
        )
        .await?;
    assert_eq!(after["status"], 204);
    // What the server hands out is the package's alone.
    assert_eq!(after["ours"], json!([]));
    assert_eq!(
        (&after["id"], &after["authenticated"]),
        (&json!(null), &json!(false))
    );
    assert_eq!(after["me"]["subject"], json!(null));
    assert_ne!(after["next"], found["about"]["id"]);
    Ok(())
}

async fn a_reload_keeps_the_session(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    bank.visit(browser, json!({})).await?;
    let before = browser
        .eval(
            "await post('/api/login', { user: 'ann' }); return about(session)",
            [],
        )
        .await?;
    assert_eq!(before["authenticated"], true);

    browser.reload().await?;
    let after = bank.open_in(browser, json!({})).await?;
    assert_eq!(after, before);
    let found = browser
        .eval(
            "const me = await session.fetch('/api/me').then((reply) => reply.json());
             return { subject: me.subject, openings: openings() };",
            [],
        )
        .await?;
    assert_eq!(found, json!({ "subject": "ann", "openings": 0 }));
    assert_eq!(bank.ledger.refusals(), [""; 0]);
    Ok(())
}

async fn two_tabs_open_one_session(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    let first = browser.tab().await?;
    prepare_to_open(browser, &bank).await?;
    let second = browser.new_tab().await?;
    prepare_to_open(browser, &bank).await?;

    browser
        .eval("channel.postMessage('now'); start()", [])
        .await?;
    let in_second = opened(browser).await?;
    browser.switch(&first).await?;
    let in_first = opened(browser).await?;
    assert_eq!(in_first["about"], in_second["about"]);
    let openings = [&in_first["openings"], &in_second["openings"]].map(Value::as_u64);
    assert_eq!(
        openings.map(Option::unwrap_or_default).iter().sum::<u64>(),
        1
    );

    browser.switch(&second).await?;
    browser.driver().close_window().await?;
    browser.switch(&first).await?;
    Ok(())
}

/// Waits with everything ready, the Wasm module too, for the word of another tab.
async fn prepare_to_open(browser: &Browser, bank: &Bank) -> Outcome {
    browser.goto(&bank.page()).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    browser
        .eval(
            "await bulla.init();
             window.start = () => {
               window.opening = bulla.open({ server: location.origin });
             };
             window.channel = new BroadcastChannel('test');
             channel.onmessage = start;",
            [],
        )
        .await?;
    Ok(())
}

async fn opened(browser: &Browser) -> Outcome<Value> {
    browser
        .wait_until("return window.opening", PATIENCE)
        .await?;
    Ok(browser
        .eval(
            "window.session = await opening;
             await session.fetch('/api/echo');
             return { about: about(session), openings: openings() };",
            [],
        )
        .await?)
}

async fn one_tab_logs_in_while_the_other_goes_on(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    let first = browser.tab().await?;
    bank.visit(browser, json!({})).await?;
    let second = browser.new_tab().await?;
    bank.visit(browser, json!({})).await?;
    browser
        .eval(
            "window.seen = [];
             window.enough = false;
             window.going = (async () => {
               while (!window.enough) {
                 const me = await session.fetch('/api/me').then((reply) => reply.json());
                 if (seen.at(-1) !== me.subject) seen.push(me.subject);
               }
             })();",
            [],
        )
        .await?;
    browser.wait_until("return seen.length", PATIENCE).await?;

    browser.switch(&first).await?;
    let about = browser
        .eval(
            "await post('/api/login', { user: 'ann' }); return about(session)",
            [],
        )
        .await?;
    browser.switch(&second).await?;
    browser
        .wait_until("return seen.includes('ann')", PATIENCE)
        .await?;
    let found = browser
        .eval(
            "window.enough = true; await going; return { seen, about: about(session) }",
            [],
        )
        .await?;
    assert_eq!(found, json!({ "seen": [null, "ann"], "about": about }));

    browser.driver().close_window().await?;
    browser.switch(&first).await?;
    Ok(())
}

async fn clocks_may_be_wrong(browser: &Browser) -> Outcome {
    for (of_page, of_server) in [
        (DAY, 0),
        (-DAY, 0),
        (0, DAY),
        (0, -DAY),
        (DECADES, 0),
        (-DECADES, 0),
    ] {
        let bank = Bank::open().await?;
        bank.clock.advance(of_server);
        browser
            .goto(&format!("{}?skew={of_page}", bank.page()))
            .await?;
        bank.open_in(browser, json!({})).await?;
        let found = browser
            .eval(
                "await post('/api/login', { user: 'ann' });
                 await post('/api/transfer', { to: 'bob', amount: 7 });
                 return [Math.round((clock() - performance.timeOrigin) / 86_400_000),
                         openings(), (await session.fetch('/api/me').then((r) => r.json())).subject];",
                [],
            )
            .await?;
        // One opening at first, one for the login.
        assert_eq!(found, json!([of_page / DAY, 2, "ann"]));
        assert_eq!(bank.ledger.transfers().len(), 1);
        assert_eq!(bank.ledger.refusals(), [""; 0]);
    }
    Ok(())
}

async fn a_clock_that_jumps_costs_no_login(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    bank.visit(browser, json!({})).await?;
    browser
        .eval("await post('/api/login', { user: 'ann' })", [])
        .await?;
    for jump in [DAY, -DAY] {
        browser
            .goto(&format!("{}?skew={jump}", bank.page()))
            .await?;
        let about = bank.open_in(browser, json!({})).await?;
        assert_eq!(about["authenticated"], true, "{jump}");
        // How old the ticket is nobody knows: it is renewed rather than tried.
        let openings = browser
            .eval(
                "await post('/api/transfer', { to: 'bob', amount: 7 }); return openings()",
                [],
            )
            .await?;
        assert_eq!(openings, 1, "{jump}");
    }
    assert_eq!(bank.ledger.transfers().len(), 2);
    assert_eq!(bank.ledger.refusals(), [""; 0]);
    Ok(())
}

/// Somebody sets it right, or wrong.
async fn a_clock_that_jumps_under_a_page_costs_no_login(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    bank.visit(browser, json!({})).await?;
    browser
        .eval("await post('/api/login', { user: 'ann' })", [])
        .await?;
    for (at, jump) in [DAY, 0, -DAY, DECADES, -DECADES].into_iter().enumerate() {
        let found = browser
            .eval(
                "window.skew = args[0];
                 await post('/api/transfer', { to: 'bob', amount: 7 });
                 const { subject } = await session.fetch('/api/me').then((reply) => reply.json());
                 return [subject, openings()];",
                [json!(jump)],
            )
            .await?;
        // Two at first, and one for each jump.
        assert_eq!(found, json!(["ann", at + 3]), "{jump}");
    }
    assert_eq!(bank.ledger.transfers().len(), 5);
    assert_eq!(bank.ledger.refusals(), [""; 0]);
    Ok(())
}

/// The clock goes on meanwhile, and what counts a page's time may not.
const ASLEEP: &str = "const awake = performance.now();
    window.performance.now = () => awake;
    window.skew = args[0];";

/// For as long as a ticket lives all that is stale is the nonce.
async fn a_device_that_was_asleep_for_a_while_goes_on(browser: &Browser) -> Outcome {
    const WHILE: i64 = 10 * 60;
    let bank = Bank::open().await?;
    bank.visit(browser, json!({})).await?;
    browser
        .eval("await post('/api/login', { user: 'ann' })", [])
        .await?;
    bank.clock.advance(WHILE);
    let work = "await post('/api/transfer', { to: 'bob', amount: 7 });
        return openings();";
    let openings = browser
        .eval(&format!("{ASLEEP} {work}"), [json!(WHILE)])
        .await?;
    assert_eq!(openings, 2);
    assert_eq!(bank.ledger.refusals(), ["nonce_stale"]);
    assert_eq!(bank.ledger.transfers().len(), 1);
    Ok(())
}

/// And nothing is sent as if somebody were.
async fn a_device_that_was_asleep_for_long_says_that_nobody_is_logged_in(
    browser: &Browser,
) -> Outcome {
    for knows in [true, false] {
        let bank = Bank::open().await?;
        bank.visit(browser, json!({})).await?;
        browser
            .eval("await post('/api/login', { user: 'ann' })", [])
            .await?;
        bank.clock.advance(DAY);
        let found = browser
            .eval(
                &format!(
                    "window.told = [];
                     session.on('change', ({{ authenticated }}) => told.push(authenticated));
                     {ASLEEP}
                     const pay = () => post('/api/transfer', {{ to: 'bob', amount: 7 }}).catch((error) => error.code);
                     const first = await pay();
                     return [first, await pay(), session.authenticated, told];"
                ),
                // Also by a clock that has stood still with all else.
                [json!(if knows { DAY } else { 0 })],
            )
            .await?;
        let first = if knows {
            "login_required"
        } else {
            "ticket_expired"
        };
        assert_eq!(found, json!([first, "login_required", false, [false]]));
        let again = browser
            .eval(
                "await post('/api/login', { user: 'ann' });
                 await post('/api/transfer', { to: 'bob', amount: 7 });
                 return session.authenticated;",
                [],
            )
            .await?;
        assert_eq!(again, true);
        assert_eq!(bank.ledger.transfers().len(), 1);
    }
    Ok(())
}

/// Nothing unsafe is ever sent twice, so the client had better know before.
async fn a_ticket_at_its_end_is_renewed_before_it_is_used(browser: &Browser) -> Outcome {
    let bank = Bank::open().await?;
    let before = bank.visit(browser, json!({})).await?;
    bank.clock.advance(DAY);
    let found = browser
        .eval(
            "window.skew = 86_400;
             const hello = await post('/api/login', { user: 'ann' });
             return { hello, id: session.id };",
            [],
        )
        .await?;
    assert_eq!(found["hello"], json!({ "hello": "ann" }));
    assert_ne!(found["id"], before["id"]);
    assert_eq!(bank.ledger.refusals(), ["ticket_expired"]);
    Ok(())
}

/// Whoever stays pays for no opening.
async fn the_next_ticket_lives_from_when_it_came(browser: &Browser) -> Outcome {
    // More than half of a ticket's life.
    const WHILE: i64 = 10 * 60;
    let bank = Bank::open().await?;
    let before = bank.visit(browser, json!({})).await?;
    for since in [WHILE, 2 * WHILE, 3 * WHILE] {
        bank.clock.advance(WHILE);
        let after = browser
            .eval(
                "window.skew = args[0];
                 await post('/api/echo', {});
                 return [session.id, openings()];",
                [json!(since)],
            )
            .await?;
        assert_eq!(after, json!([before["id"], 1]), "{since}");
    }
    Ok(())
}

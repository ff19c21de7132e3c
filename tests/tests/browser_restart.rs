//! A server that is killed and started again, as pages see it.

use bulla_tests::attack::Outcome;
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, BrowserError, Engine};
use bulla_tests::restart::Process;
use serde_json::{Value, json};

/// The status of a login, and who is then logged in.
const LOG_IN: &str = "
const { status } = await session.fetch('/api/login', {
  method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ user: 'ann' }),
});
return { status, about: about(session), openings: openings() };";

const PAY: &str = "return (await session.fetch('/api/transfer', { method: 'POST' })).json()";

/// Who is logged in, by the server and by the session.
const ASK: &str = "
const { subject } = await session.fetch('/api/me').then((reply) => reply.json());
return { subject, about: about(session), openings: openings() };";

bulla_tests::in_each_engine!(a_page_goes_on_after_a_restart);

async fn a_page_goes_on_after_a_restart(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    let mut bank = Process::start(env!("CARGO_BIN_EXE_restarted"))?;
    browser.goto(&format!("{}/page", bank.origin())).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    browser
        .eval(
            "window.session = await bulla.open({ server: location.origin })",
            [],
        )
        .await?;
    with_the_ring_kept_the_session_goes_on(&browser, &mut bank).await?;
    with_the_ring_lost_the_page_learns_that_nobody_is_logged_in(&browser, &mut bank).await?;
    browser.quit().await?;
    Ok(())
}

async fn with_the_ring_kept_the_session_goes_on(browser: &Browser, bank: &mut Process) -> Outcome {
    let before = browser.eval(LOG_IN, []).await?;
    assert_eq!(before["about"]["authenticated"], true);
    bank.restart_without(&[])?;
    assert_eq!(browser.eval(PAY, []).await?, json!({ "paid": true }));
    let after = browser.eval(ASK, []).await?;
    assert_eq!(after["subject"], "ann");
    assert_eq!(after["about"], before["about"]);
    assert_eq!(after["openings"], before["openings"]);
    Ok(())
}

async fn with_the_ring_lost_the_page_learns_that_nobody_is_logged_in(
    browser: &Browser,
    bank: &mut Process,
) -> Outcome {
    // What is not safe is not sent again by itself, even if it could succeed. The next session is there.
    let before = browser.eval(ASK, []).await?;
    bank.restart_without(&["ring.json"])?;
    assert_eq!(refused(browser.eval(LOG_IN, []).await), "ticket_invalid");
    assert_eq!(refused(browser.eval(PAY, []).await), "login_required");
    let after = browser.eval(ASK, []).await?;
    assert_eq!(after["about"]["authenticated"], false);
    assert_ne!(after["about"]["id"], before["about"]["id"]);
    assert_eq!(
        after["openings"].as_u64(),
        before["openings"].as_u64().map(|n| n + 1)
    );

    // What is safe is, and the page sees by the reply.
    assert_eq!(browser.eval(LOG_IN, []).await?["status"], 200);
    assert_eq!(browser.eval(PAY, []).await?, json!({ "paid": true }));
    bank.restart_without(&["ring.json"])?;
    let asked = browser.eval(ASK, []).await?;
    assert_eq!(asked["subject"], Value::Null);
    assert_eq!(asked["about"]["authenticated"], false);
    Ok(())
}

fn refused(outcome: Result<Value, BrowserError>) -> String {
    match outcome {
        Ok(value) => format!("not at all: {value}"),
        Err(error) => error
            .code()
            .map_or_else(|| error.to_string(), str::to_owned),
    }
}

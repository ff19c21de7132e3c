//! The page's own `fetch` and `XMLHttpRequest` through a session, in real browsers.

use bulla_tests::bank::{Bank, PATIENCE};
use bulla_tests::browser::{Browser, Engine};
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::in_each_engine!(a_page_goes_through_its_session_as_it_is);

async fn a_page_goes_through_its_session_as_it_is(engine: Engine) -> Outcome {
    let bank = Bank::open().await?;
    let browser = Browser::launch(engine).await?;
    for sealed in [true, false] {
        bank.visit(&browser, json!({ "seal": sealed })).await?;
        add_script(&browser, include_str!("pages/xhr.js")).await?;
        add_script(&browser, include_str!("pages/install.js")).await?;
        a_request_does_what_the_platforms_does(&browser, sealed).await?;
        what_is_covered_goes_through_and_nothing_else(&browser).await?;
        a_refusal_is_told_as_far_as_each_can_tell_it(&browser).await?;
        a_worker_can_have_it_too(&browser).await?;
        what_the_session_sends_does_not_come_back_to_it(&browser).await?;
        bank.visit(&browser, json!({ "seal": sealed })).await?;
        add_script(&browser, include_str!("pages/install.js")).await?;
        nothing_is_parsed_where_a_policy_forbids_it(&browser).await?;
    }
    browser.quit().await?;
    Ok(())
}

async fn a_request_does_what_the_platforms_does(browser: &Browser, sealed: bool) -> Outcome {
    let found = call(browser, "compared", json!(["/twin", "/api", sealed])).await?;
    assert!(found["cases"].as_u64() > Some(250), "{found}");
    let differences = found["differences"].as_array().ok_or("no differences")?;
    let names: Vec<_> = differences.iter().map(|found| &found["name"]).collect();
    let expected = own_ways(browser.engine());
    assert_eq!(names, expected, "sealed: {sealed}\n{differences:#?}");
    Ok(())
}

/// The cases in which an engine does not do what the standard says, or none can do what the platform does.
fn own_ways(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::Chromium => &[
            // It writes parameters in its own way.
            "text as text/plain;charset=\"latin1\";a=b",
            "text as text/plain;charset=utf-8",
            // What is parsed by script has one of few types.
            "document: xml as feed",
        ],
        Engine::Firefox => &[
            // It knows no empty document.
            "document: nothing as html",
            "document: xml as feed",
            // It remembers it when it is sent.
            "aborted before it is sent",
        ],
        Engine::WebKit => &[
            "document: xml as feed",
            // It reads a body where there is none.
            "status 205",
            // It does not look at the time that is set later.
            "timed out late",
        ],
    }
}

async fn what_is_covered_goes_through_and_nothing_else(browser: &Browser) -> Outcome {
    let told = call(browser, "installing", json!([])).await?;
    assert_eq!(
        told["covered"],
        json!({
            "/api/form": "200 1",
            "/api/form?a=/twin/#b": "200 1",
            "/twin/../api/form": "200 1",
            "//localhost:PORT/api/form": "200 1",
            "http://localhost:PORT/api/form": "200 1",
            "/twin/echo": "200 1",
            "/twin/echo/x": "404 1",
            "/api/nonesuch": "404 1",
            "/api/status": "404 1",
            // To the platform, and refused if the server wants a proof.
            "/api": "401 0",
            "/apix": "401 0",
            "/API/form": "401 0",
            "/%61pi/form": "401 0",
            "/api/../twin/form": "200 0",
            "/twin/echoes": "404 0",
            "/twin/form?/api/": "200 0",
            "/api/none": "401 0",
            "/api/none/x": "401 0",
            "/api/status/404": "401 0",
            "/page": "200 0",
            "http://127.0.0.1:PORT/api/form": "TypeError 0",
            "data:,api": "200 0",
            "blob:http://localhost:PORT/api/form": "TypeError 0",
        })
    );
    assert_eq!(told["shape"], json!(["fetch", 1, "TypeError", true]));
    assert_eq!(told["synchronous"], json!(["true InvalidAccessError", 200]));
    let turns = ["1", "0", "0", "1", "1"].map(|calls| format!("{calls}: 2,3,4,again 1"));
    assert_eq!(told["turns"], json!(turns));

    assert_eq!(told["out"], json!([true, true]));
    assert_eq!(told["twice"], true);
    assert_eq!(told["onTop"], json!([200, 200, 2]));
    assert_eq!(told["below"], json!([true, 200, 200, 401, 401, 0]));
    let by_both = ["200 200 b b", "200 200 a a", "204 204 b b"];
    let by_a = ["200 200 a a", "200 200 a a", "401 401"];
    let by_b = ["200 200 b b", "401 401", "204 204 b b"];
    for (order, meanwhile) in [("first out first", by_b), ("last out first", by_a)] {
        let paths = [by_both, meanwhile, ["401 401"; 3]].concat();
        let expected = paths.into_iter().map(Value::from);
        let expected: Vec<_> = expected.chain([true.into(), true.into()]).collect();
        assert_eq!(told[order], json!(expected), "{order}");
    }
    assert_eq!(told["hot"], json!([true, true, true, true]));
    let refused = "BullaError request_invalid";
    assert_eq!(told["options"], json!(vec![refused; 14]));
    assert_eq!(told["untouched"], true);
    Ok(())
}

async fn a_refusal_is_told_as_far_as_each_can_tell_it(browser: &Browser) -> Outcome {
    let told = call(browser, "refusing", json!([])).await?;
    let in_the_console = "bulla: a request for /api/transfer has failed: login_required";
    assert_eq!(
        told,
        json!([[true, "login_required"], in_the_console, "error 0"])
    );
    Ok(())
}

async fn a_worker_can_have_it_too(browser: &Browser) -> Outcome {
    let told = call(browser, "working", json!([])).await?;
    assert_eq!(told, json!([200, 4, 200, "<a/>", null]));
    Ok(())
}

async fn nothing_is_parsed_where_a_policy_forbids_it(browser: &Browser) -> Outcome {
    let told = call(browser, "parsing", json!([])).await?;
    assert_eq!(
        told,
        json!(["string", "TypeError", "TypeError", "TypeError"])
    );
    Ok(())
}

async fn what_the_session_sends_does_not_come_back_to_it(browser: &Browser) -> Outcome {
    let told = call(browser, "whole", json!([])).await?;
    assert_eq!(
        told,
        json!([
            200,
            "by XMLHttpRequest",
            17,
            "by fetch",
            "session_closed",
            200
        ])
    );
    Ok(())
}

/// Calls an asynchronous function of the page and waits for what comes of it.
async fn call(browser: &Browser, function: &str, given: Value) -> Outcome<Value> {
    browser
        .eval(
            "window.outcome = undefined;
             window[args[0]](...args[1]).catch(String).then((outcome) => { window.outcome = outcome });",
            [json!(function), given],
        )
        .await?;
    Ok(browser.wait_until("return outcome", 3 * PATIENCE).await?)
}

/// As a script of the page: the driver's world has globals of its own in Firefox.
async fn add_script(browser: &Browser, script: &str) -> Outcome {
    browser
        .eval(
            "const script = document.createElement('script');
             script.textContent = args[0];
             document.head.append(script);",
            [json!(script)],
        )
        .await?;
    Ok(())
}

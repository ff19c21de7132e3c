//! The demo as visitors find it, in every engine: sign in, send money, let the thief try, make rules fire, end
//! sessions from another browser and from the back office.

use std::path::Path;
use std::time::Duration;

use bulla_client::{Client, Code};
use bulla_demo::Demo;
use bulla_tests::attack::{error_code, post};
use bulla_tests::browser::{Browser, Engine};
use bytes::Bytes;
use http::Request;
use serde_json::json;
use thirtyfour::Key;
use tokio::net::TcpListener;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_mins(1);

/// What the protected bank answers to each attack, and what the twin loses to it.
const ATTACKS: [(&str, &str, &str); 5] = [
    ("token", "proof_mismatch", "€300.00"),
    ("replay", "replayed", "€12.00"),
    ("change", "seal_broken", "€450.00"),
    ("keep", "nonce_stale", "€60.00"),
    ("swap", "reply_mismatch", "€80.00"),
];

/// What the bank does when a rule fires.
const RULES: [(&str, &str); 4] = [
    ("missing_proof", "recorded"),
    ("foreign_ticket", "step_up"),
    ("refusals", "throttled"),
    ("network_change", "ended"),
];

/// The folder that screenshots are kept in, below the repository's root. Without it they are made, and
/// measured, and dropped.
const SCREENSHOTS: &str = "BULLA_SCREENSHOTS";

/// Widths and heights in CSS pixels.
const DESK: (u32, u32) = (1280, 1000);
const PHONE: (u32, u32) = (390, 844);

bulla_tests::in_each_engine!(a_visitor_finds_what_the_demo_promises);

/// Run alone with `BULLA_SCREENSHOTS=docs/screenshots` to make them anew.
#[tokio::test(flavor = "multi_thread")]
async fn screenshots_for_the_readme() -> Outcome {
    let demo = demo().await?;
    let browser = Browser::launch(Engine::Chromium).await?;
    arrive(&browser, &demo).await?;
    sign_in(&browser, "ada").await?;
    money_is_sent_sealed(&browser).await?;
    shoot(&browser, "wire", "#bank", DESK, false).await?;
    shoot(&browser, "phone", "#bank", PHONE, true).await?;
    every_attack_robs_the_twin_alone(&browser).await?;
    shoot(&browser, "thief", "#thief", DESK, false).await?;
    browser.quit().await?;
    Ok(())
}

async fn a_visitor_finds_what_the_demo_promises(engine: Engine) -> Outcome {
    let demo = demo().await?;
    let browser = Browser::launch(engine).await?;
    visit(&browser, &demo).await?;
    browser.quit().await?;
    Ok(())
}

async fn demo() -> Outcome<Demo> {
    Ok(Demo::start(TcpListener::bind("127.0.0.1:0").await?)?)
}

async fn visit(browser: &Browser, demo: &Demo) -> Outcome {
    arrive(browser, demo).await?;
    a_wrong_password_is_refused(browser).await?;
    sign_in_by_keyboard(browser).await?;
    assert_eq!(text(browser, "#balance").await?, "€3,140.50");
    assert_eq!(text(browser, "#twin-balance").await?, "€3,140.50");

    money_is_sent_sealed(browser).await?;
    quiet(browser, &["status of 403"]).await?;
    another_device_is_signed_out(browser, demo).await?;
    look(browser, "bank").await?;
    it_is_left_and_taken_back(browser).await?;
    every_attack_robs_the_twin_alone(browser).await?;
    look(browser, "thief").await?;
    // The changed request's refusal, and the two that were held back.
    let expected = ["status of 400", "status of 504", "status of 504"];
    quiet(browser, &expected).await?;

    browser.reload().await?;
    ready(browser).await?;
    assert_eq!(text(browser, "#balance").await?, "€3,103.50");
    rules_fire_and_the_customer_recovers(browser).await?;
    look(browser, "feed").await?;
    look(browser, "metrics").await?;
    quiet(browser, &[]).await?;
    another_browser_is_ended_and_ends_this_one(browser, demo).await?;

    click(browser, "#account [data-sign-out]").await?;
    shown(browser, "#sign-in").await?;
    // Who signs out need not be told.
    assert!(!is_shown(browser, "#ended").await?);
    nothing_slips(browser).await?;
    quiet(browser, &[]).await
}

/// Each rule is made to fire from the page and is told of in the feed; what it does is felt at the bank, and mended
/// there.
async fn rules_fire_and_the_customer_recovers(browser: &Browser) -> Outcome {
    for (rule, done) in RULES {
        click(browser, &format!("[data-provoke={rule}] button")).await?;
        let told = format!("#events [data-rule={rule}] [data-done={done}]");
        shown(browser, &told).await?;
        match done {
            "step_up" => {
                shown(browser, "#again").await?;
                look_at(browser, "again", "#bank").await?;
                idle(browser).await?;
                assert!(
                    pay(browser)
                        .await?
                        .starts_with("insufficient_user_authentication")
                );
                submit(browser, "#again", &[("password", "clay-tablet")]).await?;
                hidden(browser, "#again").await?;
                idle(browser).await?;
                assert_eq!(pay(browser).await?, PAID);
            }
            "throttled" => {
                shown(browser, "#slow").await?;
                idle(browser).await?;
                // It takes its time, and all of it is carried out.
                assert_eq!(pay(browser).await?, PAID);
                hidden(browser, "#slow").await?;
            }
            "ended" => {
                shown(browser, "#ended").await?;
                shown(browser, "#sign-in").await?;
                look_at(browser, "ended", "#bank").await?;
                sign_in(browser, "ada").await?;
                hidden(browser, "#ended").await?;
            }
            _ => idle(browser).await?,
        }
        for notice in ["#again", "#slow", "#ended"] {
            assert!(!is_shown(browser, notice).await?, "{rule}: {notice}");
        }
    }
    assert_eq!(text(browser, "#balance").await?, "€3,053.50");
    nothing_slips(browser).await
}

/// Two browsers: each is ended by the other, as the same customer's and from the back office.
async fn another_browser_is_ended_and_ends_this_one(browser: &Browser, demo: &Demo) -> Outcome {
    let other = Browser::launch(browser.engine()).await?;
    arrive(&other, demo).await?;
    sign_in(&other, "ada").await?;
    // Seen here without asking for it.
    let both_are_there = "return document.querySelectorAll('#sessions li').length === 2";
    browser.wait_until(both_are_there, PATIENCE).await?;
    click(&other, "#devices [data-this] button").await?;
    submit(&other, "#devices form", &[("name", "Ada’s tablet")]).await?;
    contains(&other, "#devices [data-this]", "Ada’s tablet").await?;

    browser.reload().await?;
    ready(browser).await?;
    contains(browser, "#devices", "Ada’s tablet").await?;
    look_at(browser, "devices", "#sessions").await?;
    click(browser, "#devices [aria-label*=tablet]").await?;
    let one_is_left = "return document.querySelectorAll('#sessions li').length === 1
                         && !document.querySelector('#devices').textContent.includes('tablet')";
    browser.wait_until(one_is_left, PATIENCE).await?;
    shown(&other, "#ended").await?;

    click(&other, "#customers [data-user=nanna]").await?;
    shown(&other, "#office [data-user=ada] .places button").await?;
    idle_form(&other).await?;
    look_at(&other, "office", "#bank").await?;
    click(&other, "#office [data-user=ada] .places button").await?;
    shown(browser, "#ended").await?;
    sign_in(browser, "ada").await?;
    shown(&other, "#office [data-user=ada] .places button").await?;
    click(&other, "#office [data-user=ada] .owner button").await?;
    shown(browser, "#ended").await?;
    sign_in(browser, "ben").await?;
    click(&other, "#office summary").await?;
    click(&other, "#end-everything").await?;
    for ended in [&other, browser] {
        shown(ended, "#ended").await?;
        shown(ended, "#sign-in").await?;
        // Its ticket is nobody's any more.
        quiet(ended, &["status of 401"]).await?;
    }
    other.quit().await?;
    sign_in(browser, "ada").await
}

const PAID: &str = "€25.00 sent to Corner Bakery.";

/// Sends money, and gives what the page tells.
async fn pay(browser: &Browser) -> Outcome<String> {
    let order = [("to", "Corner Bakery"), ("amount", "25.00")];
    submit(browser, "#pay", &order).await?;
    let told = "if (!document.querySelector('#pay').ariaBusy)
                  return document.querySelector('#pay [data-outcome]').textContent";
    let told = browser.wait_until(told, PATIENCE).await?;
    idle(browser).await?;
    Ok(told.as_str().unwrap_or_default().to_owned())
}

async fn submit(browser: &Browser, form: &str, fields: &[(&str, &str)]) -> Outcome {
    browser
        .eval(
            "const form = document.querySelector(args[0]);
             for (const [name, value] of args[1]) form.elements[name].value = value;
             form.requestSubmit();",
            [json!(form), json!(fields)],
        )
        .await?;
    Ok(())
}

/// Clicks what is there, or will be: lists are drawn anew.
async fn click(browser: &Browser, selector: &str) -> Outcome {
    let selector = json!(selector);
    let click = format!(
        "const found = document.querySelector({selector});
         found?.click();
         return Boolean(found)"
    );
    browser.wait_until(&click, PATIENCE).await?;
    Ok(())
}

async fn is_shown(browser: &Browser, selector: &str) -> Outcome<bool> {
    let shown = browser.eval(SHOWN, [json!(selector)]).await?;
    Ok(shown == true)
}

const SHOWN: &str = "return Boolean(document.querySelector(args[0])?.checkVisibility())";

async fn shown(browser: &Browser, selector: &str) -> Outcome {
    let selector = json!(selector);
    let shown = format!("return document.querySelector({selector})?.checkVisibility()");
    browser.wait_until(&shown, PATIENCE).await?;
    Ok(())
}

async fn hidden(browser: &Browser, selector: &str) -> Outcome {
    let selector = json!(selector);
    let hidden = format!("return !document.querySelector({selector})?.checkVisibility()");
    browser.wait_until(&hidden, PATIENCE).await?;
    Ok(())
}

async fn contains(browser: &Browser, selector: &str, part: &str) -> Outcome {
    let (selector, part) = (json!(selector), json!(part));
    let contains =
        format!("return document.querySelector({selector})?.textContent.includes({part})");
    browser.wait_until(&contains, PATIENCE).await?;
    Ok(())
}

/// Nothing that only programs say stands on the page. By the word: ciphertext may have any letters in it.
async fn nothing_slips(browser: &Browser) -> Outcome {
    let slips = r"const slips = /.{0,40}\b(null|undefined|NaN|object Object)\b.{0,40}/;
                 return document.querySelector('main').textContent.match(slips)?.[0] ?? null";
    assert_eq!(browser.eval(slips, []).await?, json!(null));
    Ok(())
}

/// The same customer at a device of his own: seen on the page, ended there, and over.
async fn another_device_is_signed_out(browser: &Browser, demo: &Demo) -> Outcome {
    let session = Client::builder(demo.origin()).build()?.open().await?;
    let login = json!({ "user": "ada", "password": "clay-tablet" });
    assert_eq!(
        session.fetch(post("/api/login", &login)?).await?.status(),
        204
    );
    let account =
        || Ok::<_, Box<dyn std::error::Error>>(Request::get("/api/account").body(Bytes::new())?);
    assert_eq!(session.fetch(account()?).await?.status(), 200);
    browser.reload().await?;
    ready(browser).await?;
    assert_eq!(text(browser, "#sessions button").await?, "End");
    browser
        .eval("document.querySelector('#sessions button').click()", [])
        .await?;
    let one_is_left = "return document.querySelectorAll('#sessions li').length === 1";
    browser.wait_until(one_is_left, PATIENCE).await?;
    // The client opens another session by itself, and nobody is logged in to it.
    let refused = error_code(session.fetch(account()?).await);
    assert_eq!(refused, Some(Code::LoginRequired));
    Ok(())
}

/// What the page does when it goes and comes back out of the browser's cache. What the thief provokes is
/// listed afterwards.
async fn it_is_left_and_taken_back(browser: &Browser) -> Outcome {
    browser
        .eval(
            "dispatchEvent(new Event('beforeunload'));
             dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }));",
            [],
        )
        .await?;
    Ok(())
}

async fn a_wrong_password_is_refused(browser: &Browser) -> Outcome {
    browser
        .eval(
            "const form = document.querySelector('#sign-in');
             form.elements.user.value = 'ada';
             form.elements.password.value = 'reed-stylus';
             form.requestSubmit();",
            [],
        )
        .await?;
    let told = browser
        .wait_until(
            "return document.querySelector('#sign-in [data-outcome]').textContent",
            PATIENCE,
        )
        .await?;
    assert_eq!(told, "The name or the password is wrong.");
    Ok(())
}

async fn money_is_sent_sealed(browser: &Browser) -> Outcome {
    browser
        .eval(
            "const form = document.querySelector('#pay');
             form.elements.to.value = 'Corner Bakery';
             form.elements.amount.value = '25.00';
             form.requestSubmit();",
            [],
        )
        .await?;
    let told = browser
        .wait_until(
            "return document.querySelector('#pay [data-outcome]').textContent",
            PATIENCE,
        )
        .await?;
    assert_eq!(told, "€25.00 sent to Corner Bakery.");
    assert_eq!(text(browser, "#balance").await?, "€3,115.50");
    assert_eq!(text(browser, "#twin-balance").await?, "€3,140.50");

    // The newest request of weight is shown: what was said, and what was seen of it.
    let said = text(browser, "#exchange .said").await?;
    assert!(said.contains("POST /api/transfer"), "{said}");
    assert!(said.contains("\"amount\": 2500"), "{said}");
    let saw = text(browser, "#exchange .saw").await?;
    assert!(saw.contains("POST /.well-known/bulla/sealed"), "{saw}");
    assert!(!saw.contains("transfer") && !saw.contains("2500"), "{saw}");
    Ok(())
}

async fn every_attack_robs_the_twin_alone(browser: &Browser) -> Outcome {
    for (attack, code, loss) in ATTACKS {
        browser
            .eval(
                "document.querySelector(`[data-attack=${args[0]}] button`).click()",
                [json!(attack)],
            )
            .await?;
        let came = browser
            .wait_until(
                &format!(
                    "const item = document.querySelector('[data-attack={attack}]');
                     const alert = item.querySelector('.alert');
                     if (alert) return {{ alert: alert.textContent }};
                     if (!item.dataset.done || item.ariaBusy) return;
                     const of = (side) => item.querySelector(`[data-side=${{side}}] [data-verdict]`);
                     return [of('protected'), of('twin')].map((verdict) => ({{
                       verdict: verdict.dataset.verdict,
                       code: verdict.querySelector('code')?.dataset.code ?? null,
                       said: verdict.firstChild.textContent,
                     }}));"
                ),
                PATIENCE,
            )
            .await?;
        let expected = json!([
            { "verdict": "refused", "code": code, "said": "Refused" },
            { "verdict": "robbed", "code": null, "said": format!("{loss} gone") },
        ]);
        assert_eq!(came, expected, "{attack}");
        idle(browser).await?;
    }

    nothing_slips(browser).await?;

    // Both banks say the same as the thief.
    assert_eq!(text(browser, "#balance").await?, "€3,103.50");
    assert_eq!(text(browser, "#twin-balance").await?, "€2,226.50");
    assert_eq!(text(browser, "#taken-protected").await?, "€0.00");
    assert_eq!(text(browser, "#taken-twin").await?, "€902.00");

    let reported = browser
        .eval(
            "return [...document.querySelectorAll('#events code')].map((code) => code.textContent)",
            [],
        )
        .await?;
    let reported: Vec<String> = serde_json::from_value(reported)?;
    for code in ["proof_mismatch", "replayed", "seal_broken", "nonce_stale"] {
        assert!(reported.iter().any(|seen| seen == code), "{reported:?}");
    }
    Ok(())
}

async fn arrive(browser: &Browser, demo: &Demo) -> Outcome {
    browser.goto(demo.origin()).await?;
    ready(browser).await
}

/// Waits until the page has a session and shows what it should.
async fn ready(browser: &Browser) -> Outcome {
    let ready = "const trouble = document.querySelector('#trouble');
                 return document.documentElement.dataset.ready || trouble.textContent";
    assert_eq!(browser.wait_until(ready, PATIENCE).await?, "true");
    Ok(())
}

async fn sign_in(browser: &Browser, user: &str) -> Outcome {
    browser
        .eval(
            "document.querySelector(`[data-user=${args[0]}]`).click()",
            [json!(user)],
        )
        .await?;
    signed_in(browser).await
}

/// Goes to the first customer by Tab alone, with the focus to be seen, and presses Enter.
async fn sign_in_by_keyboard(browser: &Browser) -> Outcome {
    browser.reload().await?;
    ready(browser).await?;
    let mut stops = 0;
    while browser
        .eval("return document.activeElement.dataset.user", [])
        .await?
        != "ada"
    {
        stops += 1;
        assert!(stops < 10, "the first customer is not reached by Tab");
        press(browser, Key::Tab).await?;
    }
    let ring = browser
        .eval(
            "const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
             return `${outlineStyle} ${outlineWidth}`",
            [],
        )
        .await?;
    // Without a window manager WebKit's window never has the system's focus, and draws none.
    if browser.engine() != Engine::WebKit {
        assert_eq!(ring, "solid 3px");
    }
    press(browser, Key::Enter).await?;
    signed_in(browser).await
}

async fn press(browser: &Browser, key: Key) -> Outcome {
    let actions = browser.driver().action_chain();
    actions.send_keys(key).perform().await?;
    Ok(())
}

async fn signed_in(browser: &Browser) -> Outcome {
    browser
        .wait_until(
            "return !document.querySelector('#account').hidden",
            PATIENCE,
        )
        .await?;
    idle(browser).await
}

/// Waits until no form is under way.
async fn idle_form(browser: &Browser) -> Outcome {
    let idle = "return !document.querySelector('[aria-busy]')";
    browser.wait_until(idle, PATIENCE).await?;
    Ok(())
}

/// Waits until nobody is at work in the page.
async fn idle(browser: &Browser) -> Outcome {
    let idle = "return !document.querySelector('[aria-busy], button.thiefs[aria-disabled=true]')";
    browser.wait_until(idle, PATIENCE).await?;
    Ok(())
}

async fn text(browser: &Browser, selector: &str) -> Outcome<String> {
    let text = browser
        .eval(
            "return document.querySelector(args[0]).textContent",
            [json!(selector)],
        )
        .await?;
    Ok(text.as_str().unwrap_or_default().to_owned())
}

/// The console has no errors but Chromium's notes on replies that an attack was to provoke.
async fn quiet(browser: &Browser, expected: &[&str]) -> Outcome {
    let expected = match browser.engine() {
        Engine::Chromium => expected,
        Engine::Firefox => &[],
        // Its driver has no access to the console.
        Engine::WebKit => return Ok(()),
    };
    let errors = browser.console_errors().await?;
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for expected in expected {
        assert!(
            errors.iter().any(|error| error.contains(expected)),
            "{errors:#?}"
        );
    }
    Ok(())
}

/// The section on a desk and on a phone. WebKit shows the scheme that it was launched with.
async fn look(browser: &Browser, section: &str) -> Outcome {
    look_at(browser, section, &format!("#{section}")).await
}

async fn look_at(browser: &Browser, name: &str, selector: &str) -> Outcome {
    let engine = browser.engine();
    for (device, size) in [("desk", DESK), ("phone", PHONE)] {
        for (scheme, dark) in [("light", false), ("dark", true)] {
            if dark && engine == Engine::WebKit {
                continue;
            }
            let name = format!("{}/{name}-{device}-{scheme}", engine.name());
            shoot(browser, &name, selector, size, dark).await?;
        }
    }
    Ok(())
}

/// A screenshot of the page with the section at its top. Nothing sticks out.
async fn shoot(
    browser: &Browser,
    name: &str,
    section: &str,
    size: (u32, u32),
    dark: bool,
) -> Outcome {
    let folder = tempfile::tempdir()?;
    let folder = match std::env::var_os(SCREENSHOTS) {
        // Tests run in their package's folder.
        Some(asked) => Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(asked),
        None => folder.path().to_owned(),
    };
    let (width, height) = size;
    let file = folder.join(format!("{name}.png"));
    // Once for the size, once for the place.
    browser.screenshot(&file, width, height, dark).await?;
    browser
        .eval(
            "document.querySelector(args[0]).scrollIntoView()",
            [json!(section)],
        )
        .await?;
    browser.screenshot(&file, width, height, dark).await?;
    let widest = browser
        .eval("return document.documentElement.scrollWidth", [])
        .await?;
    assert!(widest.as_u64() <= Some(width.into()), "{name}: {widest}");
    Ok(())
}

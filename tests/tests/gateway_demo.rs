//! The demo of the gateway as visitors find it, in every engine: log in to Django's admin by both ways, and let the thief
//! try the cookies of both.

use std::path::Path;

use bulla_demo::{Admin, Demo};
use bulla_tests::apps::{Django, USER};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::gateway::before;
use serde_json::json;
use tokio::net::TcpListener;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The folder that screenshots are kept in, below the repository's root. Without it they are made, and dropped.
const SCREENSHOTS: &str = "BULLA_SCREENSHOTS";

/// Widths and heights in CSS pixels.
const DESK: (u32, u32) = (1280, 1000);
const PHONE: (u32, u32) = (390, 844);

bulla_tests::in_each_engine!(a_visitor_finds_what_the_demo_promises);

async fn a_visitor_finds_what_the_demo_promises(engine: Engine) -> Outcome {
    let django = Django::start()?;
    // Told no more than by `bulla-gateway --upstream`.
    let (_, gateway) = before(&django.origin(), |_| (), |router| router).await?;
    let admin = Admin {
        behind: gateway.origin(),
        without: django.origin(),
        user: USER.to_owned(),
        password: django.password().to_owned(),
    };
    let demo = Demo::thief(TcpListener::bind("127.0.0.1:0").await?, admin)?;
    let browser = Browser::launch(engine).await?;

    // Nobody has logged in.
    browser.goto(demo.origin()).await?;
    ready(&browser).await?;
    let idle =
        "return [...document.querySelectorAll('button.thiefs')].every((button) => button.disabled)";
    assert_eq!(browser.eval(idle, []).await?, true);

    for way in ["behind", "without"] {
        browser.goto(demo.origin()).await?;
        ready(&browser).await?;
        log_in(&browser, way).await?;
    }
    browser.goto(demo.origin()).await?;
    ready(&browser).await?;
    press(&browser, "#take").await?;
    browser
        .wait_until(
            "return location.hash === '#thief' && document.querySelector('#loot-twin')?.value",
            PATIENCE,
        )
        .await?;
    let own = browser
        .eval("return document.querySelector('#loot-twin').value", [])
        .await?;
    let bound = browser
        .eval("return document.querySelector('#loot-protected').value", [])
        .await?;
    assert_eq!(own.as_str().map(str::len), Some(32), "{own}");
    assert!(
        bound
            .as_str()
            .is_some_and(|value| value.starts_with("bulla.")),
        "{bound}"
    );

    assert_eq!(
        attempt(&browser, "bare").await?,
        [
            "Refusedproof_missing".to_owned(),
            format!("Logged in as {USER}")
        ]
    );
    let sent_within_his_session = attempt(&browser, "session").await?;
    assert_eq!(
        sent_within_his_session,
        ["Not logged in".to_owned(), format!("Logged in as {USER}")]
    );
    let lines = "return [...document.querySelectorAll('[data-attack=session] [data-side=protected] .first')]
                     .map((line) => line.textContent)";
    assert_eq!(
        browser.eval(lines, []).await?,
        json!(["POST /.well-known/bulla/sealed", "302 Found"])
    );
    look(&browser).await?;

    // She is still at work behind the gateway; and once she has logged out without it, that cookie is nothing, too.
    for (way, title) in [
        ("behind", "Site administration"),
        ("without", "Site administration"),
    ] {
        browser.goto(demo.origin()).await?;
        ready(&browser).await?;
        enter(&browser, way, title).await?;
    }
    press(&browser, "#logout-form button").await?;
    titled(&browser, "Logged out").await?;
    browser.goto(demo.origin()).await?;
    ready(&browser).await?;
    let after = attempt(&browser, "bare").await?;
    assert_eq!(
        after,
        [
            "Refusedproof_missing".to_owned(),
            "Not logged in".to_owned()
        ]
    );
    browser.quit().await?;
    Ok(())
}

async fn ready(browser: &Browser) -> Outcome {
    let ready = "return document.documentElement.dataset.ready";
    browser.wait_until(ready, PATIENCE).await?;
    Ok(())
}

/// Follows the panel's link to the admin, in the same tab.
async fn enter(browser: &Browser, way: &str, title: &str) -> Outcome {
    let href = "return document.getElementById(args[0]).href";
    let href = browser.eval(href, [json!(way)]).await?;
    browser
        .goto(href.as_str().ok_or("there is no link")?)
        .await?;
    titled(browser, title).await
}

async fn log_in(browser: &Browser, way: &str) -> Outcome {
    let text = "return document.getElementById(args[0]).textContent";
    let user = browser.eval(text, [json!("user")]).await?;
    let password = browser.eval(text, [json!("password")]).await?;
    enter(browser, way, "Log in").await?;
    let fill = "document.getElementById('id_username').value = args[0];
                document.getElementById('id_password').value = args[1];";
    browser.eval(fill, [user, password]).await?;
    press(browser, "#login-form [type=submit]").await?;
    titled(browser, "Site administration").await
}

async fn titled(browser: &Browser, title: &str) -> Outcome {
    let title = json!(format!("{title} | Django site admin"));
    let titled = format!("return document.title === {title} && document.readyState === 'complete'");
    browser.wait_until(&titled, PATIENCE).await?;
    Ok(())
}

async fn press(browser: &Browser, selector: &str) -> Outcome {
    let press = "setTimeout(() => document.querySelector(args[0]).click())";
    browser.eval(press, [json!(selector)]).await?;
    Ok(())
}

/// Lets the thief try, and gives the verdicts: behind the gateway, and without it.
async fn attempt(browser: &Browser, name: &str) -> Outcome<Vec<String>> {
    press(browser, &format!("[data-attack={name}] button")).await?;
    let came = format!(
        "const item = document.querySelector('[data-attack={name}]');
         if (item.querySelector('.alert')) return [item.textContent];
         if (!item.dataset.done || item.ariaBusy) return;
         return [...item.querySelectorAll('.result')].map((side) => side.querySelector('[data-verdict]').textContent);"
    );
    let verdicts = browser.wait_until(&came, PATIENCE).await?;
    Ok(serde_json::from_value(verdicts)?)
}

/// Pictures of the page: whole width on a desk and on a phone, where nothing sticks out.
async fn look(browser: &Browser) -> Outcome {
    let engine = browser.engine().to_string().to_lowercase();
    let folder = match std::env::var_os(SCREENSHOTS) {
        Some(folder) => Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(folder),
        None => browser.home().join("screenshots"),
    };
    // WebKit is given dark colours at its start only.
    let schemes: &[bool] = match browser.engine() {
        Engine::WebKit => &[false],
        _ => &[false, true],
    };
    for (name, (width, height)) in [("desk", DESK), ("phone", PHONE)] {
        for &dark in schemes {
            for part in ["#doors", "#thief", "#attacks"] {
                let scroll = "document.querySelector(args[0]).scrollIntoView()";
                browser.eval(scroll, [json!(part)]).await?;
                let scheme = if dark { "dark" } else { "light" };
                let part = part.trim_start_matches('#');
                let file = folder.join(format!("gateway-{part}-{engine}-{name}-{scheme}.png"));
                browser.screenshot(file, width, height, dark).await?;
            }
            let sticks_out = "return document.documentElement.scrollWidth > innerWidth";
            assert_eq!(browser.eval(sticks_out, []).await?, false, "{name}");
        }
    }
    Ok(())
}

//! What pages behind the gateway report of themselves.

use std::collections::BTreeSet;

use bulla_client::{Client, Session};
use bulla_gateway::config::{Access, Config};
use bulla_server::{Events, SessionId};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::gateway::Behind;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use tokio::time::timeout;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::in_each_engine!(what_a_page_reports_is_signed);

/// Where reports go.
const REPORT: &str = "/.well-known/bulla/gateway/report";

const PATCHED: &str = r#"{"kind":"patched","what":"fetch","page":"/account?token=1"}"#;

async fn report(session: &Session, content: impl Into<String>) -> Outcome<StatusCode> {
    let request = Request::post(REPORT)
        .header(CONTENT_TYPE, "application/json")
        .body(content.into())?;
    Ok(session.fetch(request).await?.status())
}

/// The next thing that was noticed.
async fn noticed(events: &mut Events) -> Outcome<&'static str> {
    loop {
        let event = timeout(PATIENCE, events.next()).await?;
        let event = event.ok_or("the verifier is gone")??;
        if let Some(what) = event.kind.noticed() {
            assert!(event.session.is_some() && event.device.is_some());
            return Ok(what);
        }
    }
}

#[tokio::test]
async fn reports_of_a_session_are_events_about_it() -> Outcome {
    let site = Behind::start(|_| ()).await?;
    let client = Client::builder(site.server.url("")).build()?;
    let session = client.open().await?;
    let mut events = site.gateway.bulla().events();
    let list = format!(
        r#"[{PATCHED},{PATCHED},{{"kind":"integrity","url":"/a.js","expected":"sha256-a","found":"sha256-b"}}]"#
    );
    assert_eq!(report(&session, list).await?, StatusCode::NO_CONTENT);
    assert_eq!(noticed(&mut events).await?, "patched");
    assert_eq!(noticed(&mut events).await?, "integrity");

    // What is none, and what is too much.
    for (wrong, code) in [
        ("{}".to_owned(), "malformed: "),
        (" ".repeat(16 * 1024 + 1), "too_large: "),
    ] {
        let refused = report(&session, wrong).await.unwrap_err().to_string();
        assert!(refused.starts_with(code), "{refused}");
    }
    // It never was the application's.
    assert!(site.seen.all().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_session_does_not_report_without_end() -> Outcome {
    let site = Behind::start(|_| ()).await?;
    let client = Client::builder(site.server.url("")).build()?;
    let (session, other) = (client.open().await?, client.open().await?);
    let full = format!("[{}]", vec![PATCHED; 64].join(","));
    let mut refused = String::new();
    // A window may end in between.
    for _ in 0..40 {
        if let Err(error) = report(&session, full.clone()).await {
            refused = error.to_string();
            break;
        }
    }
    assert!(refused.starts_with("rate_limited: "), "{refused}");
    assert_eq!(report(&other, PATCHED).await?, StatusCode::NO_CONTENT);
    Ok(())
}

/// Also where all is public, or only monitored.
#[tokio::test]
async fn without_a_session_nobody_reports_anything() -> Outcome {
    let everywhere: [fn(&mut Config); 3] = [
        |_| (),
        |config| config.access = Access::Public,
        |config| config.mode = bulla_gateway::config::Mode::Monitor,
    ];
    let bare = reqwest::Client::builder().no_proxy().build()?;
    for configure in everywhere {
        let site = Behind::start(configure).await?;
        let mut events = site.gateway.bulla().events();
        let post = |path: &str| {
            let post = bare.post(site.server.url(path));
            post.header(CONTENT_TYPE, "application/json").body(PATCHED)
        };
        let forged = post(REPORT).header("bulla-session", SessionId([1; 16]).to_string());
        assert_eq!(forged.send().await?.status(), StatusCode::UNAUTHORIZED);
        let session = Client::builder(site.server.url("")).build()?.open().await?;
        report(&session, r#"{"kind":"policy","directive":"img-src"}"#).await?;
        // The forged one came first, and is none.
        assert_eq!(noticed(&mut events).await?, "policy");
        assert!(site.seen.at(REPORT).is_empty());

        // The twin takes whatever it is sent.
        let twin = bare.post(site.application.url("/echo")).body(PATCHED);
        assert_eq!(twin.send().await?.status(), StatusCode::OK);
    }
    Ok(())
}

async fn what_a_page_reports_is_signed(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    for access in [Access::Sealed, Access::Public] {
        let site = Behind::start(|config| config.access = access).await?;
        let mut events = site.gateway.bulla().events();
        browser.goto(&site.server.url("/account")).await?;
        browser
            .wait_until(
                "return document.title === 'The account' && navigator.serviceWorker.controller",
                PATIENCE,
            )
            .await?;
        let send = format!(
            "const headers = {{ 'content-type': 'application/json' }};
            const reply = await fetch('{REPORT}', {{ method: 'POST', headers, body: args[0] }});
            return reply.status"
        );
        assert_eq!(browser.eval(&send, [PATCHED.into()]).await?, 204);
        let mut all = BTreeSet::new();
        while !all.contains("patched") {
            all.insert(noticed(&mut events).await?);
        }
    }
    browser.quit().await?;
    Ok(())
}

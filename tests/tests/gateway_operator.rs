//! The operator's page, in real browsers.

use axum::http::StatusCode;
use bulla_client::Session;
use bulla_gateway::operator::{Operator, Token};
use bulla_protocol::error::Code;
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::gateway::Behind;
use bulla_tests::serve::Server;
use http::Request;
use reqwest::Client;
use reqwest::header::{CONTENT_TYPE, COOKIE, HeaderMap, SET_COOKIE};
use serde_json::{Value, json};
use thirtyfour::prelude::{By, ElementQueryable as _};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const TOKEN: &str = "not-to-be-guessed-0123456789abcdef";

bulla_tests::in_each_engine!(an_operator_sees_and_switches);

/// An application behind a gateway, and the operator's page at a port of its own.
struct Desk {
    site: Behind,
    page: Server,
}

impl Desk {
    async fn start() -> Outcome<Self> {
        let site = Behind::start(|_| ()).await?;
        let token = Token::new(TOKEN).ok_or("no token")?;
        let operator = Operator::new(&site.gateway, token);
        tokio::spawn(operator.watch());
        tokio::spawn(site.gateway.upkeep());
        let page = Server::start(operator.router()).await?;
        Ok(Self { site, page })
    }

    /// Presses a switch, as the page does it.
    async fn switch(&self, client: &Client, path: &str, content: &Value) -> Outcome {
        let request = client.post(self.page.url(path)).body(content.to_string());
        let request = request.header(CONTENT_TYPE, "application/json");
        let reply = request.header("sec-fetch-site", "same-origin").send();
        assert_eq!(reply.await?.status(), StatusCode::NO_CONTENT, "{path}");
        Ok(())
    }

    async fn session(&self) -> Outcome<Session> {
        let client = bulla_client::Client::builder(self.site.server.origin());
        Ok(client.build()?.open().await?)
    }

    async fn bare(&self, path: &str) -> Outcome<StatusCode> {
        let client = Client::builder().no_proxy().build()?;
        let reply = client.get(self.site.server.url(path)).send().await?;
        Ok(reply.status())
    }
}

/// By a method that no session sends again by itself.
async fn asked(session: &Session) -> Result<StatusCode, Code> {
    let request = Request::post("/echo").body("clay");
    let request = request.map_err(|_| Code::RequestInvalid)?;
    let reply = session.fetch(request).await.map_err(|error| error.code)?;
    Ok(reply.status())
}

#[tokio::test]
async fn switches_lock_a_device_out_and_end_all_sessions() -> Outcome {
    let desk = Desk::start().await?;
    let bare = Client::builder().no_proxy();
    let bare = bare.redirect(reqwest::redirect::Policy::none()).build()?;
    let form = bare
        .post(desk.page.url("/login"))
        .body(format!("token={TOKEN}"));
    let form = form.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let login = form.header("sec-fetch-site", "same-origin").send().await?;
    let cookie = login.headers()[SET_COOKIE].to_str()?.split(';').next();
    let login = HeaderMap::from_iter([(COOKIE, cookie.unwrap_or_default().parse()?)]);
    let client = Client::builder()
        .no_proxy()
        .default_headers(login)
        .build()?;

    let (one, other) = (desk.session().await?, desk.session().await?);
    assert_eq!(asked(&one).await, Ok(StatusCode::OK));
    let overview = client
        .get(desk.page.url("/api/overview"))
        .send()
        .await?
        .bytes()
        .await?;
    let overview: Value = serde_json::from_slice(&overview)?;
    let device = &overview["sessions"][0]["device"];
    assert!(device.is_string(), "{overview}");
    assert_eq!(asked(&other).await, Ok(StatusCode::OK));

    desk.switch(&client, "/api/devices/lock", &json!({ "name": device }))
        .await?;
    assert_eq!(asked(&one).await, Err(Code::SessionRevoked));
    assert_eq!(
        asked(&one).await,
        Err(Code::SessionRevoked),
        "it opens no other"
    );
    assert_eq!(asked(&other).await, Ok(StatusCode::OK));

    let before = other.id();
    desk.switch(&client, "/api/sessions/end-all", &json!({}))
        .await?;
    assert_eq!(asked(&other).await, Err(Code::TicketInvalid));
    assert_eq!(
        asked(&other).await,
        Ok(StatusCode::OK),
        "its device is not locked out"
    );
    assert_ne!(other.id(), before);
    Ok(())
}

async fn log_in(browser: &Browser, token: &str) -> Outcome {
    let driver = browser.driver();
    let field = driver.query(By::Id("token")).first().await?;
    field.send_keys(token).await?;
    driver
        .query(By::Css("form button"))
        .first()
        .await?
        .click()
        .await?;
    Ok(())
}

async fn shows(browser: &Browser, what: &str) -> Outcome {
    browser
        .wait_until(&format!("return {what}"), PATIENCE)
        .await?;
    Ok(())
}

/// Presses a button, and says yes if that is asked.
async fn press(browser: &Browser, id: &str) -> Outcome {
    let script = "document.getElementById(args[0]).click();
        if (document.querySelector('#ask').open) document.querySelector('#ask-yes').click();";
    browser.eval(script, [json!(id)]).await?;
    Ok(())
}

/// Waits until the user's page reaches the application again: what is asked first may be what finds the old session ended.
async fn comes_back(user: &Browser) -> Outcome {
    let script = "return (await (await fetch('/echo', { method: 'POST', body: 'clay' })).json()).body === 'clay'";
    user.wait_until(script, PATIENCE).await?;
    Ok(())
}

/// What the application says to the user's page, or that it was not reached.
async fn fetched(user: &Browser) -> Outcome<String> {
    let script = "try { return (await (await fetch('/echo', { method: 'POST', body: 'clay' })).json()).body }
        catch { return 'nothing' }";
    let said = user.eval(script, []).await?;
    Ok(said.as_str().unwrap_or("nothing").to_owned())
}

/// A script that nobody has authorised is in the inventory.
async fn scripts_are_known(operator: &Browser, user: &Browser) -> Outcome {
    let inject = "document.body.append(Object.assign(document.createElement('script'), { text: 'window.evil = true' }));
        return window.evil";
    assert_eq!(user.eval(inject, []).await?, true);
    let known = "[...document.querySelectorAll('#scripts tr')].some(({ cells }) =>
        cells.length > 4 && cells[0].textContent === 'no' && cells[1].textContent.startsWith('inlinesha256-')
        && cells[3].textContent === '/account')
        && [...document.querySelectorAll('#events li')].some(({ textContent }) => textContent.includes('noticedscript'))";
    shows(operator, known).await?;
    let table = operator
        .eval("return await (await fetch('/api/scripts.csv')).text()", [])
        .await?;
    let table = table.as_str().unwrap_or_default();
    assert!(table.contains("\r\ninline,sha256-"), "{table}");
    Ok(())
}

/// So is what protects the page that was shown, which is nothing.
async fn fields_are_known(operator: &Browser) -> Outcome {
    let nothing = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let known = format!(
        "[...document.querySelectorAll('#fields tr')].some(({{ cells }}) =>
        cells.length > 4 && cells[0].textContent === 'no' && cells[1].textContent === '/account'
        && cells[2].textContent === 'none{nothing}')"
    );
    shows(operator, &known).await?;
    let table = operator
        .eval("return await (await fetch('/api/fields.csv')).text()", [])
        .await?;
    let table = table.as_str().unwrap_or_default();
    let row = format!("\r\n/account,,{nothing},");
    assert!(table.contains(&row), "{table}");
    Ok(())
}

async fn an_operator_sees_and_switches(engine: Engine) -> Outcome {
    let desk = Desk::start().await?;
    let (operator, user) = (
        Browser::launch(engine).await?,
        Browser::launch(engine).await?,
    );

    // Only who has the token gets in, and script does not see what he has for it.
    operator.goto(&desk.page.url("/")).await?;
    shows(&operator, "location.pathname === '/login'").await?;
    log_in(&operator, "not-the-token").await?;
    let wrong = "document.querySelector('[role=alert]').textContent === 'This is not the token.'";
    shows(&operator, wrong).await?;
    log_in(&operator, TOKEN).await?;
    shows(
        &operator,
        "document.querySelector('#state').textContent === 'enforcing'",
    )
    .await?;
    assert_eq!(operator.eval("return document.cookie", []).await?, "");

    // A session and a refusal are on the page as they happen.
    user.goto(&desk.site.server.url("/account")).await?;
    shows(&user, "document.title === 'The account'").await?;
    assert_eq!(fetched(&user).await?, "clay");
    let sealed = "document.querySelector('#sessions').textContent.includes('sealed, by')";
    shows(&operator, sealed).await?;
    assert_eq!(desk.bare("/echo?by=thief").await?, StatusCode::UNAUTHORIZED);
    let refused = "[...document.querySelectorAll('#events .refusal')].some(({ textContent }) =>
        textContent.includes('refused/echoproof_missing: '))";
    shows(&operator, refused).await?;

    scripts_are_known(&operator, &user).await?;
    fields_are_known(&operator).await?;

    // What was let through by monitoring is not by enforcing.
    press(&operator, "monitor").await?;
    shows(
        &operator,
        "document.querySelector('#banner.monitor').hidden === false",
    )
    .await?;
    assert_eq!(desk.bare("/echo?by=monitor").await?, StatusCode::OK);
    press(&operator, "enforce").await?;
    shows(&operator, "document.querySelector('#banner').hidden").await?;
    assert_eq!(
        desk.bare("/echo?by=enforce").await?,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(desk.site.seen.at("/echo?by=monitor").len(), 1);
    assert_eq!(desk.site.seen.at("/echo?by=enforce").len(), 0);

    // A session that is ended is gone from the page; its browser gets another one.
    let before = operator
        .eval(
            "return document.querySelector('#sessions .name').textContent",
            [],
        )
        .await?;
    operator
        .eval("document.querySelector('#sessions button').click()", [])
        .await?;
    let gone = format!("!document.querySelector('#sessions').textContent.includes({before})");
    shows(&operator, &gone).await?;
    let told = format!(
        "[...document.querySelectorAll('#events li')].some(({{ textContent }}) =>
            textContent.includes('session ended') && textContent.includes({before}))"
    );
    shows(&operator, &told).await?;
    comes_back(&user).await?;

    // Stopped, the application is reached by nobody. Then it goes on.
    press(&operator, "stop").await?;
    shows(
        &operator,
        "document.querySelector('#state').textContent === 'stopped'",
    )
    .await?;
    let seen = desk.site.seen.all().len();
    assert_eq!(
        desk.bare("/static/style.css").await?,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(fetched(&user).await?, "nothing");
    assert_eq!(desk.site.seen.all().len(), seen);
    press(&operator, "stop").await?;
    shows(
        &operator,
        "document.querySelector('#state').textContent === 'enforcing'",
    )
    .await?;
    assert_eq!(desk.bare("/static/style.css").await?, StatusCode::OK);
    comes_back(&user).await?;

    // All of that is told, and by whom.
    let told = "['login', 'mode', 'end_session', 'stop', 'go'].every((action) =>
        [...document.querySelectorAll('#events .operator')].some(({ textContent }) =>
            textContent.includes(`operator${action}: `) && /by \\S{8}/.test(textContent)))";
    shows(&operator, told).await?;
    if engine != Engine::WebKit {
        let errors = operator.console_errors().await?;
        let of_page = errors.iter().filter(|error| error.contains("Content"));
        assert_eq!(of_page.count(), 0, "{errors:?}");
    }
    operator.quit().await?;
    user.quit().await?;
    Ok(())
}

mod an_application_on_the_same_host_gets_no_cookie_of_the_operators {
    bulla_tests::in_each_engine!(cookie_of_another_port);
    use super::cookie_of_another_port;
}

/// Cookies know no ports.
async fn cookie_of_another_port(engine: Engine) -> Outcome {
    let desk = Desk::start().await?;
    let operator = Browser::launch(engine).await?;
    operator.goto(&desk.page.url("/")).await?;
    log_in(&operator, TOKEN).await?;
    shows(
        &operator,
        "document.querySelector('#state')?.textContent === 'enforcing'",
    )
    .await?;

    // Without a gateway the application has it.
    operator.goto(&desk.site.application.url("/echo")).await?;
    let bare = desk.site.seen.at("/echo");
    let cookie = bare[0]["fields"]["cookie"].as_str().unwrap_or_default();
    assert!(cookie.starts_with("bulla_operator="), "{bare:?}");
    operator
        .goto(&desk.site.server.url("/account?by=operator"))
        .await?;
    shows(&operator, "document.title === 'The account'").await?;
    let page = desk.site.seen.at("/account?by=operator");
    assert_eq!(page.len(), 1);
    assert!(!page[0].to_string().contains("bulla_operator"), "{page:?}");

    // And its pages change nothing, though browsers take them for the same site.
    let out = "await fetch(args[0], { method: 'POST', mode: 'no-cors', credentials: 'include' }).catch(() => {})";
    operator
        .eval(out, [json!(desk.page.url("/logout"))])
        .await?;
    operator.goto(&desk.page.url("/")).await?;
    shows(
        &operator,
        "document.querySelector('#state')?.textContent === 'enforcing'",
    )
    .await?;
    operator.quit().await?;
    Ok(())
}

//! Applications that others have written, in real browsers, first as they are, then behind the gateway: people work in
//! both alike, and what is stolen from them is of use in the first only.

use axum::Router;
use bulla_gateway::config::{Access, Config, PathRule, TokenRule};
use bulla_protocol::error::Code;
use bulla_tests::apps::{Django, USER, Verdaccio};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::gateway::before;
use bulla_tests::serve::{Server, html};
use reqwest::header::{AUTHORIZATION, COOKIE};
use serde_json::{Value, json};
use std::time::Duration;
use thirtyfour::prelude::{By, ElementQueryable as _, WebElement};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// How often an element is looked for again.
const POLL: Duration = Duration::from_millis(50);

mod an_admin_works_and_its_cookie_is_the_admin_anywhere {
    bulla_tests::in_each_engine!(stolen_cookie);
    use super::stolen_cookie;
}

mod a_page_of_an_application_works_and_its_token_is_its_user_anywhere {
    bulla_tests::in_each_engine!(stolen_token);
    use super::stolen_token;
}

mod an_admin_works_behind_the_gateway_and_its_cookie_is_nothing_elsewhere {
    bulla_tests::in_each_engine!(bound_cookie);
    use super::bound_cookie;
}

mod a_page_of_an_application_works_behind_the_gateway {
    bulla_tests::in_each_engine!(sealed_page);
    use super::sealed_page;
}

mod a_page_of_an_application_works_with_a_bound_token_and_nobody_else_does {
    bulla_tests::in_each_engine!(bound_token);
    use super::bound_token;
}

mod what_another_site_sends_gains_nothing_by_the_gateway {
    bulla_tests::in_each_engine!(another_site);
    use super::another_site;
}

async fn stolen_cookie(engine: Engine) -> Outcome {
    let django = Django::start()?;
    let origin = django.origin();
    let admin = Browser::launch(engine).await?;
    let thief = Browser::launch(engine).await?;

    log_in(&admin, &origin, django.password()).await?;
    add_group(&admin, &origin, "scribes").await?;
    let stolen = admin.driver().get_named_cookie("sessionid").await?.value;

    assert_eq!(seen(&thief, &format!("{origin}/admin/")).await?, LOGIN);
    plant(&thief, "sessionid", &stolen).await?;
    assert_eq!(seen(&thief, &format!("{origin}/admin/")).await?, ADMIN);
    add_group(&thief, &origin, "thieves").await?;
    let page = bare(&origin, "/admin/auth/group/", &stolen).await?;
    assert_eq!(page.status(), 200);
    assert!(page.text().await?.contains("thieves"));

    log_out(&admin).await?;
    assert_eq!(seen(&thief, &format!("{origin}/admin/")).await?, LOGIN);
    let added = "POST /admin/auth/group/add/".to_owned();
    let requests = django.requests()?;
    let added = requests.iter().filter(|request| **request == added);
    assert_eq!(added.count(), 2, "{requests:?}");

    admin.quit().await?;
    thief.quit().await?;
    Ok(())
}

async fn stolen_token(engine: Engine) -> Outcome {
    let verdaccio = Verdaccio::start()?;
    let origin = verdaccio.origin();
    let browser = Browser::launch(engine).await?;

    sign_in(&browser, &origin, verdaccio.password()).await?;
    read_package(&browser).await?;
    let stolen = browser.eval("return localStorage.token", []).await?;
    let stolen = stolen.as_str().ok_or("there is no token")?;
    sign_out(&browser, &origin).await?;

    let path = "/-/verdaccio/data/sidebar/clay";
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{origin}{path}");
    let unknown = client.get(&url).send().await?;
    assert!(!unknown.text().await?.contains("What seals are made of"));
    let bearer = format!("Bearer {stolen}");
    let thief = client
        .get(&url)
        .header(AUTHORIZATION, bearer)
        .send()
        .await?;
    assert_eq!(thief.status(), 200);
    assert!(thief.text().await?.contains("What seals are made of"));
    let requests = verdaccio.requests()?;
    let login = "POST /-/verdaccio/sec/login".to_owned();
    assert!(requests.contains(&login), "{requests:?}");
    browser.quit().await?;
    Ok(())
}

async fn bound_cookie(engine: Engine) -> Outcome {
    let django = Django::start()?;
    let (_, gateway) = before(&django.origin(), for_django, |router| router).await?;
    let origin = gateway.origin();
    let admin = Browser::launch(engine).await?;
    let thief = Browser::launch(engine).await?;

    log_in(&admin, &origin, django.password()).await?;
    add_group(&admin, &origin, "scribes").await?;
    let stolen = admin.driver().get_named_cookie("sessionid").await?.value;
    assert!(stolen.starts_with("bulla."), "{stolen}");
    let request = echo(&admin).await?;
    let session = request["cookies"]["sessionid"].as_str();
    assert_eq!(session.map(str::len), Some(32), "{request}");
    assert_is_plain(&request);
    files_come_whole(&admin).await?;

    let before = django.requests()?;
    let reply = bare(&origin, "/admin/auth/group/", &stolen).await?;
    assert_eq!(reply.status(), 401);
    assert_eq!(django.requests()?, before);

    assert_eq!(seen(&thief, &format!("{origin}/admin/")).await?, LOGIN);
    plant(&thief, "sessionid", &stolen).await?;
    assert_eq!(seen(&thief, &format!("{origin}/admin/")).await?, LOGIN);
    let request = echo(&thief).await?;
    assert_eq!(request["cookies"]["sessionid"], Value::Null, "{request}");
    assert_is_plain(&request);

    assert_eq!(seen(&admin, &format!("{origin}/admin/")).await?, ADMIN);
    log_out(&admin).await?;
    assert_eq!(seen(&admin, &format!("{origin}/admin/")).await?, LOGIN);
    // Its own device's copy is what the application makes of it: nothing.
    plant(&admin, "sessionid", &stolen).await?;
    assert_eq!(seen(&admin, &format!("{origin}/admin/")).await?, LOGIN);
    admin.quit().await?;
    thief.quit().await?;
    Ok(())
}

async fn sealed_page(engine: Engine) -> Outcome {
    let verdaccio = Verdaccio::start()?;
    let (_, gateway) = before(&verdaccio.origin(), |_| (), |router| router).await?;
    let origin = gateway.origin();
    let browser = Browser::launch(engine).await?;

    sign_in(&browser, &origin, verdaccio.password()).await?;
    read_package(&browser).await?;
    let stolen = browser.eval("return localStorage.token", []).await?;
    let stolen = stolen.as_str().ok_or("there is no token")?;

    let before = verdaccio.requests()?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{origin}/-/verdaccio/data/sidebar/clay");
    let bearer = format!("Bearer {stolen}");
    let thief = client
        .get(&url)
        .header(AUTHORIZATION, &bearer)
        .send()
        .await?;
    assert_eq!(thief.status(), 401);
    assert_eq!(verdaccio.requests()?, before);

    // What a page keeps by itself is nobody's in particular: a thief with a session of his own can still send it.
    let thief = bulla_client::Client::builder(&origin)
        .build()?
        .open()
        .await?;
    let sidebar = http::Request::get("/-/verdaccio/data/sidebar/clay")
        .header(AUTHORIZATION, &bearer)
        .body(bytes::Bytes::new())?;
    let sidebar = thief.fetch(sidebar).await?.into_body().bytes().await?;
    assert!(String::from_utf8_lossy(&sidebar).contains("What seals are made of"));

    sign_out(&browser, &origin).await?;
    browser.quit().await?;
    Ok(())
}

async fn bound_token(engine: Engine) -> Outcome {
    let verdaccio = Verdaccio::start()?;
    let bind = |config: &mut Config| {
        config.tokens = vec![TokenRule {
            path: "/-/verdaccio/sec/login".to_owned(),
            member: "token".parse().unwrap_or_else(|_| unreachable!()),
        }];
    };
    let (_, gateway) = before(&verdaccio.origin(), bind, |router| router).await?;
    let origin = gateway.origin();
    let browser = Browser::launch(engine).await?;

    sign_in(&browser, &origin, verdaccio.password()).await?;
    read_package(&browser).await?;
    let stolen = browser.eval("return localStorage.token", []).await?;
    let stolen = stolen.as_str().ok_or("there is no token")?;
    assert!(stolen.contains("bulla-t1"), "{stolen}");

    // The token by itself, and in a session of the thief's own: neither comes to the application.
    let before = verdaccio.requests()?;
    let bearer = format!("Bearer {stolen}");
    let path = "/-/verdaccio/data/sidebar/clay";
    let client = reqwest::Client::builder().no_proxy().build()?;
    let bare = client
        .get(format!("{origin}{path}"))
        .header(AUTHORIZATION, &bearer);
    assert_eq!(bare.send().await?.status(), 401);
    let thief = bulla_client::Client::builder(&origin)
        .build()?
        .open()
        .await?;
    let sidebar = http::Request::get(path)
        .header(AUTHORIZATION, &bearer)
        .body(bytes::Bytes::new())?;
    let refused = thief.fetch(sidebar).await.err().map(|error| error.code);
    assert_eq!(refused, Some(Code::ProofMismatch));
    assert_eq!(verdaccio.requests()?, before);

    // The page goes on, and logs out.
    let package = format!("{origin}/-/web/detail/clay");
    browser.goto(&package).await?;
    browser
        .wait_until(
            "return document.querySelector('[data-testid=readme]')?.textContent.includes('Clay')",
            PATIENCE,
        )
        .await?;
    sign_out(&browser, &origin).await?;
    browser.quit().await?;
    Ok(())
}

async fn another_site(engine: Engine) -> Outcome {
    let django = Django::start()?;
    let (_, gateway) = before(&django.origin(), for_django, |router| router).await?;
    let direct = django.origin().replace("127.0.0.1", "localhost");
    let added = || -> Outcome<usize> {
        let requests = django.requests()?;
        let added = "POST /admin/auth/group/add/";
        Ok(requests.iter().filter(|request| *request == added).count())
    };

    for (origin, comes_to_the_application) in [(direct, 1), (gateway.origin(), 0)] {
        let browser = Browser::launch(engine).await?;
        log_in(&browser, &origin, django.password()).await?;
        add_group(&browser, &origin, &format!("scribes of {origin}")).await?;
        let before = added()?;

        // A form: refused by Django's middleware, or before it comes that far.
        let other = other_site(&origin).await?;
        leave_for(&browser, &other, "#form").await?;
        assert_eq!(added()? - before, comes_to_the_application);

        // A link: the admin's cookie comes along, which is Lax, and a Strict one does not.
        browser.goto(&format!("{origin}/probe/cookies")).await?;
        browser.wait_until(HAS_SESSION, PATIENCE).await?;
        browser.eval("await fetch('/probe/strict')", []).await?;
        leave_for(&browser, &other, "#link").await?;
        let found = browser.wait_until(HAS_SESSION, PATIENCE).await?;
        assert_eq!(found, "csrftoken\nsessionid", "{origin}");
        let own = "return (await (await fetch('/probe/cookies')).text()).trim()";
        let found = browser.eval(own, []).await?;
        assert_eq!(found, "csrftoken\nsessionid\nstrict", "{origin}");

        browser.quit().await?;
    }
    Ok(())
}

/// The names of the cookies that came to Django with the request for the page that is shown.
const HAS_SESSION: &str = "const names = document.body.textContent.trim();
    return location.pathname === '/probe/cookies' && names.includes('sessionid') && names";

/// Django's static files are for everybody. Of cookies that are not bound the gateway does not know that they are Strict.
fn for_django(config: &mut Config) {
    config.paths = vec![PathRule {
        prefix: "/static/".to_owned(),
        access: Access::Public,
    }];
    config.bound_cookies.push("strict".to_owned());
}

/// A page of another site, as browsers see it, which leads to an application.
async fn other_site(origin: &str) -> Outcome<Server> {
    let page = format!(
        "<!doctype html><title>Another site</title><link rel=icon href=data:,>
        <form id=form method=post action='{origin}/admin/auth/group/add/'><input name=name value=thieves></form>
        <form id=link action='{origin}/probe/cookies'></form>"
    );
    Ok(Server::start(Router::new().route("/", html(page))).await?)
}

/// Sends a form of another site, and waits for what comes of it.
async fn leave_for(browser: &Browser, other: &Server, form: &str) -> Outcome {
    let other = format!("http://127.0.0.1:{}", other.port());
    browser.goto(&other).await?;
    let send = "setTimeout(() => document.querySelector(args[0]).submit())";
    browser.eval(send, [json!(form)]).await?;
    let gone =
        format!("return location.origin !== '{other}' && document.readyState === 'complete'");
    browser.wait_until(&gone, PATIENCE).await?;
    Ok(())
}

/// What comes to Django of a request by its page.
async fn echo(browser: &Browser) -> Outcome<Value> {
    let script = "return (await fetch('/probe/echo', { method: 'POST', body: 'clay' })).json()";
    Ok(browser.eval(script, []).await?)
}

/// A file of some records goes up, and one comes down, byte for byte.
async fn files_come_whole(browser: &Browser) -> Outcome {
    let script = "const sha256 = async (bytes) => {
            const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
            return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
        };
        const bytes = Uint8Array.from({ length: 1_500_001 }, (_, at) => at * 31 + (at >> 8));
        const up = await fetch('/probe/upload', { method: 'POST', body: new File([bytes], 'clay.bin') });
        const down = await fetch('/probe/download/1500001');
        return {
            sent: { length: bytes.length, sha256: await sha256(bytes) },
            came: await up.json(),
            made: await sha256(Uint8Array.from({ length: 1_500_001 }, (_, at) => at)),
            got: await sha256(await down.arrayBuffer()),
        };";
    let files = browser.eval(script, []).await?;
    assert_eq!(files["came"], files["sent"]);
    assert_eq!(files["got"], files["made"]);
    Ok(())
}

/// An application sees an ordinary request, and whom it is from.
fn assert_is_plain(request: &Value) {
    assert_eq!(request["body"], "clay", "{request}");
    let fields = &request["fields"];
    assert!(fields["bulla-session"].is_string(), "{request}");
    assert!(fields["bulla-device"].is_string(), "{request}");
    assert_eq!(fields["bulla-proof"], "device", "{request}");
    for name in [
        "bulla-ticket",
        "signature",
        "signature-input",
        "content-encoding",
    ] {
        assert!(fields[name].is_null(), "{name}: {request}");
    }
}

const LOGIN: &str = "Log in | Django site admin";
const ADMIN: &str = "Site administration | Django site admin";

/// What a page of the admin's is called in the end, wherever it leads.
async fn seen(browser: &Browser, url: &str) -> Outcome<Value> {
    browser.goto(url).await?;
    arrive(browser).await
}

async fn arrive(browser: &Browser) -> Outcome<Value> {
    Ok(browser
        .wait_until(
            "return document.readyState === 'complete' && document.title.endsWith('Django site admin') && document.title",
            PATIENCE,
        )
        .await?)
}

/// Logs in by the admin's own form.
async fn log_in(browser: &Browser, origin: &str, password: &str) -> Outcome {
    assert_eq!(seen(browser, &format!("{origin}/admin/")).await?, LOGIN);
    fill_in(browser, "#id_username", USER).await?;
    fill_in(browser, "#id_password", password).await?;
    press(browser, "#login-form [type=submit]").await?;
    titled(browser, ADMIN).await
}

/// Adds a group by the admin's own pages.
async fn add_group(browser: &Browser, origin: &str, name: &str) -> Outcome {
    let add = format!("{origin}/admin/auth/group/add/");
    assert_eq!(seen(browser, &add).await?, "Add group | Django site admin");
    fill_in(browser, "#id_name", name).await?;
    press(browser, "[name=_save]").await?;
    titled(browser, "Select group to change | Django site admin").await?;
    let said = browser
        .eval(
            "return document.querySelector('.messagelist').textContent",
            [],
        )
        .await?;
    let expected = format!("The group “{name}” was added successfully.");
    assert_eq!(said.as_str().map(str::trim), Some(&*expected));
    Ok(())
}

async fn log_out(browser: &Browser) -> Outcome {
    press(browser, "#logout-form button").await?;
    titled(browser, "Logged out | Django site admin").await
}

async fn titled(browser: &Browser, title: &str) -> Outcome {
    let title = json!(title);
    let script = format!("return document.title === {title} && document.readyState === 'complete'");
    Ok(browser.wait_until(&script, PATIENCE).await.map(drop)?)
}

/// Puts a cookie into a browser that shows a page of its site.
async fn plant(browser: &Browser, name: &str, value: &str) -> Outcome {
    // Firefox takes none that says more.
    let cookie = thirtyfour::Cookie::new(name, value);
    Ok(browser.driver().add_cookie(cookie).await?)
}

/// What a client that is no browser gets with this `sessionid`.
async fn bare(origin: &str, path: &str, cookie: &str) -> Outcome<reqwest::Response> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let get = client.get(format!("{origin}{path}"));
    let cookie = format!("sessionid={cookie}");
    Ok(get.header(COOKIE, cookie).send().await?)
}

/// Logs in by the dialogue of Verdaccio's page.
async fn sign_in(browser: &Browser, origin: &str, password: &str) -> Outcome {
    browser.goto(&format!("{origin}/")).await?;
    press(browser, "[data-testid='header--button-login']").await?;
    fill_in(browser, "#login--dialog-username", USER).await?;
    fill_in(browser, "#login--dialog-password", password).await?;
    press(browser, "#login--dialog-button-submit").await?;
    shown(browser, "[data-testid='logInDialogIcon']")
        .await
        .map(drop)
}

/// Reads about the package that nobody sees who has not logged in.
async fn read_package(browser: &Browser) -> Outcome {
    press(browser, "[data-testid='package-title']").await?;
    browser
        .wait_until(
            "return document.querySelector('[data-testid=readme]')?.textContent.includes('Clay')",
            PATIENCE,
        )
        .await?;
    Ok(())
}

async fn sign_out(browser: &Browser, origin: &str) -> Outcome {
    // Elsewhere the page asks again for what it shows, is refused, and Firefox asks for a name and a password.
    browser.goto(&format!("{origin}/")).await?;
    press(browser, "[data-testid='logInDialogIcon']").await?;
    press(browser, "[data-testid='logOutDialogIcon']").await?;
    shown(browser, "[data-testid='header--button-login']").await?;
    let token = browser.eval("return localStorage.token ?? ''", []).await?;
    assert_eq!(token, "");
    Ok(())
}

/// Types into a field, in the place of what is there.
async fn fill_in(browser: &Browser, field: &str, text: &str) -> Outcome {
    let field = shown(browser, field).await?;
    field.clear().await?;
    Ok(field.send_keys(text).await?)
}

async fn press(browser: &Browser, button: &str) -> Outcome {
    Ok(shown(browser, button).await?.click().await?)
}

/// What a visitor sees, or will see.
async fn shown(browser: &Browser, selector: &str) -> Outcome<WebElement> {
    let query = browser
        .driver()
        .query(By::Css(selector))
        .and_displayed()
        .and_enabled();
    Ok(query.wait(PATIENCE, POLL).first().await?)
}

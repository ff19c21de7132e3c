//! Applications that others have written, in real browsers: what a thief of their tokens has without a gateway.

use bulla_tests::apps::{Django, USER, Verdaccio};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, Engine};
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

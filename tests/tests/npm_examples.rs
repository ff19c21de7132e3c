//! The examples of `examples/npm`, built from the packed package and used as a visitor would, in real browsers.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;
use std::{fs, io};

use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::npm::{Notes, Project, free_port, said};
use serde_json::json;
use thirtyfour::extensions::query::ElementQueryable as _;
use thirtyfour::{By, WebElement};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// How often a visitor looks.
const POLL: Duration = Duration::from_millis(50);

const SERVER: &str = env!("CARGO_BIN_EXE_notes");

bulla_tests::in_each_engine!(the_examples_work);

/// One launch for all of them. Each is an origin of its own, which the browser has never seen.
async fn the_examples_work(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    for (name, site) in [
        ("plain", &PLAIN),
        ("vite", &VITE),
        ("react", &REACT),
        ("service-worker", &SERVICE_WORKER),
    ] {
        told(name, notes_are_kept(&browser, name, site).await)?;
    }
    for (name, site, trouble) in [
        ("axios", &AXIOS, "(network)"),
        ("install", &INSTALL, "Network Error"),
        ("ky", &KY, "(network)"),
        ("inline", &INLINE, "(network)"),
        ("worker", &WORKER, "(network)"),
    ] {
        told(name, a_note_is_written(&browser, site, trouble).await)?;
    }
    told(
        "without inline",
        what_a_bundler_loses_is_missed(&browser).await,
    )?;
    for name in ["vite", "react"] {
        let outcome = a_development_server_stands_before_the_api(&browser, name).await;
        told(&format!("{name}, developed"), outcome)?;
    }
    browser.quit().await?;
    Ok(())
}

/// Which example it was that failed.
fn told(example: &str, outcome: Outcome) -> Outcome {
    outcome.map_err(|error| format!("{example}: {error}").into())
}

/// The folder of an example's pages, made once for all engines.
struct Site(Result<PathBuf, String>);

impl Site {
    fn made(make: impl FnOnce() -> io::Result<PathBuf>) -> Self {
        Self(make().map_err(|error| error.to_string()))
    }

    fn by_vite(example: &str) -> Self {
        Self::made(|| {
            let project = Project::of(example, example)?;
            project.vite(&["build"])?;
            Ok(project.folder().join("dist"))
        })
    }

    /// The example `inline`, which imports this entry. Nothing is told to esbuild of files beside a script.
    fn by_esbuild(name: &str, entry: &str) -> Self {
        Self::made(|| {
            let project = Project::of("inline", name)?;
            project.replace("src/main.js", "\"bulla/inline\"", &format!("{entry:?}"))?;
            let mut esbuild = project.tool("esbuild/bin/esbuild")?;
            said(esbuild.args(["src/main.js", "--bundle", "--format=esm", "--outdir=assets"]))?;
            Ok(project.folder().to_owned())
        })
    }

    /// With the package's files beside its own.
    fn as_it_is(example: &str) -> Self {
        Self::made(|| {
            let project = Project::of(example, example)?;
            let folder = project.folder();
            let dist = folder.join("node_modules/bulla/dist");
            fs::rename(dist, folder.join("assets/bulla"))?;
            Ok(folder.to_owned())
        })
    }

    async fn open(&self) -> Outcome<Notes> {
        Notes::with_pages(SERVER, self.0.as_ref().map_err(Clone::clone)?).await
    }
}

static VITE: LazyLock<Site> = LazyLock::new(|| Site::by_vite("vite"));
static REACT: LazyLock<Site> = LazyLock::new(|| Site::by_vite("react"));
static AXIOS: LazyLock<Site> = LazyLock::new(|| Site::by_vite("axios"));
static KY: LazyLock<Site> = LazyLock::new(|| Site::by_vite("ky"));

static INSTALL: LazyLock<Site> = LazyLock::new(|| Site::by_vite("install"));
static WORKER: LazyLock<Site> = LazyLock::new(|| Site::by_vite("worker"));
static PLAIN: LazyLock<Site> = LazyLock::new(|| Site::as_it_is("plain"));
static SERVICE_WORKER: LazyLock<Site> = LazyLock::new(|| Site::as_it_is("service-worker"));

static INLINE: LazyLock<Site> = LazyLock::new(|| Site::by_esbuild("inline", "bulla/inline"));
static LOST: LazyLock<Site> = LazyLock::new(|| Site::by_esbuild("lost", "bulla"));

async fn notes_are_kept(browser: &Browser, example: &str, site: &Site) -> Outcome {
    let mut notes = site.open().await?;
    browser.goto(&notes.origin()).await?;
    log_in(browser).await?;
    write(browser, "buy clay").await?;
    lists(browser, &["buy clay"]).await?;
    browser.reload().await?;
    lists(browser, &["buy clay"]).await?;
    // Nor has the policy forbidden anything. A script that knows nothing of a login asks, and is refused.
    let knows = example != "service-worker";
    quiet(browser, if knows { None } else { Some("status of 401") }).await?;

    // What was typed is not lost with the server, and neither is the login.
    notes.stop();
    write(browser, "sell clay").await?;
    browser.wait_until(TROUBLE, PATIENCE).await?;
    notes.resume()?;
    press(browser, "Write").await?;
    lists(browser, &["sell clay"]).await?;
    assert_eq!(browser.eval(TROUBLE, []).await?, "");

    // What one tab does, the other shows.
    let first = browser.tab().await?;
    let second = browser.new_tab().await?;
    browser.goto(&notes.origin()).await?;
    lists(browser, &["sell clay"]).await?;
    press(browser, "Log out").await?;
    log_in_is_asked_for(browser).await?;
    browser.switch(&first).await?;
    if !knows {
        write(browser, "burn clay").await?;
    }
    log_in_is_asked_for(browser).await?;
    lists(browser, &[]).await?;
    log_in(browser).await?;
    lists(browser, &["sell clay"]).await?;
    browser.switch(&second).await?;
    if !knows {
        browser.reload().await?;
    }
    lists(browser, &["sell clay"]).await?;
    browser.driver().clone().close_window().await?;
    browser.switch(&first).await?;
    drained(browser).await
}

async fn a_note_is_written(browser: &Browser, site: &Site, trouble: &str) -> Outcome {
    let mut notes = site.open().await?;
    browser.goto(&notes.origin()).await?;
    fill_in(browser, "Name", "ann").await?;
    write(browser, "buy clay").await?;
    lists(browser, &["buy clay"]).await?;
    quiet(browser, None).await?;

    notes.stop();
    write(browser, "sell clay").await?;
    tells(browser, trouble).await?;
    notes.resume()?;
    press(browser, "Write").await?;
    lists(browser, &["sell clay"]).await?;
    drained(browser).await
}

async fn what_a_bundler_loses_is_missed(browser: &Browser) -> Outcome {
    let notes = LOST.open().await?;
    browser.goto(&notes.origin()).await?;
    fill_in(browser, "Name", "ann").await?;
    write(browser, "buy clay").await?;
    tells(browser, "(unsupported)").await?;
    drained(browser).await
}

async fn a_development_server_stands_before_the_api(browser: &Browser, example: &str) -> Outcome {
    let project = Project::of(example, &format!("{example}-{}", browser.engine()))?;
    let port = free_port().await?;
    let origin = format!("http://localhost:{port}");
    let notes = Notes::known_as(SERVER, &origin).await?;
    project.replace("vite.config.ts", "http://localhost:8080", &notes.origin())?;
    let _vite = project.develop(port)?;

    browser.goto(&origin).await?;
    log_in_is_asked_for(browser).await?;
    // By React too, which in development does twice what a component does when it appears.
    assert_eq!(notes.events(), ["Opened"], "{example}");
    log_in(browser).await?;
    write(browser, "buy clay").await?;
    lists(browser, &["buy clay"]).await?;
    assert_eq!(notes.events(), ["Opened", "LoggedIn", "Opened"]);
    drained(browser).await
}

async fn log_in(browser: &Browser) -> Outcome {
    fill_in(browser, "Name", "ann").await?;
    press(browser, "Log in").await
}

async fn log_in_is_asked_for(browser: &Browser) -> Outcome {
    shown(browser, &named("Log in")).await.map(drop)
}

async fn write(browser: &Browser, note: &str) -> Outcome {
    fill_in(browser, "Note", note).await?;
    press(browser, "Write").await
}

/// Types into the field with this label, in the place of what is there.
async fn fill_in(browser: &Browser, label: &str, text: &str) -> Outcome {
    let field = shown(browser, &format!("//label[contains(., '{label}')]//input")).await?;
    field.clear().await?;
    Ok(field.send_keys(text).await?)
}

async fn press(browser: &Browser, button: &str) -> Outcome {
    Ok(shown(browser, &named(button)).await?.click().await?)
}

/// The button that says this.
fn named(button: &str) -> String {
    format!("//button[normalize-space() = '{button}']")
}

/// What a visitor sees, or will see.
async fn shown(browser: &Browser, path: &str) -> Outcome<WebElement> {
    let query = browser
        .driver()
        .query(By::XPath(path))
        .and_displayed()
        .and_enabled();
    Ok(query.wait(PATIENCE, POLL).single().await?)
}

/// The notes are these.
async fn lists(browser: &Browser, notes: &[&str]) -> Outcome {
    let notes = json!(json!(notes).to_string());
    let are = format!(
        "const items = [...document.querySelectorAll('li')];
         return JSON.stringify(items.map((item) => item.textContent)) === {notes}"
    );
    if let Err(error) = browser.wait_until(&are, PATIENCE).await {
        let told = browser.eval(TROUBLE, []).await?;
        return Err(format!("{error}; the visitor is told {told}").into());
    }
    Ok(())
}

/// What the visitor is told of that went wrong.
const TROUBLE: &str = "return document.querySelector('[role=alert]').textContent";

/// The visitor is told what ends so.
async fn tells(browser: &Browser, end: &str) -> Outcome {
    let told = browser.wait_until(TROUBLE, PATIENCE).await?;
    let is_it = told.as_str().is_some_and(|told| told.ends_with(end));
    is_it
        .then_some(())
        .ok_or_else(|| format!("the visitor is told {told}").into())
}

/// Nothing else is in the console: no exception, nothing that the policy forbids.
async fn quiet(browser: &Browser, but: Option<&str>) -> Outcome {
    // WebKit's driver has no access to it.
    if browser.engine() != Engine::WebKit {
        let mut errors = browser.console_errors().await?;
        errors.retain(|error| !but.is_some_and(|but| error.contains(but)));
        if !errors.is_empty() {
            return Err(format!("{errors:#?}").into());
        }
    }
    Ok(())
}

/// What a test has provoked is in the console, and of no concern to the next.
async fn drained(browser: &Browser) -> Outcome {
    if browser.engine() != Engine::WebKit {
        browser.console_errors().await?;
    }
    Ok(())
}

//! Real browsers, each with its own driver, process group and empty profile.

mod display;
mod engine;
mod error;
mod launch;
pub(crate) mod process;
mod screen;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::WebDriver;
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub use engine::Engine;
pub use error::{BrowserError, Thrown};
pub use thirtyfour::WindowHandle;

use display::Display;
use launch::{Driver, LAUNCH};
use process::Group;

/// How long one command to the driver may take, longer than the 60 s that the driver itself allows
/// a script or a page load, so that its own error comes first.
const COMMAND: Duration = Duration::from_secs(80);

/// How long closing a browser politely may take before its processes are killed.
const QUIT: Duration = Duration::from_secs(20);

/// How often [`Browser::wait_until`] asks.
const POLL: Duration = Duration::from_millis(50);

/// A running browser. Dropping it kills the driver, the browser and whatever they started, and
/// removes the profile.
pub struct Browser {
    engine: Engine,
    dark: bool,
    driver: WebDriver,
    // The order matters: the processes end before their screen and their files go.
    processes: Group,
    _display: Option<Arc<Display>>,
    home: TempDir,
}

impl Browser {
    /// Starts a browser with an empty profile. It accepts any TLS certificate.
    ///
    /// # Errors
    ///
    /// [`BrowserError::Missing`] or [`BrowserError::Start`], naming the program at fault.
    pub async fn launch(engine: Engine) -> Result<Self, BrowserError> {
        Self::start(engine, false).await
    }

    /// Starts a browser whose pages see a preference for dark colours, which WebKit can be given
    /// only now. The other engines change with every [`Browser::screenshot`].
    ///
    /// # Errors
    ///
    /// As [`Browser::launch`].
    pub async fn launch_dark(engine: Engine) -> Result<Self, BrowserError> {
        let browser = Self::start(engine, true).await?;
        browser.set_scheme(true).await?;
        Ok(browser)
    }

    /// The engine.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The `WebDriver` session, for what has no shorter way here.
    pub fn driver(&self) -> &WebDriver {
        &self.driver
    }

    /// The folder that is the browser's home: everything it writes is below it, and deleted with it.
    /// The profile is in `profile`, except in WebKit, which keeps it in memory under automation.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Loads `url` in the current tab, until its `load` event.
    ///
    /// # Errors
    ///
    /// If nothing answers there within 60 s.
    pub async fn goto(&self, url: &str) -> Result<(), BrowserError> {
        Ok(self.driver.goto(url).await?)
    }

    /// Loads the current tab's page again, until its `load` event.
    ///
    /// # Errors
    ///
    /// If nothing answers there within 60 s.
    pub async fn reload(&self) -> Result<(), BrowserError> {
        Ok(self.driver.refresh().await?)
    }

    /// Runs `body` as the body of an async function in the current tab, which finds `args` in the
    /// array `args`, and returns what it returns, as JSON: `undefined` becomes `null`. The page's
    /// Content Security Policy does not apply to the script itself.
    ///
    /// # Errors
    ///
    /// [`BrowserError::Thrown`] with the exception that the script let through, also when its
    /// result has no JSON form. [`BrowserError::Driver`] if it is not JavaScript, takes more than
    /// 60 s, or if the page goes away meanwhile.
    pub async fn eval(
        &self,
        body: &str,
        args: impl IntoIterator<Item = Value>,
    ) -> Result<Value, BrowserError> {
        // The drivers each have their own idea of what of an exception is worth reporting, and of
        // how values become JSON. So the page itself turns both into one string.
        let script = format!(
            "const [args, done] = arguments;
            (async function (args) {{
                {body}
            }})(args)
                .then((value) => JSON.stringify({{ value }}))
                .catch((error) => JSON.stringify({{
                    thrown: {{
                        name: String(error?.name ?? ''),
                        message: String(error?.message ?? error),
                        code: typeof error?.code === 'string' ? error.code : null,
                        stack: String(error?.stack ?? ''),
                    }},
                }}))
                .then(done);"
        );
        let args = Value::Array(args.into_iter().collect());
        let answer = self.driver.execute_async(script, vec![args]).await?;
        let answer: Value = serde_json::from_str(answer.json().as_str().unwrap_or_default())
            .map_err(io::Error::from)?;

        match &answer["thrown"] {
            Value::Null => Ok(answer["value"].clone()),
            thrown => Err(BrowserError::Thrown(Thrown::from_json(thrown))),
        }
    }

    /// Asks [`Browser::eval`] for `body` again and again until its result is truthy, and returns
    /// that. Errors count as "not yet", so that a page may still be loading.
    ///
    /// # Errors
    ///
    /// [`BrowserError::Timeout`] with the last result or error if it never was within `patience`.
    pub async fn wait_until(&self, body: &str, patience: Duration) -> Result<Value, BrowserError> {
        let deadline = Instant::now() + patience;
        let mut last = "nothing".to_owned();
        while let Ok(result) = timeout_at(deadline, self.eval(body, [])).await {
            match result {
                Ok(value) if is_truthy(&value) => return Ok(value),
                Ok(value) => last = value.to_string(),
                Err(error) => last = error.to_string(),
            }
            if Instant::now() + POLL >= deadline {
                break;
            }
            sleep(POLL).await;
        }

        Err(BrowserError::Timeout {
            what: body.to_owned(),
            after: patience,
            last,
        })
    }

    /// The current tab.
    ///
    /// # Errors
    ///
    /// If it has been closed.
    pub async fn tab(&self) -> Result<WindowHandle, BrowserError> {
        Ok(self.driver.window().await?)
    }

    /// Opens an empty tab in the same profile and makes it the current one. In WebKit it is a window:
    /// a tab there stays in the background, where pages do not draw.
    ///
    /// # Errors
    ///
    /// If the driver refuses.
    pub async fn new_tab(&self) -> Result<WindowHandle, BrowserError> {
        let tab = match self.engine {
            Engine::Chromium | Engine::Firefox => self.driver.new_tab().await?,
            Engine::WebKit => self.driver.new_window().await?,
        };
        self.switch(&tab).await?;
        Ok(tab)
    }

    /// Makes `tab` the current one.
    ///
    /// # Errors
    ///
    /// If it has been closed.
    pub async fn switch(&self, tab: &WindowHandle) -> Result<(), BrowserError> {
        Ok(self.driver.switch_to_window(tab.clone()).await?)
    }

    /// The errors in the console of all pages since the last call. Chromium tells of uncaught
    /// exceptions, `console.error` and failed loads; Firefox of uncaught exceptions and errors of
    /// the engine's own, such as blocked content.
    ///
    /// # Errors
    ///
    /// [`BrowserError::Unsupported`] in WebKit, whose driver has no access to the console.
    pub async fn console_errors(&self) -> Result<Vec<String>, BrowserError> {
        match self.engine {
            Engine::Chromium => {
                let entries = self.driver.browser_log().await?;
                Ok(entries.into_iter().map(|entry| entry.message).collect())
            }
            Engine::Firefox => {
                const SCRIPT: &str = "
                    const messages = Services.console.getMessageArray();
                    Services.console.reset();
                    return messages
                        .filter((message) => message instanceof Ci.nsIScriptError
                            && message.logLevel === Ci.nsIConsoleMessage.error
                            && /^https?:/.test(message.sourceName))
                        .map((message) => `${message.sourceName} ${message.errorMessage}`);";
                let messages = self.in_firefox(SCRIPT, Value::Null).await?;
                Ok(serde_json::from_value(messages).map_err(io::Error::from)?)
            }
            Engine::WebKit => Err(BrowserError::Unsupported {
                engine: self.engine,
                what: "show the console to its driver",
            }),
        }
    }

    /// Stops all service workers, as the browser does by itself when it likes. The next event starts them again.
    ///
    /// # Errors
    ///
    /// [`BrowserError::Unsupported`] in WebKit, whose driver cannot do it.
    pub async fn stop_workers(&self) -> Result<(), BrowserError> {
        match self.engine {
            Engine::Chromium => {
                self.devtools("ServiceWorker.enable", json!({})).await?;
                self.devtools("ServiceWorker.stopAllWorkers", json!({}))
                    .await
            }
            Engine::Firefox => {
                const SCRIPT: &str = "
                    const manager = Cc['@mozilla.org/serviceworkers/manager;1']
                        .getService(Ci.nsIServiceWorkerManager);
                    const all = manager.getAllRegistrations();
                    for (let at = 0; at < all.length; at += 1) {
                        const { activeWorker } = all.queryElementAt(at, Ci.nsIServiceWorkerRegistrationInfo);
                        activeWorker?.terminateWorker();
                    }";
                self.in_firefox(SCRIPT, Value::Null).await.map(drop)
            }
            Engine::WebKit => Err(BrowserError::Unsupported {
                engine: self.engine,
                what: "stop service workers",
            }),
        }
    }

    /// Has the current page's process look for what nobody can reach any more.
    ///
    /// # Errors
    ///
    /// [`BrowserError::Unsupported`] in WebKit, whose driver cannot do it.
    pub async fn collect_garbage(&self) -> Result<(), BrowserError> {
        match self.engine {
            Engine::Chromium => {
                self.devtools("HeapProfiler.collectGarbage", json!({}))
                    .await
            }
            Engine::Firefox => {
                const SCRIPT: &str = "
                    for (const what of ['child-gc-request', 'child-cc-request']) {
                        Services.obs.notifyObservers(null, what);
                    }";
                self.in_firefox(SCRIPT, Value::Null).await.map(drop)
            }
            Engine::WebKit => Err(BrowserError::Unsupported {
                engine: self.engine,
                what: "collect garbage",
            }),
        }
    }

    /// Loads the current tab's page again, past all service workers and caches, as Shift and the reload button do.
    ///
    /// # Errors
    ///
    /// [`BrowserError::Unsupported`] but in Chromium.
    pub async fn reload_past_workers(&self) -> Result<(), BrowserError> {
        match self.engine {
            Engine::Chromium => {
                self.devtools("Page.reload", json!({ "ignoreCache": true }))
                    .await
            }
            Engine::Firefox | Engine::WebKit => Err(BrowserError::Unsupported {
                engine: self.engine,
                what: "reload a page past its service worker",
            }),
        }
    }

    /// The memory, in bytes, of the driver, the browser and all of its helper processes.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read.
    pub fn memory(&self) -> Result<u64, BrowserError> {
        Ok(self.processes.memory()?)
    }

    /// Closes the browser as its user would, so that it may still write out its profile.
    ///
    /// # Errors
    ///
    /// If it does not close. Its processes are killed all the same.
    pub async fn quit(self) -> Result<(), BrowserError> {
        match timeout(QUIT, self.driver.clone().quit()).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(BrowserError::Timeout {
                what: format!("{} closes", self.engine),
                after: QUIT,
                last: "still running".to_owned(),
            }),
        }
    }

    async fn start(engine: Engine, dark: bool) -> Result<Self, BrowserError> {
        // Starting processes blocks, and the other tasks of the test must not wait for it.
        let started = tokio::task::spawn_blocking(move || Driver::start(engine, dark)).await;
        let driver = started.map_err(io::Error::from)??;

        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(COMMAND)
            .build()
            .map_err(io::Error::other)?;
        let url = format!("http://127.0.0.1:{}", driver.port);
        let session = WebDriver::builder(url, driver.capabilities)
            .client(client)
            .connect();
        let session = match timeout(LAUNCH, session).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => return Err(driver.processes.start_error(&error.to_string())),
            Err(_) => return Err(driver.processes.start_error("no browser in time")),
        };

        Ok(Self {
            engine,
            dark,
            driver: session,
            processes: driver.processes,
            _display: driver.display,
            home: driver.home,
        })
    }

    fn launched_dark(&self) -> bool {
        self.dark
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The session would otherwise block this thread to end itself in good order; the processes
        // are about to be killed instead. An error says that it has ended already.
        let _ = self.driver.clone().leak();
    }
}

/// Whether JavaScript would take the value for true.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(bool) => *bool,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_that_of_javascript() {
        for value in [json!(null), json!(false), json!(0), json!(-0.0), json!("")] {
            assert!(!is_truthy(&value), "{value}");
        }
        for value in [json!(true), json!(1), json!("0"), json!([]), json!({})] {
            assert!(is_truthy(&value), "{value}");
        }
    }

    #[test]
    fn a_missing_program_is_named_with_a_way_out() {
        let error = BrowserError::Missing {
            program: "geckodriver",
        };
        let text = error.to_string();
        assert!(
            text.contains("`geckodriver`") && text.contains("cargo xtask test"),
            "{text}"
        );
    }
}

//! Colour scheme, size and pictures of the page.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use thirtyfour::common::command::{Command, ExtensionCommand};
use thirtyfour::error::WebDriverResult;
use thirtyfour::session::http::CmdResponse;

use super::{Browser, BrowserError, Engine};

/// How long a page may take to follow a new size or colour scheme.
const SETTLE: Duration = Duration::from_secs(20);

impl Browser {
    /// Writes a PNG of the current tab at exactly `width` by `height` CSS pixels, one image pixel
    /// each. Missing folders are made; the tab keeps the size and the colour scheme.
    ///
    /// # Errors
    ///
    /// [`BrowserError::Unsupported`] if a WebKit browser is to change its colour scheme, which only
    /// [`Browser::launch_dark`] and [`Browser::launch`] decide there. [`BrowserError::Timeout`] if
    /// the page does not take that size: in WebKit only the first tab goes below 447 pixels.
    pub async fn screenshot(
        &self,
        path: impl AsRef<Path>,
        width: u32,
        height: u32,
        dark: bool,
    ) -> Result<(), BrowserError> {
        let path = path.as_ref();
        self.set_scheme(dark).await?;
        self.set_size(width, height).await?;
        self.wait_until(
            &format!(
                "return innerWidth === {width} && innerHeight === {height} \
                 && matchMedia('(prefers-color-scheme: dark)').matches === {dark}"
            ),
            SETTLE,
        )
        .await?;
        // The second frame after the change shows all of it.
        self.eval(
            "await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))",
            [],
        )
        .await?;

        let png = self.driver().screenshot_as_png().await?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, png)?;
        Ok(())
    }

    pub(super) async fn set_scheme(&self, dark: bool) -> Result<(), BrowserError> {
        match self.engine() {
            Engine::Chromium => {
                let value = if dark { "dark" } else { "light" };
                let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
                self.devtools(
                    "Emulation.setEmulatedMedia",
                    json!({ "features": features }),
                )
                .await
            }
            Engine::Firefox => {
                const SCRIPT: &str = "Services.prefs.setIntPref(\
                    'layout.css.prefers-color-scheme.content-override', arguments[0] ? 0 : 1)";
                self.in_firefox(SCRIPT, json!(dark)).await.map(drop)
            }
            Engine::WebKit if dark == self.launched_dark() => Ok(()),
            Engine::WebKit => Err(BrowserError::Unsupported {
                engine: Engine::WebKit,
                what: "change its colour scheme after launch",
            }),
        }
    }

    async fn set_size(&self, width: u32, height: u32) -> Result<(), BrowserError> {
        match self.engine() {
            // Neither engine makes its window as narrow as a phone; the page in it can be.
            Engine::Chromium => {
                let metrics = json!({
                    "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
                });
                self.devtools("Emulation.setDeviceMetricsOverride", metrics)
                    .await
            }
            Engine::Firefox => {
                const SCRIPT: &str = "const [width, height] = arguments[0]; \
                    const { style } = gBrowser.selectedBrowser; \
                    style.setProperty('width', `${width}px`); \
                    style.setProperty('min-width', `${width}px`); \
                    style.setProperty('height', `${height}px`); \
                    style.setProperty('min-height', `${height}px`);";
                self.in_firefox(SCRIPT, json!([width, height]))
                    .await
                    .map(drop)
            }
            Engine::WebKit => {
                let chrome = self
                    .eval(
                        "return [outerWidth - innerWidth, outerHeight - innerHeight]",
                        [],
                    )
                    .await?;
                let plus = |size: u32, extra: &Value| {
                    size.saturating_add(extra.as_u64().and_then(|n| n.try_into().ok()).unwrap_or(0))
                };
                self.driver()
                    .set_window_rect(0, 0, plus(width, &chrome[0]), plus(height, &chrome[1]))
                    .await?;
                Ok(())
            }
        }
    }

    /// Sends a command of the Chrome `DevTools` protocol.
    pub(super) async fn devtools(
        &self,
        command: &str,
        parameters: Value,
    ) -> Result<(), BrowserError> {
        let body = json!({ "cmd": command, "params": parameters });
        self.post("/goog/cdp/execute", body).await?;
        Ok(())
    }

    /// Runs a script in Firefox' own window, not in the page.
    pub(super) async fn in_firefox(
        &self,
        script: &str,
        argument: Value,
    ) -> Result<Value, BrowserError> {
        self.post("/moz/context", json!({ "context": "chrome" }))
            .await?;
        let result = self.driver().execute(script, vec![argument]).await;
        // Back to the page whatever came of it, or every later script would run in the wrong place.
        self.post("/moz/context", json!({ "context": "content" }))
            .await?;
        Ok(result?.json().clone())
    }

    async fn post(&self, endpoint: &'static str, body: Value) -> WebDriverResult<CmdResponse> {
        let command = Vendor { endpoint, body };
        self.driver()
            .cmd(Command::ExtensionCommand(Box::new(command)))
            .await
    }
}

/// A command that only one vendor's driver knows.
#[derive(Debug)]
struct Vendor {
    endpoint: &'static str,
    body: Value,
}

impl ExtensionCommand for Vendor {
    fn parameters_json(&self) -> Option<Value> {
        Some(self.body.clone())
    }

    fn method(&self) -> Method {
        Method::POST
    }

    fn endpoint(&self) -> Arc<str> {
        self.endpoint.into()
    }
}

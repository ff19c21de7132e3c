use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use thirtyfour::Capabilities;

use super::BrowserError;
use super::display::Display;
use super::process::find;

/// A browser engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Chromium, by `chromedriver`.
    Chromium,
    /// Firefox, by `geckodriver`.
    Firefox,
    /// `WebKitGTK`'s `MiniBrowser`, by `WebKitWebDriver`, on an Xvfb.
    WebKit,
}

impl Engine {
    /// Every engine.
    pub const ALL: [Self; 3] = [Self::Chromium, Self::Firefox, Self::WebKit];

    /// A short name in lower case, fit for file names and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
            Self::WebKit => "webkit",
        }
    }

    /// The driver's program and its command line. It is to choose a free port by itself.
    pub(super) fn driver(self) -> Result<(&'static str, Command), BrowserError> {
        let (name, arguments): (_, &[_]) = match self {
            Self::Chromium => ("chromedriver", &["--port=0"]),
            // System access lets the harness, never a page, switch the colour scheme, resize the
            // page below the window's least width and read the console.
            Self::Firefox => ("geckodriver", &["--port=0", "--allow-system-access"]),
            Self::WebKit => ("WebKitWebDriver", &["--port=0"]),
        };
        let program = find(&[name]).ok_or(BrowserError::Missing { program: name })?;

        let mut command = Command::new(program);
        command.args(arguments);
        Ok((name, command))
    }

    /// What the driver is asked for: this engine's browser, with an empty profile in `profile`.
    pub(super) fn capabilities(
        self,
        profile: &Path,
        dark: bool,
    ) -> Result<Capabilities, BrowserError> {
        let program = self.browser()?;
        let (key, options) = match self {
            Self::Chromium => ("goog:chromeOptions", chromium(&program, profile)),
            Self::Firefox => ("moz:firefoxOptions", firefox(&program, profile)),
            Self::WebKit => ("webkitgtk:browserOptions", webkit(&program, dark)),
        };

        let mut capabilities = Map::new();
        capabilities.insert(key.to_owned(), options);
        capabilities.insert("acceptInsecureCerts".to_owned(), json!(true));
        if self == Self::Chromium {
            capabilities.insert(
                "goog:loggingPrefs".to_owned(),
                json!({ "browser": "SEVERE" }),
            );
        }
        Ok(capabilities.into())
    }

    /// The X server that the engine needs, if any.
    pub(super) fn display(self) -> Result<Option<Arc<Display>>, BrowserError> {
        match self {
            Self::Chromium | Self::Firefox => Ok(None),
            Self::WebKit => Display::shared().map(Some),
        }
    }

    fn browser(self) -> Result<PathBuf, BrowserError> {
        let (program, found) = match self {
            Self::Chromium => ("chromium", find(&["chromium"])),
            Self::Firefox => ("firefox-esr", find(&["firefox-esr", "firefox"])),
            Self::WebKit => ("MiniBrowser", mini_browser()),
        };
        found.ok_or(BrowserError::Missing { program })
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn chromium(program: &Path, profile: &Path) -> Value {
    let mut arguments = vec![
        "--headless".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-quic".to_owned(),
        "--hide-scrollbars".to_owned(),
        "--no-first-run".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        format!("--user-data-dir={}", profile.display()),
    ];
    if rustix::process::geteuid().is_root() {
        // Chromium refuses to run its sandbox as root.
        arguments.push("--no-sandbox".to_owned());
    }
    json!({ "binary": program, "args": arguments })
}

fn firefox(program: &Path, profile: &Path) -> Value {
    json!({
        "binary": program,
        "args": ["-headless", "-profile", profile],
        "prefs": { "layout.css.devPixelsPerPx": "1.0" },
    })
}

/// `--automation` gives `MiniBrowser` an ephemeral session, so there is no profile folder. Full
/// screen takes away the tool bar, below whose width the window could not shrink.
fn webkit(program: &Path, dark: bool) -> Value {
    let mut arguments = vec!["--automation", "--full-screen"];
    if dark {
        arguments.push("--dark-mode");
    }
    json!({ "binary": program, "args": arguments })
}

/// `MiniBrowser` is not on `PATH`: Debian keeps it among the library's own files.
fn mini_browser() -> Option<PathBuf> {
    let architectures = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    architectures
        .map(|architecture| architecture.path().join("webkit2gtk-4.1/MiniBrowser"))
        .find(|program| program.is_file())
}

/// A test for each engine, named after it: that `$test` passes there.
#[macro_export]
macro_rules! in_each_engine {
    ($test:ident) => {
        $crate::in_each_engine!($test, chromium Chromium, firefox Firefox, webkit WebKit);
    };
    ($test:ident, $($name:ident $engine:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<(), Box<dyn std::error::Error>> {
            $test($crate::browser::Engine::$engine).await
        }
    )+};
}

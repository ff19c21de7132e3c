use std::fmt;
use std::io;
use std::time::Duration;

use serde_json::Value;
use thirtyfour::error::WebDriverError;

use super::Engine;

/// Why a browser did not do what a test asked of it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BrowserError {
    /// A program that the engine needs is not on this machine.
    #[error("`{program}` is not installed; run `cargo xtask test`, which sets up the browsers")]
    Missing {
        /// The program's name.
        program: &'static str,
    },
    /// A program is there but would not start.
    #[error(
        "`{program}` did not start; run `cargo xtask test`, which sets up the browsers: {reason}"
    )]
    Start {
        /// The program's name.
        program: &'static str,
        /// What went wrong, with the end of the program's log.
        reason: String,
    },
    /// A script in the page threw.
    #[error("the script threw {0}")]
    Thrown(Thrown),
    /// Something awaited did not come about.
    #[error("not so after {after:?}: {what} (last seen: {last})")]
    Timeout {
        /// What was awaited.
        what: String,
        /// How long.
        after: Duration,
        /// The last state seen.
        last: String,
    },
    /// The engine's driver has no way to do this.
    #[error("{engine} cannot {what}")]
    Unsupported {
        /// The engine.
        engine: Engine,
        /// What it cannot do.
        what: &'static str,
    },
    /// The driver refused a command.
    #[error(transparent)]
    Driver(#[from] WebDriverError),
    /// A file or process of the harness' own failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl BrowserError {
    /// What the script threw, if that is what happened.
    pub fn thrown(&self) -> Option<&Thrown> {
        match self {
            Self::Thrown(thrown) => Some(thrown),
            _ => None,
        }
    }

    /// The `code` of what the script threw.
    pub fn code(&self) -> Option<&str> {
        self.thrown()?.code.as_deref()
    }
}

/// The message, not the fields: a test that returns its error has it printed by `Debug`, and the
/// reader is to see what to do about it.
impl fmt::Debug for BrowserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An exception that a script in the page let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thrown {
    /// `error.name`, empty if what was thrown has none.
    pub name: String,
    /// `error.message`, or the thrown value as a string.
    pub message: String,
    /// `error.code` if that is a string. The number that a `DOMException` has there is left out:
    /// its name says the same.
    pub code: Option<String>,
    /// `error.stack`, in the engine's own format.
    pub stack: String,
}

impl Thrown {
    pub(super) fn from_json(thrown: &Value) -> Self {
        let text = |key: &str| thrown[key].as_str().map(ToOwned::to_owned);
        Self {
            name: text("name").unwrap_or_default(),
            message: text("message").unwrap_or_default(),
            code: text("code"),
            stack: text("stack").unwrap_or_default(),
        }
    }
}

impl fmt::Display for Thrown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)?;
        if let Some(code) = &self.code {
            write!(f, " [{code}]")?;
        }
        if !self.stack.is_empty() {
            write!(f, "\n{}", self.stack)?;
        }
        Ok(())
    }
}

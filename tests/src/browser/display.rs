//! The X server that `WebKitGTK`, which has no headless mode, draws on.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::BrowserError;
use super::launch::LAUNCH;
use super::process::{Group, find, wait_for};

/// A running Xvfb. Every browser of this process shares one; it ends with the last of them.
pub(super) struct Display {
    number: u32,
    server: Group,
}

impl Display {
    /// The running server, or a new one. Blocks until it takes connections.
    pub(super) fn shared() -> Result<Arc<Self>, BrowserError> {
        // Weak, because what a static owns is never dropped.
        static SHARED: Mutex<Weak<Display>> = Mutex::new(Weak::new());

        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(display) = shared.upgrade() {
            return Ok(display);
        }
        let display = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&display);
        Ok(display)
    }

    /// The value of `DISPLAY`.
    pub(super) fn name(&self) -> String {
        format!(":{}", self.number)
    }

    fn start() -> Result<Self, BrowserError> {
        let program = find(&["Xvfb"]).ok_or(BrowserError::Missing { program: "Xvfb" })?;
        let mut command = Command::new(program);
        // The server takes the first number that is free and writes it out once it is ready. It
        // must not reset itself in the moment between one browser's end and the next one's start.
        command
            .args(["-displayfd", "1", "-noreset", "-nolisten", "tcp"])
            .args(["-screen", "0", "2560x2560x24"]);

        let mut server = Group::spawn("Xvfb", &mut command)?;
        let mut number = None;
        wait_for(LAUNCH, || {
            number = displayed(&server.log());
            number.is_some() || server.has_ended()
        });
        match number {
            Some(number) => Ok(Self { number, server }),
            None => Err(server.start_error("it named no display")),
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        // Killed outright it would leave its lock file and socket behind.
        self.server.ask_to_end(Duration::from_secs(5));
    }
}

/// The display's number: the one line of `output` that is nothing else, complete to its end.
fn displayed(output: &str) -> Option<u32> {
    output
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
        .find_map(|line| line.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_only_once_its_line_is_complete() {
        assert_eq!(displayed("warning: something\n12\n"), Some(12));
        assert_eq!(displayed("1"), None);
        assert_eq!(displayed(""), None);
    }
}

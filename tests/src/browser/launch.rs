//! From nothing to a driver that takes commands.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use tempfile::TempDir;
use thirtyfour::Capabilities;

use super::display::Display;
use super::process::{Group, wait_for};
use super::{BrowserError, Engine};

/// How long a program may take to start. Generous: test machines are small and run several.
pub(super) const LAUNCH: Duration = Duration::from_secs(90);

/// How often a driver is started that ends before it listens.
const STARTS: usize = 5;

/// A running driver that has no browser yet.
pub(super) struct Driver {
    pub(super) capabilities: Capabilities,
    pub(super) port: u16,
    pub(super) processes: Group,
    pub(super) display: Option<Arc<Display>>,
    pub(super) home: TempDir,
}

impl Driver {
    /// Blocks until the driver takes connections.
    pub(super) fn start(engine: Engine, dark: bool) -> Result<Self, BrowserError> {
        let home = tempfile::Builder::new()
            .prefix("bulla-browser-")
            .tempdir()?;
        let profile = home.path().join("profile");
        fs::create_dir(&profile)?;
        let capabilities = engine.capabilities(&profile, dark)?;
        let (program, mut command) = engine.driver()?;
        let display = engine.display()?;

        settle_in(&mut command, home.path())?;
        if let Some(display) = &display {
            command.env("DISPLAY", display.name());
        }
        let (processes, port) = listen(program, &mut command)?;

        Ok(Self {
            capabilities,
            port,
            processes,
            display,
            home,
        })
    }
}

/// Starts a driver and waits until it listens on a port of its own choosing.
///
/// One that ends first is started anew. Chromium's lets the system choose a port of one address
/// family and asks for the same number in the other, where a connection may hold it: then it gives
/// up, although any other number would have done.
fn listen(program: &'static str, command: &mut Command) -> Result<(Group, u16), BrowserError> {
    let mut starts = 0;
    loop {
        let mut processes = Group::spawn(program, command)?;
        starts += 1;
        let mut port = None;
        wait_for(LAUNCH, || {
            port = processes.listening_port();
            port.is_some() || processes.has_ended()
        });
        match port {
            Some(port) => return Ok((processes, port)),
            None if processes.has_ended() && starts < STARTS => {}
            None => {
                let reason = format!("it listens on no port (start {starts} of {STARTS})");
                return Err(processes.start_error(&reason));
            }
        }
    }
}

/// Keeps a browser away from the user's own files, desktop and message bus.
fn settle_in(command: &mut Command, home: &Path) -> io::Result<()> {
    let temporary = home.join("tmp");
    fs::create_dir(&temporary)?;

    for variable in [
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_RUNTIME_DIR",
    ] {
        command.env_remove(variable);
    }
    command
        .env_remove("WAYLAND_DISPLAY")
        .env("HOME", home)
        .env("TMPDIR", temporary)
        // Without a bus GTK would start one, outside of the process group; this address is
        // understood to mean that there is none to be had.
        .env("DBUS_SESSION_BUS_ADDRESS", "disabled:")
        .env("GDK_BACKEND", "x11")
        .env("GDK_SCALE", "1")
        .env("NO_AT_BRIDGE", "1");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_ends_before_it_listens_is_started_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "echo started >> starts; echo taken"])
            .current_dir(folder.path());

        let error = listen("sh", &mut command).err().unwrap().to_string();
        assert!(error.contains("taken"), "{error}");
        let starts = fs::read_to_string(folder.path().join("starts")).unwrap();
        assert_eq!(starts.lines().count(), STARTS);
    }
}

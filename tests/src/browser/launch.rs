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
        let mut processes = Group::spawn(program, &mut command)?;
        let mut port = None;
        wait_for(LAUNCH, || {
            port = processes.listening_port();
            port.is_some() || processes.has_ended()
        });
        let Some(port) = port else {
            return Err(processes.start_error("it listens on no port"));
        };

        Ok(Self {
            capabilities,
            port,
            processes,
            display,
            home,
        })
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

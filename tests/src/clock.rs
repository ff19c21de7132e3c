//! A clock that whole processes go by, and that a test moves (libfaketime).

use std::ffi::OsString;
use std::path::PathBuf;
use std::{fs, io};

use tempfile::TempDir;

/// Where Debian and others have the library, below `/usr/lib` and one folder for the machine.
const LIBRARY: &str = "faketime/libfaketime.so.1";
/// Redis has an allocator of its own, which asks for the time before the library is ready; with this one in its
/// place it does not. It comes with glibc.
const ALLOCATOR: &str = "libc_malloc_debug.so.0";

/// Variables of a process's environment.
pub type Environment = Vec<(&'static str, OsString)>;

/// A clock apart from the system's.
pub struct ProcessClock {
    folder: TempDir,
    preload: String,
    jumps: bool,
}

impl ProcessClock {
    /// One that jumps where it is moved, as if it were set: by the monotonic clock no time passes.
    ///
    /// # Errors
    ///
    /// If the library is not installed.
    pub fn that_jumps() -> io::Result<Self> {
        Self::new(true)
    }

    /// One whose time passes where it is moved, in an instant.
    ///
    /// # Errors
    ///
    /// If the library is not installed.
    pub fn that_passes() -> io::Result<Self> {
        Self::new(false)
    }

    fn new(jumps: bool) -> io::Result<Self> {
        let library = library()?;
        let clock = Self {
            folder: tempfile::tempdir()?,
            preload: format!("{ALLOCATOR}:{}", library.display()),
            jumps,
        };
        clock.set_ahead(0)?;
        Ok(clock)
    }

    /// Sets by how many seconds it is ahead of the system's, or behind it.
    ///
    /// # Errors
    ///
    /// If that cannot be written.
    pub fn set_ahead(&self, seconds: i64) -> io::Result<()> {
        // At once: a process may be reading it.
        let partial = self.folder.path().join("partial");
        fs::write(&partial, format!("{seconds:+}\n"))?;
        fs::rename(partial, self.file())
    }

    /// What makes a process go by it.
    pub fn environment(&self) -> Environment {
        vec![
            ("LD_PRELOAD", self.preload.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            (
                "FAKETIME_DONT_FAKE_MONOTONIC",
                u8::from(self.jumps).to_string().into(),
            ),
        ]
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }
}

fn library() -> io::Result<PathBuf> {
    for entry in fs::read_dir("/usr/lib")? {
        let library = entry?.path().join(LIBRARY);
        if library.exists() {
            return Ok(library);
        }
    }
    Err(io::Error::other(format!(
        "there is no {LIBRARY} in a folder of /usr/lib; on Debian it is in the package libfaketime"
    )))
}

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Outcome;
use crate::recipe::Recipe;

/// The checkout that the chores work on. It is the current directory, so paths are relative to it.
pub(crate) struct Project {
    pub(crate) recipe: Recipe,
    /// Cargo's target folder, absolute.
    pub(crate) target: PathBuf,
    path: Vec<PathBuf>,
}

impl Project {
    pub(crate) fn open() -> Outcome<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .ok_or("xtask lies in no repository")?;
        env::set_current_dir(root)?;

        // Cargo put this program at <target>/xtask/xtask, wherever it was told to have <target>.
        let program = env::current_exe()?;
        let target = program
            .ancestors()
            .nth(2)
            .ok_or("xtask was not started by cargo")?;

        let mut path: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
        // Where `cargo install` puts programs, in case cargo itself was called by its full path.
        path.extend(cargo_home().map(|home| home.join("bin")));

        Ok(Self {
            recipe: Recipe::read(Path::new("wasm-pack.toml"))?,
            target: target.to_owned(),
            path,
        })
    }

    /// Where the tools that only this checkout uses are kept.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The file of a program, if it is installed.
    pub(crate) fn find(&self, program: &str) -> Option<PathBuf> {
        self.path
            .iter()
            .map(|folder| folder.join(program))
            .find(|file| file.is_file())
    }

    /// Lets later commands find the programs in `folder` before all others.
    pub(crate) fn prefer(&mut self, folder: PathBuf) {
        self.path.insert(0, folder);
    }

    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Ok(path) = env::join_paths(&self.path) {
            command.env("PATH", path);
        }
        command
    }

    /// The cargo that runs this program.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut cargo =
            self.command(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
        cargo.args(arguments);
        cargo
    }
}

pub(crate) fn cargo_home() -> Option<PathBuf> {
    match env::var_os("CARGO_HOME") {
        Some(home) => Some(PathBuf::from(home)),
        None => env::home_dir().map(|home| home.join(".cargo")),
    }
}

/// Runs a command in the open: it is shown, and has the terminal to itself.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let line = shown(command);
    say(&format!("$ {line}"));
    let status = command
        .status()
        .map_err(|error| format!("`{line}` did not start: {error}"))?;
    if !status.success() {
        return Err(format!("`{line}` failed ({status})").into());
    }
    Ok(())
}

/// What a command prints, or nothing if it is not there or fails.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The files of a folder whose names end in this extension, by name.
pub(crate) fn files(folder: impl AsRef<Path>, extension: &str) -> Outcome<Vec<PathBuf>> {
    let folder = folder.as_ref();
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_some_and(|found| found == extension) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// The same files' names, without the extension.
pub(crate) fn stems(folder: impl AsRef<Path>, extension: &str) -> Outcome<Vec<String>> {
    let files = files(folder, extension)?;
    let stems = files.iter().filter_map(|file| file.file_stem()?.to_str());
    Ok(stems.map(str::to_owned).collect())
}

/// A line about what goes on, told from what the commands themselves print.
pub(crate) fn say(line: &str) {
    println!("xtask: {line}");
}

/// Minutes and seconds since `start`.
pub(crate) fn since(start: Instant) -> String {
    let seconds = start.elapsed().as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = [program].into_iter().chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

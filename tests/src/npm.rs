//! The npm package as its users have it: packed, and installed beside the examples of `examples/npm`.

use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{env, fs, thread};

use tempfile::TempDir;

use crate::attack::Outcome;
use crate::bank::PATIENCE;
use crate::serve::listener;

/// The target folder: Cargo put this program at `<target>/debug/deps`.
///
/// # Errors
///
/// If Cargo did not.
pub fn target() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let target = program.ancestors().nth(3);
    let target = target.ok_or_else(|| io::Error::other("the test was not started by cargo"))?;
    Ok(target.to_owned())
}

/// Where the examples are.
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/npm")
}

/// A folder in which the packed package is installed, with what the examples stand on.
pub struct Project {
    folder: PathBuf,
}

impl Project {
    /// A copy of this example, by a name of its own. There is one of each name at a time.
    ///
    /// # Errors
    ///
    /// If the package or what the example stands on is not installed.
    pub fn of(example: &str, name: &str) -> io::Result<Self> {
        let project = Self::empty(name)?;
        bring(&examples().join(example), &project.folder, copy)?;
        Ok(project)
    }

    /// One that has nothing in it yet.
    ///
    /// # Errors
    ///
    /// As [`Project::of`].
    pub fn empty(name: &str) -> io::Result<Self> {
        let target = target()?;
        let folder = target.join("tmp/npm").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let modules = folder.join("node_modules");
        fs::create_dir_all(&modules)?;
        for (from, to) in [
            ("tools/examples/node_modules", ""),
            ("package/installed/node_modules/bulla", "bulla"),
        ] {
            let from = target.join(from);
            // Not by one link to all of it: Vite's development server hands out what is in the folder.
            let linked = bring(&from, &modules.join(to), |from, to| fs::hard_link(from, to));
            linked.map_err(|error| {
                let from = from.display();
                io::Error::other(format!(
                    "{from}: {error}; `cargo xtask test --suite npm` installs it"
                ))
            })?;
        }
        copy(
            &examples().join("package.json"),
            &folder.join("package.json"),
        )?;
        Ok(Self { folder })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts another text in the place of one that is in this file.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn replace(&self, file: &str, text: &str, with: &str) -> io::Result<()> {
        let file = self.folder.join(file);
        let content = fs::read_to_string(&file)?;
        if !content.contains(text) {
            return Err(io::Error::other(format!("{}: no {text}", file.display())));
        }
        fs::write(file, content.replace(text, with))
    }

    /// Writes a file.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self, file: &str, content: &str) -> io::Result<()> {
        fs::write(self.folder.join(file), content)
    }

    /// Node, with this script of the folder or of an installed package.
    pub fn node(&self, script: impl AsRef<Path>) -> Command {
        let mut node = Command::new("node");
        node.arg(self.folder.join(script)).current_dir(&self.folder);
        // Tools that find themselves in a CI write in colours all the same, and tests read what they write.
        node.env("NO_COLOR", "1").env_remove("FORCE_COLOR");
        node
    }

    /// A tool of the repository's own: `typescript/bin/tsc`, `esbuild/bin/esbuild`.
    ///
    /// # Errors
    ///
    /// If there is no target folder.
    pub fn tool(&self, script: &str) -> io::Result<Command> {
        Ok(self.node(target()?.join("tools/npm/node_modules").join(script)))
    }

    /// Runs Vite to its end.
    ///
    /// # Errors
    ///
    /// If it fails, with what it has said.
    pub fn vite(&self, arguments: &[&str]) -> io::Result<String> {
        said(self.node(VITE).args(arguments))
    }

    /// Vite's development server on a port that is free.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn develop(&self, port: u16) -> io::Result<Running> {
        let port = port.to_string();
        let mut vite = self.node(VITE);
        vite.args(["--port", &port, "--strictPort"]);
        let running = Running::start(&mut vite)?;
        running.until(|line| line.contains("Local:"))?;
        Ok(running)
    }
}

const VITE: &str = "node_modules/vite/bin/vite.js";

/// Makes the folders of `from` anew in `to`, and has each file brought there.
fn bring(from: &Path, to: &Path, file: fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            bring(&entry.path(), &to, file)?;
        } else if kind.is_file() {
            file(&entry.path(), &to)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to).map(drop)
}

/// Runs a program to its end, and gives what it has said.
///
/// # Errors
///
/// If it fails, with what it has said.
pub fn said(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(io::Error::other(format!(
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )))
}

/// A program that serves, until it is dropped.
pub struct Running {
    child: Child,
    lines: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Running {
    /// Starts it. What it says is kept.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let lines = Arc::default();
        // Until it ends: who writes to nobody fails.
        if let (Some(output), Some(errors)) = (output, errors) {
            listen(output, &lines);
            listen(errors, &lines);
        }
        Ok(Self { child, lines })
    }

    /// What it has said so far.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.lines.0).clone()
    }

    /// Waits for a line, and gives it.
    ///
    /// # Errors
    ///
    /// If it does not come within a minute.
    pub fn until(&self, is_wanted: impl Fn(&str) -> bool) -> io::Result<String> {
        let (lines, more) = &*self.lines;
        let wanted = |lines: &[String]| lines.iter().find(|line| is_wanted(line)).cloned();
        let has_come =
            more.wait_timeout_while(lock(lines), PATIENCE, |lines| wanted(lines).is_none());
        let (lines, _) = has_come.unwrap_or_else(PoisonError::into_inner);
        wanted(&lines).ok_or_else(|| io::Error::other(format!("it only said {lines:#?}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listen(from: impl Read + Send + 'static, to: &Arc<(Mutex<Vec<String>>, Condvar)>) {
    let to = Arc::clone(to);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            lock(&to.0).push(line);
            to.1.notify_all();
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The example server: notes behind Bulla, and pages beside them.
pub struct Notes {
    command: Command,
    running: Option<Running>,
    port: u16,
    keys: TempDir,
}

impl Notes {
    /// Starts the program `notes`, with the pages of a folder. Only tests know where Cargo puts the program.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub async fn with_pages(program: &str, pages: impl AsRef<Path>) -> Outcome<Self> {
        Self::start(program, |command| command.arg(pages.as_ref())).await
    }

    /// Starts the program alone.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub async fn alone(program: &str) -> Outcome<Self> {
        Self::start(program, |command| command).await
    }

    /// Starts the program, which browsers know by this origin.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub async fn known_as(program: &str, origin: &str) -> Outcome<Self> {
        Self::start(program, |command| command.env("ORIGIN", origin)).await
    }

    async fn start(
        program: &str,
        more: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Outcome<Self> {
        let keys = tempfile::tempdir()?;
        let port = free_port().await?;
        let mut command = Command::new(program);
        more(command.arg(port.to_string()).arg(keys.path()));
        let mut notes = Self {
            command,
            running: None,
            port,
            keys,
        };
        notes.resume()?;
        Ok(notes)
    }

    /// Where it serves.
    pub fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// The security events that it has told of since it was started last, in order: of refusals the code alone.
    pub fn events(&self) -> Vec<String> {
        let lines = self.running.as_ref().map(Running::lines);
        let events = lines
            .into_iter()
            .flatten()
            .filter(|line| *line != self.origin());
        let named = events.map(|event| {
            let code = event
                .split_once("code: ")
                .and_then(|(_, rest)| rest.split_once(','));
            code.map_or(event.clone(), |(code, _)| code.to_owned())
        });
        named.collect()
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Forgets all sessions, while it is stopped.
    ///
    /// # Errors
    ///
    /// If there is nothing to forget.
    pub fn forget(&self) -> io::Result<()> {
        fs::remove_file(self.keys.path().join("ring.json"))
    }

    /// Starts it again, over the files that are left.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn resume(&mut self) -> Outcome {
        let running = Running::start(&mut self.command)?;
        running.until(|line| line == self.origin())?;
        self.running = Some(running);
        Ok(())
    }
}

/// A port of this machine that nobody has now, nor has had in this process before.
///
/// # Errors
///
/// If there is none.
pub async fn free_port() -> io::Result<u16> {
    Ok(listener().await?.local_addr()?.port())
}

//! A bank in a process of its own, which is killed and started again over the files that are left.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::attack::Outcome;

/// A running process of the program `restarted`.
pub struct Process {
    program: &'static str,
    folder: TempDir,
    child: Child,
    port: u16,
}

impl Process {
    /// Starts it on a free port, with an empty folder. Only tests know where Cargo puts the program.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(program: &'static str) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let (child, port) = spawn(program, &folder, 0)?;
        Ok(Self {
            program,
            folder,
            child,
            port,
        })
    }

    /// Kills it at once, as a power cut would, and starts it again without the files named.
    ///
    /// # Errors
    ///
    /// If a file is not there, or the process does not start again.
    pub fn restart_without(&mut self, files: &[&str]) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        for file in files {
            fs::remove_file(self.folder.path().join(file))?;
        }
        (self.child, self.port) = spawn(self.program, &self.folder, self.port)?;
        Ok(())
    }

    /// Where it serves.
    pub fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &str, folder: &TempDir, port: u16) -> Outcome<(Child, u16)> {
    let mut child = Command::new(program)
        .arg(folder.path())
        .arg(port.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    match told_port(&mut child) {
        Ok(port) => Ok((child, port)),
        Err(error) => {
            // Dropping it would let it run on.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

fn told_port(child: &mut Child) -> Outcome<u16> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    Ok(line.trim().parse()?)
}

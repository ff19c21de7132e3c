//! The example programs, run as anybody would.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// A program that is killed when the test is over.
pub(crate) struct Program {
    child: Child,
    /// Where it serves.
    pub(crate) origin: String,
}

impl Program {
    /// Starts an example on a free port, and waits until it serves.
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .arg("0")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut origin = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut origin).unwrap();
        let origin = origin.trim().to_owned();
        Self { child, origin }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

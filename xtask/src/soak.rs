use std::path::Path;

use crate::project::{self, Project, say};
use crate::{Outcome, USAGE, setup, wasm};

/// What is passed on, each with a value.
const OPTIONS: [&str; 4] = ["--minutes", "--seed", "--clients", "--weakened"];

/// Runs the soak in release, and has it write its report into the target folder, and with `--report` into `docs`.
pub(crate) fn run(project: &mut Project, arguments: &[&str]) -> Outcome {
    let mut rest = arguments.to_vec();
    rest.retain(|given| *given != "--report");
    let is_report = rest.len() < arguments.len();
    let pairs = rest.chunks(2);
    if !pairs
        .into_iter()
        .all(|pair| pair.len() == 2 && OPTIONS.contains(&pair[0]))
    {
        return Err(USAGE.into());
    }
    // The package of the tests holds what this builds.
    wasm::build(project)?;
    setup::ensure(project, &[&setup::REDIS])?;
    if let Err(error) = setup::ensure(project, &[&setup::NETWORK]) {
        // It goes on without, and says so itself.
        say(&error.to_string());
    }
    let mut soak = project.cargo(&[
        "run",
        "--release",
        "--package",
        "bulla-tests",
        "--bin",
        "soak",
    ]);
    soak.arg("--").args(rest);
    soak.arg("--report").arg(project.target.join("soak"));
    if is_report {
        soak.arg("--report").arg(Path::new("docs"));
    }
    project::run(&mut soak)
}

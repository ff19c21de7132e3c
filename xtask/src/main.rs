//! The project's chores: `cargo xtask <command>`.

use std::env;
use std::process::{Command, ExitCode};
use std::time::Instant;

const USAGE: &str = "usage: cargo xtask test    every test that there is so far";

/// What `test` runs, in this order; the first that fails ends it. The browser suites of `bulla-tests`
/// are not among them yet: they need drivers that nothing installs so far.
const STEPS: [(&str, &str); 4] = [
    ("format", "fmt --all --check"),
    (
        "lints",
        "clippy --workspace --exclude bulla-tests --all-targets -- -D warnings",
    ),
    ("tests", "test --workspace --exclude bulla-tests"),
    (
        "documentation",
        "doc --workspace --exclude bulla-tests --no-deps",
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments != ["test"] {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    }
    for (name, arguments) in STEPS {
        let started = Instant::now();
        println!("== {name}: cargo {arguments}");
        let status = Command::new(env!("CARGO"))
            .args(arguments.split(' '))
            .env("RUSTDOCFLAGS", "-D warnings")
            .status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("== {name} failed");
            return ExitCode::FAILURE;
        }
        println!("== {name} passed in {} s", started.elapsed().as_secs());
    }
    ExitCode::SUCCESS
}

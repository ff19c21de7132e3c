use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::project::{self, Project, say};
use crate::setup;

/// What `cargo fuzz` passes too. Coverage is a stable part of the compiler; only the sanitizers,
/// which look for what safe Rust excludes, would need a nightly one.
const COVERAGE: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Fuzzes every target for a while, starting from the inputs in `fuzz/corpus/<target>`. What it
/// learns is kept in the target folder; an input that breaks something is kept there and named.
pub(crate) fn run(project: &mut Project, seconds: u32) -> Outcome {
    setup::ensure(project, &[&setup::RUST])?;
    let targets = project::stems("fuzz/fuzz_targets", "rs")?;
    if targets.is_empty() {
        return Err("there are no fuzz targets".into());
    }
    let folder = project.target.join("fuzz");
    // A target of its own keeps build scripts from being instrumented.
    let host = host(project)?;

    let mut build = project.cargo(&["build", "--release", "--locked", "--target", &host]);
    build
        .args(["--manifest-path", "fuzz/Cargo.toml", "--target-dir"])
        .arg(&folder);
    build.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    project::run(&mut build)?;

    let mut failed = Vec::new();
    for name in &targets {
        let corpus = folder.join("corpus").join(name);
        let artifacts = folder.join("artifacts").join(name);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;

        let mut target = project.command(folder.join(&host).join("release").join(name));
        target.arg(format!("-max_total_time={seconds}"));
        target.arg(format!("-artifact_prefix={}/", artifacts.display()));
        // No parser may need a second for one input, or more memory than its limits allow.
        target.args(["-timeout=5", "-rss_limit_mb=512", "-print_final_stats=1"]);
        // New inputs go to the first folder, the others are only read.
        target.arg(&corpus);
        let seeds = Path::new("fuzz/corpus").join(name);
        if seeds.is_dir() {
            target.arg(seeds);
        }
        if let Err(error) = project::run(&mut target) {
            say(&error.to_string());
            failed.push(name.as_str());
        }
    }

    if failed.is_empty() {
        say(&format!(
            "{} fuzz targets held for {seconds} s each",
            targets.len()
        ));
        return Ok(());
    }
    Err(format!("fuzzing broke: {}", failed.join(", ")).into())
}

/// The target that this machine is.
pub(crate) fn host(project: &Project) -> Outcome<String> {
    let version = project::ask(project.command("rustc").arg("-vV")).ok_or("rustc does not run")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc names no host")?.to_owned())
}

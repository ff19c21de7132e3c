//! The project's chores: `cargo xtask <command>`, from the repository's root.
//!
//! Each command sets up what it needs and is missing, says so, and is quick when run again.

mod apps;
mod attacks;
mod browsers;
mod demo;
mod fuzz;
mod gateway;
mod model;
mod node;
mod pack;
mod project;
mod recipe;
mod setup;
mod size;
mod soak;
mod suite;
mod supply;
mod wasm;

use std::env;
use std::error::Error;
use std::process::{Command, ExitCode};

use project::Project;
use suite::Suite;

const USAGE: &str = "\
usage: cargo xtask <command>

  demo [--port PORT]     the demo bank, on http://localhost:8080
  demo --gateway         Django's admin behind the gateway, likewise
  test [--suite NAME]    every test, or those of one suite: unit, fuzz, stores, faults, proxies, dpop, interop, lifecycle, browsers, npm, attacks, gateway
  bench [GROUP]...       the benchmarks: native, memory, e2e, gateway, browser, size, or all; or `browser [ENGINE]... [PART]...`
  pack                   the npm package, within its size budget, into target/package
  wasm                   the Wasm module and its scripts, into npm/dist
  fuzz [--seconds N]     every fuzz target for N seconds (default 60)
  model [NAME]...        the formal models of docs/model, by Verifpal, or those that are named
  attacks                the table of docs/attacks.md, from the tests that carry them out
  soak [--minutes N] [--seed N] [--clients N] [--weakened RULE] [--report]
                         mixed traffic with faults thrown in, for N minutes (default 5); with --report it writes docs/soak.md
  deny                   licences, sources and known vulnerabilities of all dependencies
  supply [STEP]...       before a release: deny, pack (made twice, the same), sbom, features, oldest (versions), msrv, semver

Each sets up what is missing. On Debian that is done by apt, as root or with sudo.";

/// What a chore gives, and why it failed, for people.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Outcome {
    let (command, rest) = arguments.split_first().ok_or(USAGE)?;
    let mut project = Project::open()?;
    match (*command, rest) {
        ("demo", rest) => demo(&mut project, rest),
        ("test", []) => suite::run(&mut project, &Suite::ALL),
        ("test", ["--suite", name]) => suite::run(&mut project, &[Suite::named(name)?]),
        ("bench", rest) => bench(&mut project, rest),
        ("pack", []) => pack::run(&mut project).map(drop),
        ("wasm", []) => wasm::build(&mut project).map(drop),
        ("fuzz", []) => fuzz::run(&mut project, 60),
        ("fuzz", ["--seconds", seconds]) => fuzz::run(&mut project, seconds.parse()?),
        ("model", names) => model::run(&mut project, names),
        ("attacks", []) => attacks::write(&mut project),
        ("soak", rest) => soak::run(&mut project, rest),
        ("deny", []) => supply::run(&mut project, &["deny"]),
        ("supply", names) => supply::run(&mut project, names),
        _ => Err(USAGE.into()),
    }
}

/// `--gateway` and `--port PORT`, in any order; what the bank takes else is its own to say.
fn demo(project: &mut Project, arguments: &[&str]) -> Outcome {
    let mut rest = arguments.to_vec();
    rest.retain(|given| *given != "--gateway");
    match rest[..] {
        _ if rest.len() == arguments.len() => demo::bank(project, arguments),
        [] => demo::gateway(project, "8080"),
        ["--port", port] => demo::gateway(project, port),
        _ => Err(USAGE.into()),
    }
}

/// Cargo for the benchmarks: a workspace of their own, built into the same folder.
fn benches(project: &Project, command: &[&str]) -> Command {
    let mut cargo = project.cargo(command);
    cargo
        .args([
            "--locked",
            "--manifest-path",
            "benches/Cargo.toml",
            "--target-dir",
        ])
        .arg(&project.target);
    cargo
}

fn bench(project: &mut Project, arguments: &[&str]) -> Outcome {
    const GROUPS: [&str; 6] = ["native", "memory", "e2e", "gateway", "browser", "size"];
    let is_known = |argument: &&str| GROUPS.contains(argument);
    // The benchmarks themselves know what may follow these.
    let is_closer = matches!(arguments, ["profile" | "browser", ..]);
    if !arguments.iter().all(is_known) && !is_closer {
        return Err(USAGE.into());
    }
    let (node, _) = wasm::build(project)?;
    let is_browsers = |argument: &&str| argument.starts_with("browser");
    if arguments.is_empty() || arguments.iter().any(is_browsers) {
        browsers::set_up(project)?;
    }
    if arguments.is_empty()
        || arguments
            .iter()
            .any(|group| ["native", "memory", "profile"].contains(group))
    {
        setup::ensure(project, &[&setup::REDIS])?;
    }
    if arguments.is_empty() || arguments.contains(&"gateway") {
        setup::ensure(project, &[&setup::LOAD])?;
    }
    // The peers among them.
    node.install_clients(project)?;
    let mut bench = benches(project, &["run", "--release"]);
    project::run(bench.arg("--").args(arguments))
}

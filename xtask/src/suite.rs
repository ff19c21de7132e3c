use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::node::Node;
use crate::project::{self, Project, say, since};
use crate::setup::Need;
use crate::{Outcome, apps, benches, browsers, fuzz, pack, setup, wasm};

/// How long each fuzz target runs within the tests, in seconds.
const FUZZ: u32 = 5;

/// A part of the tests.
///
/// A test program in `tests/tests` belongs to a suite by its name: `attack_*` to the attacks,
/// `browser_*` and `engines` to the browsers, `stores*` and `nodes` to the stores, `faults_*` to the faults,
/// `lifecycle_*` to the lifecycle, `gateway_*` to the gateway, `proxies` to the proxies, `dpop_*` to DPoP, `interop_*`
/// to what others have written of what the protocol stands on, `npm_*` to the npm package as it is packed, any other to
/// the unit tests. So do all tests outside of `tests`, but for the programs of the gateway. The first two need
/// browsers, the next three Redis, DPoP Node, interop Node and Python, the browsers and the npm package both Node and
/// browsers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    Unit,
    Fuzz,
    Stores,
    Faults,
    Proxies,
    Dpop,
    Interop,
    Lifecycle,
    Browsers,
    Npm,
    Attacks,
    Gateway,
}

impl Suite {
    pub(crate) const ALL: [Self; 12] = [
        Self::Unit,
        Self::Fuzz,
        Self::Stores,
        Self::Faults,
        Self::Proxies,
        Self::Dpop,
        Self::Interop,
        Self::Lifecycle,
        Self::Browsers,
        Self::Npm,
        Self::Attacks,
        Self::Gateway,
    ];

    pub(crate) fn named(name: &str) -> Outcome<Self> {
        let suite = Self::ALL.into_iter().find(|suite| suite.name() == name);
        suite.ok_or_else(|| format!("there is no suite `{name}`").into())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Fuzz => "fuzz",
            Self::Stores => "stores",
            Self::Faults => "faults",
            Self::Proxies => "proxies",
            Self::Dpop => "dpop",
            Self::Interop => "interop",
            Self::Lifecycle => "lifecycle",
            Self::Browsers => "browsers",
            Self::Npm => "npm",
            Self::Attacks => "attacks",
            Self::Gateway => "gateway",
        }
    }

    /// The suite that a program in `tests/tests` belongs to.
    fn of(program: &str) -> Self {
        if program.starts_with("attack_") {
            Self::Attacks
        } else if program.starts_with("browser_") || program == "engines" {
            Self::Browsers
        } else if program.starts_with("gateway_") {
            Self::Gateway
        } else if program.starts_with("npm_") {
            Self::Npm
        } else if program.starts_with("stores") || program == "nodes" {
            Self::Stores
        } else if program == "proxies" {
            Self::Proxies
        } else if program.starts_with("faults_") {
            Self::Faults
        } else if program.starts_with("dpop_") {
            Self::Dpop
        } else if program.starts_with("interop_") {
            Self::Interop
        } else if program.starts_with("lifecycle_") {
            Self::Lifecycle
        } else {
            Self::Unit
        }
    }

    /// Runs it to its end, whatever fails on the way, and gives what failed.
    fn run(self, project: &mut Project) -> Vec<String> {
        let steps = match self {
            Self::Unit => unit(project),
            Self::Fuzz => {
                return fuzz::run(project, FUZZ)
                    .err()
                    .iter()
                    .map(ToString::to_string)
                    .collect();
            }
            Self::Stores | Self::Faults | Self::Lifecycle => self.with(project, &setup::REDIS),
            Self::Proxies => self.with(project, &setup::PROXIES),
            Self::Dpop => self.with_clients(project),
            Self::Interop => self.with_others(project),
            Self::Browsers => self.with_issuer(project),
            Self::Attacks => self.in_browsers(project),
            Self::Npm => self.as_packed(project),
            Self::Gateway => self.with_applications(project),
        };
        let steps = match steps {
            Ok(steps) => steps,
            Err(error) => return vec![error.to_string()],
        };
        let run = |mut step| project::run(&mut step).err();
        let failures = steps.into_iter().filter_map(run);
        failures.map(|error| error.to_string()).collect()
    }

    fn in_browsers(self, project: &Project) -> Outcome<Vec<Command>> {
        if let Err(error) = browsers::set_up(project) {
            // Elsewhere than on Debian some may be there: the tests of the others fail by name.
            say(&error.to_string());
        }
        if self == Self::Browsers {
            wasm::build_vectors(project)?;
        }
        let programs = self.programs()?;
        if programs.is_empty() {
            return Err(format!("no test program belongs to the suite `{}`", self.name()).into());
        }
        Ok(vec![of_programs(project, &programs)])
    }

    fn with(self, project: &Project, needs: &[Need]) -> Outcome<Vec<Command>> {
        setup::ensure(project, &[&setup::RUST, needs])?;
        Ok(vec![of_programs(project, &self.programs()?)])
    }

    fn with_clients(self, project: &mut Project) -> Outcome<Vec<Command>> {
        Node::set_up(project)?.install_clients(project)?;
        Ok(vec![of_programs(project, &self.programs()?)])
    }

    fn with_others(self, project: &mut Project) -> Outcome<Vec<Command>> {
        Node::set_up(project)?.install_standards(project)?;
        apps::install_python_client(project)?;
        apps::install_python_standards(project)?;
        Ok(vec![of_programs(project, &self.programs()?)])
    }

    fn with_issuer(self, project: &mut Project) -> Outcome<Vec<Command>> {
        Node::set_up(project)?.install_issuer(project)?;
        self.in_browsers(project)
    }

    fn with_applications(self, project: &mut Project) -> Outcome<Vec<Command>> {
        let node = Node::set_up(project)?;
        apps::install(project, &node)?;
        setup::ensure(project, &[&setup::PROXIES])?;
        self.in_browsers(project)
    }

    fn as_packed(self, project: &mut Project) -> Outcome<Vec<Command>> {
        pack::install(project)?.install_examples(project)?;
        self.in_browsers(project)
    }

    fn programs(self) -> Outcome<Vec<String>> {
        let mut programs = project::stems("tests/tests", "rs")?;
        programs.retain(|name| Self::of(name) == self);
        let others: &[&str] = match self {
            Self::Unit => &[
                "crates/client",
                "crates/keys",
                "crates/protocol",
                "crates/server",
                "crates/web",
                "examples",
                "vectors",
                "www",
                "xtask",
            ],
            Self::Gateway => &["crates/gateway"],
            _ => &[],
        };
        for package in others {
            programs.extend(test_programs(package)?);
        }
        Ok(programs)
    }
}

/// Runs `suites` one after another and sums them up.
///
/// # Errors
///
/// If anything failed.
pub(crate) fn run(project: &mut Project, suites: &[Suite]) -> Outcome {
    // The demo and the browser tests embed what this builds.
    let start = Instant::now();
    wasm::build(project)?;
    let mut summary = vec![format!("{:<10} {:>6}   built", "wasm", since(start))];

    let mut good = true;
    for suite in suites {
        let start = Instant::now();
        say(&format!("suite {}", suite.name()));
        let failures = suite.run(project);
        let result = if failures.is_empty() {
            "passed"
        } else {
            "FAILED"
        };
        summary.push(format!(
            "{:<10} {:>6}   {result}",
            suite.name(),
            since(start)
        ));
        summary.extend(failures.iter().map(|failure| format!("{:20}{failure}", "")));
        good &= failures.is_empty();
    }

    println!();
    for line in summary {
        println!("{line}");
    }
    if suites.contains(&Suite::Unit) && !deny_installed(project) {
        println!("Not checked: licences and sources of dependencies. `cargo xtask deny` does it.");
    }
    if good {
        Ok(())
    } else {
        Err("tests failed".into())
    }
}

fn unit(project: &Project) -> Outcome<Vec<Command>> {
    const WEB: [&str; 4] = [
        "--package",
        "bulla-web",
        "--target",
        "wasm32-unknown-unknown",
    ];
    const PURE: [&str; 5] = [
        "--package",
        "bulla-keys",
        "--no-default-features",
        "--features",
        "rustcrypto",
    ];

    let warnings = warnings(project.cargo(&["--version"]))?;
    let mut steps = vec![
        project.cargo(&["fmt", "--all", "--check"]),
        project.cargo(&["clippy", "--workspace", "--all-targets", "--", warnings]),
    ];
    let mut web = project.cargo(&["clippy"]);
    web.args(WEB).args(["--", warnings]);
    steps.push(web);

    let mut linted = benches(project, &["clippy", "--all-targets"]);
    linted.args(["--", warnings]);
    steps.push(linted);
    steps.push(benches(project, &["test"]));

    let mut all = of_programs(project, &Suite::Unit.programs()?);
    all.args(["--lib", "--bins"]);
    steps.push(all);
    steps.push(whole(project, &["--doc"]));

    // The keys were tested with both backends, so that each reads the other; now with the pure one alone.
    let mut pure = project.cargo(&["clippy"]);
    pure.args(PURE).args(["--all-targets", "--", warnings]);
    steps.push(pure);
    let mut mounted = project.cargo(&["clippy", "--no-default-features"]);
    mounted
        .args(["--package", "bulla-server", "--package", "bulla-client"])
        .args([
            "--features",
            "bulla-server/rustcrypto,bulla-client/rustcrypto",
        ])
        .args(["--", warnings]);
    steps.push(mounted);
    let mut edge = project.cargo(&["check", "--target", "wasm32-unknown-unknown"]);
    edge.args(PURE);
    steps.push(edge);

    let mut doc = project.cargo(&["doc", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", warnings);
    steps.push(doc);

    if deny_installed(project) {
        // Known vulnerabilities are left out: their list is not in any package registry.
        steps.push(project.cargo(&["deny", "check", "bans", "licenses", "sources"]));
    }
    Ok(steps)
}

/// What is done about warnings: they are errors to the toolchain that the workspace names. A later one
/// warns of more, which is no fault of what is tested.
fn warnings(mut cargo_version: Command) -> Outcome<&'static str> {
    let version = project::ask(&mut cargo_version).ok_or("cargo does not tell its version")?;
    Ok(if is_ours(&version) {
        "-Dwarnings"
    } else {
        say(&format!(
            "{version}: its warnings are shown, and are no errors"
        ));
        "-Wwarnings"
    })
}

/// Whether this is the version of the workspace's `rust-version`, as cargo tells it.
pub(crate) fn is_ours(version: &str) -> bool {
    let number = version.split(' ').nth(1);
    let rest = number.and_then(|number| number.strip_prefix(env!("CARGO_PKG_RUST_VERSION")));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn of_programs(project: &Project, programs: &[String]) -> Command {
    let mut test = whole(project, &[]);
    for program in programs {
        test.args(["--test", program]);
    }
    test
}

/// Tests of the workspace. All packages are always chosen, whatever is tested of them: of others, all that they stand on would be
/// compiled once more with other features.
fn whole(project: &Project, what: &[&str]) -> Command {
    // It has no tests, and takes minutes to compile for them.
    const BUT: [&str; 2] = ["--exclude", "xtask-bindgen"];
    let mut test = project.cargo(&["test", "--workspace", "--no-fail-fast"]);
    test.args(BUT).args(what);
    test
}

/// The test programs of a package: files, and folders with a `main.rs`.
fn test_programs(package: &str) -> Outcome<Vec<String>> {
    let folder = Path::new(package).join("tests");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut programs = project::stems(&folder, "rs")?;
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.path().join("main.rs").is_file() {
            programs.extend(entry.file_name().into_string().ok());
        }
    }
    Ok(programs)
}

pub(crate) fn deny_installed(project: &Project) -> bool {
    project.find("cargo-deny").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_toolchain_that_is_named_makes_warnings_errors() {
        let ours = env!("CARGO_PKG_RUST_VERSION");
        assert!(is_ours(&format!("cargo {ours}.0 (f2d3ce0bd 2026-03-21)")));
        for other in [
            format!("cargo {ours}9.0"),
            "cargo 1.2.3".to_owned(),
            String::new(),
        ] {
            assert!(!is_ours(&other), "{other}");
        }
    }

    /// Else `--test` would choose more than is meant.
    #[test]
    fn every_test_program_belongs_to_one_suite_and_has_a_name_of_its_own() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        std::env::set_current_dir(root).unwrap();
        let chosen = Suite::ALL.map(|suite| suite.programs().unwrap()).concat();
        let mut all = Vec::new();
        let crates = fs::read_dir("crates").unwrap();
        let crates = crates.map(|entry| entry.unwrap().path().display().to_string());
        let others = [
            "tests",
            "examples",
            "vectors",
            "www",
            "xtask",
            "xtask/bindgen",
        ];
        for package in crates.chain(others.map(str::to_owned)) {
            all.extend(test_programs(&package).unwrap());
        }
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        let (chosen, all) = (sorted(chosen), sorted(all));
        assert_eq!(chosen, all);
        let mut once = all.clone();
        once.dedup();
        assert_eq!(once, all);
    }

    #[test]
    fn test_programs_belong_to_suites_by_name() {
        assert!(Suite::of("attack_theft") == Suite::Attacks);
        assert!(Suite::of("browser_session") == Suite::Browsers);
        assert!(Suite::of("engines") == Suite::Browsers);
        assert!(Suite::of("npm_examples") == Suite::Npm);
        assert!(Suite::of("gateway_concealed") == Suite::Gateway);
        assert!(Suite::of("dpop_cases") == Suite::Dpop);
        assert!(Suite::of("interop_python") == Suite::Interop);
        assert!(Suite::of("stores_registry") == Suite::Stores);
        assert!(Suite::of("lifecycle_end") == Suite::Lifecycle);
        assert!(Suite::of("restart") == Suite::Unit);
    }
}

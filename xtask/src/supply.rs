//! What we are handed by others, and what we hand out: checked before a release.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Instant;

use serde::Deserialize;

use crate::node::Node;
use crate::project::{self, Project, ask, cargo_home, say, since};
use crate::{Outcome, fuzz, pack, suite, wasm};

/// Whether something could be looked at. What is wrong with it is an error.
enum Checked {
    Yes,
    /// What was not, and why.
    Not(String),
}

type Step = (&'static str, fn(&mut Project) -> Outcome<Checked>);

const STEPS: [Step; 7] = [
    ("deny", deny),
    ("pack", pack_twice),
    ("sbom", bills),
    ("features", features),
    ("oldest", oldest_versions),
    ("msrv", oldest_rust),
    ("semver", semver),
];

/// Takes the steps of these names, or all, and sums them up.
///
/// # Errors
///
/// If something is wrong. What could not be checked is named, and no error: no other machine may be to be had.
pub(crate) fn run(project: &mut Project, names: &[&str]) -> Outcome {
    let known = |name: &&&str| STEPS.iter().any(|(step, _)| step == *name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all = STEPS.map(|(name, _)| name).join(", ");
        return Err(format!("there is no step `{unknown}`, but {all}").into());
    }
    let mut summary = Vec::new();
    let mut good = true;
    for (name, step) in STEPS {
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        let start = Instant::now();
        say(&format!("step {name}"));
        let result = match step(project) {
            Ok(Checked::Yes) => "passed".to_owned(),
            Ok(Checked::Not(what)) => format!("NOT CHECKED: {what}"),
            Err(error) => {
                good = false;
                format!("FAILED: {error}")
            }
        };
        summary.push(format!("{name:<10} {:>6}   {result}", since(start)));
    }
    println!();
    for line in summary {
        println!("{line}");
    }
    if good {
        Ok(())
    } else {
        Err("something is wrong with what is handed out".into())
    }
}

/// Licences, sources and known vulnerabilities of all dependencies, by `deny.toml`; the last once more by cargo-audit.
fn deny(project: &mut Project) -> Outcome<Checked> {
    if !suite::deny_installed(project) {
        say("missing: cargo-deny; compiling it takes about 4 minutes");
        project::run(&mut project.cargo(&["install", "cargo-deny", "--locked"]))?;
    }
    project::run(&mut project.cargo(&["deny", "check", "bans", "licenses", "sources"]))?;

    // The one thing that is in no package registry.
    let list = project.cargo(&["deny", "fetch", "db"]).output()?;
    if !list.status.success() {
        return Ok(Checked::Not(format!(
            "known vulnerabilities, since RustSec's list of them cannot be fetched: {}",
            last_line(&list)
        )));
    }
    project::run(&mut project.cargo(&["deny", "check", "advisories"]))?;
    let audit = tool(project, "cargo-audit", "0.22.2")?;
    project::run(project.command(audit).arg("audit"))?;
    Ok(Checked::Yes)
}

/// The npm package comes out the same, bit for bit, in another folder, and does not say where it was made.
fn pack_twice(project: &mut Project) -> Outcome<Checked> {
    let (_, ours) = pack::run(project)?;
    let (copy, built) = copy(project, "source")?;
    let mut again = project.cargo(&["run", "--config", wasm::LINKER]);
    again.args(["--package", "xtask", "--profile", "xtask", "--", "pack"]);
    project::run(again.current_dir(&copy).env("CARGO_TARGET_DIR", &built))?;

    let theirs = built
        .join("package")
        .join(ours.file_name().ok_or("no file")?);
    let [ours_files, theirs_files] = [&ours, &theirs].map(|file| file.with_file_name("files"));
    let mut differ = Vec::new();
    let mut tell = Vec::new();
    let places = [Some(env::current_dir()?), Some(copy), cargo_home()];
    for file in files_below(&ours_files)? {
        let content = fs::read(ours_files.join(&file))?;
        if fs::read(theirs_files.join(&file)).ok().as_ref() != Some(&content) {
            differ.push(file.display().to_string());
        }
        for place in places.iter().flatten() {
            let place = place.to_string_lossy();
            let mut windows = content.windows(place.len());
            if windows.any(|window| window == place.as_bytes()) {
                tell.push(format!("{} names {place}", file.display()));
            }
        }
    }
    if !tell.is_empty() {
        return Err(tell.join(", ").into());
    }
    if fs::read(&ours)? != fs::read(&theirs)? {
        return Err(format!(
            "{} and {} differ: {}",
            ours.display(),
            theirs.display(),
            differ.join(", ")
        )
        .into());
    }
    say(&format!(
        "twice the same: {}",
        wasm::integrity(project, &ours)?
    ));
    Ok(Checked::Yes)
}

/// Bills of materials, into `target/sbom`: of each crate that is published, with all that any of its features and targets
/// has it stand on; of the gateway as a program, on this machine; of the npm package.
fn bills(project: &mut Project) -> Outcome<Checked> {
    let cyclonedx = tool(project, "cargo-cyclonedx", "0.5.9")?;
    let node = Node::set_up(project)?;
    let tools = node.install_sbom(project)?;
    let (copy, _) = copy(project, "source")?;
    let folder = project.target.join("sbom");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;

    // The same each time.
    let date = ask(project.command("git").args(["log", "-1", "--format=%ct"]));
    let write = |target: &str, options: &[&str]| {
        let mut write = project.command(&cyclonedx);
        write.args(["cyclonedx", "--quiet", "--format", "json"]);
        write.args(["--spec-version", "1.5", "--no-build-deps"]);
        write.args(["--override-filename", "bill", "--target", target]);
        write.args(options).arg("--manifest-path");
        write.arg(copy.join("Cargo.toml"));
        write.env("SOURCE_DATE_EPOCH", date.as_deref().unwrap_or("0"));
        project::run(&mut write)
    };
    let keep = |of: &Path, name: &str| {
        let bill = copy.join(of).join("bill.json");
        fs::copy(bill, folder.join(format!("{name}.cdx.json")))
    };
    write("all", &["--all-features"])?;
    for it in published()? {
        keep(&it.folder, &it.name)?;
    }
    write(&fuzz::host(project)?, &[])?;
    keep(Path::new("crates/gateway"), "bulla-gateway.program")?;
    write(wasm::TARGET, &[])?;
    keep(Path::new("crates/web"), "npm")?;

    // Node looks for packages where a script lies.
    let script = tools.join("sbom.mjs");
    fs::copy("xtask/sbom/sbom.mjs", &script)?;
    let mut check = project.command("node");
    check.arg(script).arg(&copy).arg(&folder);
    project::run(check.arg(&project.recipe.package.folder))?;
    Ok(Checked::Yes)
}

/// Features of which each crate wants one, if it has them.
const BACKENDS: [&str; 2] = ["aws-lc", "rustcrypto"];

/// Each feature of each published crate alone, beside each backend; none, and all. Without a warning.
fn features(project: &mut Project) -> Outcome<Checked> {
    wasm::build(project)?;
    for it in published()? {
        let has_backend = it.features.contains_key(BACKENDS[0]);
        let check = |features: &[&str]| {
            let mut check = project.cargo(&["check", "--package", &it.name]);
            check.args(["--lib", "--bins"]).args(features);
            let output = check.output()?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok::<_, std::io::Error>((output.status.success(), said))
        };
        let only = |features: String| {
            let only = ["--no-default-features", "--features", &features];
            only.map(str::to_owned).to_vec()
        };
        let mut sets = vec![vec![], vec!["--all-features".to_owned()]];
        let others = it.features.keys().map(String::as_str);
        let others = others.filter(|name| *name != "default" && !BACKENDS.contains(name));
        if has_backend {
            for backend in BACKENDS {
                sets.push(only(backend.to_owned()));
                let both = others.clone().map(|name| only(format!("{backend},{name}")));
                sets.extend(both);
            }
            let (passed, said) = check(&["--no-default-features"])?;
            if passed || !said.contains("needs a backend") {
                return Err(format!("{} without a backend: {said}", it.name).into());
            }
        } else if !it.features.is_empty() {
            sets.push(vec!["--no-default-features".to_owned()]);
            sets.extend(others.map(|name| only(name.to_owned())));
        }
        for set in sets {
            let set: Vec<_> = set.iter().map(String::as_str).collect();
            let what = format!("{} {}", it.name, set.join(" "));
            say(&what);
            let (passed, said) = check(&set)?;
            if !passed || said.contains("warning: ") {
                return Err(format!("{what}: {said}").into());
            }
        }
    }
    Ok(Checked::Yes)
}

/// The published crates with the oldest version of each crate that they name.
fn oldest_versions(project: &mut Project) -> Outcome<Checked> {
    // The gateway embeds what is built.
    wasm::build(project)?;
    let (copy, built) = copy(project, "oldest")?;
    let dist = Path::new("crates/gateway/dist");
    fs::create_dir_all(copy.join(dist))?;
    for file in files_below(dist)? {
        fs::copy(dist.join(&file), copy.join(dist).join(&file))?;
    }
    // Of what is not published nobody picks the versions but the lock file.
    let manifest = copy.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    let lines = text.lines().map(|line| match line {
        line if line.starts_with("members = ") => "members = [\"crates/*\"]",
        line => line,
    });
    fs::write(manifest, lines.collect::<Vec<_>>().join("\n"))?;

    let mut pick = project.cargo(&["update", "-Z", "direct-minimal-versions"]);
    // It picks versions, and compiles nothing.
    pick.env("RUSTC_BOOTSTRAP", "1");
    project::run(pick.current_dir(&copy))?;
    let mut check = project.cargo(&["check", "--workspace", "--all-features"]);
    check
        .args(["--lib", "--bins"])
        .env("CARGO_TARGET_DIR", built);
    project::run(check.current_dir(&copy))?;
    Ok(Checked::Yes)
}

/// The published crates by the oldest Rust that they say they need.
fn oldest_rust(project: &mut Project) -> Outcome<Checked> {
    wasm::build(project)?;
    let version = format!("{}.0", env!("CARGO_PKG_RUST_VERSION"));
    let mut cargo = project.cargo(&["--version"]);
    let is_here = ask(&mut cargo).is_some_and(|told| suite::is_ours(&told));
    let mut check = if is_here {
        project.cargo(&["check"])
    } else {
        let mut install = project.command("rustup");
        install.args(["toolchain", "install", &version, "--profile", "minimal"]);
        if let Err(error) = project::run(&mut install) {
            return Ok(Checked::Not(format!("Rust {version}, since {error}")));
        }
        let mut check = project.command("rustup");
        check.args(["run", &version, "cargo", "check"]);
        check
    };
    for it in published()? {
        check.args(["--package", &it.name]);
    }
    project::run(check.args(["--all-features", "--lib", "--bins"]))?;
    Ok(Checked::Yes)
}

/// That nobody's build breaks by a version that says it breaks none.
fn semver(project: &mut Project) -> Outcome<Checked> {
    const TOOL: &str = "cargo-semver-checks";
    let mut git = project.command("git");
    let Some(tag) = ask(git.args(["describe", "--tags", "--abbrev=0"])) else {
        return Ok(Checked::Not(
            "there is no earlier version: no tag in git".to_owned(),
        ));
    };
    // Compiling it takes longer than all else here.
    if project.find(TOOL).is_none() {
        return Ok(Checked::Not(format!(
            "what has changed since {tag}: `cargo install {TOOL} --locked`, which takes a quarter of an hour"
        )));
    }
    let mut check = project.cargo(&["semver-checks", "--baseline-rev", &tag]);
    for it in published()? {
        check.args(["--package", &it.name]);
    }
    project::run(&mut check)?;
    Ok(Checked::Yes)
}

/// A crate that others get.
struct Crate {
    name: String,
    folder: PathBuf,
    features: BTreeMap<String, Vec<String>>,
}

fn published() -> Outcome<Vec<Crate>> {
    #[derive(Deserialize)]
    struct Manifest {
        package: Package,
        #[serde(default)]
        features: BTreeMap<String, Vec<String>>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        publish: Option<bool>,
    }
    let mut crates = Vec::new();
    for entry in fs::read_dir("crates")? {
        let folder = entry?.path();
        let text = fs::read_to_string(folder.join("Cargo.toml"))?;
        let Manifest { package, features } = toml::from_str(&text)?;
        if package.publish != Some(false) {
            crates.push(Crate {
                name: package.name,
                folder,
                features,
            });
        }
    }
    crates.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(crates)
}

/// What git knows of, in a folder of this name, and one in it for what is built of that, which stays.
fn copy(project: &Project, name: &str) -> Outcome<(PathBuf, PathBuf)> {
    const BUILT: &str = "built";
    let folder = project.target.join("supply").join(name);
    fs::create_dir_all(folder.join(BUILT))?;
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        } else if entry.file_name() != BUILT {
            fs::remove_dir_all(entry.path())?;
        }
    }
    let mut git = project.command("git");
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let files = ask(&mut git).ok_or("git does not tell its files")?;
    // What is deleted and not committed is none.
    for file in files.split('\0').filter(|file| Path::new(file).is_file()) {
        let target = folder.join(file);
        fs::create_dir_all(target.parent().ok_or("no folder")?)?;
        fs::copy(file, target)?;
    }
    let built = folder.join(BUILT);
    Ok((folder, built))
}

/// The files in a folder and those in it, by their paths from there.
fn files_below(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        if entry.file_type()?.is_dir() {
            let below = files_below(&entry.path())?;
            files.extend(below.iter().map(|file| name.join(file)));
        } else {
            files.push(name);
        }
    }
    files.sort();
    Ok(files)
}

/// A crate's program, of exactly this version, in the target folder.
fn tool(project: &Project, name: &str, version: &str) -> Outcome<PathBuf> {
    let root = project.tools().join(name);
    let program = root.join("bin").join(name);
    // `cargo install` says so last.
    let stamp = root.join("version");
    if program.is_file() && fs::read_to_string(&stamp).is_ok_and(|found| found == version) {
        return Ok(program);
    }
    say(&format!("missing: {name} {version}; it is compiled here"));
    let mut install = project.cargo(&["install", name, "--version", version, "--force"]);
    install.args(["--locked", "--debug", "--root"]).arg(&root);
    project::run(&mut install)?;
    fs::write(stamp, version)?;
    Ok(program)
}

fn last_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    said.trim().lines().last().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step that is left out of the docs is one that nobody takes.
    #[test]
    fn every_step_stands_in_the_docs() {
        let page = include_str!("../../CONTRIBUTING.md");
        for (name, _) in STEPS {
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}

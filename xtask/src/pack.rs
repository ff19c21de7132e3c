use std::fs;
use std::path::{Path, PathBuf};

use crate::node::Node;
use crate::project::{self, Project, say};
use crate::{Outcome, wasm};

/// Packs the npm package, checks the result as its users will meet it, and gives its file.
pub(crate) fn run(project: &mut Project) -> Outcome<(Node, PathBuf)> {
    let (node, sizes) = wasm::build(project)?;
    if let Some(beyond) = sizes.beyond(&project.recipe.budget) {
        return Err(format!("over the budget of wasm-pack.toml: {beyond}").into());
    }

    // npm packs one folder, and the licences lie outside of the package's own.
    let folder = project.target.join("package");
    let staged = folder.join("files");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    copy(&project.recipe.package.folder, &staged)?;
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(licence, staged.join(licence))?;
    }

    let mut pack = node.npm(
        project,
        &["pack", "--ignore-scripts", "--pack-destination", ".."],
    );
    project::run(pack.current_dir(&staged))?;
    let tarballs = project::files(&folder, "tgz")?;
    let tarball = tarballs.first().ok_or("npm packed nothing")?;

    project::run(
        node.tool(project, "publint")
            .args(["run", "--strict"])
            .arg(tarball),
    )?;
    // The package is for `import` alone.
    let mut types = node.tool(project, "attw");
    project::run(types.args(["--profile", "esm-only", "--"]).arg(tarball))?;

    say(&format!("packed {}", tarball.display()));
    let tarball = tarball.clone();
    Ok((node, tarball))
}

/// Packs the package and installs it beside the tarball, as any application would.
pub(crate) fn install(project: &mut Project) -> Outcome<Node> {
    let (node, tarball) = run(project)?;
    let folder = tarball.with_file_name("installed");
    fs::create_dir(&folder)?;
    let mut install = node.npm(
        project,
        &["install", "--no-audit", "--no-fund", "--no-package-lock"],
    );
    project::run(install.arg("--prefix").arg(&folder).arg(&tarball))?;
    Ok(node)
}

fn copy(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

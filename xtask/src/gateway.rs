//! What the gateway hands to browsers, for its crate to embed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::node::Node;
use crate::project::{self, Project};

const SOURCES: &str = "crates/gateway/page";
const DIST: &str = "crates/gateway/dist";

const WASM: &str = "bulla_web_bg.wasm";

/// What is made here, and out of what.
pub(crate) fn files() -> Outcome<Vec<PathBuf>> {
    let mut files = project::files(SOURCES, "js")?;
    files.extend(project::files(DIST, "js").unwrap_or_default());
    Ok(files)
}

/// Makes each of the gateway's scripts one classic or module file, and puts them beside the npm package's Wasm module, to
/// which `pin` holds the service worker.
pub(crate) fn make(project: &Project, node: &Node, package: &Path, pin: &str) -> Outcome {
    fs::create_dir_all(DIST)?;
    fs::copy(package.join(WASM), Path::new(DIST).join(WASM))?;
    for (script, format) in [("loader.js", "--format=iife"), ("sw.js", "--format=esm")] {
        let mut join = node.tool(project, "esbuild");
        join.arg(format!("{SOURCES}/{script}"))
            .args(["--bundle", "--minify", format, "--target=es2022", pin])
            .args(["--mangle-props=^__(wbg_ptr|destroy_into_raw|wrap)$"])
            .args(["--define:Symbol.dispose=undefined", "--log-level=warning"])
            .arg(format!("--outdir={DIST}"));
        project::run(&mut join)?;
    }
    Ok(())
}

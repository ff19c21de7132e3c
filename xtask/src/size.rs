use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::project::{Project, ask, say};
use crate::recipe::{Budget, Package};

/// What a browser receives of the npm package, in bytes.
pub(crate) struct Sizes {
    wasm_brotli: u64,
    glue_gzip: u64,
}

impl Sizes {
    /// Measures the built package, and leaves the result for the benchmarks in
    /// `<target>/wasm/sizes.json`.
    pub(crate) fn measure(project: &Project, module: &Path) -> Outcome<Self> {
        let glue = scripts(&project.recipe.package)?;
        let sizes = Self {
            wasm_brotli: compressed(project, "brotliCompressSync", &[module.to_owned()])?,
            glue_gzip: compressed(project, "gzipSync", &glue)?,
        };

        let Self {
            wasm_brotli,
            glue_gzip,
        } = sizes;
        let json = format!(
            "{{\n  \"size/wasm-brotli\": {wasm_brotli},\n  \"size/glue-gzip\": {glue_gzip}\n}}\n"
        );
        fs::write(project.target.join("wasm/sizes.json"), json)?;
        Ok(sizes)
    }

    /// Prints the sizes, and gives the one that is beyond the budget, if any.
    pub(crate) fn compare(&self, budget: &Budget) -> Option<String> {
        let rows = [
            ("wasm, brotli", self.wasm_brotli, budget.wasm_brotli),
            ("glue, gzip", self.glue_gzip, budget.glue_gzip),
        ];
        let mut beyond = Vec::new();
        for (what, size, most) in rows {
            say(&format!("{what}: {size} of {most} bytes"));
            if size > most {
                beyond.push(format!("{what} is {} bytes too large", size - most));
            }
        }
        (!beyond.is_empty()).then(|| beyond.join("; "))
    }
}

/// Every script of the package.
fn scripts(package: &Package) -> Outcome<Vec<PathBuf>> {
    let mut scripts = Vec::new();
    for file in fs::read_dir(package.folder.join("dist"))? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "js") {
            scripts.push(file);
        }
    }
    Ok(scripts)
}

/// The sum of the files' sizes, each compressed by one of Node's functions at its best.
fn compressed(project: &Project, function: &str, files: &[PathBuf]) -> Outcome<u64> {
    let script = format!(
        "let sum = 0;
        for (const file of process.argv.slice(1))
            sum += require('zlib').{function}(require('fs').readFileSync(file), {{ level: 9 }}).length;
        console.log(sum)"
    );
    let sum = ask(project
        .command("node")
        .args(["-e", &script, "--"])
        .args(files));
    Ok(sum
        .ok_or("Node could not compress the package's files")?
        .parse()?)
}

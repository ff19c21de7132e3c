use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::project::{Project, ask, say};
use crate::recipe::Budget;

/// What a browser receives of the npm package, in bytes.
pub(crate) struct Sizes {
    wasm_brotli: u64,
    script_gzip: u64,
    /// How much larger the service worker's script is.
    sw_gzip: u64,
}

impl Sizes {
    /// Measures the built package, says how large it is, and leaves the result for the benchmarks in
    /// `<target>/wasm/sizes.json`.
    pub(crate) fn measure(
        project: &Project,
        module: &Path,
        script: &Path,
        sw: &Path,
    ) -> Outcome<Self> {
        let script_gzip = compressed(project, "gzipSync", script)?;
        let sizes = Self {
            wasm_brotli: compressed(project, "brotliCompressSync", module)?,
            script_gzip,
            sw_gzip: compressed(project, "gzipSync", sw)?.saturating_sub(script_gzip),
        };
        for (what, size, most) in sizes.rows(&project.recipe.budget) {
            say(&format!("{what}: {size} of {most} bytes"));
        }

        let Self {
            wasm_brotli,
            script_gzip,
            sw_gzip,
        } = sizes;
        let json = format!(
            "{{\n  \"size/wasm-brotli\": {wasm_brotli},\n  \"size/script-gzip\": {script_gzip},\n  \"size/sw-gzip\": {sw_gzip}\n}}\n"
        );
        fs::write(project.target.join("wasm/sizes.json"), json)?;
        Ok(sizes)
    }

    /// What is beyond the budget, and by how much; `None` if nothing is.
    pub(crate) fn beyond(&self, budget: &Budget) -> Option<String> {
        let rows = self.rows(budget).into_iter();
        let beyond: Vec<_> = rows
            .filter(|(_, size, most)| size > most)
            .map(|(what, size, most)| format!("{what} is {} bytes too large", size - most))
            .collect();
        (!beyond.is_empty()).then(|| beyond.join("; "))
    }

    /// What was measured, its size, and the largest one allowed.
    fn rows(&self, budget: &Budget) -> [(&'static str, u64, u64); 3] {
        [
            ("wasm, brotli", self.wasm_brotli, budget.wasm_brotli),
            ("script, gzip", self.script_gzip, budget.script_gzip),
            (
                "service worker beyond it, gzip",
                self.sw_gzip,
                budget.sw_gzip,
            ),
        ]
    }
}

/// The size of a file that one of Node's functions has compressed at its best.
fn compressed(project: &Project, function: &str, file: &Path) -> Outcome<u64> {
    let script = format!(
        "const content = require('fs').readFileSync(process.argv[1]);
        console.log(require('zlib').{function}(content, {{ level: 9 }}).length)"
    );
    let mut node = project.command("node");
    let size = ask(node.args(["-e", &script, "--"]).arg(file));
    Ok(size
        .ok_or("Node could not compress the package's files")?
        .parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_its_budget_is_named() {
        let budget = Budget {
            wasm_brotli: 30,
            script_gzip: 20,
            sw_gzip: 10,
        };
        let of = |wasm_brotli, script_gzip, sw_gzip| {
            let sizes = Sizes {
                wasm_brotli,
                script_gzip,
                sw_gzip,
            };
            sizes.beyond(&budget).unwrap_or_default()
        };
        assert_eq!(of(30, 20, 10), "");
        assert_eq!(of(31, 20, 10), "wasm, brotli is 1 bytes too large");
        assert_eq!(of(30, 22, 10), "script, gzip is 2 bytes too large");
        assert_eq!(
            of(31, 20, 13),
            "wasm, brotli is 1 bytes too large; service worker beyond it, gzip is 3 bytes too large"
        );
    }
}

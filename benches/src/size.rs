//! What a browser receives of the npm package.

use std::collections::BTreeMap;
use std::fs;

use crate::Outcome;
use crate::report::{Entry, Goal, target};

/// The budgets of `wasm-pack.toml`, in bytes.
const GOALS: [(&str, f64); 3] = [
    ("size/wasm-brotli", 60_000.0),
    ("size/script-gzip", 12_000.0),
    ("size/sw-gzip", 6_000.0),
];

/// Reads what `cargo xtask wasm` has measured.
pub(crate) fn run() -> Outcome<Vec<Entry>> {
    let file = target()?.join("wasm/sizes.json");
    let text = fs::read(&file)
        .map_err(|error| format!("{}: {error}; `cargo xtask wasm` measures", file.display()))?;
    let sizes: BTreeMap<String, f64> = serde_json::from_slice(&text)?;
    GOALS
        .into_iter()
        .map(|(id, most)| {
            let size = sizes
                .get(id)
                .ok_or_else(|| format!("{id} was not measured"))?;
            Ok(Entry::absolute(id, "bytes", *size, Goal::AtMost(most)))
        })
        .collect()
}

//! Says what to do where the npm package has not been built, before the compiler says less.

use std::path::Path;

fn main() {
    let dist = Path::new("../npm/dist");
    for name in [
        "index.js",
        "later/debug.js",
        "later/events.js",
        "later/form.js",
        "later/progress.js",
        "bulla_web_bg.wasm",
    ] {
        let file = dist.join(name);
        println!("cargo::rerun-if-changed={}", file.display());
        if !file.is_file() {
            println!(
                "cargo::error=npm/dist/{name} is missing: build it with `cargo xtask wasm`, or run `cargo xtask demo`"
            );
        }
    }
}

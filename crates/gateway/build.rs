//! Says what to do where the browser's half has not been built, before the compiler says less.

use std::path::Path;

fn main() {
    for name in ["loader.js", "sw.js", "bulla_web_bg.wasm"] {
        let file = Path::new("dist").join(name);
        println!("cargo::rerun-if-changed={}", file.display());
        if !file.is_file() {
            println!(
                "cargo::error=crates/gateway/dist/{name} is missing: build it with `cargo xtask wasm`"
            );
        }
    }
}

//! Writes all files of vectors and the protocol's worked example anew: `cargo run -p bulla-vectors --bin generate`.

use std::fs;
use std::path::Path;

use bulla_vectors::cases::FILES;
use bulla_vectors::example;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in &FILES {
        fs::write(folder.join(format!("{}.json", file.name)), file.generate())?;
    }
    let page = folder.join("../docs/protocol.md");
    let text = fs::read_to_string(&page)?;
    fs::write(page, example::put_into(&text))
}

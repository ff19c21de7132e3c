//! Writes all files of vectors anew: `cargo run -p bulla-vectors --bin generate`.

use std::fs;
use std::path::Path;

use bulla_vectors::cases::FILES;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in &FILES {
        fs::write(folder.join(format!("{}.json", file.name)), file.generate())?;
    }
    Ok(())
}

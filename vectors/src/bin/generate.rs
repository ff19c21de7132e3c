//! Writes all files of vectors, the protocol's worked example and the fuzz targets' seeds anew:
//! `cargo run -p bulla-vectors --bin generate`.

use std::fs;
use std::path::Path;

use bulla_vectors::cases::FILES;
use bulla_vectors::{corpus, example};

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in &FILES {
        fs::write(folder.join(format!("{}.json", file.name)), file.generate())?;
    }
    let page = folder.join("../docs/protocol.md");
    let text = fs::read_to_string(&page)?;
    fs::write(page, example::put_into(&text))?;

    let corpus = folder.join("../fuzz/corpus");
    for (name, seed) in corpus::seeds() {
        let file = corpus.join(name);
        fs::create_dir_all(file.parent().unwrap_or(&corpus))?;
        fs::write(file, seed)?;
    }
    Ok(())
}

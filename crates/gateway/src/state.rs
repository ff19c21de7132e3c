//! Files in the state folder.

use std::fs;
use std::io;
use std::path::Path;

/// Puts a text in the place of a file, so that nobody finds half of one.
pub(crate) fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, text)?;
    fs::rename(&new, file)
}

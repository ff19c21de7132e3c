//! Lists that are written down in files of the state folder.

use std::fs;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::replaced::replace;

/// How long a file may be, in bytes.
const MOST_LEN: u64 = 64 << 20;

/// The form of the files.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Written<L> {
    version: u32,
    list: L,
}

/// Reads what is written down in this file; nothing if there is no file.
///
/// # Errors
///
/// If it is there and cannot be read.
pub(crate) fn read<T: DeserializeOwned>(file: &Path) -> io::Result<Vec<T>> {
    let len = match fs::metadata(file) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    if len > MOST_LEN {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let written: Written<Vec<T>> =
        serde_json::from_slice(&fs::read(file)?).map_err(|error| invalid(error.to_string()))?;
    if written.version != VERSION {
        return Err(invalid(format!("its version is {}", written.version)));
    }
    Ok(written.list)
}

/// Writes it down.
///
/// # Errors
///
/// If that cannot be done.
pub(crate) fn write<T: Serialize>(file: &Path, list: &[T]) -> io::Result<()> {
    let version = VERSION;
    let text = serde_json::to_string(&Written { version, list }).map_err(io::Error::other)?;
    replace(file, &text)
}

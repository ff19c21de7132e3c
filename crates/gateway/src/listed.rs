//! Lists of what was seen, to the day: written down in files of the state folder, and as tables for whoever audits.

use std::io;
use std::path::Path;

use cookie::time::OffsetDateTime;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::replaced::replace;
use crate::within::read_within;

/// How long a file may be, in bytes.
const MOST_LEN: u64 = 64 << 20;

/// In seconds.
pub(crate) const DAY: u64 = 24 * 60 * 60;

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
    let content = match read_within(file, MOST_LEN) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let written: Written<Vec<T>> =
        serde_json::from_slice(&content).map_err(|error| invalid(error.to_string()))?;
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

/// A table (CSV, RFC 4180).
pub(crate) fn csv<const N: usize>(
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut table = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    // Nothing is wrong with memory.
    let _ = table.write_record(head);
    for row in rows {
        let _ = table.write_record(&row);
    }
    let bytes = table.into_inner().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// Of seconds since 1970, as RFC 3339 writes it.
pub(crate) fn day(time: u64) -> String {
    let time = i64::try_from(time).ok();
    let time = time.and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
    time.map(|time| time.date().to_string()).unwrap_or_default()
}

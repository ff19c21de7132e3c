//! Files of which there is only so much to read, whoever has written them.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Reads a whole file, which may have so many bytes.
///
/// # Errors
///
/// [`io::ErrorKind::FileTooLarge`] if it has more; whatever the file says of its length.
pub(crate) fn read_within(file: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(file)?
        .take(most.saturating_add(1))
        .read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(content)
}

/// The same, of a file of text.
///
/// # Errors
///
/// As [`read_within`]; [`io::ErrorKind::InvalidData`] if it is no UTF-8.
pub(crate) fn read_text_within(file: &Path, most: u64) -> io::Result<String> {
    let content = read_within(file, most)?;
    String::from_utf8(content).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn no_more_is_read_than_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "clay").unwrap();
        assert_eq!(read_text_within(&file, 4).unwrap(), "clay");
        let error = read_within(&file, 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        fs::write(&file, b"\xff").unwrap();
        assert_eq!(read_within(&file, 4).unwrap(), b"\xff");
        let error = read_text_within(&file, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    /// It has no end, and says that its length is 0.
    #[test]
    fn a_file_without_end_is_too_large() {
        let error = read_within(Path::new("/dev/zero"), 1 << 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}

//! Files that are whole after a crash, and that stay where they are.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Replaces a file at once, so that a crash leaves the old one or the new one, readable by its owner
/// only.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    make_folder(path)?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    // One that a crash has left may be readable by others, and stays so if it is written again.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    create_private(&partial, bytes)?;
    fs::rename(&partial, path)?;
    sync_folder(path)
}

/// Makes a file that is not there yet, readable by its owner only, and has it on disk.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Opens a file to be read and written, or makes it, readable by its owner only.
#[cfg(feature = "embedded")]
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes the folder of a file that is to be made.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(folder(path))
}

/// Syncs the folder of a file that was made: that it is there is not on disk before.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    sync(folder(path))
}

/// Syncs a folder.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    // Elsewhere folders cannot be opened.
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

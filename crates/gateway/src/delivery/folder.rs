//! A manifest of a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::{Hash, LAST, Manifest, is_base, is_code};
use crate::replaced::replace;

/// Why there is no manifest of a folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// A file or folder cannot be read or written.
    #[error("{} cannot be used: {}", .0.display(), .1)]
    File(PathBuf, #[source] io::Error),
    /// A name that no URL has.
    #[error("{} has a name that URLs cannot have", .0.display())]
    Name(PathBuf),
    /// No path that files can be below.
    #[error("{0:?} is no path of a folder, such as /static/")]
    Base(String),
    /// There is no code in it.
    #[error("{} has neither scripts nor styles, Wasm modules or pages", .0.display())]
    Empty(PathBuf),
    /// No version is left, or it is 0.
    #[error("{0} is no version: 1 to 9007199254740991")]
    Version(u64),
}

impl Manifest {
    /// Of all scripts, styles, Wasm modules and pages in a folder that is served at the path `base`. Links to files
    /// are followed, those to folders are not.
    ///
    /// # Errors
    ///
    /// [`FolderError`].
    pub fn of_folder(folder: &Path, base: &str, version: u64) -> Result<Self, FolderError> {
        if !is_base(base) || encoded(base).as_deref() != Some(base) {
            return Err(FolderError::Base(base.to_owned()));
        }
        if !(1..=LAST).contains(&version) {
            return Err(FolderError::Version(version));
        }
        let mut manifest = Self {
            version,
            base: base.to_owned(),
            hashes: BTreeMap::new(),
            wasm_hashes: BTreeSet::new(),
        };
        manifest.add(folder, base)?;
        if manifest.hashes.is_empty() {
            return Err(FolderError::Empty(folder.to_owned()));
        }
        Ok(manifest)
    }

    /// Writes the text of a manifest so that nobody finds half of it.
    ///
    /// # Errors
    ///
    /// [`FolderError::File`].
    pub fn write(text: &str, file: &Path) -> Result<(), FolderError> {
        replace(file, text).map_err(|error| FolderError::File(file.to_owned(), error))
    }

    fn add(&mut self, folder: &Path, base: &str) -> Result<(), FolderError> {
        let unusable = |error| FolderError::File(folder.to_owned(), error);
        for entry in fs::read_dir(folder).map_err(unusable)? {
            let entry = entry.map_err(unusable)?;
            let path = entry.path();
            let unusable = |error| FolderError::File(path.clone(), error);
            let unnamed = || FolderError::Name(path.clone());
            let is_folder = entry.file_type().map_err(unusable)?.is_dir();
            let end = path.extension().and_then(OsStr::to_str).unwrap_or_default();
            let end = end.to_ascii_lowercase();
            let is_listed = is_code(&end) || ["html", "htm"].contains(&end.as_str());
            if !is_folder && (!is_listed || !path.is_file()) {
                continue;
            }
            let name = entry.file_name();
            let name = name
                .to_str()
                .and_then(|name| encoded(&name.replace('%', "%25")));
            let url = format!("{base}{}", name.ok_or_else(unnamed)?);
            if is_folder {
                self.add(&path, &format!("{url}/"))?;
                continue;
            }
            let hash = Hash::of(&fs::read(&path).map_err(unusable)?);
            if end == "wasm" {
                self.wasm_hashes.insert(hash);
            }
            self.hashes.insert(url, hash);
        }
        Ok(())
    }
}

/// A path as browsers write it in URLs (URL Standard, the path percent-encode set).
fn encoded(path: &str) -> Option<String> {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            // A slash to browsers.
            b'\\' => return None,
            b'!'..=b'~' if !b"\"#<>?^`{}".contains(&byte) => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").ok()?,
        }
    }
    Some(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_pages_are_listed_at_the_paths_that_browsers_ask_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("a b")).unwrap();
        for name in [
            "app.js",
            "a b/50%.MJS",
            "a b/ü.css",
            "m.wasm",
            "x.html",
            "logo.svg",
        ] {
            fs::write(at(name), name).unwrap();
        }
        let made = Manifest::of_folder(folder.path(), "/static/", 2).unwrap();
        assert_eq!((made.version, made.base.as_str()), (2, "/static/"));
        let paths: Vec<_> = made.hashes.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "/static/a%20b/%C3%BC.css",
                "/static/a%20b/50%25.MJS",
                "/static/app.js",
                "/static/m.wasm",
                "/static/x.html"
            ]
        );
        assert_eq!(made.hashes["/static/app.js"], Hash::of(b"app.js"));
        assert_eq!(made.wasm_hashes, [Hash::of(b"m.wasm")].into());
    }

    #[test]
    fn what_cannot_be_listed_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let of = |base, version| Manifest::of_folder(folder.path(), base, version).unwrap_err();
        assert!(matches!(of("/static/", 1), FolderError::Empty(_)));
        for base in ["", "static/", "/static", "//a/", "/a b/"] {
            assert!(matches!(of(base, 1), FolderError::Base(_)), "{base}");
        }
        for version in [0, LAST + 1] {
            assert!(matches!(of("/", version), FolderError::Version(_)));
        }
        fs::write(folder.path().join("a\\b.js"), "").unwrap();
        assert!(matches!(of("/", 1), FolderError::Name(_)));
    }
}

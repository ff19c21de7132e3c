//! The latest manifest that was gone by, so that none before it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bulla_protocol::base64;
use sha2::{Digest as _, Sha256};

use super::DeliveryError;
use crate::replaced::replace;
use crate::within::read_text_within;

/// How long the file may be, in bytes: it is one line.
const MOST: u64 = 1 << 10;

/// The latest manifest that was gone by: its version, and which it was.
#[derive(Default)]
pub(crate) struct Latest {
    /// Where it is written down, if it is.
    file: Option<PathBuf>,
    last: Mutex<Option<Last>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Last {
    version: u64,
    hash: String,
}

impl Latest {
    /// Goes by what is written down in this file, and writes it down there.
    ///
    /// # Errors
    ///
    /// [`DeliveryError::File`] if it is there and cannot be read.
    pub(crate) fn in_file(file: PathBuf) -> Result<Self, DeliveryError> {
        let last = match read_text_within(&file, MOST) {
            Ok(text) => Last::parse(&text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let last = match last {
            Ok(last) => last,
            Err(error) => return Err(DeliveryError::File(file, error)),
        };
        Ok(Self {
            file: Some(file),
            last: Mutex::new(last),
        })
    }

    /// Its version, or 0.
    pub(super) fn version(&self) -> u64 {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map_or(0, |last| last.version)
    }

    /// Takes note of a manifest, unless it comes after its time.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`].
    pub(crate) fn admit(
        &self,
        path: &Path,
        version: u64,
        text: &[u8],
    ) -> Result<(), DeliveryError> {
        let next = Last {
            version,
            hash: base64::encode(Sha256::digest(text)),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(last) if last.version > version => {
                return Err(DeliveryError::Older {
                    path: path.to_owned(),
                    version,
                    seen: last.version,
                });
            }
            Some(last) if *last == next => return Ok(()),
            Some(last) if last.version == version => {
                return Err(DeliveryError::Reused(path.to_owned(), version));
            }
            _ => {}
        }
        if let Some(file) = &self.file {
            let unusable = |error| DeliveryError::File(file.clone(), error);
            replace(file, &format!("{version} {}\n", next.hash)).map_err(unusable)?;
        }
        *last = Some(next);
        Ok(())
    }
}

impl Last {
    fn parse(text: &str) -> io::Result<Self> {
        let (version, hash) = text.trim_end().split_once(' ').unwrap_or_default();
        Ok(Self {
            version: version.parse().map_err(io::Error::other)?,
            hash: hash.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn versions_only_grow_also_over_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("manifest.seen");
        let path = Path::new("m.json");
        let seen = Latest::in_file(file.clone()).unwrap();
        seen.admit(path, 3, b"three").unwrap();
        seen.admit(path, 3, b"three").unwrap();
        for seen in [seen, Latest::in_file(file.clone()).unwrap()] {
            let older = seen.admit(path, 2, b"two").unwrap_err();
            assert!(matches!(
                older,
                DeliveryError::Older {
                    version: 2,
                    seen: 3,
                    ..
                }
            ));
            let reused = seen.admit(path, 3, b"else").unwrap_err();
            assert!(matches!(reused, DeliveryError::Reused(_, 3)));
        }
        Latest::in_file(file.clone())
            .unwrap()
            .admit(path, 4, b"four")
            .unwrap();
        fs::write(&file, "four").unwrap();
        assert!(Latest::in_file(file).is_err());
    }
}

//! The manifest that the gateway makes by itself, of what the application serves.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bulla_server::{Clock as _, Identity, SystemClock, Thumbprint};

use super::found::Found;
use super::{DeliveryError, Latest, MOST as MOST_LEN, Manifest};
use crate::replaced::replace;
use crate::within::read_text_within;

/// As many files are listed at most. Browsers get the whole list with each version.
const MOST: usize = 4000;

/// Signs manifests, and keeps the last one that it has signed.
pub(crate) struct Signer {
    identity: Arc<Identity>,
    /// Of all manifests, whoever has signed them.
    pub(super) latest: Latest,
    /// Where the last one is written down, if it is.
    file: Option<PathBuf>,
    last: Mutex<Option<String>>,
}

impl Signer {
    /// One that keeps nothing.
    pub(crate) fn new(identity: Arc<Identity>) -> Self {
        Self {
            identity,
            latest: Latest::default(),
            file: None,
            last: Mutex::default(),
        }
    }

    /// One that goes on from what is written down in this folder.
    ///
    /// # Errors
    ///
    /// [`DeliveryError::File`] if something is there and cannot be read.
    pub(crate) fn in_folder(identity: Arc<Identity>, folder: &Path) -> Result<Self, DeliveryError> {
        let file = folder.join("manifest.json");
        let last = match read_text_within(&file, MOST_LEN) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(DeliveryError::File(file, error)),
        };
        Ok(Self {
            identity,
            latest: Latest::in_file(folder.join("manifest.seen"))?,
            file: Some(file),
            last: Mutex::new(last),
        })
    }

    pub(crate) fn identity(&self) -> Thumbprint {
        self.identity.thumbprint()
    }

    /// The last one that it has signed, if it is about this base and nothing later was gone by; else a new one, of what
    /// the last one lists there, or of nothing.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`].
    pub(super) fn last(&self, base: &str) -> Result<(Manifest, String), DeliveryError> {
        let last = self.last.lock();
        let last = last.unwrap_or_else(PoisonError::into_inner).clone();
        let opened = last.map(|text| {
            let opened = Manifest::open(&text, self.identity());
            let invalid = |invalid| DeliveryError::Invalid(self.name().to_owned(), invalid);
            opened.map(|manifest| (manifest, text)).map_err(invalid)
        });
        let opened = opened.transpose()?;
        match opened.filter(|(manifest, _)| manifest.base == base) {
            Some((manifest, text)) if self.admit(&manifest, &text).is_ok() => Ok((manifest, text)),
            Some((manifest, _)) => self.sign(manifest),
            None => self.sign(Manifest::listing(base, BTreeMap::new())),
        }
    }

    /// Signs one as the next version, and keeps it. Versions are times, so that they grow also where it is forgotten
    /// which was the last.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`].
    pub(super) fn sign(&self, mut manifest: Manifest) -> Result<(Manifest, String), DeliveryError> {
        manifest.version = SystemClock.now().max(self.latest.version() + 1);
        let text = manifest.signed(&self.identity);
        let text = text.map_err(DeliveryError::Unsigned)?;
        if let Some(file) = &self.file {
            replace(file, &text).map_err(|error| DeliveryError::File(file.clone(), error))?;
        }
        self.admit(&manifest, &text)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(text.clone());
        Ok((manifest, text))
    }

    /// Whether the next version will be ahead of the clock by more than so many seconds.
    pub(crate) fn is_ahead(&self, most: u64) -> bool {
        self.latest.version() >= SystemClock.now() + most
    }

    fn admit(&self, manifest: &Manifest, text: &str) -> Result<(), DeliveryError> {
        let (latest, version) = (&self.latest, manifest.version);
        latest.admit(self.name(), version, text.as_bytes())
    }

    fn name(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new("the manifest"))
    }
}

impl Manifest {
    /// Takes note of what was found at a path, and tells whether that is new. Where there is no room, another goes, and
    /// nobody can say which: whoever needs that has it looked for again.
    pub(super) fn put(&mut self, path: &str, found: Found) -> bool {
        if !self.lacks(path, found) {
            return false;
        }
        self.forget(path);
        let Found::Code { hash, is_wasm } = found else {
            return true;
        };
        if self.hashes.len() >= MOST {
            let number = RandomState::new().hash_one(path) % self.hashes.len() as u64;
            // There are so many.
            let any = self
                .hashes
                .keys()
                .nth(usize::try_from(number).unwrap_or_default());
            any.cloned().inspect(|path| self.forget(path));
        }
        self.hashes.insert(path.to_owned(), hash);
        if is_wasm {
            self.wasm_hashes.insert(hash);
        }
        true
    }

    /// Whether this is not what is listed at a path.
    pub(crate) fn lacks(&self, path: &str, found: Found) -> bool {
        let hash = match found {
            Found::Code { hash, .. } => Some(hash),
            Found::Nothing => None,
        };
        self.hashes.get(path).copied() != hash
    }

    fn forget(&mut self, path: &str) {
        let Some(hash) = self.hashes.remove(path) else {
            return;
        };
        if !self.hashes.values().any(|other| *other == hash) {
            self.wasm_hashes.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bulla_server::SystemRandom;

    use super::*;
    use crate::delivery::Hash;

    fn code(text: &str) -> Found {
        Found::Code {
            hash: Hash::of(text.as_bytes()),
            is_wasm: text.starts_with("wasm"),
        }
    }

    #[test]
    fn versions_grow_whatever_was_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let identity = Arc::new(Identity::generate(&SystemRandom).unwrap());
        let signer = || Signer::in_folder(Arc::clone(&identity), folder).unwrap();
        let (mut first, _) = signer().last("/static/").unwrap();
        assert!(first.hashes.is_empty());
        first.put("/static/a.js", code("a"));
        let (second, text) = signer().sign(first.clone()).unwrap();
        assert!(second.version > first.version);
        assert_eq!(signer().last("/static/").unwrap(), (second.clone(), text));

        // Something else was gone by meanwhile: a file, or what was there before an old copy was put back.
        let seen = signer();
        let later = second.version + 1_000_000;
        let file = Path::new("m.json");
        seen.latest.admit(file, later, b"another").unwrap();
        let (third, _) = seen.last("/static/").unwrap();
        assert_eq!((third.version, &third.hashes), (later + 1, &second.hashes));

        // What is known of other paths says nothing.
        let (other, _) = signer().last("/assets/").unwrap();
        assert_eq!((other.version, other.hashes.len()), (later + 2, 0));

        for name in ["manifest.json", "manifest.seen"] {
            fs::remove_file(folder.join(name)).unwrap();
        }
        assert!(signer().last("/static/").unwrap().0.version >= first.version);

        let thief = Arc::new(Identity::generate(&SystemRandom).unwrap());
        let thief = Signer::in_folder(thief, folder).unwrap();
        let refused = thief.last("/static/").unwrap_err();
        assert!(matches!(refused, DeliveryError::Invalid(..)), "{refused}");
    }

    #[test]
    fn a_file_without_end_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Arc::new(Identity::generate(&SystemRandom).unwrap());
        for name in ["manifest.json", "manifest.seen"] {
            let file = folder.path().join(name);
            // It takes no room.
            let long = fs::File::create(&file).unwrap();
            long.set_len(MOST_LEN + 1).unwrap();
            let refused = Signer::in_folder(Arc::clone(&identity), folder.path());
            let Err(DeliveryError::File(path, error)) = refused else {
                panic!("{name} was read");
            };
            assert_eq!((&path, error.kind()), (&file, io::ErrorKind::FileTooLarge));
            fs::remove_file(file).unwrap();
        }
    }

    #[test]
    fn what_was_found_is_listed_until_it_is_gone() {
        let mut manifest = Manifest::listing("/static/", BTreeMap::new());
        assert!(manifest.put("/static/a.wasm", code("wasm")));
        assert!(!manifest.put("/static/a.wasm", code("wasm")));
        assert!(manifest.put("/static/b.wasm", code("wasm")));
        assert!(manifest.put("/static/a.wasm", code("wasm, better")));
        assert_eq!(manifest.wasm_hashes.len(), 2);
        assert!(manifest.put("/static/b.wasm", Found::Nothing));
        assert!(!manifest.put("/static/b.wasm", Found::Nothing));
        let hash = Hash::of(b"wasm, better");
        assert_eq!(
            manifest.hashes,
            [("/static/a.wasm".to_owned(), hash)].into()
        );
        assert_eq!(manifest.wasm_hashes, [hash].into());
    }

    #[test]
    fn the_list_has_an_end_and_takes_what_is_new() {
        let mut manifest = Manifest::listing("/static/", BTreeMap::new());
        for number in 0..MOST * 2 {
            let path = format!("/static/{number}.js");
            assert!(manifest.put(&path, code(&path)));
            assert!(manifest.hashes.contains_key(&path));
        }
        assert_eq!(manifest.hashes.len(), MOST);
    }

    #[test]
    fn whoever_fills_the_list_cannot_say_what_goes() {
        let paths = || (0..MOST).map(|number| format!("/static/{number:04}.js"));
        let full: BTreeMap<_, _> = paths().map(|path| (path, Hash::of(b"a"))).collect();
        let gone = || {
            let mut manifest = Manifest::listing("/static/", full.clone());
            manifest.put("/static/1.js", code("b"));
            let mut gone = paths().filter(|path| !manifest.hashes.contains_key(path));
            (gone.next(), gone.next())
        };
        let (one, more) = gone();
        assert!(one.is_some() && more.is_none());
        assert!((0..100).any(|_| gone().0 != one));
    }
}

//! Which scripts browsers have run: the evidence that PCI DSS 4.0.1 asks for in 6.4.3 and 11.6.1.

mod authorised;
mod script;
mod table;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

pub use self::authorised::{Authorised, Grant};
pub(crate) use self::script::INLINE;
pub use self::script::Script;
pub(crate) use self::table::day;
pub use self::table::table;
use crate::replaced::replace;

/// As many scripts are kept.
const MOST: usize = 5000;

/// As many inline scripts of one page are kept: what has a token in it is another one each time.
const MOST_INLINE: usize = 20;

/// How long a file may be, in bytes.
const MOST_LEN: u64 = 16 << 20;

const DAY: u64 = 24 * 60 * 60;

/// How often it is told of inline scripts that find no room of their own, for each page: whoever has a session can fill that, and
/// must not have silence after it.
const AGAIN: u64 = 60 * 60;

/// The form of the file.
const VERSION: u32 = 1;

/// Why there is no inventory.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used: {}", .0.display(), .1)]
pub struct InventoryError(PathBuf, #[source] io::Error);

/// What becomes of a script that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    New,
    Known,
    /// One that stands for it, as others of its page have taken the room.
    Crowded,
    /// There is no room.
    LeftOut,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// Where it is written down, if it is.
    file: Option<PathBuf>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    scripts: Vec<Script>,
    /// In which hour it was told last of what is crowded, by the path of the page.
    crowded: HashMap<String, u64>,
    is_written: bool,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    scripts: Vec<Script>,
}

/// Reads the scripts that a gateway has written down in this file; none if there is no file.
///
/// # Errors
///
/// [`InventoryError`].
pub fn read(file: &Path) -> Result<Vec<Script>, InventoryError> {
    let unusable = |error| InventoryError(file.to_owned(), error);
    let len = match fs::metadata(file) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(error)),
    };
    if len > MOST_LEN {
        return Err(unusable(io::ErrorKind::FileTooLarge.into()));
    }
    let text = fs::read(file).map_err(unusable)?;
    let written: Written = serde_json::from_slice(&text)
        .map_err(|error| unusable(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    if written.version != VERSION || written.scripts.len() > MOST {
        return Err(unusable(io::ErrorKind::InvalidData.into()));
    }
    Ok(written.scripts)
}

impl Inventory {
    /// Goes on from what is written down in this file, and writes it down there.
    ///
    /// # Errors
    ///
    /// [`InventoryError`].
    pub(crate) fn in_file(file: PathBuf) -> Result<Self, InventoryError> {
        let scripts = read(&file)?;
        let is_written = true;
        Ok(Self {
            file: Some(file),
            kept: Mutex::new(Kept {
                scripts,
                is_written,
                ..Kept::default()
            }),
        })
    }

    /// Takes note of a script, if there is room, or it is known. `may_be_new`: whether it may take room.
    pub(crate) fn note(&self, mut script: Script, may_be_new: bool) -> Noted {
        let mut kept = self.lock();
        let inline = |other: &&Script| other.url == INLINE && other.page == script.page;
        if script.url == INLINE
            && !kept.scripts.iter().any(|known| known.is(&script))
            && kept.scripts.iter().filter(inline).count() >= MOST_INLINE
        {
            // It stands for all others.
            script.hash.clear();
        }
        script.last_seen -= script.last_seen % DAY;
        script.first_seen -= script.first_seen % DAY;
        if let Some(known) = kept.scripts.iter_mut().find(|known| known.is(&script)) {
            if known.last_seen < script.last_seen {
                known.last_seen = script.last_seen;
                kept.is_written = false;
            }
            return if script.stands_for_many() {
                Noted::Crowded
            } else {
                Noted::Known
            };
        }
        if !may_be_new || kept.scripts.len() >= MOST {
            return Noted::LeftOut;
        }
        kept.scripts.push(script);
        kept.is_written = false;
        Noted::New
    }

    /// Whether it is to be told now that something of this page is [crowded](Noted::Crowded).
    pub(crate) fn is_due(&self, page: String, now: u64) -> bool {
        let hour = now / AGAIN;
        let mut kept = self.lock();
        // Pages that stand in the inventory, of which there are only so many.
        kept.crowded.insert(page, hour) != Some(hour)
    }

    /// All scripts, in the order in which they were seen first.
    pub(crate) fn scripts(&self) -> Vec<Script> {
        self.lock().scripts.clone()
    }

    /// Writes down what is new.
    ///
    /// # Errors
    ///
    /// If that cannot be done; then it is tried the next time.
    pub(crate) fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let mut kept = self.lock();
        if kept.is_written {
            return Ok(());
        }
        let written = Written {
            version: VERSION,
            scripts: kept.scripts.clone(),
        };
        // Who is slow to write must not hold up whoever reports.
        kept.is_written = true;
        drop(kept);
        let done = serde_json::to_string(&written)
            .map_err(io::Error::other)
            .and_then(|text| replace(file, &text));
        if done.is_err() {
            self.lock().is_written = false;
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::script::tests::script;
    use super::*;

    #[test]
    fn each_script_is_there_once_and_is_seen_to_the_day() {
        let inventory = Inventory::default();
        assert_eq!(
            inventory.note(script("/a.js", "sha256-a", "/"), true),
            Noted::New
        );
        let later = Script {
            last_seen: 3 * DAY + 7,
            ..script("/a.js", "sha256-a", "/other")
        };
        assert_eq!(inventory.note(later, false), Noted::Known);
        assert_eq!(
            inventory.note(script("/a.js", "sha256-b", "/"), true),
            Noted::New
        );
        assert_eq!(
            inventory.note(script("/b.js", "", "/"), false),
            Noted::LeftOut
        );
        let all = inventory.scripts();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].page.as_str(), all[0].last_seen), ("/", 3 * DAY));
    }

    #[test]
    fn a_page_whose_scripts_are_always_others_has_one_that_stands_for_them() {
        let inventory = Inventory::default();
        for page in ["/one", "/other"] {
            for number in 0..MOST_INLINE * 3 {
                inventory.note(
                    script(INLINE, &format!("sha256-{page}{number}"), page),
                    true,
                );
            }
        }
        let all = inventory.scripts();
        assert_eq!(all.len(), 2 * (MOST_INLINE + 1));
        let standing: Vec<_> = all.iter().filter(|one| one.stands_for_many()).collect();
        assert_eq!(standing.len(), 2);
        let other = script(INLINE, "sha256-other", "/one");
        assert_eq!(inventory.note(other, false), Noted::Crowded);
        for (page, now, is_due) in [
            ("/one", 0, true),
            ("/one", AGAIN - 1, false),
            ("/other", AGAIN - 1, true),
            ("/one", AGAIN, true),
        ] {
            let said = inventory.is_due(page.to_owned(), now);
            assert_eq!(said, is_due, "{page} {now}");
        }
        // What is known stays itself.
        let known = script(INLINE, "sha256-/one3", "/one");
        assert_eq!(inventory.note(known, false), Noted::Known);
    }

    #[test]
    fn there_is_an_end_of_room() {
        let inventory = Inventory::default();
        for number in 0..MOST {
            inventory.note(script(&format!("/{number}.js"), "", "/"), true);
        }
        let more = script("/more.js", "", "/");
        assert_eq!(inventory.note(more, true), Noted::LeftOut);
        assert_eq!(inventory.note(script("/7.js", "", "/"), true), Noted::Known);
    }

    #[test]
    fn it_goes_on_after_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scripts.json");
        let inventory = Inventory::in_file(file.clone()).unwrap();
        inventory.save().unwrap();
        assert!(!file.exists(), "there was nothing to write");
        inventory.note(script("/a.js", "sha256-a", "/"), true);
        inventory.save().unwrap();
        let again = Inventory::in_file(file.clone()).unwrap();
        assert_eq!(again.scripts(), inventory.scripts());
        assert_eq!(again.scripts().len(), 1);
        for wrong in ["", "{}", r#"{"version":2,"scripts":[]}"#] {
            fs::write(&file, wrong).unwrap();
            let error = Inventory::in_file(file.clone()).unwrap_err().to_string();
            assert!(error.starts_with(&file.display().to_string()), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("not-there/scripts.json");
        let inventory = Inventory::in_file(file.clone()).unwrap();
        inventory.note(script("/a.js", "sha256-a", "/"), true);
        inventory.save().unwrap_err();
        fs::create_dir(folder.path().join("not-there")).unwrap();
        inventory.save().unwrap();
        assert_eq!(read(&file).unwrap().len(), 1);
    }
}

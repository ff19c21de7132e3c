//! Which scripts browsers have run: the evidence that PCI DSS 4.0.1 asks for in 6.4.3 and 11.6.1.

mod authorised;
mod script;
mod shelf;
mod table;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use self::authorised::{Authorised, Grant};
pub(crate) use self::script::INLINE;
use self::script::Key;
pub use self::script::Script;
use self::shelf::{Entry, Shelf};
pub use self::table::table;
use crate::listed::{self, DAY};

/// As many inline scripts of one page are kept that nobody has authorised: what has a token in it is another one each
/// time.
const MOST_INLINE: usize = 20;

/// How often it is told of inline scripts that find no room of their own, for each page: whoever has a session can fill that, and
/// must not have silence after it.
const AGAIN: u64 = 60 * 60;

/// Why there is no inventory.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used: {}", .0.display(), .1)]
pub struct InventoryError(PathBuf, #[source] io::Error);

/// What becomes of a script that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    New,
    Known,
    /// It has no room of its own among those of its page, and it was not told of such a one lately.
    Crowded,
    /// It is new, and was not to be.
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
    /// What was authorised when it was seen last. Nothing else takes its room.
    authorised: Shelf,
    others: Shelf,
    /// How many were seen.
    count: u64,
    is_written: bool,
}

/// Reads the scripts that a gateway has written down in this file; none if there is no file.
///
/// # Errors
///
/// [`InventoryError`].
pub fn read(file: &Path) -> Result<Vec<Script>, InventoryError> {
    listed::read(file).map_err(|error| InventoryError(file.to_owned(), error))
}

impl Inventory {
    /// Goes on from what is written down in this file, and writes it down there.
    ///
    /// # Errors
    ///
    /// [`InventoryError`].
    pub(crate) fn in_file(file: PathBuf) -> Result<Self, InventoryError> {
        let mut kept = Kept {
            is_written: true,
            ..Kept::default()
        };
        for script in read(&file)? {
            let entry = kept.entry(script);
            kept.others.keep(entry);
        }
        Ok(Self {
            file: Some(file),
            kept: Mutex::new(kept),
        })
    }

    /// Goes by what is authorised from now on.
    pub(crate) fn sort(&self, authorised: Authorised<'_>) {
        let mut kept = self.lock();
        let mut all: Vec<_> = kept.authorised.drain().collect();
        all.extend(kept.others.drain());
        for entry in all {
            let is_authorised = authorised.grant(&entry.script).is_some();
            kept.shelf(is_authorised).put(entry);
        }
    }

    /// Takes note of a script, if it is known or `may_be_new`, at this time in seconds since 1970.
    pub(crate) fn note(&self, mut script: Script, is_authorised: bool, may_be_new: bool) -> Noted {
        let now = script.last_seen;
        script.last_seen -= script.last_seen % DAY;
        script.first_seen -= script.first_seen % DAY;
        let mut kept = self.lock();
        let mut key = script.key();
        kept.settle(&key, is_authorised);
        if !is_authorised
            && script.url == INLINE
            && kept.others.get(&key).is_none()
            && kept.others.inline_of(&script.page) >= MOST_INLINE
        {
            // It stands for all others.
            script.hash.clear();
            key = script.key();
        }
        kept.count += 1;
        let count = kept.count;
        let Some(known) = kept.shelf(is_authorised).get(&key) else {
            if !may_be_new {
                return Noted::LeftOut;
            }
            let entry = kept.entry(script);
            kept.shelf(is_authorised).put(entry);
            kept.is_written = false;
            return Noted::New;
        };
        known.seen = count;
        let hour = Some(now / AGAIN);
        let is_due = known.script.stands_for_many() && known.told != hour;
        if is_due {
            known.told = hour;
        }
        if known.script.last_seen < script.last_seen {
            known.script.last_seen = script.last_seen;
            known.script.days = known.script.days.saturating_add(1);
            kept.is_written = false;
        }
        if is_due { Noted::Crowded } else { Noted::Known }
    }

    /// All scripts, in the order in which they were seen first.
    pub(crate) fn scripts(&self) -> Vec<Script> {
        let kept = self.lock();
        let mut all: Vec<_> = kept.entries().collect();
        all.sort_unstable_by_key(|entry| entry.number);
        all.into_iter().map(|entry| entry.script.clone()).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().entries().count()
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
        if std::mem::replace(&mut self.lock().is_written, true) {
            return Ok(());
        }
        // Who is slow to write must not hold up whoever reports.
        let done = listed::write(file, &self.scripts());
        if done.is_err() {
            self.lock().is_written = false;
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn shelf(&mut self, is_authorised: bool) -> &mut Shelf {
        if is_authorised {
            &mut self.authorised
        } else {
            &mut self.others
        }
    }

    /// Puts what is known to where it belongs: whoever reports may go by what was authorised before.
    fn settle(&mut self, key: &Key, is_authorised: bool) {
        if let Some(known) = self.shelf(!is_authorised).take(key) {
            self.shelf(is_authorised).put(known);
        }
    }

    fn entry(&mut self, script: Script) -> Entry {
        self.count += 1;
        Entry {
            script,
            number: self.count,
            seen: self.count,
            told: None,
        }
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.authorised.entries().chain(self.others.entries())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::script::tests::script;
    use super::shelf::MOST;
    use super::*;
    use crate::config::ScriptRule;

    const DENIED: bool = false;
    const AUTHORISED: bool = true;

    fn at(time: u64, script: Script) -> Script {
        Script {
            first_seen: time,
            last_seen: time,
            ..script
        }
    }

    #[test]
    fn each_script_is_there_once_and_is_seen_to_the_day() {
        let inventory = Inventory::default();
        let note = |script, may_be_new| inventory.note(script, DENIED, may_be_new);
        assert_eq!(note(script("/a.js", "sha256-a", "/"), true), Noted::New);
        let later = at(3 * DAY + 7, script("/a.js", "sha256-a", "/other"));
        assert_eq!(note(later.clone(), false), Noted::Known);
        assert_eq!(note(later, false), Noted::Known);
        assert_eq!(note(script("/a.js", "sha256-b", "/"), true), Noted::New);
        assert_eq!(note(script("/b.js", "", "/"), false), Noted::LeftOut);
        let all = inventory.scripts();
        assert_eq!((all.len(), inventory.len()), (2, 2));
        let first = (all[0].page.as_str(), all[0].last_seen, all[0].days);
        assert_eq!(first, ("/", 3 * DAY, 2));
    }

    #[test]
    fn a_page_whose_scripts_are_always_others_has_one_that_stands_for_them() {
        let inventory = Inventory::default();
        for page in ["/one", "/other"] {
            for number in 0..MOST_INLINE * 3 {
                let hash = format!("sha256-{page}{number}");
                inventory.note(script(INLINE, &hash, page), DENIED, true);
            }
        }
        let all = inventory.scripts();
        assert_eq!(all.len(), 2 * (MOST_INLINE + 1));
        let standing: Vec<_> = all.iter().filter(|one| one.stands_for_many()).collect();
        assert_eq!(standing.len(), 2);
        for (page, now, noted) in [
            ("/one", AGAIN - 1, Noted::Known),
            ("/other", AGAIN - 1, Noted::Known),
            ("/one", AGAIN, Noted::Crowded),
            ("/one", AGAIN + 1, Noted::Known),
            ("/other", AGAIN, Noted::Crowded),
        ] {
            let other = at(now, script(INLINE, "sha256-other", page));
            let said = inventory.note(other, DENIED, false);
            assert_eq!(said, noted, "{page} {now}");
        }
        // What is known stays itself, and what is authorised has room.
        let known = script(INLINE, "sha256-/one3", "/one");
        assert_eq!(inventory.note(known, DENIED, false), Noted::Known);
        let ours = script(INLINE, "sha256-ours", "/one");
        assert_eq!(inventory.note(ours.clone(), AUTHORISED, true), Noted::New);
        assert!(inventory.scripts().contains(&at(0, ours)));
    }

    #[test]
    fn what_is_made_up_takes_no_room_of_what_pages_run() {
        let inventory = Inventory::default();
        let note = |script, is_authorised| inventory.note(script, is_authorised, true);
        note(script("/ours.js", "", "/"), AUTHORISED);
        // It was there before, on two days.
        note(script("/old.js", "", "/"), DENIED);
        note(at(DAY, script("/old.js", "", "/")), DENIED);
        let make_up = |from: usize, is_authorised| {
            for number in from..from + 2 * MOST {
                let made_up = script(&format!("/{number}.js"), "", "/");
                note(at(DAY, made_up), is_authorised);
            }
        };
        make_up(0, DENIED);
        assert_eq!(inventory.len(), MOST + 1);
        note(at(DAY, script("/evil.js", "", "/")), DENIED);
        make_up(10 * MOST, AUTHORISED);
        let all = inventory.scripts();
        assert_eq!(all.len(), 2 * MOST);
        let has = |url: &str| all.iter().any(|script| script.url == url);
        assert!(has("/old.js") && has("/evil.js"));
        // Of those that were seen on as many days the oldest has gone.
        assert!(!has("/ours.js") && !has("/0.js"));
    }

    #[test]
    fn what_gives_way_has_gone_wholly() {
        let inventory = Inventory::default();
        for number in 0..MOST_INLINE {
            let hash = format!("sha256-{number}");
            inventory.note(script(INLINE, &hash, "/one"), DENIED, true);
        }
        for number in 0..MOST {
            let made_up = script(&format!("/{number}.js"), "", "/");
            inventory.note(made_up, DENIED, true);
        }
        let inline = script(INLINE, "sha256-other", "/one");
        inventory.note(inline.clone(), DENIED, true);
        assert!(inventory.scripts().contains(&at(0, inline)));
    }

    #[test]
    fn what_is_authorised_later_is_there_once() {
        let inventory = Inventory::default();
        for (is_authorised, expected) in [
            (DENIED, Noted::New),
            (AUTHORISED, Noted::Known),
            (DENIED, Noted::Known),
        ] {
            let noted = inventory.note(script("/a.js", "", "/"), is_authorised, true);
            assert_eq!((noted, inventory.len()), (expected, 1));
        }
        inventory.note(script("/b.js", "", "/"), DENIED, true);
        let rules = [ScriptRule {
            url: Some("/a.js".to_owned()),
            hash: None,
            justification: "ours".to_owned(),
        }];
        inventory.sort(Authorised {
            rules: &rules,
            manifest: None,
        });
        let kept = inventory.lock();
        let urls = |shelf: &Shelf| {
            let urls = shelf.entries().map(|entry| entry.script.url.clone());
            urls.collect::<Vec<_>>()
        };
        assert_eq!(urls(&kept.authorised), ["/a.js"]);
        assert_eq!(urls(&kept.others), ["/b.js"]);
    }

    #[test]
    fn it_goes_on_after_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scripts.json");
        let inventory = Inventory::in_file(file.clone()).unwrap();
        inventory.save().unwrap();
        assert!(!file.exists(), "there was nothing to write");
        for url in ["/b.js", "/a.js"] {
            inventory.note(script(url, "sha256-a", "/"), DENIED, true);
        }
        inventory.save().unwrap();
        let again = Inventory::in_file(file.clone()).unwrap();
        assert_eq!(again.scripts(), inventory.scripts());
        assert_eq!(again.scripts()[0].url, "/b.js");
        for wrong in ["", "{}", r#"{"version":2,"list":[]}"#] {
            fs::write(&file, wrong).unwrap();
            let error = Inventory::in_file(file.clone());
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with(&file.display().to_string()), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("not-there/scripts.json");
        let inventory = Inventory::in_file(file.clone()).unwrap();
        inventory.note(script("/a.js", "sha256-a", "/"), DENIED, true);
        inventory.save().unwrap_err();
        fs::create_dir(folder.path().join("not-there")).unwrap();
        inventory.save().unwrap();
        assert_eq!(read(&file).unwrap().len(), 1);
    }
}

//! Which scripts browsers have run: the evidence that PCI DSS 4.0.1 asks for in 6.4.3 and 11.6.1.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cookie::time::OffsetDateTime;
use serde::{Deserialize, Serialize};

use super::report::INLINE;
use crate::config::ScriptRule;
use crate::delivery::Manifest;
use crate::state::replace;

/// As many scripts are kept.
const MOST: usize = 5000;

/// As many inline scripts of one page are kept: what has a token in it is another one each time.
const MOST_INLINE: usize = 20;

/// How long a file may be, in bytes.
const MOST_LEN: u64 = 16 << 20;

/// What is left of URLs that have their content in them, or in the browser.
const SCHEMES: [&str; 2] = ["blob:", "data:"];

const DAY: u64 = 24 * 60 * 60;

/// The form of the file.
const VERSION: u32 = 1;

/// A script that browsers have run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Script {
    /// Its path, if it is of the origin of the page; else its URL. Without query and fragment. `inline` for what stands in a page,
    /// and only the scheme of `data:` and `blob:`.
    pub url: String,
    /// As in an `integrity` attribute, `sha256-…` mostly. Empty if it is not known.
    pub hash: String,
    /// The path of the first page that has run it.
    pub page: String,
    /// In seconds since 1970, to the day.
    pub first_seen: u64,
    /// In seconds since 1970, to the day.
    pub last_seen: u64,
}

/// Why there is no inventory.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used: {}", .0.display(), .1)]
pub struct InventoryError(PathBuf, #[source] io::Error);

/// Which scripts are to be run.
#[derive(Clone, Copy, Debug)]
pub struct Authorised<'a> {
    /// Those that the operator has written down.
    pub rules: &'a [ScriptRule],
    /// Those that are listed as they were signed.
    pub manifest: Option<&'a Manifest>,
}

/// By what a script is authorised, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant<'a> {
    /// By a rule, with its justification.
    Rule(&'a str),
    /// By the manifest with this version.
    Manifest(u64),
}

impl fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(why) => f.write_str(why),
            Self::Manifest(version) => write!(f, "as it was signed: manifest {version}"),
        }
    }
}

impl<'a> Authorised<'a> {
    /// What authorises a script, if anything does.
    pub fn grant(&self, script: &Script) -> Option<Grant<'a>> {
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.fits(&script.url, &script.hash));
        if let Some(rule) = rule {
            return Some(Grant::Rule(&rule.justification));
        }
        let manifest = self.manifest?;
        let listed = manifest.hashes.get(&script.url)?;
        (listed.integrity() == script.hash).then_some(Grant::Manifest(manifest.version))
    }
}

/// What becomes of a script that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    New,
    Known,
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

/// As a table for whoever audits (CSV, RFC 4180): which scripts, since when, and by what they are authorised. Days are of UTC.
pub fn table(scripts: &[Script], authorised: Authorised<'_>) -> String {
    let mut table = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    // Nothing is wrong with memory.
    let _ = table.write_record([
        "script",
        "hash",
        "first page",
        "first seen",
        "last seen",
        "authorised",
        "justification",
    ]);
    for script in scripts {
        let (is_authorised, justification) = match authorised.grant(script) {
            None => ("no", String::new()),
            Some(grant) => ("yes", grant.to_string()),
        };
        let _ = table.write_record([
            &script.url,
            &script.hash,
            &script.page,
            &day(script.first_seen),
            &day(script.last_seen),
            is_authorised,
            &justification,
        ]);
    }
    let bytes = table.into_inner().unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// Of seconds since 1970, as RFC 3339 writes it.
fn day(time: u64) -> String {
    let time = i64::try_from(time).ok();
    let time = time.and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
    time.map(|time| time.date().to_string()).unwrap_or_default()
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
            }),
        })
    }

    /// Takes note of a script, if there is room, or it is known. `may_be_new`: whether it may take room.
    pub(super) fn note(&self, mut script: Script, may_be_new: bool) -> Noted {
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
            return Noted::Known;
        }
        if !may_be_new || kept.scripts.len() >= MOST {
            return Noted::LeftOut;
        }
        kept.scripts.push(script);
        kept.is_written = false;
        Noted::New
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

impl Script {
    /// As a page has reported it, at this time. What is none of the texts that stand in an inventory is left out: whoever opens
    /// one may take it for something to be run.
    pub(super) fn reported(url: &str, hash: &str, page: &str, now: u64) -> Self {
        let is_url = |url: &str| {
            let starts = ["/", "https://", "http://"];
            starts.iter().any(|start| url.starts_with(start)) || SCHEMES.contains(&url)
        };
        let is_hash = |hash: &str| {
            let sha = hash.strip_prefix("sha");
            let sha = sha.and_then(|rest| rest.split_once('-'));
            let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
            sha.is_some_and(|(len, hash)| {
                ["256", "384", "512"].contains(&len) && hash.bytes().all(is_base64)
            })
        };
        let kept = |text: &str, is_one: bool| {
            if is_one {
                text.to_owned()
            } else {
                String::new()
            }
        };
        Self {
            url: kept(url, url == INLINE || is_url(url)),
            hash: kept(hash, is_hash(hash)),
            page: kept(page, page.starts_with('/')),
            first_seen: now,
            last_seen: now,
        }
    }

    /// Whether it is the same one.
    fn is(&self, other: &Self) -> bool {
        // What stands for many is one page's.
        let is_there = !self.stands_for_many() || self.page == other.page;
        self.url == other.url && self.hash == other.hash && is_there
    }

    /// Whether it stands for all inline scripts of a page beyond those that are kept.
    fn stands_for_many(&self) -> bool {
        self.url == INLINE && self.hash.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(url: &str, hash: &str, page: &str) -> Script {
        Script {
            url: url.to_owned(),
            hash: hash.to_owned(),
            page: page.to_owned(),
            first_seen: 5,
            last_seen: 5,
        }
    }

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
        // What is known stays itself.
        let known = script(INLINE, "sha256-/one3", "/one");
        assert_eq!(inventory.note(known, false), Noted::Known);
    }

    #[test]
    fn what_is_no_script_has_no_text() {
        for (url, hash, page) in [
            ("/a.js", "sha256-ab+/=", "/"),
            ("https://a.example/b.js", "sha384-A", "/a"),
            (INLINE, "sha512-A", "/a"),
            ("blob:", "", ""),
        ] {
            let reported = Script::reported(url, hash, page, 5);
            assert_eq!(reported, script(url, hash, page));
        }
        let none = script("", "", "");
        for (url, hash, page) in [
            ("=cmd", "=cmd", "=cmd"),
            ("javascript:", "sha1-a", "https://a.example/"),
            ("@a", "sha256-=a'", "a"),
            ("", "sha256", ""),
        ] {
            assert_eq!(Script::reported(url, hash, page, 5), none, "{url}");
        }
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

    #[test]
    fn a_script_is_authorised_by_a_rule_or_as_it_was_signed() {
        let rule = |url: Option<&str>, hash: Option<&str>, justification: &str| ScriptRule {
            url: url.map(str::to_owned),
            hash: hash.map(str::to_owned),
            justification: justification.to_owned(),
        };
        let rules = [
            rule(Some("https://pay.example/v3/"), None, "pays"),
            rule(Some("/own.js"), Some("sha256-own"), "ours"),
            rule(None, Some("sha256-theme"), "theme"),
        ];
        let manifest = Manifest::listing(
            "/static/",
            [("/static/a.js".to_owned(), crate::delivery::Hash::of(b"a"))].into(),
        );
        let authorised = Authorised {
            rules: &rules,
            manifest: Some(&manifest),
        };
        let signed = crate::delivery::Hash::of(b"a").integrity();
        for (url, hash, grant) in [
            ("https://pay.example/v3/x.js", "", Some(Grant::Rule("pays"))),
            ("https://pay.example/v3", "", None),
            ("https://pay.example.evil/v3/x.js", "", None),
            ("/own.js", "sha256-own", Some(Grant::Rule("ours"))),
            ("/own.js", "sha256-other", None),
            ("/own.js", "", None),
            ("/own.js/more", "sha256-own", None),
            (INLINE, "sha256-theme", Some(Grant::Rule("theme"))),
            (INLINE, "", None),
            ("/static/a.js", signed.as_str(), Some(Grant::Manifest(1))),
            ("/static/a.js", "sha256-changed", None),
            ("/static/b.js", signed.as_str(), None),
        ] {
            let found = authorised.grant(&script(url, hash, "/"));
            assert_eq!(found, grant, "{url} {hash}");
        }
    }

    #[test]
    fn a_table_says_what_is_authorised_and_why() {
        let rules = [ScriptRule {
            url: Some("/a.js".to_owned()),
            hash: None,
            justification: "counts, \"always\"".to_owned(),
        }];
        let authorised = Authorised {
            rules: &rules,
            manifest: None,
        };
        let scripts = [
            script("/a.js", "sha256-a", "/"),
            Script {
                first_seen: 1_764_288_000,
                last_seen: 1_764_374_400,
                ..script(INLINE, "", "/pay")
            },
        ];
        let expected = "script,hash,first page,first seen,last seen,authorised,justification\r\n\
            /a.js,sha256-a,/,1970-01-01,1970-01-01,yes,\"counts, \"\"always\"\"\"\r\n\
            inline,,/pay,2025-11-28,2025-11-29,no,\r\n";
        assert_eq!(table(&scripts, authorised), expected);
    }
}

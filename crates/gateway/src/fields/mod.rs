//! By which fields the application has its pages protected, and since when: PCI DSS 4.0.1 asks in 11.6.1 to be told of
//! changes. Browsers get them as they were sealed, so what is seen here is what they have; of public pages the worker
//! compares them (`page/fields.js`).

mod set;
mod table;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bulla_server::{Clock as _, Session, SystemClock};
use http::header::ORIGIN;
use http::{HeaderValue, Request, Response};
use serde::{Deserialize, Serialize};

use self::set::Set;
pub use self::table::table;
use crate::config::FieldsRule;
use crate::html;
use crate::listed::{self, DAY};

/// As many pages are kept apart.
const MOST: usize = 1000;

/// As many sets of fields are kept of each page: one with a token in it is another one each time.
const MOST_SETS: usize = 10;

/// As long is the path of a page that is kept apart, in bytes.
const MOST_LEN: usize = 256;

/// What stands for all pages for which there is no room.
const OTHERS: &str = "*";

/// What the log and the verifier are told.
const CHANGED: &str = "fields-changed";

/// Why it is not known which fields pages had.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used: {}", .0.display(), .1)]
pub struct FieldsError(PathBuf, #[source] io::Error);

/// The fields that a page had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageFields {
    /// Its path, with `*` for numbers and the like; or as a rule names it. `*` alone stands for all other pages.
    pub page: String,
    /// A line for each, as `name: value`.
    pub fields: String,
    /// Of all lines. Empty where it stands for all sets of the page that found no room.
    pub hash: String,
    /// In seconds since 1970, to the day.
    pub first_seen: u64,
    /// In seconds since 1970, to the day.
    pub last_seen: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    /// Where it is written down, if it is.
    file: Option<PathBuf>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_page: HashMap<String, Vec<PageFields>>,
    is_written: bool,
}

/// A page has other fields than it had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) page: String,
    pub(crate) hash: String,
    /// The lines that it had, with a minus, and those that it has.
    pub(crate) lines: String,
}

/// Of the request for a page, what is needed when its reply has come.
pub(crate) struct Asked {
    path: String,
    origin: Option<HeaderValue>,
    session: Option<Session>,
}

impl Asked {
    pub(crate) fn by<B>(request: &Request<B>) -> Self {
        Self {
            path: request.uri().path().to_owned(),
            origin: request.headers().get(ORIGIN).cloned(),
            session: request.extensions().get().cloned(),
        }
    }
}

/// Reads what a gateway has written down in this file; nothing if there is no file.
///
/// # Errors
///
/// [`FieldsError`].
pub fn read(file: &Path) -> Result<Vec<PageFields>, FieldsError> {
    listed::read(file).map_err(|error| FieldsError(file.to_owned(), error))
}

/// The rule that has authorised the fields of a page, if one has.
pub(crate) fn grant<'a>(rules: &'a [FieldsRule], page: &str, hash: &str) -> Option<&'a FieldsRule> {
    rules.iter().find(|rule| {
        let is_there = rule.page.as_ref().is_none_or(|named| is_at(page, named));
        is_there && rule.hash == hash
    })
}

impl Pages {
    /// Goes on from what is written down in this file, and writes it down there.
    ///
    /// # Errors
    ///
    /// [`FieldsError`].
    pub(crate) fn in_file(file: PathBuf) -> Result<Self, FieldsError> {
        let mut by_page: HashMap<String, Vec<PageFields>> = HashMap::new();
        for one in read(&file)? {
            by_page.entry(one.page.clone()).or_default().push(one);
        }
        let is_written = true;
        Ok(Self {
            file: Some(file),
            kept: Mutex::new(Kept {
                by_page,
                is_written,
            }),
        })
    }

    /// Looks at what the application has answered. What is no page, or none that was found, says nothing.
    pub(crate) fn look<B>(&self, asked: &Asked, response: &Response<B>, rules: &[FieldsRule]) {
        if !response.status().is_success() || !html::is_html(response.headers()) {
            return;
        }
        let set = Set::of(response.headers(), asked.origin.as_ref());
        let changed = self.note(&asked.path, set, rules, SystemClock.now());
        let Some(Changed { page, hash, lines }) = changed else {
            return;
        };
        tracing::warn!(
            target: "bulla_gateway::runtime", kind = CHANGED, page, hash, lines,
            "a page has other fields than it had, and no rule names them"
        );
        if let Some(session) = &asked.session {
            session.notice(CHANGED);
        }
    }

    /// Takes note of what a page has; `now` is in seconds since 1970. Gives what is to be told: that these are others
    /// than it had, and nobody has authorised them. The first ones of a page are others only where a rule names it.
    fn note(&self, path: &str, set: Set, rules: &[FieldsRule], now: u64) -> Option<Changed> {
        let today = now - now % DAY;
        let named = named(path, rules);
        let mut kept = self.lock();
        let Kept {
            by_page,
            is_written,
        } = &mut *kept;
        let mut page = named.map_or_else(|| without_numbers(path), str::to_owned);
        if named.is_none() && !by_page.contains_key(&page) && by_page.len() >= MOST {
            OTHERS.clone_into(&mut page);
        }
        let sets = by_page.entry(page.clone()).or_default();
        let Set { text, mut hash } = set;
        let is_authorised = grant(rules, &page, &hash).is_some();
        let is_known = |hash: &str| sets.iter().any(|known| known.hash == hash);
        if !is_known(&hash) && !is_authorised && sets.len() >= MOST_SETS {
            // It stands for all others.
            hash.clear();
        }
        let latest = sets.iter().max_by_key(|known| known.last_seen);
        let lines = difference(latest.map_or("", |latest| &latest.fields), &text);
        let latest = latest.map(|latest| latest.last_seen);
        let is_other = if let Some(known) = sets.iter_mut().find(|known| known.hash == hash) {
            let before = known.last_seen;
            if before < today {
                known.last_seen = today;
                *is_written = false;
            }
            // It has come back; of what stands for many nobody knows whether it has.
            Some(before) < latest || (hash.is_empty() && before < today)
        } else {
            *is_written = false;
            sets.push(PageFields {
                page: page.clone(),
                fields: if hash.is_empty() { String::new() } else { text },
                hash: hash.clone(),
                first_seen: today,
                last_seen: today,
            });
            latest.is_some() || named.is_some()
        };
        (is_other && !is_authorised).then_some(Changed { page, hash, lines })
    }

    /// All of them, by page, and in the order in which they were seen first.
    pub(crate) fn all(&self) -> Vec<PageFields> {
        let mut all: Vec<_> = self.lock().by_page.values().flatten().cloned().collect();
        all.sort_by(|one, other| one.page.cmp(&other.page));
        all
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().by_page.values().map(Vec::len).sum()
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
        let done = listed::write(file, &self.all());
        if done.is_err() {
            self.lock().is_written = false;
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest name that a rule has for a page.
fn named<'a>(path: &str, rules: &'a [FieldsRule]) -> Option<&'a str> {
    let names = rules.iter().filter_map(|rule| rule.page.as_deref());
    let names = names.filter(|named| is_at(path, named));
    names.max_by_key(|named| named.len())
}

fn is_at(path: &str, named: &str) -> bool {
    path == named || (named.ends_with('/') && path.starts_with(named))
}

/// A path with a star for each part that is most likely the number of something, of which there is no end. What is long
/// is left to the others.
fn without_numbers(path: &str) -> String {
    if path.len() > MOST_LEN {
        return OTHERS.to_owned();
    }
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let parts = path.split('/').map(|part| {
        let is_number = !part.is_empty() && part.bytes().all(is_digit);
        let is_id = part.len() >= 16 && part.bytes().any(is_digit);
        if is_number || is_id { "*" } else { part }
    });
    let kept = parts.collect::<Vec<_>>().join("/");
    kept.chars().filter(char::is_ascii_graphic).collect()
}

fn difference(before: &str, now: &str) -> String {
    let lacks = |text: &str, line: &str| text.lines().all(|other| other != line);
    let gone = before.lines().filter(|line| lacks(now, line));
    let come = now.lines().filter(|line| lacks(before, line));
    let gone = gone.map(|line| format!("- {line}"));
    let lines: Vec<_> = gone.chain(come.map(|line| format!("+ {line}"))).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests;

//! Which cookies look like sessions: those that the application keeps from script (`HttpOnly`).
//!
//! Those that are seen while the gateway only monitors are learnt: they are bound once it enforces. Later ones are only
//! told of, since whoever has one would be logged out.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cookie::Cookie;
use http::HeaderMap;
use http::header::SET_COOKIE;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Mode};
use crate::replaced::replace;
use crate::within::read_within;

/// As many names are remembered of each kind: an application that makes up names must not fill the memory.
const MOST: usize = 100;

/// How long the file may be, in bytes.
const MOST_LEN: u64 = 1 << 20;

/// Names of cookies, in their order.
#[derive(Debug, Default)]
pub(crate) struct Learnt {
    /// Where those are written down that are learnt, if they are.
    file: Option<PathBuf>,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    learnt: BTreeSet<String>,
    /// What has been told of and is not bound.
    told: BTreeSet<String>,
    is_written: bool,
}

/// Why it is not known what was learnt.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used: {}", .0.display(), .1)]
pub struct LearntError(PathBuf, #[source] io::Error);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    learnt: BTreeSet<String>,
}

impl Learnt {
    /// Goes on from what is written down in this file, and writes it down there.
    ///
    /// # Errors
    ///
    /// [`LearntError`] if the file is there and cannot be read.
    pub(crate) fn in_file(file: PathBuf) -> Result<Self, LearntError> {
        let learnt = match read(&file) {
            Ok(learnt) => learnt,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(LearntError(file, error)),
        };
        Ok(Self {
            file: Some(file),
            names: Mutex::new(Names {
                learnt,
                is_written: true,
                ..Names::default()
            }),
        })
    }

    /// Looks at what a reply sets. Each name is told once.
    pub(crate) fn look(&self, fields: &HeaderMap, config: &Config) {
        for line in fields.get_all(SET_COOKIE) {
            let cookie = line.to_str().ok().and_then(|line| Cookie::parse(line).ok());
            let Some(cookie) = cookie.filter(|cookie| cookie.http_only() == Some(true)) else {
                continue;
            };
            let name = cookie.name();
            let is_listed = |list: &[String]| list.iter().any(|known| known == name);
            if is_listed(&config.bound_cookies) || is_listed(&config.unbound_cookies) {
                continue;
            }
            match config.mode {
                Mode::Monitor if self.lock().learn(name) => tracing::warn!(
                    target: "bulla_gateway::cookies",
                    name,
                    "the application keeps a cookie from script: it will be bound once the mode is enforce, unless \
                     unbound_cookies names it"
                ),
                Mode::Enforce if self.lock().tell(name) => tracing::warn!(
                    target: "bulla_gateway::cookies",
                    name,
                    "the application keeps a cookie from script that bound_cookies does not name: if it is a session, whoever copies it has it"
                ),
                _ => {}
            }
        }
    }

    /// Those that were learnt while it only monitored, but for those that are not to be bound.
    pub(crate) fn learnt(&self, unbound: &[String]) -> Vec<String> {
        let names = self.lock();
        let mut learnt: Vec<_> = names.learnt.iter().cloned().collect();
        learnt.retain(|name| !unbound.contains(name));
        learnt
    }

    /// Those that it was not told to bind, and has not learnt.
    pub(crate) fn unbound(&self) -> Vec<String> {
        self.lock().told.iter().cloned().collect()
    }

    /// Writes down what was learnt, if that is more than was written.
    ///
    /// # Errors
    ///
    /// If that cannot be done; then it is tried the next time.
    pub(crate) fn save(&self) -> io::Result<()> {
        let mut names = self.lock();
        let Some(file) = self.file.as_ref().filter(|_| !names.is_written) else {
            return Ok(());
        };
        let learnt = names.learnt.clone();
        let text = serde_json::to_string(&Written { learnt }).map_err(io::Error::other)?;
        replace(file, &text)?;
        names.is_written = true;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn learn(&mut self, name: &str) -> bool {
        let is_new = insert(&mut self.learnt, name);
        self.is_written &= !is_new;
        is_new
    }

    fn tell(&mut self, name: &str) -> bool {
        !self.learnt.contains(name) && insert(&mut self.told, name)
    }
}

/// Whether there is room for one that is new.
fn insert(names: &mut BTreeSet<String>, name: &str) -> bool {
    names.len() < MOST && !names.contains(name) && names.insert(name.to_owned())
}

fn read(file: &Path) -> io::Result<BTreeSet<String>> {
    let content = read_within(file, MOST_LEN)?;
    let Written { learnt } = serde_json::from_slice(&content).map_err(io::Error::other)?;
    Ok(learnt)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use http::HeaderValue;

    use super::*;

    fn fields(lines: &[&'static str]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|line| (SET_COOKIE, HeaderValue::from_static(line)));
        lines.collect()
    }

    fn config(mode: Mode) -> Config {
        let mut config = Config::for_upstream(http::Uri::from_static("http://127.0.0.1:1"));
        config.mode = mode;
        config.bound_cookies = vec!["bound".to_owned()];
        config.unbound_cookies = vec!["free".to_owned()];
        config
    }

    const LINES: [&str; 7] = [
        "sid=1; HttpOnly",
        "sid=2; HttpOnly; Path=/",
        "bound=1; HttpOnly",
        "free=1; HttpOnly",
        "theme=dark",
        "=",
        "auth=1; httponly",
    ];

    #[test]
    fn what_script_cannot_read_is_learnt_while_it_only_monitors() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cookies.json");
        let learnt = Learnt::in_file(file.clone()).unwrap();
        learnt.look(&fields(&LINES), &config(Mode::Enforce));
        assert_eq!(learnt.unbound(), ["auth", "sid"]);
        assert!(learnt.learnt(&[]).is_empty());
        learnt.save().unwrap();
        assert!(!file.exists(), "there was nothing to write");

        let learnt = Learnt::in_file(file.clone()).unwrap();
        learnt.look(&fields(&LINES), &config(Mode::Monitor));
        learnt.save().unwrap();
        for learnt in [learnt, Learnt::in_file(file.clone()).unwrap()] {
            assert_eq!(learnt.learnt(&[]), ["auth", "sid"]);
            assert_eq!(learnt.learnt(&["sid".to_owned()]), ["auth"]);
            learnt.look(&fields(&LINES), &config(Mode::Enforce));
            assert!(learnt.unbound().is_empty());
        }
        fs::write(&file, "{}").unwrap();
        let error = Learnt::in_file(file).unwrap_err().to_string();
        assert!(error.contains("cookies.json cannot be used: "), "{error}");
    }

    #[test]
    fn an_application_that_makes_up_names_fills_nothing() {
        let learnt = Learnt::default();
        for number in 0..MOST * 2 {
            learnt.lock().learn(&number.to_string());
            learnt.lock().tell(&format!("other{number}"));
        }
        assert_eq!(
            (learnt.learnt(&[]).len(), learnt.unbound().len()),
            (MOST, MOST)
        );
    }
}

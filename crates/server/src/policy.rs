//! What is asked for at which paths: less than a proof, more than one, or nothing yet.
//!
//! Each is for the paths that begin so. What lets something pass compares the path as it came; what asks for more
//! also sees through what a lenient application would take for the same path.

use std::sync::{Arc, PoisonError};

use bulla_protocol::error::Error;
use bulla_protocol::target::{Target, plain};

use crate::bulla::Bulla;
use crate::error::ConfigError;
use crate::event::{About, EventKind};
use crate::require::Require;
use crate::session::Session;

/// What a verifier asks for, by the beginnings of paths. A [`Builder`](crate::Builder) has the same methods;
/// [`Bulla::set_paths`] puts another one in the place of what it was built with.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Paths {
    unsigned: Vec<String>,
    monitored: Vec<String>,
    unpaced: Vec<String>,
    required: Vec<Asked>,
}

/// What is asked for at the paths that begin so.
#[derive(Clone, Debug)]
struct Asked {
    prefix: String,
    /// The same, as a lenient application may read it.
    plain: String,
    require: Require,
}

impl Paths {
    /// As [`Builder::unpaced`](crate::Builder::unpaced).
    pub fn unpaced(mut self, path_prefix: impl Into<String>) -> Self {
        self.unpaced.push(path_prefix.into());
        self
    }

    /// As [`Builder::unsigned`](crate::Builder::unsigned).
    pub fn unsigned(mut self, path_prefix: impl Into<String>) -> Self {
        self.unsigned.push(path_prefix.into());
        self
    }

    /// As [`Builder::monitor`](crate::Builder::monitor).
    pub fn monitor(mut self, path_prefix: impl Into<String>) -> Self {
        self.monitored.push(path_prefix.into());
        self
    }

    /// As [`Builder::require`](crate::Builder::require).
    pub fn require(mut self, path_prefix: impl Into<String>, require: Require) -> Self {
        let prefix = path_prefix.into();
        self.required.push(Asked {
            plain: plain(&prefix).into_owned(),
            prefix,
            require,
        });
        self
    }

    /// Whether requests without any proof pass.
    pub(crate) fn is_unsigned(&self, path: &str) -> bool {
        begins_with_any(path, &self.unsigned)
    }

    /// Whether what would be refused passes.
    pub(crate) fn is_monitored(&self, path: &str) -> bool {
        begins_with_any(path, &self.monitored)
    }

    /// Whether bodies come as slowly as they like.
    pub(crate) fn is_unpaced(&self, path: &str) -> bool {
        begins_with_any(path, &self.unpaced)
    }

    pub(crate) fn monitors(&self) -> bool {
        !self.monitored.is_empty()
    }

    /// Checks everything that is asked for at a path.
    ///
    /// # Errors
    ///
    /// As [`Require::check`].
    pub(crate) fn check(&self, path: &str, session: Option<&Session>) -> Result<(), Error> {
        if self.required.is_empty() {
            return Ok(());
        }
        let plain = plain(path);
        let fits =
            |asked: &&Asked| path.starts_with(&asked.prefix) || plain.starts_with(&asked.plain);
        let mut asked = self.required.iter().filter(fits);
        asked.try_for_each(|asked| asked.require.check(session))
    }

    /// # Errors
    ///
    /// [`ConfigError::Path`] for the first beginning that no path has which ever comes.
    pub(crate) fn check_prefixes(&self) -> Result<(), ConfigError> {
        let wrong = self.wrong().map(|path| ConfigError::Path(path.to_owned()));
        wrong.map_or(Ok(()), Err)
    }

    fn wrong(&self) -> Option<&str> {
        let required = self.required.iter().map(|asked| &asked.prefix);
        let passing = [&self.unsigned, &self.monitored, &self.unpaced];
        let all = passing.into_iter().flatten().chain(required);
        let is_path = |path: &str| Target::parse(path).is_ok_and(|target| target.query.is_none());
        all.map(String::as_str).find(|path| !is_path(path))
    }
}

fn begins_with_any(path: &str, prefixes: &[String]) -> bool {
    prefixes
        .iter()
        .any(|prefix| path.starts_with(prefix.as_str()))
}

impl Bulla {
    /// What is asked for now. A request asks more than once: what is decided by one answer stays so.
    pub(crate) fn paths(&self) -> Arc<Paths> {
        let paths = self.0.paths.read();
        Arc::clone(&paths.unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks for something else at paths from now on, in place of all that the builder was told of them: for whoever turns a
    /// roll-out from monitoring to enforcing, say, without a restart. Requests that are under way may still go by what was
    /// asked for before.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Path`]; then all stays as it is.
    pub fn set_paths(&self, paths: Paths) -> Result<(), ConfigError> {
        paths.check_prefixes()?;
        let mut current = self.0.paths.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(paths);
        Ok(())
    }
}

/// Stands in the extensions of a request whose path is only monitored.
#[derive(Clone)]
pub(crate) struct Monitored {
    bulla: Bulla,
    about: About,
}

impl Monitored {
    pub(crate) fn new(bulla: &Bulla, about: &About) -> Self {
        Self {
            bulla: bulla.clone(),
            about: about.clone(),
        }
    }

    /// Records what would have been refused.
    pub(crate) fn pass(&self, refusal: Error) {
        self.bulla.report(EventKind::LetPass(refusal), &self.about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_asked_however_the_path_is_written() {
        let policy = Paths::default().require("/api/transfer", Require::session());
        for asked in [
            "/api/transfer",
            "/api/transfers",
            "/api/transfer/1",
            "//api///transfer",
            "/api;v=1/transfer;x",
            "/%61pi/tr%61nsfer",
            "/api/%74%72%61nsfer",
            "/api/transfer%",
            "/;/api/;a/transfer",
        ] {
            assert!(policy.check(asked, None).is_err(), "{asked}");
        }
        for free in [
            "/",
            "/api",
            "/api/trans",
            "/API/transfer",
            "/api/%2574ransfer",
            "/%",
        ] {
            assert_eq!(policy.check(free, None), Ok(()), "{free}");
        }
    }

    #[test]
    fn a_rule_is_for_a_path_whichever_way_it_is_written_itself() {
        for (rule, path) in [
            ("/caf%C3%A9", "/caf%c3%a9"),
            ("/caf%c3%a9", "/caf%C3%A9/a"),
            ("/v1/x:send", "/v1/x%3Asend"),
            ("/v1/x%3asend", "/v1/x:send"),
            ("/a//b", "/a/b"),
            ("/a;v", "/a;w"),
            ("/a%2541", "/a%2541"),
            ("/", "/;x"),
            ("/", "//"),
        ] {
            let policy = Paths::default().require(rule, Require::session());
            assert!(policy.wrong().is_none(), "{rule}");
            assert!(policy.check(path, None).is_err(), "{rule} {path}");
        }
        // No such path ever comes.
        for rule in [
            "",
            "a",
            "/caf\u{e9}",
            "/a b",
            "/a?x",
            "/a/../b",
            "/a%2fb",
            "/a#b",
        ] {
            let policy = Paths::default().require(rule, Require::session());
            assert_eq!(policy.wrong(), Some(rule));
            let open = Paths::default().unsigned(rule);
            assert_eq!(open.wrong(), Some(rule));
        }
    }

    /// Else an application could be had to read a path in its way.
    #[test]
    fn what_passes_passes_as_it_is_written_only() {
        let policy = Paths::default().unsigned("/static/").monitor("/old/");
        assert!(policy.is_unsigned("/static/a") && policy.is_monitored("/old/a"));
        for other in ["//static/a", "/%73tatic/a", "/static", "/;/static/a"] {
            assert!(!policy.is_unsigned(other), "{other}");
        }
        for other in ["//old/a", "/%6fld/a", "/old", "/old;/a"] {
            assert!(!policy.is_monitored(other), "{other}");
        }
    }
}

//! What is asked for at which paths: less than a proof, more than one, or nothing yet.
//!
//! A rule is for the paths that begin so. Rules that let something pass compare the path as it came; rules that
//! ask for more also see through what a lenient application would take for the same path.

use std::borrow::Cow;

use bulla_protocol::error::{Code, Error};

use crate::bulla::Bulla;
use crate::event::{About, EventKind};
use crate::require::Require;
use crate::session::Session;

/// The rules of a verifier.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    pub(crate) unsigned: Vec<String>,
    pub(crate) monitored: Vec<String>,
    pub(crate) required: Vec<(String, Require)>,
}

impl Policy {
    /// Whether requests without any proof pass.
    pub(crate) fn is_unsigned(&self, path: &str) -> bool {
        begins_with_any(path, &self.unsigned)
    }

    /// Whether what would be refused passes.
    pub(crate) fn is_monitored(&self, path: &str) -> bool {
        begins_with_any(path, &self.monitored)
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
        let asked = self.required.iter();
        let mut asked =
            asked.filter(|(prefix, _)| path.starts_with(prefix) || plain.starts_with(prefix));
        asked.try_for_each(|(_, require)| require.check(session))
    }

    /// The first rule that is for no path at all.
    pub(crate) fn wrong(&self) -> Option<&str> {
        let required = self.required.iter().map(|(prefix, _)| prefix);
        let all = self.unsigned.iter().chain(&self.monitored).chain(required);
        all.map(String::as_str).find(|path| !path.starts_with('/'))
    }
}

fn begins_with_any(path: &str, prefixes: &[String]) -> bool {
    prefixes
        .iter()
        .any(|prefix| path.starts_with(prefix.as_str()))
}

/// The path as a lenient application may read it: without empty segments, without parameters of segments
/// (RFC 3986 section 3.3), and without needless encoding (section 6.2.2.2).
fn plain(path: &str) -> Cow<'_, str> {
    if !path.contains("//") && !path.contains([';', '%']) {
        return Cow::Borrowed(path);
    }
    let mut plain = String::with_capacity(path.len());
    let segments = path
        .split('/')
        .filter_map(|segment| segment.split(';').next());
    for segment in segments.filter(|segment| !segment.is_empty()) {
        plain.push('/');
        let mut pieces = segment.split('%');
        plain.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let decoded = piece.get(..2).and_then(unreserved);
            plain.push(decoded.unwrap_or('%'));
            plain.push_str(decoded.map_or(piece, |_| &piece[2..]));
        }
    }
    if path.ends_with('/') {
        plain.push('/');
    }
    Cow::Owned(plain)
}

/// The unreserved character (RFC 3986 section 2.3) that two hexadecimal digits stand for.
fn unreserved(hex: &str) -> Option<char> {
    if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let decoded = char::from(u8::from_str_radix(hex, 16).ok()?);
    (decoded.is_ascii_alphanumeric() || "-._~".contains(decoded)).then_some(decoded)
}

/// Whether the client goes on by itself after this, so that nothing is gained by letting the request pass.
pub(crate) fn client_goes_on(code: Code) -> bool {
    matches!(
        code,
        Code::NonceStale
            | Code::TicketExpired
            | Code::TicketInvalid
            | Code::SessionRevoked
            | Code::SessionUnconfirmed
            | Code::ProofWeak
    )
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
        self.bulla.report(EventKind::Passed(refusal), &self.about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_asked_however_the_path_is_written() {
        let policy = Policy {
            required: vec![("/api/transfer".to_owned(), Require::session())],
            ..Policy::default()
        };
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

    /// Else an application could be had to read a path in its way.
    #[test]
    fn what_passes_passes_as_it_is_written_only() {
        let policy = Policy {
            unsigned: vec!["/static/".to_owned()],
            monitored: vec!["/old/".to_owned()],
            ..Policy::default()
        };
        assert!(policy.is_unsigned("/static/a") && policy.is_monitored("/old/a"));
        for other in ["//static/a", "/%73tatic/a", "/static", "/;/static/a"] {
            assert!(!policy.is_unsigned(other), "{other}");
        }
        for other in ["//old/a", "/%6fld/a", "/old", "/old;/a"] {
            assert!(!policy.is_monitored(other), "{other}");
        }
    }
}

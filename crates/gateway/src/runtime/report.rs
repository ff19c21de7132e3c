//! What a report says. Whoever controls a page writes it, so each text is cut and cleaned before anybody sees it.

use std::fmt;

use bulla_protocol::target::Origin;
use bulla_server::{Code, Error};
use serde::Deserialize;

/// As many reports stand in one request at most.
pub(super) const MOST: usize = 64;

/// Something that was noticed in a browser.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Report {
    /// A field that protects a page is not as it was sent.
    Transit {
        name: Word,
        expected: Word,
        found: Word,
        #[serde(default)]
        page: Address,
    },
    /// A file is not the one that it should be.
    Integrity {
        url: Address,
        /// The hash that it should have, as in integrity metadata.
        expected: Word,
        /// The one that it has.
        found: Word,
        #[serde(default)]
        page: Address,
    },
    /// A primitive is not the one that the loader has kept.
    Patched {
        /// Such as `XMLHttpRequest.prototype.send`.
        what: Word,
        #[serde(default)]
        page: Address,
    },
    /// A page runs a script.
    Script {
        /// [`INLINE`](crate::inventory::INLINE) for what stands in the page itself.
        url: Address,
        /// Its hash as in integrity metadata, if it is known.
        #[serde(default)]
        hash: Word,
        #[serde(default)]
        page: Address,
    },
    /// The page's policy (CSP) has refused something, or would have.
    Policy {
        directive: Word,
        #[serde(default)]
        blocked: Address,
        /// Whether it was only reported.
        #[serde(default)]
        report_only: bool,
        #[serde(default)]
        page: Address,
    },
}

impl Report {
    /// Its stable name.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Transit { .. } => "transit",
            Self::Integrity { .. } => "integrity",
            Self::Patched { .. } => "patched",
            Self::Script { .. } => "script",
            Self::Policy { .. } => "policy",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transit {
                name,
                expected,
                found,
                page,
            } => write!(f, "{name} is {found}, not {expected}, in {page}"),
            Self::Integrity {
                url,
                expected,
                found,
                page,
            } => write!(f, "{url} is {found}, not {expected}, in {page}"),
            Self::Patched { what, page } => write!(f, "{what} is patched in {page}"),
            Self::Script { url, hash, page } => write!(f, "{page} runs {url} {hash}"),
            Self::Policy {
                directive,
                blocked,
                report_only,
                page,
            } => {
                let refuses = if *report_only {
                    "would refuse"
                } else {
                    "refuses"
                };
                write!(f, "{directive} {refuses} {blocked} in {page}")
            }
        }
    }
}

/// Reads the content of a request: one report, or a list of them.
///
/// # Errors
///
/// [`Code::Malformed`].
pub(super) fn read(content: &[u8]) -> Result<Vec<Report>, Error> {
    let is_list = content.trim_ascii_start().starts_with(b"[");
    let read = if is_list {
        serde_json::from_slice(content)
    } else {
        serde_json::from_slice(content).map(|report| vec![report])
    };
    let reports: Vec<Report> = read.map_err(|_| Code::Malformed.because("this is no report"))?;
    if reports.len() > MOST {
        return Err(Code::Malformed.because("there are too many reports in one request"));
    }
    Ok(reports)
}

/// A word of visible ASCII, and no more than 128 bytes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "String")]
pub(crate) struct Word(String);

impl From<String> for Word {
    fn from(text: String) -> Self {
        Self(cleaned(&text, 128))
    }
}

/// An address, or a part of one, without what may be secret in it: credentials, query and fragment. Of `data:` and
/// `blob:` only that is left. At most 512 bytes of visible ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "String")]
pub(crate) struct Address(String);

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self(cleaned(&public_part(&text), 512))
    }
}

impl Word {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Address {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Its path, if it is one of this origin.
    pub(super) fn relative_to(&self, origin: Option<&Origin>) -> &str {
        let rest = origin.and_then(|origin| self.0.strip_prefix(origin.as_str()));
        rest.filter(|rest| rest.starts_with('/')).unwrap_or(&self.0)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn public_part(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = text.split_once(':') else {
        return text.to_owned();
    };
    let Some(rest) = rest.strip_prefix("//") else {
        // A path may have a colon, and is no scheme.
        let is_path = scheme.contains('/');
        return if is_path {
            text.to_owned()
        } else {
            format!("{scheme}:")
        };
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// What of a text is visible ASCII, as far as there is room.
fn cleaned(text: &str, room: usize) -> String {
    let visible = text.chars().filter(char::is_ascii_graphic);
    visible.take(room).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> String {
        Address::from(text.to_owned()).to_string()
    }

    #[test]
    fn each_kind_is_read_alone_and_in_lists() {
        let one = br#"{"kind":"integrity","url":"https://a.example/x.js?v=1","expected":"sha256-a","found":"sha256-b"}"#;
        let [report] = &read(one).unwrap()[..] else {
            panic!()
        };
        assert_eq!(report.kind(), "integrity");
        assert_eq!(
            report.to_string(),
            "https://a.example/x.js is sha256-b, not sha256-a, in "
        );
        let list = br#" [{"kind":"patched","what":"fetch"},
            {"kind":"script","url":"inline","hash":"sha256-a","page":"/a?token=1"},
            {"kind":"policy","directive":"script-src","blocked":"inline","report_only":true},
            {"kind":"transit","name":"clear-site-data","expected":"nothing","found":"\"cache\"","page":"/a"}]"#;
        let reports = read(list).unwrap();
        let kinds: Vec<_> = reports.iter().map(Report::kind).collect();
        assert_eq!(kinds, ["patched", "script", "policy", "transit"]);
        assert_eq!(reports[1].to_string(), "/a runs inline sha256-a");
        assert_eq!(reports[2].to_string(), "script-src would refuse inline in ");
        let fields = "clear-site-data is \"cache\", not nothing, in /a";
        assert_eq!(reports[3].to_string(), fields);
        assert_eq!(read(b"[]").unwrap(), []);
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let many = format!(
            "[{}]",
            vec![r#"{"kind":"patched","what":"a"}"#; MOST + 1].join(",")
        );
        let deep = "[".repeat(10_000);
        for wrong in [
            "",
            "{}",
            "null",
            r#"{"kind":"other"}"#,
            r#"{"kind":"patched"}"#,
            r#"{"kind":"patched","what":5}"#,
            r#"{"kind":"patched","what":"a","more":"b"}"#,
            r#"{"kind":"script","hash":"sha256-a"}"#,
            r#"{"kind":"policy","directive":"a","report_only":1}"#,
            r#"{"kind":"patched","what":"a"} "#.trim_end_matches("} "),
            &many,
            &deep,
        ] {
            assert_eq!(read(wrong.as_bytes()).unwrap_err().code, Code::Malformed);
        }
    }

    #[test]
    fn an_address_of_the_pages_own_origin_is_a_path() {
        let origin = Origin::parse("https://a.example").unwrap();
        for (text, within) in [
            ("https://a.example/b.js", "/b.js"),
            ("https://a.example", "https://a.example"),
            ("https://a.example.evil/b.js", "https://a.example.evil/b.js"),
            ("http://a.example/b.js", "http://a.example/b.js"),
            ("inline", "inline"),
        ] {
            let address = Address::from(text.to_owned());
            assert_eq!(address.relative_to(Some(&origin)), within);
            assert_eq!(address.relative_to(None), text);
        }
    }

    #[test]
    fn texts_are_cut_and_cleaned() {
        for (text, cleaned) in [
            (
                "https://ann:secret@a.example:1/b?token=1#c",
                "https://a.example:1/b",
            ),
            ("https://a.example", "https://a.example"),
            ("/a;b:c/d?e", "/a;b:c/d"),
            ("data:text/javascript,secret", "data:"),
            ("blob:https://a.example/1", "blob:"),
            ("inline", "inline"),
            ("/a\n\u{1b}[31m\u{202e}b ü", "/a[31mb"),
        ] {
            assert_eq!(address(text), cleaned);
        }
        assert_eq!(address(&"a".repeat(10_000)).len(), 512);
        assert_eq!(Word::from("ü".repeat(500) + &"a".repeat(500)).0.len(), 128);
    }
}

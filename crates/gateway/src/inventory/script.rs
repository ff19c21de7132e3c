//! A script, as pages report it.

use serde::{Deserialize, Serialize};

/// What stands for the address of a script without one.
pub(crate) const INLINE: &str = "inline";

/// What is left of URLs that have their content in them, or in the browser.
const SCHEMES: [&str; 2] = ["blob:", "data:"];

/// By what one script is told from another: its address, its hash, and the page if it stands for many.
pub(super) type Key = (String, String, String);

/// A script that browsers have run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Script {
    /// Its path, if it is of the origin of the page; else its URL; without query and fragment. `inline` for what stands in
    /// a page, and only the scheme of `data:` and `blob:`. Empty if it was no URL.
    pub url: String,
    /// As in an `integrity` attribute, `sha256-…` mostly. Empty if it is not known.
    pub hash: String,
    /// The path of the first page that has run it. Empty if it is not known.
    pub page: String,
    /// In seconds since 1970, to the day.
    pub first_seen: u64,
    /// In seconds since 1970, to the day.
    pub last_seen: u64,
    /// On how many days it was seen.
    #[serde(default = "one")]
    pub days: u32,
}

const fn one() -> u32 {
    1
}

impl Script {
    /// As a page has reported it, at this time. What is none of the texts that stand in an inventory is left out: a
    /// spreadsheet takes what begins with `=`, `+`, `-` or `@` for a formula.
    pub(crate) fn reported(url: &str, hash: &str, page: &str, now: u64) -> Self {
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
            days: 1,
        }
    }

    pub(super) fn key(&self) -> Key {
        // What stands for many is one page's.
        let page = if self.stands_for_many() {
            &*self.page
        } else {
            ""
        };
        (self.url.clone(), self.hash.clone(), page.to_owned())
    }

    /// Whether it stands for all inline scripts of a page beyond those that are kept.
    pub(super) fn stands_for_many(&self) -> bool {
        self.url == INLINE && self.hash.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One that was seen five seconds after the beginning of 1970.
    pub(crate) fn script(url: &str, hash: &str, page: &str) -> Script {
        Script {
            url: url.to_owned(),
            hash: hash.to_owned(),
            page: page.to_owned(),
            first_seen: 5,
            last_seen: 5,
            days: 1,
        }
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
}

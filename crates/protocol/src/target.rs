//! What a request is meant for: origin, authority, path and query.

use core::fmt;
use std::borrow::Cow;

use crate::error::{Code, Error};

/// A web origin (RFC 6454) in its one spelling: lower case, no default port, no path.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    text: String,
    scheme: &'static str,
    authority: String,
}

impl Origin {
    /// Takes `https://host`, `https://host:port`, or the same with `http` for local use.
    ///
    /// # Errors
    ///
    /// [`Code::AuthorityMismatch`] for any other scheme, a path, a user, or a host that has other characters than
    /// letters, digits and `-._:[]`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        const WRONG: Error = Code::AuthorityMismatch.because("not an origin");
        let text = text.to_ascii_lowercase();
        let (scheme, authority, default_port) = match text.strip_prefix("https://") {
            Some(authority) => ("https", authority, ":443"),
            None => ("http", text.strip_prefix("http://").ok_or(WRONG)?, ":80"),
        };
        let authority = authority.strip_suffix(default_port).unwrap_or(authority);
        let wanted = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        // What is left must not read as another origin's with its default port.
        let has_two_ports = authority.ends_with(default_port);
        let has_host = !authority.is_empty() && !authority.starts_with(':');
        if !has_host || has_two_ports || !authority.bytes().all(wanted) {
            return Err(WRONG);
        }
        Ok(Self {
            text: format!("{scheme}://{authority}"),
            scheme,
            authority: authority.to_owned(),
        })
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &str {
        self.scheme
    }

    /// The value of `@authority` (RFC 9421 section 2.2.3).
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The whole origin.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this authority, as received, is this origin's: case and a default port do not
    /// matter.
    pub fn has_authority(&self, received: &str) -> bool {
        let default_port = if self.scheme() == "https" {
            ":443"
        } else {
            ":80"
        };
        let same = |received: &str| received.eq_ignore_ascii_case(self.authority());
        // As browsers write it, and so nearly always.
        received == self.authority()
            || same(received.strip_suffix(default_port).unwrap_or(received))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({})", self.text)
    }
}

/// A path and query that can be read in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The value of `@path` (RFC 9421 section 2.2.6), byte for byte the path that is routed.
    pub path: &'a str,
    /// What follows the `?`, if there is one.
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Takes a request target in origin form (RFC 9112 section 3.2.1).
    ///
    /// # Errors
    ///
    /// [`Code::PathRefused`] for anything that two parsers could read in two ways: dot segments
    /// (also encoded ones, and such with parameters), encoded slashes and backslashes, encoded NUL, a
    /// fragment, and bytes that a URI cannot hold.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        let wanted = |b: u8| match b {
            b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            b => b.is_ascii_graphic(),
        };
        if !text.starts_with('/') || !text.bytes().all(wanted) {
            return Err(Code::PathRefused.because("the target is not an absolute path"));
        }
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        check_path(path)?;
        Ok(Self { path, query })
    }
}

/// The path as a lenient application may read it: without empty segments, without parameters of segments
/// (RFC 3986 section 3.3), and with no more encoding than it takes to write it down. Whoever asks for more at some
/// paths than at others asks by this, too.
pub fn plain(path: &str) -> Cow<'_, str> {
    if is_plain(path.as_bytes()) {
        return path.into();
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
            let octet = piece
                .split_at_checked(2)
                .and_then(|(hex, rest)| Some((octet(hex)?, rest)));
            match octet {
                Some((b'%', rest)) => plain.extend(["%25", rest]),
                Some((octet, rest)) if octet.is_ascii_graphic() => {
                    plain.push(octet.into());
                    plain.push_str(rest);
                }
                Some((octet, rest)) => plain.extend([&format!("%{octet:02X}"), rest]),
                None => plain.extend(["%", piece]),
            }
        }
    }
    if plain.is_empty() || path.ends_with('/') {
        plain.push('/');
    }
    plain.into()
}

/// Whether there is no other way to read a path: nothing in it is encoded, a parameter, or an empty segment.
fn is_plain(path: &[u8]) -> bool {
    let is_odd = |pair: &[u8]| matches!(pair, [_, b'%' | b';'] | [b'/', b'/']);
    path.starts_with(b"/") && !path.windows(2).any(is_odd)
}

/// What two hexadecimal digits stand for.
fn octet(hex: &str) -> Option<u8> {
    // Else a sign would do.
    let is_hex = hex.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u8::from_str_radix(hex, 16).ok()).flatten()
}

fn check_path(path: &str) -> Result<(), Error> {
    let encoded = |what: &str| {
        path.as_bytes()
            .windows(what.len())
            .any(|window| window.eq_ignore_ascii_case(what.as_bytes()))
    };
    if path.contains('%')
        && ["%2f", "%5c", "%00", "%2e"]
            .iter()
            .any(|what| encoded(what))
    {
        return Err(Code::PathRefused.because("the path has an encoded slash, dot or NUL"));
    }
    if path.split('/').any(is_dots) {
        return Err(Code::PathRefused.because("the path has a dot segment"));
    }
    Ok(())
}

/// Whether a segment is one of dots, also for a server that takes its parameters off (RFC 3986 section 3.3) before it
/// looks.
fn is_dots(segment: &str) -> bool {
    let rest = segment.trim_start_matches('.');
    let begins_with = |start: &str| {
        rest.get(..start.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(start))
    };
    matches!(segment.len() - rest.len(), 1 | 2)
        && (rest.is_empty() || begins_with(";") || begins_with("%3b"))
}

/// A method token (RFC 9110 section 9.1) that can be carried: not `CONNECT`, not `TRACE`.
///
/// # Errors
///
/// [`Code::Malformed`] for these, and if it is empty or not of upper-case letters and hyphens.
pub fn check_method(method: &str) -> Result<(), Error> {
    let upper = |b: u8| b.is_ascii_uppercase() || b == b'-';
    if method.is_empty() || !method.bytes().all(upper) || matches!(method, "CONNECT" | "TRACE") {
        return Err(Code::Malformed.because("the method cannot be carried"));
    }
    Ok(())
}

/// Whether a method is safe (RFC 9110 section 9.2.1): it may be sent again without asking.
pub fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_one_spelling() {
        let origin = Origin::parse("HTTPS://Bank.Example:443").unwrap();
        assert_eq!(origin.as_str(), "https://bank.example");
        assert_eq!(
            (origin.scheme(), origin.authority()),
            ("https", "bank.example")
        );
        assert!(origin.has_authority("BANK.example:443") && origin.has_authority("bank.example"));
        assert!(!origin.has_authority("bank.example:80") && !origin.has_authority("bank.example."));
        assert_eq!(
            Origin::parse("http://localhost:8080").unwrap().authority(),
            "localhost:8080"
        );
        for bad in [
            "bank.example",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://u@a",
            "https://:1",
            "https://a:443:443",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ambiguous_targets_are_refused() {
        assert_eq!(
            Target::parse("/a/b%20c?d=/../e"),
            Ok(Target {
                path: "/a/b%20c",
                query: Some("d=/../e")
            })
        );
        assert_eq!(
            Target::parse("/?"),
            Ok(Target {
                path: "/",
                query: Some("")
            })
        );
        for bad in [
            "",
            "a",
            "*",
            "/a/../b",
            "/a/.",
            "/%2e%2E/b",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a#b",
            "/a b",
            "/\u{e9}",
            "/a%00",
            "/a/..;/b",
            "/a/.;c=d",
            "/a/..%3Bc/b",
            "/a\r\n",
            "/a\"b",
            "/a<b",
            "/a>b",
            "/a^b",
            "/a`b",
            "/a{b",
            "/a|b",
            "/a}b",
            "/a\x7fb",
            "https://a/b",
        ] {
            assert_eq!(
                Target::parse(bad).unwrap_err().code,
                Code::PathRefused,
                "{bad}"
            );
        }
    }

    #[test]
    fn there_is_one_plain_path_for_all_that_a_lenient_application_takes_for_the_same() {
        for same in [
            "/a/b", "//a//b", "/a;c=d/b", "/a/b;", "/%61/%62", "/;c/a/b", "a/b",
        ] {
            assert_eq!(plain(same), "/a/b", "{same}");
        }
        for as_it_is in ["/", "/a", "/a/", "/%20", "/a%25b", "/%zz"] {
            assert_eq!(plain(as_it_is), as_it_is);
        }
        for root in ["", "//", "/;a", ";a/"] {
            assert_eq!(plain(root), "/", "{root}");
        }
    }
}

//! URIs, normalised so that they can be compared (RFC 3986 sections 6.2.2 and 6.2.3).

use core::fmt::Write as _;

use crate::target::Origin;

/// The URI without query and fragment, in its one spelling: scheme and host in lower case, no default port, at least
/// a `/` as path, no dot segments, and percent-encoding only where it is needed and in upper case. `None` if it is
/// not an absolute `https` or `http` URI, or names a user.
pub fn normalise(uri: &str) -> Option<String> {
    let uri = uri.split(['?', '#']).next()?;
    let (scheme, rest) = uri.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // A port may be empty.
    let authority = authority.strip_suffix(':').unwrap_or(authority);
    let origin = Origin::parse(&format!("{scheme}://{authority}")).ok()?;
    if origin.authority().ends_with(':') {
        return None;
    }
    at(&origin, path)
}

/// The same of a path at an origin.
pub fn at(origin: &Origin, path: &str) -> Option<String> {
    let mut segments = Vec::new();
    let mut is_folder = true;
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        let segment = decode_unreserved(segment)?;
        is_folder = matches!(&*segment, "." | "..");
        match &*segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    if is_folder {
        segments.push(String::new());
    }
    Some(format!("{origin}/{}", segments.join("/")))
}

/// Decodes what needs no percent-encoding (RFC 3986 section 2.3). `None` for what no path can hold.
fn decode_unreserved(segment: &str) -> Option<String> {
    let mut out = String::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            let is_allowed = matches!(byte, b'!'..=b'~') && !b"\"<>\\^`{|}".contains(&byte);
            out.push(is_allowed.then(|| char::from(byte))?);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let decoded = u8::try_from(digit()? << 4 | digit()?).ok()?;
        if decoded.is_ascii_alphanumeric() || b"-._~".contains(&decoded) {
            out.push(char::from(decoded));
        } else {
            write!(out, "%{decoded:02X}").ok()?;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_uris_have_one_spelling() {
        for (uri, normal) in [
            ("https://bank.example", "https://bank.example/"),
            ("HTTPS://Bank.Example:443/", "https://bank.example/"),
            ("https://bank.example:/a", "https://bank.example/a"),
            ("http://bank.example:80/a", "http://bank.example/a"),
            ("http://bank.example:443/a", "http://bank.example:443/a"),
            ("https://bank.example/a?b=/c#d", "https://bank.example/a"),
            ("https://bank.example?b", "https://bank.example/"),
            ("https://bank.example#b", "https://bank.example/"),
            (
                "https://bank.example/%7ea%2fb%C3%a9",
                "https://bank.example/~a%2Fb%C3%A9",
            ),
            (
                "https://bank.example/a/./b/../c",
                "https://bank.example/a/c",
            ),
            ("https://bank.example/a/%2e%2E/c", "https://bank.example/c"),
            ("https://bank.example/a/b/.", "https://bank.example/a/b/"),
            ("https://bank.example/a/b/..", "https://bank.example/a/"),
            ("https://bank.example/../..", "https://bank.example/"),
            ("https://bank.example/a//b/", "https://bank.example/a//b/"),
        ] {
            assert_eq!(normalise(uri).as_deref(), Some(normal), "{uri}");
            assert_eq!(normalise(normal).as_deref(), Some(normal), "{uri}");
        }
    }

    #[test]
    fn what_is_no_uri_of_the_web_has_none() {
        for bad in [
            "",
            "/a",
            "bank.example/a",
            "//bank.example/a",
            "ftp://bank.example/a",
            "https:bank.example",
            "https://",
            "https:///a",
            "https://bank.example::/a",
            "https://bank.example::443/a",
            "https://ann@bank.example/a",
            "https://bank.example/%",
            "https://bank.example/%4",
            "https://bank.example/%zz",
            "https://bank.example/%+4",
            "https://bank.example/a b",
            "https://bank.example/\u{e9}",
        ] {
            assert_eq!(normalise(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_and_whole_uris_agree() {
        let origin = Origin::parse("https://bank.example").unwrap();
        for path in ["/", "/a/b%20c", "/%7ea", "/a;b=c,d/"] {
            let whole = format!("https://bank.example:443{path}?query");
            assert_eq!(at(&origin, path), normalise(&whole), "{path}");
        }
    }
}

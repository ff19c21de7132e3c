//! What a request's `Authorization` says (RFC 9110 section 11.6.2, RFC 6750 section 2.1).

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

/// The credentials of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credentials<'a> {
    /// None, or by another scheme.
    Other,
    /// A bearer token.
    Bearer(&'a str),
    /// Somewhere in it is a bearer token, or what somebody may take for one, and it is not alone.
    Unclear,
}

impl<'a> Credentials<'a> {
    pub(super) fn of(fields: &'a HeaderMap) -> Self {
        let mut lines = fields.get_all(AUTHORIZATION).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            let is_there = fields.contains_key(AUTHORIZATION);
            return if is_there { Self::Unclear } else { Self::Other };
        };
        let is_scheme = |word: &&str| word.eq_ignore_ascii_case("bearer");
        if !words(line).iter().any(is_scheme) && line.to_str().is_ok() {
            return Self::Other;
        }
        let mut parts = line.to_str().unwrap_or_default().split_ascii_whitespace();
        let scheme = parts.next().filter(is_scheme);
        match (scheme, parts.next(), parts.next()) {
            (Some(_), Some(token), None) if is_token68(token) => Self::Bearer(token),
            _ => Self::Unclear,
        }
    }
}

/// With its padding at the end only.
fn is_token68(text: &str) -> bool {
    !text.trim_end_matches('=').contains([',', '"', '='])
}

/// What stands in a field between all that can stand between tokens.
pub(super) fn words(line: &HeaderValue) -> Vec<&str> {
    let separates = |&byte: &u8| byte.is_ascii_whitespace() || b",;=\"'".contains(&byte);
    let words = line.as_bytes().split(separates);
    words
        .filter_map(|word| std::str::from_utf8(word).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str], check: impl Fn(Credentials<'_>)) {
        let line = |line: &&str| (AUTHORIZATION, HeaderValue::from_str(line).unwrap());
        check(Credentials::of(&lines.iter().map(line).collect()));
    }

    #[test]
    fn one_bearer_token_is_one() {
        for line in [
            "Bearer a.b-c_d~e+f/g==",
            "bearer a.b-c_d~e+f/g==",
            "BEARER   a.b-c_d~e+f/g== ",
        ] {
            let token = "a.b-c_d~e+f/g==";
            read(&[line], |read| {
                assert_eq!(read, Credentials::Bearer(token), "{line}");
            });
        }
    }

    #[test]
    fn other_schemes_are_none_of_ours() {
        for lines in [
            &[][..],
            &["Basic YmVhcmVy"],
            &["Token a"],
            &["Digest username=\"a\""],
        ] {
            read(lines, |read| {
                assert_eq!(read, Credentials::Other, "{lines:?}");
            });
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_neither() {
        for lines in [
            &["Bearer"][..],
            &["Bearer a b"],
            &["Bearer a, Bearer b"],
            &["Basic x, Bearer a"],
            &["Basic x,bearer a"],
            &["Bearer a", "Bearer b"],
            &["Basic a", "Basic b"],
            &["Bearer token=\"a\""],
            &["x Bearer a"],
            &["Bearer \u{e9}"],
        ] {
            read(lines, |read| {
                assert_eq!(read, Credentials::Unclear, "{lines:?}");
            });
        }
    }
}

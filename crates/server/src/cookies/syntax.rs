//! Lines of cookies, and where they belong (RFC 6265).

use bulla_protocol::field::check_value;
use bulla_protocol::target::is_safe;
use cookie::{Cookie, SameSite};
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Method};
use zeroize::Zeroizing;

/// A `Cookie` line in the making. Values that were sealed stand in it.
#[derive(Default)]
pub(super) struct Line(Zeroizing<String>);

impl Line {
    pub(super) fn push(&mut self, name: &str, value: &str) {
        let parts = [if self.0.is_empty() { "" } else { "; " }, name, "=", value];
        let len = self.0.len() + parts.map(str::len).iter().sum::<usize>();
        if len > self.0.capacity() {
            // Were it left to the string, what it has outgrown would stay in memory.
            let mut longer = Zeroizing::new(String::with_capacity(len * 2));
            longer.push_str(&self.0);
            self.0 = longer;
        }
        for part in parts {
            self.0.push_str(part);
        }
    }

    /// `None` if there is nothing in it.
    pub(super) fn into_value(self) -> Option<HeaderValue> {
        if self.0.is_empty() {
            return None;
        }
        let mut line = HeaderValue::from_str(&self.0).ok()?;
        line.set_sensitive(true);
        Some(line)
    }
}

/// The cookies of a line, each by itself: one that cannot be read takes no other with it.
pub(super) fn parse(line: &HeaderValue) -> impl Iterator<Item = Cookie<'_>> {
    let pairs = line.as_bytes().split(|byte| *byte == b';');
    pairs.filter_map(|pair| Cookie::parse(check_value(pair).ok()?).ok())
}

/// Whether a handler may take this name for the known one. Cookie jars decode percents, in names too; ASP.NET takes no notice of
/// case; PHP takes a dot, a space or a bracket for an underscore, leaves out white space before a name, and ends it at a NUL.
pub(super) fn reads_as(name: &str, known: &str) -> bool {
    let mut rest = name.as_bytes();
    let next = || {
        let (byte, after) = match rest {
            [b'%', high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', &rest[1..]),
            },
            // What forms write for a space.
            [b'+', after @ ..] => (b' ', after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        rest = after;
        Some(byte)
    };
    let decoded = core::iter::from_fn(next)
        .skip_while(u8::is_ascii_whitespace)
        .take_while(|byte| *byte != 0);
    let known = known
        .bytes()
        .map(|byte| if byte == b'+' { b' ' } else { byte });
    decoded.map(folded).eq(known.map(folded))
}

fn folded(byte: u8) -> u8 {
    match byte {
        b'.' | b' ' | b'[' => b'_',
        other => other.to_ascii_lowercase(),
    }
}

fn hex(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

/// The lines that set cookies, taken out.
pub(super) fn take_set(headers: &mut HeaderMap) -> Vec<HeaderValue> {
    let lines = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    lines
}

/// RFC 6265 section 5.1.4.
pub(super) fn path_matches(path: &str, cookie: &str) -> bool {
    path.strip_prefix(cookie)
        .is_some_and(|rest| rest.is_empty() || cookie.ends_with('/') || rest.starts_with('/'))
}

/// RFC 6265 section 5.1.4. A `;`, which a path may hold, would end the attribute, and what follows be others: the
/// folder before it has the cookie then.
pub(super) fn default_path(path: &str) -> &str {
    let path = path.split(';').next().unwrap_or_default();
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}

/// Whether the browser would not have sent it with a request that another site began. A request that
/// comes sealed from the site's own service worker looks like the site's own to the browser; what is
/// inside says who began it.
pub(super) fn is_withheld(same_site: SameSite, method: &Method) -> bool {
    match same_site {
        SameSite::Strict => true,
        SameSite::Lax => !is_safe(method.as_str()),
        SameSite::None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_whatever_an_application_may_read() {
        for (name, known, is_read) in [
            ("sessionid", "sessionid", true),
            ("session%69d", "sessionid", true),
            ("SessionID", "sessionid", true),
            (".aspnetcore.COOKIES", ".AspNetCore.Cookies", true),
            ("laravel.session", "laravel_session", true),
            ("laravel session", "laravel_session", true),
            ("laravel+session", "laravel_session", true),
            ("laravel[session", "laravel_session", true),
            ("%20PHPSESSID", "PHPSESSID", true),
            ("PHPSESSID%00x", "PHPSESSID", true),
            ("a+b", "a+b", true),
            ("laravel-session", "laravel_session", false),
            ("sessionid2", "sessionid", false),
            ("session", "sessionid", false),
            ("", "sessionid", false),
            ("session%6", "session", false),
        ] {
            assert_eq!(reads_as(name, known), is_read, "{name} {known}");
        }
    }

    #[test]
    fn paths_match_as_in_rfc_6265() {
        for (path, cookie, matches) in [
            ("/a", "/a", true),
            ("/a/b", "/a", true),
            ("/a/b", "/a/", true),
            ("/ab", "/a", false),
            ("/", "/a", false),
            ("/a", "/", true),
        ] {
            assert_eq!(path_matches(path, cookie), matches, "{path} {cookie}");
        }
        for (path, default) in [
            ("/", "/"),
            ("/a", "/"),
            ("/a/b", "/a"),
            ("/a/b/", "/a/b"),
            ("/a/b;Domain=c/d", "/a"),
            ("/a/b/;c/d", "/a/b"),
        ] {
            assert_eq!(default_path(path), default);
        }
    }
}

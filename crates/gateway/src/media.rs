//! What kind of content a message says that it has: the media type in its `Content-Type` (RFC 9110 section 8.3.1).

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

/// Whether it is of this type, which is written in lower case and without parameters. Nothing is of no type.
pub(crate) fn is(fields: &HeaderMap, essence: &str) -> bool {
    written(fields).eq_ignore_ascii_case(essence.as_bytes())
}

/// The type in lower case, without parameters; empty if there is none.
pub(crate) fn essence(fields: &HeaderMap) -> String {
    String::from_utf8_lossy(written(fields)).to_ascii_lowercase()
}

/// Its parameters, as they are written.
pub(crate) fn parameters(fields: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    parts(fields).skip(1)
}

fn written(fields: &HeaderMap) -> &[u8] {
    parts(fields).next().unwrap_or_default()
}

fn parts(fields: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let kind = fields.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let parts = kind.unwrap_or_default().split(|&byte| byte == b';');
    parts.map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &'static [u8]) -> HeaderMap {
        let kind = HeaderValue::from_bytes(kind).unwrap();
        [(CONTENT_TYPE, kind)].into_iter().collect()
    }

    #[test]
    fn a_type_is_told_by_what_stands_before_its_parameters() {
        for kind in [
            b"text/html".as_slice(),
            b"Text/HTML",
            b" text/html\t;charset=utf-8",
            b"text/html;",
            b"text/html;a=text/css",
        ] {
            assert!(is(&of(kind), "text/html"), "{kind:?}");
            assert_eq!(essence(&of(kind)), "text/html");
        }
        for kind in [
            b"".as_slice(),
            b"text/html2",
            b"text /html",
            b"text/html, text/css",
            b";text/html",
            b"text/html\xff",
        ] {
            assert!(!is(&of(kind), "text/html"), "{kind:?}");
        }
        assert_eq!(essence(&HeaderMap::new()), "");
        assert!(!is(&HeaderMap::new(), "text/html"));
    }

    #[test]
    fn parameters_are_what_follows() {
        let fields = of(b"text/html; a=b ;c=\"d\"");
        let found: Vec<_> = parameters(&fields).collect();
        assert_eq!(found, [b"a=b".as_slice(), b"c=\"d\""]);
        assert_eq!(parameters(&of(b"text/html")).count(), 0);
    }
}

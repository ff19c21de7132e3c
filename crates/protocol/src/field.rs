//! Header fields: their names, and which of them may travel, must be covered, or reach a handler.

use crate::error::{Code, Error};

/// The session's ticket, a Byte Sequence (RFC 9651 section 3.3.5). In a request: the current one.
/// In a reply: the next one, to be used from now on.
pub const TICKET: &str = "bulla-ticket";
/// In a reply: the current server nonce, a String.
pub const NONCE: &str = "bulla-nonce";
/// In a reply: a ticket that is good for one opening within a minute, a Byte Sequence. The session
/// of the request has ended.
pub const CARRY_OVER: &str = "bulla-carry-over";
/// Beside that ticket: the device key may sign in another, which takes its place with that opening (a Boolean, always true).
pub const ROTATE: &str = "bulla-rotate";
/// In a sealed reply: the `nonce` parameter of the request that it answers, a String.
pub const IN_REPLY_TO: &str = "bulla-in-reply-to";
/// In a reply: the session has ended (a Boolean, always true).
pub const ENDED: &str = "bulla-ended";
/// In a refusal of an opening: how many zero bits the hash over the nonce beside it has to begin with, an Integer.
pub const WORK: &str = "bulla-work";
/// Never sent. The verifier states here the salt of the envelope that a streamed request came in, a
/// Byte Sequence; the proof covers it in place of a digest.
pub const SALT: &str = "bulla-salt";

/// RFC 9530 section 2.
pub const CONTENT_DIGEST: &str = "content-digest";
/// RFC 9421 section 4.1.
pub const SIGNATURE_INPUT: &str = "signature-input";
/// RFC 9421 section 4.2.
pub const SIGNATURE: &str = "signature";

/// The media type of a sealed message once it is opened, RFC 9292 section 7.
pub const BHTTP: &str = "message/bhttp";
/// The content coding of a sealed message, RFC 8188 section 2.
pub const AES128GCM: &str = "aes128gcm";

/// The fields of a message, one line each.
pub trait Fields: Sync {
    /// The value of the field with this lower-case name, without surrounding white space.
    ///
    /// # Errors
    ///
    /// [`Code::FieldRefused`] if the field has more than one line or its value is not visible ASCII
    /// with inner spaces and tabs.
    fn line(&self, name: &str) -> Result<Option<&str>, Error>;
}

impl Fields for Vec<(String, String)> {
    fn line(&self, name: &str) -> Result<Option<&str>, Error> {
        single(
            self.iter()
                .filter(|(n, _)| n == name)
                .map(|(_, value)| value.as_bytes()),
        )
    }
}

/// The rule behind [`Fields::line`], for all who keep fields in other ways.
///
/// # Errors
///
/// As [`Fields::line`]. `None` is no error: there is no such field.
pub fn single<'a>(mut lines: impl Iterator<Item = &'a [u8]>) -> Result<Option<&'a str>, Error> {
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    if lines.next().is_some() {
        return Err(Code::FieldRefused.because("a covered field stands on more than one line"));
    }
    check_value(line).map(Some)
}

/// A field value as it may be signed: visible ASCII, spaces and tabs, trimmed (RFC 9421 section
/// 2.1). So neither CR, LF nor NUL can get in.
///
/// # Errors
///
/// [`Code::FieldRefused`].
pub fn check_value(value: &[u8]) -> Result<&str, Error> {
    core::str::from_utf8(value)
        .ok()
        // No shortcut, so that many bytes are looked at in one step.
        .filter(|_| {
            value
                .iter()
                .fold(true, |all, b| all & matches!(b, b'\t' | b' '..=b'~'))
        })
        .map(str::trim_ascii)
        .ok_or(Code::FieldRefused.because("a field value is not visible ASCII"))
}

/// A field name as it may be signed: a lower-case token (RFC 9110 section 5.1).
///
/// # Errors
///
/// [`Code::FieldRefused`].
pub fn check_name(name: &[u8]) -> Result<&str, Error> {
    core::str::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty() && name.bytes().all(is_lower_tchar))
        .ok_or(Code::FieldRefused.because("a field name is not a lower-case token"))
}

fn is_lower_tchar(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Fields that are for one connection and not for the message (RFC 9110 section 7.6.1, RFC 9113 section
/// 8.2.2), and those that say how long it is there.
pub fn is_of_one_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "content-length"
            | "expect"
    )
}

/// Fields of this protocol: nobody but its two halves sets one.
pub fn is_ours(name: &str) -> bool {
    name.starts_with("bulla-")
}

/// Fields that may not stand inside a sealed request: those of one hop, those that the browser
/// alone handles, those that speak of forwarding or of another method, and those that the verifier
/// states itself.
pub fn is_refused_inside(name: &str) -> bool {
    matches!(
        name,
        // the browser's own
        "cookie" | "set-cookie" | "host"
        // forwarding
        | "forwarded" | "via" | "x-real-ip" | "client-ip" | "true-client-ip"
        | "x-client-ip" | "x-cluster-client-ip" | "x-original-url" | "x-rewrite-url"
        // method override
        | "x-http-method-override" | "x-http-method" | "x-method-override"
    ) || name.starts_with("x-forwarded-")
        || is_of_one_hop(name)
        || is_ours(name)
}

/// The value of a field that an application sets on a request through a session, as it may be signed.
/// The field may be none of the proof's own, and none that the server would refuse.
///
/// # Errors
///
/// [`Code::FieldRefused`].
pub fn of_application<'a>(name: &str, value: &'a [u8]) -> Result<&'a str, Error> {
    check_name(name.as_bytes())?;
    if matches!(name, SIGNATURE | SIGNATURE_INPUT | CONTENT_DIGEST) || is_refused_inside(name) {
        return Err(Code::FieldRefused.because("a header field cannot be sent through a session"));
    }
    check_value(value)
}

/// Fields that a handler may see although no proof covers them: the browser adds them by itself,
/// and nobody should decide anything by them.
pub fn is_benign(name: &str) -> bool {
    matches!(
        name,
        "accept" | "accept-encoding" | "accept-language" | "user-agent" | "origin" | "referer"
    ) || name.starts_with("sec-fetch-")
        || name.starts_with("sec-ch-ua")
}

/// Fields that a proof must cover whenever the request has them.
pub const COVERED_IF_PRESENT: [&str; 3] = ["content-type", "content-encoding", "authorization"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_visible_ascii() {
        let fields = vec![
            ("a".to_owned(), " 1 2\t".to_owned()),
            ("b".to_owned(), "x".to_owned()),
            ("b".to_owned(), "y".to_owned()),
            ("c".to_owned(), "a\r\nb: c".to_owned()),
            ("d".to_owned(), "é".to_owned()),
            ("e".to_owned(), "a\0b".to_owned()),
            ("f".to_owned(), "a\rb".to_owned()),
            ("g".to_owned(), "a\nb".to_owned()),
            ("h".to_owned(), "a\x7fb".to_owned()),
        ];
        assert_eq!(fields.line("a"), Ok(Some("1 2")));
        assert_eq!(fields.line("z"), Ok(None));
        for name in ["b", "c", "d", "e", "f", "g", "h"] {
            assert_eq!(fields.line(name).unwrap_err().code, Code::FieldRefused);
        }
    }

    #[test]
    fn names_are_lower_case_tokens() {
        assert_eq!(check_name(b"x-a_b"), Ok("x-a_b"));
        for bad in [&b""[..], b"A", b"a b", b"a:", "ä".as_bytes(), b"a\0"] {
            assert!(check_name(bad).is_err());
        }
    }

    /// One by one, as `docs/protocol.md` has them: each is believed by some server or framework.
    #[test]
    fn nothing_that_others_would_act_upon_stands_inside() {
        let names = "connection keep-alive proxy-connection te trailer transfer-encoding upgrade \
            http2-settings proxy-authenticate proxy-authorization content-length expect cookie \
            set-cookie host forwarded via x-real-ip client-ip true-client-ip x-client-ip \
            x-cluster-client-ip x-original-url x-rewrite-url x-http-method-override x-http-method \
            x-method-override x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-prefix \
            bulla-ticket bulla-salt bulla-nonce bulla-in-reply-to bulla-ended bulla-carry-over bulla-x";
        for name in names.split_whitespace() {
            assert!(is_refused_inside(name), "{name}");
            assert!(of_application(name, b"").is_err(), "{name}");
        }
        for name in [SIGNATURE, SIGNATURE_INPUT, CONTENT_DIGEST] {
            assert!(!is_refused_inside(name) && of_application(name, b"").is_err());
        }
        for name in ["content-type", "content-encoding", "authorization", "x-app"] {
            assert_eq!(of_application(name, b" x "), Ok("x"), "{name}");
        }
    }

    #[test]
    fn no_field_is_both_benign_and_refused() {
        for name in ["accept", "user-agent", "origin", "sec-fetch-site"] {
            assert!(is_benign(name) && !is_refused_inside(name));
        }
        for name in ["cookie", "x-forwarded-for", "bulla-ticket", "host"] {
            assert!(is_refused_inside(name) && !is_benign(name));
        }
    }
}

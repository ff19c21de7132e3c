//! What the application is told, and what nobody but the gateway may tell it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use bulla_protocol::field::{SIGNATURE, SIGNATURE_INPUT, is_of_one_hop, is_refused_inside};
use bulla_protocol::target::Origin;
use bulla_server::{ProofKind, Session};
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static BULLA_SESSION: HeaderName = HeaderName::from_static("bulla-session");
static BULLA_DEVICE: HeaderName = HeaderName::from_static("bulla-device");
static BULLA_SUBJECT: HeaderName = HeaderName::from_static("bulla-subject");
static BULLA_PROOF: HeaderName = HeaderName::from_static("bulla-proof");

/// Takes off what a client may not say to an application, and where a proxy states the client's address: `Forwarded` says it.
pub(super) fn take_off(fields: &mut HeaderMap, client_address: Option<&HeaderName>) {
    take_off_named(fields);
    let stated = client_address.map(|name| as_read(name.as_str()));
    remove(fields, |name| {
        let read = as_read(name);
        // The browser's own, as it writes them.
        let is_kept = matches!(name, "cookie" | "host");
        [SIGNATURE, SIGNATURE_INPUT].contains(&&*read)
            || (is_refused_inside(&read) && !is_kept)
            // No field of HTTP: CGI makes `HTTP_PROXY` of it, and libraries send their own requests there.
            || read == "proxy"
            || stated.as_ref() == Some(&read)
    });
}

/// Takes off what is for one connection and not for the message (RFC 9110 section 7.6.1): what `Connection` names, and
/// what is so by itself. Before the gateway's own fields are set, or a client could have it take off who he is. The
/// length stays, which tells of what HEAD would get.
pub(super) fn take_off_hop(fields: &mut HeaderMap) {
    take_off_named(fields);
    remove(fields, |name| {
        is_of_one_hop(name) && name != CONTENT_LENGTH.as_str()
    });
}

fn take_off_named(fields: &mut HeaderMap) {
    let lines = fields.get_all(CONNECTION).iter();
    let named = lines
        .flat_map(elements)
        .filter_map(|name| name.parse().ok());
    let named: Vec<HeaderName> = named.collect();
    for name in named {
        fields.remove(name);
    }
}

/// The elements of a list (RFC 9110 section 5.6.1). A line that is not ASCII has none.
pub(super) fn elements(line: &HeaderValue) -> impl Iterator<Item = &str> {
    let line = line.to_str().unwrap_or_default();
    line.split(',').map(str::trim)
}

fn remove(fields: &mut HeaderMap, is_refused: impl Fn(&str) -> bool) {
    let refused = fields.keys().filter(|name| is_refused(name.as_str()));
    let refused: Vec<HeaderName> = refused.cloned().collect();
    for name in refused {
        fields.remove(name);
    }
}

/// WSGI and CGI read an underscore as a hyphen, so a name with one is as good as ours to them.
fn as_read(name: &str) -> Cow<'_, str> {
    if name.contains('_') {
        name.replace('_', "-").into()
    } else {
        name.into()
    }
}

/// Takes off what an application may not say to a client.
pub(super) fn take_off_reply(fields: &mut HeaderMap) {
    remove(fields, |name| as_read(name).starts_with("bulla-"));
}

/// What is said of an origin to an application that is asked for it.
pub(crate) struct Stated {
    host: HeaderValue,
    proto: HeaderValue,
    /// What stands in `Forwarded` (RFC 7239) beside the client.
    forwarded: String,
}

impl Stated {
    /// `None` if the origin has what cannot stand in a field.
    pub(crate) fn of(origin: &Origin) -> Option<Self> {
        let (host, proto) = (origin.authority(), origin.scheme());
        Some(Self {
            host: HeaderValue::from_str(host).ok()?,
            proto: HeaderValue::from_str(proto).ok()?,
            forwarded: format!("host=\"{host}\";proto={proto}"),
        })
    }

    /// Says for which origin a request is, and for whom, so far as that is known.
    pub(super) fn state(&self, fields: &mut HeaderMap, client: Option<IpAddr>) {
        let mut text = String::with_capacity(64 + self.forwarded.len());
        // RFC 7239 section 6: an address of IPv6 stands in brackets and quotes.
        let (before, behind) = match client {
            Some(IpAddr::V4(_)) => ("for=", ";"),
            Some(IpAddr::V6(_)) => ("for=\"[", "]\";"),
            None => ("", ""),
        };
        text.push_str(before);
        push_address(&mut text, client);
        let address = before.len()..text.len();
        text.extend([behind, &self.forwarded]);
        let text = Bytes::from(text);
        if client.is_some() {
            set(fields, &X_FORWARDED_FOR, text.slice(address));
        }
        set(fields, &FORWARDED, text);
        fields.insert(X_FORWARDED_HOST.clone(), self.host.clone());
        fields.insert(X_FORWARDED_PROTO.clone(), self.proto.clone());
        fields.insert(HOST, self.host.clone());
    }
}

/// As `Display` writes it, which takes as long with the four numbers of IPv4 as reading a whole head does.
fn push_address(text: &mut String, address: Option<IpAddr>) {
    match address {
        Some(IpAddr::V4(address)) => {
            let digit = |value: u8| char::from(b'0' + value);
            for (at, octet) in address.octets().into_iter().enumerate() {
                text.extend((at > 0).then_some('.'));
                text.extend((octet >= 100).then(|| digit(octet / 100)));
                text.extend((octet >= 10).then(|| digit(octet / 10 % 10)));
                text.push(digit(octet % 10));
            }
        }
        Some(IpAddr::V6(address)) => {
            let _ = write!(text, "{address}");
        }
        None => {}
    }
}

/// Says whose a request is.
pub(crate) fn state_session(fields: &mut HeaderMap, session: &Session) {
    set(fields, &BULLA_SESSION, session.id().to_string());
    set(fields, &BULLA_DEVICE, session.device().to_string());
    if let Some(subject) = session.subject() {
        set(fields, &BULLA_SUBJECT, percent_encoded(subject));
    }
    let proof = match session.proof() {
        ProofKind::Device => "device",
        ProofKind::Session => "session",
    };
    fields.insert(BULLA_PROOF.clone(), HeaderValue::from_static(proof));
}

fn set(fields: &mut HeaderMap, name: &HeaderName, value: impl Into<Bytes>) {
    if let Ok(value) = HeaderValue::from_maybe_shared(value.into()) {
        fields.insert(name.clone(), value);
    }
}

/// RFC 3986 section 2.1, for all that is not visible ASCII.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Pages are changed on their way, and what is sealed must not be compressed: so both come whole and plain. Who does
/// not say so takes any coding (RFC 9110 section 12.5.3).
pub(super) fn ask_for_plain(fields: &mut HeaderMap, is_page: bool, is_sealed: bool) {
    if is_page || is_sealed {
        fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if is_page {
        for name in [RANGE, IF_RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE] {
            fields.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::edge::is_navigation;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |&(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn what_only_the_gateway_may_say_is_taken_off_in_every_spelling() {
        for name in [
            "bulla-session",
            "bulla_session",
            "bulla-_subject",
            "signature",
            "signature_input",
            "forwarded",
            "x-forwarded-for",
            "x_forwarded_host",
            "x-forwarded_proto",
            "x_real_ip",
            "via",
            "proxy",
            "x-http_method-override",
            "transfer_encoding",
            "content-length",
            "content_length",
            "cf-client",
            "cf_client",
        ] {
            let mut forged = fields(&[(name, "1"), ("cookie", "a=b"), ("host", "a")]);
            take_off(&mut forged, Some(&HeaderName::from_static("cf-client")));
            let kept = fields(&[("cookie", "a=b"), ("host", "a")]);
            assert_eq!(forged, kept, "{name}");
        }
    }

    #[test]
    fn nobody_has_the_gateways_fields_taken_off_by_connection() {
        let mut asked = fields(&[
            ("connection", "X-Forwarded-For, Upgrade, X-Own"),
            ("x-own", "1"),
        ]);
        take_off(&mut asked, None);
        assert_eq!(asked, fields(&[]));
    }

    #[test]
    fn the_origin_and_the_address_are_stated() {
        let mut told = fields(&[("host", "evil.example")]);
        let origin = Origin::parse("https://bank.example").unwrap();
        let stated = Stated::of(&origin).unwrap();
        stated.state(&mut told, "2001:db8::1".parse().ok());
        let all = fields(&[
            ("host", "bank.example"),
            ("x-forwarded-for", "2001:db8::1"),
            ("x-forwarded-host", "bank.example"),
            ("x-forwarded-proto", "https"),
            (
                "forwarded",
                "for=\"[2001:db8::1]\";host=\"bank.example\";proto=https",
            ),
        ]);
        assert_eq!(told, all);
    }

    #[test]
    fn addresses_are_stated_as_everybody_writes_them() {
        for octet in 0..=u8::MAX {
            let address = Ipv4Addr::new(octet, 0, 10, 255 - octet).into();
            let mut told = HeaderMap::new();
            let origin = Origin::parse("http://localhost").unwrap();
            Stated::of(&origin).unwrap().state(&mut told, Some(address));
            assert_eq!(told["x-forwarded-for"], address.to_string());
            let whole = format!("for={address};host=\"localhost\";proto=http");
            assert_eq!(told[FORWARDED], whole);
        }
    }

    #[test]
    fn subjects_are_visible_ascii() {
        assert_eq!(percent_encoded("j\u{e9} %\n"), "j%C3%A9%20%25%0A");
    }

    #[test]
    fn pages_come_whole_and_plain() {
        let asked = [("accept-encoding", "br"), ("range", "bytes=0-")];
        for page in [("sec-fetch-mode", "navigate"), ("accept", "Text/HTML,*/*")] {
            let mut fields = fields(&[asked[0], asked[1], page]);
            let is_page = is_navigation(&fields);
            ask_for_plain(&mut fields, is_page, false);
            assert_eq!(fields[ACCEPT_ENCODING], "identity", "{page:?}");
            assert_eq!(fields.len(), 2, "{page:?}");
        }
        let mut sealed = fields(&asked);
        ask_for_plain(&mut sealed, is_navigation(&fields(&asked)), true);
        assert_eq!(sealed, fields(&[("accept-encoding", "identity"), asked[1]]));
        let mut other = fields(&asked);
        ask_for_plain(&mut other, is_navigation(&fields(&asked)), false);
        assert_eq!(other, fields(&asked));
    }
}

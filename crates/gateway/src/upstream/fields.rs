//! What the application is told, and what nobody but the gateway may tell it.

use std::fmt::Write as _;
use std::net::IpAddr;

use bulla_protocol::field::{SIGNATURE, SIGNATURE_INPUT, is_refused_inside};
use bulla_protocol::target::Origin;
use bulla_server::{ProofKind, Session};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Takes off what a client may not say to an application, and where a proxy states the client's address: `Forwarded` says it.
pub(super) fn take_off(fields: &mut HeaderMap, client_address: Option<&HeaderName>) {
    take_off_nominated(fields);
    let read = |name: &HeaderName| name.as_str().replace('_', "-");
    let stated = client_address.map(read);
    let is_stated = |name: &HeaderName| stated.as_ref().is_some_and(|stated| *stated == read(name));
    let forged = fields
        .keys()
        .filter(|name| is_forged(name.as_str()) || is_stated(name));
    let forged: Vec<HeaderName> = forged.cloned().collect();
    for name in forged {
        fields.remove(name);
    }
}

/// Takes off what `Connection` names (RFC 9110 section 7.6.1) before the gateway's own fields are set: the engine does
/// so after that, and a client could have it take off who he is.
fn take_off_nominated(fields: &mut HeaderMap) {
    let lines = fields.get_all(CONNECTION).iter();
    let named: Vec<String> = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    fields.remove(CONNECTION);
    let upgrades = named.iter().any(|name| name == "upgrade");
    for name in named.iter().filter(|name| *name != "upgrade") {
        fields.remove(name.as_str());
    }
    if upgrades {
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// WSGI and CGI read an underscore as a hyphen, so a name with one is as good as ours to them.
fn is_forged(name: &str) -> bool {
    let read = name.replace('_', "-");
    let kept = [
        "cookie",
        "host",
        "connection",
        "upgrade",
        "content-length",
        "te",
    ];
    [SIGNATURE, SIGNATURE_INPUT].contains(&read.as_str())
        || (is_refused_inside(&read) && !kept.contains(&name))
}

/// Takes off what an application may not say to a client. What is of one hop the engine takes off.
pub(super) fn take_off_reply(fields: &mut HeaderMap) {
    let ours = |name: &&HeaderName| name.as_str().replace('_', "-").starts_with("bulla-");
    let ours: Vec<HeaderName> = fields.keys().filter(ours).cloned().collect();
    for name in ours {
        fields.remove(name);
    }
}

/// Says for which origin a request is and whose it is, so far as that is known.
pub(super) fn state(
    fields: &mut HeaderMap,
    origin: &Origin,
    client: Option<IpAddr>,
    session: Option<&Session>,
) {
    let mut forwarded = String::new();
    if let Some(client) = client {
        set(fields, "x-forwarded-for", &client.to_string());
        // RFC 7239 section 6: an address of IPv6 stands in brackets and quotes.
        let _ = match client {
            IpAddr::V4(client) => write!(forwarded, "for={client};"),
            IpAddr::V6(client) => write!(forwarded, "for=\"[{client}]\";"),
        };
    }
    let _ = write!(
        forwarded,
        "host=\"{}\";proto={}",
        origin.authority(),
        origin.scheme()
    );
    set(fields, "forwarded", &forwarded);
    set(fields, "x-forwarded-host", origin.authority());
    set(fields, "x-forwarded-proto", origin.scheme());
    set(fields, HOST.as_str(), origin.authority());
    if let Some(session) = session {
        state_session(fields, session);
    }
}

/// Says whose a request is.
pub(crate) fn state_session(fields: &mut HeaderMap, session: &Session) {
    set(fields, "bulla-session", &session.id().to_string());
    set(fields, "bulla-device", &session.device().to_string());
    if let Some(subject) = session.subject() {
        set(fields, "bulla-subject", &percent_encoded(subject));
    }
    let proof = match session.proof() {
        ProofKind::Device => "device",
        ProofKind::Session => "session",
    };
    set(fields, "bulla-proof", proof);
}

fn set(fields: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(HeaderName::from_static(name), value);
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

/// Pages are changed on their way, and what is sealed must not be compressed: so both come whole and plain. Who does not say
/// so takes any coding (RFC 9110 section 12.5.3).
pub(super) fn ask_for_plain(fields: &mut HeaderMap, is_sealed: bool) {
    let is_page = is_page(fields);
    if is_page || is_sealed {
        fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if is_page {
        for name in [RANGE, IF_RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE] {
            fields.remove(name);
        }
    }
}

fn is_page(fields: &HeaderMap) -> bool {
    let line = |name: &str| fields.get(name).and_then(|line| line.to_str().ok());
    let in_frame = |to: &str| matches!(to, "document" | "iframe" | "frame");
    line("sec-fetch-dest").is_some_and(in_frame)
        || line(ACCEPT.as_str()).is_some_and(|line| line.to_ascii_lowercase().contains("text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "x-http_method-override",
            "transfer_encoding",
            "content_length",
            "cf-client",
            "cf_client",
        ] {
            let mut forged = fields(&[(name, "1"), ("cookie", "a=b"), ("content-length", "1")]);
            take_off(&mut forged, Some(&HeaderName::from_static("cf-client")));
            let kept = fields(&[("cookie", "a=b"), ("content-length", "1")]);
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
        assert_eq!(asked, fields(&[("connection", "upgrade")]));
    }

    #[test]
    fn the_origin_and_the_address_are_stated() {
        let mut told = fields(&[("host", "evil.example")]);
        let origin = Origin::parse("https://bank.example").unwrap();
        state(&mut told, &origin, "2001:db8::1".parse().ok(), None);
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
    fn subjects_are_visible_ascii() {
        assert_eq!(percent_encoded("j\u{e9} %\n"), "j%C3%A9%20%25%0A");
    }

    #[test]
    fn pages_come_whole_and_plain() {
        let asked = [("accept-encoding", "br"), ("range", "bytes=0-")];
        for page in [("sec-fetch-dest", "iframe"), ("accept", "Text/HTML,*/*")] {
            let mut fields = fields(&[asked[0], asked[1], page]);
            ask_for_plain(&mut fields, false);
            assert_eq!(fields[ACCEPT_ENCODING], "identity", "{page:?}");
            assert_eq!(fields.len(), 2, "{page:?}");
        }
        let mut sealed = fields(&asked);
        ask_for_plain(&mut sealed, true);
        assert_eq!(sealed, fields(&[("accept-encoding", "identity"), asked[1]]));
        let mut other = fields(&asked);
        ask_for_plain(&mut other, false);
        assert_eq!(other, fields(&asked));
    }
}

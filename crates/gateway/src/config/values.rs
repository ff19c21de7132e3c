//! What may stand in quotes. Each says what would be right.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulla_protocol::target::{Origin, Target};
use bulla_server::ProofKind;
use http::{HeaderName, Uri};
use url::Url;

use super::{Access, Content, Member, Mode, Policy, Reaction, Unbound};
use crate::access::is_beginning;
use crate::delivery::is_base;
use crate::edge::is_own;

/// An address and a port to listen at, such as `127.0.0.1:8080`, `0.0.0.0:443` or `[::]:443`.
///
/// # Errors
///
/// What would be right, in a sentence.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is no address with a port, such as 127.0.0.1:8080 or [::]:443")
    })
}

/// A public origin (RFC 6454), such as `https://bank.example`, by the verifier's rule and in its one spelling.
///
/// # Errors
///
/// What would be right, in a sentence.
pub fn origin(text: &str) -> Result<String, String> {
    match Origin::parse(text) {
        Ok(origin) if has_port(origin.authority()) => Ok(origin.as_str().to_owned()),
        _ => Err(format!(
            "{text:?} is no origin such as https://bank.example: scheme, host and port, with no path and no slash at the end"
        )),
    }
}

/// Where an application is: `http` or `https`, host and port. A path would be lost, so there is none.
///
/// # Errors
///
/// What would be right, in a sentence.
pub fn upstream(text: &str) -> Result<Uri, String> {
    let origin = Origin::parse(text.strip_suffix('/').unwrap_or(text)).ok();
    let origin = origin.filter(|origin| has_port(origin.authority()));
    origin
        .and_then(|origin| origin.as_str().parse().ok())
        .ok_or_else(|| {
            format!(
                "{text:?} is no upstream such as http://127.0.0.1:8000: http or https, host and port, with no path"
            )
        })
}

/// Whether what follows the host, if anything does, is a port.
fn has_port(authority: &str) -> bool {
    let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    match authority[host_end..].split_once(':') {
        Some((_, port)) => port.parse::<u16>().is_ok_and(|port| port != 0),
        None => true,
    }
}

pub(super) fn access(text: &str) -> Result<Access, String> {
    one_of(text, &Access::ALL.map(|access| (access.name(), access)))
}

pub(super) fn proof(text: &str) -> Result<ProofKind, String> {
    one_of(
        text,
        &[
            ("device", ProofKind::Device),
            ("session", ProofKind::Session),
        ],
    )
}

pub(super) fn mode(text: &str) -> Result<Mode, String> {
    one_of(text, &Mode::ALL.map(|mode| (mode.name(), mode)))
}

pub(super) fn policy(text: &str) -> Result<Policy, String> {
    one_of(text, &Policy::ALL.map(|policy| (policy.name(), policy)))
}

pub(super) fn reaction(text: &str) -> Result<Reaction, String> {
    one_of(
        text,
        &Reaction::ALL.map(|reaction| (reaction.name(), reaction)),
    )
}

pub(super) fn on_or_off(text: &str) -> Result<bool, String> {
    one_of(text, &[("on", true), ("off", false)])
}

pub(super) fn content(text: &str) -> Result<Content, String> {
    one_of(text, &Content::ALL.map(|content| (content.name(), content)))
}

pub(super) fn unbound(text: &str) -> Result<Unbound, String> {
    one_of(text, &Unbound::ALL.map(|unbound| (unbound.name(), unbound)))
}

/// A place in a JSON text: the name of a member, or a JSON Pointer (RFC 6901).
pub(super) fn member(text: &str) -> Result<Member, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is no member, such as token, nor a JSON Pointer such as /data/token")
    })
}

fn one_of<T: Copy>(text: &str, all: &[(&str, T)]) -> Result<T, String> {
    let found = all.iter().find(|(name, _)| *name == text);
    found.map(|&(_, value)| value).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|&(name, _)| name).collect();
        format!("{text:?} is not one of {}", names.join(", "))
    })
}

/// A time such as `250ms`, `5s`, `2m` or `1h`.
fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let number = number.parse::<u64>().ok();
    let of = |milliseconds| number.and_then(|number| number.checked_mul(milliseconds));
    let milliseconds = match unit {
        "ms" => of(1),
        "s" => of(1000),
        "m" => of(60 * 1000),
        "h" => of(60 * 60 * 1000),
        _ => None,
    };
    milliseconds
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is no time such as 250ms, 5s, 2m or 1h"))
}

/// The longest time that makes sense of one request.
const DAY: Duration = Duration::from_hours(24);

/// A time that is not none.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err(format!("{text:?} is no time at all; 1ms to 24h")),
        time if time > DAY => Err(format!("{text:?} is too long; 1ms to 24h")),
        time => Ok(time),
    }
}

/// A time that may be none.
pub(super) fn any_time(text: &str) -> Result<Duration, String> {
    match time(text)? {
        time if time > DAY => Err(format!("{text:?} is too long; 0s to 24h")),
        time => Ok(time),
    }
}

/// The most that is held in memory of one request.
const GIB: usize = 1024 * 1024 * 1024;

/// A size such as `512KiB` or `10MiB`.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let number = number.parse::<usize>().ok();
    let of = |bytes| number.and_then(|number| number.checked_mul(bytes));
    let bytes = match unit {
        "B" => of(1),
        "KiB" => of(1024),
        "MiB" => of(1024 * 1024),
        "GiB" => of(GIB),
        _ => None,
    };
    match bytes {
        Some(0) => Err(format!("{text:?} is nothing at all; 1B to 1GiB")),
        Some(bytes) if bytes > GIB => Err(format!("{text:?} is too much; 1B to 1GiB")),
        Some(bytes) => Ok(bytes),
        None => Err(format!("{text:?} is no size such as 512KiB or 10MiB")),
    }
}

fn split(text: &str) -> (&str, &str) {
    let is_unit = |character: char| !character.is_ascii_digit();
    text.split_at(text.find(is_unit).unwrap_or(text.len()))
}

/// The name of a cookie: a token (RFC 6265 section 4.1.1).
pub(super) fn cookie(text: &str) -> Result<String, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err(format!(
            "{text:?} is no name of a cookie, such as sessionid"
        ));
    }
    Ok(text.to_owned())
}

/// The beginning of a path. Whether it is one is for [`Rules`](crate::access::Rules) to say; what lies below the
/// protocol's own prefix never comes to a rule.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    if is_own(text) {
        return Err(format!("{text:?} is the protocol's own, and takes no rule"));
    }
    Ok(text.to_owned())
}

/// The path of a page, or the beginning of it.
pub(super) fn page(text: &str) -> Result<String, String> {
    match Target::parse(text) {
        Ok(target) if target.query.is_none() => Ok(text.to_owned()),
        _ => Err(format!(
            "{text:?} is no path such as /pay/, without a query"
        )),
    }
}

/// The path of a folder.
pub(super) fn base(text: &str) -> Result<String, String> {
    if !is_base(text) || !is_beginning(text) || is_own(text) {
        return Err(format!("{text:?} is no path of a folder, such as /static/"));
    }
    Ok(text.to_owned())
}

/// A path that upstreams are asked for. It may have a query.
pub(super) fn target(text: &str) -> Result<String, String> {
    match Target::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is no path such as /health")),
    }
}

/// The URL of a script, in the one spelling of the WHATWG's, or its path at the page's own origin; or the beginning of either,
/// up to a slash. It goes into policies (CSP), where some characters end it.
pub(super) fn script(text: &str) -> Result<String, String> {
    let whole = match text.strip_prefix('/') {
        Some(path) if !path.starts_with('/') => Url::parse(&format!("https://own.invalid{text}")),
        _ => Url::parse(text),
    };
    let is_spelt = |url: &Url| {
        let spelt = url.as_str();
        spelt == text || spelt.strip_prefix("https://own.invalid") == Some(text)
    };
    let is_one = whole.is_ok_and(|url| {
        matches!(url.scheme(), "https" | "http")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
            && is_spelt(&url)
    });
    if !is_one || text.contains([';', ',', '\'', '*']) {
        return Err(format!(
            "{text:?} is no script such as https://pay.example/v3/ or /static/app.js: scheme, host and path, or the path alone, \
             with no query"
        ));
    }
    Ok(text.to_owned())
}

/// Integrity metadata (Subresource Integrity, section 3.1) of one hash.
pub(super) fn hash(text: &str) -> Result<String, String> {
    let lens = [("sha256-", 32), ("sha384-", 48), ("sha512-", 64)];
    let is_one = lens.iter().any(|(name, len)| {
        let encoded = text.strip_prefix(name);
        let bytes = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        bytes.is_some_and(|bytes| bytes.len() == *len)
    });
    if !is_one {
        return Err(format!(
            "{text:?} is no hash such as sha256-… as in an integrity attribute"
        ));
    }
    Ok(text.to_owned())
}

/// Something for people to read.
pub(super) fn sentence(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err(format!("{text:?} says nothing in one line"));
    }
    Ok(text.to_owned())
}

/// A path in the file system.
pub(super) fn file(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err(format!("{text:?} is no path of a file"));
    }
    Ok(PathBuf::from(text))
}

/// The name of a header field (RFC 9110 section 5.1) that holds an address.
pub(super) fn field(text: &str) -> Result<HeaderName, String> {
    match HeaderName::try_from(text) {
        Ok(http::header::FORWARDED) => Err(format!(
            "{text:?} has more in it than an address (RFC 7239); name a field of your own, such as x-real-ip"
        )),
        Ok(name) => Ok(name),
        Err(_) => Err(format!(
            "{text:?} is no name of a header field, such as x-real-ip"
        )),
    }
}

/// Whether a browser takes a host for the machine that it runs on, and so for secure without TLS (W3C Secure
/// Contexts, section 3.1).
pub(super) fn is_this_machine(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    let host = host.unwrap_or_default();
    let is_loopback = host
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    is_loopback || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        for (text, time) in [
            ("250ms", Duration::from_millis(250)),
            ("5s", Duration::from_secs(5)),
            ("2m", Duration::from_mins(2)),
            ("24h", DAY),
        ] {
            assert_eq!(some_time(text), Ok(time));
        }
        for wrong in [
            "",
            "5",
            "s",
            "5 s",
            "-1s",
            "1.5s",
            "5S",
            "1d",
            "99999999999999999999s",
        ] {
            let what = format!("{wrong:?} is no time such as 250ms, 5s, 2m or 1h");
            assert_eq!(some_time(wrong), Err(what));
        }
        assert!(some_time("0s").is_err() && any_time("0s").is_ok());
        assert!(some_time("25h").is_err() && any_time("18446744073709551615h").is_err());
        for (text, bytes) in [("1B", 1), ("512KiB", 512 * 1024), ("1GiB", GIB)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for wrong in [
            "",
            "5",
            "10MB",
            "10 MiB",
            "0B",
            "2GiB",
            "99999999999999999GiB",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn upstreams_are_origins_and_have_no_path() {
        assert_eq!(
            upstream("http://app_1:8000/").unwrap().to_string(),
            "http://app_1:8000/"
        );
        assert_eq!(
            upstream("https://[::1]:8443").unwrap().authority().unwrap(),
            "[::1]:8443"
        );
        for wrong in [
            "",
            "127.0.0.1:8000",
            "http://",
            "http://a/b",
            "http://a//",
            "http://a?b",
            "http://u@a",
            "http://a:0",
            "http://a:99999",
            "http://a:",
            "http://a:b",
            "http://[::1",
            "ftp://a",
            "unix:/run/app.sock",
        ] {
            assert!(upstream(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_browser_knows_its_own_machine() {
        for own in ["localhost:1", "a.localhost", "127.0.0.1:8080", "[::1]:8080"] {
            assert!(is_this_machine(own), "{own}");
        }
        for other in ["bank.example", "localhost.example", "10.0.0.1", "[::2]:1"] {
            assert!(!is_this_machine(other), "{other}");
        }
    }
}

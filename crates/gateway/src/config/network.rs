//! Where clients are, as a proxy before the gateway says.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

use super::reader::Section;
use super::values;

/// Where clients are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The one field in which a proxy before the gateway states the client's address. `None`: the client is whoever has
    /// connected.
    ///
    /// The proxy has to set it anew on every request, or to append to it, and nobody else may reach the gateway: whatever
    /// a client can state is worth nothing.
    pub client_address: Option<HeaderName>,
}

/// The address that a proxy states in a field: the last one, since what is before it may be the client's own. A port is
/// left out. Where there is none, the client is nobody known, and not the proxy.
pub fn stated_address(field: &HeaderName, fields: &HeaderMap) -> Option<IpAddr> {
    let line = fields.get_all(field).iter().next_back()?.to_str().ok()?;
    let last = line.rsplit(',').next()?.trim();
    let with_port = || last.parse().map(|peer: SocketAddr| peer.ip()).ok();
    last.parse().ok().or_else(with_port)
}

pub(super) fn read(mut section: Section<'_, '_>) -> Network {
    let network = Network {
        client_address: section.text("client_address", values::field),
    };
    section.end();
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_address_is_what_the_proxy_states() {
        let field = HeaderName::from_static("x-forwarded-for");
        let find = |lines: &[&str]| {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(&field, line.parse().unwrap());
            }
            stated_address(&field, &fields).map(|address| address.to_string())
        };
        let address = |text: &str| Some(text.to_owned());
        assert_eq!(find(&["192.0.2.1"]), address("192.0.2.1"));
        assert_eq!(find(&["192.0.2.1:4711"]), address("192.0.2.1"));
        assert_eq!(find(&["[2001:db8::1]:4711"]), address("2001:db8::1"));
        assert_eq!(find(&["10.9.9.9, 192.0.2.1"]), address("192.0.2.1"));
        assert_eq!(find(&["10.9.9.9", "192.0.2.1"]), address("192.0.2.1"));
        for nobody in [
            &[][..],
            &[""],
            &["unknown"],
            &["192.0.2.1,"],
            &["192.0.2.1", "?"],
        ] {
            assert_eq!(find(nobody), None);
        }
    }
}

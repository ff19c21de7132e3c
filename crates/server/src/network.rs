//! Where requests come from.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::{Extensions, HeaderMap};

/// What one subscriber has of the Internet: an IPv4 address, or an IPv6 prefix of 64 bits, since whoever has one
/// of its addresses has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        // Also what an IPv4 peer of a socket for both is called (RFC 4291 section 2.5.5.2).
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let prefix = address.to_bits() & (u128::MAX << 64);
                Self(Ipv6Addr::from_bits(prefix).into())
            }
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

/// In CIDR notation (RFC 4632, RFC 4291 section 2.3).
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.0.is_ipv4() { 32 } else { 64 };
        write!(f, "{}/{bits}", self.0)
    }
}

/// Finds the address of whoever has sent a request.
#[derive(Clone)]
pub(crate) struct Finder(Arc<Find>);

type Find = dyn Fn(&HeaderMap, &Extensions) -> Option<IpAddr> + Send + Sync;

impl Finder {
    pub(crate) fn new(
        find: impl Fn(&HeaderMap, &Extensions) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(find))
    }

    pub(crate) fn find(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<Network> {
        self.0(headers, extensions).map(Network::from)
    }
}

/// By the connection: fields can be made up by anyone.
impl Default for Finder {
    fn default() -> Self {
        Self::new(|_, extensions| {
            #[cfg(feature = "axum")]
            if let Some(axum::extract::ConnectInfo(peer)) = extensions.get() {
                let peer: &SocketAddr = peer;
                return Some(peer.ip());
            }
            extensions.get::<SocketAddr>().map(SocketAddr::ip)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_one_subscriber_has() {
        for (address, network) in [
            ("192.0.2.1", "192.0.2.1/32"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(Network::from(address).to_string(), network);
        }
    }

    #[test]
    fn is_found_by_the_connection_and_not_by_what_a_request_says() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "192.0.2.9".parse().unwrap());
        let mut extensions = Extensions::new();
        let find = |extensions: &_| Finder::default().find(&headers, extensions);
        assert_eq!(find(&extensions), None);
        let peer: SocketAddr = "192.0.2.1:80".parse().unwrap();
        extensions.insert(peer);
        assert_eq!(find(&extensions), Some(peer.ip().into()));
        #[cfg(feature = "axum")]
        {
            let peer: SocketAddr = "192.0.2.2:80".parse().unwrap();
            extensions.insert(axum::extract::ConnectInfo(peer));
            assert_eq!(find(&extensions), Some(peer.ip().into()));
        }
    }
}

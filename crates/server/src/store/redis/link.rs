//! The way to the server that is the primary now.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, RedisError, RedisResult, ServerErrorKind, TlsCertificates, TlsMode,
    Value,
};
use tokio::sync::Mutex;

/// Where the servers are. Without `Debug` outside tests: a URL may hold a password.
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(super) struct Address {
    kind: Kind,
    /// One URL for each that is named.
    servers: Vec<String>,
}

#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
enum Kind {
    One,
    /// Of these, which know who is the primary of this service.
    Sentinels(String),
    Cluster,
}

impl Address {
    /// `redis://` and `rediss://` as they are; `redis+sentinel://HOST,HOST/SERVICE` and
    /// `redis+cluster://HOST,HOST`, with `rediss` for TLS.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (scheme, kind) = match scheme.split_once('+') {
            Some((scheme, "sentinel")) if !path.is_empty() => {
                (scheme, Kind::Sentinels(path.to_owned()))
            }
            Some((scheme, "cluster")) if path.is_empty() => (scheme, Kind::Cluster),
            // The client knows more of them, such as `redis+unix`.
            _ => {
                return Some(Self {
                    kind: Kind::One,
                    servers: vec![url.to_owned()],
                });
            }
        };
        let (user, hosts) = match hosts.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), hosts),
        };
        let servers = hosts
            .split(',')
            .map(|host| format!("{scheme}://{user}{host}"));
        Some(Self {
            kind,
            servers: servers.collect(),
        })
    }
}

enum Source {
    One(Box<Client>),
    Sentinels(Box<SentinelClient>),
    Cluster(Box<ClusterClient>),
}

impl Source {
    fn new(address: &Address, root: Option<&[u8]>, timeout: Duration) -> RedisResult<Self> {
        let certificates = || {
            root.map(|root| TlsCertificates {
                client_tls: None,
                root_cert: Some(root.to_vec()),
            })
        };
        let servers: RedisResult<Vec<ConnectionInfo>> = address
            .servers
            .iter()
            .map(|url| url.as_str().into_connection_info())
            .collect();
        let servers = servers?;
        let is_tls =
            |server: &ConnectionInfo| matches!(server.addr(), ConnectionAddr::TcpTls { .. });
        if servers.iter().any(is_tls) {
            // The client asks for the process's own; without one it panics. Whoever has chosen is left alone.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let first = servers
            .first()
            .ok_or((ErrorKind::InvalidClientConfig, "no server is named"))?;
        match &address.kind {
            Kind::One => Ok(Self::One(Box::new(match certificates() {
                Some(certificates) => Client::build_with_tls(first.clone(), certificates)?,
                None => Client::open(first.clone())?,
            }))),
            Kind::Sentinels(service) => {
                let addresses = servers.iter().map(|server| server.addr().clone());
                let of = SentinelServerType::Master;
                let mut builder = SentinelClientBuilder::new(addresses, service, of)?;
                let settings = first.redis_settings();
                if let Some(user) = settings.username() {
                    builder = builder.set_client_to_redis_username(user);
                }
                if let Some(password) = settings.password() {
                    builder = builder.set_client_to_redis_password(password);
                }
                if is_tls(first) {
                    builder = builder
                        .set_client_to_redis_tls_mode(TlsMode::Secure)
                        .set_client_to_sentinel_tls_mode(TlsMode::Secure);
                }
                if let Some(certificates) = certificates() {
                    builder = builder
                        .set_client_to_redis_certificates(certificates.clone())
                        .set_client_to_sentinel_certificates(certificates);
                }
                Ok(Self::Sentinels(Box::new(builder.build()?)))
            }
            Kind::Cluster => {
                let mut builder = ClusterClientBuilder::new(servers)
                    .connection_timeout(timeout)
                    .response_timeout(timeout);
                if let Some(certificates) = certificates() {
                    builder = builder.certs(certificates);
                }
                Ok(Self::Cluster(Box::new(builder.build()?)))
            }
        }
    }

    async fn connect(&mut self, timeout: Duration) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            // Whoever waits for an answer has a time limit of his own.
            .set_response_timeout(None);
        Ok(match self {
            Self::One(client) => Connection::One(
                client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await?,
            ),
            Self::Sentinels(client) => {
                Connection::One(client.get_async_connection_with_config(&config).await?)
            }
            Self::Cluster(client) => Connection::Cluster(client.get_async_connection().await?),
        })
    }
}

/// A connection that many requests share, each with its command.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(super) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::One(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    /// Waits until so many replicas have all that has been written over this connection to the server that has
    /// `key`. Returns how many have.
    pub(super) async fn wait(
        &mut self,
        key: &[u8],
        replicas: u32,
        timeout: Duration,
    ) -> RedisResult<u32> {
        let mut wait = redis::cmd("WAIT");
        wait.arg(replicas)
            // To Redis 0 is no limit.
            .arg(
                u64::try_from(timeout.as_millis())
                    .unwrap_or(u64::MAX)
                    .max(1),
            );
        let reached = match self {
            Self::One(connection) => wait.query_async(connection).await?,
            Self::Cluster(connection) => {
                let mut ask = redis::cmd("CLUSTER");
                ask.arg("KEYSLOT").arg(key);
                let route = Route::new(ask.query_async(connection).await?, SlotAddr::Master);
                let route = SingleNodeRoutingInfo::SpecificNode(route);
                let reached = connection.route_command(wait, RoutingInfo::SingleNode(route));
                reached.await?.extract_error()?
            }
        };
        Ok(redis::from_redis_value(reached)?)
    }
}

/// A connection that is made anew where it has broken, or leads to a server that is not the primary any more.
pub(super) struct Link {
    state: Mutex<State>,
    timeout: Duration,
}

struct State {
    source: Source,
    connection: Option<Connection>,
    /// How many there have been.
    number: u64,
}

impl Link {
    pub(super) fn new(
        address: &Address,
        root: Option<&[u8]>,
        timeout: Duration,
    ) -> RedisResult<Self> {
        Ok(Self {
            state: Mutex::new(State {
                source: Source::new(address, root, timeout)?,
                connection: None,
                number: 0,
            }),
            timeout,
        })
    }

    /// The connection, and its number.
    pub(super) async fn get(&self) -> RedisResult<(Connection, u64)> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok((connection.clone(), state.number));
        }
        let connection = state.source.connect(self.timeout).await?;
        state.connection = Some(connection.clone());
        state.number += 1;
        Ok((connection, state.number))
    }

    /// Gives up the connection of this number: it is broken, silent or leads elsewhere.
    pub(super) async fn give_up(&self, number: u64) {
        let mut state = self.state.lock().await;
        if state.number == number {
            state.connection = None;
        }
    }
}

/// Whether another connection may do better.
pub(super) fn is_of_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::BusyLoading
            )
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_one_server_or_several() {
        let address = |kind, servers: &[&str]| {
            let servers = servers.iter().map(|url| (*url).to_owned()).collect();
            Some(Address { kind, servers })
        };
        for (url, expected) in [
            ("redis://a/", address(Kind::One, &["redis://a/"])),
            (
                "rediss://u:p@a:1/2",
                address(Kind::One, &["rediss://u:p@a:1/2"]),
            ),
            ("redis+unix:///a", address(Kind::One, &["redis+unix:///a"])),
            (
                "redis+sentinel://:p@a:1,b:2/bank",
                address(
                    Kind::Sentinels("bank".into()),
                    &["redis://:p@a:1", "redis://:p@b:2"],
                ),
            ),
            (
                "rediss+cluster://a:1,b:2",
                address(Kind::Cluster, &["rediss://a:1", "rediss://b:2"]),
            ),
            ("a:1", None),
        ] {
            assert_eq!(Address::parse(url), expected, "{url}");
        }
    }
}

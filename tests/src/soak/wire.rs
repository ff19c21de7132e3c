//! What lies between clients, nodes and Redis: it passes everything on, records what clients send, and delays, stalls,
//! truncates and resets where it is told to.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::chance::Chance;
use crate::serve::listener;

/// How the line is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    /// How much later everything arrives.
    pub(super) delay: Duration,
    /// Connections are reset, and no others come about.
    pub(super) is_down: bool,
    /// Of so many replies one is truncated, and of as many requests the connection of one is reset; 0 for none.
    pub(super) cuts: u64,
}

/// Where a node is reached.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// How often it has been started.
    pub(super) generation: u64,
    pub(super) is_up: bool,
}

/// What stands before the nodes: it takes each request to the next one in turn.
pub(super) struct Front {
    pub(super) line: watch::Sender<Line>,
    pub(super) nodes: Mutex<Vec<Place>>,
    pub(super) recorder: Recorder,
    turn: AtomicUsize,
    chance: Mutex<Chance>,
    port: u16,
}

/// What clients have sent, for whoever sends it again.
pub(super) struct Recorder(Mutex<Recorded>);

struct Recorded {
    chance: Chance,
    recent: Vec<Bytes>,
    next: usize,
    /// Of all that was ever sent, some.
    old: Vec<Bytes>,
}

impl Recorder {
    const RECENT: usize = 256;
    const OLD: usize = 2048;
    /// Longer ones are not kept.
    const LONGEST: usize = 32 << 10;

    fn new(seed: u64) -> Self {
        Self(Mutex::new(Recorded {
            chance: Chance::new(seed, 0x7ec0),
            recent: Vec::new(),
            next: 0,
            old: Vec::new(),
        }))
    }

    fn record(&self, request: &Bytes) {
        if request.len() > Self::LONGEST {
            return;
        }
        let recorded = &mut *self.lock();
        if recorded.recent.len() < Self::RECENT {
            recorded.recent.push(request.clone());
        } else {
            recorded.recent[recorded.next] = request.clone();
        }
        recorded.next = (recorded.next + 1) % Self::RECENT;
        if recorded.old.len() < Self::OLD {
            recorded.old.push(request.clone());
        } else if recorded.chance.one_in(128) {
            let at = recorded.chance.index(Self::OLD);
            recorded.old[at] = request.clone();
        }
    }

    /// One of those that were sent: of the last ones, or of any time.
    pub(super) fn any(&self, is_recent: bool, chance: &mut Chance) -> Option<Bytes> {
        let recorded = self.lock();
        let all = if is_recent {
            &recorded.recent
        } else {
            &recorded.old
        };
        all.get(chance.index(all.len())).cloned()
    }

    /// All that are kept.
    pub(super) fn all(&self) -> Vec<Bytes> {
        let recorded = self.lock();
        let all = recorded.recent.iter().chain(&recorded.old);
        all.cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Front {
    pub(super) async fn start(seed: u64) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let listener = listener().await?;
        let front = Arc::new(Self {
            line: watch::Sender::default(),
            nodes: Mutex::default(),
            recorder: Recorder::new(seed),
            turn: AtomicUsize::new(0),
            chance: Mutex::new(Chance::new(seed, 0xf407)),
            port: listener.local_addr()?.port(),
        });
        let serving = Arc::clone(&front);
        let accepting = tokio::spawn(async move {
            loop {
                if let Ok((client, _)) = listener.accept().await {
                    let front = Arc::clone(&serving);
                    // A connection that breaks is its client's to notice.
                    tokio::spawn(async move { front.serve(client).await });
                }
            }
        });
        Ok((front, accepting))
    }

    /// What clients take for the server.
    pub(super) fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// The addresses of those that run.
    pub(super) fn up(&self) -> Vec<SocketAddr> {
        let nodes = self.places();
        let up = nodes.iter().filter(|node| node.is_up);
        up.map(|node| node.address).collect()
    }

    pub(super) fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cut(&self, line: Line) -> bool {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        line.cuts > 0 && chance.one_in(line.cuts)
    }

    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut read = BytesMut::new();
        let mut kept = BTreeMap::new();
        while let Some(request) = next_request(&mut client, &mut read).await? {
            let line = *self.line.borrow();
            if !line.delay.is_zero() {
                sleep(line.delay).await;
            }
            if self.is_cut(line) {
                return client.set_zero_linger();
            }
            let (number, generation, mut server) = self.connect(&mut kept).await?;
            server.write_all(&request).await?;
            let is_cut = self.is_cut(line);
            let mut is_answered = false;
            let mut reply = BytesMut::with_capacity(16 << 10);
            loop {
                tokio::select! {
                    came = server.read_buf(&mut reply) => {
                        if came? == 0 {
                            return Ok(());
                        }
                        if !is_answered && reply.starts_with(b"HTTP/1.1 2") {
                            // What was not taken yet may be taken from a thief, as from anybody who is late.
                            self.recorder.record(&request);
                        }
                        is_answered = true;
                        if !line.delay.is_zero() {
                            sleep(line.delay).await;
                        }
                        if is_cut {
                            client.write_all(&reply[..reply.len() / 2]).await?;
                            return Ok(());
                        }
                        client.write_all(&reply).await?;
                        reply.clear();
                    }
                    // The next request: the reply is whole.
                    came = client.read_buf(&mut read) => {
                        if came? == 0 {
                            return Ok(());
                        }
                        break;
                    }
                }
            }
            kept.insert(number, (generation, server));
        }
        Ok(())
    }

    /// A connection to the next node in turn, one of these where there is one. Those that are down are passed over.
    async fn connect(
        &self,
        kept: &mut BTreeMap<usize, (u64, TcpStream)>,
    ) -> io::Result<(usize, u64, TcpStream)> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let places = self.places().clone();
        for step in 0..places.len() {
            let number = (turn + step) % places.len();
            let place = places[number];
            if !place.is_up {
                continue;
            }
            match kept.remove(&number) {
                Some((generation, server)) if generation == place.generation => {
                    return Ok((number, generation, server));
                }
                _ => {}
            }
            let connecting = TcpStream::connect(place.address);
            if let Ok(Ok(server)) = timeout(Duration::from_secs(5), connecting).await {
                server.set_nodelay(true)?;
                return Ok((number, place.generation, server));
            }
        }
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

/// Reads one request of HTTP/1.1, as it is; `None` where the connection ends before another.
async fn next_request(client: &mut TcpStream, read: &mut BytesMut) -> io::Result<Option<Bytes>> {
    loop {
        if let Some(len) = request_len(read)? {
            return Ok(Some(read.split_to(len).freeze()));
        }
        if client.read_buf(read).await? == 0 {
            return Ok(None);
        }
    }
}

/// How long the request at the beginning is, once it is whole.
fn request_len(read: &[u8]) -> io::Result<Option<usize>> {
    const WRONG: io::ErrorKind = io::ErrorKind::InvalidData;
    let Some(head) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let body = head + 4;
    let text = std::str::from_utf8(&read[..head]).map_err(|_| WRONG)?;
    let field = |wanted: &str| {
        let mut fields = text.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim())
    };
    if field("transfer-encoding").is_none() {
        let len: usize = field("content-length")
            .unwrap_or("0")
            .parse()
            .map_err(|_| WRONG)?;
        return Ok((read.len() >= body + len).then_some(body + len));
    }
    let mut at = body;
    loop {
        let rest = &read[at..];
        let Some(line) = rest.windows(2).position(|two| two == b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&rest[..line]).map_err(|_| WRONG)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| WRONG)?;
        at += line + 2 + size + 2;
        if at > read.len() {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(at));
        }
    }
}

/// What stands between one node and Redis.
pub(super) struct Back {
    pub(super) line: watch::Sender<Line>,
    pub(super) address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Back {
    /// Listens at this address of the machine.
    pub(super) async fn start(at: Ipv4Addr, redis: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((at, 0)).await?;
        let address = listener.local_addr()?;
        let line = watch::Sender::new(Line::default());
        let told = line.subscribe();
        let accepting = tokio::spawn(async move {
            loop {
                if let Ok((node, _)) = listener.accept().await {
                    let told = told.clone();
                    tokio::spawn(between(node, redis, told));
                }
            }
        });
        Ok(Self {
            line,
            address,
            accepting,
        })
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn between(node: TcpStream, redis: u16, mut line: watch::Receiver<Line>) -> io::Result<()> {
    if line.borrow().is_down {
        return node.set_zero_linger();
    }
    let redis = TcpStream::connect((Ipv4Addr::LOCALHOST, redis)).await?;
    for stream in [&node, &redis] {
        stream.set_nodelay(true)?;
        // Nothing is in order where the line goes down.
        stream.set_zero_linger()?;
    }
    let (from_node, to_node) = node.into_split();
    let (from_redis, to_redis) = redis.into_split();
    let (there, back) = (line.clone(), line.clone());
    tokio::select! {
        _ = pass(from_node, to_redis, there) => {}
        _ = pass(from_redis, to_node, back) => {}
        _ = line.wait_for(|line| line.is_down) => {}
    }
    Ok(())
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    line: watch::Receiver<Line>,
) -> io::Result<()> {
    let mut bytes = BytesMut::with_capacity(64 << 10);
    while from.read_buf(&mut bytes).await? > 0 {
        let delay = line.borrow().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        to.write_all(&bytes).await?;
        bytes.clear();
    }
    Ok(())
}

/// Sends recorded bytes to a node, over a connection of their own, and gives the whole answer.
pub(super) async fn send_again(to: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let line = request.windows(2).position(|two| two == b"\r\n");
    let (first, rest) = request.split_at(line.map_or(0, |end| end + 2));
    let exchange = async {
        let mut node = TcpStream::connect(to).await?;
        node.write_all(&[first, b"connection: close\r\n", rest].concat())
            .await?;
        let mut answer = Vec::new();
        node.read_to_end(&mut answer).await?;
        Ok(answer)
    };
    timeout(Duration::from_secs(5), exchange).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_where_its_content_does() {
        for (request, len) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET", Some(27)),
            ("GET / HTTP/1.1\r\nhost: a\r\n", None),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcd", Some(41)),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", None),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nGET",
                Some(59),
            ),
            (
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
                None,
            ),
        ] {
            assert_eq!(request_len(request.as_bytes()).unwrap(), len, "{request}");
        }
        assert!(request_len(b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n").is_err());
    }
}

//! From end to end: an axum server in a process of its own, bare or with the verifier before it, and a client
//! on the other core, over loopback HTTP/1.1.
//!
//! The same 1 KiB goes there and back. The bare server is asked by the HTTP client that `bulla-client` uses.
//! What both halves have cost is read off the system's account of their processes, connections included.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use bulla_client::{Client, ProofKind, Session, SystemRandom, Thumbprint};
use bulla_server::{Bulla, Identity, Lifetimes, MemoryStore, Openings};
use bulla_tests::serve::Server;
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::Request;
use http_body_util::BodyExt as _;

use crate::Outcome;
use crate::measure::median;
use crate::report::Entry;

const PATH: &str = "/api/transfer";
const BODY: [u8; 1 << 10] = [b'x'; 1 << 10];
/// As many clients, each with one request at a time.
const CLIENTS: usize = 16;
/// Requests of one client in one round.
const EACH: usize = 60;
const ROUNDS: u32 = 25;

const BARE: &str = "e2e/axum-bare";
const KINDS: [(&str, Option<ProofKind>); 3] = [
    (BARE, None),
    ("e2e/axum-bulla-session", Some(ProofKind::Session)),
    ("e2e/axum-bulla-device", Some(ProofKind::Device)),
];

/// Measures all of them in turn.
pub(crate) fn run() -> Outcome<Vec<Entry>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut targets = Vec::with_capacity(KINDS.len());
        for (id, kind) in KINDS {
            targets.push(Target::start(id, kind).await?);
        }
        for round in 0..=ROUNDS {
            for target in &mut targets {
                let taken = target.round().await?;
                // The first one warms up.
                if round > 0 {
                    target.samples.push(taken);
                }
            }
        }
        Ok(entries(&targets))
    })
}

/// Serves one of them until whoever has started it is gone.
pub(crate) fn serve(id: &str) -> Outcome {
    let known = KINDS.iter().find(|(known, _)| *known == id);
    let (_, kind) = known.ok_or_else(|| format!("there is no server `{id}`"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let app = Router::new().route(PATH, post(async |body: Bytes| body));
    let mut identity = String::new();
    let server = runtime.block_on(Server::start_with(|origin| {
        let Some(kind) = kind else {
            return Ok(app);
        };
        let bulla = verifier(origin, *kind).map_err(std::io::Error::other)?;
        identity = bulla.identity().to_string();
        Ok(bulla.protect(app))
    }))?;
    println!("{} {identity}", server.origin());
    // Reading stands in a thread of its own, since the runtime has only this one.
    runtime.block_on(async {
        let gone = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
        gone.await
    })??;
    Ok(())
}

fn verifier(origin: &str, kind: ProofKind) -> Outcome<Bulla> {
    Ok(Bulla::builder()
        .origin(origin)
        .identity(Identity::generate(&SystemRandom)?)
        .store(MemoryStore::new()?)
        .proof(kind)
        .lifetimes(Lifetimes {
            ticket: Duration::from_hours(12),
            ..Lifetimes::default()
        })
        .openings(Openings::FREE)
        .build()?)
}

struct Target {
    id: &'static str,
    server: Child,
    origin: String,
    http: reqwest::Client,
    /// One for each client, if there is a verifier.
    sessions: Vec<Session>,
    samples: Vec<Sample>,
}

/// What one round has cost, per request and in microseconds.
struct Sample {
    wall: f64,
    latencies: Vec<f64>,
    server: f64,
    client: f64,
}

impl Target {
    async fn start(id: &'static str, kind: Option<ProofKind>) -> Outcome<Self> {
        let mut server = Command::new(env::current_exe()?)
            .args(["e2e", id])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let out = server.stdout.take().ok_or("the server says nothing")?;
        BufReader::new(out).read_line(&mut line)?;
        let (origin, identity) = line
            .trim_end_matches('\n')
            .split_once(' ')
            .ok_or("no server")?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let mut sessions = Vec::new();
        if kind.is_some() {
            let identity: Thumbprint = identity.parse()?;
            for _ in 0..CLIENTS {
                let client = Client::builder(origin).identity(identity);
                let client = client.http(http.clone()).build()?;
                sessions.push(client.open().await?);
            }
        }
        Ok(Self {
            id,
            origin: origin.to_owned(),
            server,
            http,
            sessions,
            samples: Vec::new(),
        })
    }

    async fn round(&self) -> Outcome<Sample> {
        let pid = self.server.id().to_string();
        let (server, client) = (cpu(&pid)?, cpu("self")?);
        let start = Instant::now();
        let clients = (0..CLIENTS).map(|number| self.client(number));
        let latencies = try_join_all(clients).await?.concat();
        let wall = start.elapsed();
        let (server, client) = (
            cpu(&pid)?.saturating_sub(server),
            cpu("self")?.saturating_sub(client),
        );
        let requests = u32::try_from(CLIENTS * EACH)?;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(requests);
        Ok(Sample {
            wall: each(wall),
            latencies,
            server: each(server),
            client: each(client),
        })
    }

    /// One client, one request after another. How long each took, in microseconds.
    async fn client(&self, number: usize) -> Outcome<Vec<f64>> {
        let mut latencies = Vec::with_capacity(EACH);
        for _ in 0..EACH {
            let start = Instant::now();
            let echoed = if let Some(session) = self.sessions.get(number) {
                let request = Request::post(PATH)
                    .header("content-type", "application/json")
                    .body(Bytes::from_static(&BODY))?;
                session
                    .fetch(request)
                    .await?
                    .into_body()
                    .collect()
                    .await?
                    .to_bytes()
            } else {
                let request = self.http.post(format!("{}{PATH}", self.origin));
                let request = request.header("content-type", "application/json");
                request.body(&BODY[..]).send().await?.bytes().await?
            };
            if *echoed != BODY {
                return Err(format!("{}: not what was sent", self.id).into());
            }
            latencies.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Ok(latencies)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Gone already, perhaps.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The time that a process has had of any core: `proc_pid_stat(5)`, fields 14 and 15, in ticks of 10 ms.
pub(crate) fn cpu(pid: &str) -> Outcome<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("not a stat file")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn entries(targets: &[Target]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for target in targets {
        let of = |value: fn(&Sample) -> f64| target.samples.iter().map(value).collect::<Vec<_>>();
        let mut latencies: Vec<_> = target
            .samples
            .iter()
            .flat_map(|s| s.latencies.clone())
            .collect();
        latencies.sort_by(f64::total_cmp);
        let tail = latencies[latencies.len() * 99 / 100];
        // Ticks are long against one round, and add up to the truth.
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / f64::from(ROUNDS);
        let wall = median(of(|sample| sample.wall));
        for (part, unit, value) in [
            ("", "µs", wall),
            ("/throughput", "requests/s", 1e6 / wall),
            ("/p50", "µs", median(latencies.clone())),
            ("/p99", "µs", tail),
            ("/server-cpu", "µs", mean(of(|sample| sample.server))),
            ("/client-cpu", "µs", mean(of(|sample| sample.client))),
        ] {
            let id = format!("{}{part}", target.id);
            let bare = format!("{BARE}{part}");
            entries.push(match entries.iter().find(|entry| entry.is(&bare)) {
                Some(bare) => Entry::compared(id, value, bare),
                None => Entry::raw(id, unit, value),
            });
        }
    }
    entries
}

//! Mixed traffic at the machine's limit, with faults thrown in, and every answer checked.
//!
//! Several nodes in processes of their own share a Redis server and a ring. Honest clients know what each answer must be, byte
//! by byte; nodes note in a journal what they carry out, before they answer, and the journals are held against what was
//! answered. Whoever has recorded what clients send sends it again, at once and later. Meanwhile Redis and nodes are killed
//! and stopped, clocks jump, the ring rotates, and the network is bad.

mod chance;
mod cluster;
mod faults;
mod ledger;
mod measure;
mod network;
mod node;
mod plot;
mod report;
mod thief;
mod timeline;
mod traffic;
mod wire;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bulla_client::Thumbprint;
use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::chance::Chance;
use self::cluster::Cluster;
use self::ledger::{Ledger, Violations};
use self::measure::Measure;
use self::timeline::Timeline;
use self::wire::Front;

pub use self::ledger::{Violation, Wrong, counted};
pub use self::measure::{Counts, Second};
pub use self::network::Packets;
pub use self::node::serve;
pub use self::report::{tell, write};
pub use self::timeline::{Fault, Kind, Part};

/// What a run or one of its steps gives.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long what is under way at the end may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A rule that the nodes leave out, to see that a run notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// Nothing is left out.
    None,
    /// Each node remembers only for itself which proofs were used.
    Proofs,
    /// What has ended goes on.
    Ends,
    /// One of 64 requests is answered and not carried out.
    Writes,
    /// One of 64 answers has a wrong bit.
    Answers,
    /// Each request leaves 8 KiB behind.
    Memory,
}

impl Weakness {
    const ALL: [Self; 6] = [
        Self::None,
        Self::Proofs,
        Self::Ends,
        Self::Writes,
        Self::Answers,
        Self::Memory,
    ];

    /// The one with this name.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn named(name: &str) -> Outcome<Self> {
        let found = Self::ALL.into_iter().find(|known| known.name() == name);
        found.ok_or_else(|| format!("there is no weakness `{name}`").into())
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Proofs => "proofs",
            Self::Ends => "ends",
            Self::Writes => "writes",
            Self::Answers => "answers",
            Self::Memory => "memory",
        }
    }
}

/// How a run is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program that runs a node: `soak`.
    pub program: PathBuf,
    /// What decides all that is left to chance.
    pub seed: u64,
    /// How long it takes, at most.
    pub length: Duration,
    /// After so many faults it is over, if that is earlier.
    pub faults: Option<usize>,
    /// As soon as this has happened it is over.
    pub until: Option<Wrong>,
    /// How long a fault takes, on the average.
    pub fault: Duration,
    /// How long there is none after it.
    pub quiet: Duration,
    /// How long after a fault it may still be felt: beyond, a refusal is a wrong answer.
    pub grace: Duration,
    /// How many clients there are, each with one request at a time.
    pub clients: u64,
    /// How many nodes. One of them is never killed.
    pub nodes: usize,
    /// The faults, each once before any comes again.
    pub kinds: Vec<Kind>,
    /// Whether each node gets a network namespace. Where that is not possible, the run goes on without, and says so.
    pub network: bool,
    /// What is left out.
    pub weakness: Weakness,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it was to be.
    pub settings: Settings,
    /// How long it took, in seconds.
    pub took: f64,
    /// Each second of it.
    pub seconds: Vec<Second>,
    /// What was done when.
    pub faults: Vec<Fault>,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// What was counted.
    pub counts: Counts,
    /// How many requests were sent, and how many were carried out.
    pub carried_out: (u64, u64),
    /// What could be done to packets, or why nothing could.
    pub packets: Result<Packets, String>,
}

/// What all that take part share.
struct World {
    seed: u64,
    identity: Thumbprint,
    front: Arc<Front>,
    ledger: Ledger,
    timeline: Timeline,
    violations: Violations,
    measure: Measure,
    /// Of sessions that have ended, as it goes over the wire.
    late: Mutex<Vec<Bytes>>,
    until: Option<Wrong>,
    is_over: watch::Sender<bool>,
}

impl World {
    /// Of those that come late so many are kept.
    const LATE: usize = 256;

    fn is_over(&self) -> bool {
        *self.is_over.borrow()
    }

    /// Waits, at most until the run is over.
    async fn rest(&self, length: Duration) {
        let mut is_over = self.is_over.subscribe();
        let _ = timeout(length, is_over.wait_for(|is_over| *is_over)).await;
    }

    fn wrong(&self, wrong: Wrong, what: &str) {
        let what = format!("{what} ({})", self.timeline.said());
        if self.until == Some(wrong) {
            self.is_over.send_replace(true);
        }
        self.violations.add(wrong, self.timeline.now(), what);
    }

    fn keep_late(&self, request: &Request<Bytes>) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if late.len() == Self::LATE {
            late.remove(0);
        }
        late.push(thief::written(request));
    }

    fn any_late(&self, chance: &mut Chance) -> Option<Bytes> {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.get(chance.index(late.len())).cloned()
    }

    fn all_late(&self) -> Vec<Bytes> {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        late.clone()
    }

    fn compare(&self, is_last: bool) {
        for (wrong, what) in self.ledger.compare(is_last) {
            self.wrong(wrong, &what);
        }
    }
}

/// Carries a run out, in a runtime with several threads, unless it is given up. What is wrong is in what it gives. Whatever it
/// has started or made goes with it.
///
/// # Errors
///
/// If something that it needs does not start, or does not start again, and if it is given up.
pub async fn run(settings: Settings, given_up: impl Future<Output = ()>) -> Outcome<Run> {
    println!("soak: seed {}", settings.seed);
    let mut cluster = Cluster::start(&settings).await?;
    tell_packets(&settings, &cluster.packets);
    let world = Arc::new(World {
        seed: settings.seed,
        identity: cluster.identity,
        front: Arc::clone(&cluster.front),
        ledger: Ledger::new(cluster.journals()),
        timeline: Timeline::new(settings.grace),
        violations: Violations::new(settings.seed),
        measure: Measure::begin(),
        late: Mutex::default(),
        until: settings.until,
        is_over: watch::Sender::new(false),
    });
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(10))
        .build()?;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..settings.clients {
        tasks.spawn(traffic::act(Arc::clone(&world), number, http.clone()));
    }
    for number in 0..4 {
        tasks.spawn(thief::steal(Arc::clone(&world), number));
    }
    let (pids, watched) = watch::channel((cluster.pids(), cluster.redis.pid()));
    tasks.spawn(measure(Arc::clone(&world), watched));
    tasks.spawn(compare(Arc::clone(&world)));
    tasks.spawn(look_at_ring(Arc::clone(&world), cluster.redis.port()));

    tokio::select! {
        carried_out = faults::run(&world, &mut cluster, &pids, &settings) => carried_out?,
        () = given_up => return Err("it was given up".into()),
    }
    let took = world.timeline.now();
    world.is_over.send_replace(true);
    let ending = async { while tasks.join_next().await.is_some() {} };
    if timeout(PATIENCE, ending).await.is_err() {
        world.wrong(Wrong::NotBack, "what was under way did not end");
    }
    thief::steal_all(&world).await;
    world.compare(true);
    let mut run = Run {
        took,
        seconds: world.measure.seconds(),
        faults: world.timeline.all(),
        violations: Vec::new(),
        counts: world.measure.counts(),
        carried_out: (world.ledger.issued(), world.ledger.carried_out()),
        packets: cluster.packets.clone(),
        settings,
    };
    for (wrong, what) in report::judge(&run) {
        world.violations.add(wrong, took, what);
    }
    run.violations = world.violations.all();
    Ok(run)
}

/// So that nobody takes one thing for the other.
fn tell_packets(settings: &Settings, packets: &Result<Packets, String>) {
    if !settings.network {
        return;
    }
    match packets {
        Ok(Packets::Netem) => println!("soak: packets are lost and delayed by netem"),
        Ok(Packets::Substitute) => println!(
            "soak: NO NETEM in this kernel: in its place packets are lost by nftables and delayed by tbf, in the same namespaces"
        ),
        Err(error) => println!(
            "soak: NO NETWORK NAMESPACES here ({error}): no packets are lost or delayed; connections are, by the program itself"
        ),
    }
}

type Pids = (Vec<Option<u32>>, u32);

async fn measure(world: Arc<World>, pids: watch::Receiver<Pids>) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await;
    while !world.is_over() {
        ticks.tick().await;
        let (nodes, redis) = pids.borrow().clone();
        world.measure.tick(world.timeline.now(), &nodes, redis);
    }
}

async fn compare(world: Arc<World>) {
    let mut ticks = interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !world.is_over() {
        ticks.tick().await;
        block_in_place(|| world.compare(false));
    }
}

/// Notes when the ring has another key than before.
async fn look_at_ring(world: Arc<World>, redis: u16) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    while !world.is_over() {
        ticks.tick().await;
        // While Redis is away there is nothing to be seen.
        let Ok(Ok(key)) = timeout(Duration::from_secs(1), newest_key(redis)).await else {
            continue;
        };
        if before.as_ref().is_some_and(|before| *before != key) {
            let number = world.timeline.begin(Kind::RingRotated, String::new());
            world.timeline.end(number, Duration::ZERO);
        }
        before = Some(key);
    }
}

/// The newest key of the ring, wrapped as it is, in whatever form Redis says it.
async fn newest_key(redis: u16) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, redis)).await?;
    stream
        .write_all(b"LINDEX {bulla}:ring: -1\r\nQUIT\r\n")
        .await?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await?;
    // It is still loading its data, or has no ring.
    if said.starts_with(b"$") && !said.starts_with(b"$-1") {
        Ok(said)
    } else {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

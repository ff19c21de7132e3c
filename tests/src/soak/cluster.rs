//! The system under load: a Redis server, nodes that share it, and what lies in between.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use bulla_client::Thumbprint;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::task::{JoinHandle, block_in_place};

use super::network::{Namespace, Packets};
use super::node::{Start, journal};
use super::wire::{Back, Front, Place};
use super::{Outcome, Settings};
use crate::redis::Redis;

pub(super) struct Cluster {
    pub(super) redis: Redis,
    pub(super) nodes: Vec<Node>,
    pub(super) front: Arc<Front>,
    pub(super) identity: Thumbprint,
    /// What can be done to packets, and why nothing can.
    pub(super) packets: Result<Packets, String>,
    accepting: JoinHandle<()>,
    program: PathBuf,
    folder: TempDir,
}

pub(super) struct Node {
    pub(super) back: Back,
    /// Outlives the process, or the kernel keeps it.
    pub(super) namespace: Option<Namespace>,
    process: Option<Process>,
    start: Start,
}

/// It goes with this value.
struct Process {
    child: Child,
    orders: ChildStdin,
}

impl Cluster {
    pub(super) async fn start(settings: &Settings) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("wrapping.key"), [7; 32])?;
        let redis = block_in_place(Redis::start)?;
        let (front, accepting) = Front::start(settings.seed).await?;
        let mut cluster = Self {
            redis,
            nodes: Vec::new(),
            front,
            identity: Thumbprint([0; 32]),
            packets: Err("it was not asked for".to_owned()),
            accepting,
            program: settings.program.clone(),
            folder,
        };
        if settings.network {
            cluster.packets = block_in_place(|| {
                Namespace::sweep();
                let probe = Namespace::new(63)?;
                probe.packets()
            })
            .map_err(|error| error.to_string());
        }
        for number in 0..settings.nodes {
            let namespace = match cluster.packets {
                Ok(_) => Some(block_in_place(|| {
                    Namespace::new(u8::try_from(number)?).map_err(Into::into) as Outcome<Namespace>
                })?),
                Err(_) => None,
            };
            let (here, there) = match &namespace {
                Some(namespace) => (namespace.here, namespace.there),
                None => (Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST),
            };
            let back = Back::start(here, cluster.redis.port()).await?;
            let start = Start {
                folder: cluster.folder.path().to_owned(),
                origin: cluster.front.origin(),
                redis: format!("redis://{}", back.address),
                number,
                listen: SocketAddr::from((there, 0)),
                weakness: settings.weakness,
            };
            cluster.nodes.push(Node {
                back,
                namespace,
                process: None,
                start,
            });
            cluster.front.places().push(Place {
                address: SocketAddr::from((there, 0)),
                generation: 0,
                is_up: false,
            });
            cluster.begin(number)?;
        }
        Ok(cluster)
    }

    /// Starts a node that does not run. It is up once it listens.
    pub(super) fn begin(&mut self, number: usize) -> Outcome {
        let node = &mut self.nodes[number];
        let (process, port, identity) = block_in_place(|| node.spawn(&self.program))?;
        node.process = Some(process);
        self.identity = identity;
        if let Some(place) = self.front.places().get_mut(number) {
            place.address.set_port(port);
            place.generation += 1;
            place.is_up = true;
        }
        Ok(())
    }

    /// Kills a node, as a power cut would.
    pub(super) fn kill(&mut self, number: usize) {
        // Clients notice before those who send them elsewhere do.
        self.nodes[number].process = None;
        if let Some(place) = self.front.places().get_mut(number) {
            place.is_up = false;
        }
    }

    pub(super) fn pids(&self) -> Vec<Option<u32>> {
        let pid = |node: &Node| Some(node.process.as_ref()?.child.id());
        self.nodes.iter().map(pid).collect()
    }

    pub(super) fn journals(&self) -> Vec<PathBuf> {
        let numbers = 0..self.nodes.len();
        numbers
            .map(|number| journal(self.folder.path(), number))
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Node {
    fn spawn(&self, program: &std::path::Path) -> Outcome<(Process, u16, Thumbprint)> {
        let mut command = match &self.namespace {
            Some(namespace) => namespace.command(program),
            None => Command::new(program),
        };
        let mut child = command
            .args(self.start.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Whoever interrupts a run at a terminal leaves it to the run to end them.
            .process_group(0)
            .spawn()?;
        let (orders, told) = (child.stdin.take(), child.stdout.take());
        let mut process = Process {
            child,
            orders: orders.ok_or("no input")?,
        };
        let mut line = String::new();
        BufReader::new(told.ok_or("no output")?).read_line(&mut line)?;
        let told = line.trim().split_once(' ');
        let Some((port, identity)) = told else {
            let _ = process.child.kill();
            return Err("a node did not start".into());
        };
        Ok((process, port.parse()?, identity.parse()?))
    }

    /// Sets by how many seconds its clock is ahead.
    pub(super) fn set_ahead(&mut self, seconds: i64) -> Outcome {
        let process = self.process.as_mut().ok_or("it does not run")?;
        Ok(writeln!(process.orders, "{seconds}")?)
    }

    /// Stops it where it is, or lets it go on.
    pub(super) fn freeze(&self, is_frozen: bool) -> Outcome {
        let process = self.process.as_ref().ok_or("it does not run")?;
        let signal = if is_frozen {
            Signal::STOP
        } else {
            Signal::CONT
        };
        Ok(kill_process(Pid::from_child(&process.child), signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

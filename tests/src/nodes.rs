//! Several nodes of a bank, each a process of its own, behind a plain round-robin.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::attack::Outcome;
use crate::clock::ProcessClock;
use crate::redis::Redis;
use crate::serve::listener;

/// Nodes that share a Redis server, a ring and an identity.
pub struct Nodes {
    /// What the nodes and the Redis server go by.
    pub clock: ProcessClock,
    /// What they share.
    pub redis: Redis,
    /// What is before them.
    pub balancer: Balancer,
    program: &'static str,
    ring: &'static str,
    folder: TempDir,
    processes: Vec<(Child, u16)>,
}

impl Nodes {
    /// Starts two of the program `node`, which keep their ring in a `folder` or in `redis`. Only tests know where
    /// Cargo puts the program.
    ///
    /// # Errors
    ///
    /// If they or the Redis server do not start.
    pub async fn start(program: &'static str, ring: &'static str) -> Outcome<Self> {
        let clock = ProcessClock::that_passes()?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("wrapping.key"), [7; 32])?;
        let mut nodes = Self {
            redis: Redis::start_by(&clock)?,
            clock,
            balancer: Balancer::start().await?,
            program,
            ring,
            folder,
            processes: Vec::new(),
        };
        for _ in 0..2 {
            nodes.add()?;
        }
        Ok(nodes)
    }

    /// Starts one more.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn add(&mut self) -> Outcome {
        let mut command = Command::new(self.program);
        command
            .arg(self.folder.path())
            .arg(self.balancer.origin())
            .arg(self.redis.url())
            .arg(self.ring)
            .arg(self.processes.len().to_string())
            .envs(self.clock.environment())
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        match told_port(&mut child) {
            Ok(port) => {
                self.balancer.servers().push(port);
                self.processes.push((child, port));
                Ok(())
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Sends everything to this node from now on.
    pub fn only(&self, node: usize) {
        *self.balancer.servers() = vec![self.processes[node].1];
    }

    /// Sends to all of them in turn again.
    pub fn all(&self) {
        *self.balancer.servers() = self.processes.iter().map(|(_, port)| *port).collect();
    }

    /// Kills one, as a power cut would. The balancer notices by itself.
    ///
    /// # Errors
    ///
    /// If that cannot be done.
    pub fn kill(&mut self, node: usize) -> Outcome {
        let (child, _) = &mut self.processes[node];
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// What has been carried out, in order, by whatever node.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn ledger(&self) -> Outcome<Vec<String>> {
        let path = self.folder.path().join("ledger");
        if !path.exists() {
            return Ok(Vec::new());
        }
        Ok(fs::read_to_string(path)?
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// What they share on disk.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for (child, _) in &mut self.processes {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn told_port(child: &mut Child) -> Outcome<u16> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    Ok(line.trim().parse()?)
}

/// Passes each connection on to the next of the servers, without looking into it. Those that refuse are passed over.
pub struct Balancer {
    port: u16,
    servers: Arc<Mutex<Vec<u16>>>,
    accepting: JoinHandle<()>,
}

impl Balancer {
    async fn start() -> Outcome<Self> {
        let listener = listener().await?;
        let port = listener.local_addr()?.port();
        let servers = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&servers);
        let accepting = tokio::spawn(async move {
            let mut turn = 0_usize;
            while let Ok((mut client, _)) = listener.accept().await {
                let mut ports: Vec<u16> = lock(&all).clone();
                let count = ports.len().max(1);
                ports.rotate_left(turn % count);
                turn += 1;
                tokio::spawn(async move {
                    for port in ports {
                        if let Ok(mut server) =
                            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await
                        {
                            // Whoever goes first ends it.
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                            return;
                        }
                    }
                });
            }
        });
        Ok(Self {
            port,
            servers,
            accepting,
        })
    }

    /// Where clients find it.
    pub fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    fn servers(&self) -> MutexGuard<'_, Vec<u16>> {
        lock(&self.servers)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

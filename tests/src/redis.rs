//! Real Redis servers, which are killed, stopped, promoted and filled.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::certificate::Vouched;
use crate::clock::{Environment, ProcessClock};

/// How long a server may take to begin or to get somewhere.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// A Redis server with a folder and a port of its own. It goes with this value.
pub struct Redis {
    folder: TempDir,
    options: Vec<String>,
    process: Child,
    port: u16,
    environment: Environment,
}

impl Redis {
    /// Starts one that keeps nothing on disk.
    ///
    /// # Errors
    ///
    /// If `redis-server` is not installed, or does not begin.
    pub fn start() -> io::Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with these options, as on its command line: `--appendonly yes`.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`].
    pub fn start_with(options: &[&str]) -> io::Result<Self> {
        Self::launch("", options, Environment::new())
    }

    /// Starts one that goes by this clock.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`].
    pub fn start_by(clock: &ProcessClock) -> io::Result<Self> {
        Self::launch("", &[], clock.environment())
    }

    /// Starts one that speaks TLS only, as `localhost`. Beside it comes the certificate that vouches for it, in
    /// PEM. [`Redis::ask`] does not reach it.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`].
    pub fn start_with_tls() -> io::Result<(Self, String)> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let vouched = Vouched::new().map_err(io::Error::other)?;
        let (certificate, key) = (path("certificate.pem"), path("key.pem"));
        std::fs::write(&certificate, vouched.certificate.pem())?;
        std::fs::write(&key, vouched.key.serialize_pem())?;
        let redis = Self::start_with(&[
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &certificate,
            "--tls-auth-clients",
            "no",
        ])?;
        Ok((redis, vouched.authority))
    }

    /// Starts two that are a cluster, each with half of the slots.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`].
    pub fn start_cluster() -> io::Result<[Self; 2]> {
        let node = || Self::start_with(&["--cluster-enabled", "yes"]);
        let nodes = [node()?, node()?];
        for (node, slots) in nodes.iter().zip([["0", "8191"], ["8192", "16383"]]) {
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1]])?;
        }
        let port = nodes[1].port.to_string();
        nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port])?;
        for node in &nodes {
            until("a cluster", || {
                Ok(node.ask(&["CLUSTER", "INFO"])?.contains("cluster_state:ok"))
            })?;
        }
        Ok(nodes)
    }

    /// Starts one that watches over the primary of the service `bank`, and promotes a replica by itself.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`].
    pub fn sentinel_of(primary: &Self) -> io::Result<Self> {
        // It writes what it learns into its file, and reads only there what it has to do.
        let file = format!(
            "sentinel monitor bank 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds bank 500\n\
             sentinel failover-timeout bank 2000\n",
            primary.port
        );
        Self::launch(&file, &["--sentinel"], Environment::new())
    }

    fn launch(file: &str, options: &[&str], environment: Environment) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("redis.conf"), file)?;
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        // Another program may take the port before it does.
        let mut last = None;
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
                .local_addr()?
                .port();
            let mut process = spawn(folder.path(), &options, &environment, port)?;
            match until_listening(&mut process, port) {
                Ok(()) => {
                    return Ok(Self {
                        folder,
                        options,
                        process,
                        port,
                        environment,
                    });
                }
                Err(error) => {
                    let _ = process.kill();
                    let _ = process.wait();
                    let said = std::fs::read_to_string(folder.path().join("log"));
                    last = Some(format!("{error}: {}", said.unwrap_or_default()));
                }
            }
        }
        Err(io::Error::other(last.unwrap_or_default()))
    }

    /// Its port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What it answers to a command.
    ///
    /// # Errors
    ///
    /// If it refuses, or cannot be reached.
    pub fn ask(&self, command: &[&str]) -> io::Result<String> {
        let port = self.port.to_string();
        let output = Command::new("redis-cli")
            .args(["-h", "127.0.0.1", "-p", &port, "-e"])
            .args(command)
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() {
            return Ok(said);
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("{command:?}: {said}{error}")))
    }

    /// One line of what it says about itself.
    ///
    /// # Errors
    ///
    /// If it cannot be reached, or says nothing of it.
    pub fn info(&self, name: &str) -> io::Result<String> {
        let info = self.ask(&["INFO", "everything"])?;
        let line = info
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
        line.map(str::to_owned)
            .ok_or_else(|| io::Error::other(format!("it has no {name}")))
    }

    /// Waits until this sentinel knows a replica of its primary.
    ///
    /// # Errors
    ///
    /// If it does not within half a minute.
    pub fn until_it_knows_a_replica(&self) -> io::Result<()> {
        until("a replica", || {
            Ok(!self.ask(&["SENTINEL", "REPLICAS", "bank"])?.is_empty())
        })
    }

    /// Makes it a replica of another one, and waits until it has what that one has.
    ///
    /// # Errors
    ///
    /// If it does not come to that.
    pub fn follow(&self, primary: &Self) -> io::Result<()> {
        self.ask(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()])?;
        until("a link", || Ok(self.info("master_link_status")? == "up"))?;
        until("a first confirmation", || {
            // Before it has confirmed something nothing more is sent to it.
            primary.ask(&["PUBLISH", "anything", ""])?;
            let replicas = primary.ask(&["INFO", "replication"])?;
            Ok(replicas.contains("state=online") && !replicas.contains("offset=0,"))
        })
    }

    /// Waits until it has all that this primary of its has.
    ///
    /// # Errors
    ///
    /// If it has not within half a minute.
    pub fn until_it_has_all_of(&self, primary: &Self) -> io::Result<()> {
        until("all that its primary has", || {
            Ok(self.info("slave_repl_offset")? == primary.info("master_repl_offset")?)
        })
    }

    /// Kills it, as a power cut would.
    ///
    /// # Errors
    ///
    /// If that cannot be done.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop)
    }

    /// Starts it again after it was killed: the same port, the same folder.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`].
    pub fn start_again(&mut self) -> io::Result<()> {
        self.process = spawn(
            self.folder.path(),
            &self.options,
            &self.environment,
            self.port,
        )?;
        until_listening(&mut self.process, self.port)
    }

    /// The same without what it has saved.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`].
    pub fn start_again_empty(&mut self) -> io::Result<()> {
        match std::fs::remove_file(self.folder.path().join("dump.rdb")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.start_again(),
        }
    }

    /// Stops it where it is, as a machine that hangs: connections stay, and nothing answers.
    ///
    /// # Errors
    ///
    /// If that cannot be done.
    pub fn freeze(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.process), Signal::STOP)?)
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// If that cannot be done.
    pub fn thaw(&self) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.process), Signal::CONT)?)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(
    folder: &Path,
    options: &[String],
    environment: &Environment,
    port: u16,
) -> io::Result<Child> {
    let log = File::create(folder.join("log"))?;
    let port = port.to_string();
    let ports = if options.iter().any(|option| option == "--tls-cert-file") {
        ["--port", "0", "--tls-port", &port].to_vec()
    } else {
        ["--port", &port].to_vec()
    };
    Command::new("redis-server")
        .arg("redis.conf")
        .args(options)
        .args(ports)
        .args(["--bind", "127.0.0.1", "--save", ""])
        .args([
            "--enable-debug-command",
            "yes",
            "--repl-diskless-sync-delay",
            "0",
        ])
        .current_dir(folder)
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| {
            io::Error::other(format!(
                "redis-server: {error}; on Debian it is in the package redis-server"
            ))
        })
}

fn until_listening(process: &mut Child, port: u16) -> io::Result<()> {
    until("a listening server", || match process.try_wait()? {
        Some(status) => Err(io::Error::other(format!("it has ended: {status}"))),
        None => Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()),
    })
}

/// Waits until something is there.
fn until(what: &str, mut is_there: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let start = Instant::now();
    while !is_there()? {
        if start.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("there is no {what}")));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

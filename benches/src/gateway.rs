//! The gateway in a process of its own, on one core; who asks and who answers have the other one.
//!
//! Passing through is measured against nginx by wrk, before the same nginx as an application. Sealed requests are
//! made by `bulla-client`. What each has cost the gateway is read off the system's account of its process.

mod idle;
mod load;
mod memory;

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bulla_client::{Client, ProofKind, Session, Thumbprint};
use bulla_gateway::Gateway;
use bulla_gateway::config::{Access, Config, PathRule};
use bulla_gateway::serve::Server;

use crate::Outcome;
use crate::report::Entry;

/// The core of what is measured, and that of all else.
const MEASURED: &str = "0";
const OTHERS: &str = "1";
/// Paths that begin so are public.
const PUBLIC: &str = "/public/";
/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures all of it.
pub(crate) fn run() -> Outcome<Vec<Entry>> {
    let mut entries = load::run()?;
    entries.extend(memory::run()?);
    entries.push(idle::run()?);
    Ok(entries)
}

/// Is the gateway, until whoever has started it is gone. `proof` is `device` or `session`.
pub(crate) fn serve(upstream: &str, proof: &str) -> Outcome {
    let mut config = Config::for_upstream(upstream.parse()?);
    let port = free_port()?;
    config.listen = (Ipv4Addr::LOCALHOST, port).into();
    config.origins = vec![format!("http://localhost:{port}")];
    config.paths = vec![PathRule {
        prefix: PUBLIC.to_owned(),
        access: Access::Public,
    }];
    config.proof = match proof {
        "session" => ProofKind::Session,
        _ => ProofKind::Device,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let gateway = Gateway::build_in_memory(&config)?;
        let server = Server::bind(&config).await?;
        println!("http://localhost:{port} {}", gateway.identity());
        tokio::spawn(gateway.upkeep());
        let gone = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
        tokio::select! {
            ended = server.run(gateway.clone()) => ended?,
            _ = gone => {}
        }
        Ok(())
    })
}

/// A gateway that runs. It ends with this value.
struct Running {
    process: Child,
    origin: String,
    identity: Thumbprint,
}

impl Running {
    fn start(upstream: &str, proof: &str) -> Outcome<Self> {
        let mut process = Command::new("taskset")
            .args(["--cpu-list", MEASURED])
            .arg(env::current_exe()?)
            .args(["gateway", upstream, proof])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let out = process.stdout.take().ok_or("the gateway says nothing")?;
        BufReader::new(out).read_line(&mut line)?;
        let (origin, identity) = line.trim().split_once(' ').ok_or("there is no gateway")?;
        let (origin, identity) = (origin.to_owned(), identity.parse()?);
        Ok(Self {
            process,
            origin,
            identity,
        })
    }

    async fn session(&self) -> Outcome<Session> {
        let client = Client::builder(&self.origin).identity(self.identity);
        Ok(client.build()?.open().await?)
    }

    /// A line of `proc_pid_status(5)`, in bytes.
    fn memory(&self, line: &str) -> Outcome<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let found = status.lines().find_map(|found| found.strip_prefix(line));
        let kibibytes = found.and_then(|found| found.trim().strip_suffix(" kB"));
        let kibibytes: f64 = kibibytes.ok_or("/proc says nothing of it")?.parse()?;
        Ok(kibibytes * 1024.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already, perhaps.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An nginx of one process.
struct Nginx {
    process: Child,
    port: u16,
}

impl Nginx {
    /// `location` is what it does with each request; `more` stands beside its server.
    fn start(folder: &Path, core: &str, more: &str, location: &str) -> Outcome<Self> {
        let port = free_port()?;
        let own = folder.join(port.to_string());
        fs::create_dir(&own)?;
        let file = own.join("conf");
        let own = own.display();
        fs::write(
            &file,
            format!(
                "daemon off; master_process off; pid {own}/pid;
                events {{ worker_connections 1024; }}
                http {{
                    access_log off; keepalive_requests 1000000000; default_type text/plain;
                    client_body_temp_path {own}/body; proxy_temp_path {own}/proxy;
                    fastcgi_temp_path {own}/fastcgi; uwsgi_temp_path {own}/uwsgi; scgi_temp_path {own}/scgi;
                    {more}
                    server {{ listen 127.0.0.1:{port}; location / {{ {location} }} }}
                }}"
            ),
        )?;
        let path = env::var("PATH").unwrap_or_default();
        let process = Command::new("taskset")
            .args(["--cpu-list", core, "nginx", "-e", "stderr", "-c"])
            .arg(&file)
            .env("PATH", format!("{path}:/usr/sbin"))
            .spawn()?;
        let nginx = Self { process, port };
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if start.elapsed() > PATIENCE {
                return Err("nginx does not begin".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(nginx)
    }

    fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Nobody else has it before whoever asked for it does, as a rule.
fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

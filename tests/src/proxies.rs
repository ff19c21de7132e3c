//! Real proxies, with the configurations that the documentation gives.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::apps::installed;
use crate::certificate::{Vouched, trusting_client};

const PATIENCE: Duration = Duration::from_secs(30);

/// What the documentation's configurations say, to be replaced.
const LISTEN: &str = "443";
const UPSTREAM: &str = "127.0.0.1:8080";
const CERTIFICATE: &str = "/etc/ssl/bank.pem";

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// nginx.
    Nginx,
    /// `HAProxy`.
    HaProxy,
    /// Envoy, as `cargo xtask test --suite gateway` installs it.
    Envoy,
}

impl Kind {
    /// Those that stand before a server which unseals by itself.
    pub const ALL: [Self; 2] = [Self::Nginx, Self::HaProxy];

    /// Those that ask the gateway.
    pub const ASKING: [Self; 2] = [Self::Nginx, Self::Envoy];

    /// What its examples in the documentation are marked with.
    fn language(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
            Self::Envoy => "yaml",
        }
    }
}

/// A proxy that ends TLS as `localhost`, before a server that speaks plain HTTP. It goes with this value.
pub struct FrontProxy {
    folder: TempDir,
    process: Child,
    port: u16,
    authority: String,
}

impl FrontProxy {
    /// A port for one to come: whoever is behind it has to know its origin first.
    ///
    /// # Errors
    ///
    /// If none can be had.
    pub fn port_to_come() -> io::Result<u16> {
        Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port())
    }

    /// Starts one on this port, before the server on `upstream`, configured as `page` says.
    ///
    /// # Errors
    ///
    /// If the page has no configuration for it, if it is not installed, or does not begin.
    pub fn start(kind: Kind, page: &str, port: u16, upstream: u16) -> io::Result<Self> {
        let upstream = format!("127.0.0.1:{upstream}");
        Self::start_with(kind, page, port, &[(UPSTREAM, &upstream)])
    }

    /// The same, with other things in the configuration replaced.
    ///
    /// # Errors
    ///
    /// As [`Self::start`], and if there is nothing to replace.
    pub fn start_with(
        kind: Kind,
        page: &str,
        port: u16,
        replaced: &[(&str, &str)],
    ) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let vouched = Vouched::new().map_err(io::Error::other)?;
        let pem = folder.path().join("bank.pem");
        let both = format!(
            "{}{}",
            vouched.certificate.pem(),
            &*vouched.key.serialize_pem()
        );
        fs::write(&pem, both)?;
        let example = example(page, kind.language())
            .ok_or_else(|| io::Error::other(format!("the page has no example for {kind:?}")))?;
        let mut configuration = example
            .replace(LISTEN, &port.to_string())
            .replace(CERTIFICATE, &pem.to_string_lossy());
        for (from, to) in replaced {
            if !configuration.contains(from) {
                return Err(io::Error::other(format!("the example has no {from:?}")));
            }
            configuration = configuration.replace(from, to);
        }
        let process = spawn(kind, folder.path(), &configuration)?;
        let mut proxy = Self {
            folder,
            process,
            port,
            authority: vouched.authority,
        };
        proxy.until_listening()?;
        Ok(proxy)
    }

    /// An HTTP client that trusts who vouches for it.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn trusting_client(&self) -> io::Result<reqwest::Client> {
        trusting_client(&self.authority)
    }

    fn until_listening(&mut self) -> io::Result<()> {
        let start = Instant::now();
        loop {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return Ok(());
            }
            if self.process.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                let said = fs::read_to_string(self.folder.path().join("said"));
                return Err(io::Error::other(format!(
                    "the proxy does not begin: {}",
                    said.unwrap_or_default()
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for FrontProxy {
    fn drop(&mut self) {
        // Gone already, perhaps.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The first example in this language.
fn example<'a>(page: &'a str, language: &str) -> Option<&'a str> {
    let (_, from) = page.split_once(&format!("\n```{language}\n"))?;
    Some(from.split_once("\n```")?.0)
}

fn spawn(kind: Kind, folder: &Path, configuration: &str) -> io::Result<Child> {
    let file = folder.join("conf");
    let said = fs::File::create(folder.join("said"))?;
    let mut command = match kind {
        Kind::Nginx => {
            // One process that stays, and leaves nothing elsewhere.
            let folder = folder.display();
            let whole = format!(
                "daemon off; master_process off; pid {folder}/pid;\n\
                 events {{}}\n\
                 http {{\n\
                 access_log off;\n\
                 client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
                 fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n\
                 scgi_temp_path {folder}/scgi;\n\
                 {configuration}\n}}\n"
            );
            fs::write(&file, whole)?;
            let mut command = Command::new("nginx");
            command.arg("-e").arg("stderr").arg("-c").arg(&file);
            command
        }
        Kind::HaProxy => {
            fs::write(&file, format!("{configuration}\n"))?;
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(&file);
            command
        }
        Kind::Envoy => {
            // It goes by the ending of the name.
            let file = folder.join("conf.yaml");
            fs::write(&file, configuration)?;
            let mut command = Command::new(installed("envoy/bin/envoy")?);
            command.args([
                "--use-dynamic-base-id",
                "--concurrency",
                "1",
                "-l",
                "warn",
                "-c",
            ]);
            command.arg(&file);
            command
        }
    };
    command
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said)
        .env("PATH", path_with_sbin())
        .spawn()
}

/// Debian keeps them where only root's shells look.
fn path_with_sbin() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/usr/local/sbin")
}

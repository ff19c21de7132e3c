//! The command line.

mod check;
mod keys;
mod lists;
mod run;
mod sign;

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bulla_gateway::config::{self, Config, Overrides};
use clap::{Args, Parser, Subcommand};
use http::Uri;

/// Stands before an application, and lets nobody through who is not who opened the session.
///
/// Without a command it runs. What is said here wins over the file.
#[derive(Parser)]
#[command(
    name = "bulla-gateway",
    version,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Says what it would do, and what is wrong with the configuration, its certificate and its keys
    Check(Options),
    /// Makes an identity if there is none, and prints its thumbprint
    Keygen(State),
    /// Prints the thumbprint of the identity, which clients pin
    Thumbprint(State),
    /// Lists an application's scripts, styles, Wasm modules and pages with their hashes, and signs that
    Sign(Sign),
    /// Prints which scripts browsers have run, as CSV: since when, whether they are authorised, and why
    Scripts(Options),
    /// Prints which fields pages had, as CSV: since when, whether they are authorised, and why
    Fields(Options),
}

#[derive(Args, Clone)]
struct Options {
    /// The configuration [default: bulla.toml in this folder, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the application is, such as `http://127.0.0.1:8000`; once for each of its addresses
    #[arg(long, value_name = "URL", value_parser = config::upstream)]
    upstream: Vec<Uri>,
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS", value_parser = config::address)]
    listen: Option<SocketAddr>,
    /// The public origin, such as `https://bank.example`; once for each [default: `http://localhost` and the port]
    #[arg(long, value_name = "ORIGIN", value_parser = config::origin)]
    origin: Vec<String>,
    /// Where keys and sessions are kept [default: bulla]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

#[derive(Args)]
struct Sign {
    /// The folder of what is served
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The path at which it is served
    #[arg(long, value_name = "PATH", default_value = "/static/")]
    base: String,
    /// Where the manifest goes [default: bulla-manifest.json in the folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Its version [default: one more than that of the manifest before it]
    #[arg(long, value_name = "VERSION")]
    number: Option<u64>,
    #[command(flatten)]
    state: State,
}

#[derive(Args)]
struct State {
    /// The configuration that says where the identity is [default: bulla.toml in this folder, if there is one]
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    config: Option<PathBuf>,
    /// Where keys are kept [default: as the configuration says, or bulla]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Why it ends without success.
enum Failure {
    /// It was called wrongly.
    Usage(&'static str),
    /// Something is wrong.
    Error(Box<dyn Error>),
}

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => f.write_str(what),
            Self::Error(error) => error.fmt(f),
        }
    }
}

/// Does what is asked for: 0 if it went well, 1 if something is wrong, 2 if it was called wrongly.
pub(crate) fn main() -> ExitCode {
    let Cli { command, options } = Cli::parse();
    let done = match command {
        None => run::run(&options),
        Some(Command::Check(options)) => check::check(&options),
        Some(Command::Keygen(state)) => keys::keygen(&state),
        Some(Command::Thumbprint(state)) => keys::thumbprint(&state),
        Some(Command::Sign(asked)) => sign::sign(&asked),
        Some(Command::Scripts(options)) => lists::scripts(&options),
        Some(Command::Fields(options)) => lists::fields(&options),
    };
    let Err(failure) = done else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{failure}");
    match failure {
        Failure::Error(_) => ExitCode::FAILURE,
        Failure::Usage(_) => ExitCode::from(2),
    }
}

impl Options {
    /// The file, if there is one.
    fn file(&self) -> Option<&Path> {
        self.config.as_deref().or_else(|| usual_file())
    }

    fn load(&self) -> Result<Config, Failure> {
        let file = self.file();
        if file.is_none() && self.upstream.is_empty() {
            return Err(Failure::Usage(
                "Say where the application is: by --upstream http://127.0.0.1:8000, or by a bulla.toml in this folder.",
            ));
        }
        Ok(Config::load(file, &self.overrides())?)
    }

    fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen,
            origins: self.origin.clone(),
            upstreams: self.upstream.clone(),
            state: self.state.clone(),
        }
    }
}

/// What is read where no file is named.
fn usual_file() -> Option<&'static Path> {
    Some(Path::new("bulla.toml")).filter(|file| file.exists())
}

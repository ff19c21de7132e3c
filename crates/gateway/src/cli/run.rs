//! It runs.

use std::env;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bulla_gateway::Gateway;
use bulla_gateway::config::{self, Config, Tls};
use bulla_gateway::operator::{Operator, Token};
use bulla_gateway::serve::{Certificate, Server};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use super::check::before;
use super::{Failure, Options};

/// What is told where `RUST_LOG` says nothing: all of Bulla's targets begin so.
const TOLD: &str = "warn,bulla=info";

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let config = options.load()?;
    let told = env::var("RUST_LOG").unwrap_or_default();
    let told = EnvFilter::try_new(if told.is_empty() { TOLD } else { &told })
        .map_err(|error| format!("RUST_LOG is no filter: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(told)
        .with_writer(io::stderr)
        .init();
    Runtime::new()?.block_on(serve(options.clone(), config))
}

async fn serve(options: Options, config: Config) -> Result<(), Failure> {
    let mut server = Server::bind(&config).await?;
    let gateway = Gateway::build(&config)?;
    if let Some(operator) = &config.operator {
        let operator = operator_of(&gateway, &config, operator)?;
        tokio::spawn(operator.watch());
        server = server.operator(operator.router());
    }
    tell(&server, &gateway, &config);
    tokio::spawn(gateway.upkeep());
    let running = Arc::new(Running {
        options,
        gateway: gateway.clone(),
        certificate: server.certificate(),
        tls: Mutex::new(config.tls),
    });
    let (well, told) = (gateway.clone(), gateway.clone());
    server
        .decision(gateway.decision())
        .ready(move || well.is_ready())
        .on_unreadable(move |peer| told.unreadable(peer))
        .on_reload(move || {
            let running = Arc::clone(&running);
            async move { running.reload() }
        })
        .run(gateway.clone())
        .await?;
    gateway.save()?;
    Ok(())
}

fn operator_of(
    gateway: &Gateway,
    config: &Config,
    operator: &config::Operator,
) -> Result<Operator, Failure> {
    let file = config.operator_token_file();
    let token = match operator.token_file {
        Some(_) => Token::load(&file)?,
        None => Token::load_or_create(&file)?,
    };
    tracing::info!("the operator's token is in {}", file.display());
    Ok(Operator::new(gateway, token))
}

fn tell(server: &Server, gateway: &Gateway, config: &Config) {
    let origins = config.origins.join(", ");
    tracing::info!("it listens at {}, for {origins}", server.address());
    if let Some(address) = server.operator_address() {
        tracing::info!("it listens at {address} for its operator");
    }
    if let Some(address) = server.decision_address() {
        tracing::info!("it listens at {address} for proxies that ask");
    }
    tracing::info!("it stands before {}", before(config));
    tracing::info!("its identity is {}", gateway.identity());
    for note in config.notes() {
        tracing::warn!("{note}");
    }
}

/// What runs, and what it goes by.
struct Running {
    options: Options,
    gateway: Gateway,
    certificate: Option<Certificate>,
    /// The files of the certificate, as they were named last.
    tls: Mutex<Option<Tls>>,
}

impl Running {
    /// Reads the file and the certificate again. Where something is wrong with one, the one that is in use stays.
    fn reload(&self) {
        let mut used = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        match self.options.load() {
            Ok(config) => {
                self.take(&config);
                // Else it is the next start's.
                if let (Some(_), Some(tls)) = (&self.certificate, config.tls) {
                    *used = Some(tls);
                }
            }
            Err(failure) => tracing::error!("the configuration stays as it was: {failure}"),
        }
        if let (Some(certificate), Some(tls)) = (&self.certificate, &*used) {
            match certificate.reload(tls) {
                Ok(()) => tracing::info!("it has read the certificate again"),
                Err(error) => tracing::error!("the certificate stays as it was: {error}"),
            }
        }
    }

    fn take(&self, config: &Config) {
        let mut waiting = match self.gateway.reload(config) {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::error!("the configuration stays as it was: {error}");
                return;
            }
        };
        tracing::info!("it goes by the configuration as it is now");
        let takes_tls = config.tls.is_some() == self.certificate.is_some();
        waiting.retain(|key| !(takes_tls && *key == "tls"));
        if !waiting.is_empty() {
            tracing::warn!("it takes a start for what is new in {}", waiting.join(", "));
        }
    }
}

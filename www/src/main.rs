//! `bulla-demo [--port PORT] [--listen ADDRESS]`: serves the demo until it is stopped.
#![forbid(unsafe_code)]

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use bulla_demo::Demo;
use tokio::net::TcpListener;

const USAGE: &str = "usage: bulla-demo [--port PORT] [--listen ADDRESS]

  --port PORT        default 8080; 0 for any that is free
  --listen ADDRESS   default 127.0.0.1; browsers reach it as http://localhost:PORT";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let (mut address, mut port) = (IpAddr::from(Ipv4Addr::LOCALHOST), 8080);
    let (pairs, rest) = arguments.as_chunks();
    if !rest.is_empty() {
        return Err(USAGE.into());
    }
    for [name, value] in pairs {
        match name.as_str() {
            "--port" => port = value.parse().map_err(|_| USAGE)?,
            "--listen" => address = value.parse().map_err(|_| USAGE)?,
            _ => return Err(USAGE.into()),
        }
    }
    let listener = TcpListener::bind((address, port)).await.map_err(|error| {
        format!("{address}:{port} cannot be used: {error}. Choose another port with `--port 8081`")
    })?;
    let demo = Demo::start(listener)?;
    println!("The bank and its thief: {}", demo.origin());
    demo.run().await;
    Ok(())
}

//! `bulla-demo [--port PORT] [--listen ADDRESS]`: serves the bank and its thief until it is stopped.
//!
//! `bulla-demo thief --behind ORIGIN --without ORIGIN …`: serves the thief's panel for Django's admin, likewise.
#![forbid(unsafe_code)]

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use bulla_demo::{Admin, Demo};
use tokio::net::TcpListener;

const USAGE: &str = "usage: bulla-demo [--port PORT] [--listen ADDRESS]
       bulla-demo thief --behind ORIGIN --without ORIGIN --user NAME --password PASSWORD [--port PORT]

  --port PORT        default 8080; 0 for any that is free
  --listen ADDRESS   default 127.0.0.1; browsers reach it as http://localhost:PORT
  --behind ORIGIN    where Django's admin is behind the gateway: http://localhost:PORT
  --without ORIGIN   where it is without it: http://127.0.0.1:PORT
  --user NAME        who may log in there; the panel shows this, and the password";

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
    let (is_thiefs, arguments) = match arguments {
        [first, rest @ ..] if first == "thief" => (true, rest),
        all => (false, all),
    };
    let (mut address, mut port) = (IpAddr::from(Ipv4Addr::LOCALHOST), 8080);
    let mut admin = Admin::default();
    let (pairs, rest) = arguments.as_chunks();
    if !rest.is_empty() {
        return Err(USAGE.into());
    }
    for [name, value] in pairs {
        match name.as_str() {
            "--port" => port = value.parse().map_err(|_| USAGE)?,
            "--listen" if !is_thiefs => address = value.parse().map_err(|_| USAGE)?,
            "--behind" if is_thiefs => admin.behind.clone_from(value),
            "--without" if is_thiefs => admin.without.clone_from(value),
            "--user" if is_thiefs => admin.user.clone_from(value),
            "--password" if is_thiefs => admin.password.clone_from(value),
            _ => return Err(USAGE.into()),
        }
    }
    let listener = TcpListener::bind((address, port)).await.map_err(|error| {
        format!("{address}:{port} cannot be used: {error}. Choose another port with `--port 8081`")
    })?;
    let (demo, what) = if is_thiefs {
        (Demo::thief(listener, admin)?, "The admin's thief")
    } else {
        (Demo::start(listener)?, "The bank and its thief")
    };
    println!("{what}: {}", demo.origin());
    demo.run().await;
    Ok(())
}

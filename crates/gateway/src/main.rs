//! `bulla-gateway`: the Bulla verifier as a reverse proxy.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}

//! `bulla-gateway`: the Bulla verifier as a reverse proxy.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("bulla-gateway does not run yet");
    ExitCode::FAILURE
}

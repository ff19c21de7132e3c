//! The benchmarks: `cargo xtask bench [native] [memory] [e2e] [gateway] [browser] [size]`, all if none is named, or
//! `cargo xtask bench browser [ENGINE]... [PART]...` for some of the browsers' alone.
//!
//! A table on standard output, and `target/bench/report.json`: a list of
//! `{ id, unit, median, baseline, ratio, against, goal, pass }`. All ratios come out of one run, with
//! samples taken in turn (A B C A B C …), so that whatever else the machine does hits all alike.
//! `cargo xtask bench profile ID COUNT` runs one of the native paths that often and nothing else, for
//! profilers; of `browser/ENGINE/sealed-fetch` it prints the calls.
#![forbid(unsafe_code)]

mod browser;
mod e2e;
mod gateway;
mod measure;
mod memory;
mod native;
mod report;
mod size;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use report::Report;

/// Why a part of the benchmarks failed, for people.
type Failure = Box<dyn Error + Send + Sync>;

type Outcome<T = ()> = Result<T, Failure>;

/// A server that cares for microseconds brings an allocator of its own; glibc's costs a request through
/// the verifier one to two of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Outcome {
    const PARTS: [&str; 6] = ["native", "memory", "e2e", "gateway", "browser", "size"];

    if let ["profile", id, count] = arguments {
        let count = count.parse()?;
        return match id.strip_prefix("browser/") {
            Some(path) => browser::profile(path, count),
            None => native::profile(id, count),
        };
    }
    if let ["memory", id] = arguments {
        return memory::one(id);
    }
    if let ["e2e", id] = arguments {
        return e2e::serve(id);
    }
    if let ["gateway", upstream, proof] = arguments {
        return gateway::serve(upstream, proof);
    }
    if let ["browser", named @ ..] = arguments
        && let Some(selection) = browser::Selection::of(named)
    {
        let mut report = Report::default();
        report.extend(browser::run(&selection)?);
        return tell(&report);
    }
    if let Some(unknown) = arguments.iter().find(|part| !PARTS.contains(part)) {
        return Err(format!(
            "there is no part `{unknown}`; there are {}",
            PARTS.join(", ")
        )
        .into());
    }
    let wanted = |part| arguments.is_empty() || arguments.contains(&part);

    let mut report = Report::default();
    if wanted("native") {
        report.extend(native::run()?);
    }
    if wanted("memory") {
        report.extend(memory::run()?);
    }
    if wanted("e2e") {
        report.extend(e2e::run()?);
    }
    if wanted("gateway") {
        report.extend(gateway::run()?);
    }
    if wanted("browser") {
        report.extend(browser::run(&browser::Selection::all())?);
    }
    if wanted("size") {
        report.extend(size::run()?);
    }
    tell(&report)
}

fn tell(report: &Report) -> Outcome {
    print!("{report}");
    report.write()
}

//! Mixed traffic at the machine's limit with faults thrown in; `cargo xtask soak` runs it.
//!
//! `soak [--minutes N] [--seed N] [--clients N] [--weakened NAME] [--report FOLDER]...` writes its report into each of these
//! folders. `soak node …` is one of the nodes that it starts.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{SignalKind, signal};

use bulla_tests::soak::{Kind, Outcome, Settings, Weakness, run, serve, tell, write};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.split_first() {
        Some((first, rest)) if first == "node" => serve(rest).map(|()| true),
        _ => soak(&words),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing was wrong.
fn soak(words: &[String]) -> Outcome<bool> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut settings = Settings {
        program: std::env::current_exe()?,
        seed: now.unwrap_or_default().as_secs(),
        length: Duration::from_mins(5),
        faults: None,
        until: None,
        fault: Duration::from_secs(4),
        quiet: Duration::from_secs(12),
        grace: Duration::from_secs(5),
        clients: 32,
        nodes: 3,
        kinds: Kind::ALL.to_vec(),
        network: true,
        weakness: Weakness::None,
    };
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words
            .next()
            .ok_or_else(|| format!("{word} wants a value"))?;
        match &**word {
            "--minutes" => settings.length = Duration::from_secs_f64(value.parse::<f64>()? * 60.0),
            "--seed" => settings.seed = value.parse()?,
            "--clients" => settings.clients = value.parse()?,
            "--weakened" => settings.weakness = Weakness::named(value)?,
            "--report" => folders.push(value.into()),
            _ => return Err(format!("there is no option {word}").into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let run = runtime.block_on(async {
        let given_up = given_up()?;
        run(settings, given_up).await
    })?;
    for folder in folders {
        write(&run, &folder)?;
    }
    tell(&run);
    Ok(run.violations.is_empty())
}

/// Resolves when somebody wants it to end, so that nothing is left behind.
fn given_up() -> Outcome<impl Future<Output = ()>> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    })
}

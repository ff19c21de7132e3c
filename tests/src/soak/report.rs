//! What a run says: whether service came back, whether memory grew, and all of it for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::faults::KEPT;
use super::ledger::{Wrong, counted};
use super::measure::as_float;
use super::network::Packets;
use super::plot;
use super::timeline::{Fault, Kind};
use super::{Outcome, Run, Second};

/// In the last seconds of a quiet time everything is answered, and this much at least of what is answered where there
/// are no faults.
const LEAST: f64 = 0.2;
/// Latency has recovered where p99 is no more than so many times that of the beginning, before any fault.
const FACTOR: f64 = 3.0;
/// Memory is flat where the node that is never killed has no more than this at the end of the second half, against its
/// beginning: so many times as much, and so many bytes.
const GROWTH: (f64, f64) = (1.1, 8e6);

/// How service came back after one fault, in seconds since it was over.
struct Recovery<'a> {
    fault: &'a Fault,
    /// From when on nothing is refused any more; `None` if that does not come about before the next fault.
    service: Option<f64>,
    /// The same for latency.
    latency: Option<f64>,
}

/// What can only be said at the end.
pub(super) fn judge(run: &Run) -> Vec<(Wrong, String)> {
    let mut wrong = Vec::new();
    let normal = normal(run);
    for (fault, quiet) in quiets(run) {
        let last = &quiet[quiet.len().saturating_sub(3)..];
        let failed: u32 = last.iter().map(|second| second.failed).sum();
        let good = mean(last.iter().map(|second| f64::from(second.good)));
        if last.is_empty() || failed > 0 || good < LEAST * normal.good {
            let Fault {
                kind,
                detail,
                start,
                ..
            } = fault;
            wrong.push((
                Wrong::NotBack,
                format!(
                    "{kind} ({detail}) at {start:.1} s: in the last seconds before the next fault {failed} were refused, and {good:.0} answered in a second, of {:.0} at the beginning",
                    normal.good
                ),
            ));
        }
    }
    if let Some((before, after)) = growth(run)
        && after > before * GROWTH.0 + GROWTH.1
    {
        let megabytes = |bytes: f64| bytes / 1e6;
        wrong.push((
            Wrong::Memory,
            format!(
                "node {KEPT} had {:.1} MB in the middle and {:.1} MB at the end",
                megabytes(before),
                megabytes(after)
            ),
        ));
    }
    wrong
}

/// How it is where there are no faults.
struct Normal {
    good: f64,
    p50: f64,
    p99: f64,
}

/// The seconds before the first fault, without those in which everything begins.
fn normal(run: &Run) -> Normal {
    let first = brought_about(run)
        .next()
        .map_or(run.took, |fault| fault.start);
    let before = run.seconds.iter().filter(|second| second.at < first);
    let before: Vec<_> = before.skip(1).collect();
    let of =
        |value: fn(&Second) -> f64| median(before.iter().map(|second| value(second)).collect());
    Normal {
        good: of(|second| f64::from(second.good)),
        p50: of(|second| f64::from(second.p50)),
        p99: of(|second| f64::from(second.p99)),
    }
}

/// Those that were brought about.
fn brought_about(run: &Run) -> impl Iterator<Item = &Fault> {
    let all = run.faults.iter();
    all.filter(|fault| fault.kind != Kind::RingRotated)
}

/// Each fault with the whole seconds between it and the next one.
fn quiets(run: &Run) -> Vec<(&Fault, Vec<&Second>)> {
    let faults: Vec<_> = brought_about(run).collect();
    let nexts = faults.iter().skip(1).map(|fault| fault.start);
    let nexts = nexts.chain([run.took]);
    faults
        .iter()
        .zip(nexts)
        .filter_map(|(fault, next)| {
            let end = fault.end?;
            let quiet = run.seconds.iter();
            let quiet = quiet.filter(|second| second.at - 1.0 >= end && second.at <= next);
            Some((*fault, quiet.collect()))
        })
        .collect()
}

fn recoveries(run: &Run) -> Vec<Recovery<'_>> {
    let normal = normal(run);
    let since =
        |fault: &Fault, second: &Second| (second.at - fault.end.unwrap_or(second.at)).max(0.0);
    quiets(run)
        .into_iter()
        .map(|(fault, quiet)| {
            let from = |is_well: &dyn Fn(&Second) -> bool| {
                let ill = quiet.iter().rposition(|second| !is_well(second));
                let first = quiet.get(ill.map_or(0, |last| last + 1));
                first.map(|second| since(fault, second))
            };
            // One slow second of many is a busy machine.
            let smooth = |second: &Second| {
                let near = quiet
                    .iter()
                    .filter(|other| (other.at - second.at).abs() < 1.5);
                median(near.map(|other| f64::from(other.p99)).collect())
            };
            Recovery {
                fault,
                service: from(&|second| second.failed == 0),
                latency: from(&|second| smooth(second) <= FACTOR * normal.p99),
            }
        })
        .collect()
}

/// What the node that is never killed had of memory at the beginning of the second half, and in the end.
fn growth(run: &Run) -> Option<(f64, f64)> {
    let of = |from: f64, to: f64| {
        let between = run
            .seconds
            .iter()
            .filter(|second| (run.took * from..run.took * to).contains(&second.at));
        let of_node = between
            .filter_map(|second| Some(as_float(second.nodes.get(KEPT).copied()?? >> 10) * 1024.0));
        let all: Vec<_> = of_node.collect();
        (!all.is_empty()).then(|| median(all))
    };
    Some((of(0.5, 0.6)?, of(0.9, 1.0)?))
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn mean(all: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = as_float(all.len() as u64).max(1.0);
    all.sum::<f64>() / count
}

/// Says it on the screen.
pub fn tell(run: &Run) {
    println!("\nsoak: {:.0} s, seed {}", run.took, run.settings.seed);
    let (sent, done) = run.carried_out;
    println!(
        "soak: {sent} requests, {done} carried out, {} replays",
        run.counts.replays
    );
    for (wrong, count) in counted(&run.violations) {
        println!("soak: {count:6} {}", wrong.name());
    }
}

/// Writes the report and its plots: `soak.md`, and `soak/*.svg` beside it.
///
/// # Errors
///
/// If they cannot be written.
pub fn write(run: &Run, folder: &Path) -> Outcome {
    fs::create_dir_all(folder.join("soak"))?;
    for (name, svg) in plot::all(run) {
        fs::write(folder.join("soak").join(name), svg)?;
    }
    fs::write(folder.join("soak.md"), page(run)?)?;
    Ok(())
}

fn page(run: &Run) -> Outcome<String> {
    let mut page = String::new();
    let counts = counted(&run.violations);
    let verdict = if run.violations.is_empty() {
        "**Nothing was wrong.**"
    } else {
        "**Something was wrong**; what it was stands [below](#what-was-wrong)."
    };
    write!(
        page,
        "# Soak and load

Several nodes under as much mixed traffic as the machine gives, for as long as one likes, with faults thrown in and every answer
checked. This page is written by the run that it is about (`cargo xtask soak --minutes N --report`), figures and plots
alike.

{verdict} What is counted here has to be nothing:

| what | how often |
| --- | --- |
"
    )?;
    for (wrong, count) in &counts {
        writeln!(page, "| {} | {count} |", wrong.name())?;
    }
    write_run(&mut page, run)?;
    write_wrong(&mut page, run)?;
    write_plots(&mut page, run)?;
    write_recoveries(&mut page, run)?;
    write_counts(&mut page, run)?;
    page.push_str(METHOD);
    Ok(page)
}

fn write_run(page: &mut String, run: &Run) -> Outcome {
    let (sent, done) = run.carried_out;
    let good: u64 = run.counts.good.values().sum();
    let busy = mean(run.seconds.iter().map(|second| second.busy));
    let normal = normal(run);
    let settings = &run.settings;
    let packets = match &run.packets {
        Ok(Packets::Netem) => "Packets were lost and delayed by netem, each node in a network namespace of its own.".to_owned(),
        Ok(Packets::Substitute) => "**This machine's kernel has no netem.** In its place packets were lost by nftables (`numgen`) and made to wait in a queue before a narrow line (`tbf`), each node in a network namespace of its own; what else was late was held back by the program that stands between.".to_owned(),
        Err(error) => format!("**No packets were lost or delayed here** ({error}): connections were delayed, cut and reset by the program that stands between, instead."),
    };
    write!(
        page,
        "
## The run

| | |
| --- | --- |
| how long | {} |
| seed | {} |
| machine | {} |
| nodes, clients | {} processes behind a round-robin, {} clients with one request each at a time, 4 thieves |
| faults | {}, of {:.0} seconds on the average, each with {:.0} quiet ones behind it |
| requests | {sent} made, {done} carried out, {good} answers as they should be |
| replays | {} recorded requests sent again, {} writes sent to two nodes at once, {} requests sent after their session's end |
| before the first fault | {:.0} answers in a second, half of them within {:.1} ms, 99 of 100 within {:.1} ms |
| processors | busy for {:.0} % of the time, with clients, thieves and Redis on the same ones |
| memory of the node that is never killed | {} |

{packets}
",
        length(run.took),
        settings.seed,
        machine(),
        settings.nodes,
        settings.clients,
        brought_about(run).count(),
        settings.fault.as_secs_f64(),
        settings.quiet.as_secs_f64(),
        run.counts.replays,
        run.counts.races,
        run.counts.after_end,
        normal.good,
        normal.p50 / 1000.0,
        normal.p99 / 1000.0,
        busy * 100.0,
        match growth(run) {
            Some((before, after)) => format!(
                "{:.1} MB where the second half began, {:.1} MB at the end",
                before / 1e6,
                after / 1e6
            ),
            None => "not known: the run was too short".to_owned(),
        },
    )?;
    Ok(())
}

fn write_wrong(page: &mut String, run: &Run) -> Outcome {
    if run.violations.is_empty() {
        return Ok(());
    }
    writeln!(page, "\n## What was wrong\n")?;
    for violation in run.violations.iter().take(50) {
        let (name, what) = (violation.wrong.name(), &violation.what);
        writeln!(page, "- {:.1} s, {name}: {what}", violation.at)?;
    }
    Ok(())
}

fn write_plots(page: &mut String, run: &Run) -> Outcome {
    let step = run.seconds.len().div_ceil(plot::MOST_POINTS).max(1);
    let point = match step {
        1 => "a second".to_owned(),
        step => format!("{step} seconds: the mean of them, or for latency the worst"),
    };
    write!(
        page,
        "
## Over time

A band is a fault, or the moment at which the ring had its next key. A point is {point}.

![Requests in a second over time](soak/throughput.svg)

![Latency over time, on a logarithmic scale](soak/latency.svg)

![Memory over time](soak/memory.svg)

The store of Redis holds what happens in four lives of a nonce and what has ended in the life of a session, so it grows until
these are over and no further. Where its line is broken or falls it was restarted.
"
    )?;
    Ok(())
}

/// One row for each kind of fault.
fn write_recoveries(page: &mut String, run: &Run) -> Outcome {
    let recoveries = recoveries(run);
    write!(
        page,
        "
## After a fault

Service is back where nothing is refused or lost any more, to the second; that is measured after each fault, and the run fails
where it has not come about before the next one. Latency is back where p99, the middle one of three seconds, is no more than
{FACTOR} times what it was before the first fault. That is told and not judged: a busy machine has slow seconds without faults.

| fault | how often | service back after | latency back after |
| --- | --- | --- | --- |
"
    )?;
    for kind in Kind::ALL {
        let of: Vec<_> = recoveries
            .iter()
            .filter(|recovery| recovery.fault.kind == kind)
            .collect();
        if of.is_empty() {
            continue;
        }
        let service = of.iter().map(|recovery| recovery.service);
        let latency = of.iter().map(|recovery| recovery.latency);
        writeln!(
            page,
            "| {kind} | {} | {} | {} |",
            of.len(),
            told(service),
            told(latency)
        )?;
    }
    let rotations = run.faults.iter();
    let rotations = rotations.filter(|fault| fault.kind == Kind::RingRotated);
    writeln!(
        page,
        "\nThe ring had another key {} times, which takes nothing to recover from.",
        rotations.count()
    )?;
    Ok(())
}

/// The middle and the longest of these, in seconds, and how many there are none of.
fn told(all: impl Iterator<Item = Option<f64>>) -> String {
    let all: Vec<_> = all.collect();
    let known: Vec<f64> = all.iter().copied().flatten().collect();
    let most = known.iter().copied().fold(0.0, f64::max);
    let never = all.len() - known.len();
    let came = format!("{:.0} s, at most {most:.0} s", median(known.clone()));
    let not = format!("{never} times not before the next fault");
    match (known.is_empty(), never) {
        (_, 0) => came,
        (true, _) => not,
        (false, _) => format!("{came}; {not}"),
    }
}

fn write_counts(page: &mut String, run: &Run) -> Outcome {
    writeln!(
        page,
        "\n## What was asked\n\n| what | answered as it should be |\n| --- | --- |"
    )?;
    for (what, count) in &run.counts.good {
        writeln!(page, "| {what} | {count} |")?;
    }
    write!(
        page,
        "
Clients were refused, or had no answer, so often and with these codes, each time because of a fault that
[explains](#what-is-checked) it:

| code | how often |
| --- | --- |
"
    )?;
    for (code, count) in &run.counts.refused {
        writeln!(page, "| `{code}` | {count} |")?;
    }
    writeln!(
        page,
        "\nReplays were answered with:\n\n| answer | how often |\n| --- | --- |"
    )?;
    for (answer, count) in &run.counts.replays_answered {
        writeln!(page, "| {answer} | {count} |")?;
    }
    writeln!(
        page,
        "\nA refusal of what could be unsealed is sealed, and who replays cannot read it. Whether anything was carried out the journals say. What is
answered with 200 in the open are openings that use up no ticket: they make a session that only their client can use."
    )?;
    Ok(())
}

const METHOD: &str = "
## What is checked

**Every request has a number of its own**, and a node notes it in a journal before it answers, in a file that outlives `kill -9`.
The journals are read all the time. A number that stands there twice is an accepted replay, whoever sent it and when. One that
was answered and does not stand there is a lost write. So each write that was answered is there exactly once, and one that its client sent
again, byte by byte, because no answer came, at most once.

**Every answer is held against what it must be**, byte by byte: what is read, streamed or confirmed is worked out from the number. Who is logged
in is asked again and again, and must be who the client knows it to be. Clients are of the crate `bulla-client`; one of four only signs.

**Every refusal must be explained**: its code has to be one that the documents name for the fault in progress, or for one that was
over less than five seconds ago, or for a clock that was ahead a little, before time had caught up with it ([operations](operations.md#what-it-keeps), [several nodes](server.md#several-nodes),
[clocks](server.md#load-memory-time), [codes](protocol.md#refusals)). Anything else is a wrong answer.

**Thieves** record what passes and was answered, openings, logins and logouts too, and send it again, to any node: half of it at once, the rest at any later time,
over restarts, rotations and jumps of clocks. In the end all that is kept is sent to every node once more. Where a session has
ended, what was proved in it before and never sent is sent to every node at once, and again later; nothing of it may be carried out.

**Service** has to come back after each fault: in the last three seconds before the next one nothing may be refused, and at least a
fifth as much be answered as before the first fault. **Memory** of the node that is never killed must not have grown in the second half by
more than a tenth and 8 MB.

Lives are short, so that all of them end often: a nonce 20 seconds, a ticket 2 minutes, a session 10, a key of the ring one.

What can go wrong without being noticed is a check that never fails. `--weakened` takes a rule out of the nodes: `proofs` (each remembers
for itself alone which were used), `ends` (what has ended goes on), `writes` (one of 64 is confirmed and not carried out), `answers` (one of 64 has a wrong
bit), `memory` (each request leaves 8 KiB behind). A run of each then fails, and the test program `faults_soak` sees to the first four in
some seconds.

What it does not do: requests are made by native clients and not by browsers, without TLS; Redis stands alone, without replicas, so that
its restarts end all sessions; and a clock that jumps is the verifier's and not the machine's.
";

/// So many minutes, or seconds.
fn length(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.0} seconds")
    } else {
        format!("{:.0} minutes", seconds / 60.0)
    }
}

/// Processors and memory.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let of = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kibibytes: f64 = of(&read("/proc/meminfo"), "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or_default();
    format!(
        "{cores} cores ({}), {:.0} GB of memory, Linux {}",
        of(&read("/proc/cpuinfo"), "model name"),
        kibibytes * 1024.0 / 1e9,
        read("/proc/sys/kernel/osrelease").trim()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::node::{LIFETIMES, RING_PERIOD};
    use super::super::{Counts, Settings, Weakness};
    use super::*;

    /// Two minutes with a fault at 20 to 30 and another one at 60 to 70 seconds, where all that is not changed is well.
    fn run(change: impl Fn(&mut Second)) -> Run {
        let settings = Settings {
            program: "soak".into(),
            seed: 1,
            length: Duration::from_mins(2),
            faults: None,
            until: None,
            fault: Duration::from_secs(10),
            quiet: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            clients: 1,
            nodes: 1,
            kinds: Vec::new(),
            network: false,
            weakness: Weakness::None,
        };
        let second = |at| {
            let mut second = Second {
                at: f64::from(at),
                good: 1000,
                p50: 5000,
                p99: 20_000,
                nodes: vec![Some(50_000_000)],
                redis: Some(10_000_000),
                busy: 0.9,
                ..Second::default()
            };
            change(&mut second);
            second
        };
        let fault = |kind, start| Fault {
            kind,
            detail: String::new(),
            start,
            end: Some(start + 10.0),
            lasts: 0.0,
        };
        Run {
            settings,
            took: 120.0,
            seconds: (1..=120).map(second).collect(),
            faults: vec![fault(Kind::RedisLost, 20.0), fault(Kind::NodeKilled, 60.0)],
            violations: Vec::new(),
            counts: Counts::default(),
            carried_out: (1, 1),
            packets: Err("nobody asked".to_owned()),
        }
    }

    fn judged(change: impl Fn(&mut Second)) -> Vec<Wrong> {
        let wrong = judge(&run(change)).into_iter();
        wrong.map(|(wrong, _)| wrong).collect()
    }

    #[test]
    fn service_that_does_not_come_back_is_noticed() {
        assert_eq!(judged(|_| {}), []);
        // While there is a fault anything may be refused.
        assert_eq!(
            judged(|second| second.failed = u32::from((20.0..35.0).contains(&second.at))),
            []
        );
        assert_eq!(
            judged(|second| second.failed = u32::from((20.0..60.0).contains(&second.at))),
            [Wrong::NotBack]
        );
        let hangs = |second: &mut Second| {
            if second.at > 65.0 {
                second.good = 100;
            }
        };
        assert_eq!(judged(hangs), [Wrong::NotBack]);
    }

    #[test]
    fn memory_that_grows_is_noticed() {
        let grows = |each: u64| {
            let seconds = std::cell::Cell::new(0);
            judged(|second| {
                seconds.set(seconds.get() + 1);
                second.nodes[0] = Some(50_000_000 + seconds.get() * each);
            })
        };
        assert_eq!(grows(50_000), []);
        assert_eq!(grows(1_000_000), [Wrong::Memory]);
    }

    #[test]
    fn how_long_it_took_is_told_from_the_end_of_the_fault() {
        let run = run(|second| {
            second.failed = u32::from((20.0..34.0).contains(&second.at));
            if (61.0..76.0).contains(&second.at) {
                second.p99 = 90_000;
            }
        });
        let told: Vec<_> = recoveries(&run)
            .iter()
            .map(|recovery| (recovery.service, recovery.latency))
            .collect();
        assert_eq!(told, [(Some(4.0), Some(1.0)), (Some(1.0), Some(6.0))]);
    }

    #[test]
    fn lives_are_those_that_the_page_names() {
        assert_eq!(LIFETIMES.nonce, Duration::from_secs(20));
        assert_eq!(LIFETIMES.ticket, Duration::from_mins(2));
        assert_eq!(LIFETIMES.session, Duration::from_mins(10));
        assert_eq!(RING_PERIOD, Duration::from_mins(1));
    }
}

//! Requests as fast as they come back.

use std::process::Command;
use std::time::{Duration, Instant};

use bulla_client::Session;
use futures_util::future::try_join_all;
use http::Request;

use super::{MEASURED, Nginx, OTHERS, PUBLIC, Running};
use crate::Outcome;
use crate::e2e::cpu;
use crate::measure::median;
use crate::report::{Entry, Goal};

/// Connections, each with one request at a time.
const CLIENTS: usize = 16;
/// Sealed requests of one client in one round.
const EACH: usize = 100;
const ROUNDS: u32 = 10;
/// How long wrk asks in one round.
const SPELL: &str = "1s";

/// What one round came to.
#[derive(Clone, Copy)]
struct Sample {
    /// Requests per second.
    rate: f64,
    /// Of the proxy, in microseconds per request.
    cpu: f64,
}

pub(super) fn run() -> Outcome<Vec<Entry>> {
    let folder = tempfile::tempdir()?;
    let content = "x".repeat(1024);
    let application = Nginx::start(
        folder.path(),
        OTHERS,
        "",
        &format!("return 200 '{content}';"),
    )?;
    let upstream = application.origin();
    let kept = format!(
        "upstream application {{ server 127.0.0.1:{}; keepalive 64; }}",
        application.port
    );
    let pass =
        "proxy_pass http://application; proxy_http_version 1.1; proxy_set_header Connection '';
        proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;";
    let nginx = Nginx::start(folder.path(), MEASURED, &kept, pass)?;
    let device = Running::start(&upstream, "device")?;
    let session = Running::start(&upstream, "session")?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let open = async |gateway: &Running| -> Outcome<Vec<Session>> {
        try_join_all((0..CLIENTS).map(|_| gateway.session())).await
    };
    let by_device = runtime.block_on(open(&device))?;
    let by_session = runtime.block_on(open(&session))?;

    let mut samples = [const { Vec::new() }; 4];
    for round in 0..=ROUNDS {
        let taken = [
            by_wrk(&nginx.origin(), nginx.process.id())?,
            by_wrk(&device.origin, device.process.id())?,
            runtime.block_on(sealed(&by_session, session.process.id()))?,
            runtime.block_on(sealed(&by_device, device.process.id()))?,
        ];
        // The first one warms up.
        if round > 0 {
            for (samples, taken) in samples.iter_mut().zip(taken) {
                samples.push(taken);
            }
        }
    }
    Ok(entries(&samples))
}

/// Has wrk ask a proxy at this origin for the public path.
fn by_wrk(origin: &str, pid: u32) -> Outcome<Sample> {
    let pid = pid.to_string();
    let before = cpu(&pid)?;
    let url = format!("{}{PUBLIC}x", origin.replace("127.0.0.1", "localhost"));
    let output = Command::new("taskset")
        .args(["--cpu-list", OTHERS, "wrk", "--threads", "1"])
        .args(["--connections", &CLIENTS.to_string(), "--duration", SPELL])
        .arg(url)
        .output()?;
    let said = String::from_utf8(output.stdout)?;
    let value = |name: &str| {
        let rest = said.split_once(name)?.1;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    };
    if said.contains("Non-2xx") || said.contains("Socket errors") {
        return Err(format!("{origin} does not answer as it should: {said}").into());
    }
    let rate = value("Requests/sec:").ok_or("wrk says nothing")?;
    let (count, _) = said.split_once(" requests in").ok_or("wrk says nothing")?;
    let count = count.split_whitespace().last().ok_or("wrk says nothing")?;
    Ok(Sample {
        rate,
        cpu: each(cpu(&pid)?.saturating_sub(before), count.parse()?),
    })
}

/// All clients, each with one sealed request after the other.
async fn sealed(sessions: &[Session], pid: u32) -> Outcome<Sample> {
    let pid = pid.to_string();
    let (before, start) = (cpu(&pid)?, Instant::now());
    let ask = async |session: &Session| -> Outcome {
        for _ in 0..EACH {
            let reply = session.fetch(Request::get("/x").body("")?).await?;
            if reply.into_body().bytes().await?.len() != 1024 {
                return Err("not what was asked for".into());
            }
        }
        Ok(())
    };
    try_join_all(sessions.iter().map(ask)).await?;
    let count = u32::try_from(CLIENTS * EACH)?;
    Ok(Sample {
        rate: f64::from(count) / start.elapsed().as_secs_f64(),
        cpu: each(cpu(&pid)?.saturating_sub(before), f64::from(count)),
    })
}

fn each(time: Duration, count: f64) -> f64 {
    time.as_secs_f64() * 1e6 / count
}

fn entries([nginx, passed, session, device]: &[Vec<Sample>; 4]) -> Vec<Entry> {
    let rate = |of: &[Sample]| median(of.iter().map(|sample| sample.rate).collect());
    // Ticks are long against one round, and add up to the truth.
    let cost = |of: &[Sample]| {
        let costs = of.iter().map(|sample| sample.cpu);
        costs.sum::<f64>() / f64::from(ROUNDS)
    };
    let peer = Entry::raw("gateway/nginx", "requests/s", rate(nginx));
    let least = Goal::AtLeast(0.7);
    let through = Entry::relative("gateway/passthrough", rate(passed), &peer, least);
    let peer_cost = Entry::raw("gateway/nginx/cpu", "µs", cost(nginx));
    let through_cost = Entry::compared("gateway/passthrough/cpu", cost(passed), &peer_cost);
    let mut entries = vec![peer, through, peer_cost, through_cost];
    for (kind, samples) in [("session", session), ("device", device)] {
        let id = format!("gateway/sealed-{kind}");
        entries.push(Entry::raw(&id, "requests/s", rate(samples)));
        let whole = Entry::raw(format!("{id}/cpu"), "µs", cost(samples));
        // What one costs more than the other is what it does more.
        let forwarding = ("forwarding", cost(passed));
        let sealing = ("verifying-and-sealing", cost(session) - cost(passed));
        let signature = ("signature", cost(device) - cost(session));
        let steps = [forwarding, sealing, signature];
        let count = if kind == "device" { 3 } else { 2 };
        let shares = steps[..count].iter().map(|(step, cost)| {
            let id = format!("{id}/{step}");
            Entry::compared(id, *cost, &whole)
        });
        let shares: Vec<_> = shares.collect();
        entries.push(whole);
        entries.extend(shares);
    }
    entries
}

//! Everything that needs no browser, on one core.

mod dpop;
mod peers;
mod raw;
mod server;

use std::thread;

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use bulla_tests::redis::Redis;

use self::server::{LONG_NONCE, NONCE};
use crate::Outcome;
use crate::measure::{Probe, medians};
use crate::report::{Entry, Goal};

const ROUNDS: usize = 400;
/// 1 MiB at a time moves the caches out; a few rounds are enough for it.
const BULK_ROUNDS: usize = 200;

const VERIFY: &str = "raw/es256-verify";
const SEALED_DEVICE: &str = "server/sealed-device";
const DPOP: &str = "server/dpop";
/// 64 in flight.
const IN_MEMORY: &str = "server/sealed-device-memory";
const BULK: &str = "raw/aes128gcm-1MiB";

const GOALS: [(&str, &str, Goal); 15] = [
    (SEALED_DEVICE, VERIFY, Goal::AtMost(1.25)),
    ("server/signed-device", VERIFY, Goal::AtMost(1.15)),
    ("server/sealed-session", VERIFY, Goal::AtMost(0.15)),
    ("server/signed-session", VERIFY, Goal::AtMost(0.15)),
    ("server/refuse-garbage", VERIFY, Goal::AtMost(0.04)),
    ("server/refuse-forged-ticket", VERIFY, Goal::AtMost(0.04)),
    ("server/open-session", VERIFY, Goal::AtMost(7.0)),
    ("peer/httpsig-hyper", SEALED_DEVICE, Goal::AtLeast(1.0)),
    ("peer/ohttp", SEALED_DEVICE, Goal::AtLeast(1.0)),
    ("peer/dpop-verifier", SEALED_DEVICE, Goal::AtLeast(1.0)),
    (DPOP, VERIFY, Goal::AtMost(2.6)),
    ("peer/dpop-verifier", DPOP, Goal::AtLeast(1.0)),
    ("peer/oauth4webapi", DPOP, Goal::AtLeast(1.0)),
    ("server/seal-1MiB", BULK, Goal::AtMost(1.3)),
    // 0.6 of the throughput.
    (
        "server/sealed-device-redis",
        IN_MEMORY,
        Goal::AtMost(1.0 / 0.6),
    ),
];

/// Measures everything.
pub(crate) fn run() -> Outcome<Vec<Entry>> {
    // On any core, as on a machine of its own.
    let redis = Redis::start()?;
    on_one_core(|| {
        let target = server::Target::start(LONG_NONCE)?;
        let mut probes = vec![raw::es256_verify()?];
        probes.extend(target.requests());
        probes.extend([peers::httpsig()?, peers::ohttp()?]);
        probes.extend([dpop::dpop()?, peers::dpop()?, peers::oauth4webapi()?]);
        let mut measured = medians(&mut probes, ROUNDS)?;
        let mut bulk = [raw::aes128gcm()?, target.bulk()];
        measured.extend(medians(&mut bulk, BULK_ROUNDS)?);
        let mut in_flight = [
            server::Target::start(NONCE)?.in_flight(IN_MEMORY),
            server::Target::start_with_redis(NONCE, &redis)?
                .in_flight("server/sealed-device-redis"),
        ];
        measured.extend(medians(&mut in_flight, BULK_ROUNDS)?);
        entries(&measured)
    })
}

/// Runs one path so many times. On any core: a profiler counts what it does itself.
pub(crate) fn profile(id: &str, count: usize) -> Outcome {
    let target = server::Target::start(LONG_NONCE)?;
    let redis = Redis::start()?;
    let mut probes = target.requests();
    probes.extend([
        dpop::dpop()?,
        target.bulk(),
        server::Target::start(NONCE)?.in_flight(IN_MEMORY),
        server::Target::start_with_redis(NONCE, &redis)?.in_flight("server/sealed-device-redis"),
    ]);
    let probe = probes.iter_mut().find(|probe| probe.id == id);
    let probe: &mut Probe = probe.ok_or_else(|| format!("there is no path `{id}`"))?;
    let time = probe.run(count)?;
    println!("{id}: {count} times in {time:?}");
    Ok(())
}

/// Runs on a thread that stays on the core where it begins.
fn on_one_core<T: Send>(work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            let mut core = CpuSet::new();
            core.set(sched_getcpu());
            sched_setaffinity(None, &core)?;
            work()
        });
        pinned.join().map_err(|_| "a benchmark panicked")?
    })
}

fn entries(measured: &[(&'static str, f64)]) -> Outcome<Vec<Entry>> {
    let raw = |id: &str| {
        let found = measured.iter().find(|(known, _)| *known == id);
        let (id, nanoseconds) = found.ok_or_else(|| format!("`{id}` was not measured"))?;
        Ok::<_, String>(Entry::raw(*id, "µs", nanoseconds / 1e3))
    };
    let mut entries = Vec::new();
    for (id, nanoseconds) in measured {
        let goals: Vec<_> = GOALS.iter().filter(|(known, ..)| known == id).collect();
        if goals.is_empty() {
            entries.push(raw(id)?);
        }
        for (_, against, goal) in goals {
            entries.push(Entry::relative(
                *id,
                nanoseconds / 1e3,
                &raw(against)?,
                *goal,
            ));
        }
    }
    Ok(entries)
}

//! The npm package in real browsers, against what the same page would do with the platform alone. What is compared is
//! timed in one page, in turn; only what is cold has a page for each sample.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use axum::Router;
use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use bulla_client::SystemRandom;
use bulla_server::{Bulla, Identity, MemoryStore, Openings, ProofKind, Require};
use bulla_tests::bank::package;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::serve::{self, Server};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;

use crate::Outcome;
use crate::measure::median;
use crate::report::{Entry, Goal, target};

/// What is measured in one page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    FirstSealed,
    SealedFetch,
    Proofs,
    Bulk,
}

impl Part {
    const ALL: [Self; 4] = [
        Self::FirstSealed,
        Self::SealedFetch,
        Self::Proofs,
        Self::Bulk,
    ];

    /// The page's script is named so, too.
    fn name(self) -> &'static str {
        match self {
            Self::FirstSealed => "first-sealed",
            Self::SealedFetch => "sealed-fetch",
            Self::Proofs => "proofs",
            Self::Bulk => "bulk",
        }
    }

    /// How many samples are taken.
    fn rounds(self) -> usize {
        match self {
            Self::SealedFetch | Self::Proofs => 40,
            Self::FirstSealed | Self::Bulk => 15,
        }
    }

    /// The weakest proof that the server takes.
    fn proof(self) -> ProofKind {
        match self {
            Self::Proofs => ProofKind::Session,
            _ => ProofKind::Device,
        }
    }

    /// What has come of it in one engine.
    fn entries(self, engine: Engine, samples: &Samples) -> Vec<Entry> {
        let id = |what| format!("browser/{}/{what}", engine.name());
        match self {
            Self::FirstSealed => {
                let raw = Entry::raw(id("first-raw"), "ms", samples.median("first-raw"));
                let sealed = samples.median("first-sealed");
                let sealed = Entry::compared(id("first-sealed"), sealed, &raw);
                vec![raw, sealed]
            }
            Self::Proofs => {
                let raw = |what| Entry::raw(id(what), "µs", samples.median(what));
                let device = raw("device-proof");
                let session = samples.median("session-proof");
                let session =
                    Entry::relative(id("session-proof"), session, &device, Goal::AtMost(0.333));
                let signed = samples.median_beyond("signed", "plumbing");
                let signed = Entry::raw(id("signed-fetch"), "µs", signed);
                let peer = samples.median("peer-dpop");
                let peer = Entry::relative(id("peer-dpop"), peer, &signed, Goal::AtLeast(1.0));
                let [ecdsa, hmac] = ["raw-ecdsa", "raw-hmac"].map(raw);
                vec![ecdsa, hmac, device, session, signed, peer]
            }
            Self::SealedFetch => {
                let raw = Entry::raw(id("raw-webcrypto"), "µs", samples.median("raw"));
                let sealed = samples.median_beyond("sealed", "plumbing");
                let goal = Goal::AtMost(1.3);
                let sealed = Entry::relative(id("sealed-fetch"), sealed, &raw, goal);
                vec![raw, sealed]
            }
            Self::Bulk => {
                let [raw, page, worker] = ["bulk-raw", "bulk-page", "bulk-sw"]
                    .map(|what| (id(what), samples.median(what)));
                let raw = Entry::raw(raw.0, "MB/s", raw.1);
                let page = Entry::relative(page.0, page.1, &raw, Goal::AtLeast(0.85));
                let worker = Entry::compared(worker.0, worker.1, &raw);
                vec![raw, page, worker]
            }
        }
    }
}

/// Which parts are measured in which engines.
pub(crate) struct Selection {
    engines: Vec<Engine>,
    parts: Vec<Part>,
}

impl Selection {
    pub(crate) fn all() -> Self {
        Self {
            engines: Engine::ALL.to_vec(),
            parts: Part::ALL.to_vec(),
        }
    }

    /// By names of either, all of what is not named; nothing if one of the names is unknown.
    pub(crate) fn of(names: &[&str]) -> Option<Self> {
        let engines = Engine::ALL.map(|engine| (engine.name(), engine));
        let parts = Part::ALL.map(|part| (part.name(), part));
        let is_known = |name: &&str| {
            engines.iter().any(|(known, _)| known == name)
                || parts.iter().any(|(known, _)| known == name)
        };
        names.iter().all(is_known).then(|| Self {
            engines: chosen(&engines, names),
            parts: chosen(&parts, names),
        })
    }
}

/// Those that are named, or all.
fn chosen<T: Copy>(all: &[(&str, T)], names: &[&str]) -> Vec<T> {
    let is_any_named = all.iter().any(|(name, _)| names.contains(name));
    all.iter()
        .filter(|(name, _)| !is_any_named || names.contains(name))
        .map(|(_, one)| *one)
        .collect()
}

/// What the page has measured, by name.
#[derive(Default)]
struct Samples(BTreeMap<String, Vec<f64>>);

impl Samples {
    fn add(&mut self, sample: BTreeMap<String, f64>) {
        for (name, value) in sample {
            self.0.entry(name).or_default().push(value);
        }
    }

    fn median(&self, name: &str) -> f64 {
        median(self.0.get(name).cloned().unwrap_or_default())
    }

    /// Of how much more each sample has than that of another name beside it.
    fn median_beyond(&self, name: &str, other: &str) -> f64 {
        let [samples, others] = [name, other].map(|name| self.0.get(name).into_iter().flatten());
        median(
            samples
                .zip(others)
                .map(|(whole, part)| whole - part)
                .collect(),
        )
    }
}

/// Measures in one engine after the other.
pub(crate) fn run(selection: &Selection) -> Outcome<Vec<Entry>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut entries = Vec::new();
        for engine in &selection.engines {
            for part in &selection.parts {
                let samples = measure(*engine, *part).await?;
                entries.extend(part.entries(*engine, &samples));
            }
        }
        Ok(entries)
    })
}

/// Prints what a path spends its time with, so many times, in the engine of its id.
pub(crate) fn profile(id: &str, count: usize) -> Outcome {
    let engine = Engine::ALL
        .into_iter()
        .find(|engine| id == format!("{}/sealed-fetch", engine.name()));
    let engine = engine.ok_or_else(|| format!("there is no path `browser/{id}`"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let rows: Vec<(String, f64, f64)> = runtime.block_on(async {
        let server = serve(ProofKind::Device).await?;
        let browser = Browser::launch(engine).await?;
        load(&browser, &server, "profile").await?;
        let profile = "return (await script).profile(args[0])";
        let rows = browser.eval(profile, [json!(count)]).await?;
        browser.quit().await?;
        Ok::<_, crate::Failure>(serde_json::from_value(rows)?)
    })?;
    println!("{:<30} {:>8} {:>10}", "of one request", "calls", "µs");
    for (name, calls, time) in rows {
        println!("{name:<30} {calls:>8.2} {time:>10.2}");
    }
    Ok(())
}

async fn measure(engine: Engine, part: Part) -> Outcome<Samples> {
    let server = serve(part.proof()).await?;
    let browser = Browser::launch(engine).await?;
    let mut samples = Samples::default();
    if part != Part::FirstSealed {
        load(&browser, &server, part.name()).await?;
    }
    // The first round warms up.
    for round in 0..=part.rounds() {
        let mut sample = BTreeMap::new();
        if part == Part::FirstSealed {
            for way in ["first-raw", "first-sealed"] {
                // Of another origin, the browser has nothing yet.
                let server = serve(part.proof()).await?;
                load(&browser, &server, part.name()).await?;
                sample.extend(take(&browser, Some(way)).await?);
            }
        } else {
            sample = take(&browser, None).await?;
        }
        if round > 0 {
            samples.add(sample);
        }
    }
    browser.quit().await?;
    Ok(samples)
}

async fn load(browser: &Browser, server: &Server, script: &str) -> Outcome {
    let page = format!("/bench/page?/bench/{script}.js");
    browser.goto(&server.url(&page)).await?;
    Ok(())
}

/// One sample of each that the page compares, or of one.
async fn take(browser: &Browser, way: Option<&str>) -> Outcome<BTreeMap<String, f64>> {
    const MEASURE: &str = "return (await script).measure(args[0])";
    let sample = browser.eval(MEASURE, [json!(way)]).await?;
    Ok(serde_json::from_value(sample)?)
}

/// What is bare lies below `/bench/`, beside the verifier; the same behind it below `/api/`.
async fn serve(proof: ProofKind) -> Outcome<Server> {
    let package = package()?;
    let bulk = bulk()?;
    let dpop = fs::read(target()?.join("tools/clients/node_modules/dpop/build/index.js"))?;
    let server = Server::start_with(|origin| {
        let bulla = verifier(origin, proof).map_err(io::Error::other)?;
        let device = Require::session().device_proof();
        let echo = || post(|body: Bytes| async { body });
        // The pages' own, and those that the package is made of.
        let scripts = scripts("/bench/", "benches/src/browser")?
            .merge(scripts("/bench/src/", "npm/src")?)
            .merge(scripts("/bench/build/", "npm/build")?);
        let routes = scripts
            .route("/bench/page", page())
            .route("/bench/worker/page", page())
            .route("/bench/echo", echo())
            .route("/api/echo", echo())
            .route("/api/device", echo().layer(device))
            .route("/bench/bulk", bulk)
            .route("/api/bulk", get(zeros))
            .route(
                "/bench/dpop/index.js",
                serve::bytes("text/javascript", dpop),
            );
        Ok(bulla.protect(routes.merge(package)))
    });
    Ok(server.await?)
}

/// The scripts of a folder, from the repository's root.
fn scripts(below: &str, folder: &str) -> io::Result<Router> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder);
    let mut routes = Router::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.path();
        if file.extension() == Some(OsStr::new("js")) {
            let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let script = serve::bytes("text/javascript", fs::read(&file)?);
            routes = routes.route(&format!("{below}{name}"), script);
        }
    }
    Ok(routes)
}

/// A page of its own for each script. Browsers keep a finer clock for one that shares its process with no other site.
fn page() -> MethodRouter {
    get(|| async {
        let headers = [
            ("content-type", "text/html; charset=utf-8"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-embedder-policy", "require-corp"),
        ];
        (headers, include_str!("page.html"))
    })
}

/// How much is downloaded at once, and in which pieces, in bytes.
const BULK: usize = 100 << 20;
const PIECE: usize = 64 << 10;

/// The download, for the verifier to seal.
async fn zeros() -> impl IntoResponse {
    static ZEROS: [u8; PIECE] = [0; PIECE];
    let pieces = (0..BULK / PIECE).map(|_| Ok::<_, io::Error>(Bytes::from_static(&ZEROS)));
    let headers = [(CONTENT_LENGTH, BULK)];
    (headers, Body::from_stream(stream::iter(pieces)))
}

/// The same content as bare records: one that is sealed once and sent again and again, and what is left for a last one.
fn bulk() -> Outcome<MethodRouter> {
    let content = PIECE - AES_128_GCM.tag_len();
    let (whole, last) = (sealed(content)?, sealed(BULK % content)?);
    Ok(get(async move || {
        let records = std::iter::repeat_n(whole, BULK / content).chain([last]);
        Body::from_stream(stream::iter(records.map(Ok::<_, io::Error>)))
    }))
}

/// So many zeros, under a key and a nonce of zeros.
fn sealed(length: usize) -> Outcome<Bytes> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[0; 16])?);
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let mut record = vec![0; length];
    key.seal_in_place_append_tag(nonce, Aad::empty(), &mut record)?;
    Ok(record.into())
}

fn verifier(origin: &str, proof: ProofKind) -> Outcome<Bulla> {
    Ok(Bulla::builder()
        .origin(origin)
        .identity(Identity::generate(&SystemRandom)?)
        .store(MemoryStore::new()?)
        .proof(proof)
        .unsigned("/npm/")
        .unsigned("/bench/")
        .openings(Openings::FREE)
        .build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_engines_and_parts() {
        let chosen = |names: &[&str]| {
            Selection::of(names).map(|chosen| (chosen.engines.len(), chosen.parts.len()))
        };
        let (engines, parts) = (Engine::ALL.len(), Part::ALL.len());
        assert_eq!(chosen(&[]), Some((engines, parts)));
        assert_eq!(chosen(&["firefox", "webkit"]), Some((2, parts)));
        assert_eq!(chosen(&["bulk"]), Some((engines, 1)));
        assert_eq!(chosen(&["bulk", "chromium"]), Some((1, 1)));
        assert_eq!(chosen(&["chromium", "size"]), None);
    }
}

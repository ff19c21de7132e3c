//! `session.fetch` in real browsers: what it costs beyond the network and the platform's own plumbing
//! of requests and streams, against the bare WebCrypto calls that it cannot do without. All are timed in
//! one page, in turn.

use std::io;

use axum::Router;
use axum::routing::post;
use bulla_client::SystemRandom;
use bulla_server::{Bulla, Identity, MemoryStore, Openings};
use bulla_tests::bank::{PATIENCE, package};
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::serve::{Server, html};
use bytes::Bytes;
use serde_json::json;

use crate::Outcome;
use crate::measure::median;
use crate::report::{Entry, Goal};

const GOAL: Goal = Goal::AtMost(1.3);
const ROUNDS: usize = 40;
/// Operations in one sample: enough of them that a clock which ticks once in a millisecond will do.
const BATCH: u32 = 20;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Benchmarks</title>
<link rel="icon" href="data:,">
<script type="module">
  import * as bulla from "/npm/index.js";
  window.bulla = bulla;
</script>
"#;

/// Measures in one engine after the other.
pub(crate) fn run() -> Outcome<Vec<Entry>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut entries = Vec::new();
        for engine in Engine::ALL {
            entries.extend(measure(engine).await?);
        }
        Ok(entries)
    })
}

async fn measure(engine: Engine) -> Outcome<[Entry; 2]> {
    let package = package()?;
    let server = Server::start_with(|origin| {
        let bulla = verifier(origin).map_err(io::Error::other)?;
        let echo = || post(|body: Bytes| async { body });
        let routes = Router::new().route("/api/echo", echo());
        let routes = routes.route("/bare", echo()).route("/page", html(PAGE));
        Ok(bulla.protect(routes.merge(package)))
    })
    .await?;
    let browser = Browser::launch(engine).await?;
    browser.goto(&server.url("/page")).await?;
    browser.wait_until("return window.bulla", PATIENCE).await?;
    browser.eval(include_str!("browser.js"), []).await?;

    let (mut sealed, mut raw) = (Vec::new(), Vec::new());
    // The first round warms up.
    for round in 0..=ROUNDS {
        let sample = browser.eval("return measure(args[0])", [json!(BATCH)]);
        let [whole, plumbing, bare]: [f64; 3] = serde_json::from_value(sample.await?)?;
        if round > 0 {
            sealed.push((whole - plumbing) * 1e3);
            raw.push(bare * 1e3);
        }
    }
    browser.quit().await?;

    let id = |what| format!("browser/{}/{what}", engine.name());
    let raw = Entry::raw(id("raw-webcrypto"), "µs", median(raw));
    let sealed = Entry::relative(id("sealed-fetch"), median(sealed), &raw, GOAL);
    Ok([raw, sealed])
}

fn verifier(origin: &str) -> Outcome<Bulla> {
    Ok(Bulla::builder()
        .origin(origin)
        .identity(Identity::generate(&SystemRandom)?)
        .store(MemoryStore::new()?)
        .unsigned("/npm/")
        .unsigned("/page")
        .unsigned("/bare")
        .openings(Openings::FREE)
        .build()?)
}

//! A sealed download of 100 MiB in real browsers: it comes whole, at flat memory, and no faster than it is read.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::CONTENT_LENGTH;
use axum::response::IntoResponse;
use axum::routing::get;
use bulla_server::{Bulla, Identity, MemoryStore, Require, SystemRandom};
use bulla_tests::bank::{PATIENCE, package};
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::serve::{Server, bytes, html};
use futures_util::stream;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const MEBIBYTE: u64 = 1 << 20;

/// How much is downloaded, in mebibytes.
const DOWNLOAD: u64 = 100;

/// How much more memory there may be when nearly all has come, in bytes.
const LIMIT: u64 = DOWNLOAD / 3 * MEBIBYTE;

/// What comes and goes in an idle browser, in bytes.
const NOISE: u64 = 4 * MEBIBYTE;

/// Who has not been asked for more for so long is not asked any more.
const QUIET: Duration = Duration::from_secs(1);

/// How long an engine has to let go of what it has collected, before it is looked again.
const SOON: Duration = Duration::from_millis(100);

/// How much is offered to somebody who does not read, in mebibytes: more than systems and browsers hold of it that hold no
/// more than they have to.
const OFFERED: u64 = 256;

/// How much of that there may be in the session's hands when it asks for more, in bytes.
const IN_HAND: u64 = MEBIBYTE;

/// And in all hands: those of the system, which may hold more than thirty megabytes, and of the browser, too.
const ON_THE_WAY: u64 = OFFERED * MEBIBYTE / 2;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A page that downloads much</title>
<link rel="icon" href="data:,">
<script type="module">
  import { open } from "/npm/index.js";
  import { register } from "/npm/register.js";
  import { counted, litter } from "/helpers.js";
  const isByWorker = location.search === "?by=worker";
  if (isByWorker) await register("/sw.js");
  else globalThis.fetch = counted(fetch);
  const { fetch: ask } = isByWorker ? globalThis : await open({ server: location.origin });

  let reader, length, wrong, kept;
  window.begin = async (mebibytes) => {
    [length, wrong, kept] = [0, 0, []];
    reader = (await ask(`/api/bulk/${mebibytes}`)).body.getReader();
  };
  // Until there is so much, or all.
  window.proceed = async (mebibytes, keeps) => {
    let done = false;
    while (length < mebibytes * 2 ** 20 && !done) {
      const piece = await reader.read();
      ({ done } = piece);
      for (const byte of piece.value ?? []) wrong += byte !== Math.imul(length++, 0x9e3779b1) >>> 24;
      if (keeps) kept.push(piece.value);
    }
    return { length, wrong, kept: kept.length > 0, done };
  };
  window.cancel = () => reader.cancel();
  window.litter = () => new Promise((resolve) => {
    litter();
    if (!isByWorker) return resolve();
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = resolve;
    navigator.serviceWorker.controller.postMessage("litter", [port2]);
  });
  window.ready = true;
</script>
"#;

/// What counts how much of what the platform's `fetch` gives is taken when more is asked for, and what leaves garbage behind.
const HELPERS: &str = r#"
export const counted = (fetch) => async (...given) => {
  const response = await fetch(...given);
  if (!response.url.endsWith("/sealed")) return response;
  const reader = response.body.getReader();
  let taken = 0;
  const pull = async (controller) => {
    // Whoever asks has so much. How large the next piece is, is for the engine to say.
    globalThis.taken = taken;
    const { done, value } = await reader.read();
    if (done) return controller.close();
    taken += value.length;
    controller.enqueue(value);
  };
  const cancel = () => reader.cancel();
  return new Response(new ReadableStream({ pull, cancel }, { highWaterMark: 0 }), response);
};

export const litter = () => {
  for (let left = 48; left > 0; left -= 1) new ArrayBuffer(1 << 20);
};
"#;

const WORKER: &str = r#"
import { protect } from "/npm/sw.js";
import { litter } from "/helpers.js";
protect({ paths: ["/api/"] });
addEventListener("message", ({ data, ports }) => data === "litter" && ports[0].postMessage(litter()));
"#;

bulla_tests::in_each_engine!(a_long_download_is_let_through_and_not_held);

async fn a_long_download_is_let_through_and_not_held(engine: Engine) -> Outcome {
    let depot = Depot::open().await?;
    for by in ["session", "worker"] {
        // Each its own: browsers keep pages that were left, with what they hold.
        let browser = Browser::launch(engine).await?;
        let page = depot.server.url(&format!("/page?by={by}"));
        browser.goto(&page).await?;
        browser.wait_until("return window.ready", PATIENCE).await?;
        it_comes_whole_at_flat_memory(&browser, &depot, by).await?;
        it_waits_for_its_reader(&browser, &depot, by).await?;
        browser.quit().await?;
    }
    Ok(())
}

/// When nearly all has come, nothing is left of what was passed on. What the page keeps is there, so it would be seen. How
/// much there is in between is for the engine: garbage of a hundred megabytes and more, also of its own `fetch`.
async fn it_comes_whole_at_flat_memory(browser: &Browser, depot: &Depot, by: &str) -> Outcome {
    let engine = browser.engine();
    if engine == Engine::WebKit {
        // Nothing makes it collect its garbage, and give back what that was. `browser_stream` sees by downloads that are
        // longer than what it lets gather that they are not held.
        nearly(browser, depot, DOWNLOAD, false).await?;
        return end(browser, depot, DOWNLOAD, false).await;
    }
    let fresh = settled_memory(browser).await?;
    nearly(browser, depot, DOWNLOAD / 4, false).await?;
    end(browser, depot, DOWNLOAD / 4, false).await?;
    let before = settled_memory(browser).await?.min(fresh);

    nearly(browser, depot, DOWNLOAD, false).await?;
    let mut passing = browser.memory()?;
    let settled = async {
        while passing > before + LIMIT {
            passing = least_memory(browser).await?;
        }
        Outcome::Ok(())
    };
    let outcome = timeout(PATIENCE, settled).await;
    let passing = passing.saturating_sub(before) / MEBIBYTE;
    assert!(
        outcome.is_ok_and(|outcome| outcome.is_ok()),
        "{engine} by {by}: {passing} MiB"
    );
    end(browser, depot, DOWNLOAD, false).await?;

    nearly(browser, depot, DOWNLOAD, true).await?;
    let kept = least_memory(browser).await?.saturating_sub(before);
    assert!(kept > LIMIT, "{engine} by {by}: {kept} bytes");
    let kept = kept / MEBIBYTE;
    println!("{engine} by {by}: {passing} MiB more of what passes, {kept} MiB of what is kept");
    end(browser, depot, DOWNLOAD, true).await
}

/// A session takes no more than is read. What browsers take of it is theirs: Firefox and WebKit all that comes, as they do
/// where no session is, and from a worker, too.
async fn it_waits_for_its_reader(browser: &Browser, depot: &Depot, by: &str) -> Outcome {
    let engine = browser.engine();
    depot.stock.allow(true);
    let holds_back = engine == Engine::Chromium;
    let offered = if holds_back { OFFERED } else { DOWNLOAD };
    browser
        .eval("await begin(args[0])", [json!(offered)])
        .await?;
    let mut handed = depot.stock.handed.subscribe();
    if holds_back {
        while let Ok(changed) = timeout(QUIET, handed.changed()).await {
            changed?;
        }
        let handed = *handed.borrow();
        assert!(handed < ON_THE_WAY, "{engine} by {by}: {handed} bytes");
    } else {
        let all = handed.wait_for(|handed| *handed == offered * MEBIBYTE);
        timeout(PATIENCE, all).await??;
    }
    if by == "session" {
        let taken = browser.eval("return taken", []).await?;
        assert!(taken.as_u64() < Some(IN_HAND), "{engine}: {taken} bytes");
    }
    // Whoever reads on is served.
    let read = browser.eval("return proceed(8, false)", []).await?;
    assert_eq!(read["wrong"], 0);
    assert!(read["length"].as_u64() >= Some(8 * MEBIBYTE), "{read}");
    browser.eval("await cancel()", []).await?;
    Ok(())
}

/// Downloads all but the last mebibyte.
async fn nearly(browser: &Browser, depot: &Depot, mebibytes: u64, keeps: bool) -> Outcome {
    depot.stock.allow(false);
    browser
        .eval(
            "window.outcome = null;
             begin(args[0])
               .then(() => proceed(args[0] - 1, args[1]))
               .catch(String)
               .then((outcome) => { window.outcome = outcome });",
            [json!(mebibytes), json!(keeps)],
        )
        .await?;
    browser.wait_until("return outcome", PATIENCE).await?;
    Ok(())
}

/// Downloads the rest.
async fn end(browser: &Browser, depot: &Depot, mebibytes: u64, keeps: bool) -> Outcome {
    depot.stock.allow(true);
    let ended = browser.eval("return proceed(Infinity, false)", []).await?;
    let whole = json!({ "length": mebibytes * MEBIBYTE, "wrong": 0, "kept": keeps, "done": true });
    assert_eq!(ended, whole, "{}", browser.engine());
    Ok(())
}

/// The memory that the browser has, in bytes, when no more is given back: a new one has much that it does not need for long.
async fn settled_memory(browser: &Browser) -> Outcome<u64> {
    let mut least = least_memory(browser).await?;
    loop {
        let next = least_memory(browser).await?;
        if next + NOISE > least {
            return Ok(next.min(least));
        }
        least = next;
    }
}

/// The least memory that the browser has in the moments after it was made to collect garbage, in bytes.
async fn least_memory(browser: &Browser) -> Outcome<u64> {
    browser.collect_garbage().await?;
    // In the page and in its worker, by making more of it: no driver reaches all of them.
    browser.eval("await litter()", []).await?;
    let mut least = u64::MAX;
    for _ in 0..5 {
        least = least.min(browser.memory()?);
        sleep(SOON).await;
    }
    Ok(least)
}

/// A server whose replies are long.
struct Depot {
    server: Server,
    stock: Stock,
}

#[derive(Clone, Default)]
struct Stock {
    /// How many bytes have been handed out.
    handed: watch::Sender<u64>,
    /// The last mebibyte of a download waits for this.
    is_allowed: watch::Sender<bool>,
}

impl Depot {
    async fn open() -> io::Result<Self> {
        let stock = Stock::default();
        let state = stock.clone();
        let package = package()?;
        let server = Server::start_with(|origin| {
            let bulla = Bulla::builder()
                .origin(origin)
                .identity(Identity::generate(&SystemRandom).map_err(io::Error::other)?)
                .store(MemoryStore::new().map_err(io::Error::other)?)
                .unsigned("/npm/")
                .unsigned("/page")
                .unsigned("/helpers.js")
                .unsigned("/sw.js")
                .require("/api/", Require::session().sealed())
                .build()
                .map_err(io::Error::other)?;
            let application = Router::new()
                .route("/api/bulk/{mebibytes}", get(bulk))
                .with_state(state)
                .route("/page", html(PAGE))
                .route("/helpers.js", bytes("text/javascript", HELPERS))
                .route("/sw.js", bytes("text/javascript", WORKER));
            Ok(bulla.protect(application.merge(package)))
        })
        .await?;
        Ok(Self { server, stock })
    }
}

impl Stock {
    fn allow(&self, last: bool) {
        self.is_allowed.send_replace(last);
    }
}

/// So many mebibytes. No two stretches are the same, so that none can be missing, doubled or in another's place.
async fn bulk(State(stock): State<Stock>, Path(mebibytes): Path<u32>) -> impl IntoResponse {
    const PIECE: u32 = 1 << 16;
    let length = mebibytes << 20;
    stock.handed.send_replace(0);
    let pieces = stream::unfold((0, stock), move |(start, stock)| async move {
        if start == length {
            return None;
        }
        if start == length - (1 << 20) {
            stock
                .is_allowed
                .subscribe()
                .wait_for(|is_allowed| *is_allowed)
                .await
                .ok()?;
        }
        let end = start + PIECE;
        stock.handed.send_replace(end.into());
        let piece = (start..end).map(byte_at).collect::<Bytes>();
        Some((Ok::<_, io::Error>(piece), (end, stock)))
    });
    ([(CONTENT_LENGTH, length)], Body::from_stream(pieces))
}

/// The byte at this place: the highest byte of the product with 2^32 divided by the golden ratio.
fn byte_at(place: u32) -> u8 {
    place.wrapping_mul(0x9e37_79b1).to_be_bytes()[0]
}

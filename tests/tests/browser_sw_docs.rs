//! What `docs/service-worker.md` shows, as it stands there, in real browsers.

use std::io;
use std::path::Path;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::response::Html;
use axum::routing::{MethodRouter, get};
use bulla_server::{Bulla, Cookies, Identity, MemoryStore, Require, Session, SystemRandom};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::serve::{Server, bytes};
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const DOCS: &str = include_str!("../../docs/service-worker.md");

bulla_tests::in_each_engine!(what_is_to_be_copied_works);

async fn what_is_to_be_copied_works(engine: Engine) -> Outcome {
    let server = Server::start_with(site).await?;
    for page in ["/signin", "/signin/under-the-policy"] {
        // Each with a profile that knows of no worker.
        let browser = Browser::launch(engine).await?;
        browser.goto(&server.url(page)).await?;
        let asked =
            "return navigator.serviceWorker.controller && (await fetch('/api/sealed')).text()";
        let answer = browser.wait_until(asked, PATIENCE).await;
        let answer = answer.map_err(|error| format!("{page}: {error}"))?;
        assert_eq!(answer, "true", "{page}");
        browser.quit().await?;
    }
    Ok(())
}

/// The first block in this language.
fn shown(language: &str) -> io::Result<&'static str> {
    let block = DOCS.split_once(&format!("```{language}\n"));
    let block = block.and_then(|(_, rest)| rest.split_once("\n```"));
    let (block, _) = block.ok_or(io::ErrorKind::NotFound)?;
    Ok(block)
}

fn site(origin: &str) -> io::Result<Router> {
    let identity = Identity::generate(&SystemRandom).map_err(io::Error::other)?;
    let worker = shown("js")?;
    let pinned = worker.split('"').nth(3).ok_or(io::ErrorKind::NotFound)?;
    let worker = worker.replace(pinned, &identity.thumbprint().to_string());
    let line = shown("html")?;
    let script = line.strip_prefix("<script type=\"module\">");
    let script = script.and_then(|script| script.strip_suffix("</script>"));
    let script = script.ok_or(io::ErrorKind::NotFound)?;
    let page = |scripts: &str| {
        let page = format!("<!doctype html><html lang=\"en\"><title>A page</title>{scripts}");
        get(move || async { Html(page) })
    };
    let policy = shown("csp")?;
    let under = |route: MethodRouter| {
        let policy = HeaderValue::from_static(policy);
        route.layer(SetResponseHeaderLayer::overriding(
            CONTENT_SECURITY_POLICY,
            policy,
        ))
    };

    // As the page has it, but for what is made here.
    let bulla = Bulla::builder()
        .origin(origin)
        .identity(identity)
        .store(MemoryStore::new().map_err(io::Error::other)?)
        .unsigned("/bulla/")
        .unsigned("/sw.js")
        .unsigned("/signin")
        .cookies(Cookies::HttpOnly {
            readable: Vec::new(),
        })
        .require("/account/", Require::session().sealed())
        .require("/api/", Require::session().sealed())
        .build()
        .map_err(io::Error::other)?;
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../npm/dist");
    let application = Router::new()
        .nest_service("/bulla", ServeDir::new(package))
        .route("/sw.js", under(bytes("text/javascript", worker)))
        .route("/signin", page(line))
        .route(
            "/signin/under-the-policy",
            under(page(
                "<script type=\"module\" src=\"/signin/first.js\"></script>",
            )),
        )
        .route("/signin/first.js", bytes("text/javascript", script))
        .route(
            "/api/sealed",
            get(|session: Session| async move { session.is_sealed().to_string() }),
        );
    Ok(bulla.protect(application))
}

//! What `docs/browser.md` and `docs/server.md` say of policies and of other origins, in real browsers.

use std::collections::BTreeMap;
use std::io;

use axum::Router;
use axum::extract::Query;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use bulla_server::{Bulla, Identity, MemoryStore, Refused, Session, SystemRandom};
use bulla_tests::bank::{PATIENCE, package};
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::serve::{Server, bytes};
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

const DOCS: &str = include_str!("../../docs/browser.md");

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A page under a policy</title>
<script type="module" src="/main.js"></script>
"#;

/// Logs in and asks who is logged in, sealed and then only signed.
const SCRIPT: &str = r#"
import { open } from "/npm/index.js";

const server = new URLSearchParams(location.search).get("server");
try {
  const told = [];
  for (const seal of [true, false]) {
    const session = await open({ server, seal });
    await session.fetch(`${server}/login`, { method: "POST", body: `ann, sealed: ${seal}` });
    told.push(await session.fetch(`${server}/me`).then((reply) => reply.text()));
  }
  window.outcome = { told };
} catch ({ code, message }) {
  window.outcome = { code: code ?? message };
}
"#;

bulla_tests::in_each_engine!(the_docs_hold);

async fn the_docs_hold(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    let known = pages().await?;
    let server = server(&known.origin()).await?;
    let works = json!({ "told": ["ann, sealed: true", "ann, sealed: false"] });

    // A page of the server's own.
    let policy = policy("```csp\n", "\n```")?;
    assert_eq!(visit(&browser, &server, &server, &policy).await?, works);
    let without = policy.replace(" 'wasm-unsafe-eval'", "");
    assert_ne!(without, policy);
    let refused = visit(&browser, &server, &server, &without).await?;
    assert_eq!(refused, json!({ "code": "unsupported" }));

    // Pages of other origins: one that the server knows, one whose policy forgets the server, and one
    // that the server does not know.
    let widened = self::policy("names both there, `", "`,")?;
    let widened = widened.replace("https://bank.example", &server.origin());
    let elsewhere = policy.replace("connect-src 'self'", &widened);
    assert_ne!(elsewhere, policy);
    assert_eq!(visit(&browser, &known, &server, &elsewhere).await?, works);
    let unreachable = json!({ "code": "network" });
    let refused = visit(&browser, &known, &server, &policy).await?;
    assert_eq!(refused, unreachable);
    let stranger = pages().await?;
    let refused = visit(&browser, &stranger, &server, &elsewhere).await?;
    assert_eq!(refused, unreachable);

    browser.quit().await?;
    Ok(())
}

/// What stands between these two in the docs, on one line.
fn policy(before: &str, after: &str) -> Outcome<String> {
    let (_, rest) = DOCS.split_once(before).ok_or(before)?;
    let (policy, _) = rest.split_once(after).ok_or(after)?;
    Ok(policy.replace('\n', " "))
}

/// Loads the page of `at` under a policy, and gives what came of its session with `server`.
async fn visit(browser: &Browser, at: &Server, server: &Server, policy: &str) -> Outcome<Value> {
    let query = [("server", server.origin().as_str()), ("policy", policy)]
        .map(|(name, value)| format!("{name}={}", encoded(value)));
    browser
        .goto(&at.url(&format!("/page?{}", query.join("&"))))
        .await?;
    let outcome = browser.wait_until("return window.outcome", PATIENCE).await;
    outcome.map_err(|error| format!("{}, {policy}: {error}", at.origin()).into())
}

fn encoded(text: &str) -> String {
    let hex = |nibble| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    let bytes = text.bytes();
    bytes
        .flat_map(|byte| ['%', hex(byte >> 4), hex(byte & 15)])
        .collect()
}

/// Pages, and nothing else.
async fn pages() -> io::Result<Server> {
    Server::start(routes()?).await
}

/// Pages, and an application that pages of `known` may use too.
async fn server(known: &str) -> io::Result<Server> {
    Server::start_with(|origin| {
        let bulla = Bulla::builder()
            .origin(origin)
            .allow_origin(known)
            .identity(Identity::generate(&SystemRandom).map_err(io::Error::other)?)
            .store(MemoryStore::new().map_err(io::Error::other)?)
            .build()
            .map_err(io::Error::other)?;
        let application = Router::new()
            .route("/login", post(login))
            .route("/me", get(me));
        Ok(bulla.protect(application).merge(routes()?))
    })
    .await
}

fn routes() -> io::Result<Router> {
    Ok(package()?
        .route("/page", get(page))
        .route("/main.js", bytes("text/javascript", SCRIPT)))
}

async fn page(Query(query): Query<BTreeMap<String, String>>) -> impl IntoResponse {
    let policy = query.get("policy").cloned().unwrap_or_default();
    ([(CONTENT_SECURITY_POLICY, policy)], Html(PAGE))
}

async fn login(session: Session, user: String) -> Result<(), Refused> {
    Ok(session.login(&user).await?)
}

async fn me(session: Session) -> String {
    session.subject().unwrap_or_default().to_owned()
}

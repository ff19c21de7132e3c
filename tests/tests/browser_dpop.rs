//! Tokens that are bound to the device key, in real browsers: from the login, at an authorization server that others have
//! written, to the resource, by the script that `docs/dpop.md` shows.

use std::io;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, HeaderValue,
};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use bulla_server::dpop::{Access, PublicKey, TokenClaims, TokenVerifier};
use bulla_server::{
    Builder, Bulla, Clock as _, Code, Identity, MemoryStore, Refused, SecurityEvent, Session,
    SystemClock, SystemRandom,
};
use bulla_tests::attack::Outcome;
use bulla_tests::bank::{PATIENCE, package};
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::npm::{Running, free_port, target};
use bulla_tests::serve::{Server, bytes, html};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower_http::set_header::SetResponseHeaderLayer;

const DOCS: &str = include_str!("../../docs/dpop.md");
const ISSUER: &str = include_str!("pages/issuer.mjs");

/// Whom the tokens are for, as the docs have it.
const AUDIENCE: &str = "https://accounts.example";

/// The script of the docs as `oauth`, and what a thief could write beside it.
const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>A client of OAuth</title>
<link rel="icon" href="data:,">
<script type="module">
  // What other servers have said.
  window.seen = [];
  const { fetch } = window;
  window.fetch = async (input, init) => {
    const reply = await fetch(input, init);
    const { origin, pathname } = new URL(reply.url);
    if (origin !== location.origin) seen.push([pathname, reply.status]);
    if (pathname === "/token" && reply.ok) window.tokens = await reply.clone().json();
    return reply;
  };

  window.claims = () => JSON.parse(atob(tokens.access_token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
  window.nonceOf = async (url, init) => (await fetch(url, init)).headers.get("dpop-nonce");

  /** What comes of an access token, shown with or without a proof. */
  window.show = async (url, { scheme = "DPoP", token, proof }) => {
    const reply = await fetch(url, { headers: { authorization: `${scheme} ${token}`, ...(proof && { dpop: proof }) } });
    const challenge = reply.headers.get("www-authenticate") ?? "";
    return reply.ok ? reply.json() : [reply.status, /error="(\w+)"/.exec(challenge)?.[1]];
  };

  /** What comes of a code or a refresh token. */
  window.trade = async (url, parameters) => {
    const { session } = oauth;
    const body = new URLSearchParams({ client_id: "app", ...parameters });
    const unproved = { method: "POST", body, headers: { dpop: await session.dpop({ url, method: "POST" }) } };
    const proof = await session.dpop({ url, method: "POST", nonce: await nonceOf(url, unproved) });
    const reply = await fetch(url, { ...unproved, headers: { dpop: proof } });
    return [reply.status, (await reply.json()).error];
  };

  window.oauth = await import("/oauth.js");
</script>
"#;

bulla_tests::in_each_engine!(a_token_is_of_use_to_its_device_only);

async fn a_token_is_of_use_to_its_device_only(engine: Engine) -> Outcome {
    let (victim, thief) = (
        Browser::launch(engine).await?,
        Browser::launch(engine).await?,
    );
    for is_isolated in [false, true] {
        let world = World::start(is_isolated).await?;
        world.what_is_no_request_has_no_proof(&victim).await?;
        world.log_in(&victim).await?;
        world.the_token_is_bound_to_the_device(&victim).await?;
        world.it_is_taken_with_its_own_proof_only(&victim).await?;
        let stolen = victim.eval("return tokens", []).await?;
        world.another_device_gets_nothing(&thief, &stolen).await?;
        world.another_token_comes_with_a_proof(&victim).await?;
        world.a_code_is_of_no_use_elsewhere(&victim, &thief).await?;
        world.another_key_makes_it_useless(&victim).await?;
    }
    victim.quit().await?;
    thief.quit().await?;
    Ok(())
}

/// The servers: of the page, of tokens, and of what they are for.
struct World {
    pages: Server,
    accounts: Server,
    issuer: String,
    refused: Refusals,
    _issuer: (Running, TempDir),
}

type Refusals = Arc<Mutex<Vec<SecurityEvent>>>;

impl World {
    async fn start(is_isolated: bool) -> Outcome<Self> {
        let port = free_port().await?;
        let issuer = format!("http://localhost:{port}");
        let pages = pages(&issuer, is_isolated).await?;
        let folder = tempfile::tempdir()?;
        let given = json!({ "port": port, "page": pages.url("/back"), "audience": AUDIENCE });
        let running = run_issuer(&folder, &given)?;
        running.until(|line| line == issuer)?;

        let refused = Refusals::default();
        let key = key_of(&issuer).await?;
        let accounts = accounts(&issuer, &key, &pages.origin(), &refused).await?;
        Ok(Self {
            pages,
            accounts,
            issuer,
            refused,
            _issuer: (running, folder),
        })
    }

    /// Loads the page.
    async fn visit(&self, browser: &Browser) -> Outcome {
        browser.goto(&self.pages.url("/back")).await?;
        arrive(browser).await
    }

    /// The codes of what the resource server has refused since it was last asked for, but for those who only wanted a
    /// nonce.
    fn refusals(&self) -> Vec<Code> {
        let events = std::mem::take(&mut *lock(&self.refused));
        let codes = events.iter().filter_map(|event| event.kind.code());
        codes.filter(|code| *code != Code::ProofMissing).collect()
    }

    async fn what_is_no_request_has_no_proof(&self, browser: &Browser) -> Outcome {
        self.visit(browser).await?;
        let found = browser
            .eval(
                "const url = location.href;
                 const wrong = [undefined, null, {}, { url: 'http://[' }, { url: '/a', accessToken: 'b' }, { url: 'data:,' }, { url: 'ftp://a/' },
                   { url: `blob:${url}` }, { url: 'https://ann:secret@a/' }, { url: Symbol() }, { url, method: 'CONNECT' },
                   { url, method: () => {} }, { url, token: 7 }, { url, token: null }, { url, nonce: {} }];
                 const said = wrong.map((request) => oauth.session.dpop(request).catch(({ name, code }) => `${name} ${code}`));
                 const told = await Promise.all(said);
                 return { told: [...new Set(told)], proof: (await oauth.session.dpop({ url })).length > 0 };",
                [],
            )
            .await?;
        assert_eq!(
            found,
            json!({ "told": ["BullaError request_invalid"], "proof": true })
        );
        Ok(())
    }

    /// Ann says who she is, in the issuer's own pages.
    async fn log_in(&self, browser: &Browser) -> Outcome {
        browser.eval("oauth.begin()", []).await?;
        for (title, user) in [("login", "ann"), ("consent", "")] {
            let is_there = format!("return document.title === '{title}' && document.forms.length");
            browser.wait_until(&is_there, PATIENCE).await?;
            let answer = "document.forms[0].user.value = args[0]; document.forms[0].submit()";
            browser.eval(answer, [json!(user)]).await?;
        }
        arrive(browser).await?;
        browser.eval("await oauth.finish()", []).await?;
        Ok(())
    }

    async fn the_token_is_bound_to_the_device(&self, browser: &Browser) -> Outcome {
        let url = self.accounts.url("/accounts?page=1#top");
        let found = browser
            .eval(
                "const accounts = await oauth.call(args[0]).then((reply) => reply.json());
                 const { iss, sub, aud, cnf } = claims();
                 return { accounts, type: tokens.token_type, iss, sub, aud, seen, search: location.search,
                          isBound: cnf.jkt === oauth.session.device && accounts.device === cnf.jkt };",
                [json!(url)],
            )
            .await?;
        let accounts =
            json!({ "subject": "ann", "scope": "accounts", "device": found["accounts"]["device"] });
        assert_eq!(
            found,
            json!({
                "accounts": accounts, "type": "DPoP", "iss": self.issuer, "sub": "ann", "aud": AUDIENCE,
                // Each wants a nonce first.
                "seen": [["/token", 400], ["/token", 200], ["/accounts", 401], ["/accounts", 200]],
                "search": "", "isBound": true,
            })
        );
        assert_eq!(self.refusals(), [Code::NonceStale]);
        Ok(())
    }

    async fn it_is_taken_with_its_own_proof_only(&self, browser: &Browser) -> Outcome {
        let found = browser
            .eval(
                "const [url] = args;
                 const token = tokens.access_token;
                 const proof = async (of = {}) => oauth.session.dpop({ url, token, nonce: await nonceOf(url), ...of });
                 const good = await proof();
                 return {
                   good: (await show(url, { token, proof: good })).subject,
                   again: await show(url, { token, proof: good }),
                   bearer: await show(url, { scheme: 'Bearer', token, proof: await proof() }),
                   alone: await show(url, { token }),
                   method: await show(url, { token, proof: await proof({ method: 'POST' }) }),
                   path: await show(url, { token, proof: await proof({ url: `${url}/1` }) }),
                   origin: await show(url, { token, proof: await proof({ url: `${location.origin}/accounts` }) }),
                   token: await show(url, { token, proof: await proof({ token: 'another' }) }),
                   none: await show(url, { token, proof: await proof({ token: undefined }) }),
                   stale: await show(url, { token, proof: await proof({ nonce: 'another' }) }),
                 };",
                [json!(self.accounts.url("/accounts"))],
            )
            .await?;
        let wrong = json!([401, "invalid_dpop_proof"]);
        assert_eq!(
            found,
            json!({
                "good": "ann", "again": wrong, "bearer": [401, "invalid_token"], "alone": wrong, "method": wrong,
                "path": wrong, "origin": wrong, "token": wrong, "none": wrong, "stale": [401, "use_dpop_nonce"],
            })
        );
        let mut codes = vec![Code::Replayed, Code::TicketInvalid];
        codes.extend([Code::ProofMismatch; 6]);
        codes.push(Code::NonceStale);
        assert_eq!(self.refusals(), codes);
        Ok(())
    }

    /// A thief who has both tokens, a device of his own and all the time he wants.
    async fn another_device_gets_nothing(&self, thief: &Browser, stolen: &Value) -> Outcome {
        self.visit(thief).await?;
        let found = thief
            .eval(
                "const [url, twin, issuer, { access_token: token, refresh_token }] = args;
                 const proof = async () => oauth.session.dpop({ url, token, nonce: await nonceOf(url) });
                 return {
                   accounts: await show(url, { token, proof: await proof() }),
                   twin: await show(twin, { token, proof: await proof() }),
                   bearer: await show(twin, { scheme: 'Bearer', token }),
                   refreshed: await trade(issuer, { grant_type: 'refresh_token', refresh_token }),
                 };",
                [
                    json!(self.accounts.url("/accounts")),
                    json!(self.accounts.url("/twin/accounts")),
                    json!(format!("{}/token", self.issuer)),
                    stolen.clone(),
                ],
            )
            .await?;
        assert_eq!(
            found,
            json!({
                "accounts": [401, "invalid_dpop_proof"],
                // Where nobody asks for a proof, the same request succeeds.
                "twin": { "subject": "ann" }, "bearer": { "subject": "ann" },
                "refreshed": [400, "invalid_grant"],
            })
        );
        assert_eq!(self.refusals(), [Code::ProofMismatch]);
        Ok(())
    }

    async fn another_token_comes_with_a_proof(&self, browser: &Browser) -> Outcome {
        let found = browser
            .eval(
                "const before = tokens.access_token;
                 await oauth.refresh();
                 const { subject } = await oauth.call(args[0]).then((reply) => reply.json());
                 return [subject, tokens.access_token !== before, claims().cnf.jkt === oauth.session.device];",
                [json!(self.accounts.url("/accounts"))],
            )
            .await?;
        assert_eq!(found, json!(["ann", true, true]));
        Ok(())
    }

    /// The code and its verifier, and no device to go with them.
    async fn a_code_is_of_no_use_elsewhere(&self, victim: &Browser, thief: &Browser) -> Outcome {
        // The issuer still knows her.
        victim.eval("oauth.begin()", []).await?;
        let came = "return new URLSearchParams(location.search).get('code')";
        let code = victim.wait_until(came, PATIENCE).await?;
        arrive(victim).await?;
        let kept = victim
            .eval("return JSON.parse(sessionStorage.login).verifier", [])
            .await?;
        let found = thief
            .eval(
                "const [url, redirect_uri, code, code_verifier] = args;
                 return trade(url, { grant_type: 'authorization_code', code, redirect_uri, code_verifier });",
                [
                    json!(format!("{}/token", self.issuer)),
                    json!(self.pages.url("/back")),
                    code,
                    kept,
                ],
            )
            .await?;
        assert_eq!(found, json!([400, "invalid_grant"]));
        Ok(())
    }

    /// After a rotation nobody can use the token; what comes of another login can be used.
    async fn another_key_makes_it_useless(&self, browser: &Browser) -> Outcome {
        self.visit(browser).await?;
        browser.eval("oauth.begin()", []).await?;
        let came = "return new URLSearchParams(location.search).has('code')";
        browser.wait_until(came, PATIENCE).await?;
        arrive(browser).await?;
        let found = browser
            .eval(
                "await oauth.finish();
                 const status = () => oauth.call(args[0]).then((reply) => reply.status);
                 const before = await status();
                 await oauth.session.fetch('/api/login', { method: 'POST' });
                 return [before, await status(), claims().cnf.jkt === oauth.session.device];",
                [json!(self.accounts.url("/accounts"))],
            )
            .await?;
        assert_eq!(found, json!([200, 401, false]));
        self.refusals();
        Ok(())
    }
}

/// Waits until the page of the client is there.
async fn arrive(browser: &Browser) -> Outcome {
    browser
        .wait_until("return !!window.oauth", PATIENCE)
        .await?;
    Ok(())
}

/// The script of the docs and the application that it belongs to.
async fn pages(issuer: &str, is_isolated: bool) -> io::Result<Server> {
    let (_, rest) = DOCS.split_once("```js\n").ok_or(io::ErrorKind::NotFound)?;
    let (script, _) = rest.split_once("```").ok_or(io::ErrorKind::NotFound)?;
    let (package_of, options) = if is_isolated {
        ("/npm/worker.js", r#"{ paths: ["/api/"], "#)
    } else {
        ("/npm/index.js", "{ ")
    };
    Server::start_with(|origin| {
        let script = script
            .replace(r#"from "bulla""#, &format!(r#"from "{package_of}""#))
            .replace("{ server:", &format!("{options}server:"))
            .replace("https://bank.example", origin)
            .replace("https://login.example", issuer);
        let bulla = builder(origin)?.build().map_err(io::Error::other)?;
        let application = Router::new().route("/api/login", post(log_in_and_rotate));
        let pages = package()?
            .route("/back", html(PAGE))
            .route("/oauth.js", bytes("text/javascript", script));
        Ok(bulla.protect(application).merge(pages))
    })
    .await
}

fn builder(origin: &str) -> io::Result<Builder> {
    Ok(Bulla::builder()
        .origin(origin)
        .identity(Identity::generate(&SystemRandom).map_err(io::Error::other)?)
        .store(MemoryStore::new().map_err(io::Error::other)?))
}

async fn log_in_and_rotate(session: Session) -> Result<StatusCode, Refused> {
    session.login("ann").await?;
    session.rotate_device_key()?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs the authorization server where it is installed.
fn run_issuer(folder: &TempDir, given: &Value) -> io::Result<Running> {
    let modules = target()?.join("tools/issuer/node_modules");
    if !modules.join("oidc-provider").exists() {
        return Err(io::Error::other(
            "the authorization server is missing; `cargo xtask test --suite browsers` installs it",
        ));
    }
    symlink(modules, folder.path().join("node_modules"))?;
    let script = folder.path().join("issuer.mjs");
    std::fs::write(&script, ISSUER)?;
    Running::start(Command::new("node").arg(script).arg(given.to_string()))
}

/// The key that the issuer signs with, and its name.
async fn key_of(issuer: &str) -> Outcome<(String, PublicKey)> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let text = http
        .get(format!("{issuer}/jwks"))
        .send()
        .await?
        .text()
        .await?;
    let keys: Value = serde_json::from_str(&text)?;
    let key = &keys["keys"][0];
    let name = key["kid"].as_str().ok_or("the key has no name")?;
    Ok((name.to_owned(), serde_json::from_value(key.clone())?))
}

/// What the tokens are for, and its twin, which takes them from whoever has them.
async fn accounts(
    issuer: &str,
    (name, key): &(String, PublicKey),
    page: &str,
    refused: &Refusals,
) -> io::Result<Server> {
    let tokens = || {
        let tokens: TokenVerifier = TokenVerifier::new(issuer, AUDIENCE);
        tokens.key_named(name, key).map_err(io::Error::other)
    };
    Server::start_with(|origin| {
        let seen = Arc::clone(refused);
        let bulla = builder(origin)?
            .allow_origin(page)
            .on_event(move |event| lock(&seen).push(event.clone()))
            .build()
            .map_err(io::Error::other)?;
        let accounts = Router::new().route("/accounts", any(list));
        let any_origin = HeaderValue::from_static("*");
        let fields = HeaderValue::from_static("authorization, dpop");
        let twin = Router::new()
            .route(
                "/twin/accounts",
                get(list_for_bearer).options(async || StatusCode::NO_CONTENT),
            )
            .layer(SetResponseHeaderLayer::overriding(
                ACCESS_CONTROL_ALLOW_ORIGIN,
                any_origin,
            ))
            .layer(SetResponseHeaderLayer::overriding(
                ACCESS_CONTROL_ALLOW_HEADERS,
                fields,
            ))
            .with_state(Arc::new(tokens()?));
        Ok(bulla.dpop(tokens()?).protect(accounts).merge(twin))
    })
    .await
}

async fn list(access: Access<TokenClaims>) -> Json<Value> {
    let (subject, device) = (access.subject(), access.device());
    Json(json!({ "subject": subject, "scope": access.claims().scope, "device": device }))
}

async fn list_for_bearer(
    State(tokens): State<Arc<TokenVerifier>>,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    let line = headers
        .get(AUTHORIZATION)
        .and_then(|line| line.to_str().ok());
    let (_, token) = line
        .and_then(|line| line.split_once(' '))
        .unwrap_or_default();
    let claims = tokens.verify(token, SystemClock.now());
    let claims = claims.map_err(|_| StatusCode::UNAUTHORIZED)?;
    Ok(Json(json!({ "subject": claims.sub })))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

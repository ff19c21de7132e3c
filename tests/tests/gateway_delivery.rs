//! Code behind the gateway that is changed on its way, in real browsers: what is listed in a manifest is run as it was
//! signed, or as the application serves it, or not at all.

use std::collections::HashSet;
use std::fs;
use std::path::Path as File;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{
    ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::get;
use bulla_gateway::Gateway;
use bulla_gateway::config::{Access, Config, Delivery, Mode, PathRule, Policy, Source};
use bulla_gateway::delivery::Manifest;
use bulla_server::{Events, Identity};
use bulla_tests::attack::Name::{Api, Asvs};
use bulla_tests::attack::With::Held;
use bulla_tests::attack::{Attack, Shown, Twin};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, BrowserError, Engine};
use bulla_tests::serve::Server;
use tempfile::TempDir;
use tokio::time::timeout;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::attacks! {
    what_is_changed_on_the_way_is_not_run in each engine: [CHANGES_CODE],
    an_older_version_is_refused_and_a_newer_one_taken in each engine: [OLD_CODE],
}

bulla_tests::in_each_engine!(
    what_nobody_has_signed_is_run_as_the_application_serves_it,
    chromium_learns Chromium,
    firefox_learns Firefox,
    webkit_learns WebKit
);
bulla_tests::in_each_engine!(
    policies_are_enforced_where_they_can_be_kept_to,
    chromium_policies Chromium,
    firefox_policies Firefox,
    webkit_policies WebKit
);

const PAGE: &str = "<!doctype html><title>The shop</title><link rel=icon href=data:,>
<link rel=stylesheet href=/static/style.css>
<script src=/static/app.js></script>
<p>clay";

/// A page with a script that is listed, and one that is not and need not be.
const OTHER: &str = "<!doctype html><title>Another</title><link rel=icon href=data:,>
<script src=/static/app.js></script>
<script src=/outside.js></script>
<p id=here>sand";

/// An application's own policy, and a page that keeps to it: the integrity of what it imports is in its import map.
const INTEGRITY_POLICY: [(&str, &str); 1] = [("integrity-policy", "blocked-destinations=(script)")];
const IMPORTS: &str = "<!doctype html><title>Imports</title><link rel=icon href=data:,>
<script type=importmap>{ \"integrity\": { \"/static/module.js\": \"sha256-8lSspDO7kZzWkItlYcz/F0+pUQPNJd9hhRCzjIgjmYE=\" } }</script>
<script type=module>
    import { word } from '/static/module.js';
    window.word = word;
</script>";

/// What is served below `/static/`. Each has a word that is `honest`, or whatever somebody on the way makes of it.
const FILES: [(&str, &str, &str); 6] = [
    ("app.js", "text/javascript", "window.ran = 'honest'"),
    ("part.js", "text/javascript", "window.part = 'honest'"),
    (
        "module.js",
        "text/javascript",
        "export const word = 'honest'",
    ),
    ("worker.js", "text/javascript", "postMessage('honest')"),
    ("style.css", "text/css", ":root { --word: honest }"),
    (
        "shell.html",
        "text/html",
        "<!doctype html><link rel=icon href=data:,><title>honest</title>",
    ),
];

/// Loads one of each kind in the ways in which pages do, without any integrity of the page's own, and tells of each what
/// its word is, or `none`. The number keeps the browser's cache out.
const LOAD: &str = "
    const [number] = args;
    const at = (name) => `/static/${name}?${number}`;
    const loaded = (element) => new Promise((resolve) => {
        element.onload = () => resolve(true);
        element.onerror = () => resolve(false);
        document.head.append(element);
    });
    delete window.part;
    await loaded(Object.assign(document.createElement('script'), { src: at('part.js') }));
    const style = Object.assign(document.createElement('link'), { rel: 'stylesheet', href: at('style.css') });
    for (const old of document.querySelectorAll('link[rel=stylesheet]')) old.remove();
    await loaded(style);
    const worker = await new Promise((resolve) => {
        const worker = new Worker(at('worker.js'));
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = () => resolve('none');
    });
    return {
        script: window.part ?? 'none',
        module: (await import(at('module.js')).catch(() => ({ word: 'none' }))).word,
        style: getComputedStyle(document.documentElement).getPropertyValue('--word').trim() || 'none',
        worker,
        fetched: await fetch(at('part.js')).then((r) => r.text(), () => 'none'),
    };";

/// Somebody between the browser and the gateway, who ends TLS and keeps copies.
#[derive(Clone, Default)]
struct Between(Arc<Mutex<Tampering>>);

#[derive(Default)]
struct Tampering {
    /// He changes a byte of every file, or brings back the one before.
    changes: bool,
    /// He answers for each address with a way that leads nowhere first, and goes on only when he is asked once more.
    stumbles: Option<HashSet<String>>,
    /// The manifest that he hands out instead of the one that there is.
    manifest: Option<String>,
}

impl Between {
    fn set(&self, set: impl FnOnce(&mut Tampering)) {
        set(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn now(&self) -> (bool, Option<String>) {
        let now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (now.changes, now.manifest.clone())
    }

    fn stumbles_at(&self, address: String) -> bool {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.stumbles
            .as_mut()
            .is_some_and(|past| past.insert(address))
    }
}

async fn between(State(between): State<Between>, request: Request, next: Next) -> Response {
    let (changes, manifest) = between.now();
    let path = request.uri().path().to_owned();
    if let Some(manifest) = manifest.filter(|_| path.ends_with("/gateway/manifest")) {
        return manifest.into_response();
    }
    if path.starts_with("/static/") && between.stumbles_at(request.uri().to_string()) {
        return Redirect::temporary("http://nowhere.invalid/").into_response();
    }
    let response = next.run(request).await;
    if !changes || !path.starts_with("/static/") {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, 1 << 20).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    parts.headers.remove(CONTENT_LENGTH);
    let other = String::from_utf8_lossy(&bytes).replace("honest", "h0nest");
    let other = other.replace("better", "honest");
    Response::from_parts(parts, Body::from(other))
}

/// An application, a gateway before it, and somebody before that.
struct Site {
    gateway: Gateway,
    config: Config,
    server: Server,
    between: Between,
    folder: TempDir,
    seen: Seen,
    _application: Server,
}

/// What the code is held to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Code {
    /// To nothing: the unprotected twin.
    Unheld,
    /// To what was signed.
    Signed,
    /// To what the application serves.
    Learnt,
}

/// Which files the application was asked for, and with which fields.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(String, HeaderMap)>>>);

impl Seen {
    fn take(&self) -> Vec<(String, HeaderMap)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, request: &Request) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push((request.uri().to_string(), request.headers().clone()));
    }
}

impl Site {
    async fn start(code: Code) -> Outcome<Self> {
        Self::start_with(code, |_| {}).await
    }

    async fn start_with(code: Code, set: fn(&mut Delivery)) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        write(folder.path(), "honest")?;
        let seen = Seen::default();
        let application = Server::start(application(folder.path(), &seen)).await?;
        let upstream = format!("http://127.0.0.1:{}", application.port());
        let (on_the_way, mut built) = (Between::default(), None);
        let middle = from_fn_with_state(on_the_way.clone(), between);
        let server = Server::start_with(|origin| {
            let mut config = Config::for_upstream(upstream.parse().map_err(io)?);
            config.origins = vec![origin.to_owned()];
            config.state = folder.path().join("state");
            config.paths = vec![PathRule {
                prefix: "/static/".to_owned(),
                access: Access::Public,
            }];
            fs::create_dir(&config.state)?;
            let source = match code {
                Code::Unheld => None,
                Code::Signed => {
                    sign(folder.path(), &config, 1)?;
                    Some(Source::Signed(folder.path().join("manifest")))
                }
                Code::Learnt => Some(Source::Learnt("/static/".to_owned())),
            };
            config.delivery = source.map(Delivery::of);
            config.delivery.as_mut().map(set);
            let gateway = Gateway::build(&config).map_err(io)?;
            let router = Router::new()
                .fallback_service(gateway.clone())
                .layer(middle);
            built = Some((gateway, config));
            Ok(router)
        })
        .await?;
        let (gateway, config) = built.ok_or("the gateway was not built")?;
        Ok(Self {
            gateway,
            config,
            server,
            between: on_the_way,
            folder,
            seen,
            _application: application,
        })
    }

    /// The version of the manifest and what it lists, after the gateway was asked for it for the sake of a path, if
    /// there is any.
    async fn listed(&self, about: &str) -> Outcome<(u64, Vec<String>)> {
        let about = match about {
            "" => String::new(),
            path => format!("?path={path}"),
        };
        let manifest = format!("/.well-known/bulla/gateway/manifest{about}");
        let client = reqwest::Client::builder().no_proxy().build()?;
        let request = client
            .get(self.server.url(&manifest))
            .header(COOKIE, "who=eve")
            .header(ACCEPT_LANGUAGE, "de");
        let text = request.send().await?.error_for_status()?.text().await?;
        let manifest = Manifest::open(&text, self.gateway.identity())?;
        let paths = manifest.hashes.into_keys().collect();
        Ok((manifest.version, paths))
    }

    /// Goes over to another version, as an operator does.
    fn publish(&self, word: &str, version: u64) -> Outcome {
        write(self.folder.path(), word)?;
        sign(self.folder.path(), &self.config, version)?;
        self.gateway.reload(&self.config)?;
        Ok(())
    }

    fn manifest(&self) -> Outcome<String> {
        Ok(fs::read_to_string(self.folder.path().join("manifest"))?)
    }
}

fn io(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> std::io::Error {
    std::io::Error::other(error)
}

fn write(folder: &File, word: &str) -> std::io::Result<()> {
    let files = folder.join("static");
    fs::create_dir_all(&files)?;
    for (name, _, content) in FILES {
        fs::write(files.join(name), content.replace("honest", word))?;
    }
    Ok(())
}

fn sign(folder: &File, config: &Config, version: u64) -> std::io::Result<()> {
    let identity = Identity::load_or_create(config.identity_file()).map_err(io)?;
    let manifest = Manifest::of_folder(&folder.join("static"), "/static/", version).map_err(io)?;
    fs::write(
        folder.join("manifest"),
        manifest.signed(&identity).map_err(io)?,
    )?;
    Ok(())
}

fn application(folder: &File, seen: &Seen) -> Router {
    let (folder, seen) = (folder.join("static"), seen.clone());
    let file = async move |Path(name): Path<String>, request: Request| {
        seen.add(&request);
        let known = FILES.iter().find(|(known, _, _)| *known == name);
        let odd = match name.as_str() {
            "missing.js" => Some((StatusCode::NOT_FOUND, "accept")),
            "broken.js" => Some((StatusCode::BAD_GATEWAY, "accept")),
            "mine.js" => Some((StatusCode::OK, "cookie")),
            _ => None,
        };
        if let Some((status, vary)) = odd {
            let fields = [(CONTENT_TYPE, "text/javascript"), (VARY, vary)];
            return (status, fields, "window.part = 'odd'").into_response();
        }
        let Some((_, kind, _)) = known else {
            let fields = [(CONTENT_TYPE, "text/javascript")];
            return (fields, "window.part = 'never listed'").into_response();
        };
        let Ok(content) = fs::read(folder.join(&name)) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let kept = HeaderValue::from_static("max-age=600");
        let fields = [
            (CONTENT_TYPE, HeaderValue::from_static(kind)),
            (CACHE_CONTROL, kept),
        ];
        (fields, content).into_response()
    };
    Router::new()
        .route("/shop", get(|| async { Html(PAGE) }))
        .route("/other", get(|| async { Html(OTHER) }))
        .route(
            "/imports",
            get(|| async { (INTEGRITY_POLICY, Html(IMPORTS)) }),
        )
        .route(
            "/outside.js",
            get(|| async { ([(CONTENT_TYPE, "text/javascript")], "window.outside = true") }),
        )
        .route("/static/{name}", get(file))
}

/// Comes to the page for the first time.
async fn visit(browser: &Browser, site: &Site) -> Result<(), BrowserError> {
    browser.goto(&site.server.url("/shop")).await?;
    let is_there = "return document.title === 'The shop' && document.readyState === 'complete'
        && !!navigator.serviceWorker.controller";
    browser.wait_until(is_there, PATIENCE).await?;
    Ok(())
}

/// The worker comes to life anew with the next request, and knows what it has kept. WebKit's driver cannot stop it.
async fn stop_worker(browser: &Browser) -> Result<(), BrowserError> {
    match browser.stop_workers().await {
        Err(BrowserError::Unsupported { .. }) => Ok(()),
        stopped => stopped,
    }
}

/// The words of all that is loaded anew.
async fn words(browser: &Browser, number: u32) -> Outcome<Vec<String>> {
    let loaded = browser.eval(LOAD, [number.into()]).await?;
    let kinds = ["script", "module", "style", "worker", "fetched"];
    let word = |kind| loaded[kind].as_str().unwrap_or_default().to_owned();
    Ok(kinds.map(word).to_vec())
}

fn all(word: &str) -> Vec<String> {
    let mut words = vec![word.to_owned(); 4];
    words.push(FILES[1].2.replace("honest", word));
    words
}

static CHANGES_CODE: Attack = Attack {
    has: "a place on the way to a gateway, after the first visit",
    does: "changes scripts, styles and pages that a manifest lists",
    twin: Twin::Weakened("a gateway without a manifest"),
    without: "they run",
    with: Held("none of them is run, and it is told"),
    names: &[Api(8), Asvs("4.1.5")],
    shown: Shown::nothing(),
};

async fn what_is_changed_on_the_way_is_not_run(engine: Engine) -> Outcome {
    // Without a manifest it is run.
    let twin = Site::start(Code::Unheld).await?;
    let browser = Browser::launch(engine).await?;
    visit(&browser, &twin).await?;
    assert_eq!(browser.eval("return window.ran", []).await?, "honest");
    twin.between.set(|now| now.changes = true);
    CHANGES_CODE.without(words(&browser, 1).await? == all("h0nest"));
    twin.between.set(|now| now.changes = false);
    assert_eq!(shell_of(&browser, &twin).await?, "h0nest");

    // Where the gateway only monitors it is run, and told of.
    let monitored = Site::start(Code::Signed).await?;
    monitored.gateway.set_mode(Mode::Monitor)?;
    visit(&browser, &monitored).await?;
    monitored.between.set(|now| now.changes = true);
    let mut events = monitored.gateway.bulla().events();
    assert_eq!(words(&browser, 1).await?, all("h0nest"));
    told(&mut events).await?;
    monitored.between.set(|now| now.changes = false);
    assert_eq!(shell_of(&browser, &monitored).await?, "h0nest");

    let site = Site::start(Code::Signed).await?;
    visit(&browser, &site).await?;
    assert_eq!(browser.eval("return window.ran", []).await?, "honest");
    let held = "const held = (found) => `${document.querySelector(found).integrity} ${document.querySelector(found).crossOrigin}`;
        return [held('script[src=\"/static/app.js\"]'), held('link[rel=stylesheet]')]";
    let held = browser.eval(held, []).await?;
    for held in held.as_array().into_iter().flatten() {
        let held = held.as_str().unwrap_or_default();
        assert!(
            held.starts_with("sha256-") && held.ends_with(" anonymous"),
            "{held}"
        );
    }
    assert_eq!(words(&browser, 1).await?, all("honest"));
    let warned = "return document.querySelectorAll('dialog').length";
    assert_eq!(browser.eval(warned, []).await?, 0);

    site.between.set(|now| now.changes = true);
    let mut events = site.gateway.bulla().events();
    let ran = words(&browser, 2).await?;
    told(&mut events).await?;
    CHANGES_CODE.with(ran == vec!["none"; 5]);
    // What is not listed where all code is.
    let unlisted =
        "const script = Object.assign(document.createElement('script'), { src: '/static/new.js' });
        return await new Promise((resolve) => {
            script.onload = () => resolve('run');
            script.onerror = () => resolve('refused');
            document.head.append(script);
        })";
    assert_eq!(browser.eval(unlisted, []).await?, "refused");
    // Whoever looks at the page is told, once.
    let told = "const all = [...document.querySelectorAll('dialog[open]')];
        return all.length === 1 && all[0].matches(':modal') && all[0].innerText.includes('integrity: /static/')";
    browser.wait_until(told, PATIENCE).await?;

    stop_worker(&browser).await?;
    assert_eq!(words(&browser, 3).await?, vec!["none"; 5]);
    site.between.set(|now| now.stumbles = Some(HashSet::new()));
    for number in [5, 5] {
        assert_eq!(words(&browser, number).await?, vec!["none"; 5]);
    }
    site.between.set(|now| *now = Tampering::default());
    assert_eq!(words(&browser, 4).await?, all("honest"));
    let shell = shell_of(&browser, &site).await?;
    assert_eq!(shell, "This page did not come unharmed");
    browser.quit().await?;
    Ok(())
}

/// The server is told of it, and of which session.
async fn told(events: &mut Events) -> Outcome {
    loop {
        let event = timeout(PATIENCE, events.next()).await?;
        let event = event.ok_or("the verifier is gone")??;
        if event.kind.noticed() == Some("integrity") {
            assert!(event.session.is_some());
            return Ok(());
        }
    }
}

/// A page that is listed, after the application has come to answer with another.
async fn shell_of(browser: &Browser, site: &Site) -> Outcome<String> {
    let shell = |number| site.server.url(&format!("/static/shell.html?{number}"));
    browser.goto(&shell(1)).await?;
    assert_eq!(browser.eval("return document.title", []).await?, "honest");
    write(site.folder.path(), "h0nest")?;
    browser.goto(&shell(2)).await?;
    let title = browser.eval("return document.title", []).await?;
    Ok(title.as_str().unwrap_or_default().to_owned())
}

static OLD_CODE: Attack = Attack {
    has: "a place on the way to a gateway, and a manifest of before with its files",
    does: "brings back the older version",
    twin: Twin::Weakened("a browser that comes for the first time"),
    without: "it runs",
    with: Held("none of it is run where a later manifest was seen"),
    names: &[Api(8), Api(9)],
    shown: Shown::nothing(),
};

async fn an_older_version_is_refused_and_a_newer_one_taken(engine: Engine) -> Outcome {
    let site = Site::start(Code::Signed).await?;
    let browser = Browser::launch(engine).await?;
    visit(&browser, &site).await?;
    assert_eq!(words(&browser, 0).await?, all("honest"));
    let old = site.manifest()?;

    // Also where the browser has kept the files of the one before.
    site.publish("better", 2)?;
    browser.reload().await?;
    browser
        .wait_until("return window.ran === 'better'", PATIENCE)
        .await?;

    assert_eq!(words(&browser, 5).await?, all("better"));

    // Somebody brings back both, the manifest and what it lists.
    write(site.folder.path(), "honest")?;
    site.between.set(|now| now.manifest = Some(old));
    let mut events = site.gateway.bulla().events();
    assert_eq!(words(&browser, 1).await?, vec!["none"; 5]);
    told(&mut events).await?;
    stop_worker(&browser).await?;
    OLD_CODE.with(words(&browser, 2).await? == vec!["none"; 5]);
    // A browser that comes for the first time has nothing to tell it by.
    let other = Browser::launch(engine).await?;
    visit(&other, &site).await?;
    OLD_CODE.without(words(&other, 3).await? == all("honest"));
    other.quit().await?;

    // One that the identity has not signed is none, whatever its version.
    let forged = site.manifest()?.replace("\"version\":2", "\"version\":9");
    site.between.set(|now| now.manifest = Some(forged));
    assert_eq!(words(&browser, 4).await?, vec!["none"; 5]);
    browser.quit().await?;
    Ok(())
}

async fn what_nobody_has_signed_is_run_as_the_application_serves_it(engine: Engine) -> Outcome {
    let twin = Site::start(Code::Unheld).await?;
    let browser = Browser::launch(engine).await?;
    visit(&browser, &twin).await?;
    twin.between.set(|now| now.changes = true);
    assert_eq!(words(&browser, 1).await?, all("h0nest"));

    let site = Site::start(Code::Learnt).await?;
    visit(&browser, &site).await?;
    assert_eq!(browser.eval("return window.ran", []).await?, "honest");
    // What is not there is nobody's fault.
    let missing = "return await fetch('/static/missing.js').then((r) => r.status, () => 'refused')";
    assert_eq!(browser.eval(missing, []).await?, 404);
    let warned = "return document.querySelectorAll('dialog').length";
    assert_eq!(browser.eval(warned, []).await?, 0);

    // He changes also what nobody has asked for before.
    site.between.set(|now| now.changes = true);
    let mut events = site.gateway.bulla().events();
    assert_eq!(words(&browser, 1).await?, vec!["none"; 5]);
    told(&mut events).await?;
    site.between.set(|now| now.changes = false);
    assert_eq!(words(&browser, 2).await?, all("honest"));

    // The next page has what is listed by now.
    visit(&browser, &site).await?;
    assert_eq!(browser.eval("return window.ran", []).await?, "honest");
    let held = "return document.querySelector('script[src=\"/static/app.js\"]').integrity";
    let held = browser.eval(held, []).await?;
    let held = held.as_str().unwrap_or_default();
    assert!(held.starts_with("sha256-"), "{held}");

    // The application comes to serve others at the same paths, and somebody brings back those before.
    write(site.folder.path(), "better")?;
    assert_eq!(words(&browser, 3).await?, all("better"));
    site.between.set(|now| now.changes = true);
    assert_eq!(words(&browser, 4).await?, vec!["none"; 5]);
    stop_worker(&browser).await?;
    assert_eq!(words(&browser, 5).await?, vec!["none"; 5]);
    browser.quit().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_application_gives_to_everybody_is_listed() -> Outcome {
    let site = Site::start(Code::Learnt).await?;
    let (first, none) = site.listed("").await?;
    assert!(none.is_empty(), "{none:?}");
    for path in [
        "/static/missing.js",
        "/static/broken.js",
        "/static/mine.js",
        "/static/shell.html",
        "/static/%2561pp.js",
        "/static//app.js",
        "/static/app.js%3Fa",
        "/static/app.js;a",
        "/static/../shop",
        "/static",
        "/outside.js",
        "/shop",
        "/.well-known/bulla/gateway/sw.js",
        "http://127.0.0.1/static/app.js",
    ] {
        assert_eq!(site.listed(path).await?, (first, Vec::new()), "{path}");
    }
    site.seen.take();
    let (version, listed) = site.listed("/static/app.js").await?;
    assert!(version > first);
    assert_eq!(listed, ["/static/app.js"]);
    // Whoever has asked has no part in what the application is asked.
    let [(path, fields)] = &site.seen.take()[..] else {
        return Err("it was not asked once".into());
    };
    assert_eq!(path, "/static/app.js");
    for name in [COOKIE, ACCEPT_LANGUAGE] {
        assert!(!fields.contains_key(&name), "{name}");
    }
    assert_eq!(site.listed("/static/app.js").await?, (version, listed));

    // A start changes nothing of it.
    let listed = site.listed("/static/style.css").await?;
    let mut config = site.config.clone();
    config.state = site.folder.path().join("copy");
    fs::create_dir(&config.state)?;
    let kept = ["identity.pem", "manifest.json", "manifest.seen"];
    for name in kept {
        fs::copy(site.config.state.join(name), config.state.join(name))?;
    }
    Gateway::build(&config)?;
    for name in kept {
        let [now, then] = [&config, &site.config].map(|config| fs::read(config.state.join(name)));
        assert_eq!(now?, then?, "{name}");
    }

    // All of it is looked at again when the operator says so.
    write(site.folder.path(), "better")?;
    fs::remove_file(site.folder.path().join("static/style.css"))?;
    tokio::spawn(site.gateway.upkeep());
    site.gateway.reload(&site.config)?;
    let renewed = async {
        loop {
            let now = site.listed("").await?;
            if now != listed {
                return Outcome::Ok(now);
            }
        }
    };
    let (version, paths) = timeout(PATIENCE, renewed).await??;
    assert!(version > listed.0);
    assert_eq!(paths, ["/static/app.js"]);
    Ok(())
}

async fn policies_are_enforced_where_they_can_be_kept_to(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    // By default they are only told of.
    let reported = Site::start(Code::Signed).await?;
    visit(&browser, &reported).await?;
    assert_eq!(other(&browser, &reported).await?, (true, true, true));

    let site = Site::start_with(Code::Signed, |delivery| {
        delivery.integrity_policy = Policy::Enforce;
        delivery.trusted_types = Policy::Enforce;
    })
    .await?;
    visit(&browser, &site).await?;
    let (listed, outside, markup) = other(&browser, &site).await?;
    assert!(listed);
    // Every engine has it. This one could not keep to it where pages have modules.
    let is_webkit = engine == Engine::WebKit;
    assert_eq!(outside, is_webkit);
    let has_types = browser.eval("return 'trustedTypes' in window", []).await?;
    assert_eq!(Some(!markup), has_types.as_bool());

    // That is so as long as this is.
    browser.goto(&site.server.url("/imports")).await?;
    let word = "return window.word ?? 'none'";
    let expected = if is_webkit { "none" } else { "honest" };
    assert_eq!(browser.eval(word, []).await?, expected);
    browser.quit().await?;
    Ok(())
}

/// Whether what is listed has run, and what is not, and whether text may become markup.
async fn other(browser: &Browser, site: &Site) -> Outcome<(bool, bool, bool)> {
    browser.goto(&site.server.url("/other")).await?;
    let done = "let markup = true;
        try { document.getElementById('here').innerHTML = '<b>'; } catch { markup = false; }
        return [window.ran === 'honest', window.outside === true, markup]";
    let done = browser.eval(done, []).await?;
    let [listed, outside, markup] = [0, 1, 2].map(|at| done[at] == true);
    Ok((listed, outside, markup))
}

//! What pages behind the gateway report of themselves.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use bulla_client::{Client, Session};
use bulla_gateway::config::{Access, Config, Mode, PathRule, Reaction, ScriptRule};
use bulla_gateway::delivery::Hash;
use bulla_server::{Events, SessionId};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, BrowserError, Engine};
use bulla_tests::gateway::{Behind, before};
use bulla_tests::serve::Server;
use http::header::{ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::time::timeout;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::in_each_engine!(what_a_page_reports_is_signed);
bulla_tests::in_each_engine!(
    what_a_page_runs_is_known,
    chromium_scripts Chromium,
    firefox_scripts Firefox,
    webkit_scripts WebKit
);
bulla_tests::in_each_engine!(
    what_is_put_in_does_not_hide_by_its_form,
    chromium_hiding Chromium,
    firefox_hiding Firefox,
    webkit_hiding WebKit
);
bulla_tests::in_each_engine!(
    what_is_noticed_in_a_page_has_consequences,
    chromium_reactions Chromium,
    firefox_reactions Firefox,
    webkit_reactions WebKit
);
bulla_tests::in_each_engine!(
    what_is_replaced_is_noticed,
    chromium_primitives Chromium,
    firefox_primitives Firefox,
    webkit_primitives WebKit
);

/// A page that runs scripts in each of the ways in which pages do. `{elsewhere}` is another origin.
const PAGE: &str = "<!doctype html><title>The till</title><link rel=icon href=data:,>
<script src=/static/app.js></script>
<script src=/code/sealed.js></script>
<script>window.inline = true</script>
<script type=application/json>{\"no\": \"script\"}</script>
<script type=module src=/static/module.js></script>
<script src={elsewhere}/foreign.js></script>
<p>clay";

/// A worker that runs nothing but itself.
const WORKER: &str = "postMessage('worked')";

const SCRIPTS: [(&str, &str); 5] = [
    ("/static/app.js", "window.app = true"),
    ("/code/sealed.js", "window.sealed = true"),
    (
        "/static/module.js",
        "import './part.js'; window.module = true",
    ),
    ("/static/part.js", "window.part = true"),
    ("/static/worker.js", WORKER),
];

/// Where reports go.
const REPORT: &str = "/.well-known/bulla/gateway/report";

const PATCHED: &str = r#"{"kind":"patched","what":"fetch","page":"/account?token=1"}"#;

async fn report(session: &Session, content: impl Into<String>) -> Outcome<StatusCode> {
    let request = Request::post(REPORT)
        .header(CONTENT_TYPE, "application/json")
        .body(content.into())?;
    Ok(session.fetch(request).await?.status())
}

/// The next thing that was noticed.
async fn noticed(events: &mut Events) -> Outcome<&'static str> {
    loop {
        let event = timeout(PATIENCE, events.next()).await?;
        let event = event.ok_or("the verifier is gone")??;
        if let Some(what) = event.kind.noticed() {
            assert!(event.session.is_some() && event.device.is_some());
            return Ok(what);
        }
    }
}

#[tokio::test]
async fn reports_of_a_session_are_events_about_it() -> Outcome {
    let site = Behind::start(|_| ()).await?;
    let client = Client::builder(site.server.url("")).build()?;
    let session = client.open().await?;
    let mut events = site.gateway.bulla().events();
    let list = format!(
        r#"[{PATCHED},{PATCHED},{{"kind":"integrity","url":"/a.js","expected":"sha256-a","found":"sha256-b"}}]"#
    );
    assert_eq!(report(&session, list).await?, StatusCode::NO_CONTENT);
    assert_eq!(noticed(&mut events).await?, "patched");
    assert_eq!(noticed(&mut events).await?, "integrity");

    // What is none, and what is too much.
    for (wrong, code) in [
        ("{}".to_owned(), "malformed: "),
        (" ".repeat(64 * 1024 + 1), "too_large: "),
    ] {
        let refused = report(&session, wrong).await.unwrap_err().to_string();
        assert!(refused.starts_with(code), "{refused}");
    }
    // It never was the application's.
    assert!(site.seen.all().is_empty());
    Ok(())
}

/// Script in a page can have its session report whatever it likes.
#[tokio::test]
async fn who_reports_without_end_hides_nothing_by_it() -> Outcome {
    let site = Behind::start(|config| config.runtime.script = Reaction::End).await?;
    let client = Client::builder(site.server.url("")).build()?;
    let session = client.open().await?;
    let mut events = site.gateway.bulla().events();
    let full = format!("[{}]", vec![PATCHED; 64].join(","));
    // More than is written down of a session in a minute, whenever that begins.
    for _ in 0..40 {
        report(&session, full.clone()).await?;
    }
    let before = session.id();
    let script = r#"{"kind":"script","url":"https://evil.example/a.js","page":"/till"}"#;
    assert_eq!(report(&session, script).await?, StatusCode::RESET_CONTENT);
    while noticed(&mut events).await? != "script" {}
    assert_eq!(site.gateway.scripts().len(), 1);
    assert_eq!(report(&session, PATCHED).await?, StatusCode::NO_CONTENT);
    assert_ne!(session.id(), before, "the other one has ended");
    Ok(())
}

/// Anybody may open a session, and many.
#[tokio::test]
async fn who_reports_what_no_page_runs_fills_nothing() -> Outcome {
    let rule = ScriptRule {
        url: Some("/own/".to_owned()),
        hash: None,
        justification: "it is ours".to_owned(),
    };
    let site = Behind::start(|config| config.scripts = vec![rule]).await?;
    let client = Client::builder(site.server.url("")).build()?;
    let script = |url: &str| format!(r#"{{"kind":"script","url":"{url}","page":"/till"}}"#);
    for session in 0..26 {
        let other = client.open().await?;
        for batch in 0..4 {
            let made_up = |number| script(&format!("/{session}/{batch}/{number}.js"));
            let all: Vec<_> = (0..50).map(made_up).collect();
            report(&other, format!("[{}]", all.join(","))).await?;
        }
    }
    let victim = client.open().await?;
    let mut events = site.gateway.bulla().events();
    for url in ["https://evil.example/a.js", "/own/a.js"] {
        report(&victim, script(url)).await?;
        let known = site.gateway.scripts();
        assert!(known.iter().any(|known| known.url == url), "{url}");
    }
    assert_eq!(noticed(&mut events).await?, "script");
    // It is in there, so that it is told once.
    report(&victim, script("https://evil.example/a.js")).await?;
    report(&victim, PATCHED).await?;
    assert_eq!(noticed(&mut events).await?, "patched");
    Ok(())
}

/// Anybody may open a session, and report what no page runs.
#[tokio::test]
async fn who_takes_all_room_of_a_page_brings_no_silence() -> Outcome {
    let site = Behind::start(|_| ()).await?;
    let client = Client::builder(site.server.url("")).build()?;
    let (other, victim) = (client.open().await?, client.open().await?);
    let mut events = site.gateway.bulla().events();
    let inline = |number: usize| {
        let hash = integrity(&number.to_string());
        format!(r#"{{"kind":"script","url":"inline","hash":"{hash}","page":"/till"}}"#)
    };
    let many: Vec<_> = (0..25).map(inline).collect();
    report(&other, format!("[{}]", many[..21].join(","))).await?;
    assert_eq!(noticed(&mut events).await?, "script");
    report(&victim, many[21].clone()).await?;
    assert_eq!(noticed(&mut events).await?, "script");
    // Nor is it told of each time.
    report(&victim, many[22].clone()).await?;
    report(&victim, PATCHED).await?;
    assert_eq!(noticed(&mut events).await?, "patched");
    Ok(())
}

/// Also where all is public, or only monitored.
#[tokio::test]
async fn without_a_session_nobody_reports_anything() -> Outcome {
    let everywhere: [fn(&mut Config); 3] = [
        |_| (),
        |config| config.access = Access::Public,
        |config| config.mode = Mode::Monitor,
    ];
    let bare = reqwest::Client::builder().no_proxy().build()?;
    for configure in everywhere {
        let site = Behind::start(configure).await?;
        let mut events = site.gateway.bulla().events();
        let post = |path: &str| {
            let post = bare.post(site.server.url(path));
            post.header(CONTENT_TYPE, "application/json").body(PATCHED)
        };
        let forged = post(REPORT).header("bulla-session", SessionId([1; 16]).to_string());
        assert_eq!(forged.send().await?.status(), StatusCode::UNAUTHORIZED);
        let session = Client::builder(site.server.url("")).build()?.open().await?;
        report(&session, r#"{"kind":"policy","directive":"img-src"}"#).await?;
        // The forged one came first, and is none.
        assert_eq!(noticed(&mut events).await?, "policy");
        assert!(site.seen.at(REPORT).is_empty());

        // The twin takes whatever it is sent.
        let twin = bare.post(site.application.url("/echo")).body(PATCHED);
        assert_eq!(twin.send().await?.status(), StatusCode::OK);
    }
    Ok(())
}

async fn what_a_page_reports_is_signed(engine: Engine) -> Outcome {
    let browser = Browser::launch(engine).await?;
    for access in [Access::Sealed, Access::Public] {
        let site = Behind::start(|config| config.access = access).await?;
        let mut events = site.gateway.bulla().events();
        browser.goto(&site.server.url("/account")).await?;
        browser
            .wait_until(
                "return document.title === 'The account' && navigator.serviceWorker.controller",
                PATIENCE,
            )
            .await?;
        let send = format!(
            "const headers = {{ 'content-type': 'application/json' }};
            const reply = await fetch('{REPORT}', {{ method: 'POST', headers, body: args[0] }});
            return reply.status"
        );
        assert_eq!(browser.eval(&send, [PATCHED.into()]).await?, 204);
        let mut all = BTreeSet::new();
        while !all.contains("patched") {
            all.insert(noticed(&mut events).await?);
        }
    }
    browser.quit().await?;
    Ok(())
}

/// An application whose page runs scripts, one of them from another server.
async fn till(elsewhere: &Server) -> Outcome<Server> {
    let page = PAGE.replace("{elsewhere}", &elsewhere.url(""));
    let mut routes = Router::new().route("/till", get(move || async { Html(page) }));
    for (path, content) in SCRIPTS {
        let script = ([(CONTENT_TYPE, "text/javascript")], content);
        routes = routes.route(path, get(move || async move { script }));
    }
    Ok(Server::start(routes).await?)
}

fn integrity(content: &str) -> String {
    Hash::of(content.as_bytes()).integrity()
}

async fn what_a_page_runs_is_known(engine: Engine) -> Outcome {
    let foreign = ([(CONTENT_TYPE, "text/javascript")], "window.foreign = true");
    let foreign = Router::new().route("/foreign.js", get(move || async move { foreign }));
    let elsewhere = Server::start(foreign).await?;
    let application = till(&elsewhere).await?;
    let rule = |url: Option<&str>, hash: Option<String>| ScriptRule {
        url: url.map(str::to_owned),
        hash,
        justification: "the till needs it".to_owned(),
    };
    let configure = |config: &mut Config| {
        config.paths = vec![PathRule {
            prefix: "/static/".to_owned(),
            access: Access::Public,
        }];
        config.scripts = vec![
            rule(Some("/static/"), None),
            rule(Some("/code/sealed.js"), Some(integrity(SCRIPTS[1].1))),
            rule(None, Some(integrity("window.inline = true"))),
        ];
    };
    let upstream = application.url("");
    let (gateway, server) = before(&upstream, configure, |router| router).await?;
    let mut events = gateway.bulla().events();
    let browser = Browser::launch(engine).await?;
    browser.goto(&server.url("/till")).await?;
    let all = "return ['app', 'sealed', 'inline', 'module', 'part', 'foreign'].every((name) => window[name])";
    browser.wait_until(all, PATIENCE).await?;
    let added = "window.added = true";
    let work = "
        const script = document.createElement('script');
        script.textContent = args[0];
        document.body.append(script);
        // It covers its traces.
        script.textContent = '';
        script.remove();
        return await new Promise((resolve) => {
            new Worker('/static/worker.js').onmessage = ({ data }) => resolve(data);
        })";
    assert_eq!(browser.eval(work, [added.into()]).await?, "worked");

    let inline = [integrity("window.inline = true"), integrity(added)];
    let foreign = elsewhere.url("/foreign.js");
    let mut expected: BTreeSet<(String, String)> = SCRIPTS
        .iter()
        .map(|(path, content)| ((*path).to_owned(), integrity(content)))
        .chain(inline.map(|hash| ("inline".to_owned(), hash)))
        .collect();
    // Nobody has read it, nor is it held to anything.
    expected.insert((foreign, String::new()));
    let found = async {
        loop {
            let scripts = gateway.scripts();
            let pairs = scripts.iter();
            let pairs = pairs.map(|script| (script.url.clone(), script.hash.clone()));
            if expected.is_subset(&pairs.collect()) {
                return Ok::<_, BrowserError>(scripts);
            }
            browser.eval("return 0", []).await?;
        }
    };
    let scripts = timeout(PATIENCE, found).await;
    let scripts = scripts.map_err(|_| format!("{:?}", gateway.scripts()))??;
    assert_eq!(scripts.len(), expected.len(), "{scripts:?}");
    assert!(
        scripts.iter().all(|script| script.page == "/till"),
        "{scripts:?}"
    );
    // What is not authorised is an event.
    while noticed(&mut events).await? != "script" {}
    browser.quit().await?;
    Ok(())
}

/// What somebody has put into a page, as markup alone. `{elsewhere}` is another origin, `{long}` a very long text.
const PUT_IN: &str = "<!doctype html><title>The till</title><link rel=icon href=data:,>
<script type='\ttext/jscript '>window.old = true</script>
<script>document.addEventListener('DOMContentLoaded', (event) => event.stopPropagation())</script>
<script src='data:text/javascript,window.data = true'></script>
<script src={elsewhere}/long.js?{long}></script>
<script crossorigin src={elsewhere}/held.js integrity='{integrity}'></script>
<svg id=drawing></svg>";

/// Each of these runs, and none of them was noticed once.
async fn what_is_put_in_does_not_hide_by_its_form(engine: Engine) -> Outcome {
    let ran = |name: &str| format!("window.{name} = true");
    let script = move |name| {
        let kind = [
            (CONTENT_TYPE, "text/javascript"),
            (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        ];
        (kind, ran(name))
    };
    let elsewhere = Router::new()
        .route("/long.js", get(async move || script("long")))
        .route("/held.js", get(async move || script("held")))
        .route("/last.js", get(async move || script("last")))
        .fallback(async move || script("many"));
    let elsewhere = Server::start(elsewhere).await?;
    let theme = integrity("window.theme = true");
    let page = PUT_IN
        .replace("{elsewhere}", &elsewhere.url(""))
        .replace("{long}", &"a".repeat(20_000))
        .replace(
            "{integrity}",
            &format!("{theme} {}", integrity(&ran("held"))),
        );
    let application = Router::new().route("/till", get(async move || Html(page)));
    let application = Server::start(application).await?;
    let configure = |config: &mut Config| {
        config.scripts = vec![ScriptRule {
            url: None,
            hash: Some(theme),
            justification: "sets the theme".to_owned(),
        }];
    };
    let (gateway, server) = before(&application.url(""), configure, |router| router).await?;
    let browser = Browser::launch(engine).await?;
    browser.goto(&server.url("/till")).await?;
    let all = "return ['old', 'data', 'long', 'held'].every((name) => window[name])";
    browser.wait_until(all, PATIENCE).await?;
    let work = "
        const script = document.createElementNS('http://www.w3.org/2000/svg', 'script');
        script.textContent = args[1];
        drawing.append(script);
        const load = (name) => new Promise((resolve) => {
            const script = document.createElement('script');
            Object.assign(script, { src: `${args[0]}/${name}.js`, onload: resolve, onerror: resolve });
            document.head.append(script);
        });
        const many = Array.from({ length: 70 }, (_, number) => load(number));
        await Promise.all([...many, load('last')]);
        return window.drawn && window.last";
    let arguments = [elsewhere.url("").into(), ran("drawn").into()];
    assert_eq!(browser.eval(work, arguments).await?, true);

    let inline = |name: &str| ("inline".to_owned(), integrity(&ran(name)));
    let unread = |url: String| (url, String::new());
    let expected = BTreeSet::from([
        inline("old"),
        inline("drawn"),
        unread("data:".to_owned()),
        unread(elsewhere.url("/long.js")),
        // Not as what stands beside it, which is authorised.
        unread(elsewhere.url("/held.js")),
        unread(elsewhere.url("/last.js")),
    ]);
    let missing = || {
        let known = gateway.scripts().into_iter();
        let known: BTreeSet<_> = known.map(|script| (script.url, script.hash)).collect();
        expected.difference(&known).cloned().collect::<Vec<_>>()
    };
    let found = async {
        while !missing().is_empty() {
            browser.eval("return 0", []).await?;
        }
        Ok::<_, BrowserError>(())
    };
    let found = timeout(PATIENCE, found).await;
    found.map_err(|_| format!("nobody has told of {:?}", missing()))??;
    browser.quit().await?;
    Ok(())
}

/// Puts a script into a page whose user is logged in, and looks what comes to the application then: `[has its cookie,
/// goes on by the same session]`.
async fn after(engine: Engine, mode: Mode, reaction: Reaction, expected: [bool; 2]) -> Outcome {
    let site = Behind::start(|config| {
        config.mode = mode;
        config.runtime.script = reaction;
    })
    .await?;
    let mut events = site.gateway.bulla().events();
    let browser = Browser::launch(engine).await?;
    browser.goto(&site.server.url("/account")).await?;
    let there = "return document.title === 'The account' && navigator.serviceWorker.controller";
    browser.wait_until(there, PATIENCE).await?;
    let ask = "const ask = async () => {
            const { fields } = await (await fetch('/echo')).json();
            return [/sessionid=/.test(fields.cookie), fields['bulla-session']];
        };";
    let keep = format!("{ask} window.before = await ask(); return window.before[0]");
    assert_eq!(browser.eval(&keep, []).await?, true, "it is logged in");

    let inject = "const script = document.createElement('script');
        script.textContent = args[0];
        document.body.append(script);
        return window.evil";
    assert_eq!(browser.eval(inject, ["window.evil = 1".into()]).await?, 1);
    while noticed(&mut events).await? != "script" {}
    if expected == [true, true] {
        // What is reported after it comes when it has been dealt with.
        assert_eq!(browser.eval(inject, ["window.evil = 2".into()]).await?, 2);
        while noticed(&mut events).await? != "script" {}
    }
    if reaction == Reaction::StepUp {
        assert_eq!(noticed(&mut events).await?, "cookies-forgotten");
    }
    let now = "const now = await ask(); return [now[0], now[1] === window.before[1]]";
    let now = format!("{ask} {now}");
    let [cookie, session] = expected;
    if expected == [true, true] {
        let now = browser.eval(&now, []).await?;
        assert_eq!(now, json!(expected), "{mode:?} {reaction:?}");
    } else {
        let come = format!(
            "const now = await (async () => {{ {now} }})();
            return now[0] === {cookie} && now[1] === {session}"
        );
        let come = browser.wait_until(&come, PATIENCE).await;
        come.map_err(|error| format!("{mode:?} {reaction:?}: {error}"))?;
    }
    if reaction > Reaction::Record && mode == Mode::Enforce {
        // The next login is as good as any.
        browser.goto(&site.server.url("/account")).await?;
        let again = format!("{ask} return (await ask())[0]");
        browser.wait_until(&again, PATIENCE).await?;
        let last = site
            .seen
            .at("/account")
            .pop()
            .ok_or("it was not asked for")?;
        assert!(last["fields"]["cookie"].is_null(), "{last}");
        // The same again is as bad as before.
        assert_eq!(browser.eval(inject, ["window.evil = 1".into()]).await?, 1);
        let gone = format!("{ask} return !(await ask())[0]");
        browser.wait_until(&gone, PATIENCE).await?;
    }
    browser.quit().await?;
    Ok(())
}

async fn what_is_noticed_in_a_page_has_consequences(engine: Engine) -> Outcome {
    for (mode, reaction, expected) in [
        (Mode::Enforce, Reaction::Record, [true, true]),
        (Mode::Enforce, Reaction::StepUp, [false, true]),
        (Mode::Enforce, Reaction::End, [false, false]),
        (Mode::Monitor, Reaction::End, [true, true]),
    ] {
        after(engine, mode, reaction, expected).await?;
    }
    Ok(())
}

/// What the loader compares when it is asked to look.
async fn what_is_replaced_is_noticed(engine: Engine) -> Outcome {
    let site = Behind::start(|_| ()).await?;
    let mut events = site.gateway.bulla().events();
    let browser = Browser::launch(engine).await?;
    browser.goto(&site.server.url("/account")).await?;
    let there = "return document.title === 'The account' && navigator.serviceWorker.controller";
    browser.wait_until(there, PATIENCE).await?;
    // It looks by itself when the page is left. Nothing has been replaced yet, the loader's own `fetch` included: else that
    // would come before what the policy has refused.
    let look = "dispatchEvent(new Event('pagehide'))";
    let refuse = "document.head.append(Object.assign(document.createElement('meta'),
            { httpEquiv: 'content-security-policy', content: \"img-src 'none'\" }));
        document.body.append(Object.assign(new Image(), { src: '/static/none.png' }));";
    browser.eval(&format!("{look}; {refuse}"), []).await?;
    assert_eq!(noticed(&mut events).await?, "policy");

    let replace = format!(
        "const {{ send }} = XMLHttpRequest.prototype;
        XMLHttpRequest.prototype.send = function (body) {{ return send.call(this, body) }};
        {look}"
    );
    browser.eval(&replace, []).await?;
    assert_eq!(noticed(&mut events).await?, "patched");

    let integrity = "const script = document.createElement('script');
        Object.assign(script, { src: '/static/style.css', integrity: args[0] });
        await new Promise((resolve) => {
            script.onerror = resolve;
            document.head.append(script);
        })";
    let other = Hash::of(b"other").integrity();
    browser.eval(integrity, [other.into()]).await?;
    while noticed(&mut events).await? != "integrity" {}
    browser.quit().await?;
    Ok(())
}

#[tokio::test]
async fn what_is_authorised_is_no_event_and_that_changes_while_it_runs() -> Outcome {
    let rule = || ScriptRule {
        url: Some("/a.js".to_owned()),
        hash: None,
        justification: "it is ours".to_owned(),
    };
    let mut running = None;
    let site = Behind::start(|config| {
        config.scripts = vec![rule()];
        config.runtime.script = Reaction::End;
        running = Some(config.clone());
    })
    .await?;
    let mut config = running.ok_or("nothing was configured")?;
    // It was not known yet where it would listen.
    config.listen = (Ipv4Addr::LOCALHOST, site.server.port()).into();
    config.origins = vec![site.server.url("")];
    let session = Client::builder(site.server.url("")).build()?.open().await?;
    let mut events = site.gateway.bulla().events();
    let script = r#"{"kind":"script","url":"/a.js","hash":"sha256-a","page":"/"}"#;
    assert_eq!(report(&session, script).await?, StatusCode::NO_CONTENT);
    assert_eq!(report(&session, PATCHED).await?, StatusCode::NO_CONTENT);
    assert_eq!(noticed(&mut events).await?, "patched");
    assert_eq!(site.gateway.scripts().len(), 1);

    config.scripts = Vec::new();
    assert!(site.gateway.reload(&config)?.is_empty());
    let before = session.id();
    assert_eq!(report(&session, script).await?, StatusCode::RESET_CONTENT);
    assert_eq!(noticed(&mut events).await?, "script");
    assert_eq!(report(&session, PATCHED).await?, StatusCode::NO_CONTENT);
    assert_ne!(session.id(), before, "the other one has ended");
    Ok(())
}

#[tokio::test]
async fn where_nothing_is_watched_neither_page_nor_worker_is_told_to() -> Outcome {
    for (watch, says) in [(true, true), (false, false)] {
        let site = Behind::start(|config| config.runtime.watch = watch).await?;
        let session = Client::builder(site.server.url("")).build()?.open().await?;
        let request = Request::get("/account").header(ACCEPT, "text/html");
        let page = session.fetch(request.body("")?).await?;
        let page = String::from_utf8(page.into_body().collect().await?.to_bytes().into())?;
        assert_eq!(page.contains(" data-watched></script>"), says, "{page}");
        let worker = reqwest::Client::builder().no_proxy().build()?;
        let worker = worker.get(site.server.url("/.well-known/bulla/gateway/sw.js"));
        let worker = worker.send().await?.text().await?;
        assert_eq!(worker.contains(r#"\"watch\":true"#), says);
    }
    Ok(())
}

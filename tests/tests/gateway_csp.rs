//! Policies of pages behind the gateway, in real browsers: the loader runs first and registers the service worker, and
//! what else runs is what runs without the gateway.

use std::collections::BTreeSet;
use std::io;

use axum::Router;
use axum::extract::Path;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bulla_gateway::config::{Access, Config, PathRule};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::gateway::before;
use bulla_tests::serve::{Server, bytes};
use sha2::{Digest as _, Sha256};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::in_each_engine!(policies_let_the_loader_through_and_nothing_else);

/// What runs in a page, and what each script of it may do: evaluate text, write markup, start a worker.
const PROBE: &str = "
    if (!window.probed) {
        window.probed = true;
        const told = (name) => window.ran.push(name);
        try { eval('1'); told('eval'); } catch { told('no eval'); }
        try { document.createElement('p').innerHTML = 'x'; told('markup'); } catch { told('no markup'); }
        const ended = (name) => { told(name); window.isDone = true; };
        try {
            const worker = new Worker('/worker.js');
            worker.onmessage = () => ended('worker');
            worker.onerror = () => ended('no worker');
        } catch { ended('no worker'); }
    }";

/// The mark that the loader of a page takes away.
const MARK: &str = "bulla-gateway: tried";

struct Case {
    name: &'static str,
    /// Policies in fields, in which `HASH` stands for that of the page's hashed script.
    fields: &'static [&'static str],
    /// A policy in the page.
    meta: &'static str,
    /// Which of the page's scripts run.
    run: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "nothing",
        fields: &[],
        meta: "",
        run: &["inline", "nonced", "hashed", "own", "foreign"],
    },
    Case {
        name: "itself",
        fields: &["default-src 'self'; frame-ancestors 'none'"],
        meta: "",
        run: &["own"],
    },
    Case {
        name: "nonce",
        fields: &["default-src 'none'; script-src 'nonce-clay' http://127.0.0.1:*"],
        meta: "",
        run: &["nonced", "foreign"],
    },
    Case {
        name: "strict-dynamic",
        fields: &[
            "script-src 'nonce-clay' 'strict-dynamic' 'unsafe-inline' http:; object-src 'none'; base-uri 'none'",
        ],
        meta: "",
        run: &["nonced"],
    },
    Case {
        name: "strict-default",
        fields: &["default-src 'nonce-clay' 'strict-dynamic'"],
        meta: "",
        run: &["nonced"],
    },
    Case {
        name: "hash",
        fields: &["script-src HASH"],
        meta: "",
        run: &["hashed"],
    },
    Case {
        name: "unsafe-inline",
        fields: &["script-src 'unsafe-inline' http://127.0.0.1:*"],
        meta: "",
        run: &["inline", "nonced", "hashed", "foreign"],
    },
    Case {
        name: "default-only",
        fields: &["default-src 'unsafe-inline' 'unsafe-eval' data:"],
        meta: "",
        run: &["inline", "nonced", "hashed"],
    },
    Case {
        name: "elements",
        fields: &["script-src-elem 'nonce-clay'; script-src 'none'; worker-src 'none'"],
        meta: "",
        run: &["nonced"],
    },
    Case {
        name: "meta",
        fields: &[],
        meta: "default-src &#x27;none&#x27;; script-src &#x27;nonce-clay&#x27;; worker-src &#x27;none&#x27;",
        run: &["nonced"],
    },
    Case {
        name: "several",
        fields: &[
            "script-src 'nonce-clay', script-src 'unsafe-inline' http:",
            "worker-src 'none'",
        ],
        meta: "script-src * &#39;unsafe-inline&#39;; child-src blob:",
        run: &["nonced"],
    },
    Case {
        name: "trusted-types",
        fields: &["script-src 'self'; require-trusted-types-for 'script'; trusted-types one"],
        meta: "",
        run: &["own"],
    },
    Case {
        name: "trusted-none",
        fields: &["require-trusted-types-for 'script'", "trusted-types 'none'"],
        meta: "",
        run: &["inline", "nonced", "hashed", "own", "foreign"],
    },
];

/// The script of this name: says that it runs, and whether the loader has run before the first of them.
fn script(name: &str) -> String {
    format!(
        "window.ran ??= [sessionStorage.getItem('{MARK}') ? 'before the loader' : 'after the loader'];
        window.ran.push('{name}');{PROBE}"
    )
}

/// A page that loads a script from another origin, whose port this is.
fn page(case: &Case, port: u16) -> Response {
    let meta = match case.meta {
        "" => String::new(),
        policy => format!("<meta http-equiv=content-security-policy content=\"{policy}\">"),
    };
    let html = format!(
        "<!doctype html><html><head><link rel=icon href=data:,>{meta}<title>{name}</title>
        <script>{inline}</script>
        <script nonce=clay>{nonced}</script>
        <script>{hashed}</script>
        <script src=/own.js></script>
        <script src=http://127.0.0.1:{port}/foreign.js></script>
        </head><body>the page",
        name = case.name,
        inline = script("inline"),
        nonced = script("nonced"),
        hashed = script("hashed"),
    );
    let mut response = ([(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response();
    let hash = format!(
        "'sha256-{}'",
        STANDARD.encode(Sha256::digest(script("hashed")))
    );
    for policy in case.fields {
        if let Ok(policy) = HeaderValue::from_str(&policy.replace("HASH", &hash)) {
            response
                .headers_mut()
                .append(CONTENT_SECURITY_POLICY, policy);
        }
    }
    response
}

fn file(name: &str) -> MethodRouter {
    bytes("text/javascript", script(name))
}

fn application(foreign: u16) -> Router {
    let page = move |Path(name): Path<String>| async move {
        let case = CASES.iter().find(|case| case.name == name);
        case.map(|case| page(case, foreign))
            .ok_or(StatusCode::NOT_FOUND)
    };
    Router::new()
        .route("/page/{name}", get(page))
        .route("/own.js", file("own"))
        .route("/worker.js", bytes("text/javascript", "postMessage('up')"))
}

/// A gateway before the application, with pages that anybody may have.
async fn gateway(application: &Server) -> io::Result<Server> {
    let upstream = format!("http://127.0.0.1:{}", application.port());
    let configure = |config: &mut Config| {
        config.access = Access::Public;
        config.paths = vec![PathRule {
            prefix: "/api/".to_owned(),
            access: Access::Signed,
        }];
    };
    Ok(before(&upstream, configure, |router| router).await?.1)
}

/// What has run in the current page, when all of it has.
async fn all_that_ran(browser: &Browser) -> Outcome<BTreeSet<String>> {
    let ran = browser
        .wait_until("return window.isDone && window.ran", PATIENCE)
        .await?;
    Ok(serde_json::from_value(ran)?)
}

async fn policies_let_the_loader_through_and_nothing_else(engine: Engine) -> Outcome {
    let foreign = Server::start(Router::new().route("/foreign.js", file("foreign"))).await?;
    let application = Server::start(application(foreign.port())).await?;
    let browser = Browser::launch(engine).await?;
    for case in CASES {
        let name = case.name;
        let path = format!("/page/{name}");
        browser.goto(&application.url(&path)).await?;
        let expected = all_that_ran(&browser).await?;
        for script in ["inline", "nonced", "hashed", "own", "foreign"] {
            assert_eq!(
                expected.contains(script),
                case.run.contains(&script),
                "{name}: {script} in {expected:?}"
            );
        }

        // A gateway of its own: its origin has no service worker yet.
        let gateway = gateway(&application).await?;
        browser.goto(&gateway.url(&path)).await?;
        assert_eq!(all_that_ran(&browser).await?, expected, "{name}");
        let first = browser
            .eval("return document.scripts[0].dataset.worker", [])
            .await?;
        assert!(first.is_string(), "{name}");
        browser
            .wait_until("return navigator.serviceWorker.controller", PATIENCE)
            .await
            .map_err(|error| format!("{name}: {error}"))?;

        // Once more, now that the worker stands between. The loader has taken the mark away before any other script runs.
        let set = format!("sessionStorage.setItem('{MARK}', '1'); return sessionStorage.length");
        assert_eq!(browser.eval(&set, []).await?, 1);
        browser.reload().await?;
        assert_eq!(all_that_ran(&browser).await?, expected, "{name}, again");
    }
    browser.quit().await?;
    Ok(())
}

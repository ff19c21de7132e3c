//! An application behind a proxy which asks the gateway about each request, configured as the docs say (`docs/gateway/other-proxies.md`).

use std::sync::atomic::{AtomicU8, Ordering};

use axum::http::{HeaderMap, StatusCode};
use bulla_client::{Client, Code, Mode, ProofKind, ProofNonce, Session};
use bulla_gateway::config::{self, Access, Content, Decision, PathRule};
use bulla_server::EventKind;
use bulla_tests::attack::{Outcome, code};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::gateway::Behind;
use bulla_tests::proxies::{FrontProxy, Kind};
use bulla_tests::serve::Server;
use bytes::Bytes;
use http::{HeaderName, Request, Response};
use serde_json::{Value, json};

const PAGE: &str = include_str!("../../docs/gateway/other-proxies.md");

/// What lets no content pass.
const NO_CONTENT: &str =
    "proxy_pass_request_body off;\n        proxy_set_header Content-Length \"\";\n\n";

/// What hands out the nonce.
const NONCE: &str = "add_header Bulla-Nonce $bulla_nonce always;";

struct Site {
    behind: Behind,
    origin: String,
    http: reqwest::Client,
    _decision: Server,
    _proxy: FrontProxy,
}

impl Site {
    async fn open(kind: Kind) -> Outcome<Self> {
        Self::open_with(kind, Content::Compared, config::Mode::Enforce, &[]).await
    }

    async fn open_with(
        kind: Kind,
        content: Content,
        mode: config::Mode,
        replaced: &[(&str, &str)],
    ) -> Outcome<Self> {
        let port = FrontProxy::port_to_come()?;
        let origin = format!("https://localhost:{port}");
        let behind = Behind::start(|config| {
            config.origins = vec![origin.clone()];
            config.access = Access::Signed;
            config.mode = mode;
            config.bound_cookies = Vec::new();
            config.paths.push(PathRule {
                prefix: "/npm/".to_owned(),
                access: Access::Public,
            });
            config.network.client_address = Some(HeaderName::from_static("x-real-ip"));
            config.decision = Some(Decision {
                listen: ([127, 0, 0, 1], 0).into(),
                content,
            });
        })
        .await?;
        let decision = Server::start(behind.gateway.decision()).await?;
        let (application, asked) = (behind.application.port(), decision.port());
        let (application, asked) = (application.to_string(), asked.to_string());
        let mut all = vec![("8000", application.as_str()), ("9191", asked.as_str())];
        all.extend(replaced);
        let proxy = FrontProxy::start_with(kind, PAGE, port, &all)?;
        let http = proxy.trusting_client()?;
        Ok(Self {
            behind,
            origin,
            http,
            _decision: decision,
            _proxy: proxy,
        })
    }

    fn client(&self) -> Outcome<Client> {
        let client = Client::builder(&self.origin)
            .identity(self.behind.gateway.identity())
            .seal(false);
        Ok(client.http(self.http.clone()).build()?)
    }

    async fn session(&self) -> Outcome<Session> {
        Ok(self.client()?.open().await?)
    }

    /// Sends a request as it is.
    async fn send(&self, request: Request<Bytes>) -> Outcome<Response<Bytes>> {
        Ok(self.client()?.send_unverified(request).await?)
    }

    fn bare(&self, target: &str) -> http::request::Builder {
        Request::get(format!("{}{target}", self.origin))
    }

    fn seen(&self, target: &str) -> Vec<Value> {
        self.behind.seen.at(target)
    }
}

fn get(target: &str) -> Outcome<Request<Bytes>> {
    Ok(Request::get(target).body(Bytes::new())?)
}

/// A request as the session would send it.
fn signed(session: &Session, request: Request<Bytes>) -> Outcome<Request<Bytes>> {
    static COUNT: AtomicU8 = AtomicU8::new(0);
    let nonce = ProofNonce {
        server: session.dangerous_loot()?.nonce,
        random: [COUNT.fetch_add(1, Ordering::Relaxed); 16],
    };
    let prepared = session.prepare(request, Mode::Signed, ProofKind::Device, nonce)?;
    Ok(prepared.request)
}

fn nothing_is_said(fields: &Value) {
    for name in ["session", "device", "subject", "proof", "ticket"] {
        assert!(fields[format!("bulla-{name}")].is_null(), "{fields}");
    }
}

#[tokio::test]
async fn what_is_signed_passes_with_whose_it_is() -> Outcome {
    for kind in Kind::ASKING {
        what_is_signed_passes_with_whose_it_is_by(kind).await?;
    }
    Ok(())
}

async fn what_is_signed_passes_with_whose_it_is_by(kind: Kind) -> Outcome {
    let site = Site::open(kind).await?;
    let client = site.client()?;
    let session = client.open().await?;
    for target in ["/echo?a=%20b&c", "//echo//?x", "/%65cho", "/a;b=c/%C3%A9"] {
        session.fetch(get(target)?).await?;
        let [seen] = &site.seen(target)[..] else {
            return Err(format!("{target}: {:?}", site.behind.seen.all()).into());
        };
        let fields = &seen["fields"];
        let id = session.id().ok_or("no session")?.to_string();
        assert_eq!(fields["bulla-session"], id);
        assert_eq!(fields["bulla-device"], client.device().to_string());
        assert_eq!(fields["bulla-proof"], "device");
        for name in [
            "bulla-subject",
            "bulla-ticket",
            "signature",
            "signature-input",
        ] {
            assert!(fields[name].is_null(), "{fields}");
        }
    }
    let post = Request::post("/echo?post").body(Bytes::new())?;
    assert_eq!(session.fetch(post).await?.status(), StatusCode::OK);
    session.end().await?;
    Ok(())
}

#[tokio::test]
async fn what_is_not_signed_does_not_reach_the_application() -> Outcome {
    for kind in Kind::ASKING {
        what_is_not_signed_does_not_reach_the_application_by(kind).await?;
    }
    Ok(())
}

async fn what_is_not_signed_does_not_reach_the_application_by(kind: Kind) -> Outcome {
    let site = Site::open(kind).await?;
    let mut events = site.behind.gateway.bulla().events();
    let refused = site
        .send(site.bare("/echo?bare").body(Bytes::new())?)
        .await?;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(code(&refused), Some(Code::ProofMissing));
    let all = |headers: &HeaderMap, name: &str| headers.get_all(name).iter().count();
    let headers = refused.headers();
    assert_eq!(headers["www-authenticate"], "Bulla error=\"proof_missing\"");
    for once in ["www-authenticate", "bulla-nonce", "content-type"] {
        assert_eq!(all(headers, once), 1, "{once}");
    }
    assert_eq!(all(headers, "bulla-refusal"), 0);
    assert_eq!(site.behind.seen.all(), [Value::Null; 0]);

    let event = events.next().await.ok_or("no event")??;
    assert_eq!(event.kind.code(), Some(Code::ProofMissing));
    assert_eq!(event.path.as_deref(), Some("/echo"));
    let address = std::net::IpAddr::from([127, 0, 0, 1]);
    let names = site.behind.gateway.bulla().pseudonyms();
    assert_eq!(event.network, Some(names.network(address.into())));

    // The application by itself answers anybody.
    let twin = site.behind.application.url("/echo?bare");
    assert_eq!(site.http.get(twin).send().await?.status(), StatusCode::OK);
    assert_eq!(site.seen("/echo?bare").len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_a_client_says_of_itself_is_gone() -> Outcome {
    for kind in Kind::ASKING {
        what_a_client_says_of_itself_is_gone_by(kind).await?;
    }
    Ok(())
}

async fn what_a_client_says_of_itself_is_gone_by(kind: Kind) -> Outcome {
    let site = Site::open(kind).await?;
    let forged = |request: http::request::Builder| {
        request
            .header("bulla-session", "somebody")
            .header("bulla-subject", "ann")
            .header("bulla_subject", "ann")
            .header("bulla-proof", "device")
            .header("bulla-device", "his")
    };
    let request = forged(site.bare("/static/forged")).body(Bytes::new())?;
    assert_eq!(site.send(request).await?.status(), StatusCode::NOT_FOUND);
    let fields = &site.seen("/static/forged")[0]["fields"];
    nothing_is_said(fields);
    assert!(fields["bulla_subject"].is_null());

    let session = site.session().await?;
    let mut asked = signed(&session, get("/echo?forged")?)?;
    asked.headers_mut().insert("bulla-subject", "ann".parse()?);
    assert_eq!(site.send(asked).await?.status(), StatusCode::OK);
    assert!(site.seen("/echo?forged")[0]["fields"]["bulla-subject"].is_null());

    // The application by itself believes it.
    let twin = forged(Request::get(site.behind.application.url("/echo?twin")));
    let answer = reqwest::Client::builder().no_proxy().build()?;
    answer.execute(twin.body(Bytes::new())?.try_into()?).await?;
    assert_eq!(site.seen("/echo?twin")[0]["fields"]["bulla-subject"], "ann");
    Ok(())
}

#[tokio::test]
async fn replays_and_stolen_tickets_are_refused() -> Outcome {
    for kind in Kind::ASKING {
        replays_and_stolen_tickets_are_refused_by(kind).await?;
    }
    Ok(())
}

async fn replays_and_stolen_tickets_are_refused_by(kind: Kind) -> Outcome {
    let site = Site::open(kind).await?;
    let session = site.session().await?;
    let once = signed(&session, get("/echo?once")?)?;
    let first = site.send(once.clone()).await?;
    assert_eq!(first.status(), StatusCode::OK);
    assert!(first.headers().contains_key("bulla-nonce"));
    let again = site.send(once.clone()).await?;
    assert_eq!(again.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(code(&again), Some(Code::Replayed));
    assert_eq!(site.seen("/echo?once").len(), 1);

    // What was signed for one target is good for no other, whatever is said of the original one.
    let other = signed(&session, get("/echo?a")?)?;
    let (mut parts, body) = other.into_parts();
    parts.uri = format!("{}/echo?b", site.origin).parse()?;
    parts.headers.insert("x-original-uri", "/echo?a".parse()?);
    parts.headers.insert("x-original-method", "GET".parse()?);
    let refused = site.send(Request::from_parts(parts, body)).await?;
    assert_eq!(code(&refused), Some(Code::ProofMismatch));

    let thief = site.session().await?;
    let thief = thief.dangerous_with_loot(session.dangerous_loot()?)?;
    let refused = thief.fetch(get("/echo?thief")?).await.err();
    let refused = refused.ok_or("the thief got through")?;
    assert_eq!(refused.code, Code::ProofMismatch);
    assert!(site.seen("/echo?thief").is_empty());
    assert!(site.seen("/echo?b").is_empty());
    assert_eq!(session.fetch(get("/echo?c")?).await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn a_stale_nonce_is_put_right_by_the_client_itself() -> Outcome {
    let stale = "add_header Bulla-Nonce '\"stale\"' always;";
    let site = Site::open_with(
        Kind::Nginx,
        Content::Compared,
        config::Mode::Enforce,
        &[(NONCE, stale)],
    )
    .await?;
    let mut events = site.behind.gateway.bulla().events();
    let session = site.session().await?;
    for target in ["/echo?1", "/echo?2"] {
        let answer = session.fetch(get(target)?).await?;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(site.seen(target).len(), 1);
    }
    loop {
        let event = events.next().await.ok_or("no event")??;
        if let EventKind::Refused(error) = event.kind {
            assert_eq!(error.code, Code::NonceStale);
            return Ok(());
        }
    }
}

#[tokio::test]
async fn the_questions_are_the_proxys_alone() -> Outcome {
    for kind in Kind::ASKING {
        the_questions_are_the_proxys_alone_by(kind).await?;
    }
    Ok(())
}

async fn the_questions_are_the_proxys_alone_by(kind: Kind) -> Outcome {
    let site = Site::open(kind).await?;
    let session = site.session().await?;
    let once = signed(&session, get("/echo?asked")?)?;
    for target in [
        "/.well-known/bulla/decision",
        "/.well-known/bulla/decision/echo?asked",
        "/.well-known/bulla/refusal",
        "//.well-known/bulla/decision",
        "/.well-known/%62ulla/decision",
        "/.well-known/bulla/sealed",
    ] {
        let mut asked = once.clone();
        *asked.uri_mut() = format!("{}{target}", site.origin).parse()?;
        let headers = asked.headers_mut();
        headers.insert("x-original-uri", "/echo?asked".parse()?);
        headers.insert("x-original-method", "GET".parse()?);
        headers.insert("bulla-refusal", "internal".parse()?);
        let answer = site.send(asked).await?;
        // Envoy asks about these, too, before it looks where they go.
        let is_refused = answer.status() == StatusCode::NOT_FOUND
            || (kind == Kind::Envoy && answer.status().is_client_error());
        assert!(is_refused, "{target}: {answer:?}");
        assert!(!answer.headers().contains_key("bulla-session"));
    }
    assert_eq!(site.behind.seen.all(), [Value::Null; 0]);
    // And nobody has used up what was signed.
    assert_eq!(site.send(once).await?.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn content_passes_only_where_somebody_else_compares_it() -> Outcome {
    let post = |body: &'static str| {
        let body = Bytes::from_static(body.as_bytes());
        Request::post("/echo?post").body(body)
    };
    let site = Site::open(Kind::Nginx).await?;
    let session = site.session().await?;
    let refused = session.fetch(post("clay")?).await.err();
    assert_eq!(refused.ok_or("it passed")?.code, Code::TooLarge);
    assert!(site.seen("/echo?post").is_empty());
    // What somebody adds on the way is not passed on.
    let mut added = signed(&session, post("")?)?;
    *added.body_mut() = Bytes::from_static(b"added");
    added.headers_mut().remove("content-length");
    assert_eq!(site.send(added).await?.status(), StatusCode::OK);
    assert_eq!(site.seen("/echo?post")[0]["body"], "");

    let replaced = [(NO_CONTENT, "\n")];
    let site = Site::open_with(
        Kind::Nginx,
        Content::Unchecked,
        config::Mode::Enforce,
        &replaced,
    )
    .await?;
    let session = site.session().await?;
    let answer = session.fetch(post("clay")?).await?;
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = &site.seen("/echo?post")[0];
    assert_eq!(seen["body"], "clay");
    assert!(seen["fields"]["content-digest"].is_string());
    Ok(())
}

#[tokio::test]
async fn content_that_is_asked_about_is_compared() -> Outcome {
    let site = Site::open(Kind::Envoy).await?;
    let session = site.session().await?;
    let post = |body| Request::post("/echo?post").body(Bytes::from_static(body));
    assert_eq!(session.fetch(post(b"clay")?).await?.status(), 200);
    assert_eq!(site.seen("/echo?post")[0]["body"], "clay");
    for before in [&b"clay"[..], b""] {
        let mut changed = signed(&session, post(before)?)?;
        *changed.body_mut() = Bytes::from_static(b"loam");
        changed.headers_mut().remove("content-length");
        let refused = site.send(changed).await?;
        assert_eq!(code(&refused), Some(Code::DigestMismatch));
    }
    assert_eq!(site.seen("/echo?post").len(), 1);
    // Nothing can be unsealed there.
    let sealed = Client::builder(&site.origin).identity(site.behind.gateway.identity());
    let sealed = sealed.http(site.http.clone()).build()?.open().await?;
    let refused = sealed.fetch(get("/echo?sealed")?).await.err();
    assert!(refused.is_some() && site.seen("/echo?sealed").is_empty());
    Ok(())
}

bulla_tests::in_each_engine!(a_page_signs_what_the_proxy_asks_about);

/// By the npm package, which the application hands out itself.
async fn a_page_signs_what_the_proxy_asks_about(engine: Engine) -> Outcome {
    let site = Site::open(Kind::Nginx).await?;
    let browser = Browser::launch(engine).await?;
    browser.goto(&format!("{}/npm/", site.origin)).await?;
    browser
        .wait_until("return 'bulla' in window", PATIENCE)
        .await?;
    let identity = site.behind.gateway.identity().to_string();
    let signed = "const session = await bulla.open({ server: location.origin, identity: args[0], seal: false });
        const replies = [await session.fetch('/echo?by=page'), await session.fetch('/echo?by=page&again')];
        return replies.map(({ status }) => status)";
    let said = browser.eval(signed, [identity.into()]).await?;
    assert_eq!((&said[0], &said[1]), (&json!(200), &json!(200)));
    for target in ["/echo?by=page", "/echo?by=page&again"] {
        let [seen] = &site.seen(target)[..] else {
            return Err(format!("{target}: {:?}", site.behind.seen.all()).into());
        };
        assert_eq!(seen["fields"]["bulla-proof"], "device");
        assert!(seen["fields"]["bulla-device"].is_string(), "{seen}");
    }
    let bare = "return (await fetch('/echo?bare')).status";
    assert_eq!(browser.eval(bare, []).await?, 401);
    assert!(site.seen("/echo?bare").is_empty());
    browser.quit().await?;
    Ok(())
}

#[tokio::test]
async fn what_is_only_monitored_passes_and_is_reported() -> Outcome {
    for kind in Kind::ASKING {
        what_is_only_monitored_passes_and_is_reported_by(kind).await?;
    }
    Ok(())
}

async fn what_is_only_monitored_passes_and_is_reported_by(kind: Kind) -> Outcome {
    let site = Site::open_with(kind, Content::Compared, config::Mode::Monitor, &[]).await?;
    let mut events = site.behind.gateway.bulla().events();
    let request = site.bare("/echo?bare").body(Bytes::new())?;
    assert_eq!(site.send(request).await?.status(), StatusCode::OK);
    nothing_is_said(&site.seen("/echo?bare")[0]["fields"]);
    let event = events.next().await.ok_or("no event")??;
    let EventKind::LetPass(error) = event.kind else {
        return Err(format!("{event:?}").into());
    };
    assert_eq!(error.code, Code::ProofMissing);
    let session = site.session().await?;
    assert_eq!(session.fetch(get("/echo?signed")?).await?.status(), 200);
    let fields = &site.seen("/echo?signed")[0]["fields"];
    assert!(fields["bulla-session"].is_string(), "{fields}");
    Ok(())
}

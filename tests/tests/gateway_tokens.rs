//! Bearer tokens of an application that knows of no devices, stolen by somebody who has a device and a session too: what
//! they are good for as the application hands them out, and once the gateway binds them.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use bulla_client::{Client, Session};
use bulla_gateway::Gateway;
use bulla_gateway::config::{Access, Config, Mode, PathRule, TokenRule, Unbound};
use bulla_protocol::error::{Code, Problem};
use bulla_server::{EventKind, Events};
use bulla_tests::attack::Name::{Api, Asvs, Sess};
use bulla_tests::attack::With::Refused;
use bulla_tests::attack::{Attack, Shown, Twin};
use bulla_tests::bank::PATIENCE;
use bulla_tests::browser::{Browser, Engine};
use bulla_tests::gateway::before;
use bulla_tests::serve::Server;
use http::Request;
use serde_json::{Value, json};
use tokio::time::timeout;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::attacks! {
    a_stolen_token_is_worth_nothing_in_the_thiefs_own_session: [TOKEN_OF_A_PAGE, TOKEN_WITHOUT_SESSION, TOKEN_FROM_A_LOG],
}

bulla_tests::in_each_engine!(a_page_works_with_its_token_and_nobody_else_does);

/// `{"alg":"HS256","typ":"JWT"}`, `{"sub":"ann"}`, and as good a signature as any: this application compares the whole.
const JWS: &str =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4ifQ.dGhlIHNpZ25hdHVyZSBvZiBhbm4";
const OPAQUE: &str = "9f2c-opaque+token/of~ann==";

/// Byte for byte what is answered to a login.
fn login_reply() -> String {
    format!(
        " {{\"zebra\":1.10, \"id\":123456789012345678901234567890,\r\n\t\"token\" : \"{JWS}\",\"data\":{{\"access_token\":\"{}\"}},\"x\":\"\\u00e9\\/\"}}\n",
        OPAQUE.replace('/', "\\/")
    )
}

/// An application with a gateway before it.
struct Site {
    seen: Seen,
    application: Server,
    server: Server,
    gateway: Gateway,
}

/// The credentials that have come to the application for what is private, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn all(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }
}

impl Site {
    async fn start(configure: impl FnOnce(&mut Config)) -> Outcome<Self> {
        let seen = Seen::default();
        let application = Server::start(routes(seen.clone())).await?;
        let upstream = format!("http://127.0.0.1:{}", application.port());
        let configure = |config: &mut Config| {
            config.paths = vec![PathRule {
                prefix: "/open".to_owned(),
                access: Access::Public,
            }];
            configure(config);
        };
        let (gateway, server) = before(&upstream, configure, |router| router).await?;
        Ok(Self {
            seen,
            application,
            server,
            gateway,
        })
    }

    async fn session(&self) -> Outcome<Session> {
        Ok(Client::builder(self.server.origin())
            .build()?
            .open()
            .await?)
    }
}

fn bound(config: &mut Config) {
    let rule = |path: &str, member: &str| -> TokenRule {
        TokenRule {
            path: path.to_owned(),
            member: member.parse().unwrap_or_else(|_| panic!("{member}")),
        }
    };
    config.tokens = vec![
        rule("/login", "token"),
        rule("/login", "/data/access_token"),
        rule("/odd/", "token"),
    ];
}

const PAGE: &str =
    "<!doctype html><title>The account</title><link rel=icon href=data:,><h1>The account</h1>";

fn routes(seen: Seen) -> Router {
    let json =
        |text: &'static str| move || async move { ([(CONTENT_TYPE, "application/json")], text) };
    let login = || async { ([(CONTENT_TYPE, "application/json")], login_reply()) };
    // Its length is not said, so that all of it has to be read.
    let long = || async {
        let chunks = std::iter::repeat_with(|| Ok::<_, std::io::Error>(" ".repeat(1000))).take(300);
        let chunks = chunks.chain([Ok("{\"token\":\"t\"}".to_owned())]);
        let body = axum::body::Body::from_stream(futures_util::stream::iter(chunks));
        ([(CONTENT_TYPE, "application/json")], body)
    };
    Router::new()
        .route("/account", get(|| async { Html(PAGE) }))
        .route("/login", post(login))
        .route("/odd/broken", get(json("{\"token\":\"t\"")))
        .route("/odd/twice", get(json("{\"token\":\"t\",\"token\":\"t\"}")))
        .route("/odd/number", get(json("{\"token\":1}")))
        .route("/odd/long", get(long))
        .route("/odd/none", get(json("{\"error\" : \"no\"}")))
        .route("/private", any(private))
        .route("/open", any(private))
        .with_state(seen)
}

async fn private(State(Seen(seen)): State<Seen>, uri: Uri, headers: HeaderMap) -> Response {
    let credentials = headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
    let credentials = String::from_utf8_lossy(credentials.unwrap_or_default()).into_owned();
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.push(credentials.clone());
    let is_ann = [JWS, OPAQUE]
        .map(|token| format!("Bearer {token}"))
        .contains(&credentials);
    if is_ann {
        Json(json!({ "secret": "of ann", "at": uri.path() })).into_response()
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

/// What is answered to a login.
async fn log_in(session: &Session) -> Outcome<String> {
    let reply = session.fetch(Request::post("/login").body("")?).await?;
    let length = reply.headers().get("content-length").cloned();
    let text = reply.into_body().bytes().await?;
    if let Some(length) = length {
        assert_eq!(length, text.len().to_string());
    }
    Ok(String::from_utf8(text.to_vec())?)
}

/// What comes of a request with these credentials: a status, or the code of a refusal.
async fn sent(
    session: &Session,
    path: &str,
    credentials: &str,
) -> Outcome<Result<StatusCode, Code>> {
    let request = Request::get(path.to_owned()).header(AUTHORIZATION, credentials);
    match session.fetch(request.body("")?).await {
        Ok(reply) => Ok(Ok(reply.status())),
        Err(error) if error.is_refusal() => Ok(Err(error.code)),
        Err(error) => Err(error.into()),
    }
}

/// The kinds of the events up to the first refusal, or what would have been one.
async fn until_refused(events: &mut Events) -> Outcome<Vec<EventKind>> {
    let mut kinds = Vec::new();
    loop {
        let event = timeout(PATIENCE, events.next())
            .await?
            .ok_or("the gateway has gone")??;
        kinds.push(event.kind);
        if event.kind.code().is_some() {
            return Ok(kinds);
        }
    }
}

/// The tokens in the answer to a login.
fn tokens(text: &str) -> Outcome<[String; 2]> {
    let reply: Value = serde_json::from_str(text)?;
    let found = [&reply["token"], &reply["data"]["access_token"]].map(Value::as_str);
    let [Some(one), Some(other)] = found else {
        return Err("there are no tokens".into());
    };
    Ok([one.to_owned(), other.to_owned()])
}

static TOKEN_OF_A_PAGE: Attack = Attack {
    has: "a bearer token that a page got by the gateway",
    does: "shows it in a session of his own, in whatever spelling",
    twin: Twin::Weakened("the gateway without the rule for tokens"),
    without: "he is her",
    with: Refused(&[Code::ProofMismatch, Code::FieldRefused]),
    names: &[Sess(9), Sess(10), Api(2), Asvs("10.3.5")],
    shown: Shown::nothing(),
};

static TOKEN_WITHOUT_SESSION: Attack = Attack {
    has: "a bearer token that a page got by the gateway",
    does: "shows it without any session, where everybody may ask",
    twin: Twin::Weakened("the gateway without the rule for tokens"),
    without: "he is her",
    with: Refused(&[Code::ProofMissing]),
    names: &[Sess(9), Sess(10), Api(2)],
    shown: Shown::nothing(),
};

static TOKEN_FROM_A_LOG: Attack = Attack {
    has: "the token as the application made it",
    does: "shows it in a session of his own",
    twin: Twin::Weakened("the gateway without the rule for tokens"),
    without: "he is her",
    with: Refused(&[Code::LoginRequired]),
    names: &[Sess(9), Sess(10), Api(2)],
    shown: Shown::nothing(),
};

async fn a_stolen_token_is_worth_nothing_in_the_thiefs_own_session() -> Outcome {
    let (victim, thief);
    // As it is, whoever has the token is its user.
    let twin = Site::start(|_| ()).await?;
    (victim, thief) = (twin.session().await?, twin.session().await?);
    let text = log_in(&victim).await?;
    assert_eq!(text, login_reply());
    for token in tokens(&text)? {
        let credentials = format!("Bearer {token}");
        let served = sent(&thief, "/private", &credentials).await?;
        TOKEN_OF_A_PAGE.without(served == Ok(StatusCode::OK));
        TOKEN_FROM_A_LOG.without(served == Ok(StatusCode::OK));
    }
    let bare = reqwest::Client::builder().no_proxy().build()?;
    let get = |url: String, credentials: &str| bare.get(url).header(AUTHORIZATION, credentials);
    let raw = format!("Bearer {JWS}");
    let reply = get(twin.application.url("/private"), &raw).send().await?;
    assert_eq!(reply.status(), StatusCode::OK);
    let reply = get(twin.server.url("/open"), &raw).send().await?;
    TOKEN_WITHOUT_SESSION.without(reply.status() == StatusCode::OK);

    // Bound, it is good for its own device only.
    let site = Site::start(bound).await?;
    let (victim, thief) = (site.session().await?, site.session().await?);
    let text = log_in(&victim).await?;
    let [jws, opaque] = tokens(&text)?;
    // Nothing else of the reply is any different.
    let written = OPAQUE.replace('/', "\\/");
    assert_eq!(
        text.replace(&jws, JWS).replace(&opaque, &written),
        login_reply()
    );
    // The claims can be read, and nothing of what proves them.
    assert_eq!(
        jws.rsplit_once('.').map(|(claims, _)| claims),
        JWS.rsplit_once('.').map(|(claims, _)| claims)
    );
    assert!(
        !text.contains("dGhlIHNpZ25hdHVyZSBvZiBhbm4") && !text.contains("opaque"),
        "{text}"
    );

    let mut events = site.gateway.bulla().events();
    for (count, token) in [&jws, &opaque].into_iter().enumerate() {
        let credentials = format!("Bearer {token}");
        assert_eq!(
            sent(&victim, "/private", &credentials).await?,
            Ok(StatusCode::OK)
        );
        assert_eq!(site.seen.all().len(), count + 1);
        let refused = sent(&thief, "/private", &credentials).await?;
        TOKEN_OF_A_PAGE.refused(refused.err());
        let seen = until_refused(&mut events).await?;
        assert_eq!(seen[0], EventKind::ForeignTicket, "{seen:?}");
        let last = seen.last().and_then(EventKind::code);
        assert_eq!(last, Some(Code::ProofMismatch), "{seen:?}");
        // In other spellings, too.
        for other in [format!("bearer   {token}"), format!("BEARER {token}")] {
            let refused = sent(&thief, "/private", &other).await?;
            assert_eq!(refused, Err(Code::ProofMismatch));
        }
        for other in [
            format!("Bearer {token}, Basic x"),
            format!("Basic x, Bearer {token}"),
        ] {
            let refused = sent(&thief, "/private", &other).await?;
            assert_eq!(refused, Err(Code::FieldRefused));
            TOKEN_OF_A_PAGE.refused(refused.err());
        }
        // Nor by a path that everybody may ask for.
        let reply = get(site.server.url("/open"), &credentials).send().await?;
        assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
        TOKEN_WITHOUT_SESSION.refused(Problem::parse(&reply.bytes().await?));
        assert_eq!(
            sent(&thief, "/open", &credentials).await?,
            Err(Code::ProofMismatch)
        );
        events = site.gateway.bulla().events();
    }
    // What came to the application was the owner's, and as it had made it.
    assert_eq!(
        site.seen.all(),
        [format!("Bearer {JWS}"), format!("Bearer {OPAQUE}")]
    );

    // The application's own token, from its log, say, is bound to nobody.
    TOKEN_FROM_A_LOG.refused(sent(&thief, "/private", &raw).await?.err());
    // Somebody else's claims, say.
    let changed = format!(
        "Bearer {}",
        jws.replace("eyJzdWIiOiJhbm4ifQ", "eyJzdWIiOiJib2IifQ")
    );
    for made_up in ["Bearer bulla-t1", "Bearer bulla-t1AAAA", &changed] {
        let refused = sent(&victim, "/private", made_up).await?;
        assert_eq!(refused, Err(Code::ProofMismatch), "{made_up}");
    }
    assert_eq!(site.seen.all().len(), 2);
    // Other schemes are the application's affair, and so is what everybody may ask for.
    assert_eq!(
        sent(&thief, "/private", "Basic x").await?,
        Ok(StatusCode::UNAUTHORIZED)
    );
    assert_eq!(
        get(site.server.url("/open"), &raw).send().await?.status(),
        StatusCode::OK
    );
    Ok(())
}

#[tokio::test]
async fn who_has_an_old_token_can_still_log_in() -> Outcome {
    let site = Site::start(bound).await?;
    let session = site.session().await?;
    for old in [format!("Bearer {JWS}"), "Bearer bulla-t1AQAA".to_owned()] {
        assert!(sent(&session, "/private", &old).await?.is_err(), "{old}");
        let login = Request::post("/login").header(AUTHORIZATION, &old);
        let reply = session.fetch(login.body("")?).await?;
        assert_eq!(reply.status(), StatusCode::OK);
    }
    Ok(())
}

#[tokio::test]
async fn unbound_tokens_pass_where_the_operator_says_so() -> Outcome {
    let site = Site::start(|config| {
        bound(config);
        config.unbound_tokens = Unbound::Pass;
    })
    .await?;
    let (victim, thief) = (site.session().await?, site.session().await?);
    let raw = format!("Bearer {OPAQUE}");
    assert_eq!(sent(&thief, "/private", &raw).await?, Ok(StatusCode::OK));
    let [jws, _] = tokens(&log_in(&victim).await?)?;
    let stolen = sent(&thief, "/private", &format!("Bearer {jws}")).await?;
    assert_eq!(stolen, Err(Code::ProofMismatch));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_bound_is_held_back() -> Outcome {
    let site = Site::start(bound).await?;
    let session = site.session().await?;
    for path in ["/odd/broken", "/odd/twice", "/odd/number", "/odd/long"] {
        let error = session.fetch(Request::get(path).body("")?).await.err();
        assert_eq!(
            error.map(|error| error.code),
            Some(Code::Internal),
            "{path}"
        );
    }
    let reply = session.fetch(Request::get("/odd/none").body("")?).await?;
    assert_eq!(reply.into_body().bytes().await?, "{\"error\" : \"no\"}");
    Ok(())
}

#[tokio::test]
async fn where_all_is_only_monitored_nothing_is_bound_and_nothing_refused() -> Outcome {
    let site = Site::start(|config| {
        bound(config);
        config.mode = Mode::Monitor;
    })
    .await?;
    let session = site.session().await?;
    assert_eq!(log_in(&session).await?, login_reply());
    let mut events = site.gateway.bulla().events();
    let raw = format!("Bearer {JWS}");
    assert_eq!(sent(&session, "/private", &raw).await?, Ok(StatusCode::OK));
    let seen = until_refused(&mut events).await?;
    let [EventKind::LetPass(would_have_been)] = seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!(would_have_been.code, Code::LoginRequired);
    Ok(())
}

/// A device that is locked out, and sessions that have ended, take their tokens with them.
#[tokio::test]
async fn tokens_end_with_all_sessions() -> Outcome {
    let site = Site::start(bound).await?;
    let session = site.session().await?;
    let [jws, _] = tokens(&log_in(&session).await?)?;
    let credentials = format!("Bearer {jws}");
    assert_eq!(
        sent(&session, "/private", &credentials).await?,
        Ok(StatusCode::OK)
    );
    site.gateway.bulla().end_all().await?;
    // The client opens another one with the same device.
    assert_eq!(
        sent(&session, "/private", &credentials).await?,
        Err(Code::LoginRequired)
    );
    Ok(())
}

async fn a_page_works_with_its_token_and_nobody_else_does(engine: Engine) -> Outcome {
    let site = Site::start(bound).await?;
    let (browser, other) = (
        Browser::launch(engine).await?,
        Browser::launch(engine).await?,
    );
    for browser in [&browser, &other] {
        browser.goto(&site.server.url("/account")).await?;
        browser
            .wait_until("return document.title === 'The account'", PATIENCE)
            .await?;
    }
    let log_in = "const reply = await (await fetch('/login', { method: 'POST' })).json();
        localStorage.token = reply.token;
        return [reply.token, JSON.parse(atob(reply.token.split('.')[1])).sub]";
    let logged_in = browser.eval(log_in, []).await?;
    assert_eq!(logged_in[1], "ann");
    let read = "const headers = { authorization: `Bearer ${args[0] ?? localStorage.token}` };
        const reply = await fetch('/private', { headers });
        return [reply.status, await reply.text()]";
    let own = browser.eval(read, []).await?;
    assert_eq!(own[0], 200);
    assert!(
        own[1].as_str().is_some_and(|text| text.contains("of ann")),
        "{own}"
    );

    let stolen = other.eval(read, [logged_in[0].clone()]).await?;
    assert_eq!(stolen[0], 401);
    assert!(
        stolen[1]
            .as_str()
            .is_some_and(|text| text.contains("proof_mismatch")),
        "{stolen}"
    );
    assert_eq!(site.seen.all(), [format!("Bearer {JWS}")]);
    browser.quit().await?;
    other.quit().await?;
    Ok(())
}

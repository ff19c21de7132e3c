//! Paths that do not exist for whoever has no session, and how the gateway refuses elsewhere.

use bulla_client::{Client, Mode, ProofKind};
use bulla_gateway::config::{Access, Config};
use bulla_tests::attack::Name::{Api, Asvs};
use bulla_tests::attack::With::Held;
use bulla_tests::attack::{Attack, Shown, Twin};
use bulla_tests::gateway::Behind;
use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, DATE};
use http::{HeaderMap, Method, Request, StatusCode};
use reqwest::RequestBuilder;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::attacks! {
    without_a_session_all_paths_look_the_same: [SCANS],
}

fn concealed(config: &mut Config) {
    config.access = Access::Concealed;
}

fn bare() -> reqwest::Result<reqwest::Client> {
    let client = reqwest::Client::builder().no_proxy();
    client.redirect(reqwest::redirect::Policy::none()).build()
}

/// All that a reply tells, but for the time.
async fn told(request: RequestBuilder) -> Outcome<(StatusCode, HeaderMap, String)> {
    let reply = request.send().await?;
    let (status, mut headers) = (reply.status(), reply.headers().clone());
    headers.remove(DATE);
    Ok((status, headers, reply.text().await?))
}

/// Those that exist, those that do not, and those that can be read in two ways.
const PATHS: [&str; 8] = [
    "/account",
    "/echo?x=1",
    "/nothing",
    "/nothing/at/all?q",
    "/account;x=1",
    "//account",
    "/%61ccount",
    "/a%2Fb",
];

static SCANS: Attack = Attack {
    has: "no session",
    does: "asks for paths in order to learn which there are, by all methods, with all that a client might have",
    twin: Twin::App,
    without: "the answers tell",
    with: Held("one page, one 404; nothing reaches the application"),
    names: &[Api(9), Asvs("16.5.1")],
    shown: Shown::nothing(),
};

async fn without_a_session_all_paths_look_the_same() -> Outcome {
    let site = Behind::start(concealed).await?;
    let client = bare()?;
    let page = |path: &str| {
        let get = client.get(site.server.url(path));
        get.header("sec-fetch-mode", "navigate")
            .header(ACCEPT, "text/html")
    };
    let (status, headers, content) = told(page("/")).await?;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(
        content.contains("<script src=\"/.well-known/bulla/gateway/"),
        "{content}"
    );
    assert!(!headers.contains_key("bulla-nonce"), "{headers:?}");
    for path in PATHS {
        let cookie = "sessionid=s3cret; csrftoken=x";
        assert_eq!(
            told(page(path)).await?,
            (status, headers.clone(), content.clone()),
            "{path}"
        );
        assert_eq!(
            told(page(path).header(COOKIE, cookie)).await?,
            (status, headers.clone(), content.clone()),
            "{path} with cookies"
        );
    }

    let none = told(client.get(site.server.url("/"))).await?;
    assert_eq!(none.0, StatusCode::NOT_FOUND);
    for path in PATHS {
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
        ] {
            let request = || client.request(method.clone(), site.server.url(path));
            assert_eq!(told(request()).await?, none, "{method} {path}");
            let pretends = request()
                .header("bulla-ticket", ":AAAA:")
                .header("bulla-session", "x")
                .header("authorization", "Bearer x")
                .header(COOKIE, "sessionid=s3cret");
            assert_eq!(
                told(pretends).await?,
                none,
                "{method} {path}, with all there is"
            );
        }
        let form = client
            .post(site.server.url(path))
            .header("sec-fetch-mode", "navigate");
        assert_eq!(told(form.body("a=b")).await?, none, "a form to {path}");
    }
    // Nothing of this has reached the application: so it cannot be told by the time that it takes either.
    SCANS.with(site.seen.all().is_empty());

    // The twin tells which is which.
    let twin = |path: &str| client.get(site.application.url(path)).send();
    let (there, not_there) = (twin("/echo?x=1").await?, twin("/nothing").await?);
    SCANS.without((there.status(), not_there.status()) == (StatusCode::OK, StatusCode::NOT_FOUND));
    Ok(())
}

#[tokio::test]
async fn a_session_that_seals_sees_what_there_is() -> Outcome {
    let site = Behind::start(concealed).await?;
    let client = Client::builder(site.server.url("")).build()?;
    let session = client.open().await?;
    let get = |path: &str| Request::get(path.to_owned()).body("");
    let found = session.fetch(get("/echo?by=client")?).await?;
    assert_eq!(found.status(), StatusCode::OK);
    assert_eq!(
        session.fetch(get("/nothing")?).await?.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(site.seen.at("/echo?by=client").len(), 1);
    Ok(())
}

/// A proof that everybody on the way can read is not enough where the path is to be hidden: not even that it exists is said.
#[tokio::test]
async fn a_signed_request_sees_nothing_that_is_concealed() -> Outcome {
    let site = Behind::start(concealed).await?;
    let client = Client::builder(site.server.url("")).build()?;
    let session = client.open().await?;
    let mut replies = Vec::new();
    for path in ["/echo", "/nothing"] {
        let request = Request::post(path).body("x")?;
        let nonce = session.fresh_nonce()?;
        let prepared = session.prepare(request, Mode::Signed, ProofKind::Device, nonce)?;
        let reply = client.send_unverified(prepared.request).await?;
        replies.push((reply.status(), reply.into_body()));
    }
    assert_eq!(replies[0].0, StatusCode::NOT_FOUND);
    assert_eq!(replies[0], replies[1]);
    assert!(site.seen.all().is_empty());
    Ok(())
}

/// Elsewhere a refusal says what it is, in the form that fits.
#[tokio::test]
async fn where_nothing_is_concealed_a_refusal_says_why() -> Outcome {
    let site = Behind::start(|_| ()).await?;
    let client = bare()?;
    let navigate = |request: RequestBuilder| request.header("sec-fetch-mode", "navigate");
    let kind = |headers: &HeaderMap| {
        headers[CONTENT_TYPE]
            .to_str()
            .unwrap_or_default()
            .to_owned()
    };

    let (status, headers, content) = told(client.get(site.server.url("/echo"))).await?;
    assert_eq!(
        (status, kind(&headers)),
        (
            StatusCode::UNAUTHORIZED,
            "application/problem+json".to_owned()
        )
    );
    assert!(content.contains("proof_missing"), "{content}");

    let (status, headers, _) = told(navigate(client.get(site.server.url("/echo")))).await?;
    assert_eq!(
        (status, kind(&headers)),
        (
            StatusCode::UNAUTHORIZED,
            "text/html; charset=utf-8".to_owned()
        )
    );

    let form = navigate(client.post(site.server.url("/order"))).body("what=clay");
    let (status, _, content) = told(form).await?;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(content.contains("This form was not sent"), "{content}");

    let other = client
        .get(site.server.url("/echo"))
        .header("host", "elsewhere.example");
    assert_eq!(told(other).await?.0, StatusCode::MISDIRECTED_REQUEST);
    assert!(site.seen.all().is_empty());
    Ok(())
}

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, ETAG, LOCATION, RETRY_AFTER, SET_COOKIE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::config::{Access, Config, Mode};

const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz012345";

struct Before {
    config: Config,
    gateway: Gateway,
    page: Router,
}

impl Before {
    /// A gateway before nothing, whose paths are all public.
    fn new() -> Self {
        // Nobody listens at this port.
        let mut config = Config::for_upstream("http://127.0.0.1:1".parse().unwrap());
        config.access = Access::Public;
        let gateway = Gateway::build_in_memory(&config).unwrap();
        let page = Operator::new(&gateway, Token::new(TOKEN).unwrap()).router();
        Self {
            config,
            gateway,
            page,
        }
    }

    async fn asked(&self, request: Request<Body>) -> Response<Body> {
        self.page.clone().oneshot(request).await.unwrap()
    }

    async fn log_in(&self, token: &str) -> Response<Body> {
        let request = Request::post("/login")
            .header("sec-fetch-site", "same-origin")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(format!("token={token}")));
        self.asked(request.unwrap()).await
    }

    /// What is sent back as a cookie after a login.
    async fn cookie(&self) -> String {
        let response = self.log_in(TOKEN).await;
        let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    async fn get(&self, path: &str, cookie: &str) -> Response<Body> {
        let request = Request::get(path).header(COOKIE, cookie);
        self.asked(request.body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, cookie: &str, site: &str, content: &Value) -> StatusCode {
        let request = Request::post(path)
            .header(COOKIE, cookie)
            .header("sec-fetch-site", site)
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(content.to_string()));
        self.asked(request.unwrap()).await.status()
    }

    /// What everybody is told.
    async fn public(&self, path: &str) -> Response<Body> {
        let request = Request::get(path).header("host", "localhost:8080");
        let request = request.body(Body::empty()).unwrap();
        self.gateway.clone().oneshot(request).await.unwrap()
    }
}

#[tokio::test]
async fn without_the_token_there_is_nothing_but_a_form() {
    let desk = Before::new();
    for cookie in ["", "bulla_operator=", "bulla_operator=x; a=b", "a"] {
        let page = desk.get("/", cookie).await;
        assert_eq!(page.status(), StatusCode::SEE_OTHER, "{cookie}");
        assert_eq!(page.headers()[LOCATION], "/login");
        for path in [
            "/api/overview",
            "/api/events",
            "/api/scripts",
            "/api/scripts.csv",
            "/api/fields",
            "/api/fields.csv",
        ] {
            let status = desk.get(path, cookie).await.status();
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {cookie}");
        }
        for (path, content) in [
            ("/api/stop", json!({ "stopped": true })),
            ("/api/mode", json!({ "mode": "monitor" })),
            ("/api/sessions/end-all", json!({})),
            ("/api/sessions/end", json!({ "name": "x" })),
            ("/api/devices/lock", json!({ "name": "x" })),
        ] {
            let status = desk.post(path, cookie, "same-origin", &content).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {cookie}");
        }
    }
    let wrong = desk.log_in("abc").await;
    assert_eq!(wrong.status(), StatusCode::FORBIDDEN);
    assert!(!wrong.headers().contains_key(SET_COOKIE));
    assert!(!desk.gateway.desk().stop.is_on());
    assert_eq!(desk.gateway.config().mode, Mode::Enforce);
}

#[tokio::test]
async fn who_tries_too_often_is_told_when_to_come_again() {
    let desk = Before::new();
    for _ in 0..10 {
        assert_eq!(desk.log_in("abc").await.status(), StatusCode::FORBIDDEN);
    }
    let refused = desk.log_in(TOKEN).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()[RETRY_AFTER], "60");
    assert!(!refused.headers().contains_key(SET_COOKIE));
}

#[tokio::test]
async fn the_cookie_is_of_no_use_to_other_pages_and_to_script() {
    let desk = Before::new();
    let response = desk.log_in(TOKEN).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(response.headers()[LOCATION], "/");
    let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
    let (_, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(
        attributes,
        "Path=/; Max-Age=3600; HttpOnly; SameSite=Strict"
    );
    let cookie = cookie.split(';').next().unwrap();
    for site in ["cross-site", "same-site", "none"] {
        let stop = json!({ "stopped": true });
        let status = desk.post("/api/stop", cookie, site, &stop).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{site}");
        assert!(!desk.gateway.desk().stop.is_on());
        let status = desk.post("/logout", cookie, site, &json!({})).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{site}");
    }
    assert_eq!(desk.get("/", cookie).await.status(), StatusCode::OK);
    let out = desk
        .post("/logout", cookie, "same-origin", &json!({}))
        .await;
    assert_eq!(out, StatusCode::SEE_OTHER);
    assert_eq!(desk.get("/", cookie).await.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn the_page_is_held_to_itself_and_kept_by_nobody() {
    let desk = Before::new();
    let cookie = desk.cookie().await;
    for path in ["/", "/login", "/api/overview", "/style.css"] {
        let response = desk.get(path, &cookie).await;
        let fields = response.headers();
        let policy = fields["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(fields["x-frame-options"], "DENY");
        let caching = if path == "/style.css" {
            "no-cache"
        } else {
            "no-store"
        };
        assert_eq!(fields[CACHE_CONTROL], caching, "{path}");
    }
    let script = desk.get("/script.js", "").await;
    let request = Request::get("/script.js").header("if-none-match", &script.headers()[ETAG]);
    let again = desk.asked(request.body(Body::empty()).unwrap()).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn what_is_stopped_stays_so_through_a_reload() {
    let desk = Before::new();
    let cookie = desk.cookie().await;
    assert_eq!(desk.public("/").await.status(), StatusCode::BAD_GATEWAY);
    let set = async |stopped| {
        let content = json!({ "stopped": stopped });
        let status = desk
            .post("/api/stop", &cookie, "same-origin", &content)
            .await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    };
    set(true).await;
    desk.gateway.reload(&desk.config).unwrap();
    for path in [
        "/",
        "/account",
        "/.well-known/bulla/session",
        "/.well-known/bulla/gateway/sw.js",
    ] {
        let response = desk.public(path).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(response.headers()[RETRY_AFTER], "60");
    }
    assert!(desk.gateway.is_ready(), "it says so of upstreams");
    set(false).await;
    assert_eq!(desk.public("/").await.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn the_mode_is_the_files_again_when_that_is_read() {
    let desk = Before::new();
    let cookie = desk.cookie().await;
    let mode = async |mode: &str| {
        let content = json!({ "mode": mode });
        desk.post("/api/mode", &cookie, "same-origin", &content)
            .await
    };
    assert_eq!(mode("off").await, StatusCode::BAD_REQUEST);
    assert_eq!(mode("monitor").await, StatusCode::NO_CONTENT);
    assert_eq!(desk.gateway.config().mode, Mode::Monitor);
    assert!(desk.gateway.reload(&desk.config).unwrap().is_empty());
    assert_eq!(desk.gateway.config().mode, Mode::Enforce);
}

#[tokio::test]
async fn only_what_was_seen_can_be_ended() {
    let desk = Before::new();
    let cookie = desk.cookie().await;
    for path in ["/api/sessions/end", "/api/devices/lock"] {
        let content = json!({ "name": "AAAAAAAAAAAAAAAA" });
        let status = desk.post(path, &cookie, "same-origin", &content).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
    for content in [json!({}), json!("x"), json!({ "name": 5 })] {
        let status = desk
            .post("/api/sessions/end", &cookie, "same-origin", &content)
            .await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{content}");
    }
    let put = Request::builder().method(Method::PUT).uri("/api/stop");
    let put = put
        .header("sec-fetch-site", "same-origin")
        .header(COOKIE, &cookie);
    let put = desk.asked(put.body(Body::empty()).unwrap()).await;
    assert_eq!(put.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_overview_says_what_there_is() {
    let desk = Before::new();
    let cookie = desk.cookie().await;
    let response = desk.get("/api/overview", &cookie).await;
    let content = response.into_body().collect().await.unwrap().to_bytes();
    let said: Value = serde_json::from_slice(&content).unwrap();
    assert_eq!(said["mode"], "enforce");
    assert_eq!(said["stopped"], false);
    assert_eq!(said["access"], "public");
    assert_eq!(said["upstreams"][0]["url"], "http://127.0.0.1:1/");
    assert_eq!(said["pulse"]["step"], pulse::STEP);
    assert_eq!(said["sessions"], json!([]));
    assert_eq!(said["bound_cookies"], json!(desk.config.bound_cookies));
}

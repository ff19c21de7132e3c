//! What an application has forgotten, Bulla does not remember. All of these succeed, behind it as beside it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use bulla_client::{Client, Session as ClientSession};
use bulla_keys::SystemRandom;
use bulla_server::{Bulla, Identity, MemoryStore};
use bulla_tests::attack::Name::{Api, Asvs, Sess};
use bulla_tests::attack::With::Works;
use bulla_tests::attack::{Attack, Outcome, Shown, Twin};
use bulla_tests::serve::Server;
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

bulla_tests::attacks! {
    what_the_application_has_forgotten_stays_forgotten: [
        ASKS_FOR_ANOTHERS, SETS_WHAT_IS_NOT_HIS, CALLS_WHAT_IS_NOT_HIS, GUESSES_PASSWORDS, HAS_IT_FETCH, USES_AN_OLD_PATH,
    ],
}

const HIS: &str = "a session of his own";
const NOT_OURS: &str = "who may do what is the application's to know";

static ASKS_FOR_ANOTHERS: Attack = Attack {
    has: HIS,
    does: "asks for an account by its number, which is hers",
    twin: Twin::App,
    without: "he reads it",
    with: Works(NOT_OURS),
    names: &[Api(1)],
    shown: Shown::nothing(),
};

static SETS_WHAT_IS_NOT_HIS: Attack = Attack {
    has: HIS,
    does: "sends a member along that no form has: `admin`",
    twin: Twin::App,
    without: "it is set",
    with: Works(NOT_OURS),
    names: &[Api(3)],
    shown: Shown::nothing(),
};

static CALLS_WHAT_IS_NOT_HIS: Attack = Attack {
    has: HIS,
    does: "calls a function that is for administrators",
    twin: Twin::App,
    without: "it runs",
    with: Works(NOT_OURS),
    names: &[Api(5)],
    shown: Shown::nothing(),
};

static GUESSES_PASSWORDS: Attack = Attack {
    has: "a list of passwords, and sessions that anybody may open",
    does: "tries them",
    twin: Twin::App,
    without: "each is tried",
    with: Works("a session is not a login; limits count it by device and network"),
    names: &[Api(2), Api(6)],
    shown: Shown::nothing(),
};

static HAS_IT_FETCH: Attack = Attack {
    has: HIS,
    does: "has the application fetch an address of its own network",
    twin: Twin::App,
    without: "it does",
    with: Works("what the application does with what it reads is its own affair"),
    names: &[Api(7), Api(10)],
    shown: Shown::nothing(),
};

static USES_AN_OLD_PATH: Attack = Attack {
    has: "nothing",
    does: "uses an old path that the operator has left unsigned",
    twin: Twin::App,
    without: "it answers",
    with: Works("what is left out is left out; where nothing is said, a proof is due"),
    names: &[Api(8), Api(9), Sess(1), Asvs("4.1.4")],
    shown: Shown::nothing(),
};

/// What was set and done.
type Done = Arc<Mutex<Vec<Value>>>;

fn routes() -> Router {
    let note = |done: &Done, what: Value| {
        let mut all = done.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(what);
        Json(all.clone())
    };
    Router::new()
        .route(
            "/accounts/{number}",
            get(async |Path(number): Path<u32>| {
                let owner = if number == 1 { "ann" } else { "mallory" };
                Json(json!({ "owner": owner, "balance": 1000 }))
            }),
        )
        .route(
            "/profile",
            put(
                async move |State(done): State<Done>, Json(profile): Json<Value>| {
                    note(&done, profile)
                },
            ),
        )
        .route("/admin/close", post(async || Json("closed")))
        .route(
            "/login",
            post(async |Json(login): Json<Value>| {
                let is_right = login["password"] == "hunter7";
                if is_right {
                    StatusCode::OK
                } else {
                    StatusCode::FORBIDDEN
                }
            }),
        )
        .route(
            "/preview",
            post(async |Json(url): Json<String>| {
                let fetched = async {
                    let http = reqwest::Client::builder().no_proxy().build()?;
                    http.get(url).send().await?.text().await
                };
                fetched.await.map_err(|_| StatusCode::BAD_GATEWAY)
            }),
        )
        .route(
            "/v1/accounts",
            get(async || Json(json!(["ann", "mallory"]))),
        )
        .with_state(Done::default())
}

/// Either place, and who asks there.
enum Place {
    Bulla(ClientSession),
    Twin(Client),
}

async fn ask(
    server: &Server,
    place: &Place,
    method: &str,
    path: &str,
    body: &Value,
) -> Outcome<(StatusCode, Value)> {
    let content = match body {
        Value::Null => Bytes::new(),
        body => body.to_string().into(),
    };
    let request = Request::builder()
        .method(method)
        .header("content-type", "application/json");
    let (status, content) = match place {
        Place::Bulla(session) => {
            let reply = session.fetch(request.uri(path).body(content)?).await?;
            (reply.status(), reply.into_body().bytes().await?)
        }
        Place::Twin(client) => {
            let request = request.uri(server.url(path)).body(content)?;
            let reply = client.send_unverified(request).await?;
            (reply.status(), reply.into_body())
        }
    };
    let text = || Value::String(String::from_utf8_lossy(&content).into_owned());
    Ok((
        status,
        serde_json::from_slice(&content).unwrap_or_else(|_| text()),
    ))
}

async fn what_the_application_has_forgotten_stays_forgotten() -> Outcome {
    let inside = Server::start(Router::new().route("/", get(async || "of the inside"))).await?;
    let protected = Server::start_with(|origin| {
        let bulla = Bulla::builder()
            .origin(origin)
            .identity(Identity::generate(&SystemRandom).map_err(io::Error::other)?)
            .store(MemoryStore::new().map_err(io::Error::other)?)
            .unsigned("/v1/")
            .build()
            .map_err(io::Error::other)?;
        Ok(bulla.protect(routes()))
    })
    .await?;
    let twin = Server::start(routes()).await?;
    let session = Client::builder(protected.origin()).build()?.open().await?;
    let bare = Client::builder(twin.origin()).build()?;
    for (server, place) in [
        (&protected, Place::Bulla(session)),
        (&twin, Place::Twin(bare.clone())),
    ] {
        let show = |attack: &Attack, works: bool| match place {
            Place::Bulla(_) => attack.with(works),
            Place::Twin(_) => attack.without(works),
        };
        let ask = async |method, path, body| ask(server, &place, method, path, &body).await;
        let (_, account) = ask("GET", "/accounts/1", Value::Null).await?;
        show(&ASKS_FOR_ANOTHERS, account["owner"] == "ann");
        let profile = json!({ "name": "m", "admin": true });
        let (_, set) = ask("PUT", "/profile", profile).await?;
        show(&SETS_WHAT_IS_NOT_HIS, set[0]["admin"] == true);
        let (_, closed) = ask("POST", "/admin/close", Value::Null).await?;
        show(&CALLS_WHAT_IS_NOT_HIS, closed == "closed");
        let mut guessed = StatusCode::FORBIDDEN;
        for at in 0..8 {
            let guess = json!({ "password": format!("hunter{at}") });
            guessed = ask("POST", "/login", guess).await?.0;
        }
        show(&GUESSES_PASSWORDS, guessed == 200);
        let address = json!(inside.url("/"));
        let (_, preview) = ask("POST", "/preview", address).await?;
        show(&HAS_IT_FETCH, preview == "of the inside");
        let request = Request::get(server.url("/v1/accounts")).body(Bytes::new())?;
        let old = bare.send_unverified(request).await?;
        show(&USES_AN_OLD_PATH, old.status() == 200);
    }
    Ok(())
}

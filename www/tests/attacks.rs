//! The five attacks over real connections, the victim being a native client too: refused by the bank
//! behind Bulla, successful against its twin.
#![allow(clippy::unwrap_used)] // in tests a surprise may panic
#![allow(clippy::inconsistent_digit_grouping)] // amounts are in cents

use bulla_client::{Client, Code, Session};
use bulla_demo::Demo;
use bytes::Bytes;
use http::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const MALLORY: &str = "4004";

/// A customer of both banks, and his way to them.
struct Victim {
    origin: String,
    session: Session,
    http: reqwest::Client,
    token: String,
}

impl Victim {
    async fn log_in(demo: &Demo) -> Self {
        let origin = demo.origin().to_owned();
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("cookie", "demo-visitor=ada".parse().unwrap());
        let http = reqwest::Client::builder()
            .no_proxy()
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let client = Client::builder(&origin).http(http.clone()).build().unwrap();
        let session = client.open().await.unwrap();
        let mut victim = Self {
            origin,
            session,
            http,
            token: String::new(),
        };
        let ada = json!({ "user": "ada", "password": "clay-tablet" });
        let reply = victim.api(Method::POST, "/login", Some(&ada)).await;
        assert_eq!(reply.unwrap().status(), 204);
        assert!(victim.session.is_authenticated());
        let (status, reply) = victim.plain("/twin/login", Some(&ada)).await;
        assert_eq!(status, 200);
        reply["token"]
            .as_str()
            .unwrap()
            .clone_into(&mut victim.token);
        victim
    }

    /// A request to the protected bank.
    async fn api(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Bytes>, Code> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api{path}"))
            .header("content-type", "application/json")
            .body(body.map_or_else(String::new, Value::to_string))
            .unwrap();
        let reply = self.session.fetch(request).await;
        let (parts, body) = reply.map_err(|error| error.code)?.into_parts();
        let body = body.bytes().await.map_err(|error| error.code)?;
        Ok(Response::from_parts(parts, body))
    }

    /// A request without Bulla.
    async fn plain(&self, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("{}{path}", self.origin);
        let request = match body {
            Some(body) => self
                .http
                .post(url)
                .header("content-type", "application/json")
                .body(body.to_string()),
            None => self.http.get(url),
        };
        let request = request.header("authorization", format!("Bearer {}", self.token));
        let reply = request.send().await.unwrap();
        let status = reply.status().as_u16();
        let body = reply.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn balance(&self) -> [u64; 2] {
        let reply = self.api(Method::GET, "/account", None).await.unwrap();
        let protected: Value = serde_json::from_slice(reply.body()).unwrap();
        let (_, twin) = self.plain("/twin/account", None).await;
        [&protected, &twin].map(|statement| statement["balance"].as_u64().unwrap())
    }

    /// Pays at both banks; the outcomes.
    async fn pay(&self, to: &str, amount: u64) -> (Result<u16, Code>, u16) {
        let order = json!({ "to": to, "amount": amount, "note": "Coffee" });
        let protected = self.api(Method::POST, "/transfer", Some(&order)).await;
        let (twin, _) = self.plain("/twin/transfer", Some(&order)).await;
        (protected.map(|reply| reply.status().as_u16()), twin)
    }

    async fn arm(&self, attack: &str) {
        let (status, _) = self
            .plain("/thief/arm", Some(&json!({ "attack": attack })))
            .await;
        assert_eq!(status, 204);
    }

    /// Hands over what can be copied, and lets the thief act.
    async fn strike(&self, attack: &str) -> Value {
        let loot = self.session.dangerous_loot().unwrap();
        let spoils = json!({
            "session": loot.session.to_string(),
            "ticket": loot.ticket.to_field(),
            "nonce": loot.nonce,
            "token": self.token,
        });
        let strike = json!({ "attack": attack, "spoils": spoils });
        let (status, report) = self.plain("/thief/strike", Some(&strike)).await;
        assert_eq!(status, 200, "{report}");
        report
    }
}

async fn demo() -> Demo {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Demo::start(listener).unwrap()
}

/// What the protected bank's side of a report must be.
fn assert_refused(report: &Value, code: &str, told_by: &str) {
    let protected = &report["protected"];
    assert_eq!(protected["code"], code, "{report:#}");
    assert_eq!(protected["told_by"], told_by, "{report:#}");
    assert_eq!(protected["gained"], 0, "{report:#}");
}

/// What the twin's side of a report must be.
fn assert_robbed(report: &Value, gained: u64) {
    let twin = &report["twin"];
    assert_eq!(twin["answer"]["line"], "200 OK", "{report:#}");
    assert_eq!(twin["code"], Value::Null);
    assert_eq!(twin["gained"], gained, "{report:#}");
}

#[tokio::test]
async fn a_copied_token() {
    let demo = demo().await;
    let ada = Victim::log_in(&demo).await;
    let before = ada.balance().await;
    ada.arm("token").await;
    let report = ada.strike("token").await;
    assert_refused(&report, "proof_mismatch", "answer");
    assert_robbed(&report, 300_00);
    assert_ne!(report["device"], ada.session.client().device().to_string());
    let after = ada.balance().await;
    assert_eq!(after, [before[0], before[1] - 300_00]);
}

#[tokio::test]
async fn a_recorded_request_sent_again() {
    let demo = demo().await;
    let ada = Victim::log_in(&demo).await;
    let before = ada.balance().await;
    ada.arm("replay").await;
    assert_eq!(ada.pay(MALLORY, 12_00).await, (Ok(200), 200));
    let report = ada.strike("replay").await;
    // Even the refusal is sealed, so the thief cannot read it.
    assert_refused(&report, "replayed", "server");
    assert_eq!(report["protected"]["answer"]["line"], "200 OK");
    assert!(report["protected"]["answer"]["hex"].is_string());
    assert_robbed(&report, 12_00);
    let after = ada.balance().await;
    assert_eq!(after, [before[0] - 12_00, before[1] - 24_00]);
}

#[tokio::test]
async fn an_amount_changed_on_the_way() {
    let demo = demo().await;
    let ada = Victim::log_in(&demo).await;
    let before = ada.balance().await;
    ada.arm("change").await;
    assert_eq!(ada.pay("2002", 45_00).await, (Err(Code::SealBroken), 200));
    let report = ada.strike("change").await;
    assert_refused(&report, "seal_broken", "answer");
    assert_robbed(&report, 450_00);
    let after = ada.balance().await;
    assert_eq!(after, [before[0], before[1] - 450_00]);
}

#[tokio::test]
async fn a_request_held_back_and_sent_later() {
    let demo = demo().await;
    let ada = Victim::log_in(&demo).await;
    let before = ada.balance().await;
    ada.arm("keep").await;
    assert_eq!(
        ada.pay(MALLORY, 60_00).await,
        (Err(Code::ReplyUnsealed), 504)
    );
    assert_eq!(ada.balance().await, before);
    let report = ada.strike("keep").await;
    assert_refused(&report, "nonce_stale", "server");
    assert_robbed(&report, 60_00);
    // The session goes on: only the kept request is too old.
    let after = ada.balance().await;
    assert_eq!(after, [before[0], before[1] - 60_00]);
}

#[tokio::test]
async fn a_reply_handed_out_for_another_one() {
    let demo = demo().await;
    let ada = Victim::log_in(&demo).await;
    ada.arm("swap").await;
    let ask = async |name: &str| {
        let path = format!("/payees/{name}");
        let sealed = ada.api(Method::GET, &path, None).await;
        let (_, plain) = ada.plain(&format!("/twin{path}"), None).await;
        (sealed.map(Response::into_body), plain)
    };
    let (sealed, plain) = ask("Mallory%20Crane").await;
    assert!(sealed.is_ok());
    assert_eq!(plain["number"], MALLORY);
    let (sealed, plain) = ask("Ben%20Lindqvist").await;
    assert_eq!(sealed, Err(Code::ReplyMismatch));
    assert_eq!(plain["number"], MALLORY, "the twin's customer is misled");
    // And pays.
    let number = plain["number"].as_str().unwrap();
    let order = json!({ "to": number, "amount": 80_00 });
    assert_eq!(ada.plain("/twin/transfer", Some(&order)).await.0, 200);
    let report = ada.strike("swap").await;
    for (side, gained) in [("protected", 0), ("twin", 80_00)] {
        assert_eq!(report[side]["swapped"], true);
        assert_eq!(report[side]["gained"], gained);
    }
}

#[tokio::test]
async fn only_the_right_password_opens_either_bank() {
    let demo = demo().await;
    let ada = Victim::log_in(&demo).await;
    let wrong = json!({ "user": "ada", "password": "reed-stylus" });
    let reply = ada.api(Method::POST, "/login", Some(&wrong)).await;
    assert_eq!(reply.unwrap().status(), 403);
    assert_eq!(ada.plain("/twin/login", Some(&wrong)).await.0, 403);
    let stranger = ada.session.client().open().await.unwrap();
    let request = Request::get("/api/account").body(Bytes::new()).unwrap();
    let refused = stranger.fetch(request).await.unwrap_err();
    assert_eq!(refused.code, Code::LoginRequired);
}

//! What users see and do of their own sessions and devices, and nobody else does.

use bulla_client::{Code, Mode, ProofKind, Session};
use bulla_tests::attack::Name::{Api, Asvs, Sess};
use bulla_tests::attack::With::{Held, Refused};
use bulla_tests::attack::{Attack, Outcome, Shown, Twin, code, error_code};
use bulla_tests::members::{Members, call, refusal, who};
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

bulla_tests::attacks! {
    nobody_ends_or_sees_what_is_another_users: [ENDS_ANOTHERS],
    a_thief_sees_no_list_and_ends_nothing: [LISTS_HERS],
}

async fn list(session: &Session, of: &str) -> Outcome<Vec<Value>> {
    let listed = call(session, "GET", of, &Value::Null).await?;
    Ok(listed.as_array().ok_or("no list")?.clone())
}

fn text<'a>(listed: &'a Value, name: &str) -> Outcome<&'a str> {
    Ok(listed[name].as_str().ok_or("no text")?)
}

/// OWASP ASVS 5.0, 7.5.2: users see their sessions, and end any of them.
#[tokio::test]
async fn users_list_and_end_their_sessions() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let (phone, laptop) = (members.log_in("ann").await?, members.log_in("ann").await?);
    let bob = members.log_in("bob").await?;
    assert_eq!(list(&bob, "/api/sessions").await?.len(), 1);
    let listed = list(&phone, "/api/sessions").await?;
    let is_this: Vec<_> = listed.iter().map(|one| &one["is_this"]).collect();
    assert_eq!(listed.len(), 2);
    assert!(is_this.contains(&&json!(true)) && is_this.contains(&&json!(false)));
    for one in &listed {
        let device = text(one, "device")?;
        let its = if one["is_this"] == true {
            &phone
        } else {
            &laptop
        };
        assert_eq!(device, its.client().device().to_string());
        assert!(one["login_time"].as_u64() <= one["last_seen"].as_u64());
    }
    let other = listed.iter().find(|one| one["is_this"] == false);
    let path = format!("/api/sessions/{}", text(other.ok_or("none")?, "id")?);
    assert_eq!(
        call(&phone, "DELETE", &path, &Value::Null).await?,
        json!(true)
    );
    assert_eq!(refusal(&laptop).await, Some(Code::SessionRevoked));
    assert_eq!(list(&phone, "/api/sessions").await?.len(), 1);
    assert_eq!(who(&bob).await?["subject"], "bob");
    Ok(())
}

/// OWASP ASVS 5.0, 7.5.2: and their devices, by the names that they have given them.
#[tokio::test]
async fn users_list_name_and_give_up_their_devices() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let (phone, laptop) = (members.log_in("ann").await?, members.log_in("ann").await?);
    call(&phone, "PUT", "/api/device", &json!("Ann's phone")).await?;
    let refused = call(&phone, "PUT", "/api/device", &json!("a\u{202e}b")).await;
    assert_eq!(error_code(refused), Some(Code::Malformed));
    members.clock.advance(500);
    who(&phone).await?;
    let devices = list(&laptop, "/api/devices").await?;
    let named = devices.iter().find(|one| one["name"] == "Ann's phone");
    let named = named.ok_or("it has no name")?;
    assert_eq!(devices.len(), 2);
    assert_eq!(named["is_this"], json!(false));
    let times = ["first_seen", "last_seen"].map(|name| named[name].as_u64().unwrap_or(0));
    assert!(times[0] + 500 <= times[1]);
    assert_eq!(list(&phone, "/api/sessions").await?.len(), 2);
    let path = format!("/api/devices/{}", text(named, "device")?);
    let given_up = call(&laptop, "DELETE", &path, &Value::Null).await?;
    assert_eq!(given_up, json!(true));
    assert_eq!(refusal(&phone).await, Some(Code::SessionRevoked));
    assert_eq!(list(&laptop, "/api/devices").await?.len(), 1);
    Ok(())
}

static ENDS_ANOTHERS: Attack = Attack {
    has: "a session of his own, and the names of hers and of her device",
    does: "ends them",
    twin: Twin::App,
    without: "they end",
    with: Held("nothing of hers is found, listed or ended"),
    names: &[Api(1), Api(5), Asvs("7.5.2")],
    shown: Shown::nothing(),
};

/// Bob knows what everything of Ann's is called.
async fn nobody_ends_or_sees_what_is_another_users() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let ann = members.log_in("ann").await?;
    let bob = members.log_in("bob").await?;
    let session = members.bulla.sessions_of("ann".parse()?).await?[0].id;
    let device = ann.client().device();
    for path in [
        format!("/api/sessions/{session}"),
        format!("/api/devices/{device}"),
    ] {
        let ended = call(&bob, "DELETE", &path, &Value::Null).await?;
        assert_eq!(ended, json!(false), "{path}");
    }
    let seen = list(&bob, "/api/sessions").await?;
    assert!(seen.iter().all(|one| one["id"] != session.to_string()));
    let seen = list(&bob, "/api/devices").await?;
    assert!(seen.iter().all(|one| one["device"] != device.to_string()));
    let others = call(&bob, "PUT", "/api/password", &json!(true)).await?;
    assert_eq!(others, json!(0));
    ENDS_ANOTHERS.with(who(&ann).await?["subject"] == "ann");
    assert_eq!(members.bulla.devices_of("ann".parse()?).await?.len(), 1);

    // The twin ends whatever it is told to.
    let twin = Unprotected(&members);
    let (ann, bob) = (twin.log_in("ann").await?, twin.log_in("bob").await?);
    assert_eq!(twin.ask("GET", "/twin/sessions", &ann).await?.0, 200);
    let path = format!("/twin/sessions/{ann}");
    assert_eq!(twin.ask("DELETE", &path, &bob).await?.0, 200);
    ENDS_ANOTHERS.without(twin.ask("GET", "/twin/sessions", &ann).await?.0 == 401);
    Ok(())
}

static LISTS_HERS: Attack = Attack {
    has: "all of her session but two keys",
    does: "asks for the list of her sessions, and ends one, with his proof or by the ticket alone",
    twin: Twin::App,
    without: "her token lists and ends them",
    with: Refused(&[Code::ProofMismatch, Code::ProofMissing]),
    names: &[Sess(9), Api(2), Asvs("7.5.2")],
    shown: Shown::nothing(),
};

/// A thief has copied all that can be copied of a session.
async fn a_thief_sees_no_list_and_ends_nothing() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let ann = members.log_in("ann").await?;
    let thief = members.device()?.open().await?;
    let loot = ann.dangerous_loot()?;
    let id = members.bulla.sessions_of("ann".parse()?).await?[0].id;
    let end = format!("/api/sessions/{id}");
    for (method, path) in [("GET", "/api/sessions"), ("DELETE", end.as_str())] {
        let ask = || {
            Request::builder()
                .method(method)
                .uri(path)
                .body(Bytes::new())
        };
        // With a key and a proof of his own.
        let stolen = thief.dangerous_with_loot(loot.clone())?;
        for kind in [ProofKind::Device, ProofKind::Session] {
            let nonce = stolen.fresh_nonce()?;
            let prepared = stolen.prepare(ask()?, Mode::Sealed, kind, nonce)?;
            let reply = thief.client().send_unverified(prepared.request.clone());
            let opened = prepared.open_reply(reply.await?).await;
            let refused = error_code(opened);
            assert_eq!(refused, Some(Code::ProofMismatch), "{method} {kind:?}");
            LISTS_HERS.refused(refused);
        }
        // With the ticket alone, as one shows a bearer token.
        let mut bare = ask()?;
        *bare.uri_mut() = members.server.url(path).parse()?;
        let ticket = loot.ticket.to_field().parse()?;
        bare.headers_mut().insert("bulla-ticket", ticket);
        let reply = thief.client().send_unverified(bare).await?;
        assert_eq!(code(&reply), Some(Code::ProofMissing), "{method}");
        LISTS_HERS.refused(code(&reply));
    }
    // To keys of his own.
    let opening = thief.client().prepare_opening(Some(loot.ticket.clone()))?;
    let reply = thief
        .client()
        .send_unverified(opening.request.clone())
        .await?;
    assert_eq!(code(&reply), Some(Code::TicketInvalid));
    assert_eq!(who(&ann).await?["subject"], "ann");
    assert_eq!(list(&ann, "/api/sessions").await?.len(), 1);

    // Of the twin a copied token is worth all.
    let twin = Unprotected(&members);
    let (first, copied) = (twin.log_in("ann").await?, twin.log_in("ann").await?);
    let seen = twin.ask("GET", "/twin/sessions", &copied).await?;
    assert_eq!(seen, (200, "2".to_owned()));
    let path = format!("/twin/sessions/{first}");
    LISTS_HERS.without(twin.ask("DELETE", &path, &copied).await?.0 == 200);
    Ok(())
}

/// The unprotected one, which is asked with a bearer token.
struct Unprotected<'a>(&'a Members);

impl Unprotected<'_> {
    async fn log_in(&self, user: &str) -> Outcome<String> {
        let uri = self.0.server.url("/twin/login");
        let request = Request::post(uri).body(Bytes::from(user.to_owned()))?;
        let reply = self.0.device()?.send_unverified(request).await?;
        Ok(String::from_utf8(reply.into_body().to_vec())?)
    }

    async fn ask(&self, method: &str, path: &str, token: &str) -> Outcome<(u16, String)> {
        let request = Request::builder()
            .method(method)
            .uri(self.0.server.url(path))
            .header("authorization", format!("Bearer {token}"))
            .body(Bytes::new())?;
        let reply = self.0.device()?.send_unverified(request).await?;
        let status = reply.status().as_u16();
        Ok((status, String::from_utf8(reply.into_body().to_vec())?))
    }
}

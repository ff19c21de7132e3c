//! A server that is killed, and started again over the files that are left.

use bulla_client::{Client, Code, Mode, Prepared, ProofKind, Session};
use bulla_tests::attack::{Outcome, code, error_code, log_in, transfer};
use bulla_tests::restart::Process;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::Value;

fn start() -> Outcome<Process> {
    Process::start(env!("CARGO_BIN_EXE_restarted"))
}

async fn open(bank: &Process) -> Outcome<Session> {
    // No connection outlives the process that it led to.
    let http = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()?;
    let client = Client::builder(bank.origin()).http(http).build()?;
    Ok(client.open().await?)
}

async fn logged_in(bank: &Process) -> Outcome<Session> {
    let session = open(bank).await?;
    log_in(&session).await?;
    Ok(session)
}

async fn subject(session: &Session) -> Outcome<Option<String>> {
    let reply = session
        .fetch(Request::get("/api/me").body(Bytes::new())?)
        .await?;
    let me: Value = serde_json::from_slice(&reply.into_body().bytes().await?)?;
    Ok(me["subject"].as_str().map(str::to_owned))
}

fn prepare(session: &Session, mode: Mode) -> Outcome<Prepared> {
    let nonce = session.fresh_nonce()?;
    Ok(session.prepare(transfer(1)?, mode, ProofKind::Device, nonce)?)
}

/// The code with which a prepared request is refused.
async fn refusal(session: &Session, prepared: &Prepared) -> Outcome<Option<Code>> {
    let request = prepared.request.clone();
    let reply: Response<Bytes> = session.client().send_unverified(request).await?;
    Ok(match code(&reply) {
        Some(code) => Some(code),
        None => error_code(prepared.open_reply(reply).await),
    })
}

#[tokio::test]
async fn with_the_ring_kept_sessions_go_on() -> Outcome {
    let mut bank = start()?;
    let session = logged_in(&bank).await?;
    let id = session.id();
    for _ in 0..2 {
        assert_eq!(session.fetch(transfer(1)?).await?.status(), 200);
        bank.restart_without(&[])?;
    }
    assert_eq!(session.fetch(transfer(1)?).await?.status(), 200);
    assert_eq!(subject(&session).await?.as_deref(), Some("ann"));
    assert_eq!(session.id(), id, "nothing was opened anew");
    Ok(())
}

#[tokio::test]
async fn with_the_ring_lost_clients_open_anew_and_nobody_is_logged_in() -> Outcome {
    let mut bank = start()?;
    let (reader, writer) = (logged_in(&bank).await?, logged_in(&bank).await?);
    let before = reader.id();
    let kept = prepare(&reader, Mode::Sealed)?;
    bank.restart_without(&["ring.json"])?;

    // What is safe is asked again by itself, and the application sees that nobody is logged in.
    assert_eq!(subject(&reader).await?, None);
    assert!(reader.id() != before && !reader.is_authenticated());
    // What is not safe is not sent again, but the next session is there.
    let refused = error_code(writer.fetch(transfer(1)?).await);
    assert_eq!(refused, Some(Code::TicketInvalid));
    assert!(!writer.is_authenticated());
    let refused = error_code(writer.fetch(transfer(1)?).await);
    assert_eq!(refused, Some(Code::LoginRequired));
    log_in(&writer).await?;
    assert_eq!(writer.fetch(transfer(1)?).await?.status(), 200);
    // Nothing from before means anything.
    assert_eq!(refusal(&reader, &kept).await?, Some(Code::TicketInvalid));
    Ok(())
}

#[tokio::test]
async fn with_the_identity_lost_the_client_refuses() -> Outcome {
    let mut bank = start()?;
    let session = logged_in(&bank).await?;
    bank.restart_without(&["identity.pem", "ring.json"])?;
    // Also where the request itself is refused and not sent again.
    let error = session.fetch(transfer(1)?).await.err();
    let error = error.ok_or("it was trusted")?;
    assert_eq!(error.code, Code::IdentityChanged);
    let error = subject(&session).await.err().ok_or("it was trusted")?;
    let error = error.downcast::<bulla_client::Error>()?;
    assert_eq!(error.code, Code::IdentityChanged);
    Ok(())
}

#[tokio::test]
async fn no_older_proof_gets_through() -> Outcome {
    let mut bank = start()?;
    let session = logged_in(&bank).await?;
    for mode in [Mode::Sealed, Mode::SealedAtPath, Mode::Signed] {
        let (used, unused) = (prepare(&session, mode)?, prepare(&session, mode)?);
        assert_eq!(refusal(&session, &used).await?, None);
        assert_eq!(refusal(&session, &used).await?, Some(Code::Replayed));
        bank.restart_without(&[])?;
        // What the process knew of used proofs is gone, and so are the nonces that it handed out.
        for old in [&used, &unused] {
            assert_eq!(
                refusal(&session, old).await?,
                Some(Code::NonceStale),
                "{mode:?}"
            );
        }
        assert_eq!(session.fetch(transfer(1)?).await?.status(), 200);
    }
    Ok(())
}

#[tokio::test]
async fn no_ended_session_comes_back() -> Outcome {
    let mut bank = start()?;
    let (ended, everywhere) = (logged_in(&bank).await?, logged_in(&bank).await?);
    let loot = [ended.dangerous_loot()?, everywhere.dangerous_loot()?];
    let clients = [ended.client().clone(), everywhere.client().clone()];
    ended.end().await?;
    let request = Request::post("/api/everywhere").body(Bytes::new())?;
    everywhere.fetch(request).await?;

    let token = |method: &str, path: &str| {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", bank.origin()))
            .header("authorization", "Bearer ann")
            .body(Bytes::new())
    };
    let (ask, leave) = (token("GET", "/twin/me")?, token("POST", "/twin/logout")?);
    let twin = &clients[0];
    assert_eq!(twin.send_unverified(ask.clone()).await?.status(), 200);
    twin.send_unverified(leave).await?;
    assert_eq!(twin.send_unverified(ask.clone()).await?.status(), 401);

    for restarted in [false, true] {
        if restarted {
            bank.restart_without(&[])?;
        }
        for (client, loot) in clients.iter().zip(&loot) {
            // The device itself, with its own key and ticket: on a fresh nonce, and to fresh keys.
            let session = client.open().await?;
            let carried = client.prepare_opening(Some(loot.ticket.clone()))?;
            let answer = client.send_unverified(carried.request.clone()).await?;
            assert_eq!(code(&answer), Some(Code::SessionRevoked), "{restarted}");
            let mut loot = loot.clone();
            loot.nonce = session.dangerous_loot()?.nonce;
            let revived = session.dangerous_with_loot(loot)?;
            let proof = prepare(&revived, Mode::Sealed)?;
            let refused = refusal(&revived, &proof).await?;
            assert_eq!(refused, Some(Code::SessionRevoked), "{restarted}");
        }
    }
    // The twin has forgotten that Ann had logged out.
    assert_eq!(twin.send_unverified(ask).await?.status(), 200);
    Ok(())
}

/// A login hands out a ticket that is good for one opening. The second one stays refused when what was
/// remembered of proofs is gone.
#[tokio::test]
async fn no_login_is_carried_over_twice() -> Outcome {
    let mut bank = start()?;
    let session = open(&bank).await?;
    let request = bulla_tests::attack::post("/api/login", &serde_json::json!({ "user": "ann" }))?;
    let nonce = session.fresh_nonce()?;
    let login = session.prepare(request, Mode::Sealed, ProofKind::Device, nonce)?;
    let client = session.client();
    let reply = client.send_unverified(login.request.clone()).await?;
    let reply = login.open_reply(reply).await?;
    let ticket = reply.headers()["bulla-carry-over"].to_str()?;
    let ticket = bulla_client::Ticket::from_field(ticket)?;
    let carry_over = async || -> Outcome<Option<Code>> {
        let opening = client.prepare_opening(Some(ticket.clone()))?;
        let answer = client.send_unverified(opening.request.clone()).await?;
        let opened = opening.answer(&answer);
        if let Ok(session) = &opened {
            assert_eq!(subject(session).await?.as_deref(), Some("ann"));
            session.end().await?;
        }
        Ok(error_code(opened))
    };
    assert_eq!(carry_over().await?, None);
    for _ in 0..2 {
        assert_eq!(carry_over().await?, Some(Code::SessionRevoked));
        bank.restart_without(&[])?;
    }
    Ok(())
}

//! How long sessions live, by a clock that is moved.

use bulla_client::Code;
use bulla_tests::attack::Name::{Api, Asvs, Sess};
use bulla_tests::attack::With::Refused;
use bulla_tests::attack::{Attack, Outcome, Shown, Twin, error_code};
use bulla_tests::members::{Members, call, log_in, refusal, refusal_of, ticks, until_cut, who};
use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

bulla_tests::attacks! {
    an_idle_session_ends: [IDLE_SESSION],
    a_busy_session_ends_too: [BUSY_SESSION],
    what_is_at_stake_wants_a_login_of_late: [OLD_LOGIN],
}

static IDLE_SESSION: Attack = Attack {
    has: "her device, left alone, and all of her session with its keys",
    does: "goes on after a quarter of an hour",
    twin: Twin::App,
    without: "her token goes on",
    with: Refused(&[Code::TicketExpired]),
    names: &[Sess(7), Asvs("7.3.1")],
    shown: Shown::nothing(),
};

/// OWASP ASVS 5.0, 7.3.1: a session that nobody uses ends.
async fn an_idle_session_ends() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let session = members.log_in("ann").await?;
    for _ in 0..3 {
        // Whoever uses it goes on, however long.
        members.clock.advance(800);
        assert_eq!(who(&session).await?["subject"], "ann");
    }
    let (client, loot) = (session.client().clone(), session.dangerous_loot()?);
    members.clock.advance(901);
    assert_eq!(refusal(&session).await, Some(Code::TicketExpired));
    IDLE_SESSION.refused(refusal_of(&client, loot).await?);
    assert_eq!(who(&session).await?["subject"], Value::Null);
    let listed = members.bulla.sessions_of("ann".parse()?).await?;
    assert!(listed.is_empty());
    IDLE_SESSION.without(twin_goes_on(&members, 901).await?);
    Ok(())
}

/// Whether a token of the twin is taken after so many seconds.
async fn twin_goes_on(members: &Members, seconds: i64) -> Outcome<bool> {
    let client = members.device()?;
    let login = Request::post(members.server.url("/twin/login"));
    let token = client
        .send_unverified(login.body(Bytes::from("ann"))?)
        .await?;
    let token = format!("Bearer {}", std::str::from_utf8(token.body())?);
    members.clock.advance(seconds);
    let list = Request::get(members.server.url("/twin/sessions"));
    let list = list.header("authorization", token).body(Bytes::new())?;
    Ok(client.send_unverified(list).await?.status() == 200)
}

static BUSY_SESSION: Attack = Attack {
    has: "the use of her session, day and night",
    does: "keeps it busy",
    twin: Twin::App,
    without: "her token goes on",
    with: Refused(&[Code::TicketExpired]),
    names: &[Sess(7), Asvs("7.3.2")],
    shown: Shown::nothing(),
};

/// OWASP ASVS 5.0, 7.3.2: a session ends, however much it is used, and its open streams with it.
async fn a_busy_session_ends_too() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let session = members.log_in("ann").await?;
    let stream = ticks(&session).await?;
    let mut passed = 0;
    while passed < 43_000 {
        members.clock.advance(500);
        passed += 500;
        assert_eq!(who(&session).await?["subject"], "ann", "{passed}");
    }
    members.clock.advance(201);
    BUSY_SESSION.refused(refusal(&session).await);
    until_cut(stream).await?;
    BUSY_SESSION.without(twin_goes_on(&members, 43_201).await?);
    Ok(())
}

static OLD_LOGIN: Attack = Attack {
    has: "her session, ten minutes after she has logged in",
    does: "does what is at stake",
    twin: Twin::App,
    without: "her token does it at any time",
    with: Refused(&[Code::InsufficientUserAuthentication]),
    names: &[Asvs("7.5.3"), Asvs("7.5.1"), Api(6)],
    shown: Shown::nothing(),
};

/// OWASP ASVS 5.0, 7.5.3: what is at stake wants a login of late.
async fn what_is_at_stake_wants_a_login_of_late() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let session = members.log_in("ann").await?;
    let pay = async || call(&session, "POST", "/api/pay", &Value::Null).await;
    assert_eq!(pay().await?, json!("paid"));
    members.clock.advance(601);
    OLD_LOGIN.refused(error_code(pay().await));
    // All else goes on.
    assert_eq!(who(&session).await?["subject"], "ann");
    log_in(&session, "ann").await?;
    assert_eq!(pay().await?, json!("paid"));
    OLD_LOGIN.without(twin_goes_on(&members, 601).await?);
    Ok(())
}

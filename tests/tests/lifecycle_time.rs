//! How long sessions live, by a clock that is moved.

use bulla_client::Code;
use bulla_tests::attack::{Outcome, error_code};
use bulla_tests::members::{Members, call, log_in, refusal, refusal_of, ticks, until_cut, who};
use serde_json::{Value, json};

/// OWASP ASVS 5.0, 7.3.1: a session that nobody uses ends.
#[tokio::test]
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
    let again = refusal_of(&client, loot).await?;
    assert_eq!(again, Some(Code::TicketExpired));
    assert_eq!(who(&session).await?["subject"], Value::Null);
    let listed = members.bulla.sessions_of("ann".parse()?).await?;
    assert!(listed.is_empty());
    Ok(())
}

/// OWASP ASVS 5.0, 7.3.2: a session ends, however much it is used, and its open streams with it.
#[tokio::test]
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
    assert_eq!(refusal(&session).await, Some(Code::TicketExpired));
    until_cut(stream).await
}

/// OWASP ASVS 5.0, 7.5.3: what is at stake wants a login of late.
#[tokio::test]
async fn what_is_at_stake_wants_a_login_of_late() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let session = members.log_in("ann").await?;
    let pay = async || call(&session, "POST", "/api/pay", &Value::Null).await;
    assert_eq!(pay().await?, json!("paid"));
    members.clock.advance(601);
    let refused = error_code(pay().await);
    assert_eq!(refused, Some(Code::InsufficientUserAuthentication));
    // All else goes on.
    assert_eq!(who(&session).await?["subject"], "ann");
    log_in(&session, "ann").await?;
    assert_eq!(pay().await?, json!("paid"));
    Ok(())
}

//! What a login makes of a session.

use bulla_client::Code;
use bulla_tests::attack::Outcome;
use bulla_tests::members::{Members, log_in, refusal_of, who};

/// OWASP ASVS 5.0, 7.2.4: at every login, the first and any other, the session gets another id, another ticket and other
/// keys, and those from before are worth nothing, on the very device that they were made for.
#[tokio::test]
async fn every_login_makes_another_session_and_ends_the_one_before() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let session = members.device()?.open().await?;
    let mut before = vec![session.dangerous_loot()?];
    for user in ["ann", "ann", "bob", "ann"] {
        log_in(&session, user).await?;
        assert_eq!(who(&session).await?["subject"], user);
        let loot = session.dangerous_loot()?;
        for earlier in &before {
            assert_ne!(earlier.session, loot.session);
            assert_ne!(earlier.ticket, loot.ticket);
            assert_ne!(earlier.request_key, loot.request_key);
            assert_ne!(earlier.response_key, loot.response_key);
            let refused = refusal_of(session.client(), earlier.clone()).await?;
            assert_eq!(refused, Some(Code::SessionRevoked), "{user}");
        }
        // It is the only one that he has.
        let listed = members.bulla.sessions_of(user.parse()?).await?;
        assert_eq!(listed.len(), 1, "{user}");
        before.push(loot);
    }
    assert!(members.bulla.sessions_of("bob".parse()?).await?.is_empty());
    Ok(())
}

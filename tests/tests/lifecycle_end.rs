//! How sessions end before their time.

use bulla_client::Code;
use bulla_server::{RedisStore, Revocation, WrappingKey};
use bulla_tests::attack::Outcome;
use bulla_tests::members::{Members, call, log_in, refusal, refusal_of, ticks, until_cut, who};
use bulla_tests::redis::Redis;
use serde_json::{Value, json};

/// A node of several that share a Redis server.
async fn node(redis: &Redis) -> Outcome<Members> {
    let store = RedisStore::connect(redis.url()).await?;
    let ring = store.ring(WrappingKey::new(&[7; 32])).await?;
    let registry = store.registry();
    let shared = |builder: bulla_server::Builder| builder.ring(ring).store(store);
    Ok(Members::start(|builder| shared(builder).registry(registry)).await?)
}

/// OWASP ASVS 5.0, 7.4.1: after a logout nothing of the session is good for anything, and its open streams are cut.
#[tokio::test]
async fn a_logout_ends_it_at_once() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    for by_client in [false, true] {
        let session = members.log_in("ann").await?;
        let (client, loot) = (session.client().clone(), session.dangerous_loot()?);
        let stream = ticks(&session).await?;
        if by_client {
            session.end().await?;
        } else {
            call(&session, "POST", "/api/logout", &Value::Null).await?;
        }
        until_cut(stream).await?;
        let refused = refusal_of(&client, loot).await?;
        assert_eq!(refused, Some(Code::SessionRevoked));
        let left = members.bulla.sessions_of("ann".parse()?).await?;
        assert!(left.is_empty());
    }
    Ok(())
}

/// OWASP ASVS 5.0, 7.4.1, at every node: what one has ended has ended at the other, which lists it no more.
#[tokio::test]
async fn an_end_is_one_at_every_node() -> Outcome {
    let redis = Redis::start()?;
    let (here, there) = (node(&redis).await?, node(&redis).await?);
    let (one, other) = (here.log_in("ann").await?, there.log_in("ann").await?);
    let stream = ticks(&other).await?;
    let listed = call(&one, "GET", "/api/sessions", &Value::Null).await?;
    let listed = listed.as_array().ok_or("no list")?;
    assert_eq!(listed.len(), 2);
    for session in listed.iter().filter(|session| session["is_this"] == false) {
        let path = format!("/api/sessions/{}", session["id"].as_str().ok_or("no id")?);
        let ended = call(&one, "DELETE", &path, &Value::Null).await?;
        assert_eq!(ended, json!(true));
    }
    until_cut(stream).await?;
    assert_eq!(refusal(&other).await, Some(Code::SessionRevoked));
    assert_eq!(who(&one).await?["subject"], "ann");
    let listed = there.bulla.sessions_of("ann".parse()?).await?;
    assert_eq!(listed.len(), 1);
    Ok(())
}

/// OWASP ASVS 5.0, 7.4.2: with an account all of its sessions end, and those of others go on.
#[tokio::test]
async fn a_disabled_account_has_no_sessions() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let (phone, laptop) = (members.log_in("ann").await?, members.log_in("ann").await?);
    let bob = members.log_in("bob").await?;
    let stream = ticks(&phone).await?;
    let now = who(&bob).await?["login"].as_u64().ok_or("no login")?;
    let all = Revocation::Subject("ann".parse()?, u32::try_from(now + 1)?);
    members.bulla.revoke(all).await?;
    until_cut(stream).await?;
    for session in [&phone, &laptop] {
        assert_eq!(refusal(session).await, Some(Code::SessionRevoked));
    }
    assert_eq!(who(&bob).await?["subject"], "bob");
    assert!(members.bulla.sessions_of("ann".parse()?).await?.is_empty());
    // Devices are remembered until they are forgotten.
    assert_eq!(members.bulla.devices_of("ann".parse()?).await?.len(), 2);
    members.bulla.end_and_forget("ann".parse()?).await?;
    assert!(members.bulla.devices_of("ann".parse()?).await?.is_empty());
    Ok(())
}

/// OWASP ASVS 5.0, 7.4.3: whoever changes a factor may have his other sessions ended.
#[tokio::test]
async fn with_a_new_password_the_others_may_end() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let here = members.log_in("ann").await?;
    let (phone, thief) = (members.log_in("ann").await?, members.log_in("ann").await?);
    let bob = members.log_in("bob").await?;
    let stream = ticks(&thief).await?;
    for (end_others, ended) in [(false, 0), (true, 2)] {
        let change = json!(end_others);
        let count = call(&here, "PUT", "/api/password", &change).await?;
        assert_eq!(count, json!(ended));
        assert_eq!(who(&here).await?["subject"], "ann");
    }
    until_cut(stream).await?;
    for session in [&phone, &thief] {
        assert_eq!(refusal(session).await, Some(Code::SessionRevoked));
    }
    assert_eq!(who(&bob).await?["subject"], "bob");
    Ok(())
}

/// The same, for one that nobody has used for so long that no list has it, and that somebody still listens to.
#[tokio::test]
async fn what_is_only_listened_to_ends_with_the_others() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let left = members.log_in("ann").await?;
    let stream = ticks(&left).await?;
    members.clock.advance(1000);
    let here = members.log_in("ann").await?;
    assert_eq!(members.bulla.sessions_of("ann".parse()?).await?.len(), 1);
    let count = call(&here, "PUT", "/api/password", &json!(true)).await?;
    assert_eq!(count, json!(1));
    until_cut(stream).await
}

/// OWASP ASVS 5.0, 7.4.5: administrators end one session of a user, or all.
#[tokio::test]
async fn administrators_end_one_or_all() -> Outcome {
    let members = Members::start(|builder| builder).await?;
    let ann = "ann".parse()?;
    let (phone, laptop) = (members.log_in("ann").await?, members.log_in("ann").await?);
    let listed = members.bulla.sessions_of(ann).await?;
    let device = phone.client().device();
    let one = listed.iter().find(|listed| listed.device == device);
    let one = Revocation::Session(one.ok_or("it is not listed")?.id);
    members.bulla.revoke(one).await?;
    assert_eq!(refusal(&phone).await, Some(Code::SessionRevoked));
    assert_eq!(who(&laptop).await?["subject"], "ann");
    assert_eq!(members.bulla.sessions_of(ann).await?.len(), 1);

    log_in(&phone, "ann").await?;
    assert_eq!(members.bulla.sessions_of(ann).await?.len(), 2);
    members.bulla.end_all().await?;
    for session in [&phone, &laptop] {
        // All that was sealed before is as if nobody had sealed it.
        assert_eq!(refusal(session).await, Some(Code::TicketInvalid));
    }
    assert!(members.bulla.sessions_of(ann).await?.is_empty());
    Ok(())
}

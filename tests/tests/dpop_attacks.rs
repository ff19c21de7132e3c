//! What a thief has of a client of OAuth, and what it is worth; and what ends it.

use std::sync::Arc;
use std::time::Duration;

use bulla_keys::SystemRandom;
use bulla_server::dpop::{Freshness, SigningKey, TokenIssuer};
use bulla_server::{
    Builder, Clock as _, Code, EventKind, RedisStore, Revocation, Rule, Subject, WrappingKey,
};
use bulla_tests::attack::Name::{Api, Asvs, Dpop, Sess};
use bulla_tests::attack::With::{Refused, Works};
use bulla_tests::attack::{Attack, Outcome, Shown, Twin};
use bulla_tests::dpop::{AUDIENCE, ISSUER, Resource, TWIN};
use bulla_tests::redis::Redis;

bulla_tests::attacks! {
    what_a_dpop_proof_covers_and_what_it_does_not: [PROOF_WITHOUT_NONCE, OTHER_QUERY],
    a_stolen_token_is_worth_nothing_without_its_key: [TOKEN_AS_BEARER, TOKEN_WITH_HIS_KEY],
    a_request_that_was_overheard_cannot_be_made_again: [PROOF_AGAIN, PROOF_ELSEWHERE],
    nor_at_another_node_of_the_same_store_and_ring: [PROOF_AT_ANOTHER_NODE],
    a_token_ends_with_its_device_its_subject_or_itself: [TOKEN_AFTER_LOGOUT],
}

fn device() -> Outcome<SigningKey> {
    Ok(SigningKey::generate(&SystemRandom)?)
}

static TOKEN_AS_BEARER: Attack = Attack {
    has: "an access token that is bound to her key",
    does: "shows it as a bearer token",
    twin: Twin::App,
    without: "he is her",
    with: Refused(&[Code::TicketInvalid]),
    names: &[Dpop(8), Api(2), Sess(10), Asvs("10.3.5")],
    shown: Shown::nothing(),
};

static TOKEN_WITH_HIS_KEY: Attack = Attack {
    has: "an access token that is bound to her key",
    does: "shows it with a proof of his own",
    twin: Twin::App,
    without: "he is her",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Dpop(8), Api(2), Sess(10), Asvs("10.3.5")],
    shown: Shown::nothing(),
};

async fn a_stolen_token_is_worth_nothing_without_its_key() -> Outcome {
    let resource = Resource::start(Freshness::Nonce).await?;
    let (victim, thief) = (device()?, device()?);
    let stolen = resource.mint("ann", &victim)?.token;
    let nonce = resource.nonce().await?;

    // The twin gives it to whoever asks.
    let mut bearer = resource.attempt(&thief, &stolen, None)?;
    (bearer.scheme, bearer.path, bearer.proofs) = ("Bearer", TWIN.to_owned(), Some(Vec::new()));
    let served = resource.send(&bearer).await?;
    let is_her = (served.status, &*served.body) == (200, r#"{"subject":"ann"}"#);
    TOKEN_AS_BEARER.without(is_her);
    TOKEN_WITH_HIS_KEY.without(is_her);
    assert_eq!(resource.refusals(), []);

    bearer.path = resource.attempt(&thief, &stolen, None)?.path;
    let refused = resource.send(&bearer).await?;
    assert_eq!(
        (refused.status, refused.error()),
        (401, Some("invalid_token"))
    );
    TOKEN_AS_BEARER.refused(resource.refusals().pop());

    let own_key = resource.attempt(&thief, &stolen, Some(&nonce))?;
    let refused = resource.send(&own_key).await?;
    assert_eq!(
        (refused.status, refused.error()),
        (401, Some("invalid_dpop_proof"))
    );
    // It tells whose token was stolen, and by which key it was shown.
    let names = resource.bulla.pseudonyms();
    let seen = resource.taken();
    let kinds: Vec<_> = seen.iter().map(|event| event.kind).collect();
    let copied = Rule::ForeignTicket;
    assert!(
        matches!(kinds[..], [EventKind::ForeignTicket, EventKind::Rule(rule), EventKind::Refused(error)]
            if rule == copied && error.code == Code::ProofMismatch),
        "{kinds:?}"
    );
    TOKEN_WITH_HIS_KEY.refused(kinds[2].code());
    for event in seen {
        assert_eq!(event.subject, Some(names.subject("ann")));
        assert_eq!(event.device, Some(names.device(thief.thumbprint())));
    }
    Ok(())
}

static PROOF_AGAIN: Attack = Attack {
    has: "a DPoP request, overheard",
    does: "makes it again, byte for byte",
    twin: Twin::App,
    without: "it is served as often as it is made",
    with: Refused(&[Code::Replayed]),
    names: &[Dpop(1), Api(2), Sess(10)],
    shown: Shown::nothing(),
};

static PROOF_ELSEWHERE: Attack = Attack {
    has: "a DPoP request, overheard",
    does: "sends it to another path",
    twin: Twin::App,
    without: "the token is good everywhere",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Dpop(1), Dpop(7), Sess(10)],
    shown: Shown::nothing(),
};

async fn a_request_that_was_overheard_cannot_be_made_again() -> Outcome {
    let resource = Resource::start(Freshness::Nonce).await?;
    let victim = device()?;
    let token = resource.mint("ann", &victim)?.token;
    let nonce = resource.nonce().await?;
    let mut overheard = resource.attempt(&victim, &token, Some(&nonce))?;
    // Byte for byte.
    overheard.proofs = Some(vec![overheard.proof()?]);
    assert_eq!(resource.send(&overheard).await?.status, 200);
    for seconds in [0, 30, 60] {
        resource.clock.advance(seconds);
        assert_eq!(resource.send(&overheard).await?.status, 401);
    }
    PROOF_AGAIN.refused(resource.refusals().first().copied());

    let mut elsewhere = resource.attempt(&victim, &token, Some(&resource.nonce().await?))?;
    elsewhere.proofs = Some(vec![elsewhere.proof()?]);
    "/logout".clone_into(&mut elsewhere.path);
    let refused = resource.send(&elsewhere).await?;
    assert_eq!(refused.error(), Some("invalid_dpop_proof"));
    PROOF_ELSEWHERE.refused(resource.refusals().pop());

    // The twin serves the same request again and again.
    let mut bearer = resource.attempt(&victim, &token, None)?;
    (bearer.scheme, bearer.path, bearer.proofs) = ("Bearer", TWIN.to_owned(), Some(Vec::new()));
    for _ in 0..2 {
        PROOF_AGAIN.without(resource.send(&bearer).await?.status == 200);
    }
    bearer.path = format!("{TWIN}?elsewhere");
    PROOF_ELSEWHERE.without(resource.send(&bearer).await?.status == 200);
    Ok(())
}

static PROOF_AT_ANOTHER_NODE: Attack = Attack {
    has: "a DPoP request, overheard",
    does: "makes it again at another node",
    twin: Twin::Weakened("nodes that share no store"),
    without: "each takes it once",
    with: Refused(&[Code::Replayed]),
    names: &[Dpop(1), Api(2)],
    shown: Shown::nothing(),
};

/// Who takes the nonces that another has handed out.
async fn nor_at_another_node_of_the_same_store_and_ring() -> Outcome {
    let redis = Redis::start()?;
    let issuer = Arc::new(TokenIssuer::new(ISSUER, device()?));
    let node = async || -> Outcome<Resource> {
        let store = RedisStore::connect(redis.url()).await?;
        let ring = store.ring(WrappingKey::new(&[7; 32])).await?;
        let configure = |builder: Builder| builder.ring(ring).store(store);
        let (origin, freshness) = (Some(AUDIENCE), Freshness::Nonce);
        Ok(Resource::start_with(origin, freshness, Arc::clone(&issuer), configure).await?)
    };
    let (one, other) = (node().await?, node().await?);
    let victim = device()?;
    let minted = one.mint("ann", &victim)?;
    let without = one.attempt(&victim, &minted.token, None)?;
    let handed_out = one.send(&without).await?.nonce;
    let nonce = handed_out.ok_or("no nonce was handed out")?;
    let mut overheard = other.attempt(&victim, &minted.token, Some(&nonce))?;
    overheard.proofs = Some(vec![overheard.proof()?]);
    assert_eq!(other.send(&overheard).await?.status, 200);
    for node in [&one, &other] {
        node.taken();
        assert_eq!(node.send(&overheard).await?.status, 401);
        PROOF_AT_ANOTHER_NODE.refused(node.refusals().pop());
    }
    // Nodes that share nothing take it once each.
    for _ in 0..2 {
        let window = Freshness::Window(Duration::from_mins(1));
        let issuer = Arc::clone(&issuer);
        let alone = Resource::start_with(Some(AUDIENCE), window, issuer, |builder| builder);
        PROOF_AT_ANOTHER_NODE.without(alone.await?.send(&overheard).await?.status == 200);
    }

    let all = Revocation::Subject("ann".parse()?, u32::MAX);
    one.bulla.revoke(all).await?;
    let refused = other.attempt(&victim, &minted.token, Some(&one.nonce().await?))?;
    assert_eq!(other.send(&refused).await?.status, 401);
    Ok(())
}

static TOKEN_AFTER_LOGOUT: Attack = Attack {
    has: "an access token and its key, after a logout",
    does: "goes on",
    twin: Twin::App,
    without: "he does, until it expires",
    with: Refused(&[Code::SessionRevoked]),
    names: &[Sess(6), Sess(10), Asvs("7.4.1"), Asvs("7.4.5")],
    shown: Shown::nothing(),
};

async fn a_token_ends_with_its_device_its_subject_or_itself() -> Outcome {
    let resource = Resource::start(Freshness::Nonce).await?;
    let bulla = &resource.bulla;
    let (phone, laptop) = (device()?, device()?);
    let longest = "long@".repeat(20);
    let is_served = async |device: &SigningKey, token: &str| {
        let nonce = resource.nonce().await?;
        let attempt = resource.attempt(device, token, Some(&nonce))?;
        let answer = resource.send(&attempt).await?;
        match answer.error() {
            None => Ok(true),
            Some("invalid_token") => Ok(false),
            Some(other) => Err(std::io::Error::other(other.to_owned())),
        }
    };

    // One token, and no other of the same device.
    let one = resource.mint("ann", &phone)?;
    let other = resource.mint("ann", &phone)?;
    assert!(is_served(&phone, &one.token).await? && is_served(&phone, &other.token).await?);
    bulla.revoke(Revocation::Session(one.id)).await?;
    assert!(!is_served(&phone, &one.token).await? && is_served(&phone, &other.token).await?);
    assert_eq!(resource.refusals(), []);

    // By its holder.
    let mut logout = resource.attempt(&phone, &other.token, Some(&resource.nonce().await?))?;
    let htu = logout.claims["htu"]
        .as_str()
        .map(|htu| htu.replace("/accounts", "/logout"));
    (logout.path, logout.claims["htu"]) = ("/logout".to_owned(), htu.into());
    assert_eq!(resource.send(&logout).await?.body, "gone");
    let nonce = resource.nonce().await?;
    let goes_on = resource.attempt(&phone, &other.token, Some(&nonce))?;
    assert_eq!(
        resource.send(&goes_on).await?.error(),
        Some("invalid_token")
    );
    TOKEN_AFTER_LOGOUT.refused(resource.refusals().pop());
    let mut bearer = resource.attempt(&phone, &other.token, None)?;
    (bearer.scheme, bearer.path, bearer.proofs) = ("Bearer", TWIN.to_owned(), Some(Vec::new()));
    TOKEN_AFTER_LOGOUT.without(resource.send(&bearer).await?.status == 200);

    // All of a user up to now, on whichever device, however long his name is.
    for name in ["ann", &*longest] {
        let tokens = [&phone, &laptop].map(|device| (device, resource.mint(name, device)));
        let of_another = resource.mint("bob", &phone)?;
        let subject = Subject::of_token(name)?;
        let now = u32::try_from(resource.clock.now())?;
        bulla.revoke(Revocation::Subject(subject, now)).await?;
        for (device, token) in tokens {
            assert!(!is_served(device, &token?.token).await?, "{name}");
        }
        assert!(is_served(&phone, &of_another.token).await?, "{name}");
        resource.clock.advance(2);
        let later = resource.mint(name, &phone)?;
        assert!(is_served(&phone, &later.token).await?, "{name}");
    }

    // A device, whoever's.
    let tokens = [&phone, &laptop].map(|device| resource.mint("cyd", device));
    let [of_phone, of_laptop] = tokens;
    bulla.revoke(Revocation::Device(phone.thumbprint())).await?;
    assert!(!is_served(&phone, &of_phone?.token).await?);
    assert!(is_served(&laptop, &of_laptop?.token).await?);
    Ok(())
}

#[tokio::test]
async fn no_revoked_token_outlives_what_is_remembered_of_it() -> Outcome {
    let resource = Resource::start(Freshness::Nonce).await?;
    let phone = device()?;
    let lasting = |lifetime| {
        let grant = bulla_server::dpop::NewToken {
            subject: "ann".to_owned(),
            client_id: "app".to_owned(),
            audience: bulla_tests::dpop::AUDIENCE.to_owned(),
            scope: None,
            confirmation: bulla_server::Confirmation {
                jkt: phone.thumbprint(),
            },
            lifetime,
            extra: (),
        };
        resource
            .issuer
            .mint(grant, resource.clock.now(), &SystemRandom)
    };
    let session = bulla_server::Lifetimes::default().session;
    for (lifetime, error) in [(session, None), (session * 2, Some("invalid_token"))] {
        let token = lasting(lifetime)?.token;
        let nonce = resource.nonce().await?;
        let answer = resource
            .send(&resource.attempt(&phone, &token, Some(&nonce))?)
            .await?;
        assert_eq!(answer.error(), error);
    }
    // To its very end.
    let minted = lasting(session)?;
    resource
        .bulla
        .revoke(Revocation::Session(minted.id))
        .await?;
    resource
        .clock
        .advance(i64::try_from(session.as_secs())? - 2);
    let nonce = resource.nonce().await?;
    let answer = resource
        .send(&resource.attempt(&phone, &minted.token, Some(&nonce))?)
        .await?;
    assert_eq!(answer.error(), Some("invalid_token"));
    assert_eq!(resource.refusals(), [Code::SessionRevoked]);
    Ok(())
}

static PROOF_WITHOUT_NONCE: Attack = Attack {
    has: "DPoP proofs of hers, made ahead of time without a nonce",
    does: "sends them where nonces are handed out",
    twin: Twin::Weakened("a server that goes by the time that is in a proof"),
    without: "they are taken as long as their time is near",
    with: Refused(&[Code::NonceStale]),
    names: &[Dpop(2), Dpop(3)],
    shown: Shown::nothing(),
};

static OTHER_QUERY: Attack = Attack {
    has: "a place on the way of a DPoP request",
    does: "changes its query and adds fields",
    twin: Twin::App,
    without: "it is served",
    with: Works(
        "a DPoP proof covers neither query nor fields nor content; a session's covers all of them",
    ),
    names: &[Dpop(7)],
    shown: Shown::nothing(),
};

async fn what_a_dpop_proof_covers_and_what_it_does_not() -> Outcome {
    let resource = Resource::start(Freshness::Nonce).await?;
    let victim = device()?;
    let token = resource.mint("ann", &victim)?.token;
    let ahead = resource.attempt(&victim, &token, None)?;
    let refused = resource.send(&ahead).await?;
    assert_eq!(refused.error(), Some("use_dpop_nonce"));
    PROOF_WITHOUT_NONCE.refused(resource.refusals().pop());
    let by_time = Resource::start(Freshness::Window(Duration::from_mins(1))).await?;
    let token_there = by_time.mint("ann", &victim)?.token;
    let ahead = by_time.attempt(&victim, &token_there, None)?;
    PROOF_WITHOUT_NONCE.without(by_time.send(&ahead).await?.status == 200);

    let mut changed = resource.attempt(&victim, &token, Some(&resource.nonce().await?))?;
    changed.proofs = Some(vec![changed.proof()?]);
    changed.path.push_str("?to=mallory");
    changed.fields.push(("x-memo", "tent".to_owned()));
    OTHER_QUERY.with(resource.send(&changed).await?.status == 200);
    let mut bearer = resource.attempt(&victim, &token, None)?;
    (bearer.scheme, bearer.proofs) = ("Bearer", Some(Vec::new()));
    bearer.path = format!("{TWIN}?to=mallory");
    OTHER_QUERY.without(resource.send(&bearer).await?.status == 200);
    Ok(())
}

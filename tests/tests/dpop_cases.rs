//! The cases of the FAPI 2.0 conformance suite at a resource's endpoint, over HTTP: what a proof must be, each thing
//! wrong by itself, and what it may be.

use std::time::Duration;

use bulla_keys::SystemRandom;
use bulla_protocol::base64;
use bulla_server::Code;
use bulla_server::dpop::{Freshness, SigningKey};
use bulla_tests::attack::Outcome;
use bulla_tests::dpop::{Answer, Attempt, PATH, Resource, Signer};
use serde_json::{Value, json};

use Expected::{Good, Proof, Token};

/// What is to become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Good,
    /// `invalid_dpop_proof`.
    Proof,
    /// `invalid_token`.
    Token,
    /// A challenge that names no error.
    Challenge,
}

type Change = fn(&mut Attempt<'_>);
type Case = (&'static str, Expected, Change);

const CASES: [Case; 48] = [
    ("all is right", Good, |_| {}),
    ("two DPoP headers", Proof, |it| {
        let proof = it.proof().unwrap_or_default();
        it.proofs = Some(vec![proof.clone(), proof]);
    }),
    ("two proofs in one header", Proof, |it| {
        let proof = it.proof().unwrap_or_default();
        it.proofs = Some(vec![format!("{proof}, {proof}")]);
    }),
    ("no proof", Proof, |it| it.proofs = Some(Vec::new())),
    ("not a JWT", Proof, |it| {
        it.proofs = Some(vec!["proof".into()]);
    }),
    ("an empty proof", Proof, |it| {
        it.proofs = Some(vec![String::new()]);
    }),
    ("typ is missing", Proof, |it| remove(&mut it.header, "typ")),
    ("alg is missing", Proof, |it| remove(&mut it.header, "alg")),
    ("jwk is missing", Proof, |it| remove(&mut it.header, "jwk")),
    ("jti is missing", Proof, |it| remove(&mut it.claims, "jti")),
    ("htm is missing", Proof, |it| remove(&mut it.claims, "htm")),
    ("htu is missing", Proof, |it| remove(&mut it.claims, "htu")),
    ("iat is missing", Proof, |it| remove(&mut it.claims, "iat")),
    ("ath is missing", Proof, |it| remove(&mut it.claims, "ath")),
    ("typ is wrong", Proof, |it| it.header["typ"] = "JWT".into()),
    ("alg is RS256, with an RSA key", Proof, |it| {
        it.header["alg"] = "RS256".into();
        it.header["jwk"] = json!({ "kty": "RSA", "e": "AQAB", "n": base64::encode([0xa7; 256]) });
        it.signer = Signer::Nobody(&[7; 256]);
    }),
    ("alg is RS256, with the P-256 key", Proof, |it| {
        it.header["alg"] = "RS256".into();
    }),
    ("alg is none", Proof, |it| {
        it.header["alg"] = "none".into();
        it.signer = Signer::Nobody(&[]);
    }),
    ("alg is none, and there is a signature", Proof, |it| {
        it.header["alg"] = "none".into();
    }),
    ("alg is HS256", Proof, |it| {
        it.header["alg"] = "HS256".into();
        it.signer = Signer::Nobody(&[7; 32]);
    }),
    ("the signature is bad", Proof, |it| {
        it.signer = Signer::Nobody(&[7; 64]);
    }),
    ("the signature is missing", Proof, |it| {
        it.signer = Signer::Nobody(&[]);
    }),
    ("the signature is another proof's", Proof, |it| {
        let proof = it.proof().unwrap_or_default();
        it.claims["jti"] = "another".into();
        let (signed, _) = it
            .proof()
            .unwrap_or_default()
            .rsplit_once('.')
            .map_or_else(Default::default, |(signed, signature)| {
                (signed.to_owned(), signature.to_owned())
            });
        let signature = proof.rsplit('.').next().unwrap_or_default();
        it.proofs = Some(vec![format!("{signed}.{signature}")]);
    }),
    ("jwk has the private key", Proof, |it| {
        it.header["jwk"]["d"] = base64::encode([7; 32]).into();
    }),
    ("htm is wrong", Proof, |it| it.claims["htm"] = "POST".into()),
    ("htm is in lower case", Proof, |it| {
        it.claims["htm"] = "get".into();
    }),
    ("htu has another path", Proof, |it| {
        htu(it, "https://bank.example/other");
    }),
    ("htu has another host", Proof, |it| {
        htu(it, "https://bank.example.com/accounts");
    }),
    ("htu has another scheme", Proof, |it| {
        htu(it, "http://bank.example/accounts");
    }),
    ("htu has another port", Proof, |it| {
        htu(it, "https://bank.example:8443/accounts");
    }),
    ("htu has its path in another case", Proof, |it| {
        htu(it, "https://bank.example/Accounts");
    }),
    ("htu is a path", Proof, |it| htu(it, "/accounts")),
    ("htu is what a proxy says", Proof, |it| {
        htu(it, "https://evil.example/accounts");
        it.fields.push(("x-forwarded-host", "evil.example".into()));
        it.fields
            .push(("forwarded", "host=evil.example;proto=https".into()));
    }),
    ("htu has a query", Good, |it| {
        htu(it, "https://bank.example/accounts?a=b");
    }),
    ("htu has a query, as the request has", Good, |it| {
        it.path = format!("{PATH}?a=b");
        htu(it, "https://bank.example/accounts?a=b");
    }),
    ("htu has no query, and the request has one", Good, |it| {
        it.path = format!("{PATH}?a=b");
    }),
    ("htu has a fragment", Good, |it| {
        htu(it, "https://bank.example/accounts#a");
    }),
    ("htu has scheme and host in another case", Good, |it| {
        htu(it, "HTTPS://Bank.Example/accounts");
    }),
    ("htu has the default port", Good, |it| {
        htu(it, "https://bank.example:443/accounts");
    }),
    ("htu has what needs no encoding encoded", Good, |it| {
        htu(it, "https://bank.example/x/../%61ccounts");
    }),
    ("iat is an hour ago", Proof, |it| move_iat(it, -3600)),
    ("iat is an hour ahead", Proof, |it| move_iat(it, 3600)),
    ("iat is some seconds off", Good, |it| move_iat(it, 10)),
    ("ath is wrong", Proof, |it| {
        it.claims["ath"] = base64::encode([7; 32]).into();
    }),
    ("further claims", Good, |it| {
        it.claims["exp"] = 1.into();
        it.claims["aud"] = json!(["anybody", { "and": "more" }]);
        it.header["kid"] = "1".into();
    }),
    ("as a bearer's, with the proof", Token, |it| {
        it.scheme = "Bearer";
    }),
    ("as a bearer's, without a proof", Token, |it| {
        it.scheme = "Bearer";
        it.proofs = Some(Vec::new());
    }),
    ("no token", Expected::Challenge, |it| it.scheme = ""),
];

fn remove(object: &mut Value, name: &str) {
    if let Some(members) = object.as_object_mut() {
        members.remove(name);
    }
}

fn htu(it: &mut Attempt<'_>, uri: &str) {
    it.claims["htu"] = uri.into();
}

fn move_iat(it: &mut Attempt<'_>, seconds: i64) {
    let iat = it.claims["iat"].as_u64().unwrap_or_default();
    it.claims["iat"] = iat.saturating_add_signed(seconds).into();
}

fn check(name: &str, answer: &Answer, expected: Expected) {
    let (status, error) = match expected {
        Good => (200, None),
        Proof => (401, Some("invalid_dpop_proof")),
        Token => (401, Some("invalid_token")),
        Expected::Challenge => (401, None),
    };
    assert_eq!(answer.status, status, "{name}: {answer:?}");
    assert_eq!(answer.error(), error, "{name}: {answer:?}");
    let challenge = answer.challenge.as_deref().unwrap_or_default();
    let is_challenged = challenge.starts_with("DPoP ") && challenge.ends_with(r#"algs="ES256""#);
    assert_eq!(is_challenged, status == 401, "{name}: {answer:?}");
}

async fn every_case(freshness: Freshness) -> Outcome {
    let resource = Resource::start(freshness).await?;
    let device = SigningKey::generate(&SystemRandom)?;
    let minted = resource.mint("ann", &device)?;
    let nonce = match freshness {
        Freshness::Nonce => Some(resource.nonce().await?),
        _ => None,
    };
    let attempt = || resource.attempt(&device, &minted.token, nonce.as_deref());
    for (name, expected, change) in CASES {
        let mut changed = attempt()?;
        change(&mut changed);
        check(name, &resource.send(&changed).await?, expected);
        assert_eq!(
            resource.refusals().len(),
            usize::from(expected != Good),
            "{name}"
        );
        // Nothing is left of it.
        let answer = resource.send(&attempt()?).await?;
        check(&format!("after: {name}"), &answer, Good);
        let accounts: Value = serde_json::from_str(&answer.body)?;
        let device = device.thumbprint().to_string();
        let expected =
            json!({ "subject": "ann", "device": device, "scope": "accounts", "tenant": 7 });
        assert_eq!(accounts, expected, "{name}");
    }

    let once = attempt()?;
    check("jti for the first time", &resource.send(&once).await?, Good);
    check("jti again", &resource.send(&once).await?, Proof);
    assert_eq!(resource.refusals(), [Code::Replayed]);
    let mut resigned = attempt()?;
    resigned.claims["jti"] = once.claims["jti"].clone();
    check(
        "jti again, in another proof",
        &resource.send(&resigned).await?,
        Proof,
    );
    let other = SigningKey::generate(&SystemRandom)?;
    let mut foreign = resource.attempt(&other, &minted.token, nonce.as_deref())?;
    check("another key", &resource.send(&foreign).await?, Proof);
    foreign.header["jwk"] = attempt()?.header["jwk"].clone();
    check(
        "another key that names the right one",
        &resource.send(&foreign).await?,
        Proof,
    );
    // The same `jti` is another proof of another key.
    let theirs = resource.mint("bob", &other)?;
    let mut theirs = resource.attempt(&other, &theirs.token, nonce.as_deref())?;
    theirs.claims["jti"] = once.claims["jti"].clone();
    check("jti of another key", &resource.send(&theirs).await?, Good);
    for scheme in ["dpop", "DPOP"] {
        let mut cased = attempt()?;
        cased.scheme = scheme;
        check(scheme, &resource.send(&cased).await?, Good);
    }
    check(
        "all is right afterwards",
        &resource.send(&attempt()?).await?,
        Good,
    );
    Ok(())
}

#[tokio::test]
async fn every_case_with_nonces() -> Outcome {
    every_case(Freshness::Nonce).await
}

#[tokio::test]
async fn every_case_by_time_alone() -> Outcome {
    every_case(Freshness::Window(Duration::from_mins(1))).await
}

#[tokio::test]
async fn a_proof_without_a_current_nonce_is_sent_back_for_one() -> Outcome {
    let resource = Resource::start(Freshness::Nonce).await?;
    let device = SigningKey::generate(&SystemRandom)?;
    let token = resource.mint("ann", &device)?.token;
    let refused = resource
        .send(&resource.attempt(&device, &token, None)?)
        .await?;
    assert_eq!(
        (refused.status, refused.error()),
        (401, Some("use_dpop_nonce"))
    );
    assert_eq!(refused.headers["cache-control"], "no-store");
    let nonce = refused.nonce.ok_or("no nonce was handed out")?;
    let served = resource
        .send(&resource.attempt(&device, &token, Some(&nonce))?)
        .await?;
    check("with the nonce", &served, Good);
    assert_eq!(served.nonce.as_ref(), Some(&nonce));
    assert_eq!(served.headers["cache-control"], "no-store");

    // Once it was handed out there is no way around it.
    for bad in [
        None,
        Some(""),
        Some("AAAA"),
        Some("\u{e9}"),
        Some(&nonce[1..]),
    ] {
        let refused = resource
            .send(&resource.attempt(&device, &token, bad)?)
            .await?;
        assert_eq!(refused.error(), Some("use_dpop_nonce"), "{bad:?}");
    }
    // Made ahead of time, for the time after it.
    let mut ahead = resource.attempt(&device, &token, Some(&nonce))?;
    resource.clock.advance(180);
    ahead.claims["iat"] = resource.attempt(&device, &token, None)?.claims["iat"].clone();
    let late = resource.send(&ahead).await?;
    assert_eq!(late.error(), Some("use_dpop_nonce"));
    assert!(late.nonce.is_some_and(|next| next != nonce));
    Ok(())
}

#[tokio::test]
async fn by_time_alone_no_nonce_is_handed_out_and_a_proof_is_remembered_as_long_as_it_is_good()
-> Outcome {
    let resource = Resource::start(Freshness::Window(Duration::from_mins(1))).await?;
    let device = SigningKey::generate(&SystemRandom)?;
    let token = resource.mint("ann", &device)?.token;
    let mut ahead = resource.attempt(&device, &token, None)?;
    move_iat(&mut ahead, 60);
    let served = resource.send(&ahead).await?;
    check("a minute ahead", &served, Good);
    assert_eq!(served.nonce, None);
    for seconds in [60, 59] {
        resource.clock.advance(seconds);
        let again = resource.send(&ahead).await?;
        check("again", &again, Proof);
        assert_eq!(resource.refusals(), [Code::Replayed], "{seconds}");
    }
    resource.clock.advance(2);
    check("too late", &resource.send(&ahead).await?, Proof);
    assert_eq!(resource.refusals(), [Code::ProofMismatch]);
    Ok(())
}

#[tokio::test]
async fn pages_of_other_origins_can_read_what_they_need() -> Outcome {
    let resource = Resource::start(Freshness::Nonce).await?;
    let device = SigningKey::generate(&SystemRandom)?;
    let token = resource.mint("ann", &device)?.token;
    let mut preflight = resource.attempt(&device, &token, None)?;
    (preflight.method, preflight.scheme, preflight.proofs) = ("OPTIONS", "", Some(Vec::new()));
    preflight.fields = vec![
        ("origin", "https://app.example".into()),
        ("access-control-request-method", "GET".into()),
        (
            "access-control-request-headers",
            "authorization,dpop".into(),
        ),
    ];
    let allowed = resource.send(&preflight).await?;
    assert_eq!(allowed.status, 204);
    assert_eq!(
        allowed.headers["access-control-allow-headers"],
        "authorization,dpop"
    );
    assert!(resource.refusals().is_empty());

    let mut fetch = resource.attempt(&device, &token, None)?;
    fetch.fields = vec![("origin", "https://app.example".into())];
    let refused = resource.send(&fetch).await?;
    assert_eq!(
        refused.headers["access-control-allow-origin"],
        "https://app.example"
    );
    let exposed = refused.headers["access-control-expose-headers"].to_str()?;
    for name in ["dpop-nonce", "www-authenticate", "retry-after"] {
        assert!(exposed.split(", ").any(|one| one == name), "{exposed}");
    }
    Ok(())
}

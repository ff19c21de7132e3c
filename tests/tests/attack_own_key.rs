//! A thief with a device of his own, as anybody may have: beside his own proofs he lays what is the victim's,
//! or he has her device make a session for him.

use bulla_client::{Client, Code, Mode, ProofKind, ProofNonce, Random, Session, SigningKey};
use bulla_keys::RandomError;
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::message::{self, Control, Head};
use bulla_protocol::proof::{Binding, prove};
use bulla_protocol::{field, signature};
use bulla_server::Cookies;
use bulla_tests::attack::Name::{Api, Asvs, Dpop, Sess};
use bulla_tests::attack::With::{Held, Refused, Works};
use bulla_tests::attack::{Attack, Outcome, Shown, Twin, client, code, log_in, post, transfer};
use bulla_tests::bank::Bank;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::json;

bulla_tests::attacks! {
    a_proof_that_is_carried_away_is_good_for_a_nonces_life: [CARRIES_A_PROOF_AWAY],
    a_session_that_is_carried_away_is_not_worth_the_device: [CARRIED_AWAY, CARRIED_AWAY_BY_MAC, CARRIED_AWAY_AND_CONFIRMED, SESSION_PROOF_FOR_DEVICE, CARRIED_AWAY_FOR_LONG],
    a_stolen_cookie_is_worth_nothing_beside_a_proof_of_the_thiefs: [COPIED_COOKIE, SIGNED_COOKIE],
}

fn get(path: &str) -> Outcome<Request<Bytes>> {
    Ok(Request::get(path).body(Bytes::new())?)
}

/// A request without a proof, through the client of this session.
async fn send_bare(
    bank: &Bank,
    session: &Session,
    mut request: Request<Bytes>,
) -> Outcome<Response<Bytes>> {
    *request.uri_mut() = bank.server.url(request.uri().path()).parse()?;
    Ok(session.client().send_unverified(request).await?)
}

/// Script in Ann's page has the device key open a session that carries over her login, for an agreement key
/// that the thief takes away. He has the session's keys then, and not the device's.
async fn carried_away(bank: &Bank) -> Outcome<Session> {
    let victim = client(bank)?.open().await?;
    log_in(&victim).await?;
    let device = victim.client();
    let opening = device.prepare_opening(Some(victim.dangerous_loot()?.ticket))?;
    let opened = device.send_unverified(opening.request.clone()).await?;
    let stolen = opening.answer(&opened)?;
    assert!(stolen.is_authenticated());
    Ok(stolen)
}

/// What he sends with these keys.
async fn send(
    bank: &Bank,
    stolen: &Session,
    request: Request<Bytes>,
    mode: Mode,
) -> Outcome<Response<Bytes>> {
    // The newest nonce comes with any refusal.
    let refused = send_bare(bank, stolen, get("/api/me")?).await?;
    let server = refused.headers()["bulla-nonce"].to_str()?.replace('"', "");
    let random = stolen.fresh_nonce()?.random;
    let nonce = ProofNonce { server, random };
    let prepared = stolen.prepare(request, mode, ProofKind::Session, nonce)?;
    Ok(stolen.client().send_unverified(prepared.request).await?)
}

static CARRIED_AWAY: Attack = Attack {
    has: "the keys of a session that script has had her device open for him",
    does: "uses them elsewhere",
    twin: Twin::App,
    without: "her token is worth the same wherever it is",
    with: Refused(&[Code::ProofWeak]),
    names: &[Sess(9), Dpop(4), Api(2)],
    shown: Shown::nothing(),
};

static CARRIED_AWAY_BY_MAC: Attack = Attack {
    has: "the keys of a session that script has had her device open for him, at a bank that takes session proofs",
    does: "uses them elsewhere before her device has proved anything",
    twin: Twin::App,
    without: "her token is worth the same wherever it is",
    with: Refused(&[Code::SessionUnconfirmed]),
    names: &[Sess(9), Dpop(2), Dpop(4)],
    shown: Shown::nothing(),
};

static CARRIED_AWAY_AND_CONFIRMED: Attack = Attack {
    has: "the keys of a session that script has had her device open for him, at a bank that takes session proofs",
    does: "has her device confirm it while script is there, and uses it elsewhere",
    twin: Twin::App,
    without: "her token is worth the same wherever it is",
    with: Works("until the ticket ends, 15 minutes; not where a device proof is due"),
    names: &[Sess(9), Dpop(4)],
    shown: Shown::nothing(),
};

static SESSION_PROOF_FOR_DEVICE: Attack = Attack {
    has: "the keys of a session that script has had her device open for him, confirmed",
    does: "goes where a device proof or the seal is due: a marked path, a login",
    twin: Twin::App,
    without: "her token goes anywhere",
    with: Refused(&[Code::SealRequired, Code::ProofWeak]),
    names: &[Api(2), Asvs("7.5.3")],
    shown: Shown::nothing(),
};

static CARRIED_AWAY_FOR_LONG: Attack = Attack {
    has: "the keys of a session that script has had her device open for him, confirmed",
    does: "goes on when the ticket has ended",
    twin: Twin::App,
    without: "her token has no end",
    with: Refused(&[Code::TicketExpired]),
    names: &[Sess(7), Asvs("7.3.1")],
    shown: Shown::nothing(),
};

async fn a_session_that_is_carried_away_is_not_worth_the_device() -> Outcome {
    // Where the device proves each request, which is the default, it is worth nothing.
    let strict = Bank::open().await?;
    let stolen = carried_away(&strict).await?;
    stolen.fetch(get("/api/me")?).await?;
    let refused = send(&strict, &stolen, transfer(1)?, Mode::Signed).await?;
    CARRIED_AWAY.refused(code(&refused));
    assert!(strict.ledger.transfers().is_empty());

    // Where it need not, it is worth nothing until the device has proved something in it: what was made ahead
    // of time is as old as the nonce.
    let bank = Bank::open_with(|builder| builder.proof(ProofKind::Session)).await?;
    let stolen = carried_away(&bank).await?;
    let refused = send(&bank, &stolen, transfer(1)?, Mode::Signed).await?;
    CARRIED_AWAY_BY_MAC.refused(code(&refused));
    assert!(bank.ledger.transfers().is_empty());

    // Script that is still there has it do that too. Then he is Ann, but not where the device or the seal is
    // asked for, and he logs nobody in.
    assert_eq!(stolen.fetch(get("/api/me")?).await?.status(), 200);
    let taken = send(&bank, &stolen, transfer(1)?, Mode::Signed).await?;
    CARRIED_AWAY_AND_CONFIRMED.with(taken.status() == 200);
    let order = json!({ "to": "mallory", "amount": 1, "user": "bob" });
    for (path, mode, wanted) in [
        ("/api/transfer/device", Mode::Signed, "seal_required"),
        ("/api/transfer/device", Mode::Sealed, "proof_weak"),
        ("/api/login", Mode::Sealed, "proof_weak"),
    ] {
        send(&bank, &stolen, post(path, &order)?, mode).await?;
        let refused = bank.ledger.refusals().pop();
        assert_eq!(refused, Some(wanted), "{path}");
        SESSION_PROOF_FOR_DEVICE.refused(refused.and_then(|code| code.parse().ok()));
    }
    assert_eq!(bank.ledger.transfers().len(), 1);

    // And for no longer than the ticket lives: the next one comes to device proofs only.
    bank.clock.advance(10 * 60);
    let taken = send(&bank, &stolen, transfer(1)?, Mode::Signed).await?;
    assert_eq!(taken.status(), 200);
    assert!(!taken.headers().contains_key("bulla-ticket"));
    bank.clock.advance(6 * 60);
    let refused = send(&bank, &stolen, transfer(1)?, Mode::Signed).await?;
    CARRIED_AWAY_FOR_LONG.refused(code(&refused));
    assert_eq!(bank.ledger.transfers().len(), 2);

    // The twin's token is worth the same wherever it is, and has no end.
    let mut order = post("/twin/transfer", &order)?;
    let headers = order.headers_mut();
    headers.insert("authorization", "Bearer token-of-ann".parse()?);
    let is_paid = send_bare(&bank, &stolen, order).await?.status() == 200;
    for attack in [
        &CARRIED_AWAY,
        &CARRIED_AWAY_BY_MAC,
        &CARRIED_AWAY_AND_CONFIRMED,
        &SESSION_PROOF_FOR_DEVICE,
        &CARRIED_AWAY_FOR_LONG,
    ] {
        attack.without(is_paid);
    }
    Ok(())
}

static CARRIES_A_PROOF_AWAY: Attack = Attack {
    has: "a proof that script has had her device make, and not sent",
    does: "sends it from elsewhere before its nonce has ended",
    twin: Twin::App,
    without: "her token is good anywhere, for ever",
    with: Works("once, within two minutes; later it is `nonce_stale`"),
    names: &[Dpop(2), Dpop(4), Sess(9)],
    shown: Shown::nothing(),
};

async fn a_proof_that_is_carried_away_is_good_for_a_nonces_life() -> Outcome {
    let bank = Bank::open().await?;
    let victim = client(&bank)?.open().await?;
    log_in(&victim).await?;
    let thief = client(&bank)?;
    let prepare = || -> Outcome<_> {
        let nonce = victim.fresh_nonce()?;
        Ok(victim.prepare(transfer(1)?, Mode::Sealed, ProofKind::Device, nonce)?)
    };
    let (in_time, late) = (prepare()?, prepare()?);
    let taken = thief.send_unverified(in_time.request.clone()).await?;
    let is_taken = in_time.open_reply(taken).await?.status() == 200;
    CARRIES_A_PROOF_AWAY.with(is_taken && bank.ledger.transfers().len() == 1);
    bank.clock.advance(121);
    let refused = thief.send_unverified(late.request.clone()).await?;
    let refused = late.open_reply(refused).await.err();
    assert_eq!(refused.map(|error| error.code), Some(Code::NonceStale));

    let mut order = post("/twin/transfer", &json!({ "to": "mallory", "amount": 1 }))?;
    let headers = order.headers_mut();
    headers.insert("authorization", "Bearer token-of-ann".parse()?);
    let answer = send_bare(&bank, &victim, order).await?;
    CARRIES_A_PROOF_AWAY.without(answer.status() == 200);
    Ok(())
}

/// The thief's device key, once for his client and once for his own hands.
fn thiefs_key() -> Outcome<SigningKey> {
    struct Drawn;

    impl Random for Drawn {
        fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
            out.fill(7);
            Ok(())
        }
    }

    Ok(SigningKey::generate(&Drawn)?)
}

static COPIED_COOKIE: Attack = Attack {
    has: "her cookie, at an application that goes by it",
    does: "sends it along with a proof of his own",
    twin: Twin::App,
    without: "he is her",
    with: Held("it is dropped, `cookie_dropped` is told, and he is nobody"),
    names: &[Sess(2), Sess(9), Api(2), Asvs("10.3.5")],
    shown: Shown::nothing(),
};

static SIGNED_COOKIE: Attack = Attack {
    has: "her cookie, as the application made it",
    does: "puts it among what his key signs, under the seal",
    twin: Twin::App,
    without: "he is her",
    with: Refused(&[Code::FieldRefused]),
    names: &[Sess(8), Sess(9), Asvs("4.1.3")],
    shown: Shown::nothing(),
};

/// At an application that goes by its cookie, which the verifier binds to the device.
async fn a_stolen_cookie_is_worth_nothing_beside_a_proof_of_the_thiefs() -> Outcome {
    const PATH: &str = "/api/cookie/me";
    const UNBOUND: &str = "twin=token-of-ann";

    let readable = Vec::new();
    let bank = Bank::open_with(|builder| builder.cookies(Cookies::HttpOnly { readable })).await?;
    let victim = client(&bank)?.open().await?;
    let nonce = victim.fresh_nonce()?;
    let login = post("/api/cookie/login", &json!({ "user": "ann" }))?;
    let login = victim.prepare(login, Mode::Sealed, ProofKind::Device, nonce)?;
    let answer = victim.client().send_unverified(login.request).await?;
    let set = answer.headers()["set-cookie"].to_str()?;
    let bound = set.split(';').next().unwrap_or_default();

    let thief = Client::builder(bank.server.origin()).device_key(thiefs_key()?);
    let thief = thief.build()?.open().await?;
    let ask = async |session: &Session, cookie: &str| -> Outcome<StatusCode> {
        let nonce = session.fresh_nonce()?;
        let prepared = session.prepare(get(PATH)?, Mode::Sealed, ProofKind::Device, nonce)?;
        let mut request = prepared.request.clone();
        request.headers_mut().insert("cookie", cookie.parse()?);
        let answer = session.client().send_unverified(request).await?;
        Ok(prepared.open_reply(answer).await?.status())
    };
    assert_eq!(ask(&victim, bound).await?, 200);
    let is_nobody = ask(&thief, bound).await? == 401;
    COPIED_COOKIE.with(is_nobody && bank.ledger.refusals() == ["cookie_dropped"]);
    assert_eq!(ask(&thief, UNBOUND).await?, 401);

    // Among what his own key has signed, which his client would refuse to send: in the open it reaches
    // no handler, and under the seal it is refused.
    let origin = bank.server.origin();
    let authority = origin.trim_start_matches("http://");
    let fields = vec![
        ("cookie".to_owned(), UNBOUND.to_owned()),
        (
            field::CONTENT_DIGEST.to_owned(),
            ContentDigest::of(b"").to_field(),
        ),
        (
            field::TICKET.to_owned(),
            thief.dangerous_loot()?.ticket.to_field(),
        ),
    ];
    for sealed in [false, true] {
        let to_sign = prove(
            ProofKind::Device,
            thief.id().ok_or("no session")?,
            &signature::Request {
                method: "GET",
                authority,
                path: PATH,
                query: None,
                fields: &fields,
            },
            ["cookie"].into_iter(),
            Binding::Digest,
            &thief.fresh_nonce()?,
            0,
        )?;
        let signed = to_sign.fields(&thiefs_key()?.sign(to_sign.base.as_bytes())?);
        let signed = signed.map(|(name, value)| (name.to_owned(), value));
        let mut fields = [fields.clone(), signed.to_vec()].concat();
        let request = if sealed {
            fields.retain(|(name, _)| name != field::TICKET);
            let control = Control::Request {
                method: "GET".into(),
                scheme: "http".into(),
                authority: authority.into(),
                target: PATH.into(),
            };
            thief.dangerous_seal(&message::whole(Head { control, fields }, b"")?)?
        } else {
            let mut request = get(&bank.server.url(PATH))?;
            for (name, value) in &fields {
                let name = http::HeaderName::from_bytes(name.as_bytes())?;
                request.headers_mut().insert(name, value.parse()?);
            }
            request
        };
        let answer = thief.client().send_unverified(request).await?;
        if sealed {
            SIGNED_COOKIE.refused(code(&answer));
        } else {
            assert_eq!(code(&answer), None);
        }
        assert!(answer.status().is_client_error(), "{}", answer.status());
    }

    let mut request = get("/twin/me")?;
    request.headers_mut().insert("cookie", UNBOUND.parse()?);
    let is_her = send_bare(&bank, &thief, request).await?.status() == 200;
    COPIED_COOKIE.without(is_her);
    SIGNED_COOKIE.without(is_her);
    Ok(())
}

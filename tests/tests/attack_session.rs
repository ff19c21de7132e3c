//! What a thief, a middle man and a vandal try, with a real client over real connections. Each attack
//! that moves money is also carried out against the unprotected twin, where it succeeds.

use std::fmt::Write as _;

use bulla_client::{Client, Code, Loot, Mode, ProofKind, ProofNonce, Session, Ticket};
use bulla_protocol::base64;
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::error::Problem;
use bulla_protocol::message::{self, Control, Head};
use bulla_protocol::seal::Header;
use bulla_tests::attack::Name::{Api, Asvs, Dpop, Sess};
use bulla_tests::attack::With::{Refused, RefusedByOneOf};
use bulla_tests::attack::{Attack, Proxy, Shown, Twin, bank_behind};
use bulla_tests::bank::Bank;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

bulla_tests::attacks! {
    a_thief_with_everything_but_the_keys_gets_nothing: [COPIED_LOOT, CARRIED_LOOT, FOREIGN_TICKET],
    a_recorded_request_is_taken_once: [SENT_AT_ONCE, SENT_LATER],
    every_byte_of_a_sealed_request_counts: [CHANGED_SEALED],
    every_part_of_a_signed_request_counts: [
        CHANGED_METHOD, CHANGED_PATH, CHANGED_QUERY, CHANGED_TYPE, CHANGED_FIELD, CHANGED_BODY,
        CHANGED_BODY_AND_DIGEST, ADDED_AUTHORIZATION, ADDED_CODING, ADDED_TYPE, TAKEN_OFF,
    ],
    an_old_proof_and_an_ended_session_are_refused: [KEPT_PROOF, ENDED_SESSION, ENDED_RENEWAL],
    another_servers_identity_is_refused: [SENT_ELSEWHERE],
    no_record_is_dropped_repeated_or_moved: [SPOILED_RECORDS],
    no_record_of_a_stream_is_dropped_repeated_or_moved: [SPOILED_STREAM],
    a_login_is_carried_over_once_also_at_once: [SHARED_LOGIN, KEPT_FROM_BEFORE_LOGIN, CARRY_OVER_AS_TICKET],
    a_signature_that_is_taken_off_is_missed_on_either_side: [UNSIGNED_OPENING, UNSIGNED_ANSWER, SEALED_UNSIGNED],
    a_copy_that_is_kept_half_sent_is_refused: [HALF_SENT],
    a_body_that_never_comes_holds_no_connection: [SLOW_BODY],
    a_proof_is_for_one_origin_of_a_bank_that_has_two: [OTHER_ORIGIN, OPENED_AT_OTHER_ORIGIN],
}

fn client(bank: &Bank) -> Outcome<Client> {
    let builder = Client::builder(bank.server.origin()).identity(bank.identity().parse()?);
    Ok(builder.build()?)
}

fn post(path: &str, body: &Value) -> Outcome<Request<Bytes>> {
    Ok(Request::post(path)
        .header("content-type", "application/json")
        .body(body.to_string().into())?)
}

fn get(path: &str) -> Outcome<Request<Bytes>> {
    Ok(Request::get(path).body(Bytes::new())?)
}

fn order(amount: u64) -> Value {
    json!({ "to": "mallory", "amount": amount })
}

/// A session in which Ann has logged in.
async fn logged_in(bank: &Bank) -> Outcome<Session> {
    let session = client(bank)?.open().await?;
    let reply = session
        .fetch(post("/api/login", &json!({ "user": "ann" }))?)
        .await?;
    assert_eq!(reply.status(), 200);
    assert!(session.is_authenticated());
    Ok(session)
}

/// The code of a refusal, whether it came sealed or in the open.
fn code(response: &Response<Bytes>) -> Option<Code> {
    Problem::parse(response.body())
}

async fn send(session: &Session, request: Request<Bytes>) -> Outcome<Response<Bytes>> {
    Ok(session.client().send_unverified(request).await?)
}

fn copy(request: &Request<Bytes>) -> Request<Bytes> {
    request.clone()
}

/// An order to the twin, with the token that is all it asks for.
async fn twin_order(bank: &Bank, thief: &Client, amount: u64) -> Outcome<Request<Bytes>> {
    let login = absolute(bank, post("/twin/login", &json!({ "user": "ann" }))?)?;
    let token = thief.send_unverified(login).await?;
    let token: Value = serde_json::from_slice(token.body())?;
    let token = token["token"].as_str().unwrap_or_default();
    let mut request = absolute(bank, post("/twin/transfer", &order(amount))?)?;
    let value = HeaderValue::from_str(&format!("Bearer {token}"))?;
    request.headers_mut().insert("authorization", value);
    Ok(request)
}

fn absolute(bank: &Bank, request: Request<Bytes>) -> Outcome<Request<Bytes>> {
    let (mut parts, body) = request.into_parts();
    parts.uri = bank.server.url(&parts.uri.to_string()).parse()?;
    Ok(Request::from_parts(parts, body))
}

static COPIED_LOOT: Attack = Attack {
    has: "all of her session but two keys: ticket, nonce, sealing keys",
    does: "orders in her session, proved by a key of his own",
    twin: Twin::App,
    without: "her token pays",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Sess(9), Api(2), Asvs("7.2.1"), Asvs("10.3.5")],
    shown: Shown::nothing(),
};

static CARRIED_LOOT: Attack = Attack {
    has: "her ticket",
    does: "opens a session that carries her login over to his key",
    twin: Twin::App,
    without: "her token logs him in",
    with: Refused(&[Code::TicketInvalid]),
    names: &[Sess(3), Sess(9), Api(2)],
    shown: Shown::nothing(),
};

static FOREIGN_TICKET: Attack = Attack {
    has: "her ticket",
    does: "lays it on a request that he has signed for his own session",
    twin: Twin::App,
    without: "her token pays, whosever the connection is",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Sess(8), Sess(9), Api(2)],
    shown: Shown::nothing(),
};

async fn a_thief_with_everything_but_the_keys_gets_nothing() -> Outcome {
    let bank = Bank::open().await?;
    let victim = logged_in(&bank).await?;
    let loot = victim.dangerous_loot()?;

    // With the ticket, the nonce and even the sealing keys, on his own device key.
    let thief = client(&bank)?.open().await?;
    let stolen = thief.dangerous_with_loot(loot.clone())?;
    for kind in [ProofKind::Device, ProofKind::Session] {
        for mode in [Mode::Sealed, Mode::SealedAtPath, Mode::Signed] {
            let nonce = stolen.fresh_nonce()?;
            let prepared = stolen.prepare(post("/api/transfer", &order(1))?, mode, kind, nonce)?;
            let response = send(&stolen, copy(&prepared.request)).await?;
            let refused = match mode {
                Mode::Signed => code(&response),
                _ => prepared
                    .open_reply(response)
                    .await
                    .err()
                    .map(|error| error.code),
            };
            COPIED_LOOT.refused(refused);
        }
    }

    // Carrying the session over to his own keys.
    let carried = thief.client().prepare_opening(Some(loot.ticket.clone()))?;
    let response = send(&thief, carried.request.clone()).await?;
    CARRIED_LOOT.refused(code(&response));

    // The victim's ticket on a request that he has signed for his own session.
    let nonce = thief.fresh_nonce()?;
    let prepared = thief.prepare(
        post("/api/transfer", &order(1))?,
        Mode::Signed,
        ProofKind::Device,
        nonce,
    )?;
    let mut request = prepared.request;
    let ticket = HeaderValue::from_str(&loot.ticket.to_field())?;
    request.headers_mut().insert("bulla-ticket", ticket);
    let response = send(&thief, request).await?;
    FOREIGN_TICKET.refused(code(&response));

    assert!(bank.ledger.transfers().is_empty());
    let order = twin_order(&bank, victim.client(), 5).await?;
    let is_robbed = thief.client().send_unverified(copy(&order)).await?.status() == 200;
    COPIED_LOOT.without(is_robbed && bank.ledger.transfers().len() == 1);
    FOREIGN_TICKET.without(is_robbed);
    let mut me = absolute(&bank, get("/twin/me")?)?;
    let token = order.headers()["authorization"].clone();
    me.headers_mut().insert("authorization", token);
    let me = thief.client().send_unverified(me).await?;
    CARRIED_LOOT.without(serde_json::from_slice::<Value>(me.body())?["subject"] == "ann");
    Ok(())
}

static SENT_AT_ONCE: Attack = Attack {
    has: "a request of hers, recorded",
    does: "sends it on a second connection at the same time",
    twin: Twin::App,
    without: "it pays twice",
    with: Refused(&[Code::Replayed]),
    names: &[Sess(9), Api(2), Api(6), Asvs("4.1.5")],
    shown: Shown::nothing(),
};

static SENT_LATER: Attack = Attack {
    has: "a request of hers, recorded",
    does: "sends it once more, as late as its nonce is taken",
    twin: Twin::App,
    without: "it pays once more",
    with: Refused(&[Code::Replayed]),
    names: &[Sess(9), Api(2), Api(6)],
    shown: Shown::nothing(),
};

async fn a_recorded_request_is_taken_once() -> Outcome {
    let bank = Bank::open().await?;
    let victim = logged_in(&bank).await?;
    for mode in [Mode::Sealed, Mode::SealedAtPath, Mode::Signed] {
        let before = bank.ledger.transfers().len();
        bank.clock.next_life();
        victim.fetch(get("/api/me")?).await?;
        let nonce = victim.fresh_nonce()?;
        let prepared = victim.prepare(
            post("/api/transfer", &order(2))?,
            mode,
            ProofKind::Device,
            nonce,
        )?;
        let (first, second) = tokio::join!(
            send(&victim, copy(&prepared.request)),
            send(&victim, copy(&prepared.request))
        );
        // As late as its nonce is taken.
        bank.clock.next_life();
        let later = send(&victim, copy(&prepared.request)).await?;
        let mut codes = Vec::new();
        for response in [later, first?, second?] {
            codes.push(match mode {
                Mode::Signed => code(&response),
                _ => prepared
                    .open_reply(response)
                    .await
                    .err()
                    .map(|error| error.code),
            });
        }
        SENT_LATER.refused(codes[0]);
        let of_both = &mut codes[1..];
        of_both.sort_by_key(Option::is_some);
        assert_eq!(of_both[0], None, "{mode:?}");
        SENT_AT_ONCE.refused(of_both[1]);
        assert_eq!(bank.ledger.transfers().len(), before + 1, "{mode:?}");
    }

    let thief = client(&bank)?;
    let before = bank.ledger.transfers().len();
    let order = twin_order(&bank, victim.client(), 2).await?;
    let send_it = || thief.send_unverified(copy(&order));
    let (first, second) = tokio::join!(send_it(), send_it());
    assert_eq!(
        (first?.status(), second?.status()),
        (200.try_into()?, 200.try_into()?)
    );
    SENT_AT_ONCE.without(bank.ledger.transfers().len() == before + 2);
    bank.clock.next_life();
    SENT_LATER.without(send_it().await?.status() == 200);
    Ok(())
}

static CHANGED_SEALED: Attack = Attack {
    has: "a place on the way of a sealed request",
    does: "changes any byte of it, cuts it anywhere, or lengthens it",
    twin: Twin::App,
    without: "it pays another amount",
    with: Refused(&[Code::SealBroken, Code::TicketInvalid]),
    names: &[Asvs("4.1.5"), Asvs("11.2.5")],
    shown: Shown::nothing(),
};

async fn every_byte_of_a_sealed_request_counts() -> Outcome {
    let bank = Bank::open().await?;
    let victim = logged_in(&bank).await?;
    let nonce = victim.fresh_nonce()?;
    let prepared = victim.prepare(
        post("/api/transfer", &order(3))?,
        Mode::Sealed,
        ProofKind::Device,
        nonce,
    )?;
    let whole = prepared.request.body().clone();
    let refuse = async |body: Vec<u8>, what: String| -> Outcome {
        let mut request = copy(&prepared.request);
        *request.body_mut() = body.into();
        let response = send(&victim, request).await?;
        let code = code(&response).ok_or(format!("{what} was not refused"))?;
        CHANGED_SEALED.refused(Some(code));
        Ok(())
    };
    for at in 0..whole.len() {
        let mut body = whole.to_vec();
        body[at] ^= 1 << (at % 8);
        refuse(body, format!("byte {at}")).await?;
    }
    for cut in [0, 1, 20, 21, 200, whole.len() - 17, whole.len() - 1] {
        refuse(whole[..cut].to_vec(), format!("cut at {cut}")).await?;
    }
    refuse([&whole[..], &[0]].concat(), "one more byte".to_owned()).await?;
    refuse([&whole[..], &whole[..]].concat(), "twice".to_owned()).await?;
    assert!(bank.ledger.transfers().is_empty());

    // Unchanged it passes: nothing was remembered of what was refused.
    let response = send(&victim, copy(&prepared.request)).await?;
    assert_eq!(prepared.open_reply(response).await?.status(), 200);
    assert_eq!(bank.ledger.transfers().len(), 1);

    // The twin takes what was changed on the way for what was ordered.
    let thief = client(&bank)?;
    let mut ordered = twin_order(&bank, &thief, 3).await?;
    let changed = serde_json::to_vec(&order(4))?;
    assert_eq!(ordered.body().len(), changed.len());
    *ordered.body_mut() = changed.into();
    assert_eq!(thief.send_unverified(ordered).await?.status(), 200);
    let booked = bank.ledger.transfers().pop().ok_or("nothing was booked")?;
    CHANGED_SEALED.without(booked["amount"] == 4);
    Ok(())
}

static CHANGED_METHOD: Attack = Attack {
    has: "a place on the way of a signed request",
    does: "sends it by another method",
    twin: Twin::App,
    without: "another handler runs",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Asvs("4.1.5"), Asvs("4.1.4")],
    shown: Shown::nothing(),
};

static CHANGED_PATH: Attack = Attack {
    has: "a place on the way of a signed request",
    does: "sends it to another path",
    twin: Twin::App,
    without: "another handler runs",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Asvs("4.1.5")],
    shown: Shown::nothing(),
};

static CHANGED_QUERY: Attack = Attack {
    has: "a place on the way of a signed request",
    does: "changes its query",
    twin: Twin::App,
    without: "the handler sees it",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Asvs("4.1.5"), Dpop(7)],
    shown: Shown::nothing(),
};

static CHANGED_TYPE: Attack = Attack {
    has: "a place on the way of a signed request",
    does: "says that its content is of another type",
    twin: Twin::App,
    without: "the handler sees it",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Asvs("4.1.5")],
    shown: Shown::nothing(),
};

static CHANGED_FIELD: Attack = Attack {
    has: "a place on the way of a signed request",
    does: "changes a field that the application has set",
    twin: Twin::App,
    without: "the handler sees it",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Asvs("4.1.5"), Dpop(7)],
    shown: Shown::nothing(),
};

static CHANGED_BODY: Attack = Attack {
    has: "a place on the way of a signed request",
    does: "changes its content",
    twin: Twin::App,
    without: "the handler sees it",
    with: Refused(&[Code::DigestMismatch]),
    names: &[Asvs("4.1.5"), Dpop(7)],
    shown: Shown::nothing(),
};

static CHANGED_BODY_AND_DIGEST: Attack = Attack {
    has: "a place on the way of a signed request",
    does: "changes its content, and the digest with it",
    twin: Twin::App,
    without: "the handler sees it",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Asvs("4.1.5"), Dpop(7)],
    shown: Shown::nothing(),
};

static ADDED_AUTHORIZATION: Attack = Attack {
    has: "a place on the way of a signed request",
    does: "adds credentials that she did not sign",
    twin: Twin::App,
    without: "the handler sees them",
    with: Refused(&[Code::CoverageMissing]),
    names: &[Sess(8), Asvs("4.1.3")],
    shown: Shown::nothing(),
};

static ADDED_CODING: Attack = Attack {
    has: "a place on the way of a signed request",
    does: "adds a content coding",
    twin: Twin::App,
    without: "the handler sees it",
    with: Refused(&[Code::CoverageMissing]),
    names: &[Asvs("4.1.5")],
    shown: Shown::nothing(),
};

static ADDED_TYPE: Attack = Attack {
    has: "a place on the way of a signed request",
    does: "adds a second line with another content type",
    twin: Twin::App,
    without: "the handler may see either",
    with: Refused(&[Code::FieldRefused]),
    names: &[Asvs("4.1.5")],
    shown: Shown::nothing(),
};

static TAKEN_OFF: Attack = Attack {
    has: "a place on the way of a signed request",
    does: "takes off the signature, or the ticket",
    twin: Twin::App,
    without: "there is none to miss",
    with: Refused(&[Code::ProofMissing]),
    names: &[Api(2), Asvs("9.1.1")],
    shown: Shown::nothing(),
};

async fn every_part_of_a_signed_request_counts() -> Outcome {
    type Change = (&'static Attack, fn(&mut Request<Bytes>));

    let bank = Bank::open().await?;
    let victim = logged_in(&bank).await?;
    let thief = client(&bank)?;
    let changes: [Change; 12] = [
        (&CHANGED_METHOD, |r| *r.method_mut() = Method::PUT),
        (&CHANGED_PATH, |r| {
            change_uri(r, "/api/transfer?", "/api/transfer/device?");
            change_uri(r, "/twin/echo?", "/twin/form?");
        }),
        (&CHANGED_QUERY, |r| change_uri(r, "memo=rent", "memo=tent")),
        (&CHANGED_TYPE, |r| set(r, "content-type", "text/plain")),
        (&CHANGED_FIELD, |r| set(r, "x-memo", "tent")),
        (&ADDED_AUTHORIZATION, |r| {
            set(r, "authorization", "Bearer x");
        }),
        (&ADDED_CODING, |r| set(r, "content-encoding", "gzip")),
        (&CHANGED_BODY, |r| {
            *r.body_mut() = order(1_000_000).to_string().into();
        }),
        (&CHANGED_BODY_AND_DIGEST, |r| {
            let body = order(1_000_000).to_string();
            let digest = ContentDigest::of(body.as_bytes()).to_field();
            if let Ok(digest) = HeaderValue::from_str(&digest) {
                r.headers_mut().insert("content-digest", digest);
            }
            *r.body_mut() = body.into();
        }),
        (&TAKEN_OFF, |r| drop(r.headers_mut().remove("signature"))),
        (&TAKEN_OFF, |r| {
            drop(r.headers_mut().remove("bulla-ticket"));
        }),
        (&ADDED_TYPE, |r| {
            r.headers_mut()
                .append("content-type", HeaderValue::from_static("text/plain"));
        }),
    ];
    let to = |path: &str| -> Outcome<_> {
        let mut request = post(&format!("{path}?memo=rent"), &order(4))?;
        set(&mut request, "x-memo", "rent");
        Ok(request)
    };
    let as_sent = thief
        .send_unverified(absolute(&bank, to("/twin/echo")?)?)
        .await?;
    for (attack, change) in changes {
        let nonce = victim.fresh_nonce()?;
        let prepared =
            victim.prepare(to("/api/transfer")?, Mode::Signed, ProofKind::Device, nonce)?;
        let mut request = copy(&prepared.request);
        change(&mut request);
        let response = send(&victim, request).await?;
        attack.refused(code(&response));
        assert!(bank.ledger.transfers().is_empty(), "{}", attack.does);

        // The twin has a handler see what has come, and nothing of it is missed.
        let mut request = to("/twin/echo")?;
        change(&mut request);
        let served = thief.send_unverified(absolute(&bank, request)?).await?;
        let is_seen = served.body() != as_sent.body() || std::ptr::eq(attack, &raw const TAKEN_OFF);
        attack.without(served.status() == 200 && is_seen);
    }
    let nonce = victim.fresh_nonce()?;
    let prepared = victim.prepare(to("/api/transfer")?, Mode::Signed, ProofKind::Device, nonce)?;
    assert_eq!(send(&victim, prepared.request).await?.status(), 200);
    Ok(())
}

fn set(request: &mut Request<Bytes>, name: &'static str, value: &'static str) {
    let headers = request.headers_mut();
    headers.insert(name, HeaderValue::from_static(value));
}

fn change_uri(request: &mut Request<Bytes>, from: &str, to: &str) {
    let uri = request.uri().to_string().replace(from, to);
    *request.uri_mut() = uri.parse().unwrap_or_default();
}

static KEPT_PROOF: Attack = Attack {
    has: "a proof that was made ahead of time, and not sent",
    does: "sends it later, or has it made for a nonce that he dates ahead",
    twin: Twin::App,
    without: "it pays whenever it is sent",
    with: Refused(&[Code::NonceStale]),
    names: &[Sess(9), Dpop(2), Api(2)],
    shown: Shown::nothing(),
};

static ENDED_SESSION: Attack = Attack {
    has: "a request of hers from before she logged out",
    does: "sends it afterwards",
    twin: Twin::App,
    without: "her token goes on paying",
    with: Refused(&[Code::SessionRevoked]),
    names: &[Sess(6), Asvs("7.4.1")],
    shown: Shown::nothing(),
};

static ENDED_RENEWAL: Attack = Attack {
    has: "fresh keys for her session, agreed on before she logged out",
    does: "uses them, or agrees on some more, afterwards",
    twin: Twin::App,
    without: "her token goes on paying",
    with: Refused(&[Code::SessionRevoked]),
    names: &[Sess(6), Asvs("7.4.1")],
    shown: Shown::nothing(),
};

async fn an_old_proof_and_an_ended_session_are_refused() -> Outcome {
    let bank = Bank::open().await?;
    let victim = logged_in(&bank).await?;
    let nonce = victim.fresh_nonce()?;
    let kept = victim.prepare(
        post("/api/transfer", &order(5))?,
        Mode::Sealed,
        ProofKind::Device,
        nonce,
    )?;
    let thief = client(&bank)?;
    let twins = twin_order(&bank, &thief, 5).await?;
    bank.clock.advance(180);
    let response = send(&victim, copy(&kept.request)).await?;
    let refused = kept
        .open_reply(response)
        .await
        .err()
        .map(|error| error.code);
    KEPT_PROOF.refused(refused);
    // Nor can whoever uses her key ahead of time date the nonce himself: the bank knows its own.
    for lives in 1..=4 {
        let ProofNonce { server, random } = victim.fresh_nonce()?;
        let mut dated: [u8; 21] = base64::decode_array(&server).ok_or("another kind of nonce")?;
        let epoch = dated.first_chunk_mut::<4>().ok_or("it has none")?;
        *epoch = (u32::from_be_bytes(*epoch) + lives).to_be_bytes();
        let server = base64::encode(dated);
        let nonce = ProofNonce { server, random };
        let ahead = victim.prepare(get("/api/me")?, Mode::Signed, ProofKind::Device, nonce)?;
        let refused = send(&victim, ahead.request).await?;
        KEPT_PROOF.refused(code(&refused));
    }
    assert!(bank.ledger.transfers().is_empty());
    // The twin takes what was kept for later.
    let kept = copy(&twins);
    KEPT_PROOF.without(thief.send_unverified(kept).await?.status() == 200);
    assert_eq!(bank.ledger.transfers().len(), 1);

    // The client itself goes on with the nonce that came with a refusal.
    let reply = victim.fetch(post("/api/transfer", &order(6))?).await?;
    assert_eq!(reply.status(), 200);

    let nonce = victim.fresh_nonce()?;
    let late = victim.prepare(
        post("/api/transfer", &order(7))?,
        Mode::Sealed,
        ProofKind::Device,
        nonce,
    )?;
    // Fresh keys for the session, agreed on before its end and never used; and what is needed to ask for more.
    let (device, loot) = (victim.client().clone(), victim.dangerous_loot()?);
    let renewal = device.prepare_opening(Some(loot.ticket.clone()))?;
    let renewed = renewal.answer(&device.send_unverified(renewal.request.clone()).await?)?;
    assert!(renewed.is_authenticated());
    victim.end().await?;
    let response = send(&victim, copy(&late.request)).await?;
    let refused = late
        .open_reply(response)
        .await
        .err()
        .map(|error| error.code);
    ENDED_SESSION.refused(refused);
    let nonce = renewed.fresh_nonce()?;
    let request = post("/api/transfer", &order(7))?;
    let renewed = renewed.prepare(request, Mode::Signed, ProofKind::Device, nonce)?;
    let again = device.prepare_opening(Some(loot.ticket))?;
    for request in [renewed.request, again.request] {
        let refused = device.send_unverified(request).await?;
        ENDED_RENEWAL.refused(code(&refused));
    }
    assert_eq!(bank.ledger.transfers().len(), 2);
    assert!(bank.ledger.refusals().contains(&"session_revoked"));
    // To log out of the twin is to forget a token, of which there is a copy.
    let goes_on = thief.send_unverified(twins).await?.status() == 200;
    ENDED_SESSION.without(goes_on);
    ENDED_RENEWAL.without(goes_on);
    Ok(())
}

/// What its twin's client takes is in `attack_middle_man`: whatever comes.
#[tokio::test]
async fn a_client_takes_no_reply_but_its_own() -> Outcome {
    let bank = Bank::open().await?;
    let victim = logged_in(&bank).await?;
    let mut prepared = Vec::new();
    for amount in [8, 9] {
        let nonce = victim.fresh_nonce()?;
        let request = post("/api/transfer", &order(amount))?;
        prepared.push(victim.prepare(request, Mode::Sealed, ProofKind::Device, nonce)?);
    }
    let first = send(&victim, copy(&prepared[0].request)).await?;
    let second = send(&victim, copy(&prepared[1].request)).await?;

    let swapped = prepared[0].open_reply(second.clone()).await.err();
    assert_eq!(swapped.map(|error| error.code), Some(Code::ReplyMismatch));

    let mut plain = Response::new(Bytes::from_static(b"{\"number\":1}"));
    plain
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/json"));
    let unsealed = prepared[0].open_reply(plain).await.err();
    assert_eq!(unsealed.map(|error| error.code), Some(Code::ReplyUnsealed));

    let body = first.body().clone();
    for at in 0..body.len() {
        let mut changed = body.to_vec();
        changed[at] ^= 0x80;
        let mut response = first.clone();
        *response.body_mut() = changed.into();
        let error = prepared[0].open_reply(response).await.err();
        let code = error
            .ok_or(format!("byte {at} was changed unnoticed"))?
            .code;
        let known = [Code::ReplyBroken, Code::ReplyInvalid, Code::ReplyTruncated];
        assert!(known.contains(&code), "byte {at}: {code}");
    }
    for cut in 0..body.len() {
        let mut response = first.clone();
        *response.body_mut() = body.slice(..cut);
        let error = prepared[0].open_reply(response).await.err();
        let code = error.ok_or(format!("a cut at {cut} was unnoticed"))?.code;
        let known = [Code::ReplyBroken, Code::ReplyInvalid, Code::ReplyTruncated];
        assert!(known.contains(&code), "cut at {cut}: {code}");
    }
    assert_eq!(prepared[0].open_reply(first).await?.status(), 200);
    assert_eq!(prepared[1].open_reply(second).await?.status(), 200);
    Ok(())
}

static SENT_ELSEWHERE: Attack = Attack {
    has: "a request of hers to one bank",
    does: "sends it to another one",
    twin: Twin::App,
    without: "what pays here pays there",
    with: Refused(&[Code::TicketInvalid]),
    names: &[Sess(9), Asvs("9.1.3"), Asvs("10.3.1")],
    shown: Shown::nothing(),
};

async fn another_servers_identity_is_refused() -> Outcome {
    let (bank, other) = (Bank::open().await?, Bank::open().await?);
    let misled = Client::builder(bank.server.origin())
        .identity(other.identity().parse()?)
        .build()?;
    let refused = misled.open().await.err().map(|error| error.code);
    assert_eq!(refused, Some(Code::IdentityChanged));

    // A proof is for one origin: the same ticket and proof mean nothing elsewhere.
    let victim = logged_in(&bank).await?;
    let nonce = victim.fresh_nonce()?;
    let prepared = victim.prepare(
        post("/api/transfer", &order(1))?,
        Mode::Sealed,
        ProofKind::Device,
        nonce,
    )?;
    let mut elsewhere = copy(&prepared.request);
    let uri = elsewhere.uri().to_string();
    *elsewhere.uri_mut() = uri
        .replace(&bank.server.origin(), &other.server.origin())
        .parse()?;
    let response = send(&victim, elsewhere).await?;
    SENT_ELSEWHERE.refused(code(&response));
    assert!(other.ledger.transfers().is_empty());

    // What moves money at one twin moves it at the other.
    let thief = client(&bank)?;
    let mut order = twin_order(&bank, &thief, 1).await?;
    *order.uri_mut() = other.server.url("/twin/transfer").parse()?;
    assert_eq!(thief.send_unverified(order).await?.status(), 200);
    SENT_ELSEWHERE.without(other.ledger.transfers().len() == 1);
    Ok(())
}

/// One thing done to the records of a message.
type Spoil = fn(&mut Vec<Vec<u8>>);

fn spoiled(sealed: &[u8], spoil: Spoil) -> Outcome<Bytes> {
    let (header, records) = Header::parse(sealed)?.ok_or("no envelope")?;
    let mut records: Vec<_> = records
        .chunks(header.record_size.try_into()?)
        .map(<[u8]>::to_vec)
        .collect();
    assert!(records.len() > 3);
    spoil(&mut records);
    Ok([header.encode(), records.concat()].concat().into())
}

/// What is done, and what the client calls it in a reply.
const SPOILS: [(&str, Spoil, Code); 5] = [
    ("dropped", |r| drop(r.remove(1)), Code::ReplyBroken),
    ("repeated", |r| r.insert(1, r[1].clone()), Code::ReplyBroken),
    ("moved", |r| r.swap(1, 2), Code::ReplyBroken),
    ("put last", |r| r.rotate_left(1), Code::ReplyBroken),
    ("cut", |r| drop(r.pop()), Code::ReplyTruncated),
];

/// Enough for several records.
const LONG: usize = 200_000;

static SPOILED_RECORDS: Attack = Attack {
    has: "a place on the way of a long sealed message",
    does: "drops, repeats or moves a record of it, or cuts the last one off",
    twin: Twin::App,
    without: "what is left is taken for the whole",
    with: Refused(&[Code::SealBroken, Code::ReplyBroken, Code::ReplyTruncated]),
    names: &[Asvs("4.1.5")],
    shown: Shown::nothing(),
};

async fn no_record_is_dropped_repeated_or_moved() -> Outcome {
    let bank = Bank::open().await?;
    let session = client(&bank)?.open().await?;
    let long = "x".repeat(LONG);
    let prepare = || -> Outcome<_> {
        let request = Request::post("/api/echo").body(Bytes::from(long.clone()))?;
        let nonce = session.fresh_nonce()?;
        Ok(session.prepare(request, Mode::Sealed, ProofKind::Device, nonce)?)
    };
    for (what, spoil, wanted) in SPOILS {
        let prepared = prepare()?;
        let mut request = copy(&prepared.request);
        *request.body_mut() = spoiled(prepared.request.body(), spoil)?;
        let response = send(&session, request).await?;
        let refused = match code(&response) {
            None => prepared.open_reply(response).await.err().map(|e| e.code),
            refused => refused,
        };
        assert_eq!(refused, Some(Code::SealBroken), "{what}");
        SPOILED_RECORDS.refused(refused);

        // It passes as it is; now its reply.
        let mut response = send(&session, copy(&prepared.request)).await?;
        let whole = response.clone();
        *response.body_mut() = spoiled(whole.body(), spoil)?;
        let refused = prepared.open_reply(response).await.err();
        let refused = refused.map(|error| error.code);
        assert_eq!(refused, Some(wanted), "{what}");
        SPOILED_RECORDS.refused(refused);
        assert_eq!(prepared.open_reply(whole).await?.status(), 200, "{what}");
    }

    // The twin takes what is left for the whole.
    let request = absolute(
        &bank,
        Request::post("/twin/echo").body(Bytes::from("left"))?,
    )?;
    let left = send(&session, request).await?;
    let left: Value = serde_json::from_slice(left.body())?;
    SPOILED_RECORDS.without(left["body"] == "left");
    Ok(())
}

static SPOILED_STREAM: Attack = Attack {
    has: "a place on the way of an upload whose handler already runs",
    does: "drops, repeats or moves a record of it, or cuts the last one off",
    twin: Twin::App,
    without: "what is left is taken for the whole",
    with: Refused(&[Code::SealBroken]),
    names: &[Asvs("4.1.5")],
    shown: Shown::nothing(),
};

/// The same of a stream, whose handler runs before it has ended and which no digest vouches for.
async fn no_record_of_a_stream_is_dropped_repeated_or_moved() -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    let builder = Client::builder(proxy.origin()).http(proxy.trusting_client()?);
    let session = builder.build()?.open().await?;
    for (what, spoil, _) in SPOILS {
        proxy.change_request(move |request| {
            request.map(|body| spoiled(&body, spoil).unwrap_or_default())
        });
        let content = || Full::new(Bytes::from("x".repeat(LONG)));
        let request = Request::post("/api/echo").body(content)?;
        // Where the head was whole the handler answers, and says that it could not read on.
        let taken = session.upload(request).await;
        assert!(!taken.is_ok_and(|reply| reply.status() == 200), "{what}");
        let refused = bank.ledger.refusals();
        SPOILED_STREAM.refused(refused.last().and_then(|code| code.parse().ok()));
    }

    // The twin takes what is left for the whole.
    proxy.change_request(|request| request.map(|body| body.slice(..4)));
    let url = format!("{}/twin/echo", proxy.origin());
    let request = Request::post(url).body(Bytes::from("left, right"))?;
    let left = send(&session, request).await?;
    let left: Value = serde_json::from_slice(left.body())?;
    SPOILED_STREAM.without(left["body"] == "left");
    Ok(())
}

static SHARED_LOGIN: Attack = Attack {
    has: "what a login hands out, on her own device",
    does: "has it used four times at once",
    twin: Twin::App,
    without: "all of them are logged in",
    with: RefusedByOneOf(&[Code::Replayed, Code::SessionRevoked]),
    names: &[Sess(3), Sess(11), Asvs("7.2.4")],
    shown: Shown::nothing(),
};

static KEPT_FROM_BEFORE_LOGIN: Attack = Attack {
    has: "her session from before the login",
    does: "uses it afterwards",
    twin: Twin::App,
    without: "what was handed out before goes on",
    with: Refused(&[Code::SessionRevoked]),
    names: &[Sess(3), Asvs("7.2.4")],
    shown: Shown::nothing(),
};

static CARRY_OVER_AS_TICKET: Attack = Attack {
    has: "what a login hands out",
    does: "uses it as a ticket",
    twin: Twin::App,
    without: "it is one",
    with: Refused(&[Code::TicketInvalid]),
    names: &[Sess(8), Asvs("9.2.2")],
    shown: Shown::nothing(),
};

async fn a_login_is_carried_over_once_also_at_once() -> Outcome {
    let bank = Bank::open().await?;
    let session = client(&bank)?.open().await?;
    let nonce = session.fresh_nonce()?;
    let request = post("/api/login", &json!({ "user": "ann" }))?;
    let login = session.prepare(request, Mode::Sealed, ProofKind::Device, nonce)?;
    let reply = send(&session, copy(&login.request)).await?;
    let reply = login.open_reply(reply).await?;
    let ticket = Ticket::from_field(reply.headers()["bulla-carry-over"].to_str()?)?;
    let client = session.client();
    let mut openings = Vec::new();
    for _ in 0..4 {
        openings.push(client.prepare_opening(Some(ticket.clone()))?.request);
    }
    let answers = openings.into_iter().map(|one| client.send_unverified(one));
    let answers = futures_util::future::try_join_all(answers).await?;
    let mut codes: Vec<_> = answers.iter().map(code).collect();
    codes.sort_by_key(Option::is_some);
    assert_eq!(codes[0], None);
    // Which of the two it is tells who was first, and nothing else.
    for code in &codes[1..] {
        SHARED_LOGIN.refused(*code);
    }

    // Neither what was from before the login nor the ticket itself is good for anything else.
    let loot = session.dangerous_loot()?;
    let carried = session.dangerous_with_loot(Loot { ticket, ..loot })?;
    for (session, attack) in [
        (&session, &KEPT_FROM_BEFORE_LOGIN),
        (&carried, &CARRY_OVER_AS_TICKET),
    ] {
        let nonce = session.fresh_nonce()?;
        let request = get("/api/me")?;
        let prepared = session.prepare(request, Mode::Signed, ProofKind::Device, nonce)?;
        attack.refused(code(&send(session, prepared.request).await?));
    }

    // What the twin hands out at a login is good for as many as have it.
    let order = twin_order(&bank, client, 1).await?;
    let orders = (0..4).map(|_| client.send_unverified(copy(&order)));
    let answers = futures_util::future::try_join_all(orders).await?;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    let has_paid = bank.ledger.transfers().len() == 4;
    SHARED_LOGIN.without(has_paid);
    CARRY_OVER_AS_TICKET.without(has_paid);
    // A later login leaves the one before as it is.
    let again = twin_order(&bank, client, 1).await?;
    for order in [again, order] {
        KEPT_FROM_BEFORE_LOGIN.without(client.send_unverified(order).await?.status() == 200);
    }
    Ok(())
}

static UNSIGNED_OPENING: Attack = Attack {
    has: "a place on the way of an opening",
    does: "takes its signature off",
    twin: Twin::App,
    without: "there is none to miss",
    with: Refused(&[Code::ProofMissing]),
    names: &[Asvs("9.1.1"), Api(2)],
    shown: Shown::nothing(),
};

static UNSIGNED_ANSWER: Attack = Attack {
    has: "a place on the way of the answer to an opening",
    does: "takes its signature off",
    twin: Twin::App,
    without: "there is none to miss",
    with: Refused(&[Code::ReplyInvalid]),
    names: &[Asvs("9.1.1")],
    shown: Shown::nothing(),
};

static SEALED_UNSIGNED: Attack = Attack {
    has: "the sealing keys, and no other",
    does: "seals a request without a proof",
    twin: Twin::App,
    without: "no request has one",
    with: Refused(&[Code::ProofMissing]),
    names: &[Asvs("9.1.1"), Api(2)],
    shown: Shown::nothing(),
};

async fn a_signature_that_is_taken_off_is_missed_on_either_side() -> Outcome {
    let bank = Bank::open().await?;
    let client = client(&bank)?;
    for name in ["signature", "signature-input"] {
        let opening = client.prepare_opening(None)?;
        let mut request = copy(&opening.request);
        request.headers_mut().remove(name);
        let refused = client.send_unverified(request).await?;
        UNSIGNED_OPENING.refused(code(&refused));

        let mut answer = client.send_unverified(copy(&opening.request)).await?;
        assert!(opening.answer(&answer).is_ok());
        answer.headers_mut().remove(name);
        let refused = opening.answer(&answer).err();
        UNSIGNED_ANSWER.refused(refused.map(|error| error.code));
    }
    let session = client.open().await?;
    let origin = bank.server.origin();
    let head = Head {
        control: Control::Request {
            method: "GET".into(),
            scheme: "http".into(),
            authority: origin.trim_start_matches("http://").into(),
            target: "/api/me".into(),
        },
        fields: Vec::new(),
    };
    let unsigned = session.dangerous_seal(&message::whole(head, b"")?)?;
    let refused = send(&session, unsigned).await?;
    SEALED_UNSIGNED.refused(code(&refused));

    // The twin misses nothing, and neither does its client.
    let order = twin_order(&bank, &client, 1).await?;
    let answer = client.send_unverified(order.clone()).await?;
    let is_unsigned = |headers: &HeaderMap| !headers.contains_key("signature");
    let is_paid = answer.status() == 200 && is_unsigned(order.headers());
    UNSIGNED_OPENING.without(is_paid);
    SEALED_UNSIGNED.without(is_paid);
    UNSIGNED_ANSWER.without(is_paid && is_unsigned(answer.headers()));
    Ok(())
}

static HALF_SENT: Attack = Attack {
    has: "a request of hers, recorded",
    does: "sends half of a copy, and the rest when the bank has forgotten the original",
    twin: Twin::App,
    without: "it pays twice",
    with: Refused(&[Code::NonceStale]),
    names: &[Sess(9), Api(2)],
    shown: Shown::nothing(),
};

/// A copy of which the bank has the head, and not the whole content before it has forgotten the original.
async fn a_copy_that_is_kept_half_sent_is_refused() -> Outcome {
    // By default nobody waits for so long.
    let bank = Bank::open_with(|builder| builder.pace(None)).await?;
    let victim = logged_in(&bank).await?;
    let nonce = victim.fresh_nonce()?;
    let request = post("/api/transfer", &order(1))?;
    let prepared = victim.prepare(request, Mode::Signed, ProofKind::Device, nonce)?;
    let twins = twin_order(&bank, victim.client(), 1).await?;
    let halves = [
        Half::send(&bank, &prepared.request, "close").await?,
        Half::send(&bank, &twins, "close").await?,
    ];
    for whole in [&prepared.request, &twins] {
        assert_eq!(send(&victim, copy(whole)).await?.status(), 200);
    }
    bank.clock.advance(600);
    let [refused, taken] = halves;
    let refused = refused.send_rest(prepared.request.body()).await?;
    let content = refused.split("\r\n\r\n").last().unwrap_or_default();
    HALF_SENT.refused(Problem::parse(content.as_bytes()));
    let taken = taken.send_rest(twins.body()).await?;
    assert!(taken.starts_with("HTTP/1.1 200"), "{taken}");
    HALF_SENT.without(bank.ledger.transfers().len() == 3);
    Ok(())
}

static SLOW_BODY: Attack = Attack {
    has: "a network",
    does: "announces contents and does not send them, as openings, signed and sealed",
    twin: Twin::Weakened("the verifier without a pace"),
    without: "the connections are held",
    with: Refused(&[Code::TooSlow]),
    names: &[Api(4), Asvs("15.2.2")],
    shown: Shown::nothing(),
};

/// He announces bodies and does not send them, in order to hold as many connections as the bank has.
async fn a_body_that_never_comes_holds_no_connection() -> Outcome {
    let bank = Bank::open().await?;
    let victim = logged_in(&bank).await?;
    let opening = victim.client().prepare_opening(None)?.request;
    let prepare = |mode| {
        let (request, nonce) = (post("/api/transfer", &order(1))?, victim.fresh_nonce()?);
        let prepared = victim.prepare(request, mode, ProofKind::Device, nonce)?;
        Outcome::Ok(prepared.request)
    };
    let (signed, sealed) = (prepare(Mode::Signed)?, prepare(Mode::Sealed)?);
    let mut held = Vec::new();
    for request in [&opening, &signed, &sealed] {
        held.push(Half::send(&bank, request, "keep-alive").await?);
    }
    bank.clock.advance(21);
    for half in held {
        // To the end, which only comes when the connection is closed.
        let refused = half.send_rest(b"").await?;
        assert!(refused.starts_with("HTTP/1.1 408"), "{refused}");
        assert!(refused.contains("connection: close"), "{refused}");
        let content = refused.split("\r\n\r\n").last().unwrap_or_default();
        SLOW_BODY.refused(Problem::parse(content.as_bytes()));
    }
    // None of them was used up.
    assert!(bank.ledger.transfers().is_empty());
    for request in [opening, signed, sealed] {
        assert_eq!(send(&victim, request).await?.status(), 200);
    }
    assert_eq!(bank.ledger.transfers().len(), 2);

    // Without a pace they would be held for as long as he likes.
    let patient = Bank::open_with(|builder| builder.pace(None)).await?;
    let opening = client(&patient)?.prepare_opening(None)?.request;
    let half = Half::send(&patient, &opening, "close").await?;
    patient.clock.advance(600);
    let taken = half.send_rest(opening.body()).await?;
    SLOW_BODY.without(taken.starts_with("HTTP/1.1 200"));
    Ok(())
}

/// A request whose head has been looked at, and whose content is waited for.
struct Half(TcpStream);

impl Half {
    async fn send(bank: &Bank, request: &Request<Bytes>, connection: &str) -> Outcome<Self> {
        let (method, path, length) = (request.method(), request.uri().path(), request.body().len());
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: {connection}\r\n\
             Expect: 100-continue\r\nContent-Length: {length}\r\n",
            bank.server.port()
        );
        for (name, value) in request.headers() {
            write!(head, "{name}: {}\r\n", value.to_str()?)?;
        }
        head.push_str("\r\n");
        let mut stream = TcpStream::connect(("127.0.0.1", bank.server.port())).await?;
        stream.write_all(head.as_bytes()).await?;
        // The server asks for the content once it wants to read it.
        let mut answer = vec![0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        stream.read_exact(&mut answer).await?;
        assert!(answer.starts_with(b"HTTP/1.1 100"));
        Ok(Self(stream))
    }

    async fn send_rest(mut self, content: &[u8]) -> Outcome<String> {
        self.0.write_all(content).await?;
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

static OTHER_ORIGIN: Attack = Attack {
    has: "a request of hers to one origin of a bank",
    does: "sends it to another origin of the same bank",
    twin: Twin::App,
    without: "what pays here pays there",
    with: Refused(&[Code::TicketInvalid]),
    names: &[Sess(9), Asvs("3.5.4"), Asvs("10.3.1")],
    shown: Shown::nothing(),
};

static OPENED_AT_OTHER_ORIGIN: Attack = Attack {
    has: "her opening at one origin of a bank",
    does: "sends it to another origin of the same bank",
    twin: Twin::App,
    without: "what pays here pays there",
    with: Refused(&[Code::ProofMismatch]),
    names: &[Sess(3), Asvs("10.3.1")],
    shown: Shown::nothing(),
};

/// One verifier, two origins: what was proved to one says nothing to the other.
async fn a_proof_is_for_one_origin_of_a_bank_that_has_two() -> Outcome {
    const OTHER: HeaderValue = HeaderValue::from_static("other.example");

    let bank = Bank::open_with(|builder| builder.origin("http://other.example")).await?;
    let victim = logged_in(&bank).await?;
    for mode in [Mode::Sealed, Mode::SealedAtPath, Mode::Signed] {
        let nonce = victim.fresh_nonce()?;
        let request = post("/api/transfer", &order(1))?;
        let mut request = victim
            .prepare(request, mode, ProofKind::Device, nonce)?
            .request;
        request.headers_mut().insert("host", OTHER);
        let refused = send(&victim, request).await?;
        OTHER_ORIGIN.refused(code(&refused));
    }
    let mut opening = victim.client().prepare_opening(None)?.request;
    opening.headers_mut().insert("host", OTHER);
    let refused = send(&victim, opening).await?;
    OPENED_AT_OTHER_ORIGIN.refused(code(&refused));
    assert!(bank.ledger.transfers().is_empty());

    let mut order = twin_order(&bank, victim.client(), 1).await?;
    order.headers_mut().insert("host", OTHER);
    let is_paid = send(&victim, order).await?.status() == 200;
    OTHER_ORIGIN.without(is_paid);
    OPENED_AT_OTHER_ORIGIN.without(is_paid);
    Ok(())
}

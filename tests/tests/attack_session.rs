//! What a thief, a middle man and a vandal try, with a real client over real connections. Each attack
//! that moves money is also carried out against the unprotected twin, where it succeeds.

use std::fmt::Write as _;

use bulla_client::{Client, Code, Loot, Mode, ProofKind, ProofNonce, Session, Ticket};
use bulla_protocol::base64;
use bulla_protocol::error::Problem;
use bulla_protocol::message::{self, Control, Head};
use bulla_protocol::seal::Header;
use bulla_tests::attack::{Proxy, bank_behind};
use bulla_tests::bank::Bank;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

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

/// What the twin does with a request that carries a copied token.
async fn twin_transfer(bank: &Bank, thief: &Client, amount: u64) -> Outcome<Response<Bytes>> {
    let request = twin_order(bank, thief, amount).await?;
    Ok(thief.send_unverified(request).await?)
}

fn absolute(bank: &Bank, request: Request<Bytes>) -> Outcome<Request<Bytes>> {
    let (mut parts, body) = request.into_parts();
    parts.uri = bank.server.url(parts.uri.path()).parse()?;
    Ok(Request::from_parts(parts, body))
}

#[tokio::test]
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
            assert_eq!(refused, Some(Code::ProofMismatch), "{kind:?} {mode:?}");
        }
    }

    // Carrying the session over to his own keys.
    let carried = thief.client().prepare_opening(Some(loot.ticket.clone()))?;
    let response = send(&thief, carried.request.clone()).await?;
    assert_eq!(code(&response), Some(Code::TicketInvalid));

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
    assert_eq!(code(&response), Some(Code::ProofMismatch));

    assert!(bank.ledger.transfers().is_empty());
    assert_eq!(twin_transfer(&bank, thief.client(), 5).await?.status(), 200);
    assert_eq!(bank.ledger.transfers().len(), 1, "the twin was robbed");
    Ok(())
}

#[tokio::test]
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
        for response in [first?, second?, later] {
            codes.push(match mode {
                Mode::Signed => code(&response),
                _ => prepared
                    .open_reply(response)
                    .await
                    .err()
                    .map(|error| error.code),
            });
        }
        codes.sort_by_key(Option::is_some);
        assert_eq!(
            codes,
            [None, Some(Code::Replayed), Some(Code::Replayed)],
            "{mode:?}"
        );
        assert_eq!(bank.ledger.transfers().len(), before + 1, "{mode:?}");
    }

    let thief = client(&bank)?;
    let before = bank.ledger.transfers().len();
    for _ in 0..2 {
        assert_eq!(twin_transfer(&bank, &thief, 2).await?.status(), 200);
    }
    assert_eq!(
        bank.ledger.transfers().len(),
        before + 2,
        "the twin pays twice"
    );
    Ok(())
}

#[tokio::test]
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
        let known = [
            Code::SealBroken,
            Code::TicketInvalid,
            Code::Malformed,
            Code::TooLarge,
        ];
        assert!(known.contains(&code), "{what}: {code}");
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
    assert_eq!(booked["amount"], 4);
    Ok(())
}

#[tokio::test]
async fn every_part_of_a_signed_request_counts() -> Outcome {
    type Change = (&'static str, fn(&mut Request<Bytes>), Code);

    const OTHER_DIGEST: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";

    let bank = Bank::open().await?;
    let victim = logged_in(&bank).await?;
    let changes: [Change; 12] = [
        (
            "method",
            |r| *r.method_mut() = Method::PUT,
            Code::ProofMismatch,
        ),
        (
            "path",
            |r| change_uri(r, "/api/transfer?", "/api/transfer/device?"),
            Code::ProofMismatch,
        ),
        (
            "query",
            |r| change_uri(r, "memo=rent", "memo=tent"),
            Code::ProofMismatch,
        ),
        (
            "content type",
            |r| set(r, "content-type", "text/plain"),
            Code::ProofMismatch,
        ),
        (
            "a field of the app",
            |r| set(r, "x-memo", "tent"),
            Code::ProofMismatch,
        ),
        (
            "an uncovered authorization",
            |r| set(r, "authorization", "Bearer x"),
            Code::CoverageMissing,
        ),
        (
            "an uncovered coding",
            |r| set(r, "content-encoding", "gzip"),
            Code::CoverageMissing,
        ),
        (
            "body",
            |r| *r.body_mut() = order(1_000_000).to_string().into(),
            Code::DigestMismatch,
        ),
        (
            "digest",
            |r| set(r, "content-digest", OTHER_DIGEST),
            Code::ProofMismatch,
        ),
        (
            "no signature",
            |r| drop(r.headers_mut().remove("signature")),
            Code::ProofMissing,
        ),
        (
            "no ticket",
            |r| drop(r.headers_mut().remove("bulla-ticket")),
            Code::ProofMissing,
        ),
        (
            "two content types",
            |r| {
                r.headers_mut()
                    .append("content-type", HeaderValue::from_static("text/plain"));
            },
            Code::FieldRefused,
        ),
    ];
    for (what, change, wanted) in changes {
        let mut request = post("/api/transfer?memo=rent", &order(4))?;
        set(&mut request, "x-memo", "rent");
        let nonce = victim.fresh_nonce()?;
        let prepared = victim.prepare(request, Mode::Signed, ProofKind::Device, nonce)?;
        let mut request = copy(&prepared.request);
        change(&mut request);
        let response = send(&victim, request).await?;
        assert_eq!(code(&response), Some(wanted), "{what}");
        assert!(bank.ledger.transfers().is_empty(), "{what}");
    }
    let nonce = victim.fresh_nonce()?;
    let prepared = victim.prepare(
        post("/api/transfer?memo=rent", &order(4))?,
        Mode::Signed,
        ProofKind::Device,
        nonce,
    )?;
    assert_eq!(send(&victim, prepared.request).await?.status(), 200);

    // The twin carries out whatever arrives.
    let thief = client(&bank)?;
    assert_eq!(twin_transfer(&bank, &thief, 1_000_000).await?.status(), 200);
    assert_eq!(bank.ledger.transfers()[1]["amount"], 1_000_000);
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

#[tokio::test]
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
    assert_eq!(refused, Some(Code::NonceStale));
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
        assert_eq!(code(&refused), Some(Code::NonceStale), "{lives}");
    }
    assert!(bank.ledger.transfers().is_empty());
    // The twin takes what was kept for later.
    assert_eq!(thief.send_unverified(twins).await?.status(), 200);
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
    assert_eq!(refused, Some(Code::SessionRevoked));
    let nonce = renewed.fresh_nonce()?;
    let request = post("/api/transfer", &order(7))?;
    let renewed = renewed.prepare(request, Mode::Signed, ProofKind::Device, nonce)?;
    let again = device.prepare_opening(Some(loot.ticket))?;
    for request in [renewed.request, again.request] {
        let refused = device.send_unverified(request).await?;
        assert_eq!(code(&refused), Some(Code::SessionRevoked));
    }
    assert_eq!(bank.ledger.transfers().len(), 2);
    assert!(bank.ledger.refusals().contains(&"session_revoked"));
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

#[tokio::test]
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
    assert_eq!(code(&response), Some(Code::TicketInvalid));
    assert!(other.ledger.transfers().is_empty());

    // What moves money at one twin moves it at the other.
    let thief = client(&bank)?;
    let mut order = twin_order(&bank, &thief, 1).await?;
    *order.uri_mut() = other.server.url("/twin/transfer").parse()?;
    assert_eq!(thief.send_unverified(order).await?.status(), 200);
    assert_eq!(other.ledger.transfers().len(), 1);
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

#[tokio::test]
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

        // It passes as it is; now its reply.
        let mut response = send(&session, copy(&prepared.request)).await?;
        let whole = response.clone();
        *response.body_mut() = spoiled(whole.body(), spoil)?;
        let refused = prepared.open_reply(response).await.err();
        assert_eq!(refused.map(|error| error.code), Some(wanted), "{what}");
        assert_eq!(prepared.open_reply(whole).await?.status(), 200, "{what}");
    }

    // The twin takes what is left for the whole.
    let request = absolute(
        &bank,
        Request::post("/twin/echo").body(Bytes::from("left"))?,
    )?;
    let left = send(&session, request).await?;
    let left: Value = serde_json::from_slice(left.body())?;
    assert_eq!(left["body"], "left");
    Ok(())
}

/// The same of a stream, whose handler runs before it has ended and which no digest vouches for.
#[tokio::test]
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
        assert_eq!(refused.last(), Some(&"seal_broken"), "{what}");
    }

    // The twin takes what is left for the whole.
    proxy.change_request(|request| request.map(|body| body.slice(..4)));
    let url = format!("{}/twin/echo", proxy.origin());
    let request = Request::post(url).body(Bytes::from("left, right"))?;
    let left = send(&session, request).await?;
    let left: Value = serde_json::from_slice(left.body())?;
    assert_eq!(left["body"], "left");
    Ok(())
}

/// Each direction has a key of its own.
#[tokio::test]
async fn nothing_is_taken_for_its_own_answer() -> Outcome {
    let bank = Bank::open().await?;
    let session = client(&bank)?.open().await?;
    let nonce = session.fresh_nonce()?;
    let request = Request::get("/api/me").body(Bytes::new())?;
    let prepared = session.prepare(request, Mode::Sealed, ProofKind::Device, nonce)?;
    let reply = send(&session, copy(&prepared.request)).await?;

    let (header, records) = Header::parse(prepared.request.body())?.ok_or("no envelope")?;
    let bare = Header {
        keyid: Vec::new(),
        ..header.clone()
    };
    for (header, wanted) in [(&header, Code::ReplyInvalid), (&bare, Code::ReplyBroken)] {
        let mut reflected = reply.clone();
        *reflected.body_mut() = [&header.encode(), records].concat().into();
        let refused = prepared.open_reply(reflected).await.err();
        assert_eq!(refused.map(|error| error.code), Some(wanted));
    }
    let (bare, records) = Header::parse(reply.body())?.ok_or("no envelope")?;
    let ticketed = Header {
        keyid: header.keyid,
        ..bare.clone()
    };
    for (header, wanted) in [(bare, Code::Malformed), (ticketed, Code::SealBroken)] {
        let mut reflected = copy(&prepared.request);
        *reflected.body_mut() = [&header.encode(), records].concat().into();
        assert_eq!(code(&send(&session, reflected).await?), Some(wanted));
    }
    assert_eq!(prepared.open_reply(reply).await?.status(), 200);
    Ok(())
}

#[tokio::test]
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
        let refused = matches!(code, Some(Code::Replayed | Code::SessionRevoked));
        assert!(refused, "{codes:?}");
    }

    // Neither what was from before the login nor the ticket itself is good for anything else.
    let loot = session.dangerous_loot()?;
    let carried = session.dangerous_with_loot(Loot { ticket, ..loot })?;
    for (session, wanted) in [
        (&session, Code::SessionRevoked),
        (&carried, Code::TicketInvalid),
    ] {
        let nonce = session.fresh_nonce()?;
        let request = get("/api/me")?;
        let prepared = session.prepare(request, Mode::Signed, ProofKind::Device, nonce)?;
        assert_eq!(code(&send(session, prepared.request).await?), Some(wanted));
    }

    // What the twin hands out at a login is good for as many as have it.
    let order = twin_order(&bank, client, 1).await?;
    let orders = (0..4).map(|_| client.send_unverified(copy(&order)));
    let answers = futures_util::future::try_join_all(orders).await?;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    assert_eq!(bank.ledger.transfers().len(), 4);
    Ok(())
}

#[tokio::test]
async fn a_signature_that_is_taken_off_is_missed_on_either_side() -> Outcome {
    let bank = Bank::open().await?;
    let client = client(&bank)?;
    for name in ["signature", "signature-input"] {
        let opening = client.prepare_opening(None)?;
        let mut request = copy(&opening.request);
        request.headers_mut().remove(name);
        let refused = client.send_unverified(request).await?;
        assert_eq!(code(&refused), Some(Code::ProofMissing), "{name}");

        let mut answer = client.send_unverified(copy(&opening.request)).await?;
        assert!(opening.answer(&answer).is_ok());
        answer.headers_mut().remove(name);
        let refused = opening.answer(&answer).err();
        let refused = refused.map(|error| error.code);
        assert_eq!(refused, Some(Code::ReplyInvalid), "{name}");
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
    assert_eq!(code(&refused), Some(Code::ProofMissing));

    // The twin misses nothing, and neither does its client.
    let order = twin_order(&bank, &client, 1).await?;
    let answer = client.send_unverified(order.clone()).await?;
    assert_eq!(answer.status(), 200);
    for headers in [order.headers(), answer.headers()] {
        assert!(!headers.contains_key("signature"));
    }
    Ok(())
}

/// A copy of which the bank has the head, and not the whole content before it has forgotten the original.
#[tokio::test]
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
    assert!(refused.contains("nonce_stale"), "{refused}");
    let taken = taken.send_rest(twins.body()).await?;
    assert!(taken.starts_with("HTTP/1.1 200"), "{taken}");
    assert_eq!(bank.ledger.transfers().len(), 3, "the twin pays twice");
    Ok(())
}

/// He announces bodies and does not send them, in order to hold as many connections as the bank has.
#[tokio::test]
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
        assert!(refused.contains("too_slow"), "{refused}");
    }
    // None of them was used up.
    assert!(bank.ledger.transfers().is_empty());
    for request in [opening, signed, sealed] {
        assert_eq!(send(&victim, request).await?.status(), 200);
    }
    assert_eq!(bank.ledger.transfers().len(), 2);
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

/// One verifier, two origins: what was proved to one says nothing to the other.
#[tokio::test]
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
        assert_eq!(code(&refused), Some(Code::TicketInvalid), "{mode:?}");
    }
    let mut opening = victim.client().prepare_opening(None)?.request;
    opening.headers_mut().insert("host", OTHER);
    let refused = send(&victim, opening).await?;
    assert_eq!(code(&refused), Some(Code::ProofMismatch));
    assert!(bank.ledger.transfers().is_empty());

    let mut order = twin_order(&bank, victim.client(), 1).await?;
    order.headers_mut().insert("host", OTHER);
    assert_eq!(send(&victim, order).await?.status(), 200);
    Ok(())
}

//! A middle man whom the client's TLS trusts. He is on the way of every byte in both directions, and
//! what he does to the bank he also does to its unprotected twin, where it works.

use bulla_client::{Client, Code, Mode, ProofKind, Session};
use bulla_protocol::base64;
use bulla_protocol::digest::ContentDigest;
use bulla_protocol::seal::Header;
use bulla_tests::attack::Name::{Api, Asvs, Sess};
use bulla_tests::attack::With::{Held, Refused, Works};
use bulla_tests::attack::{
    Attack, Exchange, Outcome, Proxy, Shown, Twin, bank_behind, code, error_code, forged, log_in,
    post, transfer,
};
use bulla_tests::bank::Bank;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use serde_json::{Value, json};

bulla_tests::attacks! {
    he_reads_nothing: [READS_ALONG],
    he_changes_no_request_unnoticed: [CHANGES_REQUEST],
    he_changes_no_reply_unnoticed: [CHANGES_REPLY],
    he_drops_a_reply_and_claims_that_nothing_happened: [DENIES_IT],
    he_asks_for_the_same_under_a_later_nonce: [ASKS_AGAIN],
    he_keeps_a_reply_until_the_bank_has_forgotten: [ASKS_LATE],
    he_asks_for_a_stronger_proof_of_what_was_done: [ASKS_FOR_MORE],
    he_replays_openings: [REPLAYS_LOGIN, REPLAYS_OPENING, REPLAYS_ANSWER],
    he_swaps_tickets: [SWAPS_TICKETS, CROSSES_REPLIES],
    he_puts_another_identity_in_the_place_of_the_banks: [IS_THE_BANK, WAS_FIRST, CHANGES_IDENTITY],
    he_strips_versions_and_pins: [LOWERS_OPENING, LOWERS_ANSWER, CLAIMS_OLD_VERSION],
}

/// A client whose time goes with the bank's.
fn client(proxy: &Proxy, bank: &Bank) -> Outcome<Client> {
    let builder = Client::builder(proxy.origin()).identity(bank.bulla.identity());
    let builder = builder.http(proxy.trusting_client()?);
    Ok(builder.clock(bank.clock.clone()).build()?)
}

async fn open(proxy: &Proxy, bank: &Bank) -> Outcome<Session> {
    Ok(client(proxy, bank)?.open().await?)
}

async fn logged_in(proxy: &Proxy, bank: &Bank) -> Outcome<Session> {
    let session = open(proxy, bank).await?;
    log_in(&session).await?;
    Ok(session)
}

/// An order to the twin, as its own client sends it.
fn twin_order(proxy: &Proxy, amount: u64) -> Outcome<Request<Bytes>> {
    let url = format!("{}/twin/transfer", proxy.origin());
    let mut request = post(&url, &json!({ "to": "bob", "amount": amount }))?;
    let token = HeaderValue::from_static("Bearer token-of-ann");
    request.headers_mut().insert("authorization", token);
    Ok(request)
}

fn everything(proxy: &Proxy) -> Vec<u8> {
    let seen = proxy.seen();
    seen.iter().flat_map(Exchange::bytes).collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    let encoded = base64::encode(text);
    // Without the ends, which depend on what stands beside it.
    let encoded = &encoded[..encoded.len() - 2];
    [text, encoded].iter().any(|needle| {
        bytes
            .windows(needle.len())
            .any(|window| window.eq_ignore_ascii_case(needle.as_bytes()))
    })
}

static READS_ALONG: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "reads what passes",
    twin: Twin::App,
    without: "he reads all of it",
    with: Held("one path, sizes and times"),
    names: &[Sess(4), Asvs("14.2.1"), Asvs("14.2.3")],
    shown: Shown::nothing(),
};

async fn he_reads_nothing() -> Outcome {
    const SECRETS: [&str; 6] = [
        "annabel.lee",
        "/api/transfer",
        "memo=underpaid",
        "x-underground",
        "9137461",
        "receipt",
    ];
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    let session = open(&proxy, &bank).await?;
    let login = post("/api/login", &json!({ "user": "annabel.lee" }))?;
    session.fetch(login).await?;
    let order = json!({ "to": "bob", "amount": 9_137_461 });
    let mut request = post("/api/transfer?memo=underpaid", &order)?;
    let value = HeaderValue::from_static("yes");
    request.headers_mut().insert("x-underground", value.clone());
    let reply = session.fetch(request).await?.into_body().bytes().await?;
    assert!(contains(&reply, "receipt") && contains(&reply, "annabel.lee"));
    let read = everything(&proxy);
    assert!(read.len() > 2000 && contains(&read, "/.well-known/bulla/sealed"));
    for secret in SECRETS {
        READS_ALONG.with(!contains(&read, secret));
    }
    // The twin hides nothing.
    let mut request = twin_order(&proxy, 9_137_461)?;
    request.headers_mut().insert("x-underground", value);
    session.client().send_unverified(request).await?;
    let read = everything(&proxy);
    for secret in ["/twin/transfer", "x-underground", "9137461", "receipt"] {
        READS_ALONG.without(contains(&read, secret));
    }
    Ok(())
}

static CHANGES_REQUEST: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "changes a request, where it goes, or what it is said to be",
    twin: Twin::App,
    without: "it pays more, to somebody else",
    with: Refused(&[
        Code::SealBroken,
        Code::TicketInvalid,
        Code::PathRefused,
        Code::AuthorityMismatch,
        Code::ProofMissing,
    ]),
    names: &[Asvs("4.1.5"), Api(8)],
    shown: Shown::nothing(),
};

async fn he_changes_no_request_unnoticed() -> Outcome {
    type OnRequest = fn(Request<Bytes>) -> Request<Bytes>;

    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    let session = logged_in(&proxy, &bank).await?;

    let requests: [(&str, OnRequest, Code); 9] = [
        ("salt", |r| flip(r, 3), Code::SealBroken),
        ("record size", |r| flip(r, 16), Code::SealBroken),
        ("ticket", |r| flip(r, 100), Code::TicketInvalid),
        ("record", |r| flip_from_end(r, 20), Code::SealBroken),
        ("cut", |r| cut(r, 1), Code::SealBroken),
        (
            "another path",
            |r| with_uri(r, "/api/me"),
            Code::PathRefused,
        ),
        (
            "another host",
            |r| with_field(r, "host", "elsewhere.example"),
            Code::AuthorityMismatch,
        ),
        (
            "not marked as sealed",
            |r| with_field(r, "content-type", "application/json"),
            Code::ProofMissing,
        ),
        (
            "another method",
            |mut r| {
                *r.method_mut() = Method::PUT;
                r
            },
            Code::ProofMissing,
        ),
    ];
    for (what, change, wanted) in requests {
        proxy.change_request(change);
        let refused = error_code(session.fetch(transfer(1)?).await);
        assert_eq!(refused, Some(wanted), "{what}");
        CHANGES_REQUEST.refused(refused);
        assert!(bank.ledger.transfers().is_empty(), "{what}");
        if wanted == Code::TicketInvalid {
            // The client has opened anew, and Ann has to log in again: nothing of hers was guessed.
            log_in(&session).await?;
        }
    }

    // The twin pays more, to somebody else.
    proxy.change_request(|request| {
        request.map(|_| Bytes::from_static(br#"{"to":"mallory","amount":1000}"#))
    });
    session
        .client()
        .send_unverified(twin_order(&proxy, 1)?)
        .await?;
    CHANGES_REQUEST.without(bank.ledger.transfers()[0]["to"] == "mallory");
    Ok(())
}

static CHANGES_REPLY: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "changes a reply, cuts it, or answers in plain text",
    twin: Twin::App,
    without: "its client believes whatever it reads",
    with: Refused(&[Code::ReplyBroken, Code::ReplyTruncated, Code::ReplyUnsealed]),
    names: &[Asvs("4.1.5")],
    shown: Shown::nothing(),
};

async fn he_changes_no_reply_unnoticed() -> Outcome {
    type OnReply = fn(Response<Bytes>) -> Response<Bytes>;

    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    let session = logged_in(&proxy, &bank).await?;
    let replies: [(&str, OnReply, Code); 7] = [
        ("salt", |r| flip_reply(r, 3), Code::ReplyBroken),
        ("record", |r| flip_reply(r, 40), Code::ReplyBroken),
        (
            "cut",
            |r| r.map(|body| body.slice(..body.len() / 2)),
            Code::ReplyBroken,
        ),
        (
            "nothing left",
            |r| r.map(|_| Bytes::new()),
            Code::ReplyTruncated,
        ),
        (
            "plain text",
            |_| Response::new(Bytes::from_static(b"{\"number\":1}")),
            Code::ReplyUnsealed,
        ),
        (
            "not marked as sealed",
            |mut r| {
                r.headers_mut().remove("content-type");
                r
            },
            Code::ReplyUnsealed,
        ),
        (
            "another status",
            |mut r| {
                *r.status_mut() = http::StatusCode::ACCEPTED;
                r
            },
            Code::ReplyUnsealed,
        ),
    ];
    for (at, (what, change, wanted)) in replies.into_iter().enumerate() {
        proxy.change_reply(change);
        let fetched = async {
            let reply = session.fetch(transfer(2)?).await?;
            Ok::<_, Box<dyn std::error::Error>>(reply.into_body().bytes().await?)
        };
        let error = fetched.await.err().ok_or(what)?;
        let error = error.downcast::<bulla_client::Error>()?;
        assert_eq!(error.code, wanted, "{what}");
        CHANGES_REPLY.refused(Some(error.code));
        // It was carried out, once: the client can only say that it does not know.
        assert_eq!(bank.ledger.transfers().len(), at + 1, "{what}");
    }

    // The twin's client believes whatever it reads.
    proxy.change_reply(|reply| reply.map(|_| Bytes::from_static(b"refused")));
    let reply = session
        .client()
        .send_unverified(twin_order(&proxy, 1)?)
        .await?;
    CHANGES_REPLY.without(reply.status() == 200 && reply.body()[..] == b"refused"[..]);
    Ok(())
}

static DENIES_IT: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "drops a reply, and says that the nonce was stale",
    twin: Twin::App,
    without: "it pays twice",
    with: Refused(&[Code::Replayed]),
    names: &[Api(6)],
    shown: Shown::nothing(),
};

async fn he_drops_a_reply_and_claims_that_nothing_happened() -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    let session = logged_in(&proxy, &bank).await?;

    // What the client does about each refusal that he can forge.
    let forgeries = [
        (Code::NonceStale, Code::Replayed),
        (Code::ProofWeak, Code::ProofWeak),
        (Code::SessionUnconfirmed, Code::SessionUnconfirmed),
        (Code::StoreUnavailable, Code::StoreUnavailable),
        (Code::Internal, Code::Internal),
        (Code::SessionRevoked, Code::SessionRevoked),
        (Code::TicketExpired, Code::TicketExpired),
        (Code::TicketInvalid, Code::TicketInvalid),
    ];
    for (at, (claimed, wanted)) in forgeries.into_iter().enumerate() {
        let nonce = bank_nonce(&proxy)?;
        proxy.change_reply(move |_| forged(claimed.because("so he says"), Some(nonce)));
        let refused = error_code(session.fetch(transfer(1)?).await);
        assert_eq!(refused, Some(wanted), "{claimed}");
        if claimed == Code::NonceStale {
            DENIES_IT.refused(refused);
        }
        assert_eq!(bank.ledger.transfers().len(), at + 1, "{claimed}");
        if !session.is_authenticated() {
            log_in(&session).await?;
        }
    }

    let pays = the_twin_pays_twice(&proxy, &bank, session.client(), Code::NonceStale);
    DENIES_IT.without(pays.await?);
    Ok(())
}

/// The nonce that anybody is handed now.
async fn fresh_nonce(bank: &Bank, client: &Client) -> Outcome<HeaderValue> {
    let request = Request::get(bank.server.url("/api/me")).body(Bytes::new())?;
    let refused = client.send_unverified(request).await?;
    let nonce = refused.headers().get("bulla-nonce");
    Ok(nonce.ok_or("no nonce came along")?.clone())
}

static ASKS_AGAIN: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "drops a reply, and asks for the same under the next nonce",
    twin: Twin::App,
    without: "it pays twice",
    with: Refused(&[Code::Replayed]),
    names: &[Api(6)],
    shown: Shown::nothing(),
};

/// The request is the same one under whatever nonce it is sent again.
async fn he_asks_for_the_same_under_a_later_nonce() -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    let session = logged_in(&proxy, &bank).await?;
    bank.clock.next_life();
    session.fetch(transfer(1)?).await?;
    bank.clock.next_life();
    let later = fresh_nonce(&bank, session.client()).await?;
    assert_ne!(later, bank_nonce(&proxy)?);
    proxy.change_reply(|_| forged(Code::NonceStale.because("so he says"), Some(later)));
    let refused = error_code(session.fetch(transfer(2)?).await);
    ASKS_AGAIN.refused(refused);
    assert_eq!(bank.ledger.transfers().len(), 2);
    let pays = the_twin_pays_twice(&proxy, &bank, session.client(), Code::NonceStale);
    ASKS_AGAIN.without(pays.await?);
    Ok(())
}

static ASKS_LATE: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "keeps a reply until the bank has forgotten the request, and asks for it again",
    twin: Twin::App,
    without: "it pays twice",
    with: Refused(&[Code::NonceStale]),
    names: &[Api(6)],
    shown: Shown::nothing(),
};

/// What the bank remembers has an end. The client's patience ends before.
async fn he_keeps_a_reply_until_the_bank_has_forgotten() -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    let session = logged_in(&proxy, &bank).await?;
    let mut held = proxy.hold_reply();
    let keeping = async {
        held.arrival().await;
        bank.clock.advance(300);
        let nonce = fresh_nonce(&bank, session.client()).await?;
        proxy.change_reply(|_| forged(Code::NonceStale.because("so he says"), Some(nonce)));
        held.let_go();
        Outcome::Ok(())
    };
    let (refused, kept) = tokio::join!(session.fetch(transfer(1)?), keeping);
    kept?;
    ASKS_LATE.refused(error_code(refused));
    assert_eq!(bank.ledger.transfers().len(), 1);
    // The nonce is a good one: it is for the time that the client has given up.
    assert_eq!(session.fetch(transfer(2)?).await?.status(), 200);
    let pays = the_twin_pays_twice(&proxy, &bank, session.client(), Code::NonceStale);
    ASKS_LATE.without(pays.await?);
    Ok(())
}

/// Of a refusal that nobody vouches for the client takes a nonce, and nothing else. What its twin's client
/// takes is in [`he_strips_versions_and_pins`]: whatever comes.
#[tokio::test]
async fn he_writes_more_into_a_refusal() -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    let session = logged_in(&proxy, &bank).await?;
    let his = open(&proxy, &bank).await?.dangerous_loot()?.ticket;
    let his = HeaderValue::from_str(&his.to_field())?;
    for (name, value) in [
        ("bulla-ended", HeaderValue::from_static("?1")),
        ("bulla-ticket", his.clone()),
        ("bulla-carry-over", his),
    ] {
        let held = session.dangerous_loot()?.ticket;
        proxy.change_reply(move |_| {
            let mut reply = forged(Code::Internal.because("so he says"), None);
            reply.headers_mut().insert(name, value);
            reply
        });
        let get = Request::get("/api/me").body(Bytes::new())?;
        let refused = error_code(session.fetch(get).await);
        assert_eq!(refused, Some(Code::Internal), "{name}");
        assert!(session.is_authenticated(), "{name}");
        assert!(session.dangerous_loot()?.ticket == held, "{name}");
    }
    Ok(())
}

/// A client without a proof that is remembered sends an order again when it is told that nothing was done.
async fn the_twin_pays_twice(
    proxy: &Proxy,
    bank: &Bank,
    thin: &Client,
    claimed: Code,
) -> Outcome<bool> {
    let before = bank.ledger.transfers().len();
    proxy.change_reply(move |_| forged(claimed.because("so he says"), None));
    let mut reply = thin.send_unverified(twin_order(proxy, 1)?).await?;
    if reply.status() == 401 {
        reply = thin.send_unverified(twin_order(proxy, 1)?).await?;
    }
    assert_eq!(reply.status(), 200);
    Ok(bank.ledger.transfers().len() == before + 2)
}

static ASKS_FOR_MORE: Attack = Attack {
    has: "a place on the way, where TLS ends, of a session whose proofs are by MAC",
    does: "drops a reply, and asks for a device proof of the same",
    twin: Twin::App,
    without: "it pays twice",
    with: Refused(&[Code::Replayed, Code::ProofWeak]),
    names: &[Api(6)],
    shown: Shown::nothing(),
};

/// The same with session proofs, where a forged refusal can ask for another proof of the same request.
async fn he_asks_for_a_stronger_proof_of_what_was_done() -> Outcome {
    let proxy = Proxy::start().await?;
    let origin = proxy.origin();
    let bank = Bank::open_with(|builder| builder.origin(origin).proof(ProofKind::Session)).await?;
    proxy.forward_to(bank.server.port());
    for (at, (claimed, wanted)) in [
        (Code::SessionUnconfirmed, Code::Replayed),
        (Code::ProofWeak, Code::ProofWeak),
        (Code::NonceStale, Code::Replayed),
    ]
    .into_iter()
    .enumerate()
    {
        // A session of its own for each: asked for more once, it proves by the device from then on.
        let session = logged_in(&proxy, &bank).await?;
        session.fetch(transfer(1)?).await?;
        let nonce = bank_nonce(&proxy)?;
        proxy.change_reply(move |_| forged(claimed.because("so he says"), Some(nonce)));
        let refused = error_code(session.fetch(transfer(2)?).await);
        assert_eq!(refused, Some(wanted), "{claimed}");
        ASKS_FOR_MORE.refused(refused);
        assert_eq!(bank.ledger.transfers().len(), 2 * (at + 1), "{claimed}");
    }
    let thin = client(&proxy, &bank)?;
    let pays = the_twin_pays_twice(&proxy, &bank, &thin, Code::ProofWeak).await?;
    ASKS_FOR_MORE.without(pays);
    Ok(())
}

static REPLAYS_LOGIN: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "sends the opening once more that has carried her login over",
    twin: Twin::App,
    without: "her login, sent again, logs him in",
    with: Refused(&[Code::SessionRevoked]),
    names: &[Sess(3), Sess(9), Asvs("7.2.4")],
    shown: Shown::nothing(),
};

static REPLAYS_OPENING: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "sends her first opening once more, and uses what it gives",
    twin: Twin::App,
    without: "her login, sent again, gives him what it gave her",
    with: Refused(&[Code::SealBroken]),
    names: &[Sess(3), Sess(9)],
    shown: Shown::nothing(),
};

static REPLAYS_ANSWER: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "answers an opening with an earlier answer",
    twin: Twin::App,
    without: "an earlier answer is as good as any",
    with: Refused(&[Code::ReplyInvalid]),
    names: &[Sess(3)],
    shown: Shown::nothing(),
};

async fn he_replays_openings() -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    let session = logged_in(&proxy, &bank).await?;
    let openings: Vec<_> = proxy
        .seen()
        .into_iter()
        .filter(|exchange| exchange.request.uri().path().ends_with("/session"))
        .collect();
    let [first, second] = &openings[..] else {
        return Err("an opening and one that carries the login over were expected".into());
    };

    // The one after the login was good for one opening.
    let again = proxy.send(second.request.clone()).await?;
    REPLAYS_LOGIN.refused(code(&again));

    // The first one opens a session once more, for the same device and for nobody's use: its keys are
    // agreed on with a key that only the client had, and Ann is not in it.
    let again = proxy.send(first.request.clone()).await?;
    assert_eq!(again.status(), 200);
    let opened: Value = serde_json::from_slice(again.body())?;
    assert_eq!(opened["authenticated"], false);
    let ticket = opened["ticket"].as_str().unwrap_or_default();
    let ticket = base64::decode(ticket).ok_or("no ticket")?;
    let mut envelope = Header {
        salt: [0; 16],
        record_size: 4096,
        keyid: ticket,
    }
    .encode();
    envelope.extend([0; 100]);
    let mut request = proxy.seen().last().ok_or("nothing")?.request.clone();
    *request.uri_mut() = "/.well-known/bulla/sealed".parse()?;
    *request.body_mut() = envelope.into();
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("message/bhttp"));
    headers.insert("content-encoding", HeaderValue::from_static("aes128gcm"));
    let refused = proxy.send(request).await?;
    REPLAYS_OPENING.refused(code(&refused));

    // An earlier answer to a new opening.
    let old = first.reply.clone();
    proxy.change_reply(move |_| old);
    let refused = error_code(session.client().open().await);
    REPLAYS_ANSWER.refused(refused);

    // The victim notices nothing of all this.
    assert_eq!(session.fetch(transfer(1)?).await?.status(), 200);
    // The twin's login, recorded, logs in whoever sends it.
    let login = post(
        &format!("{}/twin/login", proxy.origin()),
        &json!({ "user": "ann" }),
    )?;
    session.client().send_unverified(login.clone()).await?;
    let recorded = proxy.seen().last().ok_or("nothing")?.clone();
    let token: Value = serde_json::from_slice(proxy.send(recorded.request).await?.body())?;
    let is_ann = token["token"] == "token-of-ann";
    REPLAYS_LOGIN.without(is_ann);
    REPLAYS_OPENING.without(is_ann);
    let earlier = recorded.reply.clone();
    proxy.change_reply(move |_| earlier);
    let answer = session.client().send_unverified(login).await?;
    REPLAYS_ANSWER.without(answer.body() == recorded.reply.body());
    Ok(())
}

/// Sends two requests, and gives what the second is answered with: the first one's reply.
async fn crossed(
    proxy: &Proxy,
    client: &Client,
    [first, second]: [Request<Bytes>; 2],
) -> Outcome<Response<Bytes>> {
    let kept = client.send_unverified(first).await?;
    proxy.change_reply(move |_| kept);
    Ok(client.send_unverified(second).await?)
}

static SWAPS_TICKETS: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "puts an older ticket of hers, or one of another session of hers, in its place",
    twin: Twin::App,
    without: "it takes whatever token comes along",
    with: Refused(&[Code::ProofMismatch, Code::SealBroken]),
    names: &[Sess(8), Asvs("7.2.1")],
    shown: Shown::nothing(),
};

static CROSSES_REPLIES: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "answers one request with the reply to another",
    twin: Twin::App,
    without: "what was said of one is taken for the other",
    with: Refused(&[Code::ReplyMismatch]),
    names: &[Asvs("4.1.5")],
    shown: Shown::nothing(),
};

async fn he_swaps_tickets() -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    let (ann, other) = (
        logged_in(&proxy, &bank).await?,
        logged_in(&proxy, &bank).await?,
    );
    // The ticket from before the first device proof: the same session's, and older.
    let older = ann.dangerous_loot()?.ticket;
    ann.fetch(transfer(1)?).await?;
    let (mine, foreign) = (ann.dangerous_loot()?.ticket, other.dangerous_loot()?.ticket);
    assert!(mine != older && mine != foreign);

    let prepare = |mode| {
        let nonce = ann.fresh_nonce()?;
        let prepared = ann.prepare(transfer(2)?, mode, ProofKind::Device, nonce)?;
        Ok::<_, Box<dyn std::error::Error>>(prepared)
    };
    for (ticket, sealed) in [(&older, Code::ProofMismatch), (&foreign, Code::SealBroken)] {
        let prepared = prepare(Mode::Signed)?;
        let mut request = prepared.request;
        let field = HeaderValue::from_str(&ticket.to_field())?;
        request.headers_mut().insert("bulla-ticket", field);
        let refused = ann.client().send_unverified(request).await?;
        SWAPS_TICKETS.refused(code(&refused));

        let prepared = prepare(Mode::Sealed)?;
        let mut request = prepared.request.clone();
        let body = request.body();
        let (mut header, records) = Header::parse(body)?.ok_or("no envelope")?;
        header.keyid = ticket.as_bytes().to_vec();
        *request.body_mut() = [header.encode(), records.to_vec()].concat().into();
        let refused = ann.client().send_unverified(request).await?;
        let refused = error_code(prepared.open_reply(refused).await);
        assert_eq!(refused, Some(sealed));
        SWAPS_TICKETS.refused(refused);
    }

    // Two replies that cross.
    let (one, two) = (prepare(Mode::Sealed)?, prepare(Mode::Sealed)?);
    let orders = [one.request.clone(), two.request.clone()];
    let reply = crossed(&proxy, ann.client(), orders).await?;
    CROSSES_REPLIES.refused(error_code(two.open_reply(reply.clone()).await));
    assert_eq!(one.open_reply(reply).await?.status(), 200);

    // Nothing at the twin ties an answer to its order: what was said of the first is taken for the second.
    let orders = [twin_order(&proxy, 3)?, twin_order(&proxy, 4)?];
    let reply = crossed(&proxy, ann.client(), orders).await?;
    let said: Value = serde_json::from_slice(reply.body())?;
    assert_eq!(said["receipt"]["amount"], 3);
    let booked = bank.ledger.transfers();
    CROSSES_REPLIES.without(booked.last().ok_or("nothing booked")?["amount"] == 4);

    // It takes whatever token comes with an order.
    proxy.change_request(|request| with_field(request, "authorization", "Bearer token-of-bob"));
    ann.client().send_unverified(twin_order(&proxy, 3)?).await?;
    let booked = bank.ledger.transfers();
    SWAPS_TICKETS.without(booked.last().ok_or("nothing booked")?["from"] == "bob");
    Ok(())
}

static IS_THE_BANK: Attack = Attack {
    has: "a place on the way, where TLS ends, and a verifier of his own",
    does: "is the bank, to a client that has a pin",
    twin: Twin::Weakened("a client without a pin"),
    without: "she logs in at his",
    with: Refused(&[Code::IdentityChanged]),
    names: &[Asvs("9.1.3")],
    shown: Shown::nothing(),
};

static WAS_FIRST: Attack = Attack {
    has: "a place on the way, where TLS ends, and a verifier of his own",
    does: "is the bank, to a client that comes for the first time and has no pin",
    twin: Twin::App,
    without: "she pays at his",
    with: Works("trust on first use; a pin in the code prevents it"),
    names: &[Asvs("9.1.3")],
    shown: Shown::nothing(),
};

static CHANGES_IDENTITY: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "puts another identity into the answer to an opening",
    twin: Twin::App,
    without: "it has none",
    with: Refused(&[Code::IdentityChanged, Code::ReplyInvalid]),
    names: &[Asvs("9.1.3")],
    shown: Shown::nothing(),
};

async fn he_puts_another_identity_in_the_place_of_the_banks() -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    // A verifier of his own, which speaks the protocol to the letter.
    let mallory = bank_behind(&proxy).await?;

    // With a pin: refused at the first contact.
    proxy.forward_to(mallory.server.port());
    let pinned = open(&proxy, &bank).await.err().ok_or("he was trusted")?;
    let pinned = pinned.downcast::<bulla_client::Error>()?;
    IS_THE_BANK.refused(Some(pinned.code));

    // Without one, the first identity that is met is trusted. What that costs is said in the docs:
    // whoever is there first reads all.
    let first_use = || -> Outcome<Client> {
        Ok(Client::builder(proxy.origin())
            .http(proxy.trusting_client()?)
            .build()?)
    };
    let deceived = first_use()?.open().await?;
    log_in(&deceived).await?;
    deceived.fetch(transfer(5)?).await?;
    let is_robbed = mallory.ledger.transfers().len() == 1;
    IS_THE_BANK.without(is_robbed);
    WAS_FIRST.with(is_robbed);
    assert!(bank.ledger.transfers().is_empty());
    let order = twin_order(&proxy, 5)?;
    let paid = deceived.client().send_unverified(order).await?;
    WAS_FIRST.without(paid.status() == 200 && mallory.ledger.transfers().len() == 2);

    // Whoever has met the bank once is safe from then on.
    proxy.forward_to(bank.server.port());
    let client = first_use()?;
    let session = client.open().await?;
    log_in(&session).await?;
    assert_eq!(client.identity(), Some(bank.bulla.identity()));
    proxy.forward_to(mallory.server.port());
    let refused = error_code(session.fetch(transfer(6)?).await);
    // To his verifier the ticket means nothing. What is opened in its place tells who he is, and the client
    // says so although it would not have sent the transfer again.
    assert_eq!(refused, Some(Code::IdentityChanged));
    assert_eq!(error_code(client.open().await), Some(Code::IdentityChanged));
    let get = Request::get("/api/me").body(Bytes::new())?;
    let refused = error_code(session.fetch(get).await);
    assert_eq!(refused, Some(Code::IdentityChanged));
    assert_eq!(mallory.ledger.transfers().len(), 2);

    // Only the key changed, in an answer that is the bank's own.
    proxy.forward_to(bank.server.port());
    let identity = serde_json::to_value(
        bulla_keys::SigningKey::generate(&bulla_keys::SystemRandom)?.public(),
    )?;
    for (client, wanted) in [
        (client, Code::IdentityChanged),
        (first_use()?, Code::ReplyInvalid),
    ] {
        let identity = identity.clone();
        proxy.change_reply(move |reply| rewrite_opened(reply, "identity", identity));
        let refused = error_code(client.open().await);
        assert_eq!(refused, Some(wanted));
        CHANGES_IDENTITY.refused(refused);
    }
    // Whatever is written into the twin's answer, nothing is compared with it.
    let thin = first_use()?;
    proxy.change_reply(|reply| reply.map(|body| rewrite(&body, "identity", json!("mallory"))));
    let login = format!("{}/twin/login", proxy.origin());
    let taken = thin.send_unverified(post(&login, &json!({ "user": "ann" }))?);
    let taken: Value = serde_json::from_slice(taken.await?.body())?;
    CHANGES_IDENTITY.without(taken["identity"] == "mallory" && taken["token"] == "token-of-ann");
    Ok(())
}

static LOWERS_OPENING: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "changes or takes out version, pin, ticket or random of an opening, with its digest or without",
    twin: Twin::App,
    without: "he writes what he likes into a login",
    with: Refused(&[
        Code::VersionUnsupported,
        Code::Malformed,
        Code::ProofMismatch,
        Code::DigestMismatch,
    ]),
    names: &[Asvs("11.2.2")],
    shown: Shown::nothing(),
};

static LOWERS_ANSWER: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "changes version, policy, nonce or who is logged in, in the answer to an opening",
    twin: Twin::App,
    without: "its client goes on with the token that he writes",
    with: Refused(&[Code::ReplyInvalid]),
    names: &[Asvs("11.2.2"), Sess(3)],
    shown: Shown::nothing(),
};

static CLAIMS_OLD_VERSION: Attack = Attack {
    has: "a place on the way, where TLS ends",
    does: "says that the version is not spoken, or the identity another",
    twin: Twin::App,
    without: "its client takes what he says",
    with: Refused(&[Code::VersionUnsupported, Code::IdentityChanged]),
    names: &[Asvs("11.2.2")],
    shown: Shown::nothing(),
};

async fn he_strips_versions_and_pins() -> Outcome {
    let proxy = Proxy::start().await?;
    let bank = bank_behind(&proxy).await?;
    let client = client(&proxy, &bank)?;

    // In the opening: nothing of it can be changed or left out, with a digest to match or without.
    let random = json!(base64::encode([0; 32]));
    let changes: [(&str, Value, Code); 6] = [
        ("version", json!(0), Code::VersionUnsupported),
        ("version", json!(2), Code::VersionUnsupported),
        ("version", Value::Null, Code::Malformed),
        ("identity", Value::Null, Code::ProofMismatch),
        ("random", random, Code::ProofMismatch),
        ("ticket", json!("AAAA"), Code::ProofMismatch),
    ];
    for (name, value, wanted) in changes {
        let what = format!("{name}: {value}");
        for (with_digest, wanted) in [(false, Code::DigestMismatch), (true, wanted)] {
            let value = value.clone();
            proxy.change_request(move |request| {
                let (mut parts, body) = request.into_parts();
                let body = rewrite(&body, name, value);
                if with_digest {
                    parts.headers.insert("content-digest", digest(&body));
                }
                Request::from_parts(parts, body)
            });
            let before = proxy.seen().len();
            let refused = error_code(client.open().await);
            assert_eq!(refused, Some(wanted), "{what}");
            LOWERS_OPENING.refused(refused);
            // It is not tried again with less.
            assert_eq!(proxy.seen().len(), before + 1, "{what}");
        }
    }

    // In the answer, likewise.
    for (name, value) in [
        ("version", json!(0)),
        ("version", json!(2)),
        ("nonce_life", json!(1_000_000)),
        ("proof", json!("session")),
        ("authenticated", json!(true)),
        ("nonce", json!("AAAA")),
    ] {
        let what = format!("{name}: {value}");
        for with_digest in [false, true] {
            let value = value.clone();
            proxy.change_reply(move |reply| {
                if with_digest {
                    rewrite_opened(reply, name, value)
                } else {
                    reply.map(|body| rewrite(&body, name, value))
                }
            });
            let refused = error_code(client.open().await);
            assert_eq!(refused, Some(Code::ReplyInvalid), "{what}");
            LOWERS_ANSWER.refused(refused);
        }
    }
    // He says so himself.
    for claimed in [Code::VersionUnsupported, Code::IdentityMismatch] {
        let before = proxy.seen().len();
        proxy.change_reply(move |_| forged(claimed.because("so he says"), None));
        let wanted = match claimed {
            Code::IdentityMismatch => Code::IdentityChanged,
            claimed => claimed,
        };
        let refused = error_code(client.open().await);
        assert_eq!(refused, Some(wanted));
        CLAIMS_OLD_VERSION.refused(refused);
        assert_eq!(proxy.seen().len(), before + 1);
    }
    // Left alone, it opens.
    assert!(client.open().await.is_ok());

    // In the twin's answer to a login he writes what he likes, and its client goes on with that.
    proxy
        .change_reply(|reply| reply.map(|body| rewrite(&body, "token", json!("token-of-mallory"))));
    let login = format!("{}/twin/login", proxy.origin());
    let opened = client.send_unverified(post(&login, &json!({ "user": "ann" }))?);
    let opened: Value = serde_json::from_slice(opened.await?.body())?;
    let token = format!("Bearer {}", opened["token"].as_str().unwrap_or_default());
    let mut order = twin_order(&proxy, 1)?;
    let token = HeaderValue::from_str(&token)?;
    order.headers_mut().insert("authorization", token);
    client.send_unverified(order).await?;
    let from_mallory = bank.ledger.transfers()[0]["from"] == "mallory";
    LOWERS_ANSWER.without(from_mallory);
    CLAIMS_OLD_VERSION.without(from_mallory);
    proxy.change_request(|request| request.map(|body| rewrite(&body, "user", json!("bob"))));
    let opened = client.send_unverified(post(&login, &json!({ "user": "ann" }))?);
    let opened: Value = serde_json::from_slice(opened.await?.body())?;
    LOWERS_OPENING.without(opened["token"] == "token-of-bob");
    Ok(())
}

/// The newest server nonce that has passed in the open, as he would hand it on.
fn bank_nonce(proxy: &Proxy) -> Outcome<HeaderValue> {
    let seen = proxy.seen();
    let nonce = seen
        .iter()
        .rev()
        .find_map(|exchange| exchange.reply.headers().get("bulla-nonce"));
    Ok(nonce.ok_or("no nonce was seen")?.clone())
}

fn flip(request: Request<Bytes>, at: usize) -> Request<Bytes> {
    request.map(|body| flipped(&body, at))
}

fn flip_from_end(request: Request<Bytes>, at: usize) -> Request<Bytes> {
    request.map(|body| flipped(&body, body.len() - at))
}

fn flip_reply(reply: Response<Bytes>, at: usize) -> Response<Bytes> {
    reply.map(|body| flipped(&body, at))
}

fn flipped(body: &[u8], at: usize) -> Bytes {
    let mut body = body.to_vec();
    body[at] ^= 1;
    body.into()
}

fn cut(request: Request<Bytes>, by: usize) -> Request<Bytes> {
    request.map(|body| body.slice(..body.len() - by))
}

fn with_uri(mut request: Request<Bytes>, uri: &'static str) -> Request<Bytes> {
    *request.uri_mut() = http::Uri::from_static(uri);
    request
}

fn with_field(
    mut request: Request<Bytes>,
    name: &'static str,
    value: &'static str,
) -> Request<Bytes> {
    let value = HeaderValue::from_static(value);
    request.headers_mut().insert(name, value);
    request
}

/// Sets a member of a JSON object, or takes it out.
fn rewrite(body: &[u8], name: &str, value: Value) -> Bytes {
    let mut object: Value = serde_json::from_slice(body).unwrap_or_default();
    if value.is_null() {
        if let Some(object) = object.as_object_mut() {
            object.remove(name);
        }
    } else {
        object[name] = value;
    }
    object.to_string().into()
}

/// Changes an answer to an opening, with a digest to match.
fn rewrite_opened(reply: Response<Bytes>, name: &str, value: Value) -> Response<Bytes> {
    let (mut parts, body) = reply.into_parts();
    let body = rewrite(&body, name, value);
    parts.headers.insert("content-digest", digest(&body));
    Response::from_parts(parts, body)
}

fn digest(body: &[u8]) -> HeaderValue {
    HeaderValue::from_str(&ContentDigest::of(body).to_field())
        .unwrap_or(HeaderValue::from_static(""))
}

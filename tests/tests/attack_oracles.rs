//! What refusals tell whoever has no key: by what they say, by how long they are, and by how long they take.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Query;
use axum::http::StatusCode;
use axum::routing::get;
use bulla_client::{Client, Code, Mode, ProofKind, Session, Ticket};
use bulla_keys::{Random as _, SigningKey, SystemRandom};
use bulla_server::dpop::{self, Freshness};
use bulla_tests::attack::Name::{Api, Asvs, Sess};
use bulla_tests::attack::With::{Held, Works};
use bulla_tests::attack::{Attack, Outcome, Shown, Twin, client, code, log_in, transfer};
use bulla_tests::bank::Bank;
use bulla_tests::dpop::{Resource, TWIN};
use bulla_tests::serve::Server;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use serde::Deserialize;
use tower::{Layer as _, ServiceExt as _};

bulla_tests::attacks! {
    a_refusal_tells_nothing_of_tickets: [FORGED_TICKETS, ENDED_OR_LIVE, EXPIRED_OR_FORGED],
    a_refusal_tells_what_is_wrong_with_a_token: [FORGED_TOKENS],
    sizes_tell_little_and_not_nothing: [NEAR_SIZES, FAR_SIZES],
    a_refusal_takes_as_long_whether_the_session_lives: [TIMES_OF_REFUSALS],
}

/// All of an answer but what is another each time: the time, and the nonce.
type Told = (StatusCode, BTreeSet<(String, Vec<u8>)>, Bytes);

fn told(answer: Response<Bytes>) -> Told {
    let (parts, body) = answer.into_parts();
    let fields = parts.headers.iter();
    let fields =
        fields.filter(|(name, _)| !["date", "bulla-nonce", "dpop-nonce"].contains(&name.as_str()));
    let fields = fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    (parts.status, fields.collect(), body)
}

/// An order with this ticket, with a proof of the thief's.
fn with_ticket(thief: &Session, ticket: &Ticket, kind: ProofKind) -> Outcome<Request<Bytes>> {
    let nonce = thief.fresh_nonce()?;
    let mut request = thief
        .prepare(transfer(1)?, Mode::Signed, kind, nonce)?
        .request;
    let ticket = HeaderValue::from_str(&ticket.to_field())?;
    request.headers_mut().insert("bulla-ticket", ticket);
    Ok(request)
}

/// What a server says that keeps a table of sessions, and wants to help.
fn talkative() -> Router {
    #[derive(Deserialize)]
    struct Asked {
        session: String,
    }

    async fn me(Query(asked): Query<Asked>) -> (StatusCode, &'static str) {
        let why = match &*asked.session {
            "live" => "sign in with the device that this session is for",
            "ended" => "this session has been logged out",
            "expired" => "this session has expired",
            _ => "there is no such session",
        };
        (StatusCode::UNAUTHORIZED, why)
    }

    Router::new().route("/me", get(me))
}

const TALKS: Twin = Twin::Weakened("a server that says what is wrong with a session");

static FORGED_TICKETS: Attack = Attack {
    has: "tickets that he has made up or changed, and those of other banks",
    does: "compares the refusals",
    twin: TALKS,
    without: "they say which were close",
    with: Held("they are alike, byte for byte"),
    names: &[Sess(1), Sess(4), Asvs("11.2.5"), Asvs("16.5.1")],
    shown: Shown::nothing(),
};

static ENDED_OR_LIVE: Attack = Attack {
    has: "her ticket, without her key",
    does: "asks whether her session lives",
    twin: TALKS,
    without: "he is told",
    with: Held("a live one and one that has ended are refused alike, byte for byte"),
    names: &[Sess(4), Sess(6), Asvs("11.2.5")],
    shown: Shown::nothing(),
};

static EXPIRED_OR_FORGED: Attack = Attack {
    has: "an old ticket of hers, without her key",
    does: "asks whether it was ever a ticket",
    twin: TALKS,
    without: "he is told",
    with: Works("`ticket_expired` is said before there is any proof"),
    names: &[Sess(7), Asvs("11.2.5")],
    shown: Shown::nothing(),
};

async fn a_refusal_tells_nothing_of_tickets() -> Outcome {
    let (bank, other) = (Bank::open().await?, Bank::open().await?);
    let ann = client(&bank)?.open().await?;
    log_in(&ann).await?;
    let thief = client(&bank)?.open().await?;
    let ask = async |ticket: &Ticket, kind| -> Outcome<Response<Bytes>> {
        let request = with_ticket(&thief, ticket, kind)?;
        Ok(thief.client().send_unverified(request).await?)
    };

    // Made up, changed at every byte, cut short by any number, and another bank's.
    let hers = ann.dangerous_loot()?.ticket;
    let foreign = client(&other)?.open().await?.dangerous_loot()?.ticket;
    let mut random = hers.as_bytes().to_vec();
    SystemRandom.fill(&mut random)?;
    let mut forged = vec![foreign, Ticket::new(random)?];
    for at in 0..hers.as_bytes().len() {
        let mut changed = hers.as_bytes().to_vec();
        changed[at] ^= 1 << (at % 8);
        forged.push(Ticket::new(changed)?);
    }
    let mut refusals = BTreeSet::new();
    for ticket in &forged {
        for kind in [ProofKind::Device, ProofKind::Session] {
            let refused = ask(ticket, kind).await?;
            assert_eq!(code(&refused), Some(Code::TicketInvalid));
            refusals.insert(told(refused));
        }
    }
    FORGED_TICKETS.with(refusals.len() == 1);

    // Hers, before and after she has logged out.
    let mut refusals = BTreeSet::new();
    for ends in [false, true] {
        if ends {
            ann.end().await?;
        }
        for kind in [ProofKind::Device, ProofKind::Session] {
            let refused = ask(&hers, kind).await?;
            assert_eq!(code(&refused), Some(Code::ProofMismatch));
            refusals.insert(told(refused));
        }
    }
    ENDED_OR_LIVE.with(refusals.len() == 1);

    bank.clock.advance(3600);
    let refused = ask(&hers, ProofKind::Device).await?;
    EXPIRED_OR_FORGED.with(code(&refused) == Some(Code::TicketExpired));

    let twin = Server::start(talkative()).await?;
    let bare = Client::builder(twin.origin()).build()?;
    let mut said = Vec::new();
    for session in ["live", "ended", "expired", "forged"] {
        let request = Request::get(twin.url(&format!("/me?session={session}")));
        said.push(told(
            bare.send_unverified(request.body(Bytes::new())?).await?,
        ));
    }
    ENDED_OR_LIVE.without(said[0] != said[1]);
    EXPIRED_OR_FORGED.without(said[2] != said[3]);
    FORGED_TICKETS.without(said[0] != said[3]);
    Ok(())
}

static FORGED_TOKENS: Attack = Attack {
    has: "access tokens that he has changed, that are for somebody else, or that have expired",
    does: "compares the refusals",
    twin: Twin::App,
    without: "they say what is wrong with each",
    with: Works("expired, signed by an unknown key, and no token at all are told apart"),
    names: &[Sess(10), Api(2), Asvs("11.2.5")],
    shown: Shown::nothing(),
};

async fn a_refusal_tells_what_is_wrong_with_a_token() -> Outcome {
    let resource = Resource::start(Freshness::Nonce).await?;
    let elsewhere = Resource::start(Freshness::Nonce).await?;
    let thief = dpop::SigningKey::generate(&SystemRandom)?;
    let old = resource.mint("ann", &thief)?.token;
    resource.clock.advance(2 * 3600);
    let changed = resource.mint("ann", &thief)?.token;
    let (signed, _) = changed.rsplit_once('.').ok_or("no JWS")?;
    let changed = format!("{signed}.{}", "A".repeat(86));
    let foreign = elsewhere.mint("ann", &thief)?.token;

    let (mut refusals, mut said) = (BTreeSet::new(), BTreeSet::new());
    for token in [&old, &changed, &foreign, "made-up"] {
        let nonce = resource.nonce().await?;
        let attempt = resource.attempt(&thief, token, Some(&nonce))?;
        let refused = resource.send(&attempt).await?;
        let mut fields = refused.headers;
        for changing in ["date", "dpop-nonce"] {
            fields.remove(changing);
        }
        refusals.insert((refused.status, format!("{fields:?}"), refused.body));

        let mut bearer = resource.attempt(&thief, token, None)?;
        (bearer.scheme, bearer.path, bearer.proofs) = ("Bearer", TWIN.to_owned(), Some(Vec::new()));
        said.insert(resource.send(&bearer).await?.body);
    }
    // Of tokens that are signed by other keys nothing else is said.
    FORGED_TOKENS.with(refusals.len() == 3);
    FORGED_TOKENS.without(said.len() > 2);
    Ok(())
}

static NEAR_SIZES: Attack = Attack {
    has: "a place on the way",
    does: "tells two messages apart by a byte that one has more",
    twin: Twin::App,
    without: "their lengths tell",
    with: Held("both are padded to one length, requests and replies"),
    names: &[Sess(4), Asvs("14.2.3")],
    shown: Shown::nothing(),
};

static FAR_SIZES: Attack = Attack {
    has: "a place on the way",
    does: "tells two messages apart of which one is a quarter longer",
    twin: Twin::App,
    without: "their lengths tell",
    with: Works("some 12 % is all that padding hides"),
    names: &[Sess(4), Asvs("14.2.3")],
    shown: Shown::nothing(),
};

async fn sizes_tell_little_and_not_nothing() -> Outcome {
    let bank = Bank::open().await?;
    let session = client(&bank)?.open().await?;
    let (mut sealed, mut plain) = (Vec::new(), Vec::new());
    for length in [10_000, 10_001, 12_500] {
        let content = Bytes::from(vec![b'x'; length]);
        let request = Request::post("/api/mirror").body(content.clone())?;
        let nonce = session.fresh_nonce()?;
        let prepared = session.prepare(request, Mode::Sealed, ProofKind::Device, nonce)?;
        let answer = session
            .client()
            .send_unverified(prepared.request.clone())
            .await?;
        sealed.push((prepared.request.body().len(), answer.body().len()));
        assert_eq!(prepared.open_reply(answer).await?.body(), &content);

        let request = Request::post(bank.server.url("/twin/mirror")).body(content)?;
        let length = request.body().len();
        let answer = session.client().send_unverified(request).await?;
        plain.push((length, answer.body().len()));
    }
    NEAR_SIZES.with(sealed[0] == sealed[1]);
    NEAR_SIZES.without(plain[0].0 != plain[1].0 && plain[0].1 != plain[1].1);
    FAR_SIZES.with(sealed[0].0 != sealed[2].0 && sealed[0].1 != sealed[2].1);
    FAR_SIZES.without(plain[0].0 != plain[2].0 && plain[0].1 != plain[2].1);
    Ok(())
}

static TIMES_OF_REFUSALS: Attack = Attack {
    has: "her ticket, without her key, and a good clock",
    does: "asks whether her session lives by how long the refusals take",
    twin: Twin::Weakened("a verifier that asks first whether the session lives"),
    without: "he can tell",
    with: Held("neither kind is slower more often than by chance"),
    names: &[Sess(4), Asvs("11.2.4"), Asvs("11.2.5")],
    shown: Shown::nothing(),
};

/// How many of each kind are timed.
const TIMED: usize = 500;

/// In what part of all comparisons of one of the first kind with one of the second the first one takes longer. Which
/// comes when is left to chance, so that what else this machine does slows down both alike. Where there is no
/// difference this is a half, with a standard deviation of 0.018.
async fn is_slower(once: impl AsyncFn(usize) -> Outcome<Duration>) -> Outcome<f64> {
    let mut times = [Vec::new(), Vec::new()];
    // What is only done the first time is none of this.
    for kind in [0, 1].repeat(20) {
        once(kind).await?;
    }
    while times.iter().any(|times| times.len() < TIMED) {
        let mut drawn = [0; 1];
        SystemRandom.fill(&mut drawn)?;
        let kind = usize::from(drawn[0] & 1);
        let time = once(kind).await?;
        if times[kind].len() < TIMED {
            times[kind].push(time);
        }
    }
    let [first, second] = times;
    let mut slower = 0.0;
    for one in &first {
        for other in &second {
            slower += match one.cmp(other) {
                std::cmp::Ordering::Less => 0.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Greater => 1.0,
            };
        }
    }
    #[allow(clippy::cast_precision_loss)]
    Ok(slower / (TIMED * TIMED) as f64)
}

/// How far from a half it may be: eight standard deviations.
const CHANCE: f64 = 0.15;

async fn a_refusal_takes_as_long_whether_the_session_lives() -> Outcome {
    let bank = Bank::open().await?;
    let thief = client(&bank)?.open().await?;
    let mut requests = Vec::new();
    for ends in [false, true] {
        let ann = client(&bank)?.open().await?;
        log_in(&ann).await?;
        let ticket = ann.dangerous_loot()?.ticket;
        if ends {
            ann.end().await?;
        }
        requests.push(with_ticket(&thief, &ticket, ProofKind::Device)?);
    }
    // Nothing of a network is between.
    let verifier = bank.bulla.layer().layer(Router::new());
    let host = bank.server.origin().replace("http://", "");
    let verify = async |kind: usize| -> Outcome<Duration> {
        let mut request = requests[kind].clone().map(Body::from);
        request.headers_mut().insert("host", host.parse()?);
        let verifier = verifier.clone();
        let start = Instant::now();
        let answer = verifier.oneshot(request).await?;
        let time = start.elapsed();
        assert_eq!(answer.status(), 401);
        Ok(time)
    };
    let of_both = is_slower(verify).await?;
    TIMES_OF_REFUSALS.with((of_both - 0.5).abs() < CHANCE);

    let key = SigningKey::generate(&SystemRandom)?;
    let signature = [7; 64];
    let live = Arc::new(BTreeSet::from([0]));
    let of_twin = is_slower(async |kind| {
        let start = Instant::now();
        let taken = live.contains(&kind)
            && bulla_keys::verify(key.public(), b"what is signed", &signature).is_ok();
        let time = start.elapsed();
        assert!(!taken);
        Ok(time)
    });
    TIMES_OF_REFUSALS.without((of_twin.await? - 0.5).abs() > CHANCE);
    Ok(())
}

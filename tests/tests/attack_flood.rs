//! Attacks by number: too many openings, requests or bytes, and what somebody with a copied ticket uses up of its owner's.

use std::net::Ipv4Addr;
use std::time::Duration;

use bulla_client::{Client, Code, Mode, ProofKind, Session};
use bulla_protocol::limits::Limits;
use bulla_server::{Action, Openings, Rate, Rates, Rule, Rules, Threshold};
use bulla_tests::attack::Name::{Api, Asvs, Sess};
use bulla_tests::attack::With::{Held, Refused, Works};
use bulla_tests::attack::{
    Attack, Outcome, Shown, Twin, client, code, error_code, log_in, post, transfer,
};
use bulla_tests::bank::Bank;
use bytes::Bytes;
use http::{HeaderValue, Request};
use serde_json::json;

bulla_tests::attacks! {
    openings_beyond_a_rate_take_work: [FLOODS_OPENINGS],
    a_session_has_as_many_requests_as_the_operator_says: [TOO_MANY_REQUESTS, A_PROGRAM_ORDERS],
    a_content_is_as_long_as_the_operator_says: [HUGE_CONTENT],
    whoever_has_her_ticket_uses_up_nothing_of_hers: [LOCKS_HER_OUT, USES_UP_HER_LIMIT],
}

const MANY: usize = 20;
/// Fewer than that, and none of them comes back while a test runs.
const FEW: Rate = Rate::new(5, Duration::from_hours(1));

async fn logged_in(bank: &Bank) -> Outcome<Session> {
    let session = client(bank)?.open().await?;
    log_in(&session).await?;
    Ok(session)
}

static FLOODS_OPENINGS: Attack = Attack {
    has: "a network",
    does: "opens sessions beyond the rate, and does no work for them",
    twin: Twin::Weakened("openings that take no work"),
    without: "the server makes keys for each",
    with: Refused(&[Code::WorkRequired]),
    names: &[Api(4), Asvs("15.2.2")],
    shown: Shown::nothing(),
};

async fn openings_beyond_a_rate_take_work() -> Outcome {
    let limited = Openings {
        in_all: Some(FEW),
        network: None,
        bits: 16,
    };
    for openings in [limited, Openings::FREE] {
        let bank = Bank::open_with(|builder| builder.openings(openings)).await?;
        let client = client(&bank)?;
        let mut opened = 0;
        for _ in 0..MANY {
            let opening = client.prepare_opening(None)?.request;
            let answer = client.send_unverified(opening).await?;
            if answer.status() == 200 {
                opened += 1;
            } else {
                FLOODS_OPENINGS.refused(code(&answer));
            }
        }
        if openings == limited {
            assert_eq!(opened, 5);
        } else {
            FLOODS_OPENINGS.without(opened == MANY);
        }
    }
    Ok(())
}

static TOO_MANY_REQUESTS: Attack = Attack {
    has: "a session of his own",
    does: "asks more often than the operator allows",
    twin: Twin::Weakened("no limits, as by default"),
    without: "all is served",
    with: Refused(&[Code::RateLimited]),
    names: &[Api(4), Api(6), Asvs("15.2.2")],
    shown: Shown::nothing(),
};

static A_PROGRAM_ORDERS: Attack = Attack {
    has: "a program, a device key and an account of its own",
    does: "orders by itself, as often as the limits let it",
    twin: Twin::App,
    without: "it orders",
    with: Works("a proof is of a device, and not of a person; limits slow it down"),
    names: &[Api(6)],
    shown: Shown::nothing(),
};

async fn a_session_has_as_many_requests_as_the_operator_says() -> Outcome {
    let limited = Rates {
        session: Some(FEW),
        ..Rates::default()
    };
    let bank = Bank::open_with(|builder| builder.rates(limited)).await?;
    let session = logged_in(&bank).await?;
    for at in 0..MANY {
        let taken = session.fetch(transfer(1)?).await;
        if at >= 5 {
            TOO_MANY_REQUESTS.refused(error_code(taken));
        }
    }
    let limited = bank.ledger.transfers().len();
    A_PROGRAM_ORDERS.with((1..=5).contains(&limited));

    let bank = Bank::open().await?;
    let session = logged_in(&bank).await?;
    for _ in 0..MANY {
        session.fetch(transfer(1)?).await?;
    }
    TOO_MANY_REQUESTS.without(bank.ledger.transfers().len() == MANY);
    let mut order = transfer(1)?;
    *order.uri_mut() = bank.server.url("/twin/transfer").parse()?;
    let token = HeaderValue::from_static("Bearer token-of-mallory");
    order.headers_mut().insert("authorization", token);
    for _ in 0..MANY {
        session.client().send_unverified(order.clone()).await?;
    }
    A_PROGRAM_ORDERS.without(bank.ledger.transfers().len() == 2 * MANY);
    Ok(())
}

static HUGE_CONTENT: Attack = Attack {
    has: "a session of his own",
    does: "sends more than is to be collected, signed and sealed",
    twin: Twin::Weakened("a higher limit"),
    without: "all of it is kept in memory for the handler",
    with: Refused(&[Code::TooLarge]),
    names: &[Api(4), Asvs("15.2.2")],
    shown: Shown::nothing(),
};

async fn a_content_is_as_long_as_the_operator_says() -> Outcome {
    for max_body_len in [1000, 100_000] {
        let limits = Limits {
            max_body_len,
            ..Limits::default()
        };
        let bank = Bank::open_with(|builder| builder.limits(limits)).await?;
        let session = client(&bank)?.open().await?;
        for mode in [Mode::Signed, Mode::Sealed] {
            let request = Request::post("/api/echo").body(Bytes::from(vec![b'x'; 10_000]))?;
            let nonce = session.fresh_nonce()?;
            let prepared = session.prepare(request, mode, ProofKind::Device, nonce)?;
            let answer = session
                .client()
                .send_unverified(prepared.request.clone())
                .await?;
            if max_body_len > 10_000 {
                let answer = match mode {
                    Mode::Signed => answer,
                    _ => prepared.open_reply(answer).await?,
                };
                HUGE_CONTENT.without(answer.status() == 200);
            } else {
                let refused = match code(&answer) {
                    None => error_code(prepared.open_reply(answer).await),
                    refused => refused,
                };
                HUGE_CONTENT.refused(refused);
            }
        }
    }
    Ok(())
}

static LOCKS_HER_OUT: Attack = Attack {
    has: "her ticket",
    does: "shows it with proofs and in openings of his own, until somebody does something about her session",
    twin: Twin::Weakened("a rule that ends what is shown by another device"),
    without: "hers has ended",
    with: Held("it is recorded, and she goes on"),
    names: &[Api(4), Sess(6)],
    shown: Shown::nothing(),
};

static USES_UP_HER_LIMIT: Attack = Attack {
    has: "her ticket, and a request of hers, recorded",
    does: "sends both as often as he can, so that nothing is left of what she may have",
    twin: Twin::Weakened("a limit by network alone, where both come from one"),
    without: "she is told to wait",
    with: Held("what is no good counts for nobody"),
    names: &[Api(4)],
    shown: Shown::nothing(),
};

/// What he sends, and whether she goes on then.
async fn goes_on(bank: &Bank) -> Outcome<Result<(), Code>> {
    let ann = logged_in(bank).await?;
    let thief = Client::builder(bank.server.origin())
        .build()?
        .open()
        .await?;
    let nonce = ann.fresh_nonce()?;
    let recorded = ann.prepare(transfer(1)?, Mode::Signed, ProofKind::Device, nonce)?;
    let hers = ann.dangerous_loot()?.ticket;
    let ticket = HeaderValue::from_str(&hers.to_field())?;
    for _ in 0..MANY {
        // In an opening he says which device he is.
        let carried = thief.client().prepare_opening(Some(hers.clone()))?;
        thief
            .client()
            .send_unverified(carried.request.clone())
            .await?;
        let copy = recorded.request.clone();
        thief.client().send_unverified(copy).await?;
        let nonce = thief.fresh_nonce()?;
        let own = thief.prepare(transfer(1)?, Mode::Signed, ProofKind::Device, nonce)?;
        let mut request = own.request;
        request.headers_mut().insert("bulla-ticket", ticket.clone());
        let refused = thief.client().send_unverified(request).await?;
        assert!(refused.status().is_client_error());
    }
    let order = post("/api/transfer", &json!({ "to": "bob", "amount": 2 }))?;
    Ok(ann.fetch(order).await.map(drop).map_err(|error| error.code))
}

async fn whoever_has_her_ticket_uses_up_nothing_of_hers() -> Outcome {
    let bank = Bank::open().await?;
    LOCKS_HER_OUT.with(goes_on(&bank).await?.is_ok());
    let limited = Rates {
        session: Some(FEW),
        device: Some(FEW),
        subject: Some(FEW),
        network: None,
    };
    let bank = Bank::open_with(|builder| builder.rates(limited)).await?;
    USES_UP_HER_LIMIT.with(goes_on(&bank).await?.is_ok());

    let at_once = Threshold::new(1, Duration::from_mins(1));
    let rules = Rules::default()
        .on(Rule::ForeignTicket, at_once, Action::End)
        .let_a_ticket_lock_out();
    let bank = Bank::open_with(|builder| builder.rules(rules)).await?;
    LOCKS_HER_OUT.without(goes_on(&bank).await? == Err(Code::SessionRevoked));
    let limited = Rates {
        network: Some(Rate::new(20, Duration::from_hours(1))),
        ..Rates::default()
    };
    let bank = Bank::open_with(|builder| {
        let builder = builder.rates(limited);
        builder.network(|_, _| Some(Ipv4Addr::LOCALHOST.into()))
    })
    .await?;
    USES_UP_HER_LIMIT.without(goes_on(&bank).await? == Err(Code::RateLimited));
    Ok(())
}

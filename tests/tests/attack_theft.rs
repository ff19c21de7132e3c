//! Theft of a session, as in WSTG-SESS-09: everything that can be copied from a browser and its line
//! is taken to another browser and to another program. None of it is worth anything there; of the
//! unprotected twin, any one token is worth all.

use std::time::Duration;

use bulla_client::{Client, Code, Loot, Mode, ProofKind, Ticket};
use bulla_tests::attack::Name::{Api, Asvs, Dpop, Sess};
use bulla_tests::attack::With::{Refused, RefusedByOneOf};
use bulla_tests::attack::{
    Attack, Exchange, Outcome, PLANT_STORAGE, Proxy, Shown, TAKE_STORAGE, Twin, code, error_code,
    in_page, transfer,
};
use bulla_tests::bank::Bank;
use bulla_tests::browser::{Browser, Engine};
use bytes::Bytes;
use http::{HeaderValue, Request};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_mins(1);

bulla_tests::attacks! {
    theft_is_worth_nothing in each engine: [IN_ANOTHER_BROWSER, TRAFFIC_FROM_A_BROWSER, IN_A_PROGRAM, BESIDE_HIS_PROOF, COOKIE_AND_TOKEN_ALONE],
}

/// Everything that can be copied.
struct Stolen {
    cookies: Vec<thirtyfour::Cookie>,
    storage: Value,
    traffic: Vec<Exchange>,
}

static IN_ANOTHER_BROWSER: Attack = Attack {
    has: "all that can be copied from her browser: cookies, storage, the files of the handles but for the keys",
    does: "puts it into his own, and goes on",
    twin: Twin::App,
    without: "the cookie is all that it takes",
    with: Refused(&[Code::SealBroken, Code::ProofMismatch]),
    names: &[Sess(2), Sess(9), Api(2), Asvs("14.3.3")],
    shown: Shown::nothing(),
};

static TRAFFIC_FROM_A_BROWSER: Attack = Attack {
    has: "all that has passed the line",
    does: "sends it again, from his browser and from a program",
    twin: Twin::App,
    without: "her login, sent again, logs him in",
    with: RefusedByOneOf(&[Code::Replayed, Code::SessionRevoked]),
    names: &[Sess(9), Api(2)],
    shown: Shown::nothing(),
};

static IN_A_PROGRAM: Attack = Attack {
    has: "ticket, nonce and name of her session",
    does: "makes proofs by keys of his own, in all ways",
    twin: Twin::App,
    without: "the token is all that it takes",
    with: Refused(&[Code::ProofMismatch, Code::SealBroken]),
    names: &[Sess(9), Api(2), Asvs("7.2.1")],
    shown: Shown::nothing(),
};

static BESIDE_HIS_PROOF: Attack = Attack {
    has: "her cookie and token",
    does: "lays them beside a proof in his own session",
    twin: Twin::App,
    without: "they are all that it takes",
    with: Refused(&[Code::LoginRequired]),
    names: &[Sess(8), Sess(9), Api(2), Dpop(8)],
    shown: Shown::nothing(),
};

static COOKIE_AND_TOKEN_ALONE: Attack = Attack {
    has: "her cookie and token",
    does: "sends them, as everywhere on the web",
    twin: Twin::App,
    without: "they are all that it takes",
    with: Refused(&[Code::ProofMissing]),
    names: &[Sess(9), Api(2)],
    shown: Shown::nothing(),
};

async fn theft_is_worth_nothing(engine: Engine) -> Outcome {
    let proxy = Proxy::start().await?;
    let origin = proxy.origin();
    let bank = Bank::open_with(|builder| builder.origin(origin)).await?;
    proxy.forward_to(bank.server.port());

    let victim = Browser::launch(engine).await?;
    let stolen = rob(&victim, &bank, &proxy).await?;
    let paid = bank.ledger.transfers().len();
    assert_eq!(paid, 1);

    let thief = Browser::launch(engine).await?;
    in_another_browser(&thief, &bank, &proxy, &stolen).await?;
    thief.quit().await?;
    in_another_program(&bank, &proxy, &stolen).await?;
    let booked = bank.ledger.transfers();
    let from_twin = |receipt: &&Value| receipt["amount"] == 666;
    assert_eq!(
        booked.iter().filter(from_twin).count(),
        3,
        "the twin is robbed"
    );
    assert_eq!(booked.len(), paid + 3, "the bank is not");

    // All the while the session was alive: what was refused was not refused for its age.
    let me = victim
        .eval(
            "return session.fetch('/api/me').then((reply) => reply.json())",
            [],
        )
        .await?;
    assert_eq!(me["subject"], "ann");
    victim.quit().await?;
    Ok(())
}

/// Lets Ann log in at both and pay, and takes what there is.
async fn rob(victim: &Browser, bank: &Bank, proxy: &Proxy) -> Outcome<Stolen> {
    victim.goto(&format!("{}/page", proxy.origin())).await?;
    victim.wait_until("return window.bulla", PATIENCE).await?;
    victim
        .eval(
            "window.session = await bulla.open({ server: location.origin, identity: args[0] });
             const post = (fetch, path, body) => fetch(path, {
               method: 'POST',
               headers: { 'content-type': 'application/json' },
               body: JSON.stringify(body),
             }).then((reply) => reply.json());
             await post(session.fetch, '/api/login', { user: 'ann' });
             await post(session.fetch, '/api/transfer', { to: 'bob', amount: 7 });
             await session.fetch('/api/me').then((reply) => reply.json());
             const { token } = await post(fetch.bind(window), '/twin/login', { user: 'ann' });
             localStorage.token = token;
             sessionStorage.token = token;",
            [json!(bank.identity())],
        )
        .await?;
    let stolen = Stolen {
        cookies: victim.driver().get_all_cookies().await?,
        storage: in_page(victim, TAKE_STORAGE, json!([])).await?,
        traffic: proxy.seen(),
    };
    assert_eq!(stolen.cookies.len(), 1, "also HttpOnly cookies are taken");
    assert_eq!(stolen.storage["local"]["token"], "token-of-ann");
    let handles = stolen.storage.to_string().matches("\"handle\"").count();
    // The session has the handle of the device key by which it was opened, too.
    assert_eq!(handles, 5, "device, request, response and MAC key");
    Ok(stolen)
}

async fn in_another_browser(
    thief: &Browser,
    bank: &Bank,
    proxy: &Proxy,
    stolen: &Stolen,
) -> Outcome {
    let page = format!("{}/page", proxy.origin());
    let variants = [(false, true), (true, true), (false, false), (true, false)];
    for (own_public, seal) in variants {
        thief.goto(&page).await?;
        thief.wait_until("return window.bulla", PATIENCE).await?;
        let arguments = json!([stolen.storage, own_public]);
        in_page(thief, PLANT_STORAGE, arguments).await?;
        for cookie in &stolen.cookies {
            // Firefox takes none that says more.
            let cookie = thirtyfour::Cookie::new(cookie.name.clone(), cookie.value.clone());
            thief.driver().add_cookie(cookie).await?;
        }
        let answers = thief
            .eval(
                "const session = await bulla.open({ server: location.origin, identity: args[0], seal: args[1] });
                 const held = session.id;
                 const attempt = (path, init) => session.fetch(path, init)
                   .then((reply) => reply.json())
                   .then((answer) => answer.code ?? `subject: ${answer.subject}`,
                         (error) => error.code ?? String(error));
                 return [held, await attempt('/api/me'), await attempt('/api/transfer', {
                   method: 'POST',
                   headers: { 'content-type': 'application/json' },
                   body: JSON.stringify({ to: 'mallory', amount: 1 }),
                 })];",
                [json!(bank.identity()), json!(seal)],
            )
            .await?;
        let held = record(&stolen.storage, "session ")?["object"]["id"]["value"].clone();
        if own_public {
            // The stored session is seen to be another device's, and left alone: what opens is his own.
            assert_ne!(answers[0], held);
            assert_eq!(answers[1], "subject: null");
            assert_eq!(answers[2], "login_required");
            continue;
        }
        let refusal = if seal {
            "seal_broken"
        } else {
            "proof_mismatch"
        };
        assert_eq!(answers, json!([held, refusal, refusal]));
        IN_ANOTHER_BROWSER.refused(refusal.parse().ok());
    }

    // The recorded requests, sent again from where the victim's cookies are.
    for exchange in protocol_traffic(&stolen.traffic) {
        let before = bank.ledger.refusals().len();
        let headers: Value = exchange
            .request
            .headers()
            .iter()
            .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
            .collect();
        let answer = thief
            .eval(
                "const [path, method, headers, body] = args;
                 const reply = await fetch(path, { method, headers, body: new Uint8Array(body) });
                 return reply.text();",
                [
                    json!(exchange.request.uri().path()),
                    json!(exchange.request.method().as_str()),
                    headers,
                    json!(exchange.request.body().to_vec()),
                ],
            )
            .await?;
        let answer = answer.as_str().unwrap_or_default();
        assert_nothing_gained(bank, before, exchange, answer.as_bytes());
    }

    // Of the twin, the cookie is all that is needed, or the token.
    let answer = thief
        .eval(
            "const pay = (headers) => fetch('/twin/transfer', {
               method: 'POST',
               headers: { 'content-type': 'application/json', ...headers },
               body: JSON.stringify({ to: 'mallory', amount: 666 }),
             }).then((reply) => reply.status);
             const me = await fetch('/twin/me').then((reply) => reply.json());
             const bearer = { authorization: `Bearer ${localStorage.token}` };
             return [me.subject, await pay({}), await pay(bearer)];",
            [],
        )
        .await?;
    assert_eq!(answer, json!(["ann", 200, 200]));
    for attack in [&IN_ANOTHER_BROWSER, &IN_A_PROGRAM, &BESIDE_HIS_PROOF] {
        attack.without(answer[0] == "ann");
    }
    Ok(())
}

async fn in_another_program(bank: &Bank, proxy: &Proxy, stolen: &Stolen) -> Outcome {
    let client = Client::builder(proxy.origin())
        .identity(bank.bulla.identity())
        .http(proxy.trusting_client()?)
        .build()?;
    let thief = client.open().await?;

    for exchange in protocol_traffic(&stolen.traffic) {
        let before = bank.ledger.refusals().len();
        let mut request = exchange.request.clone();
        *request.uri_mut() = format!("{}{}", proxy.origin(), request.uri()).parse()?;
        let answer = client.send_unverified(request).await?;
        assert_nothing_gained(bank, before, exchange, answer.body());
    }

    // The twin's login, recorded, logs in whoever sends it.
    let login = |exchange: &&Exchange| exchange.request.uri().path() == "/twin/login";
    let login = stolen.traffic.iter().find(login).ok_or("no login")?;
    let again = proxy.send(login.request.clone()).await?;
    let token: Value = serde_json::from_slice(again.body())?;
    TRAFFIC_FROM_A_BROWSER.without(token["token"] == "token-of-ann");

    // With the ticket, the nonce and the name, and keys of his own.
    let session = &record(&stolen.storage, "session ")?["object"];
    let text = |name: &str| session[name]["value"].as_str().unwrap_or_default();
    let ticket = Ticket::from_field(text("ticket"))?;
    let own = thief.dangerous_loot()?;
    let forged = thief.dangerous_with_loot(Loot {
        session: text("id").parse()?,
        ticket: ticket.clone(),
        nonce: text("nonce").to_owned(),
        request_key: own.request_key,
        response_key: own.response_key,
    })?;
    for kind in [ProofKind::Device, ProofKind::Session] {
        for mode in [Mode::Sealed, Mode::SealedAtPath, Mode::Signed] {
            let prepared = forged.prepare(transfer(1)?, mode, kind, forged.fresh_nonce()?)?;
            let answer = client.send_unverified(prepared.request).await?;
            let wanted = match mode {
                Mode::Signed => Code::ProofMismatch,
                _ => Code::SealBroken,
            };
            assert_eq!(code(&answer), Some(wanted), "{kind:?} {mode:?}");
            IN_A_PROGRAM.refused(code(&answer));
        }
    }
    let carried = client.prepare_opening(Some(ticket))?;
    let answer = client.send_unverified(carried.request.clone()).await?;
    assert_eq!(code(&answer), Some(Code::TicketInvalid));

    // His own session, with the victim's cookie and token beside his own proof.
    let mut request = Request::get("/api/me").body(Bytes::new())?;
    let token = HeaderValue::from_static("Bearer token-of-ann");
    request.headers_mut().insert("authorization", token.clone());
    let nonce = thief.fresh_nonce()?;
    let prepared = thief.prepare(request, Mode::Sealed, ProofKind::Device, nonce)?;
    let mut request = prepared.request.clone();
    request.headers_mut().insert("cookie", cookies(stolen)?);
    let answer = client.send_unverified(request).await?;
    let answer = prepared.open_reply(answer).await?;
    let me: Value = serde_json::from_slice(answer.body())?;
    assert_eq!(me["subject"], Value::Null);
    let refused = error_code(thief.fetch(transfer(1)?).await);
    BESIDE_HIS_PROOF.refused(refused);

    // Nothing but cookies and token, as everywhere else on the web.
    for (path, amount) in [("/api/transfer", 1), ("/twin/transfer", 666)] {
        let mut request = transfer(amount)?;
        *request.uri_mut() = format!("{}{path}", proxy.origin()).parse()?;
        request.headers_mut().insert("cookie", cookies(stolen)?);
        request.headers_mut().insert("authorization", token.clone());
        let answer = client.send_unverified(request).await?;
        match path {
            "/api/transfer" => COOKIE_AND_TOKEN_ALONE.refused(code(&answer)),
            _ => COOKIE_AND_TOKEN_ALONE.without(answer.status() == 200),
        }
    }
    Ok(())
}

/// What was sent to the protocol's own paths.
fn protocol_traffic(traffic: &[Exchange]) -> impl Iterator<Item = &Exchange> {
    let is_ours = |exchange: &&Exchange| {
        let path = exchange.request.uri().path();
        path.starts_with("/.well-known/bulla/")
    };
    let count = traffic.iter().filter(is_ours).count();
    assert_eq!(count, 5, "two openings, a login, a transfer and a question");
    traffic.iter().filter(is_ours)
}

/// A request that was sent again was refused, or has opened a session that nobody can use: nobody is
/// logged in there, and its keys are agreed on with a key that never left the victim.
fn assert_nothing_gained(bank: &Bank, refusals_before: usize, exchange: &Exchange, answer: &[u8]) {
    let refusals = bank.ledger.refusals();
    match serde_json::from_slice::<Value>(answer) {
        Ok(opened) if opened["authenticated"] == false => {
            assert!(exchange.request.uri().path().ends_with("/session"));
        }
        _ => {
            assert_eq!(
                refusals.len(),
                refusals_before + 1,
                "{}",
                exchange.request.uri()
            );
            let last = refusals.last().copied();
            TRAFFIC_FROM_A_BROWSER.refused(last.and_then(|code| code.parse().ok()));
        }
    }
}

fn record<'a>(storage: &'a Value, kind: &str) -> Outcome<&'a Value> {
    let records = storage["databases"][0]["stores"][0]["records"].as_array();
    let record = records.into_iter().flatten().find(|record| {
        let key = record["key"].as_str();
        key.is_some_and(|key| key.starts_with(kind))
    });
    Ok(&record.ok_or("no such record")?["value"])
}

fn cookies(stolen: &Stolen) -> Outcome<HeaderValue> {
    let pairs: Vec<_> = stolen
        .cookies
        .iter()
        .map(|cookie| format!("{}={}", cookie.name, cookie.value))
        .collect();
    Ok(pairs.join("; ").parse()?)
}

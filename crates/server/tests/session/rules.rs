//! Rules on top of events, each played through.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bulla_protocol::error::Code;
use bulla_server::store::{SessionRef, StoreError, UsedProof, Verdict};
use bulla_server::{
    Action, Builder, Bulla, Clock as _, ConfigError, Cookies, EventKind, Identity, MemoryStore,
    ProofKind, Require, Rule, Rules, SecurityEvent, Store as _, SystemRandom, Threshold,
};
use futures_util::FutureExt as _;
use http::Request;
use tower::{Layer as _, service_fn};

use crate::hooked::{Hooked, Step};
use crate::support::{
    AUTHORITY, Body, Client, Device, ECHO, Server, answer, app, body, code, concealed, fields_of,
};

const MINUTE: Duration = Duration::from_mins(1);

type Events = Arc<Mutex<Vec<SecurityEvent>>>;

fn server(configure: impl FnOnce(Builder) -> Builder) -> (Server, Events) {
    let events = Events::default();
    let listener = Arc::clone(&events);
    let server = Server::with(|builder| {
        configure(builder.on_event(move |event| listener.lock().unwrap().push(event.clone())))
    });
    (server, events)
}

fn ruled(rules: Rules) -> (Server, Events) {
    server(|builder| builder.rules(rules))
}

/// Which rules have fired since it was last asked.
fn fired(events: &Events) -> Vec<Rule> {
    let events = std::mem::take(&mut *events.lock().unwrap());
    events
        .iter()
        .filter_map(|event| event.kind.rule())
        .collect()
}

fn from(mut request: Request<Body>, last: u8) -> Request<Body> {
    let peer = SocketAddr::from(([192, 0, 2, last], 1234));
    request.extensions_mut().insert(peer);
    request
}

/// What the owner of a session is told.
async fn owner(server: &Server, client: &Client, device: &Device) -> Option<Code> {
    let echo = client.signed(device, ProofKind::Device, ECHO, b"");
    code(&server.send(echo).await)
}

/// Whoever has copied a ticket signs with the key that he has.
async fn forge(server: &Server, client: &Client) {
    let forged = client.signed(&Device::new(), ProofKind::Device, ECHO, b"");
    assert_eq!(code(&server.send(forged).await), Some(Code::ProofMismatch));
}

#[tokio::test]
async fn refusals_of_one_session_add_up() {
    let (server, events) = ruled(Rules::default());
    let device = Device::new();
    let (client, other) = (
        device.open(&server, None).await.unwrap(),
        device.open(&server, None).await.unwrap(),
    );
    for _ in 0..9 {
        forge(&server, &client).await;
        forge(&server, &other).await;
    }
    assert_eq!(fired(&events), []);
    forge(&server, &client).await;
    let seen = events.lock().unwrap().clone();
    let names = server.bulla.pseudonyms();
    let last = seen.last().unwrap();
    assert_eq!(last.kind, EventKind::Rule(Rule::Refusals));
    assert_eq!(last.session, Some(names.session(client.id)));
    // It is said once a minute, and only what no honest client does counts.
    forge(&server, &client).await;
    assert_eq!(fired(&events), [Rule::Refusals]);
    server.clock.advance(61);
    for _ in 0..12 {
        server.clock.advance(30);
        forge_stale(&server, &other).await;
    }
    assert_eq!(fired(&events), []);
}

async fn forge_stale(server: &Server, client: &Client) {
    let forged = client.signed(&Device::new(), ProofKind::Device, ECHO, b"");
    let refused = code(&server.send(forged).await);
    assert!(matches!(
        refused,
        Some(Code::ProofMismatch | Code::NonceStale)
    ));
}

#[tokio::test]
async fn a_ticket_that_two_devices_show_is_noticed_at_once() {
    let (server, events) = ruled(Rules::default());
    let (victim, thief) = (Device::new(), Device::new());
    let client = victim.open(&server, None).await.unwrap();
    assert_eq!(fired(&events), []);
    let refused = thief.open(&server, Some(client.ticket.clone())).await.err();
    assert_eq!(refused, Some(Code::TicketInvalid));
    assert_eq!(fired(&events), [Rule::ForeignTicket]);
    assert_eq!(owner(&server, &client, &victim).await, None);
}

#[tokio::test]
async fn a_ticket_without_a_proof_is_theft_in_progress() {
    let (server, events) = ruled(Rules::default());
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    for expected in [&[][..], &[], &[Rule::MissingProof], &[]] {
        let request = Request::post(ECHO.1)
            .header("host", AUTHORITY)
            .header("bulla-ticket", client.ticket.to_field());
        let reply = server.send(request.body(body(b"")).unwrap()).await;
        assert_eq!(code(&reply), Some(Code::ProofMissing));
        assert_eq!(fired(&events), expected);
    }
    // Nobody shows one: any crawler.
    for _ in 0..10 {
        let request = Request::post(ECHO.1).header("host", AUTHORITY);
        server.send(request.body(body(b"")).unwrap()).await;
    }
    assert_eq!(fired(&events), []);
}

/// A shop that sets a cookie which is bound.
fn shop() -> (Server, Events) {
    let events = Events::default();
    let listener = Arc::clone(&events);
    let server = Server::around(
        |builder| {
            builder
                .cookies(Cookies::HttpOnly { readable: vec![] })
                .on_event(move |event| listener.lock().unwrap().push(event.clone()))
        },
        |bulla| {
            let set = service_fn(async |_: Request<bulla_server::Body>| {
                let mut answer = answer(200, "");
                let set = http::HeaderValue::from_static("sid=1; HttpOnly");
                answer.headers_mut().insert("set-cookie", set);
                Ok::<_, std::convert::Infallible>(answer)
            });
            app(bulla.layer().layer(set))
        },
    );
    (server, events)
}

async fn cookie_of(server: &Server, client: &Client, device: &Device) -> String {
    let request = client.signed(device, ProofKind::Device, ECHO, b"");
    let reply = server.send(request).await;
    let line = reply.headers()["set-cookie"].to_str().unwrap();
    line.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_bound_cookie_without_a_proof_or_in_another_session_is_theft_in_progress() {
    let (server, events) = shop();
    let (victim, thief) = (Device::new(), Device::new());
    let client = victim.open(&server, None).await.unwrap();
    let cookie = cookie_of(&server, &client, &victim).await;
    for expected in [&[][..], &[], &[Rule::MissingProof]] {
        let request = Request::post(ECHO.1)
            .header("host", AUTHORITY)
            .header("cookie", &cookie);
        let reply = server.send(request.body(body(b"")).unwrap()).await;
        assert_eq!(code(&reply), Some(Code::ProofMissing));
        let names = server.bulla.pseudonyms();
        let of_victim = names.device(victim.0.thumbprint());
        let seen = events.lock().unwrap().clone();
        let unproven = seen
            .iter()
            .find(|event| event.kind == EventKind::CookieUnproven);
        assert_eq!(unproven.unwrap().device, Some(of_victim));
        assert_eq!(fired(&events), expected);
    }
    let his = thief.open(&server, None).await.unwrap();
    for expected in [&[][..], &[], &[Rule::ForeignCookie]] {
        let mut request = his.signed(&thief, ProofKind::Device, ECHO, b"");
        request
            .headers_mut()
            .insert("cookie", cookie.parse().unwrap());
        assert_eq!(server.send(request).await.status(), 200);
        assert_eq!(fired(&events), expected);
    }
}

#[tokio::test]
async fn a_session_that_moves_about_is_noticed() {
    let often = Threshold::new(3, MINUTE);
    let (server, events) = ruled(Rules::default().on(Rule::NetworkChange, often, Action::End));
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let send = async |last| {
        let echo = client.signed(&device, ProofKind::Device, ECHO, b"");
        code(&server.send(from(echo, last)).await)
    };
    for (last, expected) in [
        (1, &[][..]),
        (1, &[]),
        (2, &[]),
        (1, &[]),
        (3, &[Rule::NetworkChange]),
    ] {
        // The very request that makes it fire is the first that is refused.
        let refused = (!expected.is_empty()).then_some(Code::SessionRevoked);
        assert_eq!(send(last).await, refused);
        assert_eq!(fired(&events), expected, "{last}");
    }
    assert_eq!(send(3).await, Some(Code::SessionRevoked));
    // A thief moves, and cannot prove it: it is not the session that has moved.
    let client = device.open(&server, None).await.unwrap();
    for last in 1..9 {
        let forged = client.signed(&Device::new(), ProofKind::Device, ECHO, b"");
        server.send(from(forged, last)).await;
    }
    assert!(!fired(&events).contains(&Rule::NetworkChange));
    assert_eq!(owner(&server, &client, &device).await, None);
}

#[tokio::test]
async fn a_flood_of_openings_is_noticed_by_network() {
    let few = Threshold::new(3, MINUTE);
    let (server, events) = ruled(Rules::default().on(Rule::Openings, few, Action::Record));
    for (last, expected) in [
        (1, &[][..]),
        (1, &[]),
        (2, &[]),
        (1, &[Rule::Openings]),
        (2, &[]),
    ] {
        let opening = Device::new().opening(&server);
        assert_eq!(server.send(from(opening, last)).await.status(), 200);
        assert_eq!(fired(&events), expected);
    }
}

#[tokio::test]
async fn actions_are_carried_out_and_go_with_the_session() {
    // All of these by what its owner does, so that nobody else can bring it about.
    let moved = Threshold::new(1, MINUTE);
    let set = |action| Rules::default().on(Rule::NetworkChange, moved, action);
    let device = Device::new();
    let go = async |server: &Server, client: &Client, last| {
        let echo = client.signed(&device, ProofKind::Device, ECHO, b"");
        code(&server.send(from(echo, last)).await)
    };

    let (server, _) = ruled(set(Action::Throttle(MINUTE)));
    let client = device.open(&server, None).await.unwrap();
    assert_eq!(
        [go(&server, &client, 1).await, go(&server, &client, 2).await],
        [None; 2]
    );
    let carried = device
        .open(&server, Some(client.ticket.clone()))
        .await
        .unwrap();
    // Which had its turn in this second.
    server.clock.advance(1);
    assert_eq!(go(&server, &carried, 2).await, None);
    let slow = Some(Code::RateLimited);
    assert_eq!(go(&server, &carried, 2).await, slow);
    server.clock.advance(1);
    assert_eq!(
        [
            go(&server, &carried, 2).await,
            go(&server, &carried, 2).await
        ],
        [None, slow]
    );
    server.clock.advance(60);
    let fresh = device.open(&server, None).await.unwrap();
    assert_eq!(
        [go(&server, &fresh, 2).await, go(&server, &fresh, 2).await],
        [None; 2]
    );

    let (server, events) = ruled(set(Action::End));
    let client = device.open(&server, None).await.unwrap();
    assert_eq!(
        [go(&server, &client, 1).await, go(&server, &client, 2).await],
        [None, Some(Code::SessionRevoked)]
    );
    let ended = events.lock().unwrap().last().unwrap().clone();
    let names = server.bulla.pseudonyms();
    assert_eq!(ended.kind, EventKind::SessionEnded);
    assert_eq!(ended.session, Some(names.session(client.id)));
    assert_eq!(go(&server, &client, 2).await, Some(Code::SessionRevoked));
    // It is the store that knows: no carrying over saves it.
    let carried = device
        .open(&server, Some(client.ticket.clone()))
        .await
        .err();
    assert_eq!(carried, Some(Code::SessionRevoked));
}

#[tokio::test]
async fn a_session_that_is_suspect_steps_up_where_that_matters() {
    let moved = Threshold::new(1, MINUTE);
    let rules = Rules::default().on(Rule::NetworkChange, moved, Action::StepUp);
    let recent = Require::session().recent_login(MINUTE * 60);
    let (server, _) = server(|builder| builder.rules(rules).require("/api/echo", recent));
    let device = Device::new();
    let login = async |client: &mut Client| {
        let login = client.sealed(&device, ProofKind::Device, ("POST", "/api/login"), b"ann");
        let reply = server.send(from(concealed(&login.bytes), 1)).await;
        let (_, fields, _) = client.open_reply(&reply, &login.nonce);
        let ticket = client.update(&fields);
        device.open(&server, ticket).await.unwrap()
    };
    let mut client = device.open(&server, None).await.unwrap();
    let mut client = login(&mut client).await;
    let go = async |client: &Client, at, last| {
        let request = client.signed(&device, ProofKind::Device, at, b"");
        code(&server.send(from(request, last)).await)
    };
    assert_eq!(go(&client, ECHO, 1).await, None);
    // It has moved; and the very request that shows it does not pass.
    let wanted = Some(Code::InsufficientUserAuthentication);
    assert_eq!(go(&client, ECHO, 2).await, wanted);
    assert_eq!(go(&client, ("POST", "/api/headers"), 2).await, None);
    client = device
        .open(&server, Some(client.ticket.clone()))
        .await
        .unwrap();
    assert_eq!(go(&client, ECHO, 2).await, wanted);
    // What was suspect is all that was logged in to in that second.
    client = login(&mut client).await;
    assert_eq!(go(&client, ECHO, 2).await, wanted);
    server.clock.advance(1);
    client = login(&mut client).await;
    assert_eq!(go(&client, ECHO, 2).await, None);
}

/// The store is told as soon as it can be; and it is known here meanwhile.
#[tokio::test]
async fn what_the_store_cannot_take_it_is_told_later() {
    let is_gone = Arc::<AtomicBool>::default();
    let gone = Arc::clone(&is_gone);
    let store = Hooked::new(move |step| {
        let refuses = step == Step::Revoke && gone.load(Ordering::Relaxed);
        Box::pin(async move { if refuses { Err(StoreError) } else { Ok(()) } })
    });
    let moved = Threshold::new(1, MINUTE);
    let rules = Rules::default().on(Rule::NetworkChange, moved, Action::StepUp);
    let recent = Require::session().recent_login(MINUTE * 60);
    let (server, events) = server(|builder| {
        let builder = builder.store(store.clone());
        builder.rules(rules).require("/api/echo", recent)
    });
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    let login = client.signed(&device, ProofKind::Device, ("POST", "/api/login"), b"ann");
    let ticket = client.update(&fields_of(&server.send(login).await));
    let client = device.open(&server, ticket).await.unwrap();
    let go = async |last| {
        let request = client.signed(&device, ProofKind::Device, ECHO, b"");
        let refused = code(&server.send(from(request, last)).await);
        let seen = std::mem::take(&mut *events.lock().unwrap());
        (
            refused,
            seen.iter().any(|event| event.kind == EventKind::StepUp),
        )
    };
    let wanted = Some(Code::InsufficientUserAuthentication);
    assert_eq!(go(1).await, (None, false));
    is_gone.store(true, Ordering::Relaxed);
    assert_eq!(go(2).await, (wanted, false));
    is_gone.store(false, Ordering::Relaxed);
    assert_eq!(go(2).await, (wanted, true));
    assert_eq!(go(2).await, (wanted, false));
    let used = UsedProof {
        proof: [1; 16],
        memory: store.memory().proofs,
        until: server.clock.now() + 100,
        now: server.clock.now(),
        confirmed: true,
        session: SessionRef {
            session: client.id.into(),
            device: device.0.thumbprint(),
            subject: Some((
                "ann".parse().unwrap(),
                u32::try_from(server.clock.now()).unwrap(),
            )),
            memory: store.memory().revocations,
        },
    };
    assert_eq!(store.check_and_insert(used).await, Ok(Verdict::StepUp));
}

/// The application may want it, too, and ends it all where it must.
#[tokio::test]
async fn the_application_has_a_user_log_in_again() {
    let recent = Require::session().recent_login(MINUTE * 60);
    let (server, events) = server(|builder| builder.require("/api/echo", recent));
    let device = Device::new();
    let log_in = async |name: &[u8]| {
        let mut client = device.open(&server, None).await.unwrap();
        let login = client.signed(&device, ProofKind::Device, ("POST", "/api/login"), name);
        let ticket = client.update(&fields_of(&server.send(login).await));
        device.open(&server, ticket).await.unwrap()
    };
    let (ann, bob) = (log_in(b"ann").await, log_in(b"bob").await);
    let go = async |client: &Client| {
        let echo = client.signed(&device, ProofKind::Device, ECHO, b"");
        code(&server.send(echo).await)
    };
    let user = "ann".parse().unwrap();
    events.lock().unwrap().clear();
    server.bulla.demand_login_of(user).await.unwrap();
    let told = events.lock().unwrap().last().cloned().unwrap();
    let name = server.bulla.pseudonyms().subject("ann");
    assert_eq!((told.kind, told.subject), (EventKind::StepUp, Some(name)));
    let wanted = Some(Code::InsufficientUserAuthentication);
    assert_eq!((go(&ann).await, go(&bob).await), (wanted, None));
    // By the verifier's time, which is ahead of a clock that was put back a little.
    server.clock.advance(30);
    let late = log_in(b"ann").await;
    assert_eq!(go(&late).await, None);
    server.clock.put_back(20);
    server.bulla.end_all_of(user).await.unwrap();
    let ended = Some(Code::SessionRevoked);
    assert_eq!((go(&ann).await, go(&late).await), (ended, ended));
    assert_eq!(go(&bob).await, None);
}

/// He opens the next session first, and does in the one what nobody is to see in the other.
#[tokio::test]
async fn no_session_that_was_opened_before_is_free_of_what_came_after() {
    let moved = Threshold::new(1, MINUTE);
    let device = Device::new();
    let go = async |server: &Server, client: &Client, last| {
        let echo = client.signed(&device, ProofKind::Device, ECHO, b"");
        code(&server.send(from(echo, last)).await)
    };
    let recent = Require::session().recent_login(MINUTE * 60);
    let rules = Rules::default().on(Rule::NetworkChange, moved, Action::StepUp);
    let (server, _) = server(|builder| builder.rules(rules).require("/api/echo", recent));
    let mut client = device.open(&server, None).await.unwrap();
    let login = client.signed(&device, ProofKind::Device, ("POST", "/api/login"), b"ann");
    let reply = server.send(login).await;
    let ticket = client.update(&fields_of(&reply));
    let client = device.open(&server, ticket).await.unwrap();
    assert_eq!(go(&server, &client, 1).await, None);
    let next = device
        .open(&server, Some(client.ticket.clone()))
        .await
        .unwrap();
    let suspect = Some(Code::InsufficientUserAuthentication);
    assert_eq!(go(&server, &client, 2).await, suspect);
    assert_eq!(go(&server, &next, 2).await, suspect);
}

/// The first that he does with what he has copied is to get fresh keys.
#[tokio::test]
async fn whoever_carries_a_session_over_carries_over_where_it_was() {
    let moved = Threshold::new(1, MINUTE);
    let (server, events) = ruled(Rules::default().on(Rule::NetworkChange, moved, Action::Record));
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let go = async |client: &Client, last| {
        let echo = client.signed(&device, ProofKind::Device, ECHO, b"");
        code(&server.send(from(echo, last)).await)
    };
    assert_eq!(go(&client, 1).await, None);
    let next = device
        .open(&server, Some(client.ticket.clone()))
        .await
        .unwrap();
    assert_eq!(fired(&events), []);
    assert_eq!(go(&next, 2).await, None);
    assert_eq!(fired(&events), [Rule::NetworkChange]);
}

/// A page asks for many things at once, and all of them say what the session goes on from.
#[tokio::test]
async fn one_move_is_one_however_much_is_sent_at_once() {
    let (server, events) = ruled(Rules::default());
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let go = async |client: &Client, last| {
        let echo = client.signed(&device, ProofKind::Device, ECHO, b"");
        code(&server.send(from(echo, last)).await)
    };
    assert_eq!(go(&client, 1).await, None);
    let ticket = Some(client.ticket.clone());
    let next = device.open(&server, ticket).await.unwrap();
    events.lock().unwrap().clear();
    for _ in 0..5 {
        assert_eq!(go(&next, 2).await, None);
    }
    let seen = events.lock().unwrap().clone();
    let moves = seen
        .iter()
        .filter(|event| event.kind == EventKind::NetworkChanged);
    assert_eq!(moves.count(), 1);
}

/// Whoever is to be ended hangs up while the store is told of it.
#[tokio::test]
async fn what_nobody_waits_for_the_store_is_told_all_the_same() {
    let is_slow = Arc::<AtomicBool>::default();
    let slow = Arc::clone(&is_slow);
    let store = Hooked::new(move |step| {
        let waits = step == Step::Revoke && slow.load(Ordering::Relaxed);
        Box::pin(async move {
            if waits {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    });
    let moved = Threshold::new(1, MINUTE);
    let rules = Rules::default().on(Rule::NetworkChange, moved, Action::End);
    let (server, events) = server(|builder| builder.store(store.clone()).rules(rules));
    let device = Device::new();
    let (client, other) = (
        device.open(&server, None).await.unwrap(),
        device.open(&server, None).await.unwrap(),
    );
    let go = |client: &Client, last| {
        let echo = client.signed(&device, ProofKind::Device, ECHO, b"");
        server.send(from(echo, last))
    };
    assert_eq!(go(&client, 1).await.status(), 200);
    is_slow.store(true, Ordering::Relaxed);
    assert!(go(&client, 2).now_or_never().is_none());
    is_slow.store(false, Ordering::Relaxed);
    let ended = |events: &Events| {
        let events = events.lock().unwrap();
        events
            .iter()
            .any(|event| event.kind == EventKind::SessionEnded)
    };
    assert!(!ended(&events));
    // Anybody's next request.
    assert_eq!(go(&other, 1).await.status(), 200);
    assert!(ended(&events));
    let session = SessionRef {
        session: client.id.into(),
        device: device.0.thumbprint(),
        subject: None,
        memory: store.memory().revocations,
    };
    assert_eq!(store.is_revoked(session).await, Ok(true));
}

#[tokio::test]
async fn a_copy_takes_no_turn_of_whoever_is_slowed_down() {
    let moved = Threshold::new(1, MINUTE);
    let slow = Action::Throttle(MINUTE);
    let (server, _) = ruled(Rules::default().on(Rule::NetworkChange, moved, slow));
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let echo = || client.signed(&device, ProofKind::Device, ECHO, b"");
    let recorded = echo();
    let fields = recorded.headers().clone();
    assert_eq!(server.send(from(recorded, 1)).await.status(), 200);
    assert_eq!(server.send(from(echo(), 2)).await.status(), 200);
    for _ in 0..3 {
        server.clock.advance(1);
        let mut copy = Request::post(ECHO.1).body(body(b"")).unwrap();
        *copy.headers_mut() = fields.clone();
        assert_eq!(code(&server.send(copy).await), Some(Code::Replayed));
        assert_eq!(server.send(from(echo(), 2)).await.status(), 200);
        assert_eq!(
            code(&server.send(from(echo(), 2)).await),
            Some(Code::RateLimited)
        );
    }
}

/// He has a ticket, and knows what the rules are.
#[tokio::test]
async fn no_rule_lets_whoever_has_only_a_ticket_lock_its_owner_out() {
    let once = Threshold::new(1, MINUTE);
    let of_ticket = [
        Rule::Refusals,
        Rule::ForeignTicket,
        Rule::MissingProof,
        Rule::ForeignCookie,
    ];
    let with = |rules: Rules| {
        Bulla::builder()
            .origin("https://bank.example")
            .identity(Identity::generate(&SystemRandom).unwrap())
            .store(MemoryStore::new().unwrap())
            .rules(rules)
            .build()
    };
    for rule in Rule::ALL {
        for action in [
            Action::End,
            Action::Throttle(MINUTE),
            Action::StepUp,
            Action::Record,
        ] {
            let rules = Rules::none().on(rule, once, action);
            let locks_out = matches!(action, Action::End | Action::Throttle(_));
            let expected = !(locks_out && of_ticket.contains(&rule)
                || rule == Rule::Openings && action != Action::Record);
            let built = with(rules);
            assert_eq!(built.is_ok(), expected, "{rule:?} {action:?}");
            let names = |error: ConfigError| matches!(error, ConfigError::Rule(of) if of == rule);
            assert!(built.err().is_none_or(names));
        }
    }

    // The strictest that may be.
    let strictest = Rules::default()
        .on(Rule::Refusals, once, Action::StepUp)
        .on(Rule::ForeignTicket, once, Action::StepUp)
        .on(Rule::MissingProof, once, Action::StepUp)
        .on(Rule::ForeignCookie, once, Action::StepUp)
        .on(Rule::NetworkChange, once, Action::End);
    let attack = async |server: &Server, client: &Client| {
        for last in 1..30 {
            let forged = client.signed(&Device::new(), ProofKind::Device, ECHO, b"");
            server.send(from(forged, last)).await;
            let _ = Device::new()
                .open(server, Some(client.ticket.clone()))
                .await;
            let request = Request::post(ECHO.1)
                .header("host", AUTHORITY)
                .header("bulla-ticket", client.ticket.to_field());
            server
                .send(from(request.body(body(b"")).unwrap(), last))
                .await;
        }
    };
    let device = Device::new();
    let (server, _) = ruled(strictest.clone());
    let client = device.open(&server, None).await.unwrap();
    attack(&server, &client).await;
    assert_eq!(owner(&server, &client, &device).await, None);

    // The same attack, where somebody has asked for it.
    let asked_for = strictest
        .let_a_ticket_lock_out()
        .on(Rule::MissingProof, once, Action::End);
    let (server, _) = ruled(asked_for);
    let client = device.open(&server, None).await.unwrap();
    attack(&server, &client).await;
    assert_eq!(
        owner(&server, &client, &device).await,
        Some(Code::SessionRevoked)
    );
}

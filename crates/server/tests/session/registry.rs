//! Lists of a user's sessions and devices, and how many he may have.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;

use bulla_protocol::error::Code;
use bulla_protocol::opening::Ticket;
use bulla_protocol::proof::ProofKind;
use bulla_server::registry::{Swap, Swapped};
use bulla_server::store::{Ended, Ending, Party, StoreError, StoreFuture};
use bulla_server::{
    Builder, Bulla, Concurrency, Error, ListedSession, MemoryRegistry, Refused, Registry,
    Revocation, RevocationId, Session, Store, Subject,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::watch;
use tower::{Layer as _, service_fn};

use crate::hooked::Hooked;
use crate::support::{Client, Device, ECHO, Server, answer, app, code, erase, fields_of};

/// The memory registry, which can be away.
#[derive(Clone)]
struct Kept {
    registry: Arc<MemoryRegistry>,
    is_away: watch::Sender<bool>,
}

impl Kept {
    fn new() -> Self {
        Self {
            registry: Arc::new(MemoryRegistry::new()),
            is_away: watch::Sender::new(false),
        }
    }

    fn there(&self) -> Result<&MemoryRegistry, StoreError> {
        if *self.is_away.borrow() {
            return Err(StoreError);
        }
        Ok(&self.registry)
    }
}

impl Registry for Kept {
    fn get(&self, subject: Subject) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move { self.there()?.get(subject).await })
    }

    fn swap(&self, swap: Swap) -> StoreFuture<'_, Swapped> {
        Box::pin(async move { self.there()?.swap(swap).await })
    }
}

fn server(registry: impl Registry, concurrency: Concurrency) -> Server {
    server_with(|builder| builder.registry(registry).concurrency(concurrency))
}

fn server_with(configure: impl FnOnce(Builder) -> Builder) -> Server {
    Server::around(configure, |bulla: &Bulla| {
        let routes = async |request: Request<bulla_server::Body>| {
            let (parts, content) = request.into_parts();
            let session = parts.extensions.get::<Session>().cloned().unwrap();
            let content = content.collect().await.unwrap().to_bytes();
            let content = str::from_utf8(&content).unwrap();
            let done = serve(&session, parts.uri.path(), content).await;
            Ok::<_, Infallible>(match done {
                Ok(text) => answer(200, &text),
                Err(error) => erase(Response::from(Refused(error))),
            })
        };
        app(bulla.layer().layer(service_fn(routes)))
    })
}

async fn serve(session: &Session, path: &str, content: &str) -> Result<String, Error> {
    match path {
        "/api/login" => session.login(content).await?,
        "/api/logout" => session.logout().await?,
        "/api/everywhere" => session.logout_everywhere().await?,
        "/api/sessions" => return Ok(format!("{}", session.sessions().await?.len())),
        "/api/others" => return Ok(session.end_others().await?.to_string()),
        "/api/end" => return Ok(session.end_session(content.parse()?).await?.to_string()),
        "/api/name" => session.name_device(content).await?,
        "/api/forget" => {
            let device = content.parse().unwrap();
            return Ok(session.end_device(device).await?.to_string());
        }
        _ => {}
    }
    Ok(session.subject().unwrap_or("-").to_owned())
}

fn many(limit: u32) -> NonZeroU32 {
    NonZeroU32::new(limit).unwrap()
}

fn subject(name: &str) -> Subject {
    name.parse().unwrap()
}

/// Sends it, and once more where the nonce is stale. Gives what it says, and what is to be carried over.
async fn send(
    server: &Server,
    device: &Device,
    client: &mut Client,
    path: &str,
    content: &str,
) -> (Result<String, Code>, Option<Ticket>) {
    let kind = ProofKind::Device;
    loop {
        let request = client.signed(device, kind, ("POST", path), content.as_bytes());
        let response = server.send(request).await;
        let carry = client.update(&fields_of(&response));
        if code(&response) != Some(Code::NonceStale) {
            return (said(&response), carry);
        }
    }
}

async fn ask(
    server: &Server,
    device: &Device,
    client: &mut Client,
    path: &str,
    content: &str,
) -> Result<String, Code> {
    send(server, device, client, path, content).await.0
}

fn said(response: &Response<Bytes>) -> Result<String, Code> {
    match code(response) {
        Some(code) => Err(code),
        None => Ok(str::from_utf8(response.body()).unwrap().to_owned()),
    }
}

/// The carry-over ticket of a login.
async fn begin(server: &Server, device: &Device, user: &str) -> Result<Ticket, Code> {
    let mut client = device.open(server, None).await?;
    again(server, device, &mut client, user).await
}

async fn again(
    server: &Server,
    device: &Device,
    client: &mut Client,
    user: &str,
) -> Result<Ticket, Code> {
    let (said, carry) = send(server, device, client, "/api/login", user).await;
    said.map(|_| carry.unwrap())
}

/// A session that somebody has logged in to, and proved.
async fn log_in(server: &Server, device: &Device, user: &str) -> Result<Client, Code> {
    let ticket = begin(server, device, user).await?;
    let mut client = device.open(server, Some(ticket)).await?;
    ask(server, device, &mut client, ECHO.1, "").await?;
    Ok(client)
}

async fn listed(server: &Server, user: &str) -> Vec<RevocationId> {
    let sessions = server.bulla.sessions_of(subject(user)).await.unwrap();
    sessions.iter().map(|session| session.id).collect()
}

async fn echo(server: &Server, device: &Device, client: &mut Client) -> Result<String, Code> {
    ask(server, device, client, ECHO.1, "").await
}

#[tokio::test]
async fn sessions_come_and_go_with_the_list() {
    let server = server(MemoryRegistry::new(), Concurrency::Unlimited);
    let (phone, laptop) = (Device::new(), Device::new());
    assert!(listed(&server, "ann").await.is_empty());
    let mut one = log_in(&server, &phone, "ann").await.unwrap();
    server.clock.advance(10);
    let mut two = log_in(&server, &laptop, "ann").await.unwrap();
    log_in(&server, &laptop, "bob").await.unwrap();
    let sessions = server.bulla.sessions_of(subject("ann")).await.unwrap();
    let is = |session: &ListedSession, client: &Client, device: &Device, at| {
        session.id == client.id.into()
            && session.device == device.0.thumbprint()
            && session.login_time == at
            && session.last_seen == at
            && !session.is_this
    };
    assert!(is(&sessions[0], &two, &laptop, 1_800_000_010));
    assert!(is(&sessions[1], &one, &phone, 1_800_000_000));
    assert_eq!(sessions.len(), 2);

    // A request tells nothing, a renewal does.
    for (passed, seen) in [(400, 1_800_000_000), (100, 1_800_000_510)] {
        server.clock.advance(passed);
        echo(&server, &phone, &mut one).await.unwrap();
        let sessions = server.bulla.sessions_of(subject("ann")).await.unwrap();
        assert_eq!(sessions[1].last_seen, seen, "{passed}");
    }
    ask(&server, &phone, &mut one, "/api/logout", "")
        .await
        .unwrap();
    assert_eq!(listed(&server, "ann").await, [two.id.into()]);
    // The other one goes by itself.
    server.clock.advance(400);
    assert!(listed(&server, "ann").await.is_empty());
    assert_eq!(
        echo(&server, &laptop, &mut two).await,
        Err(Code::TicketExpired)
    );
    // Its device is known still.
    let devices = server.bulla.devices_of(subject("ann")).await.unwrap();
    assert_eq!(devices[0].device, phone.0.thumbprint());
    assert_eq!(
        (devices[0].first_seen, devices[0].last_seen),
        (1_800_000_000, 1_800_000_510)
    );
    assert_eq!(devices.len(), 2);
}

#[tokio::test]
async fn what_has_ended_elsewhere_is_on_no_list() {
    let ann = subject("ann");
    let ends: [fn(&Client, &Device) -> Revocation; 3] = [
        |client, _| Revocation::Session(client.id.into()),
        |_, _| Revocation::Subject("ann".parse().unwrap(), 1_800_000_000),
        |_, device| Revocation::Device(device.0.thumbprint()),
    ];
    for end in ends {
        let server = server(MemoryRegistry::new(), Concurrency::AtMost(many(1)));
        let device = Device::new();
        let client = log_in(&server, &device, "ann").await.unwrap();
        assert_eq!(listed(&server, "ann").await.len(), 1);
        server.bulla.revoke(end(&client, &device)).await.unwrap();
        assert!(listed(&server, "ann").await.is_empty());
        // Nor does it take a place.
        server.clock.advance(1);
        log_in(&server, &Device::new(), "ann").await.unwrap();
        assert_eq!(listed(&server, "ann").await.len(), 1);
        server.bulla.end_all().await.unwrap();
        assert!(listed(&server, "ann").await.is_empty());
        log_in(&server, &Device::new(), "ann").await.unwrap();
        server.bulla.end_and_forget(ann).await.unwrap();
        assert!(server.bulla.devices_of(ann).await.unwrap().is_empty());
        assert!(listed(&server, "ann").await.is_empty());
    }
}

#[tokio::test]
async fn users_end_their_own() {
    let server = server(MemoryRegistry::new(), Concurrency::Unlimited);
    let (phone, laptop) = (Device::new(), Device::new());
    let mut one = log_in(&server, &phone, "ann").await.unwrap();
    let mut two = log_in(&server, &laptop, "ann").await.unwrap();
    let mut three = log_in(&server, &laptop, "ann").await.unwrap();
    let mut bob = log_in(&server, &laptop, "bob").await.unwrap();
    let id = |client: &Client| RevocationId::from(client.id).to_string();
    for other in [id(&one), id(&two)] {
        // Not another user's, by whatever device.
        let ended = ask(&server, &laptop, &mut bob, "/api/end", &other).await;
        assert_eq!(ended.as_deref(), Ok("false"));
    }
    let ended = ask(&server, &phone, &mut one, "/api/end", &id(&bob)).await;
    assert_eq!(ended.as_deref(), Ok("false"));
    for expected in ["true", "false"] {
        let ended = ask(&server, &phone, &mut one, "/api/end", &id(&two)).await;
        assert_eq!(ended.as_deref(), Ok(expected));
        let refused = echo(&server, &laptop, &mut two).await;
        assert_eq!(refused, Err(Code::SessionRevoked));
    }
    let names_none = ask(&server, &phone, &mut one, "/api/end", "x").await;
    assert_eq!(names_none, Err(Code::Malformed));
    assert_eq!(
        echo(&server, &laptop, &mut three).await.as_deref(),
        Ok("ann")
    );
    let ended = ask(&server, &phone, &mut one, "/api/others", "").await;
    assert_eq!(ended.as_deref(), Ok("1"));
    let refused = echo(&server, &laptop, &mut three).await;
    assert_eq!(refused, Err(Code::SessionRevoked));
    assert_eq!(echo(&server, &phone, &mut one).await.as_deref(), Ok("ann"));
    assert_eq!(echo(&server, &laptop, &mut bob).await.as_deref(), Ok("bob"));
    // One's own is a logout.
    let own = id(&one);
    let ended = ask(&server, &phone, &mut one, "/api/end", &own).await;
    assert_eq!(ended.as_deref(), Ok("true"));
    let refused = echo(&server, &phone, &mut one).await;
    assert_eq!(refused, Err(Code::SessionRevoked));
    assert_eq!(listed(&server, "bob").await.len(), 1);
}

#[tokio::test]
async fn devices_have_names_and_are_given_up() {
    let server = server(MemoryRegistry::new(), Concurrency::Unlimited);
    let (phone, laptop) = (Device::new(), Device::new());
    let mut one = log_in(&server, &phone, "ann").await.unwrap();
    let mut two = log_in(&server, &laptop, "ann").await.unwrap();
    let mut bob = log_in(&server, &phone, "bob").await.unwrap();
    ask(&server, &phone, &mut one, "/api/name", "Ann's phone")
        .await
        .unwrap();
    let bad = ask(&server, &phone, &mut one, "/api/name", "a\nb").await;
    assert_eq!(bad, Err(Code::Malformed));
    let names = async |user| {
        let mut names = Vec::new();
        for device in server.bulla.devices_of(subject(user)).await.unwrap() {
            names.extend(device.name.map(|name| name.to_string()));
        }
        for session in server.bulla.sessions_of(subject(user)).await.unwrap() {
            names.extend(session.device_name.map(|name| name.to_string()));
        }
        names
    };
    assert_eq!(names("ann").await, ["Ann's phone"; 2]);
    assert!(names("bob").await.is_empty());
    let phone_name = phone.0.thumbprint().to_string();
    for expected in ["true", "false"] {
        let given_up = ask(&server, &laptop, &mut two, "/api/forget", &phone_name).await;
        assert_eq!(given_up.as_deref(), Ok(expected));
    }
    let refused = echo(&server, &phone, &mut one).await;
    assert_eq!(refused, Err(Code::SessionRevoked));
    assert_eq!(echo(&server, &phone, &mut bob).await.as_deref(), Ok("bob"));
    // Nor is it locked out.
    log_in(&server, &phone, "ann").await.unwrap();
    assert!(names("ann").await.is_empty());
}

#[tokio::test]
async fn whom_nobody_has_logged_in_to_has_no_list() {
    let server = server(MemoryRegistry::new(), Concurrency::Unlimited);
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    for path in ["/api/sessions", "/api/others", "/api/name"] {
        let refused = ask(&server, &device, &mut client, path, "x").await;
        assert_eq!(refused, Err(Code::LoginRequired), "{path}");
    }
    let without = server_with(|builder| builder);
    let mut client = log_in(&without, &device, "ann").await.unwrap();
    let refused = ask(&without, &device, &mut client, "/api/sessions", "").await;
    assert_eq!(refused, Err(Code::Internal));
}

/// The list calls it what it was called after its login, and by that it ends.
#[tokio::test]
async fn fresh_keys_keep_the_place() {
    let server = server(MemoryRegistry::new(), Concurrency::AtMost(many(2)));
    let (device, other) = (Device::new(), Device::new());
    let first = log_in(&server, &device, "ann").await.unwrap();
    let mut watching = log_in(&server, &other, "ann").await.unwrap();
    let mut ticket = first.ticket.clone();
    let mut last = None;
    for _ in 0..3 {
        let mut fresh = device.open(&server, Some(ticket)).await.unwrap();
        server.clock.advance(5);
        echo(&server, &device, &mut fresh).await.unwrap();
        let sessions = server.bulla.sessions_of(subject("ann")).await.unwrap();
        let place = sessions.iter().find(|listed| listed.id == first.id.into());
        assert_eq!(place.unwrap().login_time, 1_800_000_000);
        assert_eq!(sessions.len(), 2);
        ticket = fresh.ticket.clone();
        last = Some(fresh);
    }
    let mut last = last.unwrap();
    let own = ask(&server, &device, &mut last, "/api/sessions", "").await;
    assert_eq!(own.as_deref(), Ok("2"));
    let id = RevocationId::from(first.id).to_string();
    let ended = ask(&server, &other, &mut watching, "/api/end", &id).await;
    assert_eq!(ended.as_deref(), Ok("true"));
    let refused = echo(&server, &device, &mut last).await;
    assert_eq!(refused, Err(Code::SessionRevoked));
    assert_eq!(listed(&server, "ann").await, [watching.id.into()]);
}

#[tokio::test]
async fn no_more_than_there_may_be() {
    let server = server(MemoryRegistry::new(), Concurrency::AtMost(many(2)));
    let device = Device::new();
    let mut first = log_in(&server, &device, "ann").await.unwrap();
    let mut second = log_in(&server, &device, "ann").await.unwrap();
    let mut third = device.open(&server, None).await.unwrap();
    let refused = again(&server, &device, &mut third, "ann").await;
    assert_eq!(refused.err(), Some(Code::SessionLimit));
    // It goes on as it was, and others are not concerned.
    assert_eq!(echo(&server, &device, &mut third).await.as_deref(), Ok("-"));
    again(&server, &device, &mut third, "bob").await.unwrap();
    // Who logs in again has a place.
    let ticket = again(&server, &device, &mut second, "ann").await.unwrap();
    let mut second = device.open(&server, Some(ticket)).await.unwrap();
    assert_eq!(
        echo(&server, &device, &mut second).await.as_deref(),
        Ok("ann")
    );
    // A logout gives one free.
    ask(&server, &device, &mut first, "/api/logout", "")
        .await
        .unwrap();
    let mut third = log_in(&server, &device, "ann").await.unwrap();
    assert_eq!(
        begin(&server, &device, "ann").await.err(),
        Some(Code::SessionLimit)
    );
    // And time does, where one is left without a word.
    server.clock.advance(500);
    echo(&server, &device, &mut third).await.unwrap();
    server.clock.advance(399);
    assert_eq!(
        begin(&server, &device, "ann").await.err(),
        Some(Code::SessionLimit)
    );
    server.clock.advance(1);
    log_in(&server, &device, "ann").await.unwrap();
    assert_eq!(
        begin(&server, &device, "ann").await.err(),
        Some(Code::SessionLimit)
    );
    assert_eq!(
        echo(&server, &device, &mut third).await.as_deref(),
        Ok("ann")
    );
}

/// Both have been told that there is a place.
#[tokio::test]
async fn of_two_logins_at_once_one_gets_the_last_place() {
    let server = server(MemoryRegistry::new(), Concurrency::AtMost(many(1)));
    let (one, two) = (Device::new(), Device::new());
    let first = begin(&server, &one, "ann").await.unwrap();
    let second = begin(&server, &two, "ann").await.unwrap();
    let (first, second) = tokio::join!(
        one.open(&server, Some(first)),
        two.open(&server, Some(second)),
    );
    assert!(first.is_ok());
    assert_eq!(second.err(), Some(Code::SessionLimit));
}

#[tokio::test]
async fn an_opening_that_is_not_used_holds_its_place_for_a_minute() {
    let server = server(MemoryRegistry::new(), Concurrency::AtMost(many(1)));
    let device = Device::new();
    let ticket = begin(&server, &device, "ann").await.unwrap();
    let mut slow = device.open(&server, Some(ticket)).await.unwrap();
    let early = begin(&server, &device, "ann").await.err();
    assert_eq!(early, Some(Code::SessionLimit));
    server.clock.advance(60);
    let mut next = log_in(&server, &device, "ann").await.unwrap();
    // Whoever comes late finds it taken, and has it once it is free.
    assert_eq!(
        echo(&server, &device, &mut slow).await,
        Err(Code::SessionLimit)
    );
    assert_eq!(listed(&server, "ann").await, [next.id.into()]);
    ask(&server, &device, &mut next, "/api/logout", "")
        .await
        .unwrap();
    assert_eq!(
        echo(&server, &device, &mut slow).await.as_deref(),
        Ok("ann")
    );
    assert_eq!(listed(&server, "ann").await, [slow.id.into()]);
}

#[tokio::test]
async fn the_newest_wins() {
    let server = server(MemoryRegistry::new(), Concurrency::NewestWins(many(2)));
    let device = Device::new();
    let mut clients: Vec<Client> = Vec::new();
    for count in 1..5_u64 {
        clients.push(log_in(&server, &device, "ann").await.unwrap());
        let mut bob = log_in(&server, &device, "bob").await.unwrap();
        assert_eq!(echo(&server, &device, &mut bob).await.as_deref(), Ok("bob"));
        for (at, client) in (1_u64..).zip(&mut clients) {
            let answer = echo(&server, &device, client).await;
            let is_alive = at + 2 > count;
            assert_eq!(answer.is_ok(), is_alive, "{at} of {count}");
        }
        assert!(listed(&server, "ann").await.len() <= 2);
        server.clock.advance(1);
    }
}

#[tokio::test]
async fn without_the_list_nobody_gets_in_and_everybody_goes_on() {
    for limit in [Concurrency::Unlimited, Concurrency::AtMost(many(5))] {
        let kept = Kept::new();
        let server = server(kept.clone(), limit);
        let device = Device::new();
        let mut client = log_in(&server, &device, "ann").await.unwrap();
        let ticket = begin(&server, &device, "ann").await.unwrap();
        let mut other = device.open(&server, None).await.unwrap();
        kept.is_away.send_replace(true);
        let refused = device.open(&server, Some(ticket)).await.err();
        assert_eq!(refused, Some(Code::StoreUnavailable));
        let refused = again(&server, &device, &mut other, "ann").await.err();
        assert_eq!(refused, Some(Code::StoreUnavailable));
        assert_eq!(echo(&server, &device, &mut other).await.as_deref(), Ok("-"));
        for path in ["/api/sessions", "/api/others", "/api/name"] {
            let refused = ask(&server, &device, &mut client, path, "x").await;
            assert_eq!(refused, Err(Code::StoreUnavailable), "{path}");
        }
        // No ticket outlives the place that it is counted by.
        server.clock.advance(500);
        assert_eq!(
            echo(&server, &device, &mut client).await.as_deref(),
            Ok("ann")
        );
        server.clock.advance(400);
        let late = echo(&server, &device, &mut client).await;
        if limit == Concurrency::Unlimited {
            assert_eq!(late.as_deref(), Ok("ann"));
            // Once it is back, so is the session.
            kept.is_away.send_replace(false);
            server.clock.advance(100);
            echo(&server, &device, &mut client).await.unwrap();
            assert_eq!(listed(&server, "ann").await, [client.id.into()]);
            ask(&server, &device, &mut client, "/api/logout", "")
                .await
                .unwrap();
        } else {
            assert_eq!(late, Err(Code::TicketExpired));
        }
    }
}

/// A thief who has logged in gets fresh keys twice, and shows a proof with the last ones only. In between the session
/// that is listed has ended, and the one that lives has shown nothing yet.
#[tokio::test]
async fn nobody_hides_from_the_list_by_fresh_keys() {
    for limit in [Concurrency::AtMost(many(1)), Concurrency::Unlimited] {
        let server = server(MemoryRegistry::new(), limit);
        let (device, owners) = (Device::new(), Device::new());
        let first = log_in(&server, &device, "ann").await.unwrap();
        let second = device
            .open(&server, Some(first.ticket.clone()))
            .await
            .unwrap();
        let mut third = device
            .open(&server, Some(second.ticket.clone()))
            .await
            .unwrap();
        let owner = log_in(&server, &owners, "ann").await;
        if limit != Concurrency::Unlimited {
            assert_eq!(owner.err(), Some(Code::SessionLimit));
            assert_eq!(
                echo(&server, &device, &mut third).await.as_deref(),
                Ok("ann")
            );
            assert_eq!(listed(&server, "ann").await, [first.id.into()]);
            continue;
        }
        let ended = ask(&server, &owners, &mut owner.unwrap(), "/api/others", "").await;
        assert_eq!(ended.as_deref(), Ok("1"));
        let refused = echo(&server, &device, &mut third).await;
        assert_eq!(refused, Err(Code::SessionRevoked));
    }
}

/// A registry that keeps nothing.
struct Lost;

impl Registry for Lost {
    fn get(&self, _: Subject) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(async { Ok(None) })
    }

    fn swap(&self, _: Swap) -> StoreFuture<'_, Swapped> {
        Box::pin(async { Ok(Swapped::Done) })
    }
}

#[tokio::test]
async fn the_others_end_also_where_their_list_was_lost() {
    let server = server(Lost, Concurrency::Unlimited);
    let (desk, phone) = (Device::new(), Device::new());
    let mut earlier = log_in(&server, &phone, "ann").await.unwrap();
    let mut bobs = log_in(&server, &phone, "bob").await.unwrap();
    server.clock.advance(1);
    let mut client = log_in(&server, &desk, "ann").await.unwrap();
    assert_eq!(listed(&server, "ann").await, []);
    ask(&server, &desk, &mut client, "/api/others", "")
        .await
        .unwrap();
    let ended = echo(&server, &phone, &mut earlier).await;
    assert_eq!(ended, Err(Code::SessionRevoked));
    for (device, client, user) in [(&desk, &mut client, "ann"), (&phone, &mut bobs, "bob")] {
        assert_eq!(echo(&server, device, client).await.as_deref(), Ok(user));
    }
}

/// A thief has the ticket, and a device of his own.
#[tokio::test]
async fn a_stolen_ticket_opens_no_list() {
    let server = server(MemoryRegistry::new(), Concurrency::Unlimited);
    let (device, own) = (Device::new(), Device::new());
    let client = log_in(&server, &device, "ann").await.unwrap();
    let sessions = ("POST", "/api/sessions");
    let signed = |by: &Device| client.signed(by, ProofKind::Device, sessions, b"");
    let stolen: Response<Bytes> = server.send(signed(&own)).await;
    assert_eq!(said(&stolen), Err(Code::ProofMismatch));
    let carried = own.open(&server, Some(client.ticket.clone())).await.err();
    assert_eq!(carried, Some(Code::TicketInvalid));
    // The owner may.
    assert_eq!(
        said(&server.send(signed(&device)).await).as_deref(),
        Ok("1")
    );
}

/// Nobody can have so many of a user's sessions ended that he cannot end the others.
#[tokio::test]
async fn whoever_has_used_up_what_a_user_may_end_keeps_nobody_from_ending_his_others() {
    let store = Hooked::new(|_| Box::pin(async { Ok(()) }));
    let shared = store.clone();
    let registry = MemoryRegistry::new();
    let server = server_with(|builder| builder.store(shared).registry(registry));
    let device = Device::new();
    let mut client = log_in(&server, &device, "ann").await.unwrap();
    let mut thief = log_in(&server, &device, "ann").await.unwrap();
    let mut used_up = 0_u32;
    loop {
        let mut id = RevocationId([0; RevocationId::LEN]);
        id.0[..4].copy_from_slice(&used_up.to_be_bytes());
        let ended = Ended {
            revocation: Revocation::Session(id),
            until: 1_800_043_260,
            now: 1_800_000_000,
            by: Party::User(subject("ann")),
        };
        if store.revoke(ended).await.unwrap() == Ending::OverQuota {
            break;
        }
        used_up += 1;
    }
    assert!(used_up > 1000);
    let refused = ask(&server, &device, &mut client, "/api/logout", "").await;
    assert_eq!(refused, Err(Code::RateLimited));
    assert_eq!(
        echo(&server, &device, &mut thief).await.as_deref(),
        Ok("ann")
    );
    let ended = ask(&server, &device, &mut client, "/api/others", "").await;
    assert_eq!(ended.as_deref(), Ok("1"));
    let refused = echo(&server, &device, &mut thief).await;
    assert_eq!(refused, Err(Code::SessionRevoked));
}

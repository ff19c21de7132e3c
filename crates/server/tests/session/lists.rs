//! Lists of sessions and devices, and how many there may be.

use std::num::NonZeroU8;

use bulla_protocol::error::Code;
use bulla_server::store::StoreError;
use bulla_server::{
    Bulla, Concurrency, ConfigError, Error, Identity, ListedSession, MemoryRegistry, MemoryStore,
    ProofKind, Refused, Registry, Revocation, RevocationId, Session, Subject, SystemRandom,
    Thumbprint,
};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tower::{Layer as _, service_fn};

use crate::support::{Body, Client, Device, Server, answer, app, code, concealed, erase};

fn server(concurrency: Concurrency) -> Server {
    on(MemoryRegistry::new(), concurrency)
}

fn on(registry: impl Registry, concurrency: Concurrency) -> Server {
    Server::around(
        |builder| builder.registry(registry).concurrency(concurrency),
        |bulla| app(bulla.layer().layer(service_fn(serve))),
    )
}

/// What a user can do about their sessions. What is done to which is in the body.
async fn serve(
    request: Request<bulla_server::Body>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let (parts, content) = request.into_parts();
    let session = parts.extensions.get::<Session>().unwrap();
    let content = content.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(content.to_vec()).unwrap();
    let done: Result<String, Error> = match parts.uri.path() {
        "/login" => session.login(&text).await.map(|()| String::new()),
        "/logout" => session.logout().await.map(|()| String::new()),
        "/sessions" => session.sessions().await.map(|listed| {
            let line = |one: &ListedSession| format!("{}{} ", name(one.id), mark(one.is_current));
            listed.iter().map(line).collect()
        }),
        "/end" => session
            .end_session(id(&text))
            .await
            .map(|ended| ended.to_string()),
        "/others" => session.end_others().await.map(|ended| ended.to_string()),
        "/name" => {
            let named = session.name_device(&session.device(), &text).await;
            named.map(|named| named.to_string())
        }
        "/forget" => {
            let device: Thumbprint = text.parse().unwrap();
            session
                .forget_device(&device)
                .await
                .map(|forgot| forgot.to_string())
        }
        "/devices" => session.devices().await.map(|listed| {
            let line = |one: &bulla_server::ListedDevice| {
                let name = one.name.as_deref().unwrap_or("-");
                format!("{name}:{}-{} ", one.first_seen, one.last_seen)
            };
            listed.iter().map(line).collect()
        }),
        _ => Ok("ok".to_owned()),
    };
    Ok(match done {
        Ok(text) => answer(200, &text),
        Err(error) => erase(Response::from(Refused(error))),
    })
}

fn name(id: RevocationId) -> String {
    bulla_protocol::base64::encode(id.0)
}

fn id(text: &str) -> RevocationId {
    RevocationId(bulla_protocol::base64::decode_array(text).unwrap())
}

const fn mark(is_current: bool) -> &'static str {
    if is_current { "*" } else { "" }
}

/// Somebody at a device.
struct Visitor<'a> {
    server: &'a Server,
    device: Device,
    client: Client,
}

impl<'a> Visitor<'a> {
    async fn new(server: &'a Server) -> Self {
        let device = Device::new();
        let client = device.open(server, None).await.unwrap();
        Self {
            server,
            device,
            client,
        }
    }

    async fn logged_in(server: &'a Server, user: &str) -> Self {
        let mut visitor = Self::new(server).await;
        assert_eq!(visitor.log_in(user).await, Ok(()));
        visitor
    }

    /// What comes of a request: the text, or why it was refused.
    async fn ask(&mut self, path: &str, text: &str) -> Result<String, Code> {
        let kind = ProofKind::Device;
        let sent = self
            .client
            .sealed(&self.device, kind, ("POST", path), text.as_bytes());
        let reply = self.server.send(concealed(&sent.bytes)).await;
        if let Some(code) = code(&reply) {
            return Err(code);
        }
        let (_, fields, content) = self.client.open_reply(&reply, &sent.nonce);
        self.client.update(&fields);
        match bulla_protocol::error::Problem::parse(&content) {
            Some(code) => Err(code),
            None => Ok(String::from_utf8(content).unwrap()),
        }
    }

    async fn log_in(&mut self, user: &str) -> Result<(), Code> {
        let ticket = self.ask_to_log_in(user).await?;
        self.client = self.device.open(self.server, Some(ticket)).await?;
        self.ask("/", "").await.map(drop)
    }

    async fn ask_to_log_in(&mut self, user: &str) -> Result<bulla_protocol::opening::Ticket, Code> {
        let kind = ProofKind::Device;
        let sent = self
            .client
            .sealed(&self.device, kind, ("POST", "/login"), user.as_bytes());
        let reply = self.server.send(concealed(&sent.bytes)).await;
        let (_, fields, content) = self.client.open_reply(&reply, &sent.nonce);
        match bulla_protocol::error::Problem::parse(&content) {
            Some(code) => Err(code),
            None => Ok(self.client.update(&fields).unwrap()),
        }
    }

    fn id(&self) -> String {
        name(self.client.id.into())
    }

    async fn sessions(&mut self) -> Vec<String> {
        let listed = self.ask("/sessions", "").await.unwrap();
        listed.split_whitespace().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn users_see_and_end_their_own_sessions_and_nobody_elses() {
    let server = server(Concurrency::Unlimited);
    let mut desk = Visitor::logged_in(&server, "ann").await;
    server.clock.advance(5);
    let mut phone = Visitor::logged_in(&server, "ann").await;
    let mut mallory = Visitor::logged_in(&server, "mallory").await;
    assert_eq!(
        phone.sessions().await,
        [desk.id(), format!("{}*", phone.id())]
    );
    assert_eq!(
        desk.sessions().await,
        [format!("{}*", desk.id()), phone.id()]
    );
    assert_eq!(mallory.sessions().await, [format!("{}*", mallory.id())]);

    // He knows what it is called.
    for path in ["/end", "/forget"] {
        let name = match path {
            "/end" => phone.id(),
            _ => phone.device.0.thumbprint().to_string(),
        };
        assert_eq!(mallory.ask(path, &name).await.as_deref(), Ok("false"));
    }
    assert_eq!(mallory.ask("/others", "").await.as_deref(), Ok("0"));
    assert_eq!(phone.ask("/", "").await.as_deref(), Ok("ok"));
    let nobody = Visitor::new(&server).await.ask("/sessions", "").await;
    assert_eq!(nobody, Err(Code::LoginRequired));

    assert_eq!(desk.ask("/end", &phone.id()).await.as_deref(), Ok("true"));
    assert_eq!(phone.ask("/", "").await, Err(Code::SessionRevoked));
    assert_eq!(desk.sessions().await, [format!("{}*", desk.id())]);
    // Once is enough, and one's own is for the logout.
    assert_eq!(desk.ask("/end", &phone.id()).await.as_deref(), Ok("false"));
    assert_eq!(desk.ask("/end", &desk.id()).await.as_deref(), Ok("false"));
}

#[tokio::test]
async fn others_end_and_administrators_end_any() {
    let server = server(Concurrency::Unlimited);
    let mut desk = Visitor::logged_in(&server, "ann").await;
    let mut others = [
        Visitor::logged_in(&server, "ann").await,
        Visitor::logged_in(&server, "ann").await,
    ];
    assert_eq!(desk.ask("/others", "").await.as_deref(), Ok("2"));
    for other in &mut others {
        assert_eq!(other.ask("/", "").await, Err(Code::SessionRevoked));
    }
    let ann: Subject = "ann".parse().unwrap();
    let mut phone = Visitor::logged_in(&server, "ann").await;
    let listed = server.bulla.sessions_of(ann).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|session| !session.is_current));
    let of_phone = listed
        .iter()
        .find(|one| one.device == phone.device.0.thumbprint());
    let one = Revocation::Session(of_phone.unwrap().id);
    server.bulla.revoke(one).await.unwrap();
    assert_eq!(phone.ask("/", "").await, Err(Code::SessionRevoked));
    assert_eq!(server.bulla.sessions_of(ann).await.unwrap().len(), 1);
    server
        .bulla
        .revoke(Revocation::Subject(ann, u32::MAX))
        .await
        .unwrap();
    assert_eq!(desk.ask("/", "").await, Err(Code::SessionRevoked));
    assert_eq!(server.bulla.sessions_of(ann).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_session_is_listed_for_as_long_as_it_lives() {
    let server = server(Concurrency::Unlimited);
    let mut desk = Visitor::logged_in(&server, "ann").await;
    let mut phone = Visitor::logged_in(&server, "ann").await;
    // One goes on and gets new tickets, and fresh keys; of the other nothing is heard.
    for _ in 0..4 {
        server.clock.advance(8 * 60);
        let stale = desk.ask("/", "").await;
        assert_eq!(stale, Err(Code::NonceStale));
        assert_eq!(desk.ask("/", "").await.as_deref(), Ok("ok"));
    }
    let before = desk.id();
    let ticket = desk.client.ticket.clone();
    desk.client = desk.device.open(&server, Some(ticket)).await.unwrap();
    desk.ask("/", "").await.unwrap();
    assert_ne!(desk.id(), before);
    assert_eq!(desk.sessions().await, [format!("{}*", desk.id())]);
    assert_eq!(phone.ask("/", "").await, Err(Code::TicketExpired));
    desk.ask("/logout", "").await.unwrap();
    let ann = "ann".parse().unwrap();
    assert_eq!(server.bulla.sessions_of(ann).await, Ok(Vec::new()));
    // The devices stay.
    assert_eq!(server.bulla.devices_of(ann).await.unwrap().len(), 2);
}

#[tokio::test]
async fn devices_have_names_and_are_forgotten() {
    let server = server(Concurrency::Unlimited);
    let mut desk = Visitor::logged_in(&server, "ann").await;
    server.clock.advance(10);
    let mut phone = Visitor::logged_in(&server, "ann").await;
    assert_eq!(
        desk.ask("/name", " At the desk ").await.as_deref(),
        Ok("true")
    );
    let listed = desk.ask("/devices", "").await.unwrap();
    assert_eq!(
        listed,
        "At the desk:1800000000-1800000000 -:1800000010-1800000010 "
    );
    for bad in ["x".repeat(65).as_str(), "a\nb", "a\u{7}"] {
        assert_eq!(
            desk.ask("/name", bad).await,
            Err(Code::Malformed),
            "{bad:?}"
        );
    }
    assert_eq!(desk.ask("/name", "").await.as_deref(), Ok("true"));
    let of_phone = phone.device.0.thumbprint().to_string();
    assert_eq!(desk.ask("/forget", &of_phone).await.as_deref(), Ok("true"));
    assert_eq!(phone.ask("/", "").await, Err(Code::SessionRevoked));
    assert_eq!(
        desk.ask("/devices", "").await.unwrap(),
        "-:1800000000-1800000000 "
    );
    assert_eq!(desk.ask("/forget", &of_phone).await.as_deref(), Ok("false"));
}

#[tokio::test]
async fn so_many_sessions_and_no_more() {
    let two = NonZeroU8::new(2).unwrap();
    let server = server(Concurrency::AtMost(two));
    let mut first = Visitor::logged_in(&server, "ann").await;
    let _second = Visitor::logged_in(&server, "ann").await;
    let mut third = Visitor::new(&server).await;
    assert_eq!(third.log_in("ann").await, Err(Code::SessionLimit));
    // Its session has not ended by that, others have room of their own, and so has a new login in its place.
    assert_eq!(third.log_in("bob").await, Ok(()));
    assert_eq!(first.log_in("ann").await, Ok(()));
    first.ask("/logout", "").await.unwrap();
    assert_eq!(Visitor::new(&server).await.log_in("ann").await, Ok(()));

    // Two who log in at the same moment: the one who opens second comes too late.
    let server = server_with_one();
    let (mut one, mut other) = (Visitor::new(&server).await, Visitor::new(&server).await);
    let tickets = (
        one.ask_to_log_in("ann").await.unwrap(),
        other.ask_to_log_in("ann").await.unwrap(),
    );
    assert!(one.device.open(&server, Some(tickets.0)).await.is_ok());
    let late = other.device.open(&server, Some(tickets.1)).await.err();
    assert_eq!(late, Some(Code::SessionLimit));
}

fn server_with_one() -> Server {
    server(Concurrency::AtMost(NonZeroU8::MIN))
}

#[tokio::test]
async fn the_newest_wins_and_what_was_used_least_lately_ends() {
    let two = NonZeroU8::new(2).unwrap();
    let server = server(Concurrency::NewestWins(two));
    let mut first = Visitor::logged_in(&server, "ann").await;
    server.clock.advance(1);
    let mut second = Visitor::logged_in(&server, "ann").await;
    // The first goes on, under a new ticket.
    server.clock.advance(8 * 60);
    assert_eq!(first.ask("/", "").await, Err(Code::NonceStale));
    assert_eq!(first.ask("/", "").await.as_deref(), Ok("ok"));
    let mut third = Visitor::logged_in(&server, "ann").await;
    assert_eq!(second.ask("/", "").await, Err(Code::NonceStale));
    assert_eq!(second.ask("/", "").await, Err(Code::SessionRevoked));
    for alive in [&mut first, &mut third] {
        assert_eq!(alive.ask("/", "").await.as_deref(), Ok("ok"));
    }
    assert_eq!(third.sessions().await.len(), 2);
}

/// A registry that cannot be reached.
struct Away;

impl Registry for Away {
    fn load(
        &self,
        _: Subject,
    ) -> bulla_server::store::StoreFuture<'_, Option<bulla_server::registry::Record>> {
        Box::pin(async { Err(StoreError) })
    }

    fn swap(&self, _: bulla_server::registry::Swap) -> bulla_server::store::StoreFuture<'_, bool> {
        Box::pin(async { Err(StoreError) })
    }
}

#[tokio::test]
async fn who_cannot_be_counted_does_not_log_in_and_who_is_in_goes_on() {
    let unknown = Err(Code::StoreUnavailable);
    let one = NonZeroU8::MIN;
    for limit in [
        Concurrency::AtMost(one),
        Concurrency::NewestWins(one),
        Concurrency::Unlimited,
    ] {
        let server = on(Away, limit);
        let mut visitor = Visitor::new(&server).await;
        // For want of a list alone nobody is kept out.
        let expected = if limit == Concurrency::Unlimited {
            Ok(())
        } else {
            unknown
        };
        assert_eq!(visitor.log_in("ann").await, expected, "{limit:?}");
        let mut visitor = Visitor::new(&server).await;
        assert_eq!(visitor.ask("/", "").await.as_deref(), Ok("ok"), "{limit:?}");
    }
}

#[test]
fn a_limit_wants_something_that_counts() {
    let build = |registry: Option<MemoryRegistry>| {
        let builder = Bulla::builder()
            .origin("https://bank.example")
            .identity(Identity::generate(&SystemRandom).unwrap())
            .store(MemoryStore::new().unwrap())
            .concurrency(Concurrency::AtMost(NonZeroU8::MIN));
        match registry {
            Some(registry) => builder.registry(registry).build(),
            None => builder.build(),
        }
    };
    assert!(matches!(build(None).err(), Some(ConfigError::NoRegistry)));
    assert!(build(Some(MemoryRegistry::new())).is_ok());
}

//! Another device key in the place of one that signs it in, where a login lets it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bulla_protocol::error::Code;
use bulla_protocol::field;
use bulla_protocol::opening::Ticket;
use bulla_protocol::proof::ProofKind;
use bulla_server::{
    Bulla, Cookies, Error, EventKind, MemoryRegistry, Refused, Revocation, SecurityEvent, Session,
};
use http::request::Parts;
use http::{Request, Response};
use tower::{Layer as _, service_fn};

use crate::support::{
    Body, Client, Device, Server, answer, app, ask_with_cookies, code, concealed, erase,
};

struct Bank {
    server: Server,
    events: Arc<Mutex<Vec<SecurityEvent>>>,
}

impl Bank {
    fn new() -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&events);
        let server = Server::around(
            |builder| {
                let readable = Vec::new();
                builder
                    .registry(MemoryRegistry::new())
                    .cookies(Cookies::HttpOnly { readable })
                    .on_event(move |event| listener.lock().unwrap().push(event.clone()))
            },
            |bulla: &Bulla| {
                let routes = async |request: Request<bulla_server::Body>| {
                    Ok::<_, Infallible>(match serve(&request.into_parts().0).await {
                        Ok(response) => response,
                        Err(error) => erase(Response::from(Refused(error))),
                    })
                };
                app(bulla.layer().layer(service_fn(routes)))
            },
        );
        Self { server, events }
    }

    /// Sends a request. Gives what it says, what is to be carried over, and the cookies that it sets.
    async fn send(
        &self,
        (device, client): (&Device, &mut Client),
        path: &str,
        cookies: &str,
    ) -> (Result<String, Code>, Option<Ticket>, Vec<String>) {
        ask_with_cookies(&self.server, (device, client), path, cookies).await
    }

    /// A login that lets the key be rotated. Gives the ticket, the cookies that were set, and the session that has
    /// ended.
    async fn log_in(&self, device: &Device) -> (Ticket, Vec<String>, Client) {
        let mut client = device.open(&self.server, None).await.unwrap();
        let (said, carry, lines) = self.send((device, &mut client), "/rotate", "").await;
        said.unwrap();
        (carry.unwrap(), lines, client)
    }

    fn kinds(&self) -> Vec<&'static str> {
        let events = self.events.lock().unwrap();
        events.iter().map(|event| event.kind.name()).collect()
    }
}

async fn serve(request: &Parts) -> Result<Response<Body>, Error> {
    let session = request.extensions.get::<Session>().unwrap();
    let cookies = request.headers.get("cookie");
    let cookies = cookies.map_or("", |line| line.to_str().unwrap());
    let mut response = answer(200, &format!("{:?} {cookies}", session.subject()));
    match request.uri.path() {
        "/login" => session.login("ann").await?,
        "/rotate" => {
            session.login("ann").await?;
            session.rotate_device_key()?;
            for line in [
                "pin=4711; Path=/vault; HttpOnly; SameSite=Strict; Max-Age=600",
                "tab=1; Path=/; HttpOnly; Partitioned",
            ] {
                let line = line.parse().unwrap();
                response.headers_mut().append("set-cookie", line);
            }
        }
        "/rotate-alone" => session.rotate_device_key()?,
        "/rotate-late" => {
            session.logout().await?;
            session.rotate_device_key()?;
        }
        "/name" => session.name_device("Ann's phone").await?,
        "/devices" => {
            let devices = session.devices().await?;
            let line = devices.iter().map(|device| {
                let name = device.name.as_ref().map_or("-", |name| name.as_str());
                let age = device.key_since - device.first_seen;
                format!("{name} {age} {}", device.is_this)
            });
            return Ok(answer(200, &line.collect::<Vec<_>>().join(", ")));
        }
        _ => {}
    }
    Ok(response)
}

/// What a browser sends of these lines.
fn jar(lines: &[String]) -> String {
    let pairs = lines.iter().map(|line| line.split(';').next().unwrap());
    pairs.collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn the_new_key_has_the_login_the_place_and_the_cookies_of_the_old_one() {
    let (bank, old, new) = (Bank::new(), Device::new(), Device::new());
    let (carry, ..) = bank.log_in(&old).await;
    let mut client = old.open(&bank.server, Some(carry)).await.unwrap();
    bank.send((&old, &mut client), "/name", "").await.0.unwrap();
    bank.server.clock.advance(7);

    let (carry, lines, _) = bank.log_in(&old).await;
    let (opened, bound) = new
        .open_rotating((&old, &old), &bank.server, carry, &jar(&lines))
        .await;
    let mut client = opened.unwrap();
    assert!(client.authenticated);
    let session = (&new, &mut client);
    let (said, ..) = bank.send(session, "/devices", "").await;
    assert_eq!(said.unwrap(), "Ann's phone 7 true");

    // As they were set, and for the same time; by their old values nothing could be told of them.
    let attributes = |line: &String| line.split_once("; ").unwrap().1.to_owned();
    let [pin, tab] = &bound[..] else {
        panic!("{bound:?}");
    };
    assert_eq!(attributes(pin), attributes(&lines[0]));
    // Left to the browser, it is Lax.
    let lax = attributes(tab).replace("; SameSite=Lax", "");
    assert_eq!(lax, attributes(&lines[1]));
    assert!(!attributes(tab).contains("Max-Age") && attributes(tab).contains("Partitioned"));
    let session = (&new, &mut client);
    let (said, _, set) = bank.send(session, "/vault", &jar(&bound)).await;
    assert_eq!(
        (said.unwrap().as_str(), set.len()),
        ("Some(\"ann\") pin=4711; tab=1", 0)
    );
    let (said, ..) = bank
        .send((&new, &mut client), "/elsewhere", &jar(&bound))
        .await;
    assert_eq!(said.unwrap(), "Some(\"ann\") tab=1");
    assert_eq!(
        bank.kinds()
            .iter()
            .rev()
            .take(4)
            .rev()
            .copied()
            .collect::<Vec<_>>(),
        ["logged_in", "device_ended", "key_rotated", "opened"]
    );
}

/// Whoever has copied it, and all that was bound to it.
#[tokio::test]
async fn the_old_key_is_locked_out() {
    let (bank, old, new) = (Bank::new(), Device::new(), Device::new());
    // Somebody else at the same device, and a session beside.
    let mut beside = old.open(&bank.server, None).await.unwrap();
    let (carry, lines, mut ended) = bank.log_in(&old).await;
    let kept = carry.clone();
    let (opened, bound) = new
        .open_rotating((&old, &old), &bank.server, carry, &jar(&lines))
        .await;
    opened.unwrap();
    for client in [&mut beside, &mut ended] {
        let (said, ..) = bank.send((&old, client), "/", "").await;
        assert_eq!(said, Err(Code::SessionRevoked));
    }
    let mut client = old.open(&bank.server, None).await.unwrap();
    for cookies in [jar(&lines), jar(&bound)] {
        let (said, ..) = bank.send((&old, &mut client), "/vault", &cookies).await;
        assert_eq!(said, Err(Code::SessionRevoked));
    }
    // The ticket is used up, whoever comes with it.
    let again = new
        .open_rotating((&old, &old), &bank.server, kept.clone(), "")
        .await;
    assert_eq!(again.0.err(), Some(Code::SessionRevoked));
    let again = old.open(&bank.server, Some(kept)).await;
    assert_eq!(again.err(), Some(Code::SessionRevoked));
}

/// Script in the page can use the key, and could have it sign in one of its own.
#[tokio::test]
async fn a_key_signs_in_another_with_a_login_that_lets_it_and_not_otherwise() {
    let (bank, old, thief) = (Bank::new(), Device::new(), Device::new());
    let refused = async |(previous, by): (&Device, &Device), ticket: Ticket| {
        bank.events.lock().unwrap().clear();
        let (opened, set) = thief
            .open_rotating((previous, by), &bank.server, ticket, "")
            .await;
        assert_eq!((opened.err(), set.len()), (Some(Code::TicketInvalid), 0));
        let kinds = bank.kinds();
        // A rule in between says that it is one too many.
        assert_eq!(
            (kinds[0], kinds.last()),
            ("foreign_ticket", Some(&"refused"))
        );
    };
    let mut client = old.open(&bank.server, None).await.unwrap();
    // A ticket that is not confirmed, one that is, and that of a login.
    refused((&old, &old), client.ticket.clone()).await;
    bank.send((&old, &mut client), "/", "").await.0.unwrap();
    refused((&old, &old), client.ticket.clone()).await;
    for path in ["/rotate-alone", "/rotate-late"] {
        let mut client = old.open(&bank.server, None).await.unwrap();
        let (said, carry, _) = bank.send((&old, &mut client), path, "").await;
        assert_eq!((said, carry), (Err(Code::Internal), None), "{path}");
    }
    let (_, carry, _) = bank.send((&old, &mut client), "/login", "").await;
    let carry = carry.unwrap();
    refused((&old, &old), carry.clone()).await;
    // It was for its own device, which nobody has kept from it.
    old.open(&bank.server, Some(carry)).await.unwrap();

    // With the permission it is the old key's word that counts, and no other's.
    let (carry, ..) = bank.log_in(&old).await;
    for (previous, by) in [(&thief, &thief), (&old, &thief), (&thief, &old)] {
        refused((previous, by), carry.clone()).await;
    }
    let opened = thief.open(&bank.server, Some(carry.clone())).await;
    assert_eq!(opened.err(), Some(Code::TicketInvalid));
    // What it keeps out is there: the same is taken of whom it is for.
    let (opened, _) = thief
        .open_rotating((&old, &old), &bank.server, carry, "")
        .await;
    assert!(opened.unwrap().authenticated);
}

/// By whoever has its handle still.
#[tokio::test]
async fn a_key_that_is_locked_out_signs_in_no_other() {
    let (bank, old, new) = (Bank::new(), Device::new(), Device::new());
    let (carry, ..) = bank.log_in(&old).await;
    let lost = Revocation::Device(old.0.thumbprint());
    bank.server.bulla.revoke(lost).await.unwrap();
    let (opened, _) = new
        .open_rotating((&old, &old), &bank.server, carry, "")
        .await;
    assert_eq!(opened.err(), Some(Code::SessionRevoked));
}

/// A client that can make no other key, or has no use for one.
#[tokio::test]
async fn nobody_has_to() {
    let (bank, old) = (Bank::new(), Device::new());
    let (carry, lines, _) = bank.log_in(&old).await;
    let mut client = old.open(&bank.server, Some(carry)).await.unwrap();
    let (said, ..) = bank.send((&old, &mut client), "/vault", &jar(&lines)).await;
    assert_eq!(said.unwrap(), "Some(\"ann\") pin=4711; tab=1");
    assert!(!bank.kinds().contains(&EventKind::KeyRotated.name()));
}

/// And inside the seal: whoever ends TLS could have a client throw its key away else.
#[tokio::test]
async fn the_permission_is_said_where_it_is_given() {
    let (bank, device) = (Bank::new(), Device::new());
    for (path, says) in [("/rotate", Some("?1")), ("/login", None), ("/", None)] {
        let client = device.open(&bank.server, None).await.unwrap();
        let at = ("POST", path);
        let sealed = client.sealed(&device, ProofKind::Device, at, b"");
        let response = bank.server.send(concealed(&sealed.bytes)).await;
        assert!(!response.headers().contains_key(field::ROTATE));
        let (_, fields, _) = client.open_reply(&response, &sealed.nonce);
        let mut fields = fields.iter();
        let said = fields.find(|(name, _)| name == field::ROTATE);
        assert_eq!(said.map(|(_, said)| said.as_str()), says, "{path}");

        let client = device.open(&bank.server, None).await.unwrap();
        let signed = client.signed(&device, ProofKind::Device, at, b"");
        let response = bank.server.send(signed).await;
        let refused = says.map(|_| Code::SealRequired);
        assert_eq!(code(&response), refused, "{path}");
        assert!(!response.headers().contains_key(field::ROTATE));
    }
}

/// Cookies of a third device, those that are over, and those that nobody bound stay what they are: nothing.
#[tokio::test]
async fn no_other_cookies_are_bound_anew() {
    let (bank, old, new) = (Bank::new(), Device::new(), Device::new());
    let (_, others, _) = bank.log_in(&Device::new()).await;
    let (_, lines, _) = bank.log_in(&old).await;
    // The pin's ten minutes are over, the tab's session is not.
    bank.server.clock.advance(600);
    let (carry, ..) = bank.log_in(&old).await;
    let cookies = format!("{}; {}; pin=1; tab=bulla.AAAA", jar(&others), jar(&lines));
    let (opened, bound) = new
        .open_rotating((&old, &old), &bank.server, carry, &cookies)
        .await;
    assert_eq!(bound.len(), 1, "{bound:?}");
    let (said, ..) = bank
        .send((&new, &mut opened.unwrap()), "/vault", &jar(&bound))
        .await;
    assert_eq!(said.unwrap(), "Some(\"ann\") tab=1");
}

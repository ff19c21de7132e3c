//! Fresh keys at the moment at which the session ends: whatever comes first, the new session is not left
//! alive.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bulla_protocol::error::Code;
use bulla_protocol::proof::ProofKind;
use bulla_server::{Bulla, Revocation, Session};
use http::Request;
use tokio::sync::Notify;
use tower::{Layer as _, service_fn};

use crate::hooked::Hooked;
use crate::support::{Client, Device, ECHO, Server, answer, app, code, fields_of};

/// What happens between two steps of a request.
type Event = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A store in which something happens before the step whose number it is, once.
struct Steered {
    store: Hooked,
    event: Arc<Mutex<Option<(usize, Event)>>>,
}

impl Steered {
    fn new() -> Self {
        let event: Arc<Mutex<Option<(usize, Event)>>> = Arc::default();
        let coming = Arc::clone(&event);
        // What the event itself does to the store are no steps.
        let store = Hooked::new(move |_| {
            let mut event = coming.lock().unwrap();
            let due = match event.take() {
                Some((0, due)) => Some(due),
                later => {
                    *event = later.map(|(left, due)| (left - 1, due));
                    None
                }
            };
            Box::pin(async move {
                if let Some(due) = due {
                    due.await;
                }
                Ok(())
            })
        });
        Self { store, event }
    }

    /// Whether it has happened.
    fn has_happened(&self) -> bool {
        self.event.lock().unwrap().take().is_none()
    }
}

async fn send(server: &Server, device: &Device, client: &Client, path: &str) -> Option<Code> {
    let request = client.signed(device, ProofKind::Device, ("POST", path), b"ann");
    code(&server.send(request).await)
}

/// A session that ann has logged in to, and the one that is to take its place.
async fn pair(server: &Server, device: &Device) -> (Client, Client) {
    let mut client = device.open(server, None).await.unwrap();
    let login = client.signed(device, ProofKind::Device, ("POST", "/api/login"), b"ann");
    let carry = client.update(&fields_of(&server.send(login).await));
    let old = device.open(server, carry).await.unwrap();
    assert_eq!(send(server, device, &old, ECHO.1).await, None);
    let new = device.open(server, Some(old.ticket.clone())).await.unwrap();
    (old, new)
}

#[tokio::test]
async fn no_end_is_lost_between_the_steps_of_a_renewal() {
    let ends: [fn(&Client, &Device) -> Revocation; 3] = [
        |old, _| Revocation::Session(old.id.into()),
        |_, _| Revocation::Subject("ann".parse().unwrap(), 1_800_000_000),
        |_, device| Revocation::Device(device.0.thumbprint()),
    ];
    for (which, end) in ends.iter().enumerate() {
        for step in 0.. {
            let store = Steered::new();
            let server = Server::with(|builder| builder.store(store.store.clone()));
            let device = Device::new();
            let (old, new) = pair(&server, &device).await;
            let (bulla, revocation) = (server.bulla.clone(), end(&old, &device));
            let event = Box::pin(async move { bulla.revoke(revocation).await.unwrap() });
            *store.event.lock().unwrap() = Some((step, event));
            send(&server, &device, &new, ECHO.1).await;
            if !store.has_happened() {
                assert!(step > 1, "{which}");
                break;
            }
            for client in [&new, &old] {
                let after = send(&server, &device, client, ECHO.1).await;
                assert_eq!(after, Some(Code::SessionRevoked), "{which} {step}");
            }
        }
    }
}

/// The handler of the old session has begun when the new one takes its place, and logs out then.
#[tokio::test]
async fn a_logout_that_is_under_way_ends_what_has_taken_the_place() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let inside = (Arc::clone(&begun), Arc::clone(&go_on));
    let server = Server::around(
        |builder| builder,
        move |bulla: &Bulla| {
            let handler = service_fn(move |request: Request<bulla_server::Body>| {
                let (begun, go_on) = inside.clone();
                async move {
                    let session: Session = request.extensions().get().cloned().unwrap();
                    match request.uri().path() {
                        "/api/login" => session.login("ann").await.unwrap(),
                        "/api/logout" => {
                            begun.notify_one();
                            go_on.notified().await;
                            session.logout().await.unwrap();
                        }
                        _ => {}
                    }
                    Ok::<_, Infallible>(answer(200, ""))
                }
            });
            app(bulla.layer().layer(handler))
        },
    );
    let device = Device::new();
    let (old, new) = pair(&server, &device).await;
    let meanwhile = async {
        begun.notified().await;
        assert_eq!(send(&server, &device, &new, ECHO.1).await, None);
        // And once more: the place may have changed hands twice.
        let newest = device.open(&server, Some(new.ticket.clone())).await;
        let newest = newest.unwrap();
        assert_eq!(send(&server, &device, &newest, ECHO.1).await, None);
        go_on.notify_one();
        newest
    };
    let (out, newest) = tokio::join!(send(&server, &device, &old, "/api/logout"), meanwhile);
    assert_eq!(out, None);
    for client in [&old, &new, &newest] {
        let after = send(&server, &device, client, ECHO.1).await;
        assert_eq!(after, Some(Code::SessionRevoked));
    }
}

/// One that was opened by the ticket of one that was never used.
#[tokio::test]
async fn an_end_reaches_what_was_carried_over_twice() {
    for is_early in [true, false] {
        let server = Server::new();
        let device = Device::new();
        let (first, second) = pair(&server, &device).await;
        let third = || device.open(&server, Some(second.ticket.clone()));
        let early = if is_early { third().await.ok() } else { None };
        assert_eq!(early.is_some(), is_early);
        let end = Revocation::Session(first.id.into());
        server.bulla.revoke(end).await.unwrap();
        let ended = [Some(&first), Some(&second), early.as_ref()];
        for ended in ended.into_iter().flatten() {
            let refused = send(&server, &device, ended, ECHO.1).await;
            assert_eq!(refused, Some(Code::SessionRevoked), "{is_early}");
        }
        assert_eq!(third().await.err(), Some(Code::SessionRevoked));
    }
}

#[tokio::test]
async fn of_three_that_were_carried_over_one_is_left() {
    let server = Server::new();
    let device = Device::new();
    let (first, second) = pair(&server, &device).await;
    let third = device.open(&server, Some(second.ticket.clone())).await;
    let third = third.unwrap();
    assert_eq!(send(&server, &device, &third, ECHO.1).await, None);
    for ended in [&first, &second] {
        let refused = send(&server, &device, ended, ECHO.1).await;
        assert_eq!(refused, Some(Code::SessionRevoked));
    }
    assert_eq!(send(&server, &device, &third, ECHO.1).await, None);
}

/// Another one has the place already.
#[tokio::test]
async fn what_came_too_late_carries_nothing_over() {
    let server = Server::new();
    let device = Device::new();
    let (first, second) = pair(&server, &device).await;
    let other = device.open(&server, Some(first.ticket.clone())).await;
    assert_eq!(send(&server, &device, &other.unwrap(), ECHO.1).await, None);
    let late = device.open(&server, Some(second.ticket.clone())).await;
    assert_eq!(late.err(), Some(Code::SessionRevoked));
}

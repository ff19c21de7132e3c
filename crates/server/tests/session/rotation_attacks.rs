//! What goes wrong when device keys are rotated, or is made to.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bulla_protocol::error::Code;
use bulla_protocol::opening::Ticket;
use bulla_server::registry::{Swap, Swapped};
use bulla_server::store::{StoreError, StoreFuture};
use bulla_server::{
    Builder, Bulla, Concurrency, Cookies, Error, MemoryRegistry, MemoryStore, Refused, Registry,
    Revocation, Ring, Session, Subject,
};
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{Request, Response};
use tokio::sync::Notify;
use tower::{Layer as _, service_fn};

use crate::hooked::{Hooked, Step};
use crate::support::{
    Body, Client, Device, Server, TestClock, answer, app, ask_with_cookies, erase,
};

struct Bank {
    server: Server,
    /// Lets the handler of `/slow` go on.
    go_on: Arc<Notify>,
}

fn bank(configure: impl FnOnce(Builder) -> Builder) -> Bank {
    let clock = TestClock::new();
    bank_on(clock, configure)
}

fn bank_on(clock: TestClock, configure: impl FnOnce(Builder) -> Builder) -> Bank {
    let go_on = Arc::new(Notify::new());
    let waits = Arc::clone(&go_on);
    let server = Server::on(
        clock,
        |builder| {
            let readable = Vec::new();
            configure(builder.cookies(Cookies::HttpOnly { readable }))
        },
        |bulla: &Bulla| {
            let routes = service_fn(move |request: Request<bulla_server::Body>| {
                let waits = Arc::clone(&waits);
                async move {
                    Ok::<_, Infallible>(match serve(&request.into_parts().0, &waits).await {
                        Ok(response) => response,
                        Err(error) => erase(Response::from(Refused(error))),
                    })
                }
            });
            app(bulla.layer().layer(routes))
        },
    );
    Bank { server, go_on }
}

async fn serve(request: &Parts, waits: &Notify) -> Result<Response<Body>, Error> {
    let session = request.extensions.get::<Session>().unwrap();
    let cookies = request.headers.get("cookie");
    let cookies = cookies.map_or("", |line| line.to_str().unwrap());
    let mut response = answer(200, &format!("{:?} {cookies}", session.subject()));
    match request
        .uri
        .path()
        .split_at(request.uri.path().rfind('/').unwrap())
    {
        ("/login", user) => session.login(&user[1..]).await?,
        ("/rotate", user) => {
            session.login(&user[1..]).await?;
            session.rotate_device_key()?;
        }
        ("/cookie", value) => {
            let line = format!("sid={}; Path=/; HttpOnly", &value[1..]);
            response
                .headers_mut()
                .append("set-cookie", line.parse().unwrap());
        }
        // A token of the application's own, whose claim is this.
        ("/slow", value) => {
            waits.notified().await;
            let line = format!("sid={}; Path=/; HttpOnly", &value[1..]);
            response
                .headers_mut()
                .append("set-cookie", line.parse().unwrap());
        }
        _ => {}
    }
    Ok(response)
}

impl Bank {
    async fn send(
        &self,
        (device, client): (&Device, &mut Client),
        path: &str,
        cookies: &str,
    ) -> (Result<String, Code>, Option<Ticket>, Vec<String>) {
        ask_with_cookies(&self.server, (device, client), path, cookies).await
    }

    /// A session that ann has logged in to, on this device.
    async fn ann(&self, device: &Device) -> Client {
        let ticket = self.log_in(device, "/login/ann").await;
        device.open(&self.server, Some(ticket)).await.unwrap()
    }

    async fn log_in(&self, device: &Device, path: &str) -> Ticket {
        let mut client = device.open(&self.server, None).await.unwrap();
        let (said, carry, _) = self.send((device, &mut client), path, "").await;
        said.unwrap();
        carry.unwrap()
    }
}

fn jar(lines: &[String]) -> String {
    let pairs = lines.iter().map(|line| line.split(';').next().unwrap());
    pairs.collect::<Vec<_>>().join("; ")
}

/// A request of the old key that is under way when the key is rotated, and whose answer binds a cookie to it later than
/// a carry-over ticket lives.
#[tokio::test]
async fn what_is_bound_to_a_locked_key_late_does_not_outlive_the_lock() {
    let bank = bank(|builder| builder.registry(MemoryRegistry::new()));
    let (old, new) = (Device::new(), Device::new());
    // Whoever has copied the old key, in a session of ann's.
    let ticket = bank.log_in(&old, "/login/ann").await;
    let mut thief = old.open(&bank.server, Some(ticket)).await.unwrap();
    let carry = bank.log_in(&old, "/rotate/ann").await;
    let slow = bank.send((&old, &mut thief), "/slow/ann", "");
    let rotated = async {
        let (opened, _) = new
            .open_rotating((&old, &old), &bank.server, carry, "")
            .await;
        opened.unwrap();
        // A long poll, say.
        bank.server.clock.advance(600);
        bank.go_on.notify_one();
    };
    let ((_, _, lines), ()) = tokio::join!(slow, rotated);
    // The lock is forgotten: a session's life, and that of a carry-over ticket.
    let life = 12 * 3600 + 60;
    bank.server.clock.advance(life + 61 - 600);
    let mut thief = old.open(&bank.server, None).await.unwrap();
    let (said, ..) = bank.send((&old, &mut thief), "/", &jar(&lines)).await;
    assert!(
        !said.unwrap().contains("sid="),
        "a cookie of the key that was locked out is taken"
    );
}

/// A ring that is kept beside a store that is lost keeps cookies, of keys that were locked out, too.
#[tokio::test]
async fn a_lost_store_lets_no_locked_key_have_its_cookies_back() {
    for kind in ["rotation", "revocation"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring.json");
        let clock = TestClock::new();
        let node = || {
            let ring = Ring::in_file(&path).unwrap();
            bank_on(clock.clone(), |builder| {
                builder.ring(ring).store(MemoryStore::new().unwrap())
            })
        };
        let (before, old, new) = (node(), Device::new(), Device::new());
        let mut client = old.open(&before.server, None).await.unwrap();
        let (_, _, lines) = before.send((&old, &mut client), "/cookie/ann", "").await;
        if kind == "rotation" {
            let carry = before.log_in(&old, "/rotate/ann").await;
            let (opened, _) = new
                .open_rotating((&old, &old), &before.server, carry, "")
                .await;
            opened.unwrap();
        } else {
            let lost = Revocation::Device(old.0.thumbprint());
            before.server.bulla.revoke(lost).await.unwrap();
        }
        let mut thief = old.open(&before.server, None).await.unwrap();
        let (said, ..) = before.send((&old, &mut thief), "/", &jar(&lines)).await;
        assert_eq!(said, Err(Code::SessionRevoked));
        // The process is restarted.
        let after = node();
        let mut thief = old.open(&after.server, None).await.unwrap();
        let (said, ..) = after.send((&old, &mut thief), "/", &jar(&lines)).await;
        assert!(
            !said.is_ok_and(|said| said.contains("sid=")),
            "{kind}: the locked key has its cookies back"
        );
    }
}

/// Script that can use the victim's key logs in as somebody else, whose password it knows, and has the key sign in its
/// own: what was bound to the victim's key by the victim's session goes with it.
#[tokio::test]
async fn a_login_of_somebody_else_takes_no_cookies_of_the_victim() {
    let bank = bank(|builder| builder.registry(MemoryRegistry::new()));
    let (victim, thief) = (Device::new(), Device::new());
    let ticket = bank.log_in(&victim, "/login/ann").await;
    let mut ann = victim.open(&bank.server, Some(ticket)).await.unwrap();
    let (_, _, lines) = bank.send((&victim, &mut ann), "/cookie/ann", "").await;
    // Which the thief has copied: in his hands they are nothing.
    let copied = jar(&lines);
    let mut own = thief.open(&bank.server, None).await.unwrap();
    let (said, ..) = bank.send((&thief, &mut own), "/", &copied).await;
    assert!(!said.unwrap().contains("sid="));
    // In the page.
    let carry = bank.log_in(&victim, "/rotate/mallory").await;
    let (opened, bound) = thief
        .open_rotating((&victim, &victim), &bank.server, carry, &copied)
        .await;
    let mut own = opened.unwrap();
    let (said, ..) = bank.send((&thief, &mut own), "/", &jar(&bound)).await;
    assert!(
        !said.unwrap().contains("sid=ann"),
        "the victim's cookie is the thief's"
    );
}

/// Which of two cookies of one name is the browser's afterwards.
#[tokio::test]
async fn of_two_cookies_of_a_name_one_is_bound_anew() {
    let bank = bank(|builder| builder);
    let (old, new) = (Device::new(), Device::new());
    let mut client = bank.ann(&old).await;
    let (_, _, earlier) = bank.send((&old, &mut client), "/cookie/mallory", "").await;
    let (_, _, lines) = bank.send((&old, &mut client), "/cookie/ann", "").await;
    // As a sibling domain puts the earlier one in: after the good one.
    let both = format!("{}; {}", jar(&lines), jar(&earlier));
    let (said, ..) = bank.send((&old, &mut client), "/", &both).await;
    assert!(said.unwrap().contains("sid=ann; sid=mallory"));
    let carry = bank.log_in(&old, "/rotate/ann").await;
    let many = format!("{both}; {}", vec![jar(&lines); 50].join("; "));
    let (_, bound) = new
        .open_rotating((&old, &old), &bank.server, carry, &many)
        .await;
    assert_eq!(bound.len(), 1);
    let mut client = bank.ann(&new).await;
    let (said, ..) = bank.send((&new, &mut client), "/", &jar(&bound)).await;
    assert_eq!(said.unwrap(), "Some(\"ann\") sid=ann");
}

/// The new key has been locked out before.
#[tokio::test]
async fn a_key_that_is_locked_out_is_signed_in_by_none() {
    let bank = bank(|builder| builder.registry(MemoryRegistry::new()));
    let (old, new) = (Device::new(), Device::new());
    let lost = Revocation::Device(new.0.thumbprint());
    bank.server.bulla.revoke(lost).await.unwrap();
    let carry = bank.log_in(&old, "/rotate/ann").await;
    let (opened, _) = new
        .open_rotating((&old, &old), &bank.server, carry, "")
        .await;
    assert_eq!(opened.err(), Some(Code::SessionRevoked));
    let mut again = old.open(&bank.server, None).await.unwrap();
    let (said, ..) = bank.send((&old, &mut again), "/", "").await;
    assert_eq!(said, Ok("None ".to_owned()), "both keys are locked out");
}

/// A registry that waits before it is asked, once.
struct Waiting {
    inner: Arc<MemoryRegistry>,
    is_armed: Arc<AtomicBool>,
    go_on: Arc<Notify>,
}

impl Registry for Waiting {
    fn get(&self, subject: Subject) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            if self.is_armed.swap(false, Ordering::Relaxed) {
                self.go_on.notified().await;
            }
            self.inner.get(subject).await
        })
    }

    fn swap(&self, swap: Swap) -> StoreFuture<'_, Swapped> {
        self.inner.swap(swap)
    }
}

/// A request of the old key that gets its next ticket just while the key is rotated.
#[tokio::test]
async fn the_old_key_does_not_come_back_to_the_list() {
    let (is_armed, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let registry = Waiting {
        inner: Arc::new(MemoryRegistry::new()),
        is_armed: Arc::clone(&is_armed),
        go_on: Arc::clone(&go_on),
    };
    let bank = bank(|builder| builder.registry(registry));
    let (old, new) = (Device::new(), Device::new());
    let ticket = bank.log_in(&old, "/login/ann").await;
    let mut thief = old.open(&bank.server, Some(ticket)).await.unwrap();
    bank.send((&old, &mut thief), "/", "").await.0.unwrap();
    let carry = bank.log_in(&old, "/rotate/ann").await;
    // Its next ticket is due.
    bank.server.clock.advance(1);
    let mut fresh = old
        .open(&bank.server, Some(thief.ticket.clone()))
        .await
        .unwrap();
    let armed = async { is_armed.store(true, Ordering::Relaxed) };
    armed.await;
    let renewal = bank.send((&old, &mut fresh), "/", "");
    let mut renewal = Box::pin(renewal);
    assert!(renewal.as_mut().now_or_never().is_none(), "it waits");
    let (opened, _) = new
        .open_rotating((&old, &old), &bank.server, carry, "")
        .await;
    let mut client = opened.unwrap();
    bank.send((&new, &mut client), "/", "").await.0.unwrap();
    go_on.notify_one();
    // It had passed every check before.
    renewal.await.0.unwrap();
    let devices = bank
        .server
        .bulla
        .devices_of("ann".parse().unwrap())
        .await
        .unwrap();
    let keys: Vec<_> = devices.iter().map(|device| device.device).collect();
    assert_eq!(keys, [new.0.thumbprint()], "old: {}", old.0.thumbprint());
}

/// A request whose next ticket is due while its user's account is deleted.
#[tokio::test]
async fn what_was_forgotten_does_not_come_back_to_the_list() {
    let (is_armed, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let registry = Waiting {
        inner: Arc::new(MemoryRegistry::new()),
        is_armed: Arc::clone(&is_armed),
        go_on: Arc::clone(&go_on),
    };
    let bank = bank(|builder| builder.registry(registry));
    let device = Device::new();
    let mut client = bank.ann(&device).await;
    bank.send((&device, &mut client), "/", "").await.0.unwrap();
    bank.server.clock.advance(600);
    let (stale, ..) = bank.send((&device, &mut client), "/", "").await;
    assert_eq!(stale, Err(Code::NonceStale));
    is_armed.store(true, Ordering::Relaxed);
    let mut renewal = Box::pin(bank.send((&device, &mut client), "/", ""));
    assert!(renewal.as_mut().now_or_never().is_none(), "it waits");
    let (ann, bulla) = ("ann".parse().unwrap(), &bank.server.bulla);
    bulla.end_and_forget(ann).await.unwrap();
    go_on.notify_one();
    renewal.await.0.unwrap();
    assert_eq!(bulla.sessions_of(ann).await.unwrap(), []);
    assert_eq!(bulla.devices_of(ann).await.unwrap(), []);
}

/// Which step of an opening fails, and what is left then.
#[tokio::test]
async fn whatever_fails_nothing_is_the_new_keys_while_the_old_one_is_good() {
    for (fails, at) in [
        (Step::CheckAndInsert, 1),
        (Step::Revoke, 1),
        (Step::Revoke, 2),
    ] {
        let left = Arc::new(Mutex::new(None::<(Step, u32)>));
        let due = Arc::clone(&left);
        let store = Hooked::new(move |step| {
            let mut left = due.lock().unwrap();
            let fails = match &mut *left {
                Some((of, times)) if *of == step => {
                    *times -= 1;
                    *times == 0
                }
                _ => false,
            };
            if fails {
                *left = None;
            }
            Box::pin(async move { if fails { Err(StoreError) } else { Ok(()) } })
        });
        let bank = bank(|builder| builder.store(store).registry(MemoryRegistry::new()));
        let (old, new) = (Device::new(), Device::new());
        let mut client = bank.ann(&old).await;
        let (_, _, lines) = bank.send((&old, &mut client), "/cookie/ann", "").await;
        let carry = bank.log_in(&old, "/rotate/ann").await;
        *left.lock().unwrap() = Some((fails, at));
        let (opened, bound) = new
            .open_rotating((&old, &old), &bank.server, carry.clone(), &jar(&lines))
            .await;
        assert_eq!(
            (opened.err(), bound.len()),
            (Some(Code::StoreUnavailable), 0)
        );
        // Nothing has been used up where the first step failed. Else the ticket is good for nobody, and the old key as it was.
        let (again, bound) = new
            .open_rotating((&old, &old), &bank.server, carry.clone(), &jar(&lines))
            .await;
        let by_old = old.open(&bank.server, Some(carry)).await;
        let (said, ..) = bank.send((&old, &mut client), "/", &jar(&lines)).await;
        let is_first = fails == Step::CheckAndInsert;
        assert_eq!(
            (again.is_ok(), bound.len()),
            (is_first, usize::from(is_first))
        );
        assert!(by_old.is_err());
        assert_eq!(said.is_err(), is_first);
    }
}

/// Two openings at once with one ticket, of two new keys and of the old one.
#[tokio::test]
async fn of_openings_at_once_one_is_answered() {
    // Each waits before it asks.
    let store = Hooked::new(|step| {
        Box::pin(async move {
            if matches!(step, Step::CheckAndInsert | Step::Revoke) {
                tokio::task::yield_now().await;
            }
            Ok(())
        })
    });
    let bank = bank(|builder| builder.store(store).registry(MemoryRegistry::new()));
    let (old, a, b) = (Device::new(), Device::new(), Device::new());
    let carry = bank.log_in(&old, "/rotate/ann").await;
    let (first, second, third) = tokio::join!(
        a.open_rotating((&old, &old), &bank.server, carry.clone(), ""),
        b.open_rotating((&old, &old), &bank.server, carry.clone(), ""),
        old.open(&bank.server, Some(carry.clone())),
    );
    let opened = [first.0.is_ok(), second.0.is_ok(), third.is_ok()];
    assert_eq!(
        opened.iter().filter(|opened| **opened).count(),
        1,
        "{opened:?}"
    );
}

/// Two logins within a minute, where one session is all that a user may have: the one that is refused is refused, and no
/// more.
#[tokio::test]
async fn an_opening_that_is_refused_for_a_limit_locks_nobody_out() {
    let one = Concurrency::AtMost(1.try_into().unwrap());
    let bank = bank(|builder| builder.registry(MemoryRegistry::new()).concurrency(one));
    let (old, new, phone) = (Device::new(), Device::new(), Device::new());
    let mut beside = old.open(&bank.server, None).await.unwrap();
    let (_, _, lines) = bank.send((&old, &mut beside), "/cookie/bob", "").await;
    let carry = bank.log_in(&old, "/rotate/ann").await;
    let other = bank.log_in(&phone, "/login/ann").await;
    phone.open(&bank.server, Some(other)).await.unwrap();
    let (opened, bound) = new
        .open_rotating((&old, &old), &bank.server, carry, &jar(&lines))
        .await;
    assert_eq!((opened.err(), bound.len()), (Some(Code::SessionLimit), 0));
    // Somebody else's, at the same device.
    let (said, ..) = bank.send((&old, &mut beside), "/", &jar(&lines)).await;
    assert_eq!(
        said,
        Ok("None sid=bob".to_owned()),
        "locked out for nothing, and its cookies are lost"
    );
}

/// A registry that fails, once it is told to, for so many answers.
struct Failing(MemoryRegistry, Arc<AtomicBool>);

impl Registry for Failing {
    fn get(&self, subject: Subject) -> StoreFuture<'_, Option<Vec<u8>>> {
        if self.1.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError) });
        }
        self.0.get(subject)
    }

    fn swap(&self, swap: Swap) -> StoreFuture<'_, Swapped> {
        self.0.swap(swap)
    }
}

/// The list cannot be had just when the key is rotated.
#[tokio::test]
async fn a_list_that_cannot_be_had_does_not_keep_the_old_key() {
    let fails = Arc::new(AtomicBool::new(false));
    let registry = Failing(MemoryRegistry::new(), Arc::clone(&fails));
    let bank = bank(|builder| builder.registry(registry));
    let (old, new) = (Device::new(), Device::new());
    let ticket = bank.log_in(&old, "/login/ann").await;
    let mut client = old.open(&bank.server, Some(ticket)).await.unwrap();
    let (_, _, lines) = bank.send((&old, &mut client), "/cookie/ann", "").await;
    let carry = bank.log_in(&old, "/rotate/ann").await;
    fails.store(true, Ordering::Relaxed);
    let (opened, bound) = new
        .open_rotating((&old, &old), &bank.server, carry, &jar(&lines))
        .await;
    assert_eq!(
        (opened.err(), bound.len()),
        (Some(Code::StoreUnavailable), 0)
    );
    fails.store(false, Ordering::Relaxed);
    let (said, ..) = bank.send((&old, &mut client), "/", &jar(&lines)).await;
    let devices = bank
        .server
        .bulla
        .devices_of("ann".parse().unwrap())
        .await
        .unwrap();
    let keys: Vec<_> = devices.iter().map(|device| device.device).collect();
    let is_listed = keys.contains(&old.0.thumbprint());
    assert!(
        said.is_ok() || !is_listed,
        "locked out, and on the list still"
    );
}

/// What is signed and what is claimed, in all the wrong ways.
#[tokio::test]
async fn signatures_in_wrong_places_sign_nobody_in() {
    let bank = bank(|builder| builder.registry(MemoryRegistry::new()));
    let (old, new) = (Device::new(), Device::new());
    let carry = bank.log_in(&old, "/rotate/ann").await;
    let other = bank.log_in(&Device::new(), "/rotate/bob").await;
    // The old key's word for another ticket, by the old key's own session at another device.
    let (opened, _) = new
        .open_rotating((&old, &old), &bank.server, other, "")
        .await;
    assert_eq!(opened.err(), Some(Code::TicketInvalid));
    // The new key signs in the old one: nothing comes of that but what the old one may.
    let (opened, _) = old
        .open_rotating((&new, &new), &bank.server, carry, "")
        .await;
    assert!(opened.unwrap().authenticated);
    let mut again = old.open(&bank.server, None).await.unwrap();
    bank.send((&old, &mut again), "/", "").await.0.unwrap();
    // Onto the same key.
    let carry = bank.log_in(&old, "/rotate/ann").await;
    let (opened, _) = old
        .open_rotating((&old, &old), &bank.server, carry, "")
        .await;
    assert!(opened.unwrap().authenticated);
    bank.send((&old, &mut again), "/", "").await.0.unwrap();
}

/// There and back again: the first key stays locked out, and its place is nobody's.
#[tokio::test]
async fn nobody_rotates_back() {
    let bank = bank(|builder| builder.registry(MemoryRegistry::new()));
    let (a, b) = (Device::new(), Device::new());
    let carry = bank.log_in(&a, "/rotate/ann").await;
    b.open_rotating((&a, &a), &bank.server, carry, "")
        .await
        .0
        .unwrap();
    let carry = bank.log_in(&b, "/rotate/ann").await;
    let (opened, _) = a.open_rotating((&b, &b), &bank.server, carry, "").await;
    if let Ok(mut client) = opened {
        let (said, ..) = bank.send((&a, &mut client), "/", "").await;
        assert_eq!(said, Err(Code::SessionRevoked));
    }
}

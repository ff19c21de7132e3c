//! A store that has lost what it knew, at whatever moment, takes with it what was made under it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use bulla_keys::{Random, RandomError, SystemRandom};
use bulla_protocol::error::Code;
use bulla_protocol::proof::ProofKind;
use bulla_server::store::StoreError;
use bulla_server::{MemoryStore, Ring};

use crate::hooked::{Hooked, Step};
use crate::support::{Client, Device, ECHO, Server, code, fields_of};

/// A store that knows nothing, and what it calls its memories of proofs and of revocations.
fn named(proofs: u8, revocations: u8) -> MemoryStore {
    struct Names(AtomicU8, [u8; 2]);

    impl Random for Names {
        fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
            let at = self.0.fetch_add(1, Ordering::Relaxed);
            out.fill(self.1[usize::from(at)]);
            Ok(())
        }
    }

    MemoryStore::new_with(&Names(AtomicU8::new(0), [proofs, revocations])).unwrap()
}

/// A store with the names 1 and 1 that becomes another one before a step, once.
fn losing() -> (Hooked, impl Fn(Step, MemoryStore)) {
    let next: Arc<Mutex<Option<(Step, MemoryStore)>>> = Arc::default();
    let place: Arc<Mutex<Option<Hooked>>> = Arc::default();
    let (coming, here) = (Arc::clone(&next), Arc::clone(&place));
    let store = Hooked::new(move |step| {
        let mut next = coming.lock().unwrap();
        if let Some((_, other)) = next.take_if(|(due, _)| *due == step) {
            here.lock().unwrap().as_ref().unwrap().put(other);
        }
        Box::pin(async { Ok(()) })
    });
    store.put(named(1, 1));
    *place.lock().unwrap() = Some(store.clone());
    let loses = move |step, other| *next.lock().unwrap() = Some((step, other));
    (store, loses)
}

/// Sends a request, and takes what is handed out with the answer. Returns the code of a refusal, and whether
/// there was a ticket.
async fn send(server: &Server, device: &Device, client: &mut Client) -> (Option<Code>, bool) {
    let sent = server.send(client.signed(device, ProofKind::Device, ECHO, b""));
    let reply = sent.await;
    client.update(&fields_of(&reply));
    (code(&reply), reply.headers().contains_key("bulla-ticket"))
}

#[tokio::test]
async fn proofs_are_lost_with_the_memory_of_proofs_and_sessions_with_that_of_revocations() {
    let (store, loses) = losing();
    let server = Server::with(|builder| builder.store(store.clone()));
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    assert_eq!(send(&server, &device, &mut client).await, (None, true));
    assert_eq!(send(&server, &device, &mut client).await, (None, false));

    // Between two requests, and while one is on its way.
    store.put(named(2, 1));
    assert_eq!(
        send(&server, &device, &mut client).await.0,
        Some(Code::NonceStale)
    );
    assert_eq!(send(&server, &device, &mut client).await.0, None);
    loses(Step::CheckAndInsert, named(3, 1));
    assert_eq!(
        send(&server, &device, &mut client).await.0,
        Some(Code::NonceStale)
    );
    assert_eq!(send(&server, &device, &mut client).await.0, None);

    loses(Step::CheckAndInsert, named(3, 2));
    assert_eq!(
        send(&server, &device, &mut client).await.0,
        Some(Code::SessionRevoked)
    );
    assert_eq!(
        send(&server, &device, &mut client).await.0,
        Some(Code::TicketInvalid)
    );
    assert_eq!(server.handled(), 4);
}

/// Nor does it go on because the loss comes while its next ticket is made.
#[tokio::test]
async fn no_ticket_carries_a_session_over_the_loss() {
    let (store, loses) = losing();
    let server = Server::with(|builder| builder.store(store.clone()));
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    loses(Step::IsRevoked, named(1, 2));
    assert_eq!(send(&server, &device, &mut client).await, (None, false));
    store.put(named(1, 1));
    assert_eq!(send(&server, &device, &mut client).await, (None, true));
    loses(Step::IsRevoked, named(1, 2));
    let carried = device.open(&server, Some(client.ticket.clone())).await;
    assert_eq!(carried.err(), Some(Code::SessionRevoked));
}

/// Random bytes, with which the store is lost as soon as that is due: between the look-up of a session and
/// the new one's ticket.
struct Losing(Hooked, Arc<AtomicBool>);

impl Random for Losing {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomError> {
        if self.1.load(Ordering::Relaxed) {
            self.0.put(named(1, 2));
        }
        SystemRandom.fill(out)
    }
}

#[tokio::test]
async fn what_is_carried_over_stays_with_the_memory_in_which_it_was_looked_up() {
    let (store, _) = losing();
    let is_due = Arc::new(AtomicBool::new(false));
    let random = Losing(store.clone(), Arc::clone(&is_due));
    let server = Server::with(|builder| builder.store(store.clone()).random(random));
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    assert_eq!(send(&server, &device, &mut client).await.0, None);
    for (due, expected) in [(false, None), (true, Some(Code::TicketInvalid))] {
        is_due.store(due, Ordering::Relaxed);
        let carried = device.open(&server, Some(client.ticket.clone())).await;
        let refused = send(&server, &device, &mut carried.unwrap()).await;
        assert_eq!(refused.0, expected);
        // The first one has been replaced.
        is_due.store(false, Ordering::Relaxed);
        client = device.open(&server, None).await.unwrap();
    }
}

/// The application's own wish: nobody knows what was stolen.
#[tokio::test]
async fn all_sessions_end_at_once() {
    let is_gone = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&is_gone);
    let store = Hooked::new(move |step| {
        let fails = step == Step::BeginAnew && gone.load(Ordering::Relaxed);
        Box::pin(async move { if fails { Err(StoreError) } else { Ok(()) } })
    });
    let server = Server::with(|builder| builder.store(store));
    let devices = [Device::new(), Device::new()];
    let mut clients = Vec::new();
    for device in &devices {
        let mut client = device.open(&server, None).await.unwrap();
        assert_eq!(send(&server, device, &mut client).await.0, None);
        clients.push(client);
    }
    // Whoever wants it is told if it did not come about.
    is_gone.store(true, Ordering::Relaxed);
    let failed = server.bulla.end_all().await.unwrap_err();
    assert_eq!(failed.code, Code::StoreUnavailable);
    is_gone.store(false, Ordering::Relaxed);
    server.bulla.end_all().await.unwrap();
    for (device, client) in devices.iter().zip(&mut clients) {
        let ticket = client.ticket.clone();
        let refused = send(&server, device, client).await;
        assert_eq!(refused.0, Some(Code::TicketInvalid));
        let carried = device.open(&server, Some(ticket)).await;
        assert_eq!(carried.err(), Some(Code::TicketInvalid));
        let mut next = device.open(&server, None).await.unwrap();
        assert_eq!(send(&server, device, &mut next).await.0, None);
    }
}

/// The ring alone opens nothing.
#[tokio::test]
async fn sessions_go_on_where_ring_and_store_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ring.json");
    let (store, _) = losing();
    let node = |store: Hooked| {
        let ring = Ring::in_file(&path).unwrap();
        Server::with(|builder| builder.store(store).ring(ring))
    };
    let server = node(store.clone());
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    assert_eq!(send(&server, &device, &mut client).await.0, None);
    let restarted = node(store.clone());
    assert_eq!(send(&restarted, &device, &mut client).await.0, None);
    store.put(MemoryStore::new().unwrap());
    let forgetful = node(store);
    let refused = send(&forgetful, &device, &mut client).await;
    assert_eq!(refused.0, Some(Code::TicketInvalid));
}

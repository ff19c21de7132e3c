//! Guards that were taken away one by one, and that nothing else would have missed.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bulla_keys::{AgreementKey, MacKey, SystemRandom};
use bulla_protocol::error::{Code, Problem};
use bulla_protocol::field;
use bulla_protocol::limits::{DEFAULT_PREFIX, VERSION};
use bulla_protocol::message;
use bulla_protocol::opening::{Open, Opening};
use bulla_protocol::signature::{ECDSA_P256_SHA256, HMAC_SHA256};
use bulla_server::store::StoreError;
use bulla_server::{Clock as _, MemoryStore, ProofKind, Revocation, Session};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::mpsc::unbounded_channel;
use tower::{Layer as _, service_fn};

use crate::hooked::{Hooked, Step};
use crate::support::{
    AUTHORITY, Bound, Device, ECHO, Server, app, body, code, concealed, fields_of, fresh_random,
    with_fields,
};

const LOGIN: (&str, &str) = ("POST", "/api/login");

/// A store in memory that can be told to fail, and that counts what it was asked to remember.
struct Watched {
    store: Hooked,
    asked: Arc<AtomicUsize>,
    is_gone: Arc<AtomicBool>,
}

impl Watched {
    fn new() -> Self {
        let (asked, is_gone) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, gone) = (Arc::clone(&asked), Arc::clone(&is_gone));
        let store = Hooked::new(move |step| {
            if step == Step::CheckAndInsert {
                count.fetch_add(1, Ordering::Relaxed);
            }
            let is_gone = gone.load(Ordering::Relaxed);
            Box::pin(async move { if is_gone { Err(StoreError) } else { Ok(()) } })
        });
        Self {
            store,
            asked,
            is_gone,
        }
    }
}

#[tokio::test]
async fn nothing_is_remembered_of_a_request_that_was_refused() {
    let store = Watched::new();
    let watched = store.store.clone();
    let server = Server::with(|builder| builder.store(watched));
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    let signed = || client.signed(&device, ProofKind::Device, ECHO, b"pay 1");
    let original = signed();
    let (parts, _) = original.into_parts();
    let copy = |content: &[u8]| Request::from_parts(parts.clone(), body(content));

    let mut uncovered = copy(b"pay 1");
    let headers = uncovered.headers_mut();
    headers.insert("authorization", "Bearer x".parse().unwrap());
    let mut forged = copy(b"pay 1");
    let other = signed().headers()[field::SIGNATURE].clone();
    forged.headers_mut().insert(field::SIGNATURE, other);
    for (request, wanted) in [
        (uncovered, Code::CoverageMissing),
        (forged, Code::ProofMismatch),
        (copy(b"pay 9"), Code::DigestMismatch),
        (copy(&"x".repeat(3 << 20).into_bytes()), Code::TooLarge),
        (
            client.signed(&device, ProofKind::Session, ECHO, b"pay 1"),
            Code::SessionUnconfirmed,
        ),
    ] {
        assert_eq!(code(&server.send(request).await), Some(wanted));
        assert_eq!(store.asked.load(Ordering::Relaxed), 0, "{wanted}");
    }
    // So whoever spoils a copy on the way takes nothing from the original.
    let passed = server.send(copy(b"pay 1")).await;
    assert_eq!(passed.status(), 200);
    assert_eq!(store.asked.load(Ordering::Relaxed), 1);

    client.update(&fields_of(&passed));
    let weak = client.signed(&device, ProofKind::Session, ECHO, b"");
    assert_eq!(code(&server.send(weak).await), Some(Code::ProofWeak));
    server.clock.advance(600);
    let stale = client.signed(&device, ProofKind::Device, ECHO, b"");
    assert_eq!(code(&server.send(stale).await), Some(Code::NonceStale));
    assert_eq!(store.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn without_a_store_nothing_is_done_and_nothing_goes_on() {
    let store = Watched::new();
    let watched = store.store.clone();
    let server = Server::with(|builder| builder.store(watched));
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    let gone = |is_gone| store.is_gone.store(is_gone, Ordering::Relaxed);
    let end = ("DELETE", "/.well-known/bulla/session");

    gone(true);
    for at in [ECHO, LOGIN, end] {
        let refused = server.send(client.signed(&device, ProofKind::Device, at, b"ann"));
        let refused = refused.await;
        assert_eq!(code(&refused), Some(Code::StoreUnavailable));
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
    }
    let sealed = client.sealed_stream(&device, ECHO, b"upload", &[]);
    let refused = server.send(concealed(&sealed.bytes)).await;
    let (status, _, content) = client.open_reply(&refused, &sealed.nonce);
    let found = (status, Problem::parse(&content));
    assert_eq!(found, (503, Some(Code::StoreUnavailable)));
    // Whether it has ended nobody can say.
    let opened = device.open(&server, Some(client.ticket.clone())).await;
    assert_eq!(opened.err(), Some(Code::StoreUnavailable));
    assert_eq!(server.handled(), 0);

    gone(false);
    let login = server.send(client.signed(&device, ProofKind::Device, LOGIN, b"ann"));
    let carry = client.update(&fields_of(&login.await)).unwrap();
    gone(true);
    let opened = device.open(&server, Some(carry.clone())).await;
    assert_eq!(opened.err(), Some(Code::StoreUnavailable));
    gone(false);
    assert!(device.open(&server, Some(carry)).await.is_ok());
}

/// The store fails while the handler runs.
#[tokio::test]
async fn a_session_that_cannot_be_looked_up_is_neither_renewed_nor_streamed_to() {
    for does in [false, true] {
        let store = Watched::new();
        let watched = store.store.clone();
        let server = Server::around(
            |builder| builder.store(watched),
            move |bulla| {
                let handler = service_fn(move |_: Request<bulla_server::Body>| {
                    store.is_gone.store(does, Ordering::Relaxed);
                    async move {
                        let pieces = [Ok::<_, Infallible>(Frame::data(Bytes::from("piece")))];
                        Ok::<_, Infallible>(Response::new(StreamBody::new(stream::iter(pieces))))
                    }
                });
                app(bulla.layer().layer(handler))
            },
        );
        let device = Device::new();
        let client = device.open(&server, None).await.unwrap();
        let reply = server.start(client.signed(&device, ProofKind::Device, ECHO, b""));
        let reply = reply.await;
        assert_eq!(reply.headers().contains_key(field::TICKET), !does);
        assert_eq!(reply.into_body().collect().await.is_err(), does);
    }
}

#[tokio::test]
async fn one_session_has_a_quota_and_those_that_are_new_share_a_part() {
    let store = MemoryStore::new().unwrap().with_quota(3).with_capacity(10);
    let server = Server::with(|builder| builder.store(store));
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    let first = server.send(client.signed(&device, ProofKind::Device, ECHO, b""));
    client.update(&fields_of(&first.await));
    for wanted in [None, None, Some(Code::RateLimited)] {
        let sent = server.send(client.signed(&device, ProofKind::Device, ECHO, b""));
        let sent = sent.await;
        assert_eq!(code(&sent), wanted);
        assert_eq!(sent.headers().contains_key("retry-after"), wanted.is_some());
    }
    // A tenth of ten was the first one of this session.
    let stranger = device.open(&server, None).await.unwrap();
    let sent = server.send(stranger.signed(&device, ProofKind::Device, ECHO, b""));
    assert_eq!(code(&sent.await), Some(Code::StoreUnavailable));
    assert_eq!(server.handled(), 3);
}

type Sign<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;

/// The algorithm says which key it is, and no key is taken for another kind.
#[tokio::test]
async fn no_key_stands_for_another() {
    let server = Server::with(|builder| builder.proof(ProofKind::Session));
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    let confirm = server.send(client.signed(&device, ProofKind::Device, ECHO, b""));
    client.update(&fields_of(&confirm.await));

    // What everybody knows of the device, as if it were the session's MAC key.
    let public = device.0.public().to_compressed();
    let public: [u8; 32] = public[1..].try_into().unwrap();
    let (by_public, by_mac) = (MacKey::new(&public), &client.mac);
    let by_device = |base: &[u8]| device.0.sign(base).unwrap().to_vec();
    let ways: [(ProofKind, Sign<'_>); 5] = [
        (ProofKind::Session, &|base| by_public.sign(base).to_vec()),
        (ProofKind::Session, &by_device),
        (ProofKind::Device, &|base| by_public.sign(base).to_vec()),
        (ProofKind::Device, &|base| by_mac.sign(base).to_vec()),
        (ProofKind::Device, &|base| by_mac.sign(base).repeat(2)),
    ];
    for (at, (kind, sign)) in ways.into_iter().enumerate() {
        let content = Bound::Content(b"");
        let (fields, _) = client.signed_by(kind, sign, fresh_random(), ECHO, content, &[]);
        let refused = server.send(with_fields(ECHO, fields, b"")).await;
        assert_eq!(code(&refused), Some(Code::ProofMismatch), "{at}");
    }
    // Nor does it help to name the other algorithm beside a signature that is good.
    for (kind, from, to) in [
        (ProofKind::Device, ECDSA_P256_SHA256, HMAC_SHA256),
        (ProofKind::Session, HMAC_SHA256, ECDSA_P256_SHA256),
    ] {
        let mut request = client.signed(&device, kind, ECHO, b"");
        let input = request.headers()[field::SIGNATURE_INPUT].to_str().unwrap();
        let input = input.replace(from, to).parse().unwrap();
        request.headers_mut().insert(field::SIGNATURE_INPUT, input);
        assert_eq!(code(&server.send(request).await), Some(Code::ProofMismatch));
    }
    assert_eq!(server.handled(), 1);
}

#[tokio::test]
async fn fresh_keys_do_not_make_a_session_live_longer() {
    const LIFE: u64 = 12 * 3600;

    let server = Server::new();
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    // Carried over every ten minutes, the last time ten minutes before its end.
    for _ in 1..LIFE / 600 {
        server.clock.advance(600);
        client = device.open(&server, Some(client.ticket)).await.unwrap();
    }
    let echo = || client.signed(&device, ProofKind::Device, ECHO, b"");
    assert_eq!(server.send(echo()).await.status(), 200);
    server.clock.advance(600);
    assert_eq!(code(&server.send(echo()).await), Some(Code::TicketExpired));
    let again = device.open(&server, Some(client.ticket.clone())).await;
    assert_eq!(again.err(), Some(Code::TicketExpired));
}

#[tokio::test]
async fn a_ticket_that_is_over_opens_nothing() {
    let server = Server::new();
    let device = Device::new();
    for (login, life) in [(true, 60), (false, 900)] {
        for (after, expected) in [(life - 1, None), (life, Some(Code::TicketExpired))] {
            let mut client = device.open(&server, None).await.unwrap();
            let mut ticket = client.ticket.clone();
            if login {
                let login = client.signed(&device, ProofKind::Device, LOGIN, b"ann");
                ticket = client
                    .update(&fields_of(&server.send(login).await))
                    .unwrap();
            }
            server.clock.advance(after);
            let opened = device.open(&server, Some(ticket)).await;
            assert_eq!(opened.err(), expected, "{login} {after}");
        }
    }
}

/// Of a user, up to when he logged in; fresh keys do not make his login younger.
#[tokio::test]
async fn a_users_sessions_end_by_when_he_logged_in() {
    let server = Server::new();
    let (device, other) = (Device::new(), Device::new());
    let log_in = async |device: &Device, name: &[u8]| {
        let mut client = device.open(&server, None).await.unwrap();
        let login = client.signed(device, ProofKind::Device, LOGIN, name);
        let carry = client.update(&fields_of(&server.send(login).await));
        device.open(&server, carry).await.unwrap()
    };
    let early = log_in(&device, b"ann").await;
    let (bob, nobody) = (
        log_in(&other, b"bob").await,
        other.open(&server, None).await.unwrap(),
    );
    server.clock.advance(10);
    let late = log_in(&other, b"ann").await;
    let carried = device.open(&server, Some(early.ticket.clone())).await;
    let carried = carried.unwrap();
    let all = Revocation::Subject("ann".parse().unwrap(), 1_800_000_000);
    server.bulla.revoke(all).await.unwrap();
    for (client, device, ended) in [
        (&early, &device, true),
        (&carried, &device, true),
        (&late, &other, false),
        (&bob, &other, false),
        (&nobody, &other, false),
    ] {
        let sent = server.send(client.signed(device, ProofKind::Device, ECHO, b""));
        let expected = ended.then_some(Code::SessionRevoked);
        assert_eq!(code(&sent.await), expected);
        let carried = device.open(&server, Some(client.ticket.clone())).await;
        assert_eq!(carried.err(), expected);
    }
}

#[tokio::test]
async fn an_empty_body_is_bound_too() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let (parts, _) = client
        .signed(&device, ProofKind::Device, ECHO, b"pay 1 to bob")
        .into_parts();
    let emptied = Request::from_parts(parts, body(b""));
    let refused = server.send(emptied).await;
    assert_eq!(code(&refused), Some(Code::DigestMismatch));
    let (parts, _) = client
        .signed(&device, ProofKind::Device, ECHO, b"")
        .into_parts();
    let filled = Request::from_parts(parts, body(b"pay 9 to bob"));
    let refused = server.send(filled).await;
    assert_eq!(code(&refused), Some(Code::DigestMismatch));
    assert_eq!(server.handled(), 0);
}

/// Nobody can use up another device's proofs.
#[tokio::test]
async fn a_random_part_is_its_devices_own() {
    let server = Server::new();
    let random = fresh_random();
    for device in [Device::new(), Device::new()] {
        for wanted in [None, Some(Code::Replayed)] {
            // Another session of the same device is no way to use it again.
            let client = device.open(&server, None).await.unwrap();
            let sign = |base: &[u8]| device.0.sign(base).unwrap().to_vec();
            let content = Bound::Content(b"");
            let kind = ProofKind::Device;
            let (fields, _) = client.signed_by(kind, sign, random, ECHO, content, &[]);
            let sent = server.send(with_fields(ECHO, fields, b"")).await;
            assert_eq!(code(&sent), wanted);
        }
    }
}

/// An upload that goes on for longer than its session does not reach its end.
#[tokio::test]
async fn a_handler_that_reads_an_upload_is_told_that_the_session_has_ended() {
    for ends in ["not", "revoked", "over"] {
        let read = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&read);
        let server = Server::around(
            |builder| builder,
            move |bulla| {
                let handler = service_fn(move |request: Request<bulla_server::Body>| {
                    let seen = Arc::clone(&seen);
                    async move {
                        assert!(request.extensions().get::<Session>().is_some());
                        let whole = request.into_body().collect().await;
                        *seen.lock().unwrap() = Some(whole.is_ok());
                        Ok::<_, Infallible>(Response::new(String::new()))
                    }
                });
                app(bulla.layer().layer(handler))
            },
        );
        let device = Device::new();
        let client = device.open(&server, None).await.unwrap();
        let sealed = client.sealed_stream(&device, ECHO, &[7; 1000], &[]);
        let (sender, receiver) = unbounded_channel();
        let frames = stream::unfold(receiver, async |mut receiver| {
            Some((Ok(Frame::data(receiver.recv().await?)), receiver))
        });
        let request = concealed(b"").map(|_| StreamBody::new(Box::pin(frames)).boxed_unsync());
        let (first, rest) = sealed.bytes.split_at(sealed.bytes.len() / 2);
        sender.send(Bytes::copy_from_slice(first)).unwrap();
        let sending = async {
            tokio::task::yield_now().await;
            match ends {
                "revoked" => {
                    let revocation = Revocation::Session(client.id.into());
                    server.bulla.revoke(revocation).await.unwrap();
                }
                "over" => server.clock.advance(12 * 3600),
                _ => {}
            }
            // Nobody may be reading any more.
            let _ = sender.send(Bytes::copy_from_slice(rest));
            drop(sender);
        };
        let _ = tokio::join!(server.start(request), sending);
        assert_eq!(*read.lock().unwrap(), Some(ends == "not"), "{ends}");
    }
}

/// The store forgets a proof only when its nonce is no longer taken.
#[tokio::test]
async fn a_used_proof_is_known_for_as_long_as_its_nonce_is_taken() {
    // At the beginning of a nonce's life, in it, and at the end of the time after.
    for used in [0, 59, 60, 118] {
        let server = Server::new();
        let device = Device::new();
        let client = device.open(&server, None).await.unwrap();
        let (parts, _) = client
            .signed(&device, ProofKind::Device, ECHO, b"")
            .into_parts();
        let copy = || Request::from_parts(parts.clone(), body(b""));
        server.clock.advance(used);
        assert_eq!(server.send(copy()).await.status(), 200);
        for now in [used, 61, 119, 120, 600] {
            let later = (1_800_000_000 + now).saturating_sub(server.clock.now());
            server.clock.advance(later);
            let is_taken = server.clock.now() < 1_800_000_120;
            let wanted = if is_taken {
                Code::Replayed
            } else {
                Code::NonceStale
            };
            assert_eq!(code(&server.send(copy()).await), Some(wanted), "{now}");
        }
        assert_eq!(server.handled(), 1);
    }
}

/// Whoever knows a device's public key cannot open for it.
#[tokio::test]
async fn an_opening_is_signed_by_the_device_that_it_names() {
    let server = Server::new();
    let (device, thief) = (Device::new(), Device::new());
    let agreement = AgreementKey::generate(&SystemRandom).unwrap();
    let open = Open {
        version: VERSION,
        device: *device.0.public(),
        agreement: *agreement.public(),
        identity: None,
        random: [7; 32],
        ticket: None,
        work: None,
    };
    for (by, status) in [(&thief, 401), (&device, 200)] {
        let opening = Opening::new(open.clone(), None, AUTHORITY, DEFAULT_PREFIX, 0).unwrap();
        let signature = by.0.sign(opening.base().as_bytes()).unwrap();
        let sent = opening.signed(&signature, None);
        let at = (Opening::METHOD, sent.path());
        let answer = server.send(with_fields(at, sent.fields().to_vec(), sent.body()));
        let answer = answer.await;
        assert_eq!(answer.status(), status);
        let refused = (status == 401).then_some(Code::ProofMismatch);
        assert_eq!(code(&answer), refused);
    }
}

/// A verifier before this one, say, or a service that keeps what it has seen.
#[tokio::test]
async fn no_session_comes_along_with_a_request_that_has_no_proof() {
    let kept = Arc::new(Mutex::new(None));
    let keeping = Arc::clone(&kept);
    let server = Server::around(
        |builder| builder.unsigned("/public"),
        move |bulla| {
            let handler = service_fn(move |request: Request<bulla_server::Body>| {
                let session = request.extensions().get::<Session>().cloned();
                let answer = if session.is_some() {
                    "session"
                } else {
                    "nobody"
                };
                if session.is_some() {
                    *keeping.lock().unwrap() = session;
                }
                async move { Ok::<_, Infallible>(Response::new(String::from(answer))) }
            });
            app(bulla.layer().layer(handler))
        },
    );
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let proven = server.send(client.signed(&device, ProofKind::Device, ECHO, b""));
    assert_eq!(proven.await.body(), "session");
    let mut request = Request::get("/public").header("host", AUTHORITY);
    let session: Session = kept.lock().unwrap().clone().unwrap();
    request = request.extension(session);
    let plain = server.send(request.body(body(b"")).unwrap());
    assert_eq!(plain.await.body(), "nobody");
}

/// `Host` and `:authority`, as HTTP/2 has both.
#[tokio::test]
async fn a_request_is_for_one_origin() {
    let server =
        Server::with(|builder| builder.origin("https://other.example").unsigned("/public"));
    for (uri, hosts, passes) in [
        ("/public", &[AUTHORITY][..], true),
        ("/public", &["other.example"], true),
        ("https://bank.example/public", &[], true),
        ("https://bank.example/public", &["BANK.example:443"], true),
        ("https://bank.example/public", &["other.example"], false),
        ("https://bank.example/public", &["evil.example"], false),
        ("https://evil.example/public", &[AUTHORITY], false),
        ("/public", &[AUTHORITY, AUTHORITY], false),
        ("/public", &[AUTHORITY, "other.example"], false),
        ("/public", &["evil.example"], false),
        ("/public", &["xbank.example"], false),
        ("/public", &[], false),
    ] {
        let mut request = Request::get(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        let sent = server.send(request.body(body(b"")).unwrap()).await;
        let refused = (!passes).then_some(Code::AuthorityMismatch);
        assert_eq!(code(&sent), refused, "{uri} {hosts:?}");
    }
}

#[tokio::test]
async fn logging_out_everywhere_ends_the_users_other_sessions() {
    let server = Server::around(
        |builder| builder,
        |bulla| {
            let handler = service_fn(async |request: Request<bulla_server::Body>| {
                let session = request.extensions().get::<Session>().unwrap().clone();
                match request.uri().path() {
                    "/api/login" => session.login("ann").await.unwrap(),
                    "/api/everywhere" => session.logout_everywhere().await.unwrap(),
                    _ => {}
                }
                Ok::<_, Infallible>(Response::new(String::new()))
            });
            app(bulla.layer().layer(handler))
        },
    );
    let log_in = async |device: &Device| {
        let mut client = device.open(&server, None).await.unwrap();
        let login = client.signed(device, ProofKind::Device, LOGIN, b"");
        let carry = client.update(&fields_of(&server.send(login).await));
        device.open(&server, carry).await.unwrap()
    };
    let (one, other) = (Device::new(), Device::new());
    let (here, there) = (log_in(&one).await, log_in(&other).await);
    let nobody = other.open(&server, None).await.unwrap();
    let everywhere = ("POST", "/api/everywhere");
    let out = server.send(here.signed(&one, ProofKind::Device, everywhere, b""));
    assert_eq!(out.await.status(), 200);
    for (client, device, ended) in [
        (here, &one, true),
        (there, &other, true),
        (nobody, &other, false),
    ] {
        let sent = server.send(client.signed(device, ProofKind::Device, ECHO, b""));
        assert_eq!(code(&sent.await), ended.then_some(Code::SessionRevoked));
    }
}

/// A handler goes by what was signed, and the browser's own fields only fill what is not there.
#[tokio::test]
async fn what_stands_outside_does_not_stand_beside_what_is_inside() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let (at, kind) = (("POST", "/api/headers"), ProofKind::Device);
    let inside = [("origin", "https://inside.example")];
    let sealed = client.sealed_with(&device, kind, at, b"", &inside);
    let mut request = concealed(&sealed.bytes);
    for (name, value) in [
        ("origin", "https://outside.example"),
        ("accept", "text/outside"),
        // It asks for a coding of the envelope: inside, nobody would undo one.
        ("accept-encoding", "outside"),
        ("x-app", "outside"),
        ("authorization", "Bearer outside"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let reply = server.send(request).await;
    let (_, _, seen) = client.open_reply(&reply, &sealed.nonce);
    let seen = String::from_utf8(seen).unwrap();
    assert!(seen.contains("inside.example"), "{seen}");
    assert_eq!(seen.matches("outside").count(), 1, "{seen}");
    assert!(seen.contains("text/outside"), "{seen}");
}

#[tokio::test]
async fn an_open_path_can_be_read_in_one_way_only() {
    let server = Server::with(|builder| builder.unsigned("/public"));
    for (path, wanted) in [
        ("/public", None),
        ("/public/../api/echo", Some(Code::PathRefused)),
        ("/public/%2e%2e/api/echo", Some(Code::PathRefused)),
        ("/public%2fx", Some(Code::PathRefused)),
        ("/api/echo", Some(Code::ProofMissing)),
    ] {
        let request = Request::get(path).header("host", AUTHORITY);
        let sent = server.send(request.body(body(b"")).unwrap()).await;
        assert_eq!(code(&sent), wanted, "{path}");
    }
}

#[tokio::test]
async fn a_sessions_life_counts_from_its_login() {
    const LIFE: u64 = 12 * 3600;

    let server = Server::new();
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    server.clock.advance(600);
    client.nonce = device.open(&server, None).await.unwrap().nonce;
    let login = client.signed(&device, ProofKind::Device, LOGIN, b"ann");
    let carry = client.update(&fields_of(&server.send(login).await));
    client = device.open(&server, carry).await.unwrap();
    for _ in 1..LIFE / 600 {
        server.clock.advance(600);
        client = device.open(&server, Some(client.ticket)).await.unwrap();
    }
    for (after, wanted) in [(599, None), (1, Some(Code::TicketExpired))] {
        server.clock.advance(after);
        client.nonce = device.open(&server, None).await.unwrap().nonce;
        let sent = server.send(client.signed(&device, ProofKind::Device, ECHO, b""));
        assert_eq!(code(&sent.await), wanted);
    }
}

/// Until nothing that it concerns can be valid: here, the ticket that was handed out just before.
#[tokio::test]
async fn a_revocation_is_remembered_for_as_long_as_it_matters() {
    for what in ["session", "device", "subject"] {
        let server = Server::new();
        let (device, other) = (Device::new(), Device::new());
        let mut client = device.open(&server, None).await.unwrap();
        let login = client.signed(&device, ProofKind::Device, LOGIN, b"ann");
        let carry = client.update(&fields_of(&server.send(login).await));
        let mut client = device.open(&server, carry).await.unwrap();
        let revocation = match what {
            "session" => Revocation::Session(client.id.into()),
            "device" => Revocation::Device(device.0.thumbprint()),
            _ => Revocation::Subject("ann".parse().unwrap(), 1_800_000_000),
        };
        server.bulla.revoke(revocation).await.unwrap();
        for advance in [0, 61, 800, 38] {
            server.clock.advance(advance);
            // Somebody else's request has the store look what is over.
            let stranger = other.open(&server, None).await.unwrap();
            let sent = server.send(stranger.signed(&other, ProofKind::Device, ECHO, b""));
            assert_eq!(sent.await.status(), 200);
            client.nonce = stranger.nonce;
            let sent = server.send(client.signed(&device, ProofKind::Device, ECHO, b""));
            let refused = code(&sent.await);
            assert_eq!(refused, Some(Code::SessionRevoked), "{what} {advance}");
        }
    }
}

/// What comes after an error nobody takes for content.
#[tokio::test]
async fn an_upload_whose_message_has_no_end_is_an_error() {
    let read = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&read);
    let server = Server::around(
        |builder| builder,
        move |bulla| {
            let handler = service_fn(move |request: Request<bulla_server::Body>| {
                let seen = Arc::clone(&seen);
                async move {
                    let mut content = request.into_body();
                    while let Some(frame) = content.frame().await {
                        seen.lock().unwrap().push(frame.is_ok());
                    }
                    Ok::<_, Infallible>(Response::new(String::new()))
                }
            });
            app(bulla.layer().layer(handler))
        },
    );
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    for (end, is_whole) in [(&message::END[..], true), (&[], false)] {
        let sealed = client.sealed_stream_ending(&device, ECHO, &[7; 1000], end);
        server.send(concealed(&sealed.bytes)).await;
        let read = std::mem::take(&mut *read.lock().unwrap());
        let (last, before) = read.split_last().unwrap();
        assert_eq!(*last, is_whole);
        assert!(!before.is_empty() && before.iter().all(|is_good| *is_good));
    }
}

/// What the application says goes under the seal; outside stands what the browser alone acts upon.
#[tokio::test]
async fn no_field_of_an_answer_is_left_outside_its_seal() {
    let server = Server::around(
        |builder| builder,
        |bulla| {
            let handler = service_fn(async |_: Request<bulla_server::Body>| {
                let response = Response::builder()
                    .status(404)
                    .header("x-balance", "9137461")
                    .header("location", "/accounts/ann")
                    .header("strict-transport-security", "max-age=1");
                Ok::<_, Infallible>(response.body(String::from("x")).unwrap())
            });
            app(bulla.layer().layer(handler))
        },
    );
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let sealed = client.sealed(&device, ProofKind::Device, ECHO, b"");
    let reply = server.send(concealed(&sealed.bytes)).await;
    let (status, inside, _) = client.open_reply(&reply, &sealed.nonce);
    assert_eq!((reply.status().as_u16(), status), (200, 404));
    assert!(inside.iter().any(|(name, _)| name == "x-balance"));
    let mut outside: Vec<_> = reply
        .headers()
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    outside.sort_unstable();
    let expected = [
        "cache-control",
        "content-encoding",
        "content-type",
        "strict-transport-security",
    ];
    assert_eq!(outside, expected);
}

//! What passes the verifier, and what does not.

use std::convert::Infallible;

use bulla_protocol::error::Problem;
use bulla_protocol::limits::DEFAULT_PREFIX;
use bulla_protocol::opening::session_path;
use bulla_protocol::{error::Code, field};
use bulla_server::{Clock as _, MemoryStore, ProofKind, Revocation, Session};
use http::{Request, Response};
use tower::{Layer as _, service_fn};

use crate::support::{
    AUTHORITY, Device, ECHO, Server, TestClock, answer, app, body, code, concealed, fields_of,
};

#[tokio::test]
async fn signed_and_sealed_requests_reach_the_handler() {
    let server = Server::new();
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    assert!(!client.authenticated);

    let response = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b"hi"))
        .await;
    assert_eq!(
        (response.status().as_u16(), &response.body()[..]),
        (200, &b"-:hi"[..])
    );
    client.update(&fields_of(&response));

    let sealed = client.sealed(&device, ProofKind::Device, ECHO, b"sealed");
    let response = server.send(concealed(&sealed.bytes)).await;
    let (status, _, content) = client.open_reply(&response, &sealed.nonce);
    assert_eq!((status, &content[..]), (200, &b"-:sealed"[..]));
    assert_eq!(server.handled(), 2);
}

#[tokio::test]
async fn nothing_reaches_the_handler_without_a_proof() {
    let server = Server::new();
    let request = Request::post("/api/echo")
        .header("host", AUTHORITY)
        .body(body(b"hi"))
        .unwrap();
    let response = server.send(request).await;
    assert_eq!(
        (response.status().as_u16(), code(&response)),
        (401, Some(Code::ProofMissing))
    );
    assert_eq!(
        response.headers()["www-authenticate"],
        "Bulla error=\"proof_missing\""
    );
    assert_eq!(server.handled(), 0);
}

#[tokio::test]
async fn a_request_passes_once() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let sealed = client.sealed(&device, ProofKind::Device, ECHO, b"once");
    let (first, second) = tokio::join!(
        server.send(concealed(&sealed.bytes)),
        server.send(concealed(&sealed.bytes))
    );
    let mut statuses = [&first, &second].map(|reply| client.open_reply(reply, &sealed.nonce).0);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
    let again = server.send(concealed(&sealed.bytes)).await;
    let (_, _, content) = client.open_reply(&again, &sealed.nonce);
    assert_eq!(Problem::parse(&content), Some(Code::Replayed));
    assert_eq!(server.handled(), 1);
}

#[tokio::test]
async fn every_changed_byte_of_an_envelope_is_refused() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let sealed = client
        .sealed(&device, ProofKind::Device, ECHO, b"pay 1 to bob")
        .bytes;
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        let response = server.send(concealed(&changed)).await;
        let code = code(&response);
        let expected = matches!(
            code,
            Some(Code::SealBroken | Code::TicketInvalid | Code::Malformed)
        );
        assert!(expected, "byte {at}: {code:?}");
        let cut = server.send(concealed(&sealed[..at])).await;
        assert!(cut.status().is_client_error(), "cut at {at}");
    }
    assert_eq!(server.handled(), 0);
    assert_eq!(server.send(concealed(&sealed)).await.status().as_u16(), 200);
    assert_eq!(server.handled(), 1);
}

#[tokio::test]
async fn a_changed_signed_request_is_refused() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let signed = || client.signed(&device, ProofKind::Device, ECHO, b"pay 1 to bob");
    let other = device.open(&server, None).await.unwrap();

    let mut changed = signed();
    *changed.body_mut() = body(b"pay 9 to bob");
    assert_eq!(
        code(&server.send(changed).await),
        Some(Code::DigestMismatch)
    );

    let mut changed = signed();
    *changed.uri_mut() = "/api/echo?x=1".parse().unwrap();
    assert_eq!(code(&server.send(changed).await), Some(Code::ProofMismatch));

    let mut changed = signed();
    *changed.method_mut() = http::Method::PUT;
    assert_eq!(code(&server.send(changed).await), Some(Code::ProofMismatch));

    let mut changed = signed();
    changed
        .headers_mut()
        .insert("authorization", "Bearer stolen".parse().unwrap());
    assert_eq!(
        code(&server.send(changed).await),
        Some(Code::CoverageMissing)
    );

    let mut changed = signed();
    changed
        .headers_mut()
        .insert(field::TICKET, other.ticket.to_field().parse().unwrap());
    assert_eq!(code(&server.send(changed).await), Some(Code::ProofMismatch));

    let mut changed = signed();
    changed.headers_mut().remove(field::SIGNATURE);
    assert_eq!(code(&server.send(changed).await), Some(Code::ProofMissing));

    let mut changed = signed();
    changed
        .headers_mut()
        .insert("host", "evil.example".parse().unwrap());
    assert_eq!(
        code(&server.send(changed).await),
        Some(Code::AuthorityMismatch)
    );

    assert_eq!(server.handled(), 0);
    assert_eq!(server.send(signed()).await.status().as_u16(), 200);
}

#[tokio::test]
async fn a_thief_with_the_ticket_and_his_own_device_gets_nothing() {
    let server = Server::new();
    let (victim, thief) = (Device::new(), Device::new());
    let anonymous = victim.open(&server, None).await.unwrap();
    let login = anonymous.signed(&victim, ProofKind::Device, ("POST", "/api/login"), b"ann");
    let mut anonymous = anonymous;
    let carry = anonymous
        .update(&fields_of(&server.send(login).await))
        .unwrap();

    // The carry-over ticket is for the victim's device.
    let stolen = thief.open(&server, Some(carry.clone())).await;
    assert_eq!(stolen.err(), Some(Code::TicketInvalid));
    let client = victim.open(&server, Some(carry.clone())).await.unwrap();
    assert!(client.authenticated);

    // He signs with his own key under the victim's ticket.
    let forged = client.signed(&thief, ProofKind::Device, ECHO, b"mine");
    assert_eq!(code(&server.send(forged).await), Some(Code::ProofMismatch));
    // He puts the victim's ticket into a session of his own.
    let mut own = thief.open(&server, None).await.unwrap();
    own.ticket = client.ticket.clone();
    let forged = own.signed(&thief, ProofKind::Device, ECHO, b"mine");
    assert_eq!(code(&server.send(forged).await), Some(Code::ProofMismatch));
    let forged = own.sealed(&thief, ProofKind::Device, ECHO, b"mine");
    assert_eq!(
        code(&server.send(concealed(&forged.bytes)).await),
        Some(Code::SealBroken)
    );
    // He carries the victim's session over.
    let stolen = thief.open(&server, Some(client.ticket.clone())).await;
    assert_eq!(stolen.err(), Some(Code::TicketInvalid));
    assert_eq!(server.handled(), 0);

    let own = client.signed(&victim, ProofKind::Device, ECHO, b"mine");
    assert_eq!(server.send(own).await.body(), "ann:mine");
}

#[tokio::test]
async fn login_changes_the_session_and_its_ticket_opens_once() {
    let server = Server::new();
    let device = Device::new();
    let mut before = device.open(&server, None).await.unwrap();
    let sealed = before.sealed(&device, ProofKind::Device, ("POST", "/api/login"), b"ann");
    let response = server.send(concealed(&sealed.bytes)).await;
    let (_, fields, _) = before.open_reply(&response, &sealed.nonce);
    let carry = before.update(&fields).unwrap();

    let old = before.signed(&device, ProofKind::Device, ECHO, b"old");
    assert_eq!(code(&server.send(old).await), Some(Code::SessionRevoked));
    let after = device.open(&server, Some(carry.clone())).await.unwrap();
    assert_ne!(after.id, before.id);
    assert_eq!(
        device.open(&server, Some(carry.clone())).await.err(),
        Some(Code::SessionRevoked)
    );
    // It is good for an opening and for nothing else.
    before.ticket = carry;
    let misused = before.signed(&device, ProofKind::Device, ECHO, b"misused");
    assert_eq!(code(&server.send(misused).await), Some(Code::TicketInvalid));

    let sealed = after.sealed(&device, ProofKind::Device, ("GET", "/api/secret"), b"");
    let response = server.send(concealed(&sealed.bytes)).await;
    assert_eq!(after.open_reply(&response, &sealed.nonce).2, b"secret");
    let plain = after.signed(&device, ProofKind::Device, ("GET", "/api/secret"), b"");
    assert_eq!(code(&server.send(plain).await), Some(Code::SealRequired));
}

#[tokio::test]
async fn session_proofs_wait_for_a_device_proof_and_for_the_policy() {
    let strict = Server::new();
    let device = Device::new();
    let mut client = device.open(&strict, None).await.unwrap();
    let first = client.signed(&device, ProofKind::Session, ECHO, b"");
    assert_eq!(
        code(&strict.send(first).await),
        Some(Code::SessionUnconfirmed)
    );
    let confirm = strict
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    client.update(&fields_of(&confirm));
    let weak = client.signed(&device, ProofKind::Session, ECHO, b"");
    assert_eq!(code(&strict.send(weak).await), Some(Code::ProofWeak));

    let server = Server::with(|builder| builder.proof(ProofKind::Session));
    let mut client = device.open(&server, None).await.unwrap();
    let confirm = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    client.update(&fields_of(&confirm));
    let cheap = client.signed(&device, ProofKind::Session, ECHO, b"cheap");
    assert_eq!(server.send(cheap).await.body(), "-:cheap");
    let weak = client.signed(&device, ProofKind::Session, ("POST", "/api/login"), b"ann");
    assert_eq!(code(&server.send(weak).await), Some(Code::ProofWeak));
}

#[tokio::test]
async fn nonces_go_stale_and_tickets_expire() {
    let server = Server::new();
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    server.clock.advance(121);
    let stale = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&stale), Some(Code::NonceStale));
    client.update(&fields_of(&stale));
    let fresh = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(fresh.status().as_u16(), 200);
    client.update(&fields_of(&fresh));

    // Used now and then, a session goes on to its absolute lifetime and no further.
    for _ in 0..(12 * 60 / 10) - 1 {
        server.clock.advance(600);
        let stale = server
            .send(client.signed(&device, ProofKind::Device, ECHO, b""))
            .await;
        client.update(&fields_of(&stale));
        let response = server
            .send(client.signed(&device, ProofKind::Device, ECHO, b""))
            .await;
        assert_eq!(response.status().as_u16(), 200);
        client.update(&fields_of(&response));
    }
    server.clock.advance(600);
    let late = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&late), Some(Code::TicketExpired));

    let idle = device.open(&server, None).await.unwrap();
    server.clock.advance(15 * 60);
    let late = server
        .send(idle.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&late), Some(Code::TicketExpired));
}

#[tokio::test]
async fn an_ended_session_stays_ended() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let end = client.signed(
        &device,
        ProofKind::Device,
        ("DELETE", &session_path(DEFAULT_PREFIX)),
        b"",
    );
    let response = server.send(end).await;
    assert_eq!(
        (
            response.status().as_u16(),
            &response.headers()[field::ENDED]
        ),
        (204, &"?1".parse().unwrap())
    );
    let after = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&after), Some(Code::SessionRevoked));
    assert_eq!(
        device.open(&server, Some(client.ticket)).await.err(),
        Some(Code::SessionRevoked)
    );

    let client = device.open(&server, None).await.unwrap();
    server
        .bulla
        .revoke(Revocation::Device(device.0.thumbprint()))
        .await
        .unwrap();
    let after = server
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&after), Some(Code::SessionRevoked));
}

#[tokio::test]
async fn strangers_who_fill_the_store_keep_nobody_from_logging_in() {
    let store = MemoryStore::new().unwrap().with_revocations(4);
    let server = Server::with(|builder| builder.store(store));
    let device = Device::new();
    let end = ("DELETE", "/.well-known/bulla/session");
    let mut stranger = device.open(&server, None).await.unwrap();
    let ended = stranger.signed(&device, ProofKind::Device, end, b"");
    assert_eq!(server.send(ended).await.status(), 204);
    // Their part is full. Nothing is forgotten, and who could not end his session still has it.
    let revoked = stranger.signed(&device, ProofKind::Device, ECHO, b"");
    let revoked = code(&server.send(revoked).await);
    assert_eq!(revoked, Some(Code::SessionRevoked));
    stranger = device.open(&server, None).await.unwrap();
    let refused = stranger.signed(&device, ProofKind::Device, end, b"");
    let refused = code(&server.send(refused).await);
    assert_eq!(refused, Some(Code::StoreUnavailable));
    let at = ("POST", "/api/login");
    let login = stranger.signed(&device, ProofKind::Device, at, b"ann");
    let carry = stranger.update(&fields_of(&server.send(login).await));
    let user = device.open(&server, carry).await.unwrap();
    for (at, status) in [(ECHO, 200), (end, 204)] {
        let request = user.signed(&device, ProofKind::Device, at, b"");
        assert_eq!(server.send(request).await.status(), status);
    }
}

#[tokio::test]
async fn carrying_over_ends_the_old_session_once_the_new_one_is_confirmed() {
    let server = Server::new();
    let device = Device::new();
    let old = device.open(&server, None).await.unwrap();
    let new = device
        .open(&server, Some(old.ticket.clone()))
        .await
        .unwrap();
    let still = server
        .send(old.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(still.status().as_u16(), 200);
    let confirm = server
        .send(new.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(confirm.status().as_u16(), 200);
    let ended = server
        .send(old.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&ended), Some(Code::SessionRevoked));
}

#[tokio::test]
async fn a_proof_is_for_the_session_of_its_ticket() {
    let server = Server::new();
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    let other = device.open(&server, None).await.unwrap();
    // The same device, so that its signature holds.
    client.id = other.id;
    let sent = server.send(client.signed(&device, ProofKind::Device, ECHO, b""));
    assert_eq!(code(&sent.await), Some(Code::ProofMismatch));
    assert_eq!(server.handled(), 0);
}

#[tokio::test]
async fn what_was_carried_over_from_an_ended_session_has_ended() {
    let server = Server::new();
    let device = Device::new();
    let end = ("DELETE", &*session_path(DEFAULT_PREFIX));

    // Carried over ahead of time; then the user logs out in another tab.
    let old = device.open(&server, None).await.unwrap();
    let kept = device.open(&server, Some(old.ticket.clone())).await;
    let out = server.send(old.signed(&device, ProofKind::Device, end, b""));
    assert_eq!(out.await.status().as_u16(), 204);
    let kept = kept.unwrap();
    let after = server.send(kept.signed(&device, ProofKind::Device, ECHO, b""));
    assert_eq!(code(&after.await), Some(Code::SessionRevoked));

    // Carried over twice: whichever is confirmed first is the one that goes on.
    let old = device.open(&server, None).await.unwrap();
    let first = device.open(&server, Some(old.ticket.clone())).await;
    let second = device.open(&server, Some(old.ticket.clone())).await;
    let (first, second) = (first.unwrap(), second.unwrap());
    for (client, expected) in [
        (&first, None),
        (&second, Some(Code::SessionRevoked)),
        // With the ticket that is not confirmed yet, as requests are that were made at once.
        (&first, None),
    ] {
        let sent = server.send(client.signed(&device, ProofKind::Device, ECHO, b""));
        assert_eq!(code(&sent.await), expected);
    }
}

#[tokio::test]
async fn proofs_of_an_earlier_process_are_stale() {
    let server = Server::new();
    let other = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    // Another ring: the ticket means nothing.
    let moved = other
        .send(client.signed(&device, ProofKind::Device, ECHO, b""))
        .await;
    assert_eq!(code(&moved), Some(Code::TicketInvalid));
    assert_eq!(other.handled(), 0);
}

#[tokio::test]
async fn a_proof_for_one_origin_is_none_for_another_of_the_same_server() {
    let server = Server::with(|builder| builder.origin("https://other.example"));
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let other = http::HeaderValue::from_static("other.example");
    let mut signed = client.signed(&device, ProofKind::Device, ECHO, b"");
    signed.headers_mut().insert("host", other.clone());
    let sealed = client.sealed(&device, ProofKind::Device, ECHO, b"");
    let mut sealed = concealed(&sealed.bytes);
    sealed.headers_mut().insert("host", other);
    for request in [signed, sealed] {
        let refused = server.send(request).await;
        assert_eq!(code(&refused), Some(Code::TicketInvalid));
    }
    assert_eq!(server.handled(), 0);
}

#[tokio::test]
async fn a_signature_makes_no_field_trustworthy_that_a_client_may_not_send() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let at = ("POST", "/api/headers");
    let extra = [
        ("cookie", "sid=stolen"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-app", "1"),
    ];
    let mut signed = client.signed_with(&device, ProofKind::Device, at, b"", &extra);
    // What came in on the way, and what only the verifier reads.
    let headers = signed.headers_mut();
    headers.insert("x-on-the-way", "1".parse().unwrap());
    let seen = server.send(signed).await;
    assert_eq!(seen.status(), 200);
    let seen = String::from_utf8(seen.body().to_vec()).unwrap();
    assert!(seen.contains("x-app"), "{seen}");
    for hidden in ["stolen", "127.0.0.1", "x-on-the-way", "signature", "host"] {
        assert!(!seen.contains(hidden), "{hidden}: {seen}");
    }
}

#[tokio::test]
async fn what_a_proxy_states_no_client_can_state() {
    let server = Server::with(|builder| {
        let certificate = http::HeaderName::from_static("x-client-cert");
        builder.upstream_field(certificate)
    });
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let at = ("POST", "/api/headers");
    let stated = [("x-client-cert", "the director"), ("x-app", "1")];
    let signed = client.signed_with(&device, ProofKind::Device, at, b"", &stated);
    let seen = server.send(signed).await;
    let seen = String::from_utf8(seen.body().to_vec()).unwrap();
    assert!(
        seen.contains("x-app") && !seen.contains("x-client-cert"),
        "{seen}"
    );

    let sealed = client.sealed_with(&device, ProofKind::Device, at, b"", &stated);
    let refused = server.send(concealed(&sealed.bytes)).await;
    assert_eq!(code(&refused), Some(Code::FieldRefused));
}

#[tokio::test]
async fn an_envelope_goes_where_its_request_goes() {
    let server = Server::new();
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let sealed = client.sealed(&device, ProofKind::Device, ECHO, b"");
    let at = |path: &str| {
        let mut request = concealed(&sealed.bytes);
        *request.uri_mut() = path.parse().unwrap();
        request
    };
    let elsewhere = server.send(at("/api/headers")).await;
    assert_eq!(code(&elsewhere), Some(Code::PathRefused));
    assert_eq!(server.send(at("/api/echo")).await.status(), 200);

    for elsewhere in [("https", "other.example"), ("http", AUTHORITY)] {
        let other = client.sealed_for(elsewhere, &device, ECHO);
        let other = server.send(concealed(&other.bytes)).await;
        assert_eq!(code(&other), Some(Code::AuthorityMismatch), "{elsewhere:?}");
    }
    assert_eq!(server.handled(), 1);
}

#[tokio::test]
async fn a_session_that_ends_while_it_is_served_is_not_renewed() {
    let ends = |does: bool| {
        Server::around(
            |builder| builder,
            move |bulla| {
                let revoker = bulla.clone();
                let handler = service_fn(move |request: Request<bulla_server::Body>| {
                    let revoker = revoker.clone();
                    async move {
                        let session = request.extensions().get::<Session>().unwrap().id();
                        if does {
                            let revocation = Revocation::Session(session.into());
                            revoker.revoke(revocation).await.unwrap();
                        }
                        Ok::<_, Infallible>(Response::new(String::from("done")))
                    }
                });
                app(bulla.layer().layer(handler))
            },
        )
    };
    for does in [false, true] {
        let server = ends(does);
        let device = Device::new();
        let client = device.open(&server, None).await.unwrap();
        let reply = server.send(client.signed(&device, ProofKind::Device, ECHO, b""));
        let reply = reply.await;
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.headers().contains_key(field::TICKET), !does);
    }
}

/// The password has been checked, and is changed before the reply is there.
#[tokio::test]
async fn a_login_that_is_under_way_ends_with_all_of_its_users_logins() {
    let clock = TestClock::new();
    for seconds in [0, 1] {
        let time = clock.clone();
        let server = Server::on(
            clock.clone(),
            |builder| builder,
            move |bulla| {
                let revoker = bulla.clone();
                let handler = service_fn(move |request: Request<bulla_server::Body>| {
                    let (revoker, time) = (revoker.clone(), time.clone());
                    async move {
                        let session = request.extensions().get::<Session>().unwrap();
                        time.advance(seconds);
                        session.login("ann").await.unwrap();
                        let now = u32::try_from(time.now()).unwrap();
                        let all = Revocation::Subject("ann".parse().unwrap(), now);
                        revoker.revoke(all).await.unwrap();
                        time.advance(seconds);
                        Ok::<_, Infallible>(Response::new(String::new()))
                    }
                });
                app(bulla.layer().layer(handler))
            },
        );
        let device = Device::new();
        let mut client = device.open(&server, None).await.unwrap();
        let reply = server.send(client.signed(&device, ProofKind::Device, ECHO, b""));
        let carry = client.update(&fields_of(&reply.await));
        let opened = device.open(&server, carry).await;
        assert_eq!(opened.err(), Some(Code::SessionRevoked), "{seconds}");
    }
}

#[tokio::test]
async fn an_application_does_not_speak_for_the_verifier() {
    let names = [
        field::TICKET,
        field::CARRY_OVER,
        field::ENDED,
        field::IN_REPLY_TO,
    ];
    let server = Server::around(
        |builder| builder,
        |bulla| {
            let handler = service_fn(move |_: Request<bulla_server::Body>| async move {
                let mut response = Response::new(String::from("passed on"));
                for name in names.into_iter().chain([field::NONCE]) {
                    let value = http::HeaderValue::from_static("?1");
                    response.headers_mut().insert(name, value);
                }
                Ok::<_, Infallible>(response)
            });
            app(bulla.layer().layer(handler))
        },
    );
    let device = Device::new();
    let mut client = device.open(&server, None).await.unwrap();
    let first = server.send(client.signed(&device, ProofKind::Device, ECHO, b""));
    client.update(&fields_of(&first.await));
    let plain = server.send(client.signed(&device, ProofKind::Device, ECHO, b""));
    let sealed = client.sealed(&device, ProofKind::Device, ECHO, b"");
    let reply = server.send(concealed(&sealed.bytes)).await;
    let (_, inner, content) = client.open_reply(&reply, &sealed.nonce);
    assert_eq!(content, b"passed on");
    for fields in [fields_of(&plain.await), inner] {
        let ours = fields.iter().filter(|(name, _)| name.starts_with("bulla-"));
        let ours: Vec<_> = ours.filter(|(_, value)| value == "?1").collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

/// Whoever gets script into the page can have the device key sign an opening for an agreement key of
/// his own, and so has a MAC key elsewhere.
#[tokio::test]
async fn a_session_that_is_used_without_its_device_ends_with_its_ticket() {
    let server = Server::with(|builder| builder.proof(ProofKind::Session));
    let device = Device::new();
    let mut stolen = device.open(&server, None).await.unwrap();
    let first = server.send(stolen.signed(&device, ProofKind::Device, ECHO, b""));
    stolen.update(&fields_of(&first.await));
    // From here on he has the keys of the session, and no device.
    let none = Device::new();
    for (advance, refused) in [
        (0, None),
        (800, None),
        (99, None),
        (1, Some(Code::TicketExpired)),
    ] {
        server.clock.advance(advance);
        stolen.nonce = device.open(&server, None).await.unwrap().nonce;
        let used = stolen.signed(&none, ProofKind::Session, ECHO, b"");
        let reply = server.send(used).await;
        assert_eq!(code(&reply), refused);
        assert_eq!(stolen.update(&fields_of(&reply)), None);
        assert!(!reply.headers().contains_key(field::TICKET));
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_told_what_they_may_read() {
    let server = Server::with(|builder| builder.allow_origin("https://app.example"));
    for (origin, allowed) in [
        ("https://app.example", true),
        ("https://evil.example", false),
    ] {
        let mut request = concealed(b"");
        let value = http::HeaderValue::from_static(origin);
        request.headers_mut().insert("origin", value);
        let reply = server.send(request).await;
        let line = |name: &str| Some(reply.headers().get(name)?.to_str().unwrap());
        assert_eq!(
            line("access-control-allow-origin"),
            allowed.then_some(origin)
        );
        assert_eq!(line("vary"), Some("origin"));
        let exposed = line("access-control-expose-headers").unwrap_or_default();
        for name in [
            field::NONCE,
            field::TICKET,
            field::CARRY_OVER,
            "retry-after",
        ] {
            assert_eq!(
                exposed.split(", ").any(|one| one == name),
                allowed,
                "{name}"
            );
        }
    }
}

/// The verifier answers those of allowed pages by itself. All others are requests without a proof.
#[tokio::test]
async fn only_pages_of_allowed_origins_get_a_preflight_answered() {
    let server = Server::with(|builder| builder.allow_origin("https://app.example"));
    for (origin, status, code) in [
        (Some("https://app.example"), 204, None),
        (Some("https://evil.example"), 401, Some(Code::ProofMissing)),
        (None, 401, Some(Code::ProofMissing)),
    ] {
        let mut request = Request::options("/api/echo")
            .header("host", AUTHORITY)
            .header("access-control-request-method", "POST");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let reply = server.send(request.body(body(b"")).unwrap()).await;
        assert_eq!(reply.status(), status, "{origin:?}");
        assert_eq!(self::code(&reply), code, "{origin:?}");
        let allowed = reply.headers().get("access-control-allow-methods");
        assert_eq!(allowed.is_some(), code.is_none(), "{origin:?}");
    }
}

#[tokio::test]
async fn what_the_application_exposes_stays_exposed() {
    let server = Server::around(
        |builder| builder.allow_origin("https://app.example"),
        |bulla| {
            app(bulla.layer().layer(service_fn(async |_| {
                let mut reply = answer(200, "");
                let own = http::HeaderValue::from_static("x-own");
                let headers = reply.headers_mut();
                headers.insert("access-control-expose-headers", own);
                Ok::<_, Infallible>(reply)
            })))
        },
    );
    let device = Device::new();
    let client = device.open(&server, None).await.unwrap();
    let mut request = client.signed(&device, ProofKind::Device, ECHO, b"");
    let page = http::HeaderValue::from_static("https://app.example");
    request.headers_mut().insert("origin", page);
    let reply = server.send(request).await;
    let exposed = reply.headers().get_all("access-control-expose-headers");
    let exposed: Vec<_> = exposed.iter().map(|line| line.to_str().unwrap()).collect();
    let exposed = exposed.join(", ");
    for name in ["x-own", field::NONCE] {
        assert!(exposed.split(", ").any(|one| one == name), "{exposed}");
    }
}

/// Nor are two replies sealed under one salt.
#[tokio::test]
async fn nothing_that_is_answered_may_be_kept_by_a_cache() {
    let server = Server::new();
    let device = Device::new();
    let opened = server.send(device.opening(&server)).await;
    assert_eq!(opened.headers()["cache-control"], "no-store");
    let client = device.open(&server, None).await.unwrap();
    let refused = client.signed(&Device::new(), ProofKind::Device, ECHO, b"");
    let refused = server.send(refused).await;
    assert_eq!(code(&refused), Some(Code::ProofMismatch));
    assert_eq!(refused.headers()["cache-control"], "no-store");
    let mut salts = std::collections::HashSet::new();
    for _ in 0..100 {
        let sealed = client.sealed(&device, ProofKind::Device, ECHO, b"");
        let response = server.send(concealed(&sealed.bytes)).await;
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert!(salts.insert(response.body()[..16].to_vec()));
    }
}
